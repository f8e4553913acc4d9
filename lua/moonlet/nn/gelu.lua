-- GELU: x times the normal distribution function of x (Hendrycks and Gimpel 2016), or its
-- approximation by tanh, x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))). y has x's shape.

local core = require "moonlet.core"
local options = require "moonlet.options"
local Module = require "moonlet.nn.module"

local GELU = Module:extend "GELU"

local operators = { none = "gelu", tanh = "gelu_tanh" }

--- Makes the layer.
-- @tparam ?table given approximate = "none" or "tanh"
-- @usage local y = moon.nn.GELU { approximate = "tanh" } (moon.zeros(2))
-- assert(y:sum():item() == 0)
function GELU:init(given)
  local o = options.read("GELU", given, { approximate = { { "none", "tanh" }, "none" } })
  self.approximate = o.approximate
end

function GELU:forward(x)
  return core[operators[self.approximate]](x)
end

function GELU:describe()
  return self.approximate == "none" and "" or 'approximate = "tanh"'
end

return GELU
