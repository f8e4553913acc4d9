-- Activations without parameters, one row each: the layer's name, the operator it applies and the
-- operator's options in order, { name, default }. y has x's shape.

local core = require "moonlet.core"
local options = require "moonlet.options"
local unpack = require "moonlet.unpack"
local Module = require "moonlet.nn.module"

local rows = {
  ReLU = { "relu" },
  ReLU6 = { "relu6" },
  LeakyReLU = { "leaky_relu", { "negative_slope", 0.01 } },
  ELU = { "elu", { "alpha", 1 } },
  SELU = { "selu" },
  CELU = { "celu", { "alpha", 1 } },
  SiLU = { "silu" },
  Mish = { "mish" },
  Softplus = { "softplus", { "beta", 1 }, { "threshold", 20 } },
  Softsign = { "softsign" },
  Sigmoid = { "sigmoid" },
  LogSigmoid = { "logsigmoid" },
  Tanh = { "tanh" },
  Hardtanh = { "hardtanh", { "min", -1 }, { "max", 1 } },
  Hardsigmoid = { "hardsigmoid" },
  Hardswish = { "hardswish" },
  Hardshrink = { "hardshrink", { "lambda", 0.5 } },
  Softshrink = { "softshrink", { "lambda", 0.5 } },
  Tanhshrink = { "tanhshrink" },
}

local function schema_of(row)
  local schema = {}
  for i = 2, #row do schema[row[i][1]] = { "number", row[i][2] } end
  return schema
end

local function make(name, row)
  local Layer = Module:extend(name)
  local operator, schema = row[1], schema_of(row)

  function Layer:init(given)
    local o = options.read(name, given, schema)
    for key, value in pairs(o) do self[key] = value end
  end

  function Layer:forward(x)
    if #row == 1 then return core[operator](x) end
    local values = {}
    for i = 2, #row do values[i - 1] = self[row[i][1]] end
    return core[operator](x, unpack(values))
  end

  function Layer:describe()
    local parts = {}
    for i = 2, #row do parts[i - 1] = ("%s = %g"):format(row[i][1], self[row[i][1]]) end
    return table.concat(parts, ", ")
  end

  return Layer
end

local M = {}
for name, row in pairs(rows) do M[name] = make(name, row) end
return M
