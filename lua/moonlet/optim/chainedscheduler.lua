-- ChainedScheduler: several schedules at once; their factors multiply. A schedule with a lowest
-- rate (eta_min) counts as rate divided by first rate.

local Schedules = require "moonlet.optim.schedules"

local ChainedScheduler = Schedules:extend "ChainedScheduler"

--- Several schedules at once. They are stepped per batch where the first is.
-- @tparam table parts schedules of one optimiser
-- @usage local moon = require "moonlet"
-- local optim = moon.optim
-- local opt = optim.SGD(moon.nn.Linear(1, 1):parameters(), { lr = 1 })
-- local schedule = optim.ChainedScheduler {
--   optim.ConstantLR(opt, { factor = 0.5, total_iters = 2 }), optim.ExponentialLR(opt, 0.5),
-- }
-- schedule:step()
-- assert(opt:lr() == 0.25)
function ChainedScheduler:init(parts)
  self:take(parts)
  self:attach(parts[1].optimizer)
end

function ChainedScheduler:apply()
  for _, part in ipairs(self.parts) do part:seek(self.count) end
  for g, group in ipairs(self.optimizer.groups) do
    local base = self.base[g] or group.lr
    self.base[g] = base
    local factor = 1
    for _, part in ipairs(self.parts) do
      local first = part.base[g] or base
      if first ~= 0 then factor = factor * part:rate(first, self.count, g) / first end
    end
    group.lr = base * factor
  end
end

return ChainedScheduler
