-- TransformerEncoder: encoder layers one after the other, and a normalisation at the end if wanted.
-- x and y as TransformerEncoderLayer's (Vaswani et al. 2017)

local options = require "moonlet.options"
local Module = require "moonlet.nn.module"

local TransformerEncoder = Module:extend "TransformerEncoder"

--- A stack of copies of a layer; the copies start with the same weights, as PyTorch's do.
-- net(x, { mask, key_padding_mask, causal = false })
-- @tparam Module layer the first of them
-- @int count how many
-- @tparam ?table given norm = a module to end with
-- @usage local moon = require "moonlet"
-- local layer = moon.nn.TransformerEncoderLayer(8, 2, { feedforward = 16 })
-- local net = moon.nn.TransformerEncoder(layer, 3)
-- assert(net(moon.zeros(5, 2, 8), { causal = true }):size(1) == 5)
function TransformerEncoder:init(layer, count, given)
  if not Module.is_instance(layer, Module) then
    error("TransformerEncoder: layer must be a module, not " .. options.show(layer), 3)
  end
  options.argument("TransformerEncoder", "count", count, "positive")
  local o = options.read("TransformerEncoder", given, { norm = { "any" } })
  local layers = { layer }
  for i = 2, count do layers[i] = layer:clone() end
  self.layers = layers
  self.norm = o.norm
end

function TransformerEncoder:forward(x, given)
  for _, layer in ipairs(self.layers) do x = layer(x, given) end
  return self.norm and self.norm(x) or x
end

return TransformerEncoder
