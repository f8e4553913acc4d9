-- pad: a border of `amount` pixels of one value on all four sides.

local NAME = ...
local core = require "moonlet.core"
local options = require "moonlet.options"
local Transform = require "moonlet.data.transform"

local Pad = Transform:extend "pad"

Pad.keeps_nothing = true

--- Adds a border.
-- @int amount pixels on each side
-- @number[opt=0] value what the border holds
-- @usage local moon = require "moonlet"
-- assert(moon.data.transforms.pad(2)(moon.ones(1, 28, 28)):size(3) == 32)
function Pad:init(amount, value)
  self.amount = options.argument("transforms.pad", "amount", amount, "integer")
  self.value = value == nil and 0 or options.argument("transforms.pad", "value", value, "number")
  self:remember(NAME, self.amount, self.value)
end

function Pad:apply(x)
  local p = self.amount
  local n, c, h, w = x:size(1), x:size(2), x:size(3), x:size(4)
  local padded = core.full({ n, c, h + 2 * p, w + 2 * p }, self.value, { dtype = x.dtype })
  padded:narrow(3, p + 1, h):narrow(4, p + 1, w):copy_(x)
  return padded
end

return Pad
