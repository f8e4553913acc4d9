-- clip_grad_value: limits each element of each gradient to -limit..limit.

local core = require "moonlet.core"
local check_arguments = require "moonlet.optim.clip_arguments"

local function clip(params, limit)
  for _, parameter in ipairs(params) do
    local gradient = parameter.grad
    if gradient then gradient:clamp_(-limit, limit) end
  end
end

--- Clips gradients element by element.
-- @tparam table params list of parameters
-- @number limit the largest absolute value allowed
-- @usage local moon = require "moonlet"
-- local net = moon.nn.Linear(2, 1)
-- net(moon.ones(4, 2)):mul(100):sum():backward()
-- moon.optim.clip_grad_value(net:parameters(), 1)
-- assert(net.bias.grad[1] == 1)
return function(params, limit)
  check_arguments("clip_grad_value", params, limit)
  core.no_grad(clip, params, limit)
end
