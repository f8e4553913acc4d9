-- RMSprop: v = alpha v + (1 - alpha) g^2;  r = sqrt(v) + eps, centred: sqrt(v - a^2) + eps with
-- a = alpha a + (1 - alpha) g;  p = p - lr g / r, with momentum b = momentum b + g / r and
-- p = p - lr b;  g = gradient + weight_decay p.

local Optimizer = require "moonlet.optim.optimizer"

local RMSprop = Optimizer:extend "RMSprop"

RMSprop.schema = Optimizer.options {
  lr = { "from_zero", 0.01 }, alpha = { "share", 0.99 }, eps = { "from_zero", 1e-8 },
  weight_decay = { "from_zero", 0 }, momentum = { "from_zero", 0 },
  centered = { "boolean", false },
}
RMSprop.slots = { "square" }
RMSprop.temporaries = true

--- RMSprop (Tieleman and Hinton 2012; centred: Graves 2013).
-- @function RMSprop:init
-- @tparam table params a list of parameters, or of groups
-- @tparam ?table given lr = 0.01, alpha = 0.99, eps = 1e-8, weight_decay = 0, momentum = 0,
-- centered = false, maximize = false
-- @usage local moon = require "moonlet"
-- local net = moon.nn.Linear(2, 1)
-- local opt = moon.optim.RMSprop(net:parameters(), { centered = true, momentum = 0.9 })
-- net(moon.ones(4, 2)):mean():backward()
-- opt:step()

local function root(self, parameter, gradient, group, state)
  if not group.centered then return state.square:sqrt():add_(group.eps) end
  state.mean = state.mean or self.zeros(parameter)
  state.mean:mul_(group.alpha):add_(gradient * (1 - group.alpha))
  return (state.square - state.mean:square()):sqrt_():add_(group.eps)
end

function RMSprop:update(parameter, gradient, group, state)
  local g = self.decayed(parameter, gradient, group)
  state.square:mul_(group.alpha):add_(g:square():mul_(1 - group.alpha))
  local move = g / root(self, parameter, g, group, state)
  if group.momentum > 0 then
    state.momentum = state.momentum or self.zeros(parameter)
    move = state.momentum:mul_(group.momentum):add_(move)
  end
  parameter:sub_(move * group.lr)
end

return RMSprop
