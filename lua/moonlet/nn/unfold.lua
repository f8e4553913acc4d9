-- Unfold: the windows of pictures as columns.
-- x (n, c, h, w), y (n, c kh kw, windows)

local core = require "moonlet.core"
local options = require "moonlet.options"
local pair = require "moonlet.nn.pair"
local Module = require "moonlet.nn.module"

local Unfold = Module:extend "Unfold"

local schema = { stride = { "pair", 1 }, padding = { "pads2", 0 }, dilation = { "pair", 1 } }
local shown = { "stride", "padding", "dilation" }
local defaults = { stride = 1, padding = 0, dilation = 1 }

--- Takes every window apart (moon.im2col).
-- @param kernel a whole number or {height, width}
-- @tparam ?table given stride = 1, padding = 0, dilation = 1
-- @usage local moon = require "moonlet"
-- local columns = moon.nn.Unfold(3)(moon.zeros(2, 4, 5, 6))
-- assert(columns:size(2) == 36 and columns:size(3) == 12)
function Unfold:init(kernel, given)
  self.kernel = options.argument("Unfold", "kernel", kernel, "pair")
  local o = options.read("Unfold", given, schema)
  for _, name in ipairs(shown) do self[name] = o[name] end
  rawset(self, "call_options", o)
end

function Unfold:forward(x)
  return core.im2col(x, self.kernel, self.call_options)
end

function Unfold:describe()
  return pair.text(self.kernel) .. pair.options_text(self, shown, defaults)
end

return Unfold
