-- LocalResponseNorm: y = x / (k + alpha / size * sum of x^2 over `size` neighbouring channels)^beta
-- (Krizhevsky et al. 2012, whose alpha is not divided by size). x and y (n, c, ...)

local core = require "moonlet.core"
local options = require "moonlet.options"
local Module = require "moonlet.nn.module"

local LocalResponseNorm = Module:extend "LocalResponseNorm"

local schema = { alpha = { "number", 1e-4 }, beta = { "number", 0.75 }, k = { "number", 1 } }

--- Normalises across neighbouring channels.
-- @int size channels in a neighbourhood
-- @tparam ?table given alpha = 1e-4, beta = 0.75, k = 1
-- @usage local moon = require "moonlet"
-- assert(moon.nn.LocalResponseNorm(5)(moon.ones(1, 8, 2, 2)):size(2) == 8)
function LocalResponseNorm:init(size, given)
  self.window = options.argument("LocalResponseNorm", "size", size, "positive")
  local o = options.read("LocalResponseNorm", given, schema)
  self.alpha, self.beta, self.k = o.alpha, o.beta, o.k
  rawset(self, "call_options", o)
end

function LocalResponseNorm:forward(x)
  return core.local_response_norm(x, self.window, self.call_options)
end

function LocalResponseNorm:describe()
  return ("%d, alpha = %g, beta = %g, k = %g"):format(self.window, self.alpha, self.beta, self.k)
end

return LocalResponseNorm
