-- Lazy convolutions: layers that learn their number of input channels from the first batch; see
-- lazylinear.lua. From then on a LazyConv2d is a Conv2d.

local core = require "moonlet.core"
local options = require "moonlet.options"
local pair = require "moonlet.nn.pair"
local initial = require "moonlet.nn.init_like_torch"

local M = {}

local layouts = { "(n, channels, length)", "(n, channels, height, width)",
                  "(n, channels, depth, height, width)" }

local function become_real(self, Real, inputs, dtype)
  if inputs % self.groups ~= 0 then
    error(("%s: groups = %d must divide the input's %d channels"):format(
      self.class_name, self.groups, inputs), 0)
  end
  core.materialize_(self.weight, self:weight_shape(inputs), dtype)
  if self.bias then core.materialize_(self.bias, { self.outputs }, dtype) end
  self.inputs = inputs
  rawset(self, "lazy", nil)
  rawset(self, "lazy_dtype", nil)
  setmetatable(self, Real)
  initial(self.weight, self.bias)
end

-- The number of input channels that a stored weight speaks of, if it fits.
local function inputs_of(self, weight)
  if not core.is_tensor(weight) or weight:dim() ~= self.dims + 2 then return nil end
  if self.transposed then
    return weight:size(2) * self.groups == self.outputs and weight:size(1) or nil
  end
  return weight:size(1) == self.outputs and weight:size(2) * self.groups or nil
end

--- The lazy form of a class of convolutions.
-- @string name "LazyConv2d"
-- @param Real what its layers become
function M.new_class(name, Real)
  local Lazy = Real:extend(name)
  local schema = {}
  for key, rule in pairs(Real.schema) do schema[key] = rule end
  schema.dtype = { "string" }

  function Lazy:init(outputs, kernel, given)
    options.argument(name, "outputs", outputs, "positive")
    options.argument(name, "kernel", kernel, pair.kinds[Real.dims])
    local o = options.read(name, given, schema)
    if outputs % o.groups ~= 0 then
      error(("%s: groups = %d must divide outputs (%d)"):format(name, o.groups, outputs), 3)
    end
    self:set_options(outputs, kernel, o)
    rawset(self, "lazy", true)
    rawset(self, "lazy_dtype", o.dtype or false)
    self.weight = core.lazy_tensor()
    if o.bias then self.bias = core.lazy_tensor() end
  end

  --- Takes the shape from a state dictionary that is about to be loaded.
  function Lazy:materialize_from(state, prefix)
    local weight = state[prefix .. "weight"]
    local inputs = inputs_of(self, weight)
    if inputs then become_real(self, Real, inputs, self.lazy_dtype or weight.dtype) end
  end

  function Lazy:forward(x)
    self:need_tensor(x)
    if x:dim() ~= Real.dims + 2 then
      error(("%s: input must be %s, not %s"):format(name, layouts[Real.dims],
        table.concat(x:size(), "x")), 0)
    end
    become_real(self, Real, x:size(2), self.lazy_dtype or x.dtype)
    return self:forward(x)
  end

  return Lazy
end

return M
