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
  return core.pad(x, { p, p, p, p }, { value = self.value })
end

return Pad
