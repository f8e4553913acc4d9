-- A parameter is a leaf tensor that requires a gradient. Assigned to a field of a module it is
-- found by the module's walk; there is no class of its own.

local core = require "moonlet.core"
local options = require "moonlet.options"

--- Makes a parameter of a tensor: detached, requiring a gradient, kept alive across scopes.
-- @tparam tensor value its first value (the storage is shared)
-- @usage local moon = require "moonlet"
-- local scale = moon.nn.parameter(moon.ones(3))
-- assert(scale.requires_grad)
return function(value)
  options.argument("nn.parameter", "value", value, "tensor", 3)
  local parameter = value:detach()
  parameter:requires_grad_(true)
  return core.keep(parameter)
end
