-- VGG: the six configurations of Simonyan and Zisserman, "Very deep convolutional networks for
-- large-scale image recognition" (2014), table 1: stacks of 3x3 convolutions (and 1x1 in C) with
-- ReLU, five 2x2 max poolings, three fully connected layers with dropout.
--
-- `width` scales the channels, `image` is the height and width of the input (a multiple of 32).

local options = require "moonlet.options"
local nn = require "moonlet.nn"

local M = {}

local POOL = "pool"

local function conv(channels) return { channels = channels, kernel = 3 } end
local function conv1(channels) return { channels = channels, kernel = 1 } end

--- The columns of the paper's table 1 up to the fully connected layers.
M.configurations = {
  A = {
    conv(64), POOL, conv(128), POOL, conv(256), conv(256), POOL,
    conv(512), conv(512), POOL, conv(512), conv(512), POOL,
  },
  ["A-LRN"] = {
    conv(64), "lrn", POOL, conv(128), POOL, conv(256), conv(256), POOL,
    conv(512), conv(512), POOL, conv(512), conv(512), POOL,
  },
  B = {
    conv(64), conv(64), POOL, conv(128), conv(128), POOL, conv(256), conv(256), POOL,
    conv(512), conv(512), POOL, conv(512), conv(512), POOL,
  },
  C = {
    conv(64), conv(64), POOL, conv(128), conv(128), POOL,
    conv(256), conv(256), conv1(256), POOL,
    conv(512), conv(512), conv1(512), POOL, conv(512), conv(512), conv1(512), POOL,
  },
  D = {
    conv(64), conv(64), POOL, conv(128), conv(128), POOL,
    conv(256), conv(256), conv(256), POOL,
    conv(512), conv(512), conv(512), POOL, conv(512), conv(512), conv(512), POOL,
  },
  E = {
    conv(64), conv(64), POOL, conv(128), conv(128), POOL,
    conv(256), conv(256), conv(256), conv(256), POOL,
    conv(512), conv(512), conv(512), conv(512), POOL,
    conv(512), conv(512), conv(512), conv(512), POOL,
  },
}

local POOLINGS = 5
local HIDDEN = 4096

-- Krizhevsky et al. 2012: k = 2, n = 5, alpha = 1e-4, beta = 0.75, where alpha is not divided by n.
local LRN_WINDOW = 5
local LRN_OPTIONS = { k = 2, alpha = 1e-4 * LRN_WINDOW, beta = 0.75 }

local schema = {
  config = { { "A", "A-LRN", "B", "C", "D", "E" }, "A" }, width = { "number", 1 },
  classes = { "positive", 1000 }, in_channels = { "positive", 3 }, image = { "positive", 224 },
  batch_norm = { "boolean", false }, dropout = { "number", 0.5 }, hidden = { "positive" },
}

local function scaled(channels, width) return math.max(1, math.floor(channels * width + 0.5)) end

local function add_convolution(features, row, inputs, o)
  local outputs = scaled(row.channels, o.width)
  features:add(nn.Conv2d(inputs, outputs, row.kernel, {
    padding = row.kernel == 3 and 1 or 0, bias = not o.batch_norm,
  }))
  if o.batch_norm then features:add(nn.BatchNorm2d(outputs)) end
  features:add(nn.ReLU())
  return outputs
end

local function make_features(o)
  local features, channels = nn.Sequential(), o.in_channels
  for _, row in ipairs(M.configurations[o.config]) do
    if row == POOL then
      features:add(nn.MaxPool2d(2))
    elseif row == "lrn" then
      features:add(nn.LocalResponseNorm(LRN_WINDOW, LRN_OPTIONS))
    else
      channels = add_convolution(features, row, channels, o)
    end
  end
  return features, channels
end

local function make_classifier(o, channels)
  local side = math.floor(o.image / 2 ^ POOLINGS)
  local hidden = o.hidden or scaled(HIDDEN, o.width)
  return nn.Sequential(
    nn.Linear(channels * side * side, hidden), nn.ReLU(), nn.Dropout(o.dropout),
    nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(o.dropout),
    nn.Linear(hidden, o.classes))
end

local LAST_DEVIATION = 0.01   -- the paper's; the first losses are then near log(classes)

-- The paper started deep nets from shallow ones; He et al. 2015 made that unnecessary.
local function set_weights(net)
  net:apply(function(module)
    if module:is(nn.Conv2d) or module:is(nn.Linear) then
      nn.init.kaiming_normal(module.weight)
      if module.bias then nn.init.zeros(module.bias) end
    end
  end)
  local classifier = net.classifier
  nn.init.normal(classifier[classifier:size()].weight, 0, LAST_DEVIATION)
end

local function build(given)
  local o = options.read("models.vgg", given, schema, 5)
  if o.image % 2 ^ POOLINGS ~= 0 then
    error(("models.vgg: image = %d must be a multiple of 32, for the five poolings"):format(
      o.image), 4)
  end
  if o.width <= 0 then error("models.vgg: width must be above 0", 4) end
  local features, channels = make_features(o)
  local net = nn.Sequential()
  net:add("features", features)
  net:add("flatten", nn.Flatten())
  net:add("classifier", make_classifier(o, channels))
  set_weights(net)
  return net
end

--- Builds a VGG: models.vgg { config = "A" }.
-- @function vgg
-- @tparam ?table given config = "A" (A, A-LRN, B, C, D, E), width = 1, classes = 1000,
-- in_channels = 3, image = 224, batch_norm = false, dropout = 0.5, hidden = 4096 * width
-- @usage local moon = require "moonlet"
-- local net = moon.models.vgg { config = "A", width = 1 / 16, classes = 10, image = 32 }
-- assert(net(moon.zeros(1, 3, 32, 32)):size(2) == 10)
return setmetatable(M, { __call = function(_, given) return build(given) end })
