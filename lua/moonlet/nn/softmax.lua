-- Softmax: y_i = exp(x_i) / sum_j exp(x_j) along one dimension, the last unless given.

local core = require "moonlet.core"
local options = require "moonlet.options"
local Module = require "moonlet.nn.module"

local Softmax = Module:extend "Softmax"

--- Makes the layer.
-- @int[opt=-1] dim the dimension along which it normalises
-- @usage local moon = require "moonlet"
-- assert(moon.nn.Softmax()(moon.zeros(2, 4)):size(2) == 4)
function Softmax:init(dim)
  self.along = dim == nil and -1 or options.argument("Softmax", "dim", dim, "integer")
end

function Softmax:forward(x)
  return core.softmax(x, self.along)
end

function Softmax:describe()
  return tostring(self.along)
end

return Softmax
