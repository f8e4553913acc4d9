-- Activations without parameters, one row each: the layer's name, the operator it applies and the
-- operator's options in order. y has x's shape.

local core = require "moonlet.core"
local options = require "moonlet.options"
local Module = require "moonlet.nn.module"

local rows = {
  ReLU = { "relu" },
  LeakyReLU = { "leaky_relu", { "negative_slope", 0.01 } },
  ELU = { "elu", { "alpha", 1 } },
  GELU = { "gelu" },
  SiLU = { "silu" },
  Softplus = { "softplus" },
  Sigmoid = { "sigmoid" },
  Tanh = { "tanh" },
}

local function schema_of(row)
  local schema = {}
  for i = 2, #row do schema[row[i][1]] = { "number", row[i][2] } end
  return schema
end

local function make(name, row)
  local Layer = Module:extend(name)
  local operator = row[1]
  local schema = schema_of(row)

  function Layer:init(given)
    local o = options.read(name, given, schema)
    for key, value in pairs(o) do self[key] = value end
  end

  function Layer:forward(x)
    local option = row[2]
    if option then return core[operator](x, self[option[1]]) end
    return core[operator](x)
  end

  function Layer:describe()
    local option = row[2]
    return option and ("%s = %g"):format(option[1], self[option[1]]) or ""
  end

  return Layer
end

local M = {}
for name, row in pairs(rows) do M[name] = make(name, row) end
return M
