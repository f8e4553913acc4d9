-- MaxPool2d: the largest value of each window.
-- x (n, c, h, w), y (n, c, (h + 2 padding - kernel) / stride + 1, ...); stride is the kernel's size
-- unless given.

local core = require "moonlet.core"
local options = require "moonlet.options"
local pair = require "moonlet.nn.pair"
local Module = require "moonlet.nn.module"

local MaxPool2d = Module:extend "MaxPool2d"

local schema = {
  stride = { "pair" }, padding = { "pair", 0 }, dilation = { "pair", 1 },
  ceil_mode = { "boolean", false },
}
local shown = { "stride", "padding", "dilation", "ceil_mode" }
local defaults = { padding = 0, dilation = 1, ceil_mode = false }

--- Pools each window to its largest value.
-- @param kernel a whole number or {height, width}
-- @tparam ?table given stride = kernel, padding = 0, dilation = 1, ceil_mode = false
-- @usage local moon = require "moonlet"
-- assert(moon.nn.MaxPool2d(2)(moon.zeros(1, 1, 4, 4)):size(3) == 2)
function MaxPool2d:init(kernel, given)
  self.kernel = options.argument("MaxPool2d", "kernel", kernel, "pair")
  local o = options.read("MaxPool2d", given, schema)
  for _, name in ipairs(shown) do self[name] = o[name] end
  rawset(self, "call_options", o)
end

function MaxPool2d:forward(x)
  return core.max_pool2d(x, self.kernel, self.call_options)
end

function MaxPool2d:describe()
  return pair.text(self.kernel) .. pair.options_text(self, shown, defaults)
end

return MaxPool2d
