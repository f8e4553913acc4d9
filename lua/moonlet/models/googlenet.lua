-- GoogLeNet (Szegedy et al. 2015, "Going deeper with convolutions") as torchvision has it: a batch
-- normalisation after every convolution, 3x3 where the paper's inception blocks have 5x5, and on
-- request the two auxiliary classifiers, which only training sees.

local moon = require "moonlet.core"
local options = require "moonlet.options"
local nn = require "moonlet.nn"

-- The paper's table 1 from the inception blocks on: 1x1; 3x3 reduced, 3x3; 5x5 reduced, 5x5; what
-- follows the pooling.
local rows = {
  { "inception3a", 64, 96, 128, 16, 32, 32 },
  { "inception3b", 128, 128, 192, 32, 96, 64 },
  { "maxpool3", window = 3 },
  { "inception4a", 192, 96, 208, 16, 48, 64 },
  { "inception4b", 160, 112, 224, 24, 64, 64 },
  { "inception4c", 128, 128, 256, 24, 64, 64 },
  { "inception4d", 112, 144, 288, 32, 64, 64 },
  { "inception4e", 256, 160, 320, 32, 128, 128 },
  { "maxpool4", window = 2 },
  { "inception5a", 256, 160, 320, 32, 128, 128 },
  { "inception5b", 384, 192, 384, 48, 128, 128 },
}

local AUXILIARY_AFTER = { inception4a = "aux1", inception4d = "aux2" }
local EPS = 1e-3   -- of the batch normalisations

local function pooling(window, stride, padding)
  return nn.MaxPool2d(window, { stride = stride, padding = padding or 0, ceil_mode = true })
end

local function convolution(inputs, outputs, kernel, given)
  given = given or {}
  given.bias = false
  return nn.Sequential()
    :add("conv", nn.Conv2d(inputs, outputs, kernel, given))
    :add("bn", nn.BatchNorm2d(outputs, { eps = EPS }))
    :add("relu", nn.ReLU())
end

local function padded(inputs, outputs)
  return convolution(inputs, outputs, 3, { padding = 1 })
end

local Inception = nn.Module:extend "Inception"

function Inception:init(inputs, row)
  self.branch1 = convolution(inputs, row[2], 1)
  self.branch2 = nn.Sequential(convolution(inputs, row[3], 1), padded(row[3], row[4]))
  self.branch3 = nn.Sequential(convolution(inputs, row[5], 1), padded(row[5], row[6]))
  self.branch4 = nn.Sequential(pooling(3, 1, 1), convolution(inputs, row[7], 1))
  rawset(self, "outputs", row[2] + row[4] + row[6] + row[7])
end

function Inception:forward(x)
  return moon.cat({ self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x) }, 2)
end

local function auxiliary(inputs, classes)
  return nn.Sequential()
    :add("avgpool", nn.AdaptiveAvgPool2d(4))
    :add("conv", convolution(inputs, 128, 1))
    :add("flatten", nn.Flatten())
    :add("fc1", nn.Linear(128 * 4 * 4, 1024)):add("relu", nn.ReLU())
    :add("dropout", nn.Dropout(0.7)):add("fc2", nn.Linear(1024, classes))
end

local GoogLeNet = nn.Module:extend "GoogLeNet"

-- Children are kept under the name that `chain` lists, in the order in which they are called.
function GoogLeNet:append(name, child)
  self[name] = child
  self.chain[#self.chain + 1] = name
end

function GoogLeNet:init(o)
  rawset(self, "chain", {})
  self:append("conv1", convolution(o.in_channels, 64, 7, { stride = 2, padding = 3 }))
  self:append("maxpool1", pooling(3, 2))
  self:append("conv2", convolution(64, 64, 1))
  self:append("conv3", padded(64, 192))
  self:append("maxpool2", pooling(3, 2))
  local channels, heads = 192, {}
  for _, row in ipairs(rows) do
    if row.window then
      self:append(row[1], pooling(row.window, 2))
    else
      self:append(row[1], Inception(channels, row))
      channels = self[row[1]].outputs
    end
    local head = AUXILIARY_AFTER[row[1]]
    if head then heads[head] = channels end
  end
  if o.auxiliary then
    self.aux1 = auxiliary(heads.aux1, o.classes)
    self.aux2 = auxiliary(heads.aux2, o.classes)
  end
  self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(o.dropout))
  self.fc = nn.Linear(channels, o.classes)
end

--- The scores; in training with auxiliary classifiers also theirs, the earlier one first.
function GoogLeNet:forward(x)
  local side = {}
  for _, name in ipairs(self.chain) do
    x = self[name](x)
    local head = self.training and AUXILIARY_AFTER[name]
    if head and self[head] then side[#side + 1] = self[head](x) end
  end
  return self.fc(self.head(x)), side[1], side[2]
end

--- Builds GoogLeNet for pictures of 224 x 224.
-- @tparam ?table given classes = 1000, in_channels = 3, dropout = 0.2, auxiliary = false
-- @usage local moon = require "moonlet"
-- local net = moon.models.googlenet { classes = 10, auxiliary = true }
-- local scores, early, late = net(moon.zeros(2, 3, 64, 64))
-- assert(scores:size(2) == 10 and early:size(2) == 10 and late:size(2) == 10)
return function(given)
  return GoogLeNet(options.read("models.googlenet", given, {
    classes = { "positive", 1000 }, in_channels = { "positive", 3 }, dropout = { "number", 0.2 },
    auxiliary = { "boolean", false },
  }, 3))
end
