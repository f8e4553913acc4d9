-- RAdam: Adam whose adaptive rate waits until its variance is bounded. With m and v as Adam's,
-- R = 2 / (1 - beta2) - 1 and r_t = R - 2 t beta2^t / (1 - beta2^t):
-- where r_t > 5: p = p - lr m / (1 - beta1^t) sqrt(1 - beta2^t) / (sqrt(v) + eps)
--                        sqrt((r_t - 4) (r_t - 2) R / ((R - 4) (R - 2) r_t));
-- before that:   p = p - lr m / (1 - beta1^t).

local core = require "moonlet.core"
local Optimizer = require "moonlet.optim.optimizer"

local RAdam = Optimizer:extend "RAdam"

RAdam.schema = Optimizer.options {
  lr = { "from_zero", 1e-3 }, beta1 = { "fraction", 0.9 }, beta2 = { "fraction", 0.999 },
  eps = { "from_zero", 1e-8 }, weight_decay = { "from_zero", 0 },
  decoupled_weight_decay = { "boolean", false },
}
RAdam.slots = { "first", "second" }
RAdam.sweeps = true

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

function RAdam:update(parameter, gradient, group, state)
  core.radam_step_(parameter, gradient, state.first, state.second, {
    lr = group.lr, beta1 = group.beta1, beta2 = group.beta2, eps = group.eps,
    weight_decay = group.weight_decay, step = state.step + 1,
    decoupled = group.decoupled_weight_decay, maximize = group.maximize,
  })
end

return RAdam
