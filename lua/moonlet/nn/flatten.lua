-- Flatten: dimensions `from` to `to` become one; by default all but the first.
-- x (n, c, h, w), y (n, c h w)

local options = require "moonlet.options"
local Module = require "moonlet.nn.module"

local Flatten = Module:extend "Flatten"

--- Flattens a batch.
-- @int[opt=2] from first dimension to join
-- @int[opt=-1] to last dimension to join
-- @usage local moon = require "moonlet"
-- assert(moon.nn.Flatten()(moon.zeros(2, 3, 4)):size(2) == 12)
function Flatten:init(from, to)
  self.first = from == nil and 2 or options.argument("Flatten", "from", from, "integer")
  self.last = to == nil and -1 or options.argument("Flatten", "to", to, "integer")
end

function Flatten:forward(x)
  self:need_tensor(x)
  return x:flatten(self.first, self.last)
end

function Flatten:describe()
  if self.first == 2 and self.last == -1 then return "" end
  return ("%d, %d"):format(self.first, self.last)
end

return Flatten
