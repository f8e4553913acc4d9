-- PixelShuffle moves channels into space, (n, c r r, h, w) to (n, c, h r, w r) for a factor r;
-- PixelUnshuffle does the reverse (Shi et al. 2016).

local core = require "moonlet.core"
local options = require "moonlet.options"
local Module = require "moonlet.nn.module"

local function make(name, operator)
  local Layer = Module:extend(name)

  function Layer:init(factor)
    self.factor = options.argument(name, "factor", factor, "positive")
  end

  function Layer:forward(x) return operator(x, self.factor) end

  function Layer:describe() return tostring(self.factor) end

  return Layer
end

--- Layers that trade channels for pixels.
-- @function PixelShuffle(factor)
-- @int factor how many times higher and wider
-- @usage local moon = require "moonlet"
-- local x = moon.randn(2, 8, 3, 4)
-- local y = moon.nn.PixelShuffle(2)(x)
-- assert(y:size(2) == 2 and y:size(4) == 8)
-- assert(moon.nn.PixelUnshuffle(2)(y):sub(x):abs():max():item() == 0)
return {
  PixelShuffle = make("PixelShuffle", core.pixel_shuffle),
  PixelUnshuffle = make("PixelUnshuffle", core.pixel_unshuffle),
}
