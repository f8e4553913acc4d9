-- LazyLinear: a Linear that learns its number of inputs from the first batch. Its parameters are
-- objects from construction, so an optimiser made before the first forward holds them; they are
-- given their storage in place. From then on the layer is a Linear.

local core = require "moonlet.core"
local options = require "moonlet.options"
local Linear = require "moonlet.nn.linear"
local initial = require "moonlet.nn.init_like_torch"

local LazyLinear = Linear:extend "LazyLinear"

--- A fully connected layer whose inputs are counted at the first forward.
-- @int outputs features of y
-- @tparam ?table given bias = true, dtype = "float32"
-- @usage local moon = require "moonlet"
-- local layer = moon.nn.LazyLinear(3)
-- layer(moon.zeros(2, 7))
-- assert(layer.weight:size(2) == 7)
function LazyLinear:init(outputs, given)
  options.argument("LazyLinear", "outputs", outputs, "positive")
  local o = options.read("LazyLinear", given,
    { bias = { "boolean", true }, dtype = { "string" } })
  self.outputs = outputs
  rawset(self, "lazy", true)
  rawset(self, "lazy_dtype", o.dtype or false)
  self.weight = core.lazy_tensor()
  if o.bias then self.bias = core.lazy_tensor() end
end

local function become_linear(self, inputs, dtype)
  core.materialize_(self.weight, { self.outputs, inputs }, dtype)
  if self.bias then core.materialize_(self.bias, { self.outputs }, dtype) end
  self.inputs = inputs
  rawset(self, "lazy", nil)
  rawset(self, "lazy_dtype", nil)
  setmetatable(self, Linear)
  initial(self.weight, self.bias)
end

--- Takes the shape from a state dictionary that is about to be loaded.
function LazyLinear:materialize_from(state, prefix)
  local weight = state[prefix .. "weight"]
  if core.is_tensor(weight) and weight:dim() == 2 and weight:size(1) == self.outputs then
    become_linear(self, weight:size(2), self.lazy_dtype or weight.dtype)
  end
end

function LazyLinear:forward(x)
  self:need_tensor(x)
  if x:dim() == 0 then error("LazyLinear: input must have at least 1 dimension, not 0", 0) end
  become_linear(self, x:size(-1), self.lazy_dtype or x.dtype)
  return self:forward(x)
end

function LazyLinear:describe()
  return ("?, %s%s"):format(self.outputs, self.bias and "" or ", bias = false")
end

return LazyLinear
