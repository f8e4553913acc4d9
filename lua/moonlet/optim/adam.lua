-- Adam: m and v are running means of the gradient and its square,
-- p = p - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps), t the number of steps.
-- weight_decay is added to the gradient; AdamW takes it off the parameter instead. With amsgrad the
-- largest v so far stands in v's place.

local core = require "moonlet.core"
local Optimizer = require "moonlet.optim.optimizer"

local Adam = Optimizer:extend "Adam"

Adam.schema = Optimizer.options {
  lr = { "from_zero", 1e-3 }, beta1 = { "fraction", 0.9 }, beta2 = { "fraction", 0.999 },
  eps = { "from_zero", 1e-8 }, weight_decay = { "from_zero", 0 }, amsgrad = { "boolean", false },
}
Adam.slots = { "first", "second" }
Adam.sweeps = true
Adam.decoupled = false

--- Adam (Kingma and Ba 2015) and AMSGrad (Reddi, Kale and Kumar 2018).
-- @function Adam:init
-- @tparam table params a list of parameters, or of groups
-- @tparam ?table given lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0,
-- amsgrad = false, maximize = false
-- @usage local moon = require "moonlet"
-- local net = moon.nn.Linear(2, 1)
-- local opt = moon.optim.Adam(net:parameters(), { lr = 1e-3, amsgrad = true })
-- net(moon.ones(4, 2)):mean():backward()
-- opt:step()

function Adam.optional_slots(group) return group.amsgrad and { "largest" } or {} end

function Adam:update(parameter, gradient, group, state)
  core.adam_step_(parameter, gradient, state.first, state.second,
    group.amsgrad and state.largest or nil, {
      lr = group.lr, beta1 = group.beta1, beta2 = group.beta2, eps = group.eps,
      weight_decay = group.weight_decay, step = state.step + 1, decoupled = self.decoupled,
      maximize = group.maximize,
    })
end

return Adam
