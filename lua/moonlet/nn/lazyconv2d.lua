-- LazyConv2d: a Conv2d that learns its number of input channels from the first batch; see
-- lazylinear.lua. From then on the layer is a Conv2d.

local core = require "moonlet.core"
local options = require "moonlet.options"
local pair = require "moonlet.nn.pair"
local Conv2d = require "moonlet.nn.conv2d"
local initial = require "moonlet.nn.init_like_torch"

local LazyConv2d = Conv2d:extend "LazyConv2d"

local schema = {}
for name, rule in pairs(Conv2d.schema) do schema[name] = rule end
schema.dtype = { "string" }

--- A convolution whose input channels are counted at the first forward.
-- @int outputs channels of y
-- @param kernel a whole number or {height, width}
-- @tparam ?table given as for Conv2d
-- @usage local moon = require "moonlet"
-- local layer = moon.nn.LazyConv2d(8, 3)
-- layer(moon.zeros(1, 3, 5, 5))
-- assert(layer.weight:size(2) == 3)
function LazyConv2d:init(outputs, kernel, given)
  options.argument("LazyConv2d", "outputs", outputs, "positive")
  options.argument("LazyConv2d", "kernel", kernel, "pair")
  local o = options.read("LazyConv2d", given, schema)
  self:set_options(outputs, kernel, o)
  rawset(self, "lazy", true)
  rawset(self, "lazy_dtype", o.dtype or false)
  self.weight = core.lazy_tensor()
  if o.bias then self.bias = core.lazy_tensor() end
end

local function become_conv2d(self, inputs, dtype)
  if inputs % self.groups ~= 0 then
    error(("LazyConv2d: groups = %d must divide the input's %d channels"):format(
      self.groups, inputs), 0)
  end
  local height, width = pair.unpack(self.kernel)
  core.materialize_(self.weight, { self.outputs, math.floor(inputs / self.groups), height, width },
    dtype)
  if self.bias then core.materialize_(self.bias, { self.outputs }, dtype) end
  self.inputs = inputs
  rawset(self, "lazy", nil)
  rawset(self, "lazy_dtype", nil)
  setmetatable(self, Conv2d)
  initial(self.weight, self.bias)
end

--- Takes the shape from a state dictionary that is about to be loaded.
function LazyConv2d:materialize_from(state, prefix)
  local weight = state[prefix .. "weight"]
  if core.is_tensor(weight) and weight:dim() == 4 and weight:size(1) == self.outputs then
    become_conv2d(self, weight:size(2) * self.groups, self.lazy_dtype or weight.dtype)
  end
end

function LazyConv2d:forward(x)
  if x:dim() ~= 4 then
    error(("LazyConv2d: input must be (n, channels, height, width), not %s"):format(
      table.concat(x:size(), "x")), 0)
  end
  become_conv2d(self, x:size(2), self.lazy_dtype or x.dtype)
  return self:forward(x)
end

return LazyConv2d
