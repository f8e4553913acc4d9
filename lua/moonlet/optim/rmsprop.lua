-- RMSprop: v = alpha v + (1 - alpha) g^2;  r = sqrt(v) + eps, centred: sqrt(v - a^2) + eps with
-- a = alpha a + (1 - alpha) g;  p = p - lr g / r, with momentum b = momentum b + g / r and
-- p = p - lr b;  g = gradient + weight_decay p.

local core = require "moonlet.core"
local Optimizer = require "moonlet.optim.optimizer"

local RMSprop = Optimizer:extend "RMSprop"

RMSprop.schema = Optimizer.options {
  lr = { "from_zero", 0.01 }, alpha = { "share", 0.99 }, eps = { "from_zero", 1e-8 },
  weight_decay = { "from_zero", 0 }, momentum = { "from_zero", 0 },
  centered = { "boolean", false },
}
RMSprop.slots = { "square" }
RMSprop.sweeps = true

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

-- The optional states are made on first use.
function RMSprop.optional_slots(group)
  local slots = {}
  if group.centered then slots[1] = "mean" end
  if group.momentum > 0 then slots[#slots + 1] = "momentum" end
  return slots
end

function RMSprop:update(parameter, gradient, group, state) -- luacheck: ignore 212
  core.rmsprop_step_(parameter, gradient, state.square, group.centered and state.mean or nil,
    group.momentum > 0 and state.momentum or nil, {
      lr = group.lr, alpha = group.alpha, eps = group.eps, weight_decay = group.weight_decay,
      momentum = group.momentum, maximize = group.maximize,
    })
end

return RMSprop
