-- U-Net (Ronneberger, Fischer and Brox 2015, "U-Net: convolutional networks for biomedical image
-- segmentation"): two 3x3 convolutions a level, the size halved and the channels doubled four times
-- on the way down; on the way up a 2x2 transposed convolution, joined by what that level had on the
-- way down. As it is mostly built since: padded, so that the output is as large as the input, which
-- must be a multiple of 2^depth, and with batch normalisation.

local moon = require "moonlet.core"
local options = require "moonlet.options"
local nn = require "moonlet.nn"

local function double_convolution(inputs, outputs)
  local block = nn.Sequential()
  for _, channels in ipairs { inputs, outputs } do
    block:add(nn.Conv2d(channels, outputs, 3, { padding = 1, bias = false }))
      :add(nn.BatchNorm2d(outputs)):add(nn.ReLU())
  end
  return block
end

local UNet = nn.Module:extend "UNet"

function UNet:init(o)
  self.down, self.up, self.join = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
  local channels = o.width
  self.first = double_convolution(o.in_channels, channels)
  for _ = 1, o.depth do
    self.down:add(nn.Sequential(nn.MaxPool2d(2), double_convolution(channels, 2 * channels)))
    channels = 2 * channels
  end
  for _ = 1, o.depth do
    local half = channels / 2
    self.up:add(nn.ConvTranspose2d(channels, half, 2, { stride = 2 }))
    self.join:add(double_convolution(channels, half))
    channels = half
  end
  self.last = nn.Conv2d(channels, o.classes, 1)
  rawset(self, "depth", o.depth)
end

function UNet:forward(x)
  local levels = { self.first(x) }
  for i = 1, self.depth do levels[i + 1] = self.down[i](levels[i]) end
  local y = levels[self.depth + 1]
  for i = 1, self.depth do
    y = self.join[i](moon.cat({ levels[self.depth + 1 - i], self.up[i](y) }, 2))
  end
  return self.last(y)
end

--- Builds a U-Net: scores of each class at every pixel.
-- @tparam ?table given classes = 2, in_channels = 3, width = 64 (channels of the first level),
-- depth = 4 (times the size is halved)
-- @usage local moon = require "moonlet"
-- local net = moon.models.unet { width = 4, classes = 3 }
-- assert(net(moon.zeros(1, 3, 32, 32)):size(4) == 32)
return function(given)
  return UNet(options.read("models.unet", given, {
    classes = { "positive", 2 }, in_channels = { "positive", 3 }, width = { "positive", 64 },
    depth = { "positive", 4 },
  }, 3))
end
