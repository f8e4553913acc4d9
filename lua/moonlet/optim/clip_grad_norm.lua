-- clip_grad_norm: scales all gradients together so that their joint 2-norm is at most `limit`.

local core = require "moonlet.core"
local check_arguments = require "moonlet.optim.clip_arguments"

local function square_sum(params)
  local sum = 0
  for _, parameter in ipairs(params) do
    local gradient = parameter.grad
    if gradient then sum = sum + gradient:norm():item() ^ 2 end
  end
  return sum
end

local function scale(params, factor)
  for _, parameter in ipairs(params) do
    local gradient = parameter.grad
    if gradient then gradient:mul_(factor) end
  end
end

--- Clips gradients to a joint norm.
-- @tparam table params list of parameters
-- @number limit the largest norm allowed
-- @treturn number the norm before clipping
-- @usage local moon = require "moonlet"
-- local net = moon.nn.Linear(2, 1)
-- net(moon.ones(4, 2)):mul(100):sum():backward()
-- assert(moon.optim.clip_grad_norm(net:parameters(), 1) > 1)
return function(params, limit)
  check_arguments("clip_grad_norm", params, limit)
  local norm = math.sqrt(core.scope(core.no_grad, square_sum, params))
  if norm > limit then core.no_grad(scale, params, limit / norm) end
  return norm
end
