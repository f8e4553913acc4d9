-- nn.spectral_norm: a layer's weight divided by its largest singular value, which bounds by how
-- much the layer can stretch its input (Miyato et al. 2018). The parameter weight_orig takes the
-- place of weight; the vectors of the power iteration, weight_u and weight_v, are saved with the
-- layer and take a step at each forward in training.

local core = require "moonlet.core"
local options = require "moonlet.options"
local parameter = require "moonlet.nn.parameter"
local reparametrized = require "moonlet.nn.reparametrized"

local schema = {
  name = { "string", "weight" }, dim = { "integer", 1 }, iterations = { "positive", 1 },
  eps = { "number", 1e-12 },
}
local FIRST_ITERATIONS = 15   -- from random vectors to good ones, as PyTorch's

local function unit(size, dtype)
  return core.normalize(core.randn(size, { dtype = "float64" }), 2, 1):to(dtype)
end

--- Reparametrises a layer in place; make optimisers afterwards.
-- @tparam Module layer such as Linear or Conv2d
-- @tparam ?table given name = "weight"; dim = 1, the outputs' dimension of the weight;
-- iterations = 1 a forward; eps = 1e-12
-- @treturn Module the layer
-- @usage local layer = moon.nn.spectral_norm(moon.nn.Linear(3, 2))
-- assert(layer(moon.ones(1, 3)):size(2) == 2)
-- @see remove_spectral_norm
return function(layer, given)
  local o = options.read("nn.spectral_norm", given, schema, 3)
  local name, weight = o.name, reparametrized.parameter_of("nn.spectral_norm", layer, o.name)
  local dim = o.dim < 0 and weight:dim() + 1 + o.dim or o.dim
  if weight:dim() < 2 or dim < 1 or dim > weight:dim() then
    error(("nn.spectral_norm: %s must have 2 dimensions or more and dim lie among them"):format(
      name), 2)
  end
  local original, u, v = name .. "_orig", name .. "_u", name .. "_v"
  local rows = weight:size(dim)
  local function calculate(self, iterations)
    return core.spectral_norm(self[original], self[u], self[v], {
      dim = dim, iterations = iterations or self.training and o.iterations or 0, eps = o.eps,
    })
  end
  reparametrized.apply(layer, name, "spectral_norm", calculate)
  layer[original] = parameter(weight:detach():clone())
  layer:register_buffer(u, unit(rows, weight.dtype))
  layer:register_buffer(v, unit(weight:numel() / rows, weight.dtype))
  rawset(layer, name, calculate(layer, FIRST_ITERATIONS))
  return layer
end
