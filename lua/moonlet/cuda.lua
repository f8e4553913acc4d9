--- moon.cuda: the GPU. Tensors and networks go there by x:cuda(), net:to "cuda" or
-- { device = "cuda" }; this part is about the devices themselves.
--
-- The plug-in that drives them is a library of its own, opened when a CUDA device is first asked
-- for. Calls return before the device has finished; reading a value waits for what it needs.
local core = require "moonlet.core"
local calls = require "moonlet.profile.calls"
local capture = require "moonlet.capture"
local options = require "moonlet.options"
local unpack = require "moonlet.unpack"
local pack = require("moonlet.values").pack

local cuda = {}

local can_range   -- whether CUDA is there, for `range`; nil: not asked since places were named

--- Opens the plug-in from a file, or looks for CUDA's libraries (cuDNN, cuBLASLt, cuFFT) in folders
-- of the caller's, such as those of Python's nvidia wheels, before the system's places. Neither is
-- needed where they are installed as usual. To be called before CUDA is first used.
-- @tparam table places `plugin`: a file; `libraries`: a list of folders
-- @usage local cuda = require "moonlet.cuda"
-- cuda.look { libraries = { "/opt/cuda/lib64" } }
function cuda.look(places)
  if type(places) ~= "table" then
    error("look: expected a table with plugin or libraries, got " .. type(places), 2)
  end
  for key in pairs(places) do
    if key ~= "plugin" and key ~= "libraries" then
      error(("look: unknown option %s; there are plugin and libraries"):format(tostring(key)), 2)
    end
  end
  if places.plugin then core.cuda_look_at(places.plugin) end
  for _, folder in ipairs(places.libraries or {}) do core.cuda_look_in(folder) end
  can_range = nil
end

--- Whether there is a CUDA device that can be used.
-- @treturn boolean
-- @treturn ?string what is missing
function cuda.is_available()
  local count, reason = core.cuda_count()
  return count > 0, reason
end

--- How many CUDA devices there are, 0 where CUDA cannot be used.
function cuda.device_count() return (core.cuda_count()) end

local function version_text(library)
  local v = library.version
  if v == 0 then return "missing: " .. (library.missing or "not found") end
  if library.name == "driver" or library.name == "runtime" then
    return ("CUDA %d.%d"):format(math.floor(v / 1000), math.floor(v % 1000 / 10))
  end
  return tostring(v)
end

