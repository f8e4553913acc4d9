-- One measurement on a GPU in a process of its own: pictures a second in a pass, by the device's
-- clock, and the most memory that its tensors took. Passes are queued one after the other, as in a
-- training loop that reads nothing; `ceilings` measures a copy and a product instead.
--
--   luajit bench/parts/measure_gpu.lua --workload resnet50 --batch 64 --pass train

local here = arg[0]:match("^(.*)/bench/[^/]*/[^/]*$") or "."
package.path = here .. "/?.lua;" .. package.path
local moon = require "moonlet"
local flags = require "moonlet.flags"
local workloads = require "bench.parts.workloads"

local o = flags.read({
  { "workload", "string", "lenet", "a row of bench/parts/workloads.lua, or ceilings" },
  { "batch", "integer", 32, "pictures in a batch" },
  { "pass", { "forward", "train" }, "forward", "what is measured" },
  { "dtype", { "float32", "bfloat16" }, "float32", "type of the arithmetic" },
  { "seconds", "number", 1, "how long a round lasts at least" },
  { "device", "string", "cuda", "which GPU" },
}, arg, "usage: luajit bench/parts/measure_gpu.lua [flags]")

local RATE, ROUNDS = 1e-3, 5

-- The median seconds of one call of fn, of rounds of as many calls as fill their time.
local function seconds_of(fn)
  fn()
  fn()
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

local function in_dtype(fn)
  if o.dtype == "bfloat16" then return moon.autocast(fn) end
  return fn()
end

local function make_pass(net, x, y)
  if o.pass == "forward" then
    net:eval()
    return function()
      moon.scope(moon.no_grad, function() in_dtype(function() net(x) end) end)
    end
  end
  local optimizer = moon.optim.SGD(net:parameters(), { lr = RATE, momentum = 0.9 })
  return function()
    optimizer:zero_grad()
    in_dtype(function() return moon.cross_entropy(net(x), y) end):backward()
    optimizer:step()
  end
end

local function ceilings()
  local x = moon.zeros(2 ^ 28, { device = o.device })
  local y = moon.empty(2 ^ 28, { device = o.device })
  local copied = seconds_of(function() moon.no_grad(y.copy_, y, x) end)
  print(("copy_gb_s %.1f"):format(2 * 4 * 2 ^ 28 / copied / 1e9))
  local n = 8192
  for _, dtype in ipairs { "float32", "bfloat16" } do
    local a = moon.randn(n, n, { device = o.device }):to(dtype)
    local taken = seconds_of(function() moon.no_grad(moon.matmul, a, a) end)
    print(("matmul_%s_tflops %.1f"):format(dtype, 2 * n ^ 3 / taken / 1e12))
  end
end

if o.workload == "ceilings" then
  ceilings()
  return
end
local row = assert(workloads.find(o.workload))
moon.manual_seed(1)
local net = row.build():to(o.device)
local x, y = workloads.input(row, o.batch)
local seconds = seconds_of(make_pass(net, x:to(o.device), y:to(o.device)))
print(("images_s %.1f"):format(o.batch / seconds))
print(("peak_mib %.1f"):format(moon.cuda.memory().peak / 2 ^ 20))
