-- Residual networks for small pictures (He, Zhang, Ren and Sun 2016, section 4.2): a 3x3
-- convolution, three stages of n blocks with 16, 32 and 64 channels, each stage but the first at
-- half the size, the mean of what is left, and a linear layer: 6 n + 2 layers deep. Where the shape
-- changes, a 1x1 convolution goes around.

local options = require "moonlet.options"
local nn = require "moonlet.nn"

local function convolution(inputs, outputs, kernel, stride)
  return nn.Conv2d(inputs, outputs, kernel,
    { stride = stride, padding = math.floor(kernel / 2), bias = false })
end

local function block(inputs, outputs, stride)
  local body = nn.Sequential(
    convolution(inputs, outputs, 3, stride), nn.BatchNorm2d(outputs), nn.ReLU(),
    convolution(outputs, outputs, 3, 1), nn.BatchNorm2d(outputs))
  local shortcut
  if stride ~= 1 or inputs ~= outputs then
    shortcut = nn.Sequential(convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))
  end
  return nn.Sequential(nn.Residual(body, shortcut), nn.ReLU())
end

--- Builds a residual network for pictures of 32 x 32 or so.
-- @tparam ?table given depth = 20 (6 n + 2), classes = 10, in_channels = 3, width = 16 (channels of
-- the first stage)
-- @usage local moon = require "moonlet"
-- local net = moon.models.resnet { depth = 8 }
-- assert(net(moon.zeros(2, 3, 32, 32)):size(2) == 10)
return function(given)
  local o = options.read("models.resnet", given, {
    depth = { "positive", 20 }, classes = { "positive", 10 }, in_channels = { "positive", 3 },
    width = { "positive", 16 },
  }, 3)
  if o.depth < 8 or (o.depth - 2) % 6 ~= 0 then
    error(("models.resnet: depth must be 6 n + 2, such as 8, 20 or 32, not %d"):format(o.depth), 2)
  end
  local net = nn.Sequential(
    convolution(o.in_channels, o.width, 3, 1), nn.BatchNorm2d(o.width), nn.ReLU())
  local channels, outputs = o.width, o.width
  for stage = 1, 3 do
    if stage > 1 then outputs = 2 * outputs end
    for i = 1, math.floor((o.depth - 2) / 6) do
      net:add(block(channels, outputs, i == 1 and stage > 1 and 2 or 1))
      channels = outputs
    end
  end
  return net:add(nn.AdaptiveAvgPool2d(1)):add(nn.Flatten()):add(nn.Linear(channels, o.classes))
end
