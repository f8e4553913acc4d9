-- CosineAnnealingLR: the learning rate goes from the first one down to eta_min along half a cosine
-- over T_max epochs; stepped further, it goes up again the same way.

local options = require "moonlet.options"
local Schedule = require "moonlet.optim.schedule"

local CosineAnnealingLR = Schedule:extend "CosineAnnealingLR"

--- Lowers the learning rate along a cosine (Loshchilov and Hutter 2017, without restarts).
-- @tparam Optimizer optimizer
-- @int T_max epochs (or batches) until the lowest
-- @tparam ?table given eta_min = 0 (the lowest rate), per_batch = false
-- @usage local moon = require "moonlet"
-- local opt = moon.optim.SGD(moon.nn.Linear(1, 1):parameters(), { lr = 1 })
-- local schedule = moon.optim.CosineAnnealingLR(opt, 2)
-- schedule:step()
-- assert(math.abs(opt:lr() - 0.5) < 1e-12)
function CosineAnnealingLR:init(optimizer, T_max, given)
  self.T_max = options.argument("CosineAnnealingLR", "T_max", T_max, "positive")
  self.eta_min = self:read(given, { eta_min = { "from_zero", 0 } }).eta_min
  self:attach(optimizer)
end

function CosineAnnealingLR:rate(base, count)
  return self.eta_min + (base - self.eta_min) * (1 + math.cos(math.pi * count / self.T_max)) / 2
end

return CosineAnnealingLR
