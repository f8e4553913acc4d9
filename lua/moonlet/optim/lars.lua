-- LARS: momentum with a rate for each layer, in proportion to |p| / |g|:
-- r = trust |p| / (|g| + weight_decay |p| + eps), 1 where either norm is 0;
-- d = lr r (g + weight_decay p);  b = momentum b + d;
-- p = p - b, with nesterov p - (d + momentum b).
-- Biases and normalisation are usually given in a group with adapt = false.

local Optimizer = require "moonlet.optim.optimizer"

local LARS = Optimizer:extend "LARS"

LARS.schema = Optimizer.options {
  lr = { "from_zero", 0.01 }, momentum = { "from_zero", 0.9 }, weight_decay = { "from_zero", 0 },
  trust = { "above_zero", 1e-3 }, eps = { "from_zero", 0 }, nesterov = { "boolean", false },
  adapt = { "boolean", true },
}
LARS.slots = { "momentum" }
LARS.temporaries = true

--- LARS (You, Gitman and Ginsburg 2017), for large batches.
-- @function LARS:init
-- @tparam table params a list of parameters, or of groups
-- @tparam ?table given lr = 0.01, momentum = 0.9, weight_decay = 0, trust = 1e-3, eps = 0,
-- nesterov = false, adapt = true, maximize = false
-- @usage local moon = require "moonlet"
-- local net = moon.nn.Linear(2, 1)
-- local opt = moon.optim.LARS {
--   { params = { net.weight }, weight_decay = 1e-4 }, { params = { net.bias }, adapt = false },
-- }
-- net(moon.ones(4, 2)):mean():backward()
-- opt:step()

local function ratio(parameter, gradient, group)
  if not group.adapt then return 1 end
  local size, slope = parameter:norm():item(), gradient:norm():item()
  if size == 0 or slope == 0 then return 1 end
  return group.trust * size / (slope + group.weight_decay * size + group.eps)
end

function LARS.check_group(group)
  if group.nesterov and group.momentum <= 0 then return "nesterov needs a momentum above 0" end
end

function LARS:update(parameter, gradient, group, state)
  local rate = group.lr * ratio(parameter, gradient, group)
  local move = self.decayed(parameter, gradient, group) * rate
  state.momentum:mul_(group.momentum):add_(move)
  parameter:sub_(group.nesterov and move:add_(state.momentum * group.momentum) or state.momentum)
end

return LARS
