-- Measurements on a GPU in a process of their own, by the device's clock: pictures a second of a
-- network for each pass, type and form asked for ("graph": the pass as a CUDA graph), and the most
-- memory that tensors took. Passes are queued one after the other, as in a training loop that reads
-- nothing. `ceilings` measures a copy and products instead, `pieces` what a training step has
-- beside the network: calls a second.
--
--   luajit bench/parts/measure_gpu.lua --workload resnet50 --batch 64 --passes train

local here = arg[0]:match("^(.*)/bench/[^/]*/[^/]*$") or "."
package.path = here .. "/?.lua;" .. package.path
local moon = require "moonlet"
local flags = require "moonlet.flags"
local passes = require "bench.parts.passes"
local workloads = require "bench.parts.workloads"

local o = flags.read({
  { "workload", "string", "lenet", "a row of bench/parts/workloads.lua, ceilings or pieces" },
  { "batch", "integer", 32, "pictures in a batch" },
  { "passes", "string", "forward,train", "what is measured" },
  { "dtypes", "string", "float32,tf32,bfloat16", "types of the arithmetic" },
  { "forms", "string", "eager,graph", "how the device gets its work" },
  { "seconds", "number", 0.5, "how long a measurement lasts at least" },
  { "device", "string", "cuda", "which GPU" },
}, arg, "usage: luajit bench/parts/measure_gpu.lua [flags]")

local ROUNDS = 5

-- The median seconds of one call of fn, of rounds of as many calls as fill their time.
local function seconds_of(fn)
  for _ = 1, 3 do fn() end   -- plans are made, and a graph is recorded
  moon.cuda.synchronize()
  local timer = moon.cuda.timer()
  fn()
  local calls = math.max(1, math.floor(o.seconds / ROUNDS / math.max(timer(), 1e-6)))
  local times = {}
  for round = 1, ROUNDS do
    timer = moon.cuda.timer()
    for _ = 1, calls do fn() end
    times[round] = timer() / calls
  end
  table.sort(times)
  return times[math.ceil(ROUNDS / 2)]
end

local function print_rate(name, rate)
  print(("%s %.6g"):format(name, rate))
end

local function ceilings()
  local x = moon.zeros(2 ^ 28, { device = o.device })
  local y = moon.empty(2 ^ 28, { device = o.device })
  local copied = seconds_of(function() moon.no_grad(y.copy_, y, x) end)
  print_rate("copy_gb_s", 2 * 4 * 2 ^ 28 / copied / 1e9)
  local n = 8192
  for dtype in o.dtypes:gmatch "[^,]+" do
    moon.cuda.tf32(dtype == "tf32")
    local a = moon.randn(n, n, { device = o.device })
    if dtype == "bfloat16" then a = a:to "bfloat16" end
    local taken = seconds_of(function() moon.no_grad(moon.matmul, a, a) end)
    print_rate("matmul_" .. dtype .. "_tflops", 2 * n ^ 3 / taken / 1e12)
  end
end

-- Softmax with cross entropy, forward and backward, of a language model's size; an LSTM of 128
-- steps, forward and backward, in float32; steps over the parameters of ResNet-50.
-- bench/peer_torch_gpu.py has the same.
local function pieces()
  local logits = moon.randn(4096, 32768, { device = o.device }):requires_grad_()
  local labels = moon.randint(1, 32768, { 4096 }):to(o.device)
  print_rate("cross_entropy", 1 / seconds_of(function()
    logits.grad = nil
    moon.cross_entropy(logits, labels):backward()
  end))
  local lstm, steps = moon.nn.LSTM(512, 512):to(o.device), moon.randn(128, 64, 512):to(o.device)
  print_rate("lstm", 1 / seconds_of(function()
    lstm:zero_grad()
    lstm(steps):sum():backward()
  end))
  local net = workloads.find("resnet50").build():to(o.device)
  for _, parameter in ipairs(net:parameters()) do parameter.grad = moon.ones_like(parameter) end
  local sgd = moon.optim.SGD(net:parameters(), { lr = 1e-3, momentum = 0.9 })
  print_rate("sgd", 1 / seconds_of(function() sgd:step() end))
  local adamw = moon.optim.AdamW(net:parameters(), { lr = 1e-3 })
  print_rate("adamw", 1 / seconds_of(function() adamw:step() end))
end

local function measure(net, x, y, pass, dtype)
  moon.cuda.tf32(dtype == "tf32")
  for form in o.forms:gmatch "[^,]+" do
    local call = passes.make(net, x, y, pass, dtype)
    if form == "graph" then call = moon.cuda.graph(call) end
    print_rate(("%s_%s_%s"):format(pass, dtype, form), o.batch / seconds_of(call))
  end
end

moon.cuda.benchmark(true)
moon.manual_seed(1)
if o.workload == "ceilings" then
  ceilings()
elseif o.workload == "pieces" then
  pieces()
else
  local row = assert(workloads.find(o.workload))
  local net = row.build():to(o.device)
  local x, y = workloads.input(row, o.batch)
  x, y = x:to(o.device), y:to(o.device)
  for pass in o.passes:gmatch "[^,]+" do
    for dtype in o.dtypes:gmatch "[^,]+" do measure(net, x, y, pass, dtype) end
  end
end
print(("peak_mib %.1f"):format(moon.cuda.memory().peak / 2 ^ 20))
