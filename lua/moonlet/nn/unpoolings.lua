-- MaxUnpool1d, MaxUnpool2d, MaxUnpool3d: puts maxima back where a MaxPool layer found them.
-- x and indices (n, c, h, w), y (n, c, (h - 1) stride - 2 padding + kernel, ...), zeros elsewhere.

local core = require "moonlet.core"
local options = require "moonlet.options"
local pair = require "moonlet.nn.pair"
local Module = require "moonlet.nn.module"

local function make(dims)
  local name = ("MaxUnpool%dd"):format(dims)
  local Layer = Module:extend(name)
  local operator = core[("max_unpool%dd"):format(dims)]
  local schema = { stride = { pair.kinds[dims] }, padding = { pair.kinds[dims], 0 } }

  function Layer:init(kernel, given)
    self.kernel = options.argument(name, "kernel", kernel, pair.kinds[dims])
    local o = options.read(name, given, schema)
    self.stride, self.padding = o.stride, o.padding
  end

  function Layer:forward(x, indices, output_size)
    return operator(x, indices, self.kernel,
      { stride = self.stride, padding = self.padding, output_size = output_size })
  end

  function Layer:describe()
    return pair.text(self.kernel)
      .. pair.options_text(self, { "stride", "padding" }, { padding = 0 })
  end

  return Layer
end

--- Undoes a MaxPool layer as far as can be: called as layer(x, indices, output_size).
-- @function MaxUnpool2d(kernel, given)
-- @param kernel a whole number or {height, width}, as the pooling's
-- @tparam ?table given stride = kernel, padding = 0
-- @usage local moon = require "moonlet"
-- local x = moon.randn(1, 1, 4, 6)
-- local y, indices = moon.nn.MaxPool2d(2, { return_indices = true })(x)
-- assert(moon.nn.MaxUnpool2d(2)(y, indices):size(4) == 6)
local M = {}
for dims = 1, 3 do M[("MaxUnpool%dd"):format(dims)] = make(dims) end
return M
