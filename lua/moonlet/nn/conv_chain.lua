-- conv_chain: a Sequential of convolutions, each with its batch normalisation and perhaps an
-- activation, without what lies between them in memory: y = net(x) + add.
--
-- Off the tape and with given statistics the whole is one operator, conv2d_chain, that takes large
-- maps through all convolutions a band of rows at a time. Otherwise, and where a module is not
-- plain (conv_norm.lua), it is the modules one by one.

local core = require "moonlet.core"
local conv_norm = require "moonlet.nn.conv_norm"
local folded = require "moonlet.nn.folded"
local profile_calls = require "moonlet.profile.calls"
local Sequential = require "moonlet.nn.sequential"

-- The modules inside of Sequentials, in order; nil where one of those is watched.
local function flatten(net, list)
  if not conv_norm.is_plain(net, Sequential) then return nil end
  for i = 1, net:size() do
    local child = net[i]
    if getmetatable(child) ~= Sequential then list[#list + 1] = child
    elseif not flatten(child, list) then return nil end
  end
  return list
end

-- The one number of a setting that is the same in both dimensions.
local function single(value)
  if type(value) ~= "table" then return type(value) == "number" and value or nil end
  return type(value[1]) == "number" and value[1] == (value[2] or value[1]) and value[1] or nil
end

-- Reads convolution, normalisation and activation from place i on into `call`; the place behind
-- them, or nil where they do not fit.
local function add_layer(call, modules, i, x)
  local conv, norm, after = modules[i], modules[i + 1], modules[i + 2]
  if not (conv_norm.takes_more(conv, x) and norm and conv_norm.is_linear(norm)) then return nil end
  local stride, padding = single(conv.stride), single(conv.padding)
  if not stride or not padding or padding >= math.min(conv.weight:size(3), conv.weight:size(4))
    or single(conv.dilation) ~= 1 then
    return nil
  end
  local n = #call.weights + 1
  call.weights[n], call.strides[n], call.paddings[n] = conv.weight, stride, padding
  call.groups[n] = conv.groups
  call.scales[n], call.biases[n] = folded(norm, conv.bias)
  local activation = conv_norm.activation_of(after)
  call.activations[n] = activation or "none"
  return i + (activation and 3 or 2)
end

local MOST = 8   -- convolutions of the operator

-- The operator's arguments, or nil. All activations but the last must be the same, and the last
-- would come after what is added.
local function read(net, x, add)
  local modules = flatten(net, {})
  if not modules then return nil end
  local call = { weights = {}, scales = {}, biases = {}, strides = {}, paddings = {}, groups = {},
                 activations = {} }
  local i = 1
  while i <= #modules do
    i = add_layer(call, modules, i, x)
    if not i then return nil end
  end
  local count = #call.weights
  if count == 0 or count > MOST or add and call.activations[count] ~= "none" then return nil end
  for k = 2, count - 1 do
    if call.activations[k] ~= call.activations[1] then return nil end
  end
  return call
end

local function run(_, call, x, add)
  local count = #call.weights
  return core.conv2d_chain(x, call.weights, call.scales, call.biases, call.strides, call.paddings,
    call.groups, count > 1 and call.activations[1] or "none", call.activations[count], add)
end

--- net(x) + add.
-- @tparam Sequential net of Conv2d, BatchNorm2d and perhaps ReLU or ReLU6, once or more often
-- @tparam Tensor x (n, c, h, w)
-- @tparam ?Tensor add of the result's shape
-- @usage local moon = require "moonlet"
-- local nn = moon.nn
-- local net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU())
-- assert(nn.conv_chain(net, moon.randn(2, 3, 8, 8)):min():item() == 0)
return function(net, x, add)
  local call = not core.is_grad_enabled() and read(net, x, add)
  if call then
    return profile_calls.run(run, net, call, x, add)
  end
  local y = net(x)
  return add and y:add(add) or y
end
