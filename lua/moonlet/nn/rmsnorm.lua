-- RMSNorm: y = x / sqrt(mean of x^2 over the last dimensions + eps) * weight (Zhang and Sennrich
-- 2019). x and y (..., shape), weight (shape)

local core = require "moonlet.core"
local options = require "moonlet.options"
local Module = require "moonlet.nn.module"
local shapes = require "moonlet.nn.shapes"
local parameter = require "moonlet.nn.parameter"

local RMSNorm = Module:extend "RMSNorm"

local schema = {
  eps = { "number" }, affine = { "boolean", true }, dtype = { "string", "float32" },
}

--- Divides each sample by its root mean square over its last dimensions.
-- @param shape their size, a whole number or a list
-- @tparam ?table given eps, the type's machine epsilon unless given; affine = true,
-- dtype = "float32"
-- @usage local y = moon.nn.RMSNorm(4)(moon.full({ 2, 4 }, 3))
-- assert(math.abs(y[{ 1, 1 }] - 1) < 1e-5)
function RMSNorm:init(shape, given)
  self.shape = shapes.read("RMSNorm", "shape", shape)
  local o = options.read("RMSNorm", given, schema)
  self.eps = o.eps
  if o.affine then self.weight = parameter(core.ones(self.shape, { dtype = o.dtype })) end
end

function RMSNorm:forward(x)
  return core.rms_norm(x, self.shape, self.weight, self.eps)
end

function RMSNorm:describe()
  return shapes.text(self.shape)
end

return RMSNorm
