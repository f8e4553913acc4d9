-- Batch normalisation, what BatchNorm1d to 3d share:
-- y = (x - mean) / sqrt(variance + eps) * weight + bias, by channel. Training takes mean and
-- variance from the batch and moves the running ones by `momentum`; evaluation takes the running
-- ones.

local core = require "moonlet.core"
local options = require "moonlet.options"
local Module = require "moonlet.nn.module"
local parameter = require "moonlet.nn.parameter"

local schema = {
  eps = { "number", 1e-5 }, momentum = { "number", 0.1 }, affine = { "boolean", true },
  track_running_stats = { "boolean", true }, dtype = { "string", "float32" },
}

local function init(self, channels, given)
  local name = self.class_name
  options.argument(name, "channels", channels, "positive", 5)
  local o = options.read(name, given, schema, 5)
  self.channels, self.eps, self.momentum = channels, o.eps, o.momentum
  local dtype = { dtype = o.dtype }
  if o.affine then
    self.weight = parameter(core.ones(channels, dtype))
    self.bias = parameter(core.zeros(channels, dtype))
  end
  if o.track_running_stats then
    self:register_buffer("running_mean", core.zeros(channels, dtype))
    self:register_buffer("running_var", core.ones(channels, dtype))
  end
end

local function normalise(self, x)
  return core.batch_norm(x, self.weight, self.bias, self.running_mean, self.running_var, {
    training = self.training or self.running_mean == nil,
    momentum = self.momentum, eps = self.eps,
  })
end

--- Makes the class for inputs of the given numbers of dimensions.
-- @string name the class's name
-- @tparam table dims set of allowed numbers of dimensions
-- @string shapes how to say so
return function(name, dims, shapes)
  local BatchNorm = Module:extend(name)

  function BatchNorm:init(channels, given) init(self, channels, given) end

  function BatchNorm:check_input(x)
    self:need_tensor(x)
    if dims[x:dim()] then return end
    error(("%s: input must be %s, not %s"):format(
      self.class_name, shapes, table.concat(x:size(), "x")), 0)
  end

  function BatchNorm:forward(x)
    self:check_input(x)
    return normalise(self, x)
  end

  function BatchNorm:describe() return tostring(self.channels) end

  return BatchNorm
end
