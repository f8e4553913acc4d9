-- PReLU: y = x where it is positive, else weight x, with slopes that are learnt (He et al. 2015).
-- x and y (n, c, ...), weight (1) or (c)

local core = require "moonlet.core"
local options = require "moonlet.options"
local Module = require "moonlet.nn.module"
local parameter = require "moonlet.nn.parameter"

local PReLU = Module:extend "PReLU"

--- A leaky ReLU whose slope is a parameter.
-- @int[opt=1] channels one slope for all, or as many as x has channels
-- @tparam ?table given init = 0.25, the first slope; dtype = "float32"
-- @usage assert(moon.nn.PReLU(3)(moon.full({ 1, 3 }, -4))[{ 1, 2 }] == -1)
function PReLU:init(channels, given)
  if channels == nil then channels = 1 end
  options.argument("PReLU", "channels", channels, "positive")
  local o = options.read("PReLU", given,
    { init = { "number", 0.25 }, dtype = { "string", "float32" } })
  self.channels = channels
  self.weight = parameter(core.full({ channels }, o.init, { dtype = o.dtype }))
end

function PReLU:forward(x)
  return core.prelu(x, self.weight)
end

function PReLU:describe()
  return tostring(self.channels)
end

return PReLU
