-- DepthwiseSeparableConv2d: a kernel for each channel, then a 1x1 convolution that mixes them
-- (Chollet 2017): kh kw + out weights a channel where a Conv2d has kh kw out.
-- x (n, in, h, w), y (n, out, (h + 2 padding - dilation (kh - 1) - 1) / stride + 1, ...)

local options = require "moonlet.options"
local pair = require "moonlet.nn.pair"
local Module = require "moonlet.nn.module"
local Conv2d = require "moonlet.nn.conv2d"

local DepthwiseSeparableConv2d = Module:extend "DepthwiseSeparableConv2d"

local schema = { multiplier = { "positive", 1 } }
for name, rule in pairs(Conv2d.schema) do schema[name] = rule end
schema.groups = nil

--- A convolution in two steps, its children `depthwise` and `pointwise`.
-- @int inputs channels of x
-- @int outputs channels of y
-- @param kernel a whole number or {height, width}
-- @tparam ?table given multiplier = 1 (kernels for each channel), and stride, padding, dilation,
-- bias, padding_mode, dtype as for Conv2d; only `pointwise` has the bias
-- @usage local moon = require "moonlet"
-- local layer = moon.nn.DepthwiseSeparableConv2d(16, 32, 3, { padding = 1 })
-- assert(layer(moon.zeros(1, 16, 8, 8)):size(2) == 32)
function DepthwiseSeparableConv2d:init(inputs, outputs, kernel, given)
  local name = "DepthwiseSeparableConv2d"
  options.argument(name, "inputs", inputs, "positive")
  options.argument(name, "outputs", outputs, "positive")
  options.argument(name, "kernel", kernel, "pair")
  local o = options.read(name, given, schema)
  self.inputs, self.outputs, self.kernel = inputs, outputs, kernel
  self.depthwise = Conv2d(inputs, inputs * o.multiplier, kernel, {
    stride = o.stride, padding = o.padding, dilation = o.dilation, groups = inputs, bias = false,
    padding_mode = o.padding_mode, dtype = o.dtype,
  })
  self.pointwise = Conv2d(inputs * o.multiplier, outputs, 1, { bias = o.bias, dtype = o.dtype })
end

function DepthwiseSeparableConv2d:forward(x)
  return self.pointwise(self.depthwise(x))
end

function DepthwiseSeparableConv2d:describe()
  return ("%s, %s, %s"):format(self.inputs, self.outputs, pair.text(self.kernel))
end

return DepthwiseSeparableConv2d
