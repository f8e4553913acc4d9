-- Adam (Kingma and Ba 2015): m and v are running means of the gradient and its square,
-- p = p - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps), t the number of steps.
-- weight_decay is added to the gradient; AdamW takes it off the parameter instead.

local core = require "moonlet.core"
local Optimizer = require "moonlet.optim.optimizer"

local Adam = Optimizer:extend "Adam"

Adam.schema = {
  lr = { "number", 1e-3 }, beta1 = { "number", 0.9 }, beta2 = { "number", 0.999 },
  eps = { "number", 1e-8 }, weight_decay = { "number", 0 },
}
Adam.slots = { "first", "second" }
Adam.decoupled = false

--- Adam.
-- @function Adam:init
-- @tparam table params a list of parameters, or of groups
-- @tparam ?table given lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0
-- @usage local moon = require "moonlet"
-- local net = moon.nn.Linear(2, 1)
-- local opt = moon.optim.Adam(net:parameters(), { lr = 1e-3 })
-- net(moon.ones(4, 2)):mean():backward()
-- opt:step()

function Adam:update(parameter, gradient, group, state)
  core.adam_step_(parameter, gradient, state.first, state.second, {
    lr = group.lr, beta1 = group.beta1, beta2 = group.beta2, eps = group.eps,
    weight_decay = group.weight_decay, step = state.step + 1, decoupled = self.decoupled,
  })
end

return Adam