local function info_text(found)
  local lines = {}
  for _, library in ipairs(found.libraries) do
    lines[#lines + 1] = ("%-10s %s"):format(library.name, version_text(library))
  end
  for i, device in ipairs(found.devices) do
    lines[#lines + 1] = ("cuda:%-5d %s, compute capability %d.%d, %.1f GiB, %.1f free"):format(
      i - 1, device.name, device.major, device.minor, device.memory / 2^30,
      device.memory_free / 2^30)
  end
  if not found.available then lines[#lines + 1] = "not usable: " .. found.reason end
  return table.concat(lines, "\n")
end

--- Prints what was found: driver, runtime, libraries, devices and their memory, or what is missing
-- and why.
-- @treturn table the same: `available`, `reason`, `libraries` and `devices`
function cuda.info()
  local found = core.cuda_info()
  print(info_text(found))
  return found
end

--- Waits until the device has done all that was asked of it.
-- @number[opt=0] device its number
function cuda.synchronize(device) core.cuda_synchronize(device) end

--- Memory of this Lua state on a device, in bytes.
-- @number[opt=0] device its number
-- @treturn table `live` and `peak` of tensors, `cached` for later use, `limit` (0: none),
-- `allocations` asked of the driver so far
function cuda.memory(device) return core.cuda_memory(device) end

--- Limits what this Lua state may hold on a device, live and cached together.
-- @number bytes 0 for no limit
-- @number[opt=0] device its number
function cuda.memory_limit(bytes, device) core.cuda_memory_limit(bytes, device) end

--- Collects garbage and gives memory that is not in use back to the driver.
-- @number[opt=0] device its number
function cuda.empty_cache(device) core.cuda_empty_cache(device) end

--- Waits after every kernel from now on, so that a failure names the kernel and the line that
-- started it. Slow.
-- @bool[opt] on
-- @treturn boolean whether it is on
function cuda.debug(on) return core.cuda_flag("debug", on) end

-- What is in a file now, "" where there is none.
local function contents(name)
  local file, problem, code = io.open(name, "rb")
  local text = file and file:read "*a"
  if file then file:close() end
  local absent = not file and code == 2   -- ENOENT
  if not text and not absent then
    error(("benchmark: %s cannot be read: %s"):format(name, problem or "it is no file"), 3)
  end
  return text or ""
end

--- Times what cuDNN offers for a convolution when a shape is first met, instead of taking its
-- advice. With a file, what was found out is written there after each timing and read from there
-- at the next start. The file is for one version of cuDNN and one kind of GPU: for others it counts
-- as empty and is written anew. One that holds something else is an error. It has no effect without
-- cuDNN.
-- @bool[opt] on
-- @string[opt] file its name
-- @number[opt=0] device the GPU whose convolutions the file is for
-- @treturn boolean whether it is on
-- @usage local moon = require "moonlet"
-- if moon.cuda.is_available() then moon.cuda.benchmark(true) end
function cuda.benchmark(on, file, device)
  if file ~= nil then
    if type(file) ~= "string" then
      error("benchmark: file must be a name, got " .. type(file), 2)
    end
    if not on then error("benchmark: a file is named to switch it on, not off", 2) end
    core.cuda_keep_choices(file, contents(file), device)
  end
  return core.cuda_flag("benchmark", on)
end

--- Lets products and convolutions of float32 keep 10 bits of each factor (TF32), several times as
-- fast. moon.precise(true) forbids it.
-- @bool[opt] on
-- @treturn boolean whether it is on
function cuda.tf32(on) return core.cuda_flag("tf32", on) end

--- Times work on the device by its own clock.
-- @number[opt=0] device its number
-- @treturn function gives the seconds since the call, waiting for the work up to now
-- @usage local seconds = moon.cuda.is_available() and moon.cuda.timer()
function cuda.timer(device)
  local from = core.cuda_mark(device)
  return function() return core.cuda_between(from, core.cuda_mark(device)) end
end

--- Calls a function as a range of NVIDIA's profilers (Nsight Systems shows it by name), also where
-- it fails. Without CUDA it is just called.
-- @string name
-- @func fn it cannot yield to a coroutine outside
-- @param ... its arguments
-- @return its results
-- @usage local moon = require "moonlet"
-- assert(moon.cuda.range("forward", function(a) return a + 1 end, 2) == 3)
function cuda.range(name, fn, ...)
  options.argument("range", "name", name, "string", 3)
  options.argument("range", "fn", fn, "callable", 3)
  if can_range == nil then can_range = cuda.is_available() end
  if not can_range then return fn(...) end
  local function call(...) return fn(...) end   -- a layer is a table that can be called
  return core.cuda_range(name, call, ...)
end

--- Makes each call of a layer ("Linear") and of an operator ("linear") a range of NVIDIA's
-- profilers, and the backward of each operator ("linear backward"). Without a cost while it is off.
-- A layer cannot yield to a coroutine outside while it is on. An error where CUDA cannot be used.
-- @bool[opt] on
-- @treturn boolean whether it is on
function cuda.ranges(on)
  local now = core.cuda_ranges(on)
  calls.use_range(now and core.cuda_range or nil)
  return now
end

local function record(fn, device, ...)
  local recording = capture.begin(core.cuda_graph_begin(device))
  local function finish(ok, ...)
    capture.recording = nil
    if not ok then
      core.cuda_graph_abort(recording.graph)
      error((...), 0)
    end
    core.cuda_graph_end(recording.graph)
    recording.results = pack(...)
    return recording
  end
  return finish(pcall(fn, ...))
end

local function step_again(steps)
  for _, object in ipairs(steps) do object:step() end
end

-- One run, and what the host does round it. Recording has made the steps of the first one.
local function run(recording, again)
  for _, object in ipairs(recording.counterparts) do object:before_run(again) end
  if again then core.cuda_graph_refresh(recording.graph, step_again, recording.steps) end
  core.cuda_graph_run(recording.graph)
  for _, object in ipairs(recording.counterparts) do object:after_run() end
end

--- A function that does what fn does, without its cost in Lua and in the driver: its first call
-- calls fn, the second records what fn puts on the device as a graph, and every further one runs
-- that graph. So each call is one training step, and a hundred of them are a hundred calls of fn.
--
-- fn works on the same tensors every time: new pictures are copied into the old ones
-- (x:copy_(pictures)) before the call. It must not read values (item), move tensors to the CPU or
-- decide anything on the way; the results of a run are the tensors of the recorded one with new
-- contents. Dropout draws on, and the steps of optimisers and schedules inside fn are made again on
-- the host, with the fused optimisers (SGD, Adam and their kin). Labels are not checked again.
--
-- With a moon.amp.GradScaler a run leaves its optimiser's step out where gradients overflow, and
-- the factor moves between runs; each call then waits for its run. A call of fn that leaves a step
-- out is followed by another one before anything is recorded.
-- @func fn a training step, say: forward, backward, optimizer:step(), schedule:step()
-- @number[opt=0] device the GPU's number
-- @treturn function
-- @usage local moon = require "moonlet"
-- local function fill(x) return moon.no_grad(x.fill_, x, 1) end
-- local fill_again = moon.cuda.is_available() and moon.cuda.graph(fill)
function cuda.graph(fn, device)
  local recording
  local ready = false   -- has a call of fn made all its steps?
  local function called(left_out, ...)
    ready = capture.left_out == left_out
    return ...
  end
  return function(...)
    if not ready then return called(capture.left_out, fn(...)) end
    local again = recording ~= nil
    if not again then
      recording = record(fn, device, ...)
      recording.arguments = { ... }   -- the graph works on them: they live as long
    end
    core.uninterrupted(run, recording, again)
    return unpack(recording.results, 1, recording.results.n)
  end
end

return cuda
