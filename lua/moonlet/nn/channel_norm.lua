-- What batch and instance normalisation share: weight and bias of each channel (affine), and its
-- running statistics (track_running_stats).

local core = require "moonlet.core"
local options = require "moonlet.options"
local Module = require "moonlet.nn.module"
local parameter = require "moonlet.nn.parameter"

--- Makes the class. Who calls gives it check_input(x), an error or nothing, and normalise(x).
-- @string name the class's name
-- @bool default of affine and track_running_stats
return function(name, default)
  local ChannelNorm = Module:extend(name)

  local schema = {
    eps = { "number", 1e-5 }, momentum = { "number", 0.1 }, affine = { "boolean", default },
    track_running_stats = { "boolean", default }, dtype = { "string", "float32" },
  }

  function ChannelNorm:init(channels, given)
    options.argument(name, "channels", channels, "positive", 4)
    local o = options.read(name, given, schema, 4)
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

  function ChannelNorm:forward(x, given)
    self:check_input(x)
    return self:normalise(x, given)
  end

  function ChannelNorm:describe() return tostring(self.channels) end

  return ChannelNorm
end
