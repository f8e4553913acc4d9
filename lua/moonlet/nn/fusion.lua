-- Fusion: neighbours in a Sequential that are calculated in one pass over memory.
--
--   BatchNorm2d, ReLU or ReLU6                 always
--   Conv2d or Linear, ReLU or ReLU6            always
--   Conv2d, BatchNorm2d, ReLU or ReLU6         in evaluation, off the tape; without the last, too
--
-- Results are those of the modules one by one, but for rounding where a convolution takes its
-- normalisation along. Modules with hooks or a forward of their own are left alone.

local core = require "moonlet.core"
local conv_norm = require "moonlet.nn.conv_norm"
local Conv2d = require "moonlet.nn.conv2d"
local Linear = require "moonlet.nn.linear"
local BatchNorm2d = require "moonlet.nn.batchnorm2d"
local profile_calls = require "moonlet.profile.calls"

local is_plain = conv_norm.is_plain

-- What the pass in front is asked for by an activation's name.
local asked = { relu = { activation = "relu" }, relu6 = { activation = "relu6" } }

local function activation_of(module) return asked[conv_norm.activation_of(module)] end

-- By the class of the first module: (it, the next two, x) -> y and how many modules that were.
local starts = {}

starts[BatchNorm2d] = function(norm, after, _, x)
  local given = is_plain(norm, BatchNorm2d) and activation_of(after)
  if not given then return norm(x), 1 end
  return norm(x, given), 2
end

starts[Conv2d] = function(conv, after, last, x)
  if not conv_norm.takes_activation(conv, x) then return conv(x), 1 end
  local norm = conv_norm.takes_more(conv, x) and conv_norm.is_linear(after) and after or nil
  local given
  if norm then given = activation_of(last) else given = activation_of(after) end
  if not norm and not given then return conv(x), 1 end
  return conv_norm.in_one_pass(conv, norm, x, given), 1 + (norm and 1 or 0) + (given and 1 or 0)
end

local function activated(linear, x, given)
  return core.linear_fused(x, linear.weight, linear.bias, given.activation)
end

starts[Linear] = function(linear, after, _, x)
  local given = is_plain(linear, Linear) and activation_of(after)
  if not given then return linear(x), 1 end
  return profile_calls.run(activated, linear, x, given), 2
end

return starts
