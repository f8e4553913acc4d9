-- SequentialLR: one schedule after another, each from its own count 0 at its milestone: a warm-up,
-- then something that falls.

local options = require "moonlet.options"
local Schedules = require "moonlet.optim.schedules"

local SequentialLR = Schedules:extend "SequentialLR"

--- Schedules one after another. It is stepped per batch where its first part is.
-- @tparam table parts schedules of one optimiser
-- @tparam table milestones the count at which each but the first takes over
-- @usage local moon = require "moonlet"
-- local optim = moon.optim
-- local opt = optim.SGD(moon.nn.Linear(1, 1):parameters(), { lr = 1 })
-- local schedule = optim.SequentialLR({
--   optim.LinearLR(opt, { start_factor = 0.5, total_iters = 2 }), optim.ExponentialLR(opt, 0.5),
-- }, { 3 })
-- for _ = 1, 4 do schedule:step() end
-- assert(opt:lr() == 0.5)
function SequentialLR:init(parts, milestones)
  self:take(parts)
  if type(milestones) ~= "table" or #milestones ~= #parts - 1 then
    error(("SequentialLR: %d schedules need a list of %d milestones"):format(
      #parts, #parts - 1), 3)
  end
  self.milestones = {}
  for i, count in ipairs(milestones) do
    self.milestones[i] = options.argument("SequentialLR", "milestone " .. i, count, "positive")
    if i > 1 and count <= milestones[i - 1] then
      error("SequentialLR: milestones must rise", 3)
    end
  end
  self:attach(parts[1].optimizer)
end

--- Sets the rates by the part whose turn it is.
function SequentialLR:apply()
  local turn, since = 1, 0
  for i, milestone in ipairs(self.milestones) do
    if self.count >= milestone then turn, since = i + 1, milestone end
  end
  self.parts[turn]:seek(self.count - since)
end

return SequentialLR
