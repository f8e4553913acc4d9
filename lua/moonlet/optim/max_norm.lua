-- max_norm: scales down, in place, what has grown beyond a length: each slice of each parameter
-- along a dimension, such as the weights of one unit (Srivastava et al. 2014). Call it after
-- optimiser:step().

local core = require "moonlet.core"
local options = require "moonlet.options"
local check_arguments = require "moonlet.optim.clip_arguments"

local function limit_all(params, limit, o)
  for _, parameter in ipairs(params) do
    if parameter:dim() > 1 then parameter:copy_(core.renorm(parameter, o.p, o.dim, limit)) end
  end
end

--- Limits the norm of each unit's weights. Parameters of one dimension (biases) are left alone.
-- @tparam table params list of parameters
-- @number limit the largest norm of a slice
-- @tparam ?table given dim = 1, along which the slices lie; p = 2
-- @usage local layer = moon.nn.Linear(3, 2)
-- moon.optim.max_norm(layer:parameters(), 0.1)
-- assert(layer.weight:norm(2, 2):max():item() < 0.1001)
return function(params, limit, given)
  check_arguments("max_norm", params, limit)
  local o = options.read("max_norm", given, { dim = { "integer", 1 }, p = { "number", 2 } }, 3)
  core.no_grad(limit_all, params, limit, o)
end
