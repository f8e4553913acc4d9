-- clip_grad_value: limits each element of each gradient to -limit..limit.

local core = require "moonlet.core"
local options = require "moonlet.options"

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
  options.argument("clip_grad_value", "params", params, "table", 3)
  options.argument("clip_grad_value", "limit", limit, "number", 3)
  core.no_grad(clip, params, limit)
end
