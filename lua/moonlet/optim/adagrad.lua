-- Adagrad: s = s + g^2;  p = p - lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps), t the number of
-- steps and g = gradient + weight_decay p.

local core = require "moonlet.core"
local Optimizer = require "moonlet.optim.optimizer"

local Adagrad = Optimizer:extend "Adagrad"

Adagrad.schema = Optimizer.options {
  lr = { "from_zero", 0.01 }, lr_decay = { "from_zero", 0 }, weight_decay = { "from_zero", 0 },
  initial_accumulator_value = { "from_zero", 0 }, eps = { "from_zero", 1e-10 },
}
Adagrad.sweeps = true

--- Adagrad (Duchi, Hazan and Singer 2011): rates that fall where gradients have been large.
-- @function Adagrad:init
-- @tparam table params a list of parameters, or of groups
-- @tparam ?table given lr = 0.01, lr_decay = 0, weight_decay = 0, initial_accumulator_value = 0,
-- eps = 1e-10, maximize = false
-- @usage local moon = require "moonlet"
-- local net = moon.nn.Linear(2, 1)
-- local opt = moon.optim.Adagrad(net:parameters(), { lr = 0.1 })
-- net(moon.ones(4, 2)):mean():backward()
-- opt:step()

function Adagrad:fresh_state(parameter, group)
  return {
    step = 0, sum = core.keep(core.full_like(parameter, group.initial_accumulator_value)),
  }
end

function Adagrad:update(parameter, gradient, group, state)
  core.adagrad_step_(parameter, gradient, state.sum, {
    lr = group.lr, lr_decay = group.lr_decay, eps = group.eps,
    weight_decay = group.weight_decay, step = state.step + 1, maximize = group.maximize,
  })
end

return Adagrad
