-- FractionalMaxPool2d, FractionalMaxPool3d: maxima of windows at random distances, so that sizes
-- shrink by a fraction. x (n, c, h, w), y (n, c, output_size) or (n, c, output_ratio h,
-- output_ratio w); the windows are drawn anew at every call (Graham 2014).

local core = require "moonlet.core"
local options = require "moonlet.options"
local pair = require "moonlet.nn.pair"
local Module = require "moonlet.nn.module"

local function make(dims)
  local name = ("FractionalMaxPool%dd"):format(dims)
  local Layer = Module:extend(name)
  local operator = core[("fractional_max_pool%dd"):format(dims)]
  local schema = {
    output_size = { pair.kinds[dims] }, output_ratio = { "number" },
    return_indices = { "boolean", false }, random_samples = { "tensor" },
  }

  function Layer:init(kernel, given)
    self.kernel = options.argument(name, "kernel", kernel, pair.kinds[dims])
    local o = options.read(name, given, schema)
    if (o.output_size == nil) == (o.output_ratio == nil) then
      error(name .. ": give either output_size or output_ratio", 3)
    end
    self.output_size, self.output_ratio = o.output_size, o.output_ratio
    rawset(self, "call_options", o)
  end

  function Layer:forward(x)
    return operator(x, self.kernel, self.call_options)
  end

  function Layer:describe()
    return pair.text(self.kernel)
      .. pair.options_text(self, { "output_size", "output_ratio" }, {})
  end

  return Layer
end

--- Pools by a fraction.
-- @function FractionalMaxPool2d(kernel, given)
-- @param kernel a whole number or {height, width}
-- @tparam table given output_size or output_ratio (below 1), return_indices = false,
-- random_samples (n, c, 2): the random numbers, drawn at every call unless given
-- @usage local moon = require "moonlet"
-- local pool = moon.nn.FractionalMaxPool2d(2, { output_ratio = 0.7 })
-- assert(pool(moon.randn(1, 2, 10, 20)):size(4) == 14)
return { FractionalMaxPool2d = make(2), FractionalMaxPool3d = make(3) }
