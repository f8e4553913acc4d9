-- FractionalMaxPool2d: maxima of windows at random distances, so that sizes shrink by a fraction.
-- x (n, c, h, w), y (n, c, output_size) or (n, c, output_ratio h, output_ratio w); the windows are
-- drawn anew at every call (Graham 2014).

local core = require "moonlet.core"
local options = require "moonlet.options"
local pair = require "moonlet.nn.pair"
local Module = require "moonlet.nn.module"

local FractionalMaxPool2d = Module:extend "FractionalMaxPool2d"

local schema = {
  output_size = { "pair" }, output_ratio = { "number" }, return_indices = { "boolean", false },
  random_samples = { "tensor" },
}

--- Pools by a fraction.
-- @param kernel a whole number or {height, width}
-- @tparam table given output_size or output_ratio (below 1), return_indices = false,
-- random_samples (n, c, 2): the random numbers, drawn at every call unless given
-- @usage local moon = require "moonlet"
-- local pool = moon.nn.FractionalMaxPool2d(2, { output_ratio = 0.7 })
-- assert(pool(moon.randn(1, 2, 10, 20)):size(4) == 14)
function FractionalMaxPool2d:init(kernel, given)
  self.kernel = options.argument("FractionalMaxPool2d", "kernel", kernel, "pair")
  local o = options.read("FractionalMaxPool2d", given, schema)
  if (o.output_size == nil) == (o.output_ratio == nil) then
    error("FractionalMaxPool2d: give either output_size or output_ratio", 3)
  end
  self.output_size, self.output_ratio = o.output_size, o.output_ratio
  rawset(self, "call_options", o)
end

function FractionalMaxPool2d:forward(x)
  return core.fractional_max_pool2d(x, self.kernel, self.call_options)
end

function FractionalMaxPool2d:describe()
  return pair.text(self.kernel) .. pair.options_text(self, { "output_size", "output_ratio" }, {})
end

return FractionalMaxPool2d
