-- Adadelta: v = rho v + (1 - rho) g^2;  d = sqrt(a + eps) / sqrt(v + eps) g;
-- a = rho a + (1 - rho) d^2;  p = p - lr d, with g = gradient + weight_decay p.

local Optimizer = require "moonlet.optim.optimizer"

local Adadelta = Optimizer:extend "Adadelta"

Adadelta.schema = Optimizer.options {
  lr = { "from_zero", 1 }, rho = { "share", 0.9 }, eps = { "from_zero", 1e-6 },
  weight_decay = { "from_zero", 0 },
}
Adadelta.slots = { "square", "delta" }
Adadelta.temporaries = true

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
  local g = self.decayed(parameter, gradient, group)
  state.square:mul_(group.rho):add_(g:square():mul_(1 - group.rho))
  local deviation = (state.square + group.eps):sqrt_()
  local delta = (state.delta + group.eps):sqrt_():div_(deviation):mul_(g)
  state.delta:mul_(group.rho):add_(delta:square():mul_(1 - group.rho))
  parameter:sub_(delta:mul_(group.lr))
end

return Adadelta
