-- MultiStepLR: the learning rate is multiplied by gamma at each of the epochs in a list.

local options = require "moonlet.options"
local Schedule = require "moonlet.optim.schedule"

local MultiStepLR = Schedule:extend "MultiStepLR"

--- Multiplies the learning rate by gamma at given epochs.
-- @tparam Optimizer optimizer
-- @tparam table milestones numbers of epochs after which it drops
-- @tparam ?table given gamma = 0.1, per_batch = false
-- @usage local moon = require "moonlet"
-- local opt = moon.optim.SGD(moon.nn.Linear(1, 1):parameters(), { lr = 1 })
-- local schedule = moon.optim.MultiStepLR(opt, { 1, 3 }, { gamma = 0.5 })
-- for _ = 1, 2 do schedule:step() end
-- assert(opt:lr() == 0.5)
function MultiStepLR:init(optimizer, milestones, given)
  options.argument("MultiStepLR", "milestones", milestones, "table")
  if #milestones == 0 then
    error("MultiStepLR: milestones must be a list of epochs, such as {30, 60}", 3)
  end
  self.milestones = {}
  for i, epoch in ipairs(milestones) do
    self.milestones[i] = options.argument("MultiStepLR", "milestone " .. i, epoch, "positive")
  end
  self.gamma = self:read(given, { gamma = { "from_zero", 0.1 } }).gamma
  self:attach(optimizer)
end

function MultiStepLR:factor(count)
  local drops = 0
  for _, epoch in ipairs(self.milestones) do
    if count >= epoch then drops = drops + 1 end
  end
  return self.gamma ^ drops
end

return MultiStepLR
