-- LogSoftmax: y_i = x_i - log sum_j exp(x_j) along one dimension, the last unless given.

local core = require "moonlet.core"
local options = require "moonlet.options"
local Module = require "moonlet.nn.module"

local LogSoftmax = Module:extend "LogSoftmax"

--- Makes the layer.
-- @int[opt=-1] dim the dimension along which it normalises
-- @usage local moon = require "moonlet"
-- assert(moon.nn.LogSoftmax()(moon.zeros(2, 4)):size(2) == 4)
function LogSoftmax:init(dim)
  self.along = dim == nil and -1 or options.argument("LogSoftmax", "dim", dim, "integer")
end

function LogSoftmax:forward(x)
  return core.log_softmax(x, self.along)
end

function LogSoftmax:describe()
  return tostring(self.along)
end

return LogSoftmax
