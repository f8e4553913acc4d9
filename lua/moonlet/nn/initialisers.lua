-- nn.init: starting values, written into a tensor in place, off the tape; each returns its tensor.
--
-- Fan in is the number of inputs that reach one output: in for a weight (out, in), in kh kw for a
-- weight (out, in, kh, kw); fan out counts the other way.

local core = require "moonlet.core"
local options = require "moonlet.options"

local M = {}

--- Fan in and fan out of a weight.
-- @usage local moon = require "moonlet"
-- local fan_in, fan_out = moon.nn.init.fan(moon.zeros(8, 3, 5, 5))
-- assert(fan_in == 75 and fan_out == 200)
function M.fan(tensor)
  options.argument("nn.init.fan", "tensor", tensor, "tensor", 3)
  local size = tensor:size()
  if #size < 2 then
    error(("nn.init: fan needs a tensor of 2 dimensions or more, not %d"):format(#size), 3)
  end
  local field = 1
  for i = 3, #size do field = field * size[i] end
  return size[2] * field, size[1] * field
end

-- Gains of He et al. 2015 and PyTorch's table: what keeps the variance through a nonlinearity.
local gains = {
  linear = 1, sigmoid = 1, tanh = 5 / 3, relu = math.sqrt(2), selu = 3 / 4,
}

--- The factor by which a nonlinearity asks weights to be larger.
-- @string nonlinearity "linear" "relu" "leaky_relu" "tanh" "sigmoid" "selu"
-- @number[opt=0.01] slope of leaky_relu
function M.gain(nonlinearity, slope)
  if nonlinearity == "leaky_relu" then
    slope = slope or 0.01
    return math.sqrt(2 / (1 + slope * slope))
  end
  local gain = gains[nonlinearity]
  if not gain then
    error(('nn.init.gain: unknown nonlinearity "%s"; known: leaky_relu, linear, relu, selu, '
      .. "sigmoid, tanh"):format(tostring(nonlinearity)), 3)
  end
  return gain
end

-- Runs one in-place method off the tape.
local function fill(tensor, method, ...)
  options.argument("nn.init", "tensor", tensor, "tensor", 4)
  core.no_grad(tensor[method], tensor, ...)
  return tensor
end

--- Uniform in low..high (0..1 unless given).
function M.uniform(tensor, low, high) return fill(tensor, "uniform_", low or 0, high or 1) end

--- Normal with mean and deviation (0, 1 unless given).
function M.normal(tensor, mean, deviation)
  return fill(tensor, "normal_", mean or 0, deviation or 1)
end

--- One value everywhere.
function M.constant(tensor, value) return fill(tensor, "fill_", value) end
--- Zero everywhere.
function M.zeros(tensor) return fill(tensor, "fill_", 0) end
--- One everywhere.
function M.ones(tensor) return fill(tensor, "fill_", 1) end

local kaiming_schema = {
  mode = { { "fan_in", "fan_out" }, "fan_in" },
  nonlinearity = { "string", "relu" }, slope = { "number" },
}

local function kaiming_deviation(owner, tensor, given)
  local o = options.read(owner, given, kaiming_schema, 5)
  local fan_in, fan_out = M.fan(tensor)
  local fan = o.mode == "fan_in" and fan_in or fan_out
  return M.gain(o.nonlinearity, o.slope) / math.sqrt(fan)
end

--- Normal, deviation gain / sqrt(fan) (He et al. 2015).
-- @tparam tensor tensor a weight
-- @tparam ?table given mode = "fan_in", nonlinearity = "relu", slope
-- @usage local moon = require "moonlet"
-- moon.nn.init.kaiming_normal(moon.nn.Linear(8, 4).weight, { mode = "fan_out" })
function M.kaiming_normal(tensor, given)
  return M.normal(tensor, 0, kaiming_deviation("nn.init.kaiming_normal", tensor, given))
end

--- Uniform with the same deviation (He et al. 2015).
function M.kaiming_uniform(tensor, given)
  local bound = math.sqrt(3) * kaiming_deviation("nn.init.kaiming_uniform", tensor, given)
  return M.uniform(tensor, -bound, bound)
end

local function xavier_deviation(owner, tensor, given)
  local o = options.read(owner, given, { gain = { "number", 1 } }, 5)
  local fan_in, fan_out = M.fan(tensor)
  return o.gain * math.sqrt(2 / (fan_in + fan_out))
end

--- Normal, deviation gain sqrt(2 / (fan in + fan out)) (Glorot and Bengio 2010).
-- @tparam tensor tensor a weight
-- @tparam ?table given gain = 1
function M.xavier_normal(tensor, given)
  return M.normal(tensor, 0, xavier_deviation("nn.init.xavier_normal", tensor, given))
end

--- Uniform with the same deviation (Glorot and Bengio 2010).
function M.xavier_uniform(tensor, given)
  local bound = math.sqrt(3) * xavier_deviation("nn.init.xavier_uniform", tensor, given)
  return M.uniform(tensor, -bound, bound)
end

return M
