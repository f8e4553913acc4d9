--- moon.cuda: the GPU. Tensors and networks go there by x:cuda(), net:to "cuda" or
-- { device = "cuda" }; this part is about the devices themselves.
--
-- The plug-in that drives them is a library of its own, opened when a CUDA device is first asked
-- for. Calls return before the device has finished; reading a value waits for what it needs.
local core = require "moonlet.core"

local cuda = {}

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
end

--- Whether there is a CUDA device that can be used.
-- @treturn boolean
-- @treturn ?string what is missing
function cuda.is_available()
  local found = core.cuda_info()
  return found.available, found.reason
end

--- How many CUDA devices there are, 0 where CUDA cannot be used.
function cuda.device_count() return #core.cuda_info().devices end

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
-- @bool on
function cuda.debug(on) core.cuda_debug(on) end

--- Times work on the device by its own clock.
-- @number[opt=0] device its number
-- @treturn function gives the seconds since the call, waiting for the work up to now
-- @usage local seconds = moon.cuda.is_available() and moon.cuda.timer()
function cuda.timer(device)
  local from = core.cuda_mark(device)
  return function() return core.cuda_between(from, core.cuda_mark(device)) end
end

return cuda
