-- Activations along one dimension: a class whose only argument is the dimension.

local core = require "moonlet.core"
local options = require "moonlet.options"
local Module = require "moonlet.nn.module"

--- Makes the class: Layer(dim) calls core[operator](x, dim).
-- @string name the class's name
-- @string operator the operator's name
-- @int default the dimension where none is given
return function(name, operator, default)
  local Layer = Module:extend(name)

  function Layer:init(dim)
    self.along = dim == nil and default or options.argument(name, "dim", dim, "integer")
  end

  function Layer:forward(x)
    return core[operator](x, self.along)
  end

  function Layer:describe()
    return tostring(self.along)
  end

  return Layer
end
