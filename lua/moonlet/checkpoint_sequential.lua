-- A chain of layers in checkpoints of equal length. See checkpoint.lua.

local options = require "moonlet.options"
local checkpoint = require "moonlet.checkpoint"
local unpack = require "moonlet.unpack"

-- The layers of a Sequential or of a plain list.
local function layers_of(net)
  local chain = type(net) == "table" and rawget(net, "_chain")
  if not chain then return net end
  local layers = {}
  for i, name in ipairs(chain) do layers[i] = net[name] end
  return layers
end

local function run_layers(layers, first, last)
  return function(...)
    local x = layers[first](...)
    for i = first + 1, last do x = layers[i](x) end
    return x
  end
end

--- Runs a Sequential, or a list of layers and functions, in so many segments, all but the last as
-- checkpoints; about the square root of the number of layers saves most.
-- @param net the chain
-- @int segments from 1 to the number of layers
-- @usage local nn = moon.nn
-- local net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.ReLU())
-- moon.checkpoint_sequential(net, 2, moon.ones(1, 2)):sum():backward()
-- assert(net[1].weight.grad ~= nil)
-- @function moon.checkpoint_sequential(net, segments, ...)
return function(net, segments, ...)
  local layers = layers_of(net)
  if type(layers) ~= "table" or #layers == 0 then
    error("checkpoint_sequential: expected a Sequential or a list of layers, got "
      .. options.show(net), 2)
  end
  options.argument("checkpoint_sequential", "segments", segments, "positive", 2)
  if segments > #layers then
    error(("checkpoint_sequential: %d segments are more than the %d layers"):format(
      segments, #layers), 2)
  end
  local length, values = math.floor(#layers / segments), { ... }
  local n = select("#", ...)
  for k = 1, segments do
    local first = (k - 1) * length + 1
    if k == segments then return run_layers(layers, first, #layers)(unpack(values, 1, n)) end
    values, n = { checkpoint(run_layers(layers, first, first + length - 1),
      unpack(values, 1, n)) }, 1
  end
end
