-- The classic small network for 28 x 28 grey pictures: two 3x3 convolutions of 32 channels,
-- pooling, a dense layer of 128, dropout 0.5 before the last layer and half of that after the
-- pooling.

local options = require "moonlet.options"
local nn = require "moonlet.nn"

--- Builds the network.
-- @tparam ?table given classes = 10, in_channels = 1, dropout = 0.5
-- @usage local moon = require "moonlet"
-- assert(moon.models.mnist_cnn()(moon.zeros(1, 1, 28, 28)):size(2) == 10)
return function(given)
  local o = options.read("models.mnist_cnn", given, {
    classes = { "positive", 10 }, in_channels = { "positive", 1 }, dropout = { "fraction", 0.5 },
  }, 3)
  return nn.Sequential(
    nn.Conv2d(o.in_channels, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(),
    nn.MaxPool2d(2), nn.Dropout(o.dropout / 2), nn.Flatten(),
    nn.Linear(32 * 12 * 12, 128), nn.ReLU(), nn.Dropout(o.dropout), nn.Linear(128, o.classes))
end
