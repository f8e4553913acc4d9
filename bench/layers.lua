-- Layers that move memory more than they calculate: the time of each, forward and backward, beside
-- that of copying as many bytes as it must read and write, each once. "ratio" is the first divided
-- by the second. Inputs are laid out channels last (as convolutions leave them), or contiguous.
--
--   luajit bench/layers.lua [--threads 2] [--shape 8x64x112x112] [--only NAME] [--layout LAYOUT]
--   luajit bench/layers.lua --device cuda --shape 64x64x112x112
--
-- The minimum of several rounds in milliseconds; on one thread the processor's time is taken, which
-- does not notice what else the machine does, and a GPU's by its own clock, over calls that are
-- queued one behind the other.

local here = arg[0]:match("^(.*)/bench/[^/]*$") or "."
package.path = here .. "/?.lua;" .. package.path
local moon = require "moonlet"

local flags = require "moonlet.flags"

local ROUNDS, QUEUED = 9, 20

local options = flags.read({
  { "threads", "integer", 1, "most threads to calculate with" },
  { "shape", "string", "8x64x112x112", "of the input" },
  { "only", "string", nil, "one layer of the table" },
  { "layout", { "both", "channels last", "contiguous" }, "both", "of the input" },
  { "device", "string", "cpu", "cpu, or cuda" },
}, arg, "usage: luajit bench/layers.lua [flags]")

