-- LAMB: Adam's direction u = (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps), with
-- weight_decay p added, is scaled layer by layer to the size of the weights:
-- p = p - lr |p| / |u| u, the ratio 1 where either norm is 0.

local Optimizer = require "moonlet.optim.optimizer"

local LAMB = Optimizer:extend "LAMB"

LAMB.schema = Optimizer.options {
  lr = { "from_zero", 1e-3 }, beta1 = { "fraction", 0.9 }, beta2 = { "fraction", 0.999 },
  eps = { "from_zero", 1e-6 }, weight_decay = { "from_zero", 0 },
}
LAMB.slots = { "first", "second" }
LAMB.temporaries = true

--- LAMB (You et al. 2020), for large batches.
-- @function LAMB:init
-- @tparam table params a list of parameters, or of groups
-- @tparam ?table given lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-6, weight_decay = 0,
-- maximize = false
-- @usage local moon = require "moonlet"
-- local net = moon.nn.Linear(2, 1)
-- local opt = moon.optim.LAMB(net:parameters(), { weight_decay = 0.01 })
-- net(moon.ones(4, 2)):mean():backward()
-- opt:step()

function LAMB:update(parameter, gradient, group, state)
  local t = state.step + 1
  state.first:mul_(group.beta1):add_(gradient * (1 - group.beta1))
  state.second:mul_(group.beta2):add_(gradient:square():mul_(1 - group.beta2))
  local root = (state.second / (1 - group.beta2 ^ t)):sqrt_():add_(group.eps)
  local move = (state.first / (1 - group.beta1 ^ t)):div_(root)
  if group.weight_decay ~= 0 then move:add_(parameter * group.weight_decay) end
  parameter:sub_(move:mul_(group.lr * self.trust(parameter, move)))
end

--- The ratio of the weights' norm to the move's, 1 where either is 0.
function LAMB.trust(parameter, move)
  local size, length = parameter:norm():item(), move:norm():item()
  return size > 0 and length > 0 and size / length or 1
end

return LAMB
