-- MobileNet v2 (Sandler, Howard, Zhu, Zhmoginov and Chen 2018, "MobileNetV2: inverted residuals and
-- linear bottlenecks"), table 2: blocks that widen by a 1x1 convolution, filter each channel by a
-- 3x3 one of its own, and narrow again without activation; where the shape stays, x goes around.

local options = require "moonlet.options"
local nn = require "moonlet.nn"

-- The paper's t (widening), c (channels), n (blocks), s (stride of the first one).
local rows = {
  { 1, 16, 1, 1 }, { 6, 24, 2, 2 }, { 6, 32, 3, 2 }, { 6, 64, 4, 2 }, { 6, 96, 3, 1 },
  { 6, 160, 3, 2 }, { 6, 320, 1, 1 },
}

local FIRST, LAST = 32, 1280   -- channels before and after the blocks
local DIVISOR = 8              -- of every number of channels

local function scaled(channels, width)
  local wanted = channels * width
  local rounded = math.max(DIVISOR, math.floor(wanted / DIVISOR + 0.5) * DIVISOR)
  return rounded < 0.9 * wanted and rounded + DIVISOR or rounded
end

local function convolution(inputs, outputs, kernel, stride, groups)
  return nn.Sequential(
    nn.Conv2d(inputs, outputs, kernel, {
      stride = stride or 1, padding = math.floor(kernel / 2), groups = groups or 1, bias = false,
    }),
    nn.BatchNorm2d(outputs), nn.ReLU6())
end

local InvertedResidual = nn.Module:extend "InvertedResidual"

function InvertedResidual:init(inputs, outputs, stride, widening)
  local middle = inputs * widening
  self.conv = nn.Sequential()
  if widening > 1 then self.conv:add(convolution(inputs, middle, 1)) end
  self.conv:add(convolution(middle, middle, 3, stride, middle))
    :add(nn.Conv2d(middle, outputs, 1, { bias = false })):add(nn.BatchNorm2d(outputs))
  rawset(self, "around", stride == 1 and inputs == outputs)
end

function InvertedResidual:forward(x)
  return nn.conv_chain(self.conv, x, self.around and x or nil)
end

local function make_features(o)
  local channels = scaled(FIRST, o.width)
  local features = nn.Sequential(convolution(o.in_channels, channels, 3, 2))
  for _, row in ipairs(rows) do
    local widening, count, stride = row[1], row[3], row[4]
    local outputs = scaled(row[2], o.width)
    for i = 1, count do
      features:add(InvertedResidual(channels, outputs, i == 1 and stride or 1, widening))
      channels = outputs
    end
  end
  local last = scaled(LAST, math.max(1, o.width))
  return features:add(convolution(channels, last, 1)), last
end

--- Builds MobileNet v2 for pictures of 224 x 224.
-- @tparam ?table given width = 1 (factor on the channels), classes = 1000, in_channels = 3,
-- dropout = 0.2
-- @usage local moon = require "moonlet"
-- local net = moon.models.mobilenet { width = 0.25, classes = 10 }
-- assert(net(moon.zeros(1, 3, 64, 64)):size(2) == 10)
return function(given)
  local o = options.read("models.mobilenet", given, {
    width = { "above_zero", 1 }, classes = { "positive", 1000 }, in_channels = { "positive", 3 },
    dropout = { "number", 0.2 },
  }, 3)
  local features, channels = make_features(o)
  return nn.Sequential():add("features", features)
    :add("avgpool", nn.AdaptiveAvgPool2d(1)):add("flatten", nn.Flatten())
    :add("classifier", nn.Sequential(nn.Dropout(o.dropout), nn.Linear(channels, o.classes)))
end
