-- The table: moonlet beside PyTorch, ONNX Runtime and OpenVINO on the networks of the field,
-- forward and whole training steps. Every measurement is a process of its own, and moonlet and its
-- peers take turns, round by round; the medians of the rounds are shown. Before it is timed, a
-- peer computes moonlet's scores from moonlet's weights. Without --peer: moonlet's columns alone.
--
--   luajit bench/networks.lua --peer PYTHON --only vgg16,resnet50 --pass forward,train --csv FILE
--
-- ratio is the peer's time divided by moonlet's; rss is the most memory that the process held, and
-- import what the peer held after importing itself alone.

local here = arg[0]:match("^(.*)/bench/[^/]*$") or "."
package.path = here .. "/?.lua;" .. package.path
require "moonlet"
local flags = require "moonlet.flags"
local workloads = require "bench.parts.workloads"
local child = require "bench.parts.child"

io.stdout:setvbuf "line"   -- so that what is known is seen, in a file too

local o = flags.read({
  { "peer", "string", nil, "a Python that has torch, torchvision, onnx, onnxruntime, openvino" },
  { "peers", "string", "pytorch,compile,onnxruntime,openvino", "which of them" },
  { "only", "string", nil, "workloads, separated by commas" },
  { "pass", "string", "forward,train", "forward, train or both" },
  { "dtype", { "float32", "bfloat16" }, "float32", "type of the arithmetic" },
  { "threads", "integer", 2, "most threads to calculate with" },
  { "rounds", "integer", 3, "processes for each measurement" },
  { "seconds", "number", 2, "how long a process measures at least" },
  { "timeout", "integer", 600, "seconds after which a process is given up" },
  { "clock", { "wall", "cpu" }, "wall", "cpu: processor time, where the machine is not free" },
  { "csv", "string", nil, "a file for the table" },
}, arg, "usage: luajit bench/networks.lua [flags]")

local COLUMNS = "workload,batch,pass,dtype,threads,moonlet_ms,moonlet_rss_mib,peer,peer_ms,"
  .. "peer_rss_mib,peer_import_rss_mib,ratio"
local MOST_DEVIATION = 1e-3   -- of scores, as a share of the largest one: float32 over 50 layers
-- glibc gives large blocks back at once otherwise, which costs PyTorch up to a third.
local KEEP_MEMORY = "MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=1073741824 "

