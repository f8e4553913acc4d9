-- NAdam: Adam with Nesterov's momentum. mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2),
-- M_t = mu_1 ... mu_t, m and v as Adam's, r = sqrt(v / (1 - beta2^t)) + eps:
-- p = p - lr ((1 - mu_t) / (1 - M_t) g + mu_(t+1) / (1 - M_(t+1)) m) / r.

local Optimizer = require "moonlet.optim.optimizer"

local NAdam = Optimizer:extend "NAdam"

NAdam.schema = Optimizer.options {
  lr = { "from_zero", 2e-3 }, beta1 = { "fraction", 0.9 }, beta2 = { "fraction", 0.999 },
  eps = { "from_zero", 1e-8 }, weight_decay = { "from_zero", 0 },
  momentum_decay = { "from_zero", 4e-3 }, decoupled_weight_decay = { "boolean", false },
}
NAdam.slots = { "first", "second" }
NAdam.temporaries = true

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
  local g = self.couple(parameter, gradient, group)
  local mu, next_mu = momentum_at(t, group), momentum_at(t + 1, group)
  state.product = (state.product or 1) * mu
  state.first:mul_(group.beta1):add_(g * (1 - group.beta1))
  state.second:mul_(group.beta2):add_(g:square():mul_(1 - group.beta2))
  local root = (state.second / (1 - group.beta2 ^ t)):sqrt_():add_(group.eps)
  local move = g * (group.lr * (1 - mu) / (1 - state.product))
  move:add_(state.first * (group.lr * next_mu / (1 - state.product * next_mu)))
  parameter:sub_(move:div_(root))
end

return NAdam
