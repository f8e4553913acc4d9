-- CosineAnnealingWarmRestarts: half a cosine from the first learning rate down to eta_min over T_0
-- epochs, then again from the top, each time T_mult times as long.

local options = require "moonlet.options"
local Schedule = require "moonlet.optim.schedule"

local WarmRestarts = Schedule:extend "CosineAnnealingWarmRestarts"

--- Lowers the learning rate along a cosine, again and again (SGDR, Loshchilov and Hutter 2017).
-- @tparam Optimizer optimizer
-- @int T_0 epochs until the first restart
-- @tparam ?table given T_mult = 1, eta_min = 0, per_batch = false
-- @usage local moon = require "moonlet"
-- local opt = moon.optim.SGD(moon.nn.Linear(1, 1):parameters(), { lr = 1 })
-- local schedule = moon.optim.CosineAnnealingWarmRestarts(opt, 2, { T_mult = 2 })
-- for _ = 1, 2 do schedule:step() end
-- assert(opt:lr() == 1)
function WarmRestarts:init(optimizer, T_0, given)
  self.T_0 = options.argument(self.class_name, "T_0", T_0, "positive")
  local o = self:read(given, { T_mult = { "positive", 1 }, eta_min = { "from_zero", 0 } })
  self.T_mult, self.eta_min = o.T_mult, o.eta_min
  self:attach(optimizer)
end

-- Epochs since the last restart, and from it to the next.
local function position(self, count)
  if self.T_mult == 1 then return count % self.T_0, self.T_0 end
  local length = self.T_0
  while count >= length do
    count, length = count - length, length * self.T_mult
  end
  return count, length
end

function WarmRestarts:rate(base, count)
  local at, length = position(self, count)
  return self.eta_min + (base - self.eta_min) * (1 + math.cos(math.pi * at / length)) / 2
end

return WarmRestarts
