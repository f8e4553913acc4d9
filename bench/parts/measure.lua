-- One measurement in a process of its own, so that its peak resident size is its own: milliseconds
-- that a pass takes (median) and the most memory it needed. --clock cpu counts the processor time
-- of all threads divided by their number, for machines that do other work meanwhile. With --save it
-- writes weights, input and scores for a peer to be compared with, and measures nothing.
--
--   luajit bench/parts/measure.lua --workload resnet50 --batch 8 --pass train

local here = arg[0]:match("^(.*)/bench/[^/]*/[^/]*$") or "."
package.path = here .. "/?.lua;" .. package.path
local moon = require "moonlet"
local flags = require "moonlet.flags"
local clocks = require "bench.parts.clocks"
local passes = require "bench.parts.passes"
local workloads = require "bench.parts.workloads"

local o = flags.read({
  { "workload", "string", "lenet", "which row of bench/parts/workloads.lua" },
  { "batch", "integer", 0, "pictures in a batch (0: the row's own)" },
  { "pass", { "forward", "train" }, "forward", "what is measured" },
  { "dtype", { "float32", "bfloat16" }, "float32", "type of the arithmetic" },
  { "threads", "integer", 2, "most threads to calculate with" },
  { "seconds", "number", 2, "how long a measurement lasts at least" },
  { "clock", { "wall", "cpu" }, "wall", "the machine's time, or this process's" },
  { "save", "string", nil, "write a safetensors file and measure nothing" },
}, arg, "usage: luajit bench/parts/measure.lua [flags]")

local function peak_mib()
  for line in io.lines("/proc/self/status") do
    local kib = line:match("^VmHWM:%s+(%d+) kB")
    if kib then return tonumber(kib) / 1024 end
  end
end

-- With the statistics of a fresh network its pictures fade from layer to layer, and the scores of
-- a deep one are its last bias, in which any two networks agree.
local function take_statistics(net, x)
  net:apply(function(module)
    if module:is(moon.nn.BatchNorm2d) then module.momentum = 1 end
  end)
  passes.scores_of(net:train(), x)
end

local LEAST_SPREAD = 1e-2   -- between two pictures' scores, as a share of the largest score

local function save(net, x)
  take_statistics(net, x)
  local scores = passes.scores_of(net:eval(), x):contiguous()
  if x:size(1) > 1 then
    local apart = (scores:select(1, 1) - scores:select(1, 2)):abs():max():item()
    assert(apart > LEAST_SPREAD * scores:abs():max():item(),
      "the scores do not depend on the picture, so that they compare nothing")
  end
  local tensors = { x = x, scores = scores }
  for name, tensor in pairs(net:state_dict()) do tensors["net." .. name] = tensor end
  moon.save(o.save, tensors)
end

local row = assert(workloads.find(o.workload))
moon.manual_seed(1)
local median_ms = clocks.measurer(o.clock, o.threads, o.seconds)
local net = row.build()
local x, y = workloads.input(row, o.batch > 0 and o.batch or row.batch)
if o.save then
  save(net, x)
else
  print(("ms %.4f"):format(median_ms(passes.make(net, x, y, o.pass, o.dtype))))
  print(("rss_mib %.1f"):format(peak_mib()))
end
