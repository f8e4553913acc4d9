-- ExponentialLR: the learning rate is multiplied by gamma every epoch.

local options = require "moonlet.options"
local Schedule = require "moonlet.optim.schedule"

local ExponentialLR = Schedule:extend "ExponentialLR"

--- Multiplies the learning rate by gamma every epoch.
-- @tparam Optimizer optimizer
-- @number gamma
-- @tparam ?table given per_batch = false
-- @usage local moon = require "moonlet"
-- local opt = moon.optim.SGD(moon.nn.Linear(1, 1):parameters(), { lr = 1 })
-- local schedule = moon.optim.ExponentialLR(opt, 0.5)
-- schedule:step()
-- assert(opt:lr() == 0.5)
function ExponentialLR:init(optimizer, gamma, given)
  self.gamma = options.argument("ExponentialLR", "gamma", gamma, "from_zero")
  self:read(given)
  self:attach(optimizer)
end

function ExponentialLR:factor(count)
  return self.gamma ^ count
end

return ExponentialLR
