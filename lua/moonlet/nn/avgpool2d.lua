-- AvgPool2d: the mean of each window.
-- x (n, c, h, w), y (n, c, (h + 2 padding - kernel) / stride + 1, ...); stride is the kernel's size
-- unless given.

local core = require "moonlet.core"
local options = require "moonlet.options"
local pair = require "moonlet.nn.pair"
local Module = require "moonlet.nn.module"

local AvgPool2d = Module:extend "AvgPool2d"

local schema = {
  stride = { "pair" }, padding = { "pair", 0 }, ceil_mode = { "boolean", false },
  count_include_pad = { "boolean", true },
}
local shown = { "stride", "padding", "ceil_mode", "count_include_pad" }
local defaults = { padding = 0, ceil_mode = false, count_include_pad = true }

--- Pools each window to its mean.
-- @param kernel a whole number or {height, width}
-- @tparam ?table given stride = kernel, padding = 0, count_include_pad = true, ceil_mode = false
-- @usage local moon = require "moonlet"
-- assert(moon.nn.AvgPool2d(2)(moon.zeros(1, 1, 4, 4)):size(3) == 2)
function AvgPool2d:init(kernel, given)
  self.kernel = options.argument("AvgPool2d", "kernel", kernel, "pair")
  local o = options.read("AvgPool2d", given, schema)
  for _, name in ipairs(shown) do self[name] = o[name] end
  rawset(self, "call_options", o)
end

function AvgPool2d:forward(x)
  return core.avg_pool2d(x, self.kernel, self.call_options)
end

function AvgPool2d:describe()
  return pair.text(self.kernel) .. pair.options_text(self, shown, defaults)
end

return AvgPool2d
