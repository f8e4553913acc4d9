-- ASGD: p = (1 - lambd eta) p - eta g, and a mean of p beside it: a = a + mu (p - a), a = p until
-- t0 steps are done. eta = lr / (1 + lambd lr t)^alpha, mu = 1 / max(1, t - t0);
-- g = gradient + weight_decay p. opt:averages() lists the means.

local core = require "moonlet.core"
local Optimizer = require "moonlet.optim.optimizer"

local ASGD = Optimizer:extend "ASGD"

ASGD.schema = Optimizer.options {
  lr = { "from_zero", 0.01 }, lambd = { "from_zero", 1e-4 }, alpha = { "from_zero", 0.75 },
  t0 = { "number", 1e6 }, weight_decay = { "from_zero", 0 },
}
ASGD.slots = { "average" }
ASGD.sweeps = true

--- Averaged stochastic gradient descent (Polyak and Juditsky 1992).
-- @function ASGD:init
-- @tparam table params a list of parameters, or of groups
-- @tparam ?table given lr = 0.01, lambd = 1e-4, alpha = 0.75, t0 = 1e6, weight_decay = 0,
-- maximize = false
-- @usage local moon = require "moonlet"
-- local net = moon.nn.Linear(2, 1)
-- local opt = moon.optim.ASGD(net:parameters(), { t0 = 0 })
-- net(moon.ones(4, 2)):mean():backward()
-- opt:step()
-- assert(#opt:averages() == 2)

function ASGD:update(parameter, gradient, group, state)
  local t = state.step + 1
  core.asgd_step_(parameter, gradient, state.average, {
    eta = state.eta or group.lr, mu = state.mu or 1, lambd = group.lambd,
    weight_decay = group.weight_decay, maximize = group.maximize,
  })
  state.eta = group.lr / (1 + group.lambd * group.lr * t) ^ group.alpha
  state.mu = 1 / math.max(1, t - group.t0)
end

--- The mean of each parameter's values, in the order the parameters were given; the parameter
-- itself where it has not moved yet.
function ASGD:averages()
  local list = {}
  for i, entry in ipairs(self.entries) do
    list[i] = entry.state and entry.state.average or entry.parameter
  end
  return list
end

return ASGD
