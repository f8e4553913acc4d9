-- Every distinct convolution of VGG-16, ResNet-50, GoogLeNet and MobileNet v2, in three directions,
-- as a share of what the processor could do: the time that its multiply-adds take at the rate
-- of registers, or that its bytes take at the rate of memcpy, whichever is longer. Above 100 %
-- stands what needs fewer multiply-adds, as Winograd's form. Beside it, the engine that was chosen;
-- --engine prefers another one wherever it fits. The ceilings are measured first, by
-- bench/ceilings.c and moon.mm.
--
--   luajit bench/convolutions.lua --only vgg16 --direction forward --engine packed

local here = arg[0]:match("^(.*)/bench/[^/]*$") or "."
package.path = here .. "/?.lua;" .. package.path
local moon = require "moonlet"
local flags = require "moonlet.flags"
local child = require "bench.parts.child"
local clocks = require "bench.parts.clocks"
local workloads = require "bench.parts.workloads"

io.stdout:setvbuf "line"   -- so that what is known is seen, in a file too

local o = flags.read({
  { "only", "string", "vgg16,resnet50,googlenet,mobilenet_v2", "networks, with commas" },
  { "direction", "string", "forward,input,weight", "forward and the two gradients" },
  { "engine", "string", "", "prefer this one where it fits" },
  { "threads", "integer", 2, "most threads to calculate with" },
  { "seconds", "number", 0.2, "how long a measurement lasts at least" },
  { "clock", { "wall", "cpu" }, "wall", "cpu: processor time, where the machine is not free" },
}, arg, "usage: luajit bench/convolutions.lua [flags]")

local measure = clocks.measurer(o.clock, o.threads, o.seconds)

-- -- ceilings

local function gemm_rate(m, n, k)
  local a, b = moon.randn(m, k), moon.randn(k, n)
  return 2 * m * n * k / measure(function() moon.mm(a, b) end) * 1e-6
end

local function show_openblas(program, label, setting)
  local found = child.run(("%s%s openblas"):format(setting, program), 60)
  if not found or not found.square then return end
  print(("OpenBLAS %-12s (%s) %7.0f GFLOP/s on 2048 cubed, %.0f on 64 x 50176 x 576"):format(
    label, found.corename, found.square, found.early))
end

local function find_ceilings()
  local program = ("%s/build/ceilings %d %s"):format(here, o.threads, o.clock)
  local found, problem = child.run(program, 60)
  if not found then
    io.stderr:write("convolutions: build/ceilings, which `make bench` builds: ", problem, "\n")
    os.exit(1)
  end
  print(("registers %.0f GFLOP/s, memcpy %.1f GB/s, %d threads, %s"):format(
    found.fma_gflops, found.copy_gbs, o.threads, moon.cpu_level()))
  print(("moon.mm                          %7.0f GFLOP/s on 2048 cubed, %.0f on 64 x 50176 x 576")
    :format(gemm_rate(2048, 2048, 2048), gemm_rate(64, 50176, 576)))
  show_openblas(program, "as it ships", "")
  show_openblas(program, "SkylakeX", "OPENBLAS_CORETYPE=SkylakeX ")
  return found
end

-- -- the convolutions of a network, as its forward calls them

local function same(value) return type(value) == "table" and value[1] or value end

local function describe(layer, x, y)
  local kernel, stride = same(layer.kernel), same(layer.stride)
  local text = ("%dx%dx%d -> %d, %dx%d"):format(
    x:size(2), x:size(3), x:size(4), y:size(2), kernel, kernel)
  if stride > 1 then text = text .. " / " .. stride end
  if layer.groups > 1 then text = text .. ", groups " .. layer.groups end
  return text
end

-- A list in order of first use: { text, x, weight, y (shapes), options, multiply_adds, elements }.
local function shapes_of(row)
  local list, known = {}, {}
  local net = row.build():eval()
  local function note(layer, input, y)
    local x = input[1]
    local text = describe(layer, x, y)
    if known[text] then return end
    known[text] = true
    local weight, images = layer.weight, row.batch
    local pixels = row.batch * y:size(3) * y:size(4)
    list[#list + 1] = {
      text = text, x = { images, x:size(2), x:size(3), x:size(4) }, weight = weight:size(),
      y = { images, y:size(2), y:size(3), y:size(4) },
      options = { stride = layer.stride, padding = layer.padding, groups = layer.groups },
      multiply_adds = pixels * weight:numel(),
      elements = images * (x:numel() + y:numel()) + weight:numel(),
    }
  end
  net:apply(function(module)
    if module:is(moon.nn.Conv2d) then module:register_forward_hook(note) end
  end)
  local image = workloads.input(row, 1)
  moon.no_grad(function() net(image) end)
  return list
end

-- -- measurements

-- Each gives a call to measure and what has to be done in front of it.
local directions = {}

function directions.forward(shape)
  local x, weight = moon.randn(shape.x):contiguous "channels_last", moon.randn(shape.weight)
  return function()
    moon.no_grad(function() moon.conv2d(x, weight, nil, shape.options) end)
  end
end

-- The gradient of x, or of the weight, without the forward that it needs.
local function backward(wanted)
  return function(shape)
    local x, weight = moon.randn(shape.x):contiguous "channels_last", moon.randn(shape.weight)
    local g = moon.randn(shape.y):contiguous "channels_last"
    local leaf = ({ input = x, weight = weight })[wanted]
    leaf:requires_grad_(true)
    local y
    return function() y:backward(g) end, function()
      leaf.grad = nil
      y = moon.conv2d(x, weight, nil, shape.options)
    end
  end
end
directions.input, directions.weight = backward "input", backward "weight"

-- What the kernel of a call says about its choice.
local function engine_of(call, before)
  if before then before() end
  for _, row in ipairs(moon.profile(call).operators) do
    if row.algorithm then return row.algorithm end
  end
  return "?"
end

local function split(text)
  local list = {}
  for item in text:gmatch("[^,]+") do list[#list + 1] = item end
  return list
end

local ceilings = find_ceilings()
moon.conv_engine(o.engine)
local columns = split(o.direction)

local function show(shape)
  io.write(("%-34s"):format(shape.text))
  local by_registers = 2 * shape.multiply_adds / ceilings.fma_gflops * 1e-6
  local by_memory = 4 * shape.elements / ceilings.copy_gbs * 1e-6
  for _, direction in ipairs(columns) do
    local call, before = directions[direction](shape)
    local engine, taken = engine_of(call, before), measure(call, before)
    io.write(("%9.2f ms %4.0f %% %-10s"):format(
      taken, math.max(by_registers, by_memory) / taken * 100, engine))
  end
  print(by_memory > by_registers and "memory" or "")
end

for _, name in ipairs(split(o.only)) do
  local row = assert(workloads.find(name))
  io.write(("\n%-34s"):format(("%s, batch %d"):format(name, row.batch)))
  for _, direction in ipairs(columns) do io.write(("%12s%17s"):format(direction, "")) end
  print()
  for _, shape in ipairs(shapes_of(row)) do show(shape) end
end
