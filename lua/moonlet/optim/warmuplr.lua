-- WarmupLR: batch by batch up in a straight line over the first `steps`, then constant
-- (Goyal et al. 2017).

local options = require "moonlet.options"
local Schedule = require "moonlet.optim.schedule"

local WarmupLR = Schedule:extend "WarmupLR"

WarmupLR.per_batch = true

--- Warms up in a straight line.
-- @tparam Optimizer optimizer its learning rate is reached at the end
-- @int steps batches until then
-- @tparam ?table given start = 0 (a fraction of the rate), per_batch = true
-- @usage local moon = require "moonlet"
-- local opt = moon.optim.SGD(moon.nn.Linear(1, 1):parameters(), { lr = 1 })
-- local schedule = moon.optim.WarmupLR(opt, 4)
-- schedule:step()
-- assert(opt:lr() == 0.25)
function WarmupLR:init(optimizer, steps, given)
  self.steps = options.argument("WarmupLR", "steps", steps, "positive")
  self.start = self:read(given, { start = { "from_zero", 0 } }).start
  self:attach(optimizer)
end

function WarmupLR:factor(count)
  return self.start + (1 - self.start) * math.min(count / self.steps, 1)
end

return WarmupLR
