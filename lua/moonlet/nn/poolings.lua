-- Pooling layers of one, two and three dimensions, a row for each kind: MaxPool2d, AvgPool1d,
-- LPPool3d, AdaptiveMaxPool2d, GlobalAvgPool1d and so on.
-- x (n, c, l), (n, c, h, w) or (n, c, d, h, w); y of the same form, for a window
-- (h + 2 padding - dilation (kernel - 1) - 1) / stride + 1 high, rounded down, or up in ceil_mode.

local core = require "moonlet.core"
local options = require "moonlet.options"
local pair = require "moonlet.nn.pair"
local Module = require "moonlet.nn.module"

-- kind: operator, options in order { name, type or "size", default }, and the arguments in front.
local rows = {
  MaxPool = { "max_pool", { "kernel" },
    { "stride", "size" }, { "padding", "size", 0 }, { "dilation", "size", 1 },
    { "ceil_mode", "boolean", false }, { "return_indices", "boolean", false } },
  AvgPool = { "avg_pool", { "kernel" },
    { "stride", "size" }, { "padding", "size", 0 }, { "ceil_mode", "boolean", false },
    { "count_include_pad", "boolean", true }, { "divisor_override", "integer", dims_from = 2 } },
  LPPool = { "lp_pool", { "norm_type", "kernel" },
    { "stride", "size" }, { "ceil_mode", "boolean", false } },
  AdaptiveMaxPool = { "adaptive_max_pool", { "output_size" },
    { "return_indices", "boolean", false } },
  AdaptiveAvgPool = { "adaptive_avg_pool", { "output_size" } },
}

local least = { kernel = 1, output_size = 1, stride = 1, padding = 0, dilation = 1 }

local function read_options(name, row, dims, given)
  local schema, shown, defaults = {}, {}, {}
  for i = 3, #row do
    local rule = row[i]
    if dims >= (rule.dims_from or 1) then
      schema[rule[1]] = { rule[2] == "size" and pair.kinds[dims] or rule[2], rule[3] }
      shown[#shown + 1], defaults[rule[1]] = rule[1], rule[3]
    end
  end
  return options.read(name, given, schema, 5), shown, defaults
end

local function make(kind, row, dims)
  local name = ("%s%dd"):format(kind, dims)
  local Layer = Module:extend(name)
  local operator, first = core[("%s%dd"):format(row[1], dims)], row[2]

  function Layer:init(...)
    for i, argument in ipairs(first) do
      local value = select(i, ...)
      local type_name = argument == "norm_type" and "number" or pair.kinds[dims]
      self[argument] = options.argument(name, argument, value, type_name)
      if least[argument] then pair.at_least(name, argument, value, least[argument], 4) end
    end
    local o, shown, defaults = read_options(name, row, dims, (select(#first + 1, ...)))
    for _, option in ipairs(shown) do
      if least[option] then pair.at_least(name, option, o[option], least[option], 4) end
      self[option] = o[option]
    end
    rawset(self, "call_options", o)
    rawset(self, "shown", { shown, defaults })
  end

  if #first == 2 then
    function Layer:forward(x)
      return operator(x, self.norm_type, self.kernel, self.call_options)
    end
  else
    local argument = first[1]
    function Layer:forward(x)
      if next(self.call_options) == nil then return operator(x, self[argument]) end
      return operator(x, self[argument], self.call_options)
    end
  end

  function Layer:describe()
    local parts = {}
    for i, argument in ipairs(first) do parts[i] = pair.text(self[argument]) end
    return table.concat(parts, ", ") .. pair.options_text(self, self.shown[1], self.shown[2])
  end

  return Layer
end

-- The mean or maximum of everything behind the channels; sizes of 1 stay.
local function make_global(kind, operator, dims)
  local Layer = Module:extend(("%s%dd"):format(kind, dims))
  local pool = core[("%s%dd"):format(operator, dims)]

  function Layer.forward(_, x) return (pool(x, 1)) end

  return Layer
end

--- Pooling layers. MaxPool and AvgPool take a kernel, LPPool a norm and a kernel, the adaptive ones
-- the output's size: a whole number or one a dimension. GlobalAvgPool and GlobalMaxPool take
-- nothing and leave one number a channel.
-- @function MaxPool2d(kernel, given)
-- @param kernel a whole number or {height, width}
-- @tparam ?table given stride = kernel, padding = 0, ceil_mode = false; MaxPool: dilation = 1,
-- return_indices = false; AvgPool: count_include_pad = true, divisor_override (not AvgPool1d)
-- @usage local moon = require "moonlet"
-- local x = moon.zeros(1, 3, 7, 6)
-- assert(moon.nn.MaxPool2d(2, { ceil_mode = true })(x):size(3) == 4)
-- assert(moon.nn.LPPool2d(2, 3)(x):size(4) == 2)
-- assert(moon.nn.AdaptiveAvgPool2d(5)(x):size(4) == 5)
-- assert(moon.nn.GlobalAvgPool2d()(x):size(3) == 1)
local M = {}
for dims = 1, 3 do
  for kind, row in pairs(rows) do M[("%s%dd"):format(kind, dims)] = make(kind, row, dims) end
  M[("GlobalAvgPool%dd"):format(dims)] = make_global("GlobalAvgPool", "adaptive_avg_pool", dims)
  M[("GlobalMaxPool%dd"):format(dims)] = make_global("GlobalMaxPool", "adaptive_max_pool", dims)
end
return M
