-- LeNet-5 (LeCun, Bottou, Bengio, Haffner 1998) for 32 x 32 grey pictures, as it is usually built
-- today: average pooling, tanh, full connections between the convolutions.

local options = require "moonlet.options"
local nn = require "moonlet.nn"

--- Builds LeNet-5.
-- @tparam ?table given classes = 10, in_channels = 1
-- @usage local moon = require "moonlet"
-- assert(moon.models.lenet()(moon.zeros(1, 1, 32, 32)):size(2) == 10)
return function(given)
  local o = options.read("models.lenet", given,
    { classes = { "positive", 10 }, in_channels = { "positive", 1 } }, 3)
  return nn.Sequential(
    nn.Conv2d(o.in_channels, 6, 5), nn.Tanh(), nn.AvgPool2d(2),
    nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2),
    nn.Conv2d(16, 120, 5), nn.Tanh(), nn.Flatten(),
    nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, o.classes))
end
