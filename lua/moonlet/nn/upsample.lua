-- Upsample: resizes what lies behind the channels, by moon.interpolate.
-- x (n, c, l), (n, c, h, w) or (n, c, d, h, w), y (n, c, size) or (n, c, floor(h * scale_factor),
-- ...)

local core = require "moonlet.core"
local options = require "moonlet.options"
local pair = require "moonlet.nn.pair"
local Module = require "moonlet.nn.module"

local Upsample = Module:extend "Upsample"

local modes = { "nearest", "nearest-exact", "linear", "bilinear", "trilinear", "bicubic", "area" }
local schema = {
  size = { "any" }, scale_factor = { "above_zero" }, mode = { modes, "nearest" },
  align_corners = { "boolean", false }, antialias = { "boolean", false },
}
local shown = { "size", "scale_factor", "mode", "align_corners", "antialias" }
local defaults = { mode = "nearest", align_corners = false, antialias = false }

--- Resizes to a size or by a factor.
-- @tparam table given size (a whole number or one a dimension) or scale_factor; mode = "nearest"
-- ("nearest-exact", "linear", "bilinear", "trilinear", "bicubic", "area"), align_corners = false,
-- antialias = false
-- @usage local moon = require "moonlet"
-- local double = moon.nn.Upsample { scale_factor = 2, mode = "bilinear" }
-- assert(double(moon.zeros(1, 3, 4, 5)):size(4) == 10)
function Upsample:init(given)
  local o = options.read("Upsample", given, schema)
  if (o.size == nil) == (o.scale_factor == nil) then
    error("Upsample: give either size or scale_factor", 3)
  end
  for _, name in ipairs(shown) do self[name] = o[name] end
  rawset(self, "call_options", o)
end

function Upsample:forward(x)
  return core.interpolate(x, self.call_options)
end

function Upsample:describe()
  return (pair.options_text(self, shown, defaults):gsub("^, ", ""))
end

return Upsample
