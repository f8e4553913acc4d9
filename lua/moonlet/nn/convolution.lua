-- Convolution: what Conv1d, Conv2d, Conv3d, their transposed and their lazy forms share. A class
-- says how many dimensions it has and whether it is transposed; the operator follows.
-- weight (out, in / groups, kernel ...), transposed (in, out / groups, kernel ...), bias (out)

local core = require "moonlet.core"
local options = require "moonlet.options"
local pair = require "moonlet.nn.pair"
local Module = require "moonlet.nn.module"
local parameter = require "moonlet.nn.parameter"
local initial = require "moonlet.nn.init_like_torch"

local Convolution = Module:extend "Convolution"

local defaults = { stride = 1, padding = 0, output_padding = 0, dilation = 1, groups = 1,
                   padding_mode = "zeros" }
local least = { stride = 1, padding = 0, output_padding = 0, dilation = 1 }
local shown = { "stride", "padding", "output_padding", "dilation", "groups", "padding_mode" }
-- how moon.pad calls what layers call padding_mode
local pad_modes = { reflect = "reflect", replicate = "replicate", circular = "circular" }

--- A class of convolutions.
-- @string name "Conv2d"
-- @int dims how many dimensions the kernel has
-- @bool transposed whether it is a transposed convolution
function Convolution.new_class(name, dims, transposed)
  local class = Convolution:extend(name)
  local kind = pair.kinds[dims]
  class.dims, class.transposed = dims, transposed
  class.operator = core[(transposed and "conv_transpose%dd" or "conv%dd"):format(dims)]
  class.schema = {
    stride = { kind, 1 }, padding = { "pads" .. dims, 0 }, dilation = { kind, 1 },
    groups = { "positive", 1 }, bias = { "boolean", true }, dtype = { "string", "float32" },
  }
  if transposed then class.schema.output_padding = { kind, 0 }
  else
    class.schema.padding_mode = { { "zeros", "reflect", "replicate", "circular" }, "zeros" }
  end
  return class
end

-- What forward hands to the operator, and the padding that moon.pad does before it.
local function prepare(self)
  local call = { stride = self.stride, padding = self.padding, dilation = self.dilation,
                 groups = self.groups, output_padding = self.output_padding }
  local mode = pad_modes[self.padding_mode]
  if mode then
    rawset(self, "pads", pair.pads(self.padding, pair.list(self.kernel, self.dims),
      pair.list(self.dilation, self.dims)))
    call.padding = 0
  end
  rawset(self, "pad_mode", mode)
  rawset(self, "call_options", call)
end

local function refuse_same(name, o, dims)
  if o.padding ~= "same" then return end
  for _, stride in ipairs(pair.list(o.stride, dims)) do
    if stride ~= 1 then
      error(('%s: padding "same" needs a stride of 1, not %s; give numbers'):format(
        name, pair.text(o.stride)), 5)
    end
  end
end

-- Checks and sets everything but the parameters; lazy layers share it.
function Convolution:set_options(outputs, kernel, o)
  refuse_same(self.class_name, o, self.dims)
  pair.at_least(self.class_name, "kernel", kernel, 1, 5)
  for name, number in pairs(least) do
    pair.at_least(self.class_name, name, o[name], number, 5)
  end
  self.outputs, self.kernel = outputs, kernel
  for _, name in ipairs(shown) do self[name] = o[name] end
  prepare(self)
end

-- The shape of the weight for so many input channels.
function Convolution:weight_shape(inputs)
  local sizes = pair.list(self.kernel, self.dims)
  local first, second = self.outputs, math.floor(inputs / self.groups)
  if self.transposed then first, second = inputs, math.floor(self.outputs / self.groups) end
  return { first, second, sizes[1], sizes[2], sizes[3] }
end

function Convolution:init(inputs, outputs, kernel, given)
  local name = self.class_name
  options.argument(name, "inputs", inputs, "positive")
  options.argument(name, "outputs", outputs, "positive")
  options.argument(name, "kernel", kernel, pair.kinds[self.dims])
  local o = options.read(name, given, self.schema)
  if inputs % o.groups ~= 0 or outputs % o.groups ~= 0 then
    error(("%s: groups = %d must divide inputs (%d) and outputs (%d)"):format(
      name, o.groups, inputs, outputs), 3)
  end
  self.inputs = inputs
  self:set_options(outputs, kernel, o)
  self.weight = parameter(core.empty(self:weight_shape(inputs), { dtype = o.dtype }))
  if o.bias then self.bias = parameter(core.empty(outputs, { dtype = o.dtype })) end
  initial(self.weight, self.bias)
end

function Convolution:forward(x)
  if self.pad_mode then x = core.pad(x, self.pads, self.pad_mode) end
  return self.operator(x, self.weight, self.bias, self.call_options)
end

function Convolution:describe()
  return ("%s, %s, %s%s%s"):format(self.inputs or "?", self.outputs, pair.text(self.kernel),
    pair.options_text(self, shown, defaults), self.bias and "" or ", bias = false")
end

return Convolution
