-- Threshold: y = x where it is above a threshold, else a fixed value. y has x's shape.

local core = require "moonlet.core"
local options = require "moonlet.options"
local Module = require "moonlet.nn.module"

local Threshold = Module:extend "Threshold"

--- Makes the layer.
-- @number threshold what x must be above of
-- @number value what stands elsewhere
-- @usage assert(moon.nn.Threshold(0.5, -1)(moon.tensor { 0.1, 2 })[1] == -1)
function Threshold:init(threshold, value)
  self.threshold = options.argument("Threshold", "threshold", threshold, "number")
  self.value = options.argument("Threshold", "value", value, "number")
end

function Threshold:forward(x)
  return core.threshold(x, self.threshold, self.value)
end

function Threshold:describe()
  return ("%g, %g"):format(self.threshold, self.value)
end

return Threshold
