-- conv_norm: a convolution, the batch normalisation after it, and what follows the two, in as few
-- passes over memory as there can be: y = activation(norm(conv(x)) + add).
--
-- Off the tape and with given statistics a normalisation is a factor and a term for each channel,
-- which the convolution applies as it writes: one pass. Otherwise the normalisation adds and
-- activates in its own. Modules with hooks, and half types, whose factors would be rounded, take
-- the second way.

local core = require "moonlet.core"
local activations = require "moonlet.nn.activations"
local Conv2d = require "moonlet.nn.conv2d"
local BatchNorm2d = require "moonlet.nn.batchnorm2d"
local folded = require "moonlet.nn.folded"
local profile_calls = require "moonlet.profile.calls"

local wide = { float32 = true, float64 = true }

-- Nothing but its class says what the module does, and nobody looks on.
local function is_plain(module, class)
  return getmetatable(module) == class and rawget(module, "_hooks") == nil
    and rawget(module, "forward") == nil
end

local M = { is_plain = is_plain }

local activation_names = { [activations.ReLU] = "relu", [activations.ReLU6] = "relu6" }

--- The name of a plain activation that operators apply as they write; nil for other modules.
function M.activation_of(module)
  local name = activation_names[getmetatable(module)]
  return name and is_plain(module, getmetatable(module)) and name or nil
end

--- Whether the convolution can activate what it writes: one of the core alone, padding with zeros.
function M.takes_activation(conv, x)
  return is_plain(conv, Conv2d) and conv.pad_mode == nil and core.is_tensor(x) and x:dim() == 4
end

--- Whether it can take a normalisation along as well, whose factors have no gradient.
function M.takes_more(conv, x)
  return not core.is_grad_enabled() and M.takes_activation(conv, x)
end

--- Whether the normalisation is a factor and a term for each channel.
function M.is_linear(norm)
  return is_plain(norm, BatchNorm2d) and not norm.training and norm.running_mean ~= nil
    and wide[norm.running_mean.dtype] ~= nil
end

local function fused(conv, norm, x, given)
  local scale, bias = nil, conv.bias
  if norm then scale, bias = folded(norm, bias) end
  return core.conv2d_fused(x, conv.weight, bias, conv.stride, conv.padding, conv.dilation,
    conv.groups, scale, given and given.add, given and given.activation or "none")
end

--- One pass, for a convolution that takes more and a linear normalisation or none. To a profile it
-- is a call of the convolution.
function M.in_one_pass(conv, norm, x, given)
  return profile_calls.run(fused, conv, norm, x, given)
end

--- activation(norm(conv(x)) + add).
-- @tparam Conv2d conv
-- @tparam BatchNorm2d norm
-- @tparam Tensor x (n, c, h, w)
-- @tparam ?table given add, a tensor of the result's shape; activation = "relu" or "relu6"
-- @usage local moon = require "moonlet"
-- local nn = moon.nn
-- local conv, norm, x = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), moon.randn(2, 3, 8, 8)
-- assert(nn.conv_norm(conv, norm, x, { activation = "relu" }):min():item() == 0)
local function conv_norm(_, conv, norm, x, given)
  if M.takes_more(conv, x) and M.is_linear(norm) then
    return M.in_one_pass(conv, norm, x, given)
  end
  return norm(conv(x), given)
end

return setmetatable(M, { __call = conv_norm })
