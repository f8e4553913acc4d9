-- Unflatten: a dimension becomes several; one of their sizes may be -1. The other way of Flatten.
-- x (n, c h w), y (n, c, h, w)

local options = require "moonlet.options"
local Module = require "moonlet.nn.module"

local Unflatten = Module:extend "Unflatten"

--- Splits a dimension.
-- @int dim the dimension
-- @tparam table sizes what it becomes
-- @usage local moon = require "moonlet"
-- assert(moon.nn.Unflatten(2, { 3, 2, 2 })(moon.zeros(5, 12)):dim() == 4)
function Unflatten:init(dim, sizes)
  self.dim = options.argument("Unflatten", "dim", dim, "integer")
  options.argument("Unflatten", "sizes", sizes, "table")
  for i, size in ipairs(sizes) do options.argument("Unflatten", "size " .. i, size, "integer") end
  if #sizes == 0 then error("Unflatten: sizes must not be empty", 3) end
  rawset(self, "sizes", sizes)
end

function Unflatten:forward(x)
  self:need_tensor(x)
  local shape, dim = x:size(), self.dim
  if dim < 0 then dim = dim + #shape + 1 end
  if not shape[dim] then
    error(("Unflatten: input %s has no dimension %d"):format(table.concat(shape, "x"), self.dim), 0)
  end
  table.remove(shape, dim)
  for i, size in ipairs(self.sizes) do table.insert(shape, dim + i - 1, size) end
  return x:reshape(shape)
end

function Unflatten:describe()
  return ("%d, {%s}"):format(self.dim, table.concat(self.sizes, ", "))
end

return Unflatten
