-- to_float: uint8 pictures to float32 from 0 to 1.

local NAME = ...
local Transform = require "moonlet.data.transform"

local ToFloat = Transform:extend "to_float"

ToFloat.keeps_nothing = true

--- Converts bytes to floats from 0 to 1.
-- @usage local moon = require "moonlet"
-- local x = moon.full({ 1, 2, 2 }, 255, { dtype = "uint8" })
-- assert(moon.data.transforms.to_float()(x):sum():item() == 4)
function ToFloat:init()
  self:remember(NAME)
end

function ToFloat:apply(x) -- luacheck: ignore 212
  return x:to("float32"):mul_(1 / 255)
end

return ToFloat
