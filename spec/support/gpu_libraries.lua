-- The CUDA device of specs (gpu.lua) with CUDA's libraries: a GPU's own, else the stand-ins that
-- the build makes beside the emulated plug-in. To be required before gpu.lua is, in a process of
-- its own. `absent` where the build made none (CMake says so) or the machine has none: specs of
-- them are left out there.
local moon = require "moonlet"
local core = require "moonlet.core"
local child = require "spec.support.child"
local sources = require "spec.support.sources"

local build = os.getenv "MOONLET_BUILD" or sources.root .. "/build"
moon.cuda.look { libraries = { build .. "/emulated" } }
local gpu = require "spec.support.gpu"

local libraries = { device = gpu.device, emulated = gpu.emulated }

local function missing()
  for _, library in ipairs(core.cuda_info().libraries) do
    if library.version == 0 then return library.name .. ": " .. tostring(library.missing) end
  end
end

local stand_in = gpu.emulated and io.open(build .. "/emulated/libemulated_cudnn.so", "rb")
if stand_in then
  stand_in:close()
  assert(not missing(), missing())
end
libraries.absent = missing() ~= nil

-- What a piece prints in a process of its own that has the stand-ins: `environment` makes them fail
-- or tell what they are asked (spec/emulated/stand_in.h). It has `moon`, `device` and `chosen`.
function libraries.run(piece, environment)
  return child.run([[
    local moon = require "moonlet"
    local libraries = require "spec.support.gpu_libraries"
    local device, chosen = libraries.device, libraries.chosen
  ]] .. piece, environment)
end

-- { operator = algorithm } of what fn calls.
function libraries.chosen(fn)
  local found = {}
  for _, row in ipairs(moon.profile(fn).operators) do
    found[row.name] = row.algorithm or found[row.name]
  end
  return found
end

return libraries
