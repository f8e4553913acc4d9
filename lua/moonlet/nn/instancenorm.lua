-- Instance normalisation, what InstanceNorm1d to 3d share: each channel of each sample brought to
-- mean 0 and variance 1 (Ulyanov, Vedaldi and Lempitsky 2016). With affine, scaled and shifted by
-- channel; with track_running_stats, evaluation takes running statistics.

local core = require "moonlet.core"
local channel_norm = require "moonlet.nn.channel_norm"

--- Makes the class for inputs of one number of dimensions.
-- @string name the class's name
-- @int dims that number
-- @string shape how to say so
return function(name, dims, shape)
  local InstanceNorm = channel_norm(name, false)

  function InstanceNorm:check_input(x)
    self:need_tensor(x)
    if x:dim() == dims and x:size(2) == self.channels then return end
    error(("%s: input must be %s with %d channels, not %s"):format(
      name, shape, self.channels, table.concat(x:size(), "x")), 0)
  end

  function InstanceNorm:normalise(x)
    return core.instance_norm(x, self.running_mean, self.running_var, self.weight, self.bias, {
      use_input_stats = self.training or self.running_mean == nil,
      momentum = self.momentum, eps = self.eps,
    })
  end

  return InstanceNorm
end
