-- StepLR: the learning rate is multiplied by gamma every `step_size` epochs.

local options = require "moonlet.options"
local Schedule = require "moonlet.optim.schedule"

local StepLR = Schedule:extend "StepLR"

--- Multiplies the learning rate by gamma every `step_size` epochs.
-- @tparam Optimizer optimizer
-- @int step_size epochs between drops
-- @tparam ?table given gamma = 0.1, per_batch = false
-- @usage local moon = require "moonlet"
-- local opt = moon.optim.SGD(moon.nn.Linear(1, 1):parameters(), { lr = 1 })
-- local schedule = moon.optim.StepLR(opt, 2, { gamma = 0.5 })
-- for _ = 1, 4 do schedule:step() end
-- assert(opt:lr() == 0.25)
function StepLR:init(optimizer, step_size, given)
  self.step_size = options.argument("StepLR", "step_size", step_size, "positive")
  self.gamma = self:read(given, { gamma = { "from_zero", 0.1 } }).gamma
  self:attach(optimizer)
end

function StepLR:factor(count)
  return self.gamma ^ math.floor(count / self.step_size)
end

return StepLR
