-- WarmupCosineLR: batch by batch up from `start` times the optimiser's rate to all of it in a
-- straight line over the first part of the run (Goyal et al. 2017), then down to `finish` times it
-- along half a cosine (Loshchilov and Hutter 2017). With few epochs it gets furthest.

local options = require "moonlet.options"
local Schedule = require "moonlet.optim.schedule"

local WarmupCosineLR = Schedule:extend "WarmupCosineLR"

WarmupCosineLR.per_batch = true

local schema = {
  warmup = { "fraction", 0.2 }, start = { "from_zero", 0.05 }, finish = { "from_zero", 0.001 },
}

--- Warms up, then cools down, over a known number of batches.
-- @tparam Optimizer optimizer its learning rate is the highest
-- @int total batches in the whole run
-- @tparam ?table given warmup = 0.2 (part of the run), start = 0.05, finish = 0.001 (of the rate)
-- @usage local moon = require "moonlet"
-- local opt = moon.optim.SGD(moon.nn.Linear(1, 1):parameters(), { lr = 1 })
-- local schedule = moon.optim.WarmupCosineLR(opt, 10, { warmup = 0.5 })
-- for _ = 1, 5 do schedule:step() end
-- assert(math.abs(opt:lr() - 1) < 1e-12)
function WarmupCosineLR:init(optimizer, total, given)
  self.total = options.argument("WarmupCosineLR", "total", total, "positive")
  local o = self:read(given, schema)
  self.warmup, self.start, self.finish = o.warmup, o.start, o.finish
  self:attach(optimizer)
end

function WarmupCosineLR:factor(count)
  local progress = math.min(count / self.total, 1)
  if progress < self.warmup then
    return self.start + (1 - self.start) * progress / self.warmup
  end
  local fall = (progress - self.warmup) / (1 - self.warmup)
  return self.finish + (1 - self.finish) * (1 + math.cos(math.pi * fall)) / 2
end

return WarmupCosineLR
