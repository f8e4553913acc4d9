-- LinearLR: from start_factor to end_factor times the learning rate in a straight line over
-- total_iters epochs, then constant; the usual warm-up.

local Schedule = require "moonlet.optim.schedule"

local LinearLR = Schedule:extend "LinearLR"

--- Changes the learning rate in a straight line.
-- @tparam Optimizer optimizer
-- @tparam ?table given start_factor = 1/3, end_factor = 1, total_iters = 5, per_batch = false
-- @usage local moon = require "moonlet"
-- local opt = moon.optim.SGD(moon.nn.Linear(1, 1):parameters(), { lr = 1 })
-- local schedule = moon.optim.LinearLR(opt, { start_factor = 0.5, total_iters = 2 })
-- schedule:step()
-- assert(opt:lr() == 0.75)
function LinearLR:init(optimizer, given)
  local o = self:read(given, {
    start_factor = { "share", 1 / 3 }, end_factor = { "share", 1 },
    total_iters = { "positive", 5 },
  })
  self.first, self.last, self.total_iters = o.start_factor, o.end_factor, o.total_iters
  if self.first == 0 then error("LinearLR: start_factor must be above 0; WarmupLR takes 0", 3) end
  self:attach(optimizer)
end

function LinearLR:factor(count)
  return self.first + (self.last - self.first) * math.min(count / self.total_iters, 1)
end

return LinearLR
