--- moon.amp: mixed precision in either half type, and losses scaled so that float16's gradients do
-- not vanish (amp/gradscaler.lua).
--
-- bfloat16 has float32's range and needs no scaling; moon.autocast(fn) is all there is to it.
local core = require "moonlet.core"

local amp = {}

--- Calls a function with products and convolutions in a half type, losses and softmax in float32.
-- Parameters and their gradients stay float32; the backward pass belongs outside.
-- @string dtype "bfloat16" or "float16"
-- @func fn
-- @param ... its arguments
-- @return its results
-- @usage local moon = require "moonlet"
-- local net = moon.nn.Linear(4, 2)
-- assert(moon.amp.autocast("float16", net, moon.randn(3, 4)).dtype == "float16")
function amp.autocast(dtype, fn, ...)
  local function call(...) return fn(...) end   -- a layer is a table that can be called
  return core.autocast_in(dtype, call, ...)
end

amp.GradScaler = require "moonlet.amp.gradscaler"

return amp
