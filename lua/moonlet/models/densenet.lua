-- DenseNet (Huang, Liu, van der Maaten and Weinberger 2017, "Densely connected convolutional
-- networks"), table 1: in a dense block every layer reads what all layers before it wrote and adds
-- `growth` channels; transitions between blocks halve channels and size. DenseNet-BC: a 1x1
-- convolution to 4 growth channels stands before every 3x3.

local moon = require "moonlet.core"
local options = require "moonlet.options"
local nn = require "moonlet.nn"

local depths = {
  [121] = { 6, 12, 24, 16 }, [169] = { 6, 12, 32, 32 }, [201] = { 6, 12, 48, 32 },
}

local BOTTLENECK = 4   -- channels of the 1x1 convolution in units of growth

local function convolution(inputs, outputs, kernel, stride)
  return nn.Conv2d(inputs, outputs, kernel,
    { stride = stride or 1, padding = math.floor(kernel / 2), bias = false })
end

local function dense_layer(inputs, growth)
  local middle = BOTTLENECK * growth
  return nn.Sequential()
    :add("norm1", nn.BatchNorm2d(inputs)):add("relu1", nn.ReLU())
    :add("conv1", convolution(inputs, middle, 1))
    :add("norm2", nn.BatchNorm2d(middle)):add("relu2", nn.ReLU())
    :add("conv2", convolution(middle, growth, 3))
end

local DenseBlock = nn.Module:extend "DenseBlock"

function DenseBlock:init(inputs, layers, growth)
  rawset(self, "layers", layers)
  rawset(self, "growth", growth)
  for i = 1, layers do
    self["denselayer" .. i] = dense_layer(inputs + (i - 1) * growth, growth)
  end
end

-- Every feature is written once: behind those before it, into room made at the start.
function DenseBlock:forward(x)
  x = moon.reserve(x, self.layers * self.growth)
  for i = 1, self.layers do x = moon.append(x, self["denselayer" .. i](x)) end
  return x
end

local function transition(inputs, outputs)
  return nn.Sequential()
    :add("norm", nn.BatchNorm2d(inputs)):add("relu", nn.ReLU())
    :add("conv", convolution(inputs, outputs, 1)):add("pool", nn.AvgPool2d(2))
end

local function make_features(o)
  local channels = 2 * o.growth
  local features = nn.Sequential()
    :add("conv0", convolution(o.in_channels, channels, 7, 2))
    :add("norm0", nn.BatchNorm2d(channels)):add("relu0", nn.ReLU())
    :add("pool0", nn.MaxPool2d(3, { stride = 2, padding = 1 }))
  local blocks = depths[o.depth]
  for i, layers in ipairs(blocks) do
    features:add("denseblock" .. i, DenseBlock(channels, layers, o.growth))
    channels = channels + layers * o.growth
    if i < #blocks then
      features:add("transition" .. i, transition(channels, math.floor(channels / 2)))
      channels = math.floor(channels / 2)
    end
  end
  return features:add("norm5", nn.BatchNorm2d(channels)):add("relu5", nn.ReLU()), channels
end

--- Builds a DenseNet for pictures of 224 x 224.
-- @tparam ?table given depth = 121 (or 169, 201), growth = 32, classes = 1000, in_channels = 3
-- @usage local moon = require "moonlet"
-- local net = moon.models.densenet { growth = 4, classes = 10 }
-- assert(net(moon.zeros(1, 3, 64, 64)):size(2) == 10)
return function(given)
  local o = options.read("models.densenet", given, {
    depth = { "positive", 121 }, growth = { "positive", 32 }, classes = { "positive", 1000 },
    in_channels = { "positive", 3 },
  }, 3)
  if not depths[o.depth] then
    error(("models.densenet: depth must be 121, 169 or 201, not %d"):format(o.depth), 2)
  end
  local features, channels = make_features(o)
  return nn.Sequential():add("features", features)
    :add("avgpool", nn.AdaptiveAvgPool2d(1)):add("flatten", nn.Flatten())
    :add("classifier", nn.Linear(channels, o.classes))
end