local shape = {}
for size in options.shape:gmatch("%d+") do shape[#shape + 1] = tonumber(size) end
moon.set_num_threads(options.threads)
local device = options.device
local there, why = pcall(moon.zeros, 1, { device = device })
if not there then
  io.stderr:write("layers: ", why, "\n")
  os.exit(1)
end
local clock = options.threads == 1 and os.clock or moon.clock

local function seconds_here(fn)
  local started = clock()
  fn()
  return clock() - started
end

local function seconds_there(fn)
  local timer = moon.cuda.timer()
  for _ = 1, QUEUED do fn() end
  return timer() / QUEUED
end

local function milliseconds(fn)
  local seconds = device == "cpu" and seconds_here or seconds_there
  local least = math.huge
  for _ = 1, ROUNDS do least = math.min(least, seconds(fn)) end
  return least * 1e3
end

-- Stands where a layer's input comes from in a network: needs a gradient and does nothing with it.
local Source = moon.Function:extend "Source"
function Source.forward(_, _, x) return x end
function Source.backward() return nil, nil end

local function laid_out(layout, sizes)
  if layout == "contiguous" or #sizes ~= 4 then return moon.randn(sizes, { device = device }) end
  return moon.randn({ sizes[1], sizes[3], sizes[4], sizes[2] }, { device = device })
    :permute(1, 4, 2, 3)
end

local function norm(given)
  local layer = moon.nn.BatchNorm2d(shape[2]):to(device)
  if given.eval then layer:eval() end
  return function(x, other)
    return layer(x, { add = given.add and other, activation = given.activation })
  end
end

local labels
local function cross_entropy(x)
  labels = labels or moon.randint(1, x:size(2), { x:size(1), x:size(3), x:size(4) }):to(device)
  return moon.cross_entropy(x, labels)
end

-- At the pixels' own places, turned a little and made smaller.
local grid
local function sampled(x)
  local turned = moon.tensor { { 0.9, 0.2, 0.05 }, { -0.2, 0.9, 0 } }:expand(x:size(1), 2, 3)
  grid = grid or moon.affine_grid(turned, x:size()):to(device)
  return moon.grid_sample(x, grid)
end

-- An operator of the input alone.
local function of(operator)
  return function(x) return moon[operator](x) end
end

-- name, layer, and how many arrays of the input's size must be read and written: forward, backward
-- (an array of the result's size counts by what it is of that).
local layers = {
  { "batch_norm", norm {}, 3, 5 },
  { "batch_norm, relu", norm { activation = "relu" }, 3, 5 },
  { "batch_norm, add, relu", norm { add = true, activation = "relu" }, 4, 7 },
  { "batch_norm, relu, eval", norm { eval = true, activation = "relu" }, 2, 5 },
  { "relu", of "relu", 2, 3 },
  { "relu6", of "relu6", 2, 3 },
  { "sigmoid", of "sigmoid", 2, 3 },
  { "tanh", of "tanh", 2, 3 },
  { "silu", of "silu", 2, 3 },
  { "gelu", of "gelu", 2, 3 },
  { "sin", of "sin", 2, 3 },
  { "tan", of "tan", 2, 3 },
  { "hardswish", of "hardswish", 2, 3 },
  { "elu", of "elu", 2, 3 },
  { "leaky_relu", of "leaky_relu", 2, 3 },
  { "dropout", function(x) return moon.dropout(x, 0.5, true) end, 2.25, 2.25 },
  { "pow", function(x, other) return moon.pow(other, x) end, 3, 5 },
  { "add", function(x, other) return x + other end, 3, 0 },
  { "max_pool2d 2", function(x) return moon.max_pool2d(x, 2) end, 1.25, 1.3125 },
  { "max_pool2d 3, stride 2", function(x)
    return moon.max_pool2d(x, 3, { stride = 2, padding = 1 })
  end, 1.25, 1.3125 },
  { "max_pool2d 3, stride 1", function(x)
    return moon.max_pool2d(x, 3, { stride = 1, padding = 1 })
  end, 2, 2.25 },
  { "avg_pool2d 2", function(x) return moon.avg_pool2d(x, 2) end, 1.25, 1.25 },
  { "avg_pool2d 3, stride 1", function(x)
    return moon.avg_pool2d(x, 3, { stride = 1, padding = 1 })
  end, 2, 2 },
  { "global average", function(x) return moon.adaptive_avg_pool2d(x, 1) end, 1, 1 },
  { "local_response_norm 5", function(x) return moon.local_response_norm(x, 5) end, 2, 3 },
  { "upsample nearest", function(x) return moon.interpolate(x, { scale_factor = 2 }) end, 5, 5 },
  { "upsample bilinear", function(x)
    return moon.interpolate(x, { scale_factor = 2, mode = "bilinear" })
  end, 5, 5 },
  { "grid_sample", sampled, 2, 2 },
  { "softmax of channels", function(x) return moon.softmax(x, 2) end, 2, 3 },
  { "log_softmax of channels", function(x) return moon.log_softmax(x, 2) end, 2, 3 },
  { "cross_entropy", cross_entropy, 1, 2 },
  { "sum by channel", function(x) return x:sum { 1, 3, 4 } end, 1, 0 },
}

-- The time of copying `arrays` / 2 arrays of the shape.
local copies = {}
local function copy_time(arrays)
  if copies[arrays] then return copies[arrays] end
  local count = 1
  for _, size in ipairs(shape) do count = count * size end
  local from = moon.randn({ math.floor(count * arrays / 2) }, { device = device })
  local to = moon.empty_like(from)
  copies[arrays] = milliseconds(function() to:copy_(from) end)
  return copies[arrays]
end

local function report(name, pass, layout, time, arrays)
  print(("%-26s %-9s %-14s %9.2f %9.2f %7.2f"):format(name, pass, layout, time, copy_time(arrays),
    time / copy_time(arrays)))
end

local function measure(layer, layout)
  local name, call, forward, backward = layer[1], layer[2], layer[3], layer[4]
  local x, other = laid_out(layout, shape), laid_out(layout, shape)
  report(name, "forward", layout, milliseconds(function() moon.no_grad(call, x, other) end),
    forward)
  if backward == 0 then return end
  local leaf = moon.zeros(1, { requires_grad = true, device = device })
  local y = call(Source(leaf, x), other)
  local gradient = y:dim() == 0 and moon.ones_like(y) or laid_out(layout, y:size())
  report(name, "backward", layout,
    milliseconds(function() y:backward(gradient, { retain_graph = true }) end), backward)
end

print(("%-26s %-9s %-14s %9s %9s %7s"):format("layer", "pass", "layout", "ms", "copy ms", "ratio"))
for _, layer in ipairs(layers) do
  for _, layout in ipairs { "channels last", "contiguous" } do
    local wanted = (options.only or layer[1]) == layer[1]
      and (options.layout == "both" or options.layout == layout)
    if wanted then measure(layer, layout) end
    collectgarbage()
  end
end
