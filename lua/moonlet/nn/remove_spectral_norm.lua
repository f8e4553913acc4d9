-- nn.remove_spectral_norm: undoes nn.spectral_norm; the weight that it calculates is a parameter
-- again.

local reparametrized = require "moonlet.nn.reparametrized"

--- Takes spectral_norm off a layer, in place.
-- @tparam Module layer
-- @treturn Module the layer
-- @usage local layer = moon.nn.remove_spectral_norm(moon.nn.spectral_norm(moon.nn.Linear(3, 2)))
-- assert(layer.weight.requires_grad and layer.weight_orig == nil)
return function(layer)
  return reparametrized.remove("nn.remove_spectral_norm", "spectral_norm", layer,
    { "_orig", "_u", "_v" })
end
