-- CosineAnnealingLR: from the first learning rate down to `minimum` times it along half a cosine.

local options = require "moonlet.options"
local Schedule = require "moonlet.optim.schedule"

local CosineAnnealingLR = Schedule:extend "CosineAnnealingLR"

--- Lowers the learning rate along a cosine.
-- @tparam Optimizer optimizer
-- @int period epochs (or batches) until the lowest
-- @tparam ?table given minimum = 0 (a fraction of the first rate), per_batch = false
-- @usage local moon = require "moonlet"
-- local opt = moon.optim.SGD(moon.nn.Linear(1, 1):parameters(), { lr = 1 })
-- local schedule = moon.optim.CosineAnnealingLR(opt, 2)
-- schedule:step()
-- assert(math.abs(opt:lr() - 0.5) < 1e-12)
function CosineAnnealingLR:init(optimizer, period, given)
  local o = options.read("CosineAnnealingLR", given,
    { minimum = { "number", 0 }, per_batch = { "boolean", false } })
  self.period = options.argument("CosineAnnealingLR", "period", period, "positive")
  self.minimum, self.per_batch = o.minimum, o.per_batch
  self:attach(optimizer)
end

function CosineAnnealingLR:factor(count)
  local progress = math.min(count / self.period, 1)
  return self.minimum + (1 - self.minimum) * (1 + math.cos(math.pi * progress)) / 2
end

return CosineAnnealingLR
