-- Concat: Torch7's name for branches whose outputs are joined along a dimension; see parallel.lua.

local options = require "moonlet.options"
local Parallel = require "moonlet.nn.parallel"

local Concat = Parallel:extend "Concat"

--- Makes branches that are joined along a dimension.
-- @int dim
-- @param ... modules and functions
-- @usage local moon = require "moonlet"
-- local net = moon.nn.Concat(2, moon.nn.Linear(4, 3), moon.nn.Identity())
-- assert(net(moon.zeros(5, 4)):size(2) == 7)
function Concat:init(dim, ...)
  options.argument("Concat", "dim", dim, "integer")
  Parallel.init(self, { ... }, { dim = dim })
end

return Concat
