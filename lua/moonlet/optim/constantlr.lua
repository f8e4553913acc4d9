-- ConstantLR: the learning rate times `factor` for the first `total_iters` epochs, then all of it.

local Schedule = require "moonlet.optim.schedule"

local ConstantLR = Schedule:extend "ConstantLR"

--- Holds the learning rate down for some epochs.
-- @tparam Optimizer optimizer
-- @tparam ?table given factor = 1/3, total_iters = 5, per_batch = false
-- @usage local moon = require "moonlet"
-- local opt = moon.optim.SGD(moon.nn.Linear(1, 1):parameters(), { lr = 1 })
-- local schedule = moon.optim.ConstantLR(opt, { factor = 0.5, total_iters = 1 })
-- assert(opt:lr() == 0.5)
-- schedule:step()
-- assert(opt:lr() == 1)
function ConstantLR:init(optimizer, given)
  local o = self:read(given, { factor = { "share", 1 / 3 }, total_iters = { "positive", 5 } })
  self.part, self.total_iters = o.factor, o.total_iters
  self:attach(optimizer)
end

function ConstantLR:factor(count)
  return count < self.total_iters and self.part or 1
end

return ConstantLR
