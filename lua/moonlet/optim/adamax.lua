-- Adamax: m = beta1 m + (1 - beta1) g;  u = max(beta2 u, |g| + eps);
-- p = p - lr / (1 - beta1^t) m / u, t the number of steps and g = gradient + weight_decay p.

local core = require "moonlet.core"
local Optimizer = require "moonlet.optim.optimizer"

local Adamax = Optimizer:extend "Adamax"

Adamax.schema = Optimizer.options {
  lr = { "from_zero", 2e-3 }, beta1 = { "fraction", 0.9 }, beta2 = { "fraction", 0.999 },
  eps = { "from_zero", 1e-8 }, weight_decay = { "from_zero", 0 },
}
Adamax.slots = { "first", "largest" }
Adamax.sweeps = true

--- Adamax (Kingma and Ba 2015): Adam with the largest gradient in place of the mean square.
-- @function Adamax:init
-- @tparam table params a list of parameters, or of groups
-- @tparam ?table given lr = 2e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0,
-- maximize = false
-- @usage local moon = require "moonlet"
-- local net = moon.nn.Linear(2, 1)
-- local opt = moon.optim.Adamax(net:parameters())
-- net(moon.ones(4, 2)):mean():backward()
-- opt:step()

function Adamax:update(parameter, gradient, group, state)
  core.adamax_step_(parameter, gradient, state.first, state.largest, {
    lr = group.lr, beta1 = group.beta1, beta2 = group.beta2, eps = group.eps,
    weight_decay = group.weight_decay, step = state.step + 1, maximize = group.maximize,
  })
end

return Adamax
