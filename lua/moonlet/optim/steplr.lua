-- StepLR: the learning rate is multiplied by gamma every `period` epochs.

local options = require "moonlet.options"
local Schedule = require "moonlet.optim.schedule"

local StepLR = Schedule:extend "StepLR"

--- Multiplies the learning rate by gamma every `period` epochs.
-- @tparam Optimizer optimizer
-- @int period epochs between drops
-- @tparam ?table given gamma = 0.1
-- @usage local moon = require "moonlet"
-- local opt = moon.optim.SGD(moon.nn.Linear(1, 1):parameters(), { lr = 1 })
-- local schedule = moon.optim.StepLR(opt, 2, { gamma = 0.5 })
-- for _ = 1, 4 do schedule:step() end
-- assert(opt:lr() == 0.25)
function StepLR:init(optimizer, period, given)
  self.period = options.argument("StepLR", "period", period, "positive")
  self.gamma = options.read("StepLR", given, { gamma = { "number", 0.1 } }).gamma
  self:attach(optimizer)
end

function StepLR:factor(count)
  return self.gamma ^ math.floor(count / self.period)
end

return StepLR
