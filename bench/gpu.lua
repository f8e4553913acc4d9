-- The table on a GPU: moonlet beside PyTorch (channels_last, cudnn.benchmark, autocast; and
-- torch.compile), pictures a second, forward and training steps, float32 and bfloat16. Every
-- measurement is a process of its own; moonlet and its peers take turns.
--
--   luajit bench/gpu.lua --peer PYTHON --only resnet50,vgg16 --csv FILE
--
-- ratio is moonlet's rate divided by the peer's.

local here = arg[0]:match("^(.*)/bench/[^/]*$") or "."
package.path = here .. "/?.lua;" .. package.path
local moon = require "moonlet"
local flags = require "moonlet.flags"
local child = require "bench.parts.child"
local workloads = require "bench.parts.workloads"

io.stdout:setvbuf "line"   -- so that what is known is seen, in a file too

local o = flags.read({
  { "peer", "string", nil, "a Python that has torch with CUDA" },
  { "forms", "string", "eager", "of PyTorch: eager, compile or both" },
  { "only", "string", "mnist_cnn,lenet,alexnet,vgg16,googlenet,resnet50,densenet121,unet",
    "workloads, separated by commas" },
  { "pass", "string", "forward,train", "forward, train or both" },
  { "dtype", "string", "float32,bfloat16", "types of the arithmetic" },
  { "batch", "integer", 64, "pictures in a batch (U-Net: a quarter)" },
  { "rounds", "integer", 1, "processes for each measurement" },
  { "seconds", "number", 0.5, "how long a measurement lasts" },
  { "timeout", "integer", 120, "seconds after which a process is given up" },
  { "budget", "integer", 540, "seconds for all; what is left then is named" },
  { "csv", "string", nil, "a file for the table" },
}, arg, "usage: luajit bench/gpu.lua [flags]")

local COLUMNS = "workload,batch,pass,dtype,moonlet_images_s,moonlet_peak_mib,peer,"
  .. "peer_images_s,ratio"

local available, why = moon.cuda.is_available()
if not available then
  print("There is no table without a GPU: " .. why)
  return
end
moon.cuda.info()

local function split(text)
  local list = {}
  for item in text:gmatch "[^,]+" do list[#list + 1] = item end
  return list
end

local function command_of(program, case)
  return ("%s --workload %s --batch %d --pass %s --dtype %s --seconds %g"):format(program,
    case.workload, case.batch, case.pass, case.dtype, o.seconds)
end

local function median(values)
  table.sort(values)
  return values[math.ceil(#values / 2)]
end

local ours = ("%s %s/bench/parts/measure_gpu.lua"):format(child.interpreter, here)
local peers = {}
for _, form in ipairs(o.peer and split(o.forms) or {}) do
  peers[#peers + 1] = {
    name = "pytorch " .. form,
    program = ("%s %s/bench/peer_torch_gpu.py --form %s"):format(o.peer, here, form),
  }
end

local function peer_program(peer, row)
  return ("%s --shape %s --classes %d%s"):format(peer.program, table.concat(row.shape, ","),
    row.classes, row.pixels and " --pixels" or "")
end

-- Rates of moonlet and its peers, in turns; false and a sentence where one failed.
local function measure(case)
  local row = assert(workloads.find(case.workload))
  local rates, peak, problems = { moonlet = {} }, nil, {}
  for _ = 1, o.rounds do
    local found, problem = child.run(command_of(ours, case), o.timeout)
    problems.moonlet = problem
    if found then
      table.insert(rates.moonlet, found.images_s)
      peak = found.peak_mib
    end
    for _, peer in ipairs(peers) do
      rates[peer.name] = rates[peer.name] or {}
      found, problem = child.run(command_of(peer_program(peer, row), case), o.timeout)
      problems[peer.name] = problem
      if found then table.insert(rates[peer.name], found.images_s) end
    end
  end
  for name, list in pairs(rates) do rates[name] = median(list) end
  return rates, peak, problems
end

local csv = o.csv and assert(io.open(o.csv, "w"))
if csv then csv:write(COLUMNS, "\n") end

local function show(case, name, rates, peak, problem)
  local ratio = rates.moonlet and rates[name] and rates.moonlet / rates[name]
  print(("%-12s %4d %-8s %-9s %10s %8s  %-16s %10s %6s"):format(case.workload, case.batch,
    case.pass, case.dtype, rates.moonlet and ("%.0f"):format(rates.moonlet) or "failed",
    peak and ("%.0f"):format(peak) or "", name or "",
    name and rates[name] and ("%.0f"):format(rates[name]) or "",
    ratio and ("%.2f"):format(ratio) or ""))
  if problem then print("    " .. problem) end
  if not csv then return end
  csv:write(("%s,%d,%s,%s,%s,%s,%s,%s,%s\n"):format(case.workload, case.batch, case.pass,
    case.dtype, rates.moonlet or "", peak or "", name or "", name and rates[name] or "",
    ratio or ""))
  csv:flush()
end

local ceilings, problem = child.run(ours .. " --workload ceilings", o.timeout)
if ceilings then
  print(("copy %.0f GB/s, read and written; product of 8192 cubed: float32 %.1f, bfloat16 %.1f "
    .. "TFLOP/s"):format(ceilings.copy_gb_s, ceilings.matmul_float32_tflops,
    ceilings.matmul_bfloat16_tflops))
else
  print("ceilings: " .. problem)
end
print(("%-12s %4s %-8s %-9s %10s %8s  %-16s %10s %6s"):format("workload", "", "pass", "dtype",
  "images/s", "MiB", "peer", "images/s", "ratio"))
local began, left = moon.clock(), {}
for _, workload in ipairs(split(o.only)) do
  for _, pass in ipairs(split(o.pass)) do
    for _, dtype in ipairs(split(o.dtype)) do
      local row = assert(workloads.find(workload))
      local case = { workload = workload, pass = pass, dtype = dtype,
                     batch = row.pixels and math.ceil(o.batch / 4) or o.batch }
      if moon.clock() - began > o.budget then
        left[#left + 1] = ("%s %s %s"):format(workload, pass, dtype)
      else
        local rates, peak, problems = measure(case)
        if #peers == 0 then show(case, nil, rates, peak, problems.moonlet) end
        for _, peer in ipairs(peers) do
          show(case, peer.name, rates, peak, problems.moonlet or problems[peer.name])
        end
      end
    end
  end
end
if #left > 0 then print("no time was left for " .. table.concat(left, ", ")) end
if csv then csv:close() end
