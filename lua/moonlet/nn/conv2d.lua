-- Conv2d: cross-correlation over height and width.
-- x (n, in, h, w), weight (out, in / groups, kh, kw), bias (out),
-- y (n, out, (h + 2 padding - dilation (kh - 1) - 1) / stride + 1, ...)

local core = require "moonlet.core"
local options = require "moonlet.options"
local pair = require "moonlet.nn.pair"
local Module = require "moonlet.nn.module"
local parameter = require "moonlet.nn.parameter"
local initial = require "moonlet.nn.init_like_torch"

local Conv2d = Module:extend "Conv2d"

Conv2d.schema = {
  stride = { "pair", 1 }, padding = { "pair", 0 }, dilation = { "pair", 1 },
  groups = { "positive", 1 }, bias = { "boolean", true }, dtype = { "string", "float32" },
}

local shown = { "stride", "padding", "dilation", "groups" }
local defaults = { stride = 1, padding = 0, dilation = 1, groups = 1 }

-- Sets everything but the parameters; LazyConv2d shares it.
function Conv2d:set_options(outputs, kernel, o)
  self.outputs, self.kernel = outputs, kernel
  for _, name in ipairs(shown) do self[name] = o[name] end
  rawset(self, "call_options", {
    stride = o.stride, padding = o.padding, dilation = o.dilation, groups = o.groups,
  })
end

--- A convolution layer; weights start uniform in +-1/sqrt(fan in).
-- @int inputs channels of x
-- @int outputs channels of y
-- @param kernel a whole number or {height, width}
-- @tparam ?table given stride = 1, padding = 0, dilation = 1 (pairs), groups = 1, bias = true,
-- dtype = "float32"
-- @usage local moon = require "moonlet"
-- local y = moon.nn.Conv2d(1, 8, 3, { padding = 1 })(moon.zeros(2, 1, 5, 5))
-- assert(y:size(2) == 8 and y:size(3) == 5)
function Conv2d:init(inputs, outputs, kernel, given)
  options.argument("Conv2d", "inputs", inputs, "positive")
  options.argument("Conv2d", "outputs", outputs, "positive")
  options.argument("Conv2d", "kernel", kernel, "pair")
  local o = options.read("Conv2d", given, Conv2d.schema)
  if inputs % o.groups ~= 0 or outputs % o.groups ~= 0 then
    error(("Conv2d: groups = %d must divide inputs (%d) and outputs (%d)"):format(
      o.groups, inputs, outputs), 3)
  end
  self.inputs = inputs
  self:set_options(outputs, kernel, o)
  local height, width = pair.unpack(kernel)
  self.weight = parameter(
    core.empty(outputs, math.floor(inputs / o.groups), height, width, { dtype = o.dtype }))
  if o.bias then self.bias = parameter(core.empty(outputs, { dtype = o.dtype })) end
  initial(self.weight, self.bias)
end

function Conv2d:forward(x)
  return core.conv2d(x, self.weight, self.bias, self.call_options)
end

function Conv2d:describe()
  return ("%s, %s, %s%s%s"):format(self.inputs or "?", self.outputs, pair.text(self.kernel),
    pair.options_text(self, shown, defaults), self.bias and "" or ", bias = false")
end

return Conv2d
