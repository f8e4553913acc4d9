-- Which engine a convolution of given shapes would get, and what each that fits would cost, in the
-- time of a multiply-add at its best. No array is made: the cost models look at shapes alone.

local core = require "moonlet.core"
local options = require "moonlet.options"
local pair = require "moonlet.nn.pair"

local schema = {
  stride = { "pair", 1 }, padding = { "pads2", 0 }, dilation = { "pair", 1 },
  groups = { "positive", 1 }, direction = { { "forward", "input", "weight" }, "forward" },
  dtype = { { "float32", "float64" }, "float32" },
}

local numbers = { forward = 0, input = 1, weight = 2 }

local function sizes_of(name, value)
  if type(value) ~= "table" or #value ~= 4 then
    error(("conv_engines: %s must be a list of four sizes"):format(name), 3)
  end
  return value
end

--- The engines that fit, the cheapest first: a list of {name =, cost =}.
-- @function moon.conv_engines
-- @tparam table input {n, c, h, w}
-- @tparam table weight {out channels, c / groups, kernel h, kernel w}
-- @tparam ?table given stride, padding, dilation, groups as for moon.conv2d, direction = "forward"
-- ("input", "weight": their gradients), dtype = "float32"
-- @usage local moon = require "moonlet"
-- local list = moon.conv_engines({ 8, 32, 56, 56 }, { 32, 1, 3, 3 }, { padding = 1, groups = 32 })
-- assert(list[1].name == "depthwise" and list[1].cost > 0)
return function(input, weight, given)
  sizes_of("input", input)
  sizes_of("weight", weight)
  local o = options.read("conv_engines", given, schema, 2)
  local kernel, stride = { weight[3], weight[4] }, pair.list(o.stride, 2)
  local dilation = pair.list(o.dilation, 2)
  local pads = pair.pads(o.padding, kernel, dilation)   -- width first, before and after
  local before, after = { pads[3], pads[1] }, { pads[4], pads[2] }
  local result = { input[1], weight[1] }
  for i = 1, 2 do
    local reach = input[2 + i] + before[i] + after[i] - dilation[i] * (kernel[i] - 1) - 1
    result[2 + i] = math.floor(reach / stride[i]) + 1
  end
  local costs = core.conv_costs(numbers[o.direction], input, weight, result, {
    stride[1], stride[2], before[1], before[2], after[1], after[2], dilation[1], dilation[2],
    o.groups,
  }, o.dtype == "float64" and 8 or 4)
  local list = {}
  for name, cost in pairs(costs) do list[#list + 1] = { name = name, cost = cost } end
  table.sort(list, function(a, b) return a.cost < b.cost end)
  return list
end
