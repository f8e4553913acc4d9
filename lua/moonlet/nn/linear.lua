-- Linear: y = x weight^T + bias.
-- x (..., in), weight (out, in), bias (out), y (..., out)

local core = require "moonlet.core"
local options = require "moonlet.options"
local Module = require "moonlet.nn.module"
local parameter = require "moonlet.nn.parameter"
local initial = require "moonlet.nn.init_like_torch"

local Linear = Module:extend "Linear"

--- A fully connected layer; weights start uniform in +-1/sqrt(inputs).
-- @int inputs features of x
-- @int outputs features of y
-- @tparam ?table given bias = true, dtype = "float32"
-- @usage local moon = require "moonlet"
-- assert(moon.nn.Linear(4, 3)(moon.zeros(2, 4)):size(2) == 3)
function Linear:init(inputs, outputs, given)
  options.argument("Linear", "inputs", inputs, "positive")
  options.argument("Linear", "outputs", outputs, "positive")
  local o = options.read("Linear", given,
    { bias = { "boolean", true }, dtype = { "string", "float32" } })
  self.inputs, self.outputs = inputs, outputs
  self.weight = parameter(core.empty(outputs, inputs, { dtype = o.dtype }))
  if o.bias then self.bias = parameter(core.empty(outputs, { dtype = o.dtype })) end
  initial(self.weight, self.bias)
end

function Linear:forward(x)
  return core.linear(x, self.weight, self.bias)
end

function Linear:describe()
  return ("%s, %s%s"):format(self.inputs, self.outputs, self.bias and "" or ", bias = false")
end

return Linear
