-- Fold: columns added up into pictures, the adjoint of Unfold.
-- x (n, c kh kw, windows), y (n, c, h, w)

local core = require "moonlet.core"
local options = require "moonlet.options"
local pair = require "moonlet.nn.pair"
local Module = require "moonlet.nn.module"

local Fold = Module:extend "Fold"

local schema = { stride = { "pair", 1 }, padding = { "pads2", 0 }, dilation = { "pair", 1 } }
local shown = { "stride", "padding", "dilation" }
local defaults = { stride = 1, padding = 0, dilation = 1 }

--- Adds windows up where they overlap (moon.col2im).
-- @param size of the pictures, a whole number or {height, width}
-- @param kernel a whole number or {height, width}
-- @tparam ?table given stride = 1, padding = 0, dilation = 1
-- @usage local moon = require "moonlet"
-- local fold = moon.nn.Fold({ 4, 6 }, 2, { stride = 2 })
-- assert(fold(moon.zeros(1, 12, 6)):size(2) == 3)
function Fold:init(size, kernel, given)
  self.size = options.argument("Fold", "size", size, "pair")
  self.kernel = options.argument("Fold", "kernel", kernel, "pair")
  local o = options.read("Fold", given, schema)
  for _, name in ipairs(shown) do self[name] = o[name] end
  rawset(self, "call_options", o)
end

function Fold:forward(x)
  return core.col2im(x, self.size, self.kernel, self.call_options)
end

function Fold:describe()
  return pair.text(self.size) .. ", " .. pair.text(self.kernel)
    .. pair.options_text(self, shown, defaults)
end

return Fold
