-- nn.weight_norm: a layer's weight as length times direction, weight = g v / |v|, so that both are
-- learnt apart (Salimans and Kingma 2016). The parameters weight_g and weight_v take the place of
-- weight.

local core = require "moonlet.core"
local options = require "moonlet.options"
local parameter = require "moonlet.nn.parameter"
local reparametrized = require "moonlet.nn.reparametrized"

local schema = { name = { "string", "weight" }, dim = { "integer", 1 } }

-- |v| of each slice along dim, with size 1 in all other dimensions.
local function lengths(v, dim)
  local others = {}
  for i = 1, v:dim() do
    if i ~= dim then others[#others + 1] = i end
  end
  return #others == 0 and v:abs() or v:norm(2, others, true)
end

--- Reparametrises a layer in place; make optimisers afterwards.
-- @tparam Module layer such as Linear or Conv2d
-- @tparam ?table given name = "weight"; dim = 1, along which each slice has a length
-- @treturn Module the layer
-- @usage local layer = moon.nn.weight_norm(moon.nn.Linear(3, 2))
-- assert(layer.weight_g:size(1) == 2 and layer(moon.ones(1, 3)):size(2) == 2)
-- @see remove_weight_norm
return function(layer, given)
  local o = options.read("nn.weight_norm", given, schema, 3)
  local name, weight = o.name, reparametrized.parameter_of("nn.weight_norm", layer, o.name)
  local dim = o.dim < 0 and weight:dim() + 1 + o.dim or o.dim
  if dim < 1 or dim > weight:dim() then
    error(("nn.weight_norm: dim must lie in 1..%d, not %d"):format(weight:dim(), o.dim), 2)
  end
  local g, v = name .. "_g", name .. "_v"
  local length = core.no_grad(lengths, weight, dim)
  local direction = weight:detach():clone()
  reparametrized.apply(layer, name, "weight_norm", function(self)
    return core.weight_norm(self[v], self[g], dim)
  end)
  layer[g] = parameter(length)
  layer[v] = parameter(direction)
  rawset(layer, name, core.weight_norm(layer[v], layer[g], dim))
  return layer
end
