-- Residual networks (He, Zhang, Ren and Sun 2016, "Deep residual learning for image recognition").
--
-- "cifar" (section 4.2), for small pictures: a 3x3 convolution, three stages of n blocks with 16,
-- 32 and 64 channels, each stage but the first at half the size: 6 n + 2 layers deep.
-- "imagenet" (table 1): a 7x7 convolution and a pooling, then four stages; from 50 layers on blocks
-- are bottlenecks, whose middle convolution has the stride, as torchvision's.
--
-- Both end in the mean of what is left and a linear layer. Where a block changes the shape, a 1x1
-- convolution goes around it.

local options = require "moonlet.options"
local nn = require "moonlet.nn"

local function convolution(inputs, outputs, kernel, stride)
  return nn.Conv2d(inputs, outputs, kernel,
    { stride = stride, padding = math.floor(kernel / 2), bias = false })
end

local function projection(inputs, outputs, stride)
  if stride == 1 and inputs == outputs then return nil end
  return nn.Sequential(convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))
end

local RELU = { activation = "relu" }   -- done in the pass of the normalisation

local BasicBlock = nn.Module:extend "BasicBlock"
BasicBlock.expansion = 1

function BasicBlock:init(inputs, width, stride)
  self.conv1, self.bn1 = convolution(inputs, width, 3, stride), nn.BatchNorm2d(width)
  self.conv2, self.bn2 = convolution(width, width, 3, 1), nn.BatchNorm2d(width)
  self.downsample = projection(inputs, width, stride)
end

function BasicBlock:forward(x)
  local y = nn.conv_norm(self.conv1, self.bn1, x, RELU)
  local around = self.downsample and self.downsample(x) or x
  return nn.conv_norm(self.conv2, self.bn2, y, { add = around, activation = "relu" })
end

local Bottleneck = nn.Module:extend "Bottleneck"
Bottleneck.expansion = 4

function Bottleneck:init(inputs, width, stride)
  local outputs = width * Bottleneck.expansion
  self.conv1, self.bn1 = convolution(inputs, width, 1, 1), nn.BatchNorm2d(width)
  self.conv2, self.bn2 = convolution(width, width, 3, stride), nn.BatchNorm2d(width)
  self.conv3, self.bn3 = convolution(width, outputs, 1, 1), nn.BatchNorm2d(outputs)
  self.downsample = projection(inputs, outputs, stride)
end

function Bottleneck:forward(x)
  local y = nn.conv_norm(self.conv1, self.bn1, x, RELU)
  y = nn.conv_norm(self.conv2, self.bn2, y, RELU)
  local around = self.downsample and self.downsample(x) or x
  return nn.conv_norm(self.conv3, self.bn3, y, { add = around, activation = "relu" })
end

-- Adds the stages, then the head: blocks[i] blocks in stage i, each stage twice as wide.
local function add_stages(net, Block, blocks, o)
  local channels = o.width
  for stage, count in ipairs(blocks) do
    local width, layer = o.width * 2 ^ (stage - 1), nn.Sequential()
    for i = 1, count do
      layer:add(Block(channels, width, i == 1 and stage > 1 and 2 or 1))
      channels = width * Block.expansion
    end
    net:add("layer" .. stage, layer)
  end
  return net:add("avgpool", nn.AdaptiveAvgPool2d(1)):add("flatten", nn.Flatten())
    :add("fc", nn.Linear(channels, o.classes))
end

local function stem(o, kernel, stride)
  return nn.Sequential()
    :add("conv1", convolution(o.in_channels, o.width, kernel, stride))
    :add("bn1", nn.BatchNorm2d(o.width)):add("relu", nn.ReLU())
end

local forms = {}

function forms.cifar(o)
  if o.depth < 8 or (o.depth - 2) % 6 ~= 0 then
    error(("models.resnet: depth must be 6 n + 2, such as 8, 20 or 32, not %d"):format(o.depth), 3)
  end
  local n = (o.depth - 2) / 6
  return add_stages(stem(o, 3, 1), BasicBlock, { n, n, n }, o)
end

local imagenet = {
  [18] = { BasicBlock, { 2, 2, 2, 2 } }, [34] = { BasicBlock, { 3, 4, 6, 3 } },
  [50] = { Bottleneck, { 3, 4, 6, 3 } }, [101] = { Bottleneck, { 3, 4, 23, 3 } },
  [152] = { Bottleneck, { 3, 8, 36, 3 } },
}

function forms.imagenet(o)
  local row = imagenet[o.depth]
  if not row then
    error(("models.resnet: depth must be 18, 34, 50, 101 or 152 in this form, not %d"):format(
      o.depth), 3)
  end
  local net = stem(o, 7, 2):add("maxpool", nn.MaxPool2d(3, { stride = 2, padding = 1 }))
  return add_stages(net, row[1], row[2], o)
end

local defaults = {
  cifar = { depth = 20, classes = 10, width = 16 },
  imagenet = { depth = 50, classes = 1000, width = 64 },
}

--- Builds a residual network.
-- @tparam ?table given form = "cifar" or "imagenet", depth = 20 (6 n + 2) or 50 (18, 34, 50, 101,
-- 152), classes = 10 or 1000, in_channels = 3, width = 16 or 64 (channels of the first stage)
-- @usage local moon = require "moonlet"
-- local small = moon.models.resnet { depth = 8 }
-- assert(small(moon.zeros(2, 3, 32, 32)):size(2) == 10)
-- local large = moon.models.resnet { form = "imagenet", depth = 18, width = 8 }
-- assert(large(moon.zeros(2, 3, 64, 64)):size(2) == 1000)
return function(given)
  local o = options.read("models.resnet", given, {
    form = { { "cifar", "imagenet" }, "cifar" }, depth = { "positive" },
    classes = { "positive" }, in_channels = { "positive", 3 }, width = { "positive" },
  }, 3)
  for name, value in pairs(defaults[o.form]) do o[name] = o[name] or value end
  return forms[o.form](o)
end
