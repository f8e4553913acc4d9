-- nn.remove_weight_norm: undoes nn.weight_norm; the weight that it calculates is a parameter again.

local reparametrized = require "moonlet.nn.reparametrized"

--- Takes weight_norm off a layer, in place.
-- @tparam Module layer
-- @treturn Module the layer
-- @usage local layer = moon.nn.remove_weight_norm(moon.nn.weight_norm(moon.nn.Linear(3, 2)))
-- assert(layer.weight.requires_grad and layer.weight_g == nil)
return function(layer)
  return reparametrized.remove("nn.remove_weight_norm", "weight_norm", layer, { "_g", "_v" })
end
