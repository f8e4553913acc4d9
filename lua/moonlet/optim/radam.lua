-- RAdam: Adam whose adaptive rate waits until its variance is bounded. With m and v as Adam's,
-- R = 2 / (1 - beta2) - 1 and r_t = R - 2 t beta2^t / (1 - beta2^t):
-- where r_t > 5: p = p - lr m / (1 - beta1^t) sqrt(1 - beta2^t) / (sqrt(v) + eps)
--                        sqrt((r_t - 4) (r_t - 2) R / ((R - 4) (R - 2) r_t));
-- before that:   p = p - lr m / (1 - beta1^t).

local Optimizer = require "moonlet.optim.optimizer"

local RAdam = Optimizer:extend "RAdam"

RAdam.schema = Optimizer.options {
  lr = { "from_zero", 1e-3 }, beta1 = { "fraction", 0.9 }, beta2 = { "fraction", 0.999 },
  eps = { "from_zero", 1e-8 }, weight_decay = { "from_zero", 0 },
  decoupled_weight_decay = { "boolean", false },
}
RAdam.slots = { "first", "second" }
RAdam.temporaries = true

--- RAdam (Liu et al. 2020).
-- @function RAdam:init
-- @tparam table params a list of parameters, or of groups
-- @tparam ?table given lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0,
-- decoupled_weight_decay = false, maximize = false
-- @usage local moon = require "moonlet"
-- local net = moon.nn.Linear(2, 1)
-- local opt = moon.optim.RAdam(net:parameters())
-- net(moon.ones(4, 2)):mean():backward()
-- opt:step()

-- The factor of the adaptive rate after t steps; nil while the variance is not bounded.
local function rectification(t, beta2)
  local correction, most = 1 - beta2 ^ t, 2 / (1 - beta2) - 1
  local length = most - 2 * t * beta2 ^ t / correction
  if length <= 5 then return nil end
  local ratio = (length - 4) * (length - 2) * most / ((most - 4) * (most - 2) * length)
  return math.sqrt(ratio * correction)
end

function RAdam:update(parameter, gradient, group, state)
  local t = state.step + 1
  local g = self.couple(parameter, gradient, group)
  state.first:mul_(group.beta1):add_(g * (1 - group.beta1))
  state.second:mul_(group.beta2):add_(g:square():mul_(1 - group.beta2))
  local rate, factor = group.lr / (1 - group.beta1 ^ t), rectification(t, group.beta2)
  if not factor then return parameter:sub_(state.first * rate) end
  local move = state.first / state.second:sqrt():add_(group.eps)
  parameter:sub_(move:mul_(rate * factor))
end

return RAdam
