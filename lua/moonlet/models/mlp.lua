-- A multi-layer perceptron: linear layers with ReLU between them.

local options = require "moonlet.options"
local nn = require "moonlet.nn"

--- Builds the network.
-- @tparam ?table given sizes = { 784, 512, 512, 10 }: inputs, hidden layers, outputs
-- @usage local moon = require "moonlet"
-- assert(moon.models.mlp()(moon.zeros(1, 1, 28, 28)):size(2) == 10)
return function(given)
  local o = options.read("models.mlp", given, { sizes = { "table", { 784, 512, 512, 10 } } }, 3)
  if #o.sizes < 2 then
    error("models.mlp: sizes must list the inputs and the outputs at least", 2)
  end
  local net = nn.Sequential(nn.Flatten())
  for i = 2, #o.sizes do
    if i > 2 then net:add(nn.ReLU()) end
    net:add(nn.Linear(o.sizes[i - 1], o.sizes[i]))
  end
  return net
end
