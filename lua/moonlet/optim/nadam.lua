-- NAdam: Adam with Nesterov's momentum. mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2),
-- M_t = mu_1 ... mu_t, m and v as Adam's, r = sqrt(v / (1 - beta2^t)) + eps:
-- p = p - lr ((1 - mu_t) / (1 - M_t) g + mu_(t+1) / (1 - M_(t+1)) m) / r.

local core = require "moonlet.core"
local Optimizer = require "moonlet.optim.optimizer"

local NAdam = Optimizer:extend "NAdam"

NAdam.schema = Optimizer.options {
  lr = { "from_zero", 2e-3 }, beta1 = { "fraction", 0.9 }, beta2 = { "fraction", 0.999 },
  eps = { "from_zero", 1e-8 }, weight_decay = { "from_zero", 0 },
  momentum_decay = { "from_zero", 4e-3 }, decoupled_weight_decay = { "boolean", false },
}
NAdam.slots = { "first", "second" }
NAdam.sweeps = true

--- NAdam (Dozat 2016).
-- @function NAdam:init
-- @tparam table params a list of parameters, or of groups
-- @tparam ?table given lr = 2e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0,
-- momentum_decay = 4e-3, decoupled_weight_decay = false, maximize = false
-- @usage local moon = require "moonlet"
-- local net = moon.nn.Linear(2, 1)
-- local opt = moon.optim.NAdam(net:parameters())
-- net(moon.ones(4, 2)):mean():backward()
-- opt:step()

local function momentum_at(t, group)
  return group.beta1 * (1 - 0.5 * 0.96 ^ (t * group.momentum_decay))
end

function NAdam:update(parameter, gradient, group, state)
  local t = state.step + 1
  local mu = momentum_at(t, group)
  state.product = (state.product or 1) * mu
  core.nadam_step_(parameter, gradient, state.first, state.second, {
    lr = group.lr, mu = mu, next_mu = momentum_at(t + 1, group), product = state.product,
    beta1 = group.beta1, beta2 = group.beta2, eps = group.eps, weight_decay = group.weight_decay,
    step = t, decoupled = group.decoupled_weight_decay, maximize = group.maximize,
  })
end

return NAdam
