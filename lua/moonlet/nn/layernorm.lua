-- LayerNorm: the last dimensions of x brought together to mean 0 and variance 1, then scaled and
-- shifted: y = (x - mean) / sqrt(variance + eps) * weight + bias (Ba, Kiros and Hinton 2016).
-- x and y (..., shape), weight and bias (shape)

local core = require "moonlet.core"
local options = require "moonlet.options"
local Module = require "moonlet.nn.module"
local shapes = require "moonlet.nn.shapes"
local parameter = require "moonlet.nn.parameter"

local LayerNorm = Module:extend "LayerNorm"

local schema = {
  eps = { "number", 1e-5 }, affine = { "boolean", true }, bias = { "boolean", true },
  dtype = { "string", "float32" },
}

--- Normalises each sample over its last dimensions.
-- @param shape their size, a whole number or a list
-- @tparam ?table given eps = 1e-5, affine = true, bias = true, dtype = "float32"
-- @usage local y = moon.nn.LayerNorm(4)(moon.randn(2, 3, 4))
-- assert(y:mean(-1):abs():max():item() < 1e-5)
function LayerNorm:init(shape, given)
  self.shape = shapes.read("LayerNorm", "shape", shape)
  local o = options.read("LayerNorm", given, schema)
  self.eps = o.eps
  if o.affine then
    self.weight = parameter(core.ones(self.shape, { dtype = o.dtype }))
    if o.bias then self.bias = parameter(core.zeros(self.shape, { dtype = o.dtype })) end
  end
end

function LayerNorm:forward(x)
  return core.layer_norm(x, self.shape, self.weight, self.bias, self.eps)
end

function LayerNorm:describe()
  return shapes.text(self.shape)
end

return LayerNorm