local function split(text)
  local list = {}
  for item in text:gmatch("[^,]+") do list[#list + 1], list[item] = item, true end
  return list
end

local passes, peers = split(o.pass), split(o.peers)
local scratch = os.tmpname()
local SAVED, MODEL = scratch .. ".safetensors", scratch .. ".onnx"

-- A case is a workload at a batch in a pass. These make the command lines that measure it.

local function common(case)
  return ("--workload %s --batch %d --pass %s --dtype %s --threads %d --seconds %g --clock %s")
    :format(case.row.name, case.batch, case.pass, o.dtype, o.threads, o.seconds, o.clock)
end

local function moonlet_command(case)
  return ("%s %s/bench/parts/measure.lua %s"):format(child.interpreter, here, common(case))
end

local function peer_command(script, case)
  local row = case.row
  return ("%s%s %s/bench/%s %s --shape %s --classes %d%s"):format(KEEP_MEMORY, o.peer, here,
    script, common(case), table.concat(row.shape, ","), row.classes,
    row.pixels and " --pixels" or "")
end

local function torch_command(form)
  return function(case) return peer_command("peer_torch.py --form " .. form, case) end
end

local function runtime_command(engine)
  return function(case)
    return peer_command(("peer_runtime.py --engine %s --model %s"):format(engine, MODEL), case)
  end
end

-- Peers, their commands and passes. Of those that share a name the quickest is shown.
local rivals = {
  { name = "pytorch", command = torch_command "stock", forward = true, train = true },
  { name = "pytorch", command = torch_command "channels_last", forward = true, train = true },
  { name = "compile", command = torch_command "compile", forward = true, train = true },
  { name = "onnxruntime", command = runtime_command "onnxruntime", forward = true, model = true },
  { name = "openvino", command = runtime_command "openvino", forward = true, model = true },
}

local function note(text, ...)
  io.stderr:write("  ", text:format(...), "\n")
end

-- Whether a peer gives moonlet's scores; otherwise false and a sentence.
local function agrees(rival, case)
  local command = rival.command(case) .. " --check " .. SAVED
  local found, problem = child.run(command, o.timeout)
  if not found then return false, problem end
  if found.parameters ~= found.moonlet_parameters then
    return false, ("it has %d parameters, moonlet %d"):format(
      found.parameters, found.moonlet_parameters)
  end
  note("%s: scores differ by %.1e of the largest", rival.name, found.deviation)
  if found.deviation > MOST_DEVIATION then
    return false, ("its scores differ by %.1e of the largest"):format(found.deviation)
  end
  return true
end

-- Why a peer may not be timed, or nil. What PyTorch was found to give in one pass and form holds
-- for the others; a model is exported anew for each case.
local torch_problems = {}

local function problem_of(rival, case, save)
  local key = case.row.name .. " " .. case.batch
  if not rival.model and torch_problems[key] ~= nil then return torch_problems[key] or nil end
  local problem = save()
  if not problem then problem = select(2, agrees(rival, case)) end
  if not rival.model then torch_problems[key] = problem or false end
  return problem
end

-- Has moonlet write its weights and scores, once; gives why it did not.
local function saving(case)
  local done, problem
  return function()
    if not done then
      local _, why = child.run(moonlet_command(case) .. " --save " .. SAVED, o.timeout)
      done, problem = true, why and "moonlet: " .. why
    end
    return problem
  end
end

-- The peers that measure this case; each gets `problem` when it does not agree with moonlet.
local function prepare(case)
  local list, save = {}, saving(case)
  for _, rival in ipairs(o.peer and rivals or {}) do
    if peers[rival.name] and rival[case.pass] then
      list[#list + 1] = { rival = rival, runs = {}, problem = problem_of(rival, case, save) }
    end
  end
  return list
end

-- Adds a run to an entry, or the sentence that says why there is none; further rounds are left out.
local function measure(entry, command)
  if entry.problem then return end
  local found, problem = child.run(command, o.timeout)
  if found then entry.runs[#entry.runs + 1] = found else entry.problem = problem end
end

local function median(runs, key)
  local values = {}
  for i, run in ipairs(runs) do values[i] = run[key] end
  table.sort(values)
  return values[math.ceil(#values / 2)]
end

local function summed_up(entry)
  if entry.problem then return end
  for _, key in ipairs { "ms", "rss_mib", "import_rss_mib" } do
    entry[key] = median(entry.runs, key)
  end
end

-- One entry a name: the quickest that has no problem.
local function best_of(entries)
  local list, index = {}, {}
  for _, entry in ipairs(entries) do
    local name = entry.rival.name
    local at = index[name]
    if not at then
      list[#list + 1] = entry
      index[name] = #list
    elseif entry.ms and (not list[at].ms or entry.ms < list[at].ms) then
      list[at] = entry
    end
  end
  return list
end

local csv = o.csv and assert(io.open(o.csv, "w"))

local function write_csv(case, own, entry)
  if not csv then return end
  local function number(value, form) return value and form:format(value) or "" end
  entry = entry or {}
  csv:write(table.concat({
    case.row.name, case.batch, case.pass, o.dtype, o.threads, number(own.ms, "%.4g"),
    number(own.rss_mib, "%.0f"), entry.rival and entry.rival.name or "",
    number(entry.ms, "%.4g"), number(entry.rss_mib, "%.0f"),
    number(entry.import_rss_mib, "%.0f"),
    own.ms and entry.ms and ("%.2f"):format(entry.ms / own.ms) or "",
  }, ","), "\n")
  csv:flush()
end

local function show(case, own, entries)
  io.write(("%-13s %5d %-7s "):format(case.row.name, case.batch, case.pass))
  print(own.problem or ("%9.2f ms %6.0f MiB"):format(own.ms, own.rss_mib))
  for _, entry in ipairs(entries) do
    io.write(("%28s%-12s"):format("", entry.rival.name))
    if entry.problem then
      print(entry.problem)
    else
      print(("%9.2f ms %6.0f MiB (import %4.0f)   %s"):format(entry.ms, entry.rss_mib,
        entry.import_rss_mib, own.ms and ("%.2f"):format(entry.ms / own.ms) or ""))
    end
    write_csv(case, own, entry)
  end
  if #entries == 0 then write_csv(case, own) end
end

local function run_case(case)
  note("%s, batch %d, %s", case.row.name, case.batch, case.pass)
  local entries, own = prepare(case), { runs = {} }
  for round = 1, o.rounds do
    note("round %d of %d", round, o.rounds)
    measure(own, moonlet_command(case))
    for _, entry in ipairs(entries) do measure(entry, entry.rival.command(case)) end
  end
  summed_up(own)
  for _, entry in ipairs(entries) do summed_up(entry) end
  show(case, own, best_of(entries))
  os.remove(SAVED)
  os.remove(MODEL)
end

local function chosen_rows()
  if not o.only then return workloads.rows end
  local rows = {}
  for i, name in ipairs(split(o.only)) do
    local row, problem = workloads.find(name)
    if not row then
      io.stderr:write("networks: ", problem, "\n")
      os.exit(2)
    end
    rows[i] = row
  end
  return rows
end

if csv then csv:write(COLUMNS, "\n") end
print(("%s, %d threads, %s clock"):format(o.dtype, o.threads, o.clock))
for _, row in ipairs(chosen_rows()) do
  for _, pass in ipairs(passes) do run_case { row = row, batch = row.batch, pass = pass } end
  if row.alone and passes.forward then run_case { row = row, batch = 1, pass = "forward" } end
end
if csv then csv:close() end
os.remove(scratch)
