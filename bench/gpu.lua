-- The table on a GPU: moonlet, eager and as a CUDA graph, beside PyTorch (channels_last,
-- cudnn.benchmark, autocast; and torch.compile), pictures a second, forward and training steps, in
-- float32, TF32 and bfloat16; and pieces of a training step in calls a second. A process for each
-- workload and side, in turns.
--
--   luajit bench/gpu.lua --peer PYTHON --only resnet50,vgg16 --csv FILE
--
-- ratio is moonlet's rate divided by the peer's. bench/layers.lua --device cuda measures layers.

local here = arg[0]:match("^(.*)/bench/[^/]*$") or "."
package.path = here .. "/?.lua;" .. package.path
local moon = require "moonlet"
local flags = require "moonlet.flags"
local unpack = require "moonlet.unpack"
local child = require "bench.parts.child"
local workloads = require "bench.parts.workloads"

io.stdout:setvbuf "line"   -- so that what is known is seen, in a file too

local o = flags.read({
  { "peer", "string", nil, "a Python that has torch with CUDA" },
  { "peer-forms", "string", "eager", "of PyTorch: eager, compile or both" },
  { "forms", "string", "eager,graph", "of moonlet: eager, graph or both" },
  { "only", "string", "pieces,mnist_cnn,lenet,alexnet,vgg16,googlenet,resnet50,densenet121,unet",
    "workloads, separated by commas" },
  { "pass", "string", "forward,train", "forward, train or both" },
  { "dtype", "string", "float32,tf32,bfloat16", "types of the arithmetic" },
  { "batch", "integer", 64, "pictures in a batch (U-Net: a quarter)" },
  { "seconds", "number", 0.5, "how long a measurement lasts" },
  { "timeout", "integer", 120, "seconds after which a process is given up" },
  { "budget", "integer", 480, "seconds for all; what is left then is named" },
  { "csv", "string", nil, "a file for the table" },
}, arg, "usage: luajit bench/gpu.lua [flags]")

local COLUMNS = "workload,batch,pass,dtype,form,moonlet_rate,moonlet_peak_mib,peer,peer_rate,"
  .. "peer_peak_mib,ratio"

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

local ours = ("%s %s/bench/parts/measure_gpu.lua --forms %s"):format(child.interpreter, here,
  o.forms)
local peers = {}
for _, form in ipairs(o.peer and split(o["peer-forms"]) or {}) do
  peers[#peers + 1] = {
    name = "pytorch " .. form,
    program = ("%s %s/bench/peer_torch_gpu.py --form %s"):format(o.peer, here, form),
  }
end

local function command_of(program, workload, batch)
  return ("%s --workload %s --batch %d --passes %s --dtypes %s --seconds %g"):format(program,
    workload, batch, o.pass, o.dtype, o.seconds)
end

local function shape_flags(row)
  return (" --shape %s --classes %d%s"):format(table.concat(row.shape, ","), row.classes,
    row.pixels and " --pixels" or "")
end

local csv = o.csv and assert(io.open(o.csv, "w"))
if csv then csv:write(COLUMNS, "\n") end

local LINE = "%-13s %4s %-8s %-9s %-6s %9s %8s  %-16s %9s %8s %6s"
local function number_text(value, format)
  return type(value) == "number" and format:format(value) or value or ""
end

-- One line: `case` is a list of workload, batch, pass, dtype and form; rates and peaks of two.
local function show(case, rate, peak, peer, peer_rate, peer_peak)
  local ratio = rate and peer_rate and rate / peer_rate
  local fields = { rate or "failed", peak or "", peer or "", peer_rate or "", peer_peak or "",
                   ratio or "" }
  local formats = { "%.4g", "%.0f", "%s", "%.4g", "%.0f", "%.2f" }
  local shown, written = {}, {}
  for i = 1, 5 do shown[i], written[i] = case[i], case[i] end
  for i, field in ipairs(fields) do
    shown[5 + i], written[5 + i] = number_text(field, formats[i]), field
  end
  print(LINE:format(unpack(shown)))
  if not csv then return end
  csv:write(table.concat(written, ","), "\n")
  csv:flush()
end

-- What is measured of a workload: { pass, dtype, form, moonlet's name of it, the peers' }.
local function cases_of(workload)
  local list = {}
  if workload == "pieces" then
    for _, piece in ipairs { "cross_entropy", "lstm", "sgd", "adamw" } do
      list[#list + 1] = { piece, "float32", "eager", piece, piece }
    end
    return list
  end
  for _, pass in ipairs(split(o.pass)) do
    for _, dtype in ipairs(split(o.dtype)) do
      for _, form in ipairs(split(o.forms)) do
        local peer = ("%s_%s"):format(pass, dtype)
        list[#list + 1] = { pass, dtype, form, peer .. "_" .. form, peer }
      end
    end
  end
  return list
end

local function measure(workload)
  local row = workload ~= "pieces" and assert(workloads.find(workload)) or nil
  local batch = row and row.pixels and math.ceil(o.batch / 4) or o.batch
  local found, problem = child.run(command_of(ours, workload, batch), o.timeout)
  if problem then print(("%-13s moonlet: %s"):format(workload, problem)) end
  found = found or {}
  local theirs = {}
  for i, peer in ipairs(peers) do
    local program = peer.program .. (row and shape_flags(row) or "")
    theirs[i], problem = child.run(command_of(program, workload, batch), o.timeout)
    if problem then print(("%-13s %s: %s"):format(workload, peer.name, problem)) end
    theirs[i] = theirs[i] or {}
  end
  for _, case in ipairs(cases_of(workload)) do
    local columns = { workload, row and batch or "", case[1], case[2], case[3] }
    if #peers == 0 then show(columns, found[case[4]], found.peak_mib) end
    for i, peer in ipairs(peers) do
      show(columns, found[case[4]], found.peak_mib, peer.name, theirs[i][case[5]],
        theirs[i].peak_mib)
    end
  end
end

local ceilings, problem = child.run(command_of(ours, "ceilings", 1), o.timeout)
if ceilings then
  print(("copy %.0f GB/s, read and written"):format(ceilings.copy_gb_s))
  for _, dtype in ipairs(split(o.dtype)) do
    print(("product of 8192 cubed in %s: %.1f TFLOP/s"):format(dtype,
      ceilings["matmul_" .. dtype .. "_tflops"]))
  end
else
  print("ceilings: " .. problem)
end
print(LINE:format("workload", "", "pass", "dtype", "form", "rate", "MiB", "peer", "rate", "MiB",
  "ratio"))
local began, left = moon.clock(), {}
for _, workload in ipairs(split(o.only)) do
  if moon.clock() - began > o.budget then
    left[#left + 1] = workload
  else
    measure(workload)
  end
end
if #left > 0 then print("no time was left for " .. table.concat(left, ", ")) end
if csv then csv:close() end
