-- Locally connected layers: convolutions with a kernel of its own at every position, so that the
-- size of the input is part of the layer. LocallyConnected1d and LocallyConnected2d share this.
-- weight (positions ..., out, in, kernel ...), bias (out, positions ...)

local core = require "moonlet.core"
local options = require "moonlet.options"
local pair = require "moonlet.nn.pair"
local Module = require "moonlet.nn.module"
local parameter = require "moonlet.nn.parameter"

local LocallyConnected = Module:extend "LocallyConnected"

local shown = { "stride", "padding", "dilation" }
local defaults = { stride = 1, padding = 0, dilation = 1 }

--- A class of locally connected layers.
-- @string name "LocallyConnected2d"
-- @int dims how many dimensions the kernel has
function LocallyConnected.new_class(name, dims)
  local class = LocallyConnected:extend(name)
  class.dims, class.operator = dims, core[("locally_connected%dd"):format(dims)]
  local kind = pair.kinds[dims]
  class.schema = {
    stride = { kind, 1 }, padding = { "pads" .. dims, 0 }, dilation = { kind, 1 },
    bias = { "boolean", true }, dtype = { "string", "float32" },
  }
  return class
end

-- How many positions a kernel takes in each dimension.
local function positions(self, size)
  local kernel, stride = pair.list(self.kernel, self.dims), pair.list(self.stride, self.dims)
  local dilation = pair.list(self.dilation, self.dims)
  local pads, result = pair.pads(self.padding, kernel, dilation), {}
  for i, length in ipairs(pair.list(size, self.dims)) do
    local last = 2 * (self.dims - i)
    local room = length + pads[last + 1] + pads[last + 2] - dilation[i] * (kernel[i] - 1) - 1
    if room < 0 then
      error(("%s: a kernel of %s does not fit into inputs of %s"):format(
        self.class_name, pair.text(self.kernel), pair.text(size)), 4)
    end
    result[i] = math.floor(room / stride[i]) + 1
  end
  return result, kernel
end

local function fill(self, bound)
  self.weight:uniform_(-bound, bound)
  if self.bias then self.bias:uniform_(-bound, bound) end
end

function LocallyConnected:init(inputs, outputs, size, kernel, given)
  local name = self.class_name
  options.argument(name, "inputs", inputs, "positive")
  options.argument(name, "outputs", outputs, "positive")
  options.argument(name, "size", size, pair.kinds[self.dims])
  options.argument(name, "kernel", kernel, pair.kinds[self.dims])
  local o = options.read(name, given, self.schema)
  self.inputs, self.outputs, self.size, self.kernel = inputs, outputs, size, kernel
  for _, key in ipairs(shown) do self[key] = o[key] end
  rawset(self, "call_options", { stride = o.stride, padding = o.padding, dilation = o.dilation })
  local weight, kernel_sizes = positions(self, size)
  local bias, fan_in = { outputs }, inputs
  for _, count in ipairs(weight) do bias[#bias + 1] = count end
  weight[#weight + 1], weight[#weight + 2] = outputs, inputs
  for _, length in ipairs(kernel_sizes) do
    weight[#weight + 1] = length
    fan_in = fan_in * length
  end
  self.weight = parameter(core.empty(weight, { dtype = o.dtype }))
  if o.bias then self.bias = parameter(core.empty(bias, { dtype = o.dtype })) end
  core.no_grad(fill, self, 1 / math.sqrt(fan_in))
end

function LocallyConnected:forward(x)
  return self.operator(x, self.weight, self.bias, self.call_options)
end

function LocallyConnected:describe()
  return ("%s, %s, %s, %s%s%s"):format(self.inputs, self.outputs, pair.text(self.size),
    pair.text(self.kernel), pair.options_text(self, shown, defaults),
    self.bias and "" or ", bias = false")
end

return LocallyConnected
