-- PolynomialLR: the learning rate times (1 - count / total_iters)^power, 0 from there on.

local Schedule = require "moonlet.optim.schedule"

local PolynomialLR = Schedule:extend "PolynomialLR"

--- Lowers the learning rate along a polynomial.
-- @tparam Optimizer optimizer
-- @tparam ?table given total_iters = 5, power = 1, per_batch = false
-- @usage local moon = require "moonlet"
-- local opt = moon.optim.SGD(moon.nn.Linear(1, 1):parameters(), { lr = 1 })
-- local schedule = moon.optim.PolynomialLR(opt, { total_iters = 2, power = 2 })
-- schedule:step()
-- assert(opt:lr() == 0.25)
function PolynomialLR:init(optimizer, given)
  local o = self:read(given, { total_iters = { "positive", 5 }, power = { "from_zero", 1 } })
  self.total_iters, self.power = o.total_iters, o.power
  self:attach(optimizer)
end

function PolynomialLR:factor(count)
  return (1 - math.min(count / self.total_iters, 1)) ^ self.power
end

return PolynomialLR
