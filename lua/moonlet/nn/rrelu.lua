-- RReLU: y = x where it is positive, else r x, with r drawn evenly from lower to upper for each
-- element in training and their mean in evaluation (Xu et al. 2015). y has x's shape.

local core = require "moonlet.core"
local options = require "moonlet.options"
local Module = require "moonlet.nn.module"

local RReLU = Module:extend "RReLU"

--- A leaky ReLU of random slope.
-- @tparam ?table given lower = 1/8, upper = 1/3
-- @usage local layer = moon.nn.RReLU { lower = 0.25, upper = 0.75 }
-- assert(layer:eval()(moon.tensor { -4 })[1] == -2)
function RReLU:init(given)
  local o = options.read("RReLU", given,
    { lower = { "number", 1 / 8 }, upper = { "number", 1 / 3 } })
  if o.lower > o.upper then
    error(("RReLU: lower must not be above upper, got %g and %g"):format(o.lower, o.upper), 3)
  end
  self.lower, self.upper = o.lower, o.upper
end

function RReLU:forward(x)
  return core.rrelu(x, self.lower, self.upper, self.training)
end

function RReLU:describe()
  return ("lower = %g, upper = %g"):format(self.lower, self.upper)
end

return RReLU
