-- AdaptiveAvgPool2d: means over windows chosen so that the output has a given size.
-- x (n, c, h, w), y (n, c, height, width)

local core = require "moonlet.core"
local options = require "moonlet.options"
local pair = require "moonlet.nn.pair"
local Module = require "moonlet.nn.module"

local AdaptiveAvgPool2d = Module:extend "AdaptiveAvgPool2d"

--- Pools to a size.
-- @param size a whole number or {height, width}
-- @usage local moon = require "moonlet"
-- assert(moon.nn.AdaptiveAvgPool2d(1)(moon.zeros(2, 3, 4, 6)):size(4) == 1)
function AdaptiveAvgPool2d:init(size)
  self.output_size = options.argument("AdaptiveAvgPool2d", "size", size, "pair")
end

function AdaptiveAvgPool2d:forward(x)
  return core.adaptive_avg_pool2d(x, self.output_size)
end

function AdaptiveAvgPool2d:describe()
  return pair.text(self.output_size)
end

return AdaptiveAvgPool2d
