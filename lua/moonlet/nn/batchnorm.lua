-- Batch normalisation, what BatchNorm1d to 3d share:
-- y = (x - mean) / sqrt(variance + eps) * weight + bias, by channel. Training takes mean and
-- variance from the batch and moves the running ones by `momentum`; evaluation takes the running
-- ones.

local core = require "moonlet.core"
local channel_norm = require "moonlet.nn.channel_norm"

--- Makes the class for inputs of the given numbers of dimensions.
-- @string name the class's name
-- @tparam table dims set of allowed numbers of dimensions
-- @string shapes how to say so
return function(name, dims, shapes)
  local BatchNorm = channel_norm(name, true)

  function BatchNorm:check_input(x)
    self:need_tensor(x)
    if dims[x:dim()] then return end
    error(("%s: input must be %s, not %s"):format(
      self.class_name, shapes, table.concat(x:size(), "x")), 0)
  end

  -- given: add, a tensor of x's shape, and activation, "relu" or "relu6", in the same pass
  function BatchNorm:normalise(x, given)
    return core.batch_norm(x, self.weight, self.bias, self.running_mean, self.running_var, {
      training = self.training or self.running_mean == nil,
      momentum = self.momentum, eps = self.eps,
      add = given and given.add, activation = given and given.activation,
    })
  end

  return BatchNorm
end
