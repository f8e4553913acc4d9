-- AlexNet for pictures of 227 x 227 (or 224), in two forms.
--
-- "2012": Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural
-- networks": local response normalisation, and three of the convolutions in two groups, which were
-- the two graphics cards.
-- "2014": Krizhevsky, "One weird trick for parallelizing convolutional neural networks", without
-- either; torchvision's alexnet.

local options = require "moonlet.options"
local nn = require "moonlet.nn"

-- The paper's n = 5, k = 2, alpha = 1e-4, where alpha is not divided by n.
local function normalisation()
  return nn.LocalResponseNorm(5, { k = 2, alpha = 5 * 1e-4, beta = 0.75 })
end

local function pooling() return nn.MaxPool2d(3, { stride = 2 }) end

local function features_2012(inputs)
  return nn.Sequential(
    nn.Conv2d(inputs, 96, 11, { stride = 4 }), nn.ReLU(), normalisation(), pooling(),
    nn.Conv2d(96, 256, 5, { padding = 2, groups = 2 }), nn.ReLU(), normalisation(), pooling(),
    nn.Conv2d(256, 384, 3, { padding = 1 }), nn.ReLU(),
    nn.Conv2d(384, 384, 3, { padding = 1, groups = 2 }), nn.ReLU(),
    nn.Conv2d(384, 256, 3, { padding = 1, groups = 2 }), nn.ReLU(), pooling())
end

local function features_2014(inputs)
  return nn.Sequential(
    nn.Conv2d(inputs, 64, 11, { stride = 4, padding = 2 }), nn.ReLU(), pooling(),
    nn.Conv2d(64, 192, 5, { padding = 2 }), nn.ReLU(), pooling(),
    nn.Conv2d(192, 384, 3, { padding = 1 }), nn.ReLU(),
    nn.Conv2d(384, 256, 3, { padding = 1 }), nn.ReLU(),
    nn.Conv2d(256, 256, 3, { padding = 1 }), nn.ReLU(), pooling())
end

local forms = { ["2012"] = features_2012, ["2014"] = features_2014 }

local CHANNELS, SIDE = 256, 6   -- what the features give

--- Builds AlexNet.
-- @tparam ?table given form = "2014" or "2012", classes = 1000, in_channels = 3, hidden = 4096,
-- dropout = 0.5
-- @usage local moon = require "moonlet"
-- local net = moon.models.alexnet { form = "2012", classes = 10, hidden = 16 }
-- assert(net(moon.zeros(1, 3, 227, 227)):size(2) == 10)
return function(given)
  local o = options.read("models.alexnet", given, {
    form = { { "2012", "2014" }, "2014" }, classes = { "positive", 1000 },
    in_channels = { "positive", 3 }, hidden = { "positive", 4096 }, dropout = { "number", 0.5 },
  }, 3)
  return nn.Sequential()
    :add("features", forms[o.form](o.in_channels))
    :add("avgpool", nn.AdaptiveAvgPool2d(SIDE))
    :add("flatten", nn.Flatten())
    :add("classifier", nn.Sequential(
      nn.Dropout(o.dropout), nn.Linear(CHANNELS * SIDE * SIDE, o.hidden), nn.ReLU(),
      nn.Dropout(o.dropout), nn.Linear(o.hidden, o.hidden), nn.ReLU(),
      nn.Linear(o.hidden, o.classes)))
end
