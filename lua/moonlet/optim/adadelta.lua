-- Adadelta: v = rho v + (1 - rho) g^2;  d = sqrt(a + eps) / sqrt(v + eps) g;
-- a = rho a + (1 - rho) d^2;  p = p - lr d, with g = gradient + weight_decay p.

local core = require "moonlet.core"
local Optimizer = require "moonlet.optim.optimizer"

local Adadelta = Optimizer:extend "Adadelta"

Adadelta.schema = Optimizer.options {
  lr = { "from_zero", 1 }, rho = { "share", 0.9 }, eps = { "from_zero", 1e-6 },
  weight_decay = { "from_zero", 0 },
}
Adadelta.slots = { "square", "delta" }
Adadelta.sweeps = true

--- Adadelta (Zeiler 2012): steps in the parameter's own unit.
-- @function Adadelta:init
-- @tparam table params a list of parameters, or of groups
-- @tparam ?table given lr = 1, rho = 0.9, eps = 1e-6, weight_decay = 0, maximize = false
-- @usage local moon = require "moonlet"
-- local net = moon.nn.Linear(2, 1)
-- local opt = moon.optim.Adadelta(net:parameters())
-- net(moon.ones(4, 2)):mean():backward()
-- opt:step()

function Adadelta:update(parameter, gradient, group, state)
  core.adadelta_step_(parameter, gradient, state.square, state.delta, {
    lr = group.lr, rho = group.rho, eps = group.eps, weight_decay = group.weight_decay,
    maximize = group.maximize,
  })
end

return Adadelta
