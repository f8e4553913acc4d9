-- Batch normalisation that learns its number of channels from the first batch, what
-- LazyBatchNorm1d to 3d share; see lazylinear.lua. From then on the layer is a plain one.

local core = require "moonlet.core"
local options = require "moonlet.options"

local schema = {
  eps = { "number", 1e-5 }, momentum = { "number", 0.1 }, affine = { "boolean", true },
  track_running_stats = { "boolean", true }, dtype = { "string" },
}

local function fill(self)
  self.weight:fill_(1)
  self.bias:zero_()
end

-- Gives the layer its shape and its class.
local function become(self, Plain, channels, dtype)
  local waiting = self.lazy
  self.channels = channels
  if waiting.affine then
    core.materialize_(self.weight, { channels }, dtype)
    core.materialize_(self.bias, { channels }, dtype)
    core.no_grad(fill, self)
  end
  if waiting.track_running_stats then
    self:register_buffer("running_mean", core.zeros(channels, { dtype = dtype }))
    self:register_buffer("running_var", core.ones(channels, { dtype = dtype }))
  end
  rawset(self, "lazy", nil)
  setmetatable(self, Plain)
end

--- Makes the lazy form of a class that batchnorm.lua made.
-- @tparam class Plain the class it turns into
return function(Plain)
  local name = "Lazy" .. Plain.class_name
  local Lazy = Plain:extend(name)

  function Lazy:init(given)
    local o = options.read(name, given, schema)
    self.eps, self.momentum = o.eps, o.momentum
    rawset(self, "lazy", o)
    if o.affine then
      self.weight = core.lazy_tensor()
      self.bias = core.lazy_tensor()
    end
  end

  --- Takes the shape from a state dictionary that is about to be loaded.
  function Lazy:materialize_from(state, prefix)
    local source = state[prefix .. "weight"] or state[prefix .. "running_mean"]
    if core.is_tensor(source) and source:dim() == 1 then
      become(self, Plain, source:size(1), self.lazy.dtype or source.dtype)
    end
  end

  function Lazy:forward(x)
    self:check_input(x)
    become(self, Plain, x:size(2), self.lazy.dtype or x.dtype)
    return self:forward(x)
  end

  function Lazy:describe() return "?" end -- luacheck: ignore 212

  return Lazy
end
