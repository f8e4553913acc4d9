-- Instance normalisation, what InstanceNorm1d to 3d share: each channel of each sample brought to
-- mean 0 and variance 1 (Ulyanov, Vedaldi and Lempitsky 2016). With affine, scaled and shifted by
-- channel; with track_running_stats, evaluation takes running statistics.

local core = require "moonlet.core"
local options = require "moonlet.options"
local Module = require "moonlet.nn.module"
local parameter = require "moonlet.nn.parameter"

local schema = {
  eps = { "number", 1e-5 }, momentum = { "number", 0.1 }, affine = { "boolean", false },
  track_running_stats = { "boolean", false }, dtype = { "string", "float32" },
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
  return core.instance_norm(x, self.running_mean, self.running_var, self.weight, self.bias, {
    use_input_stats = self.training or self.running_mean == nil,
    momentum = self.momentum, eps = self.eps,
  })
end

--- Makes the class for inputs of one number of dimensions.
-- @string name the class's name
-- @int dims that number
-- @string shape how to say so
return function(name, dims, shape)
  local InstanceNorm = Module:extend(name)

  function InstanceNorm:init(channels, given) init(self, channels, given) end

  function InstanceNorm:forward(x)
    self:need_tensor(x)
    if x:dim() ~= dims or x:size(2) ~= self.channels then
      error(("%s: input must be %s with %d channels, not %s"):format(
        name, shape, self.channels, table.concat(x:size(), "x")), 0)
    end
    return normalise(self, x)
  end

  function InstanceNorm:describe() return tostring(self.channels) end

  return InstanceNorm
end
