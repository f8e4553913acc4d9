-- The CUDA device that specs use: a GPU where there is one, else the emulated plug-in that the
-- build makes of the same sources (spec/emulated). An error where neither is, or where
-- scripts/run-specs was told that only a GPU will do.
local moon = require "moonlet"
local sources = require "spec.support.sources"

local gpu = {}

local function file_exists(path)
  local file = io.open(path, "rb")
  if file then file:close() end
  return file ~= nil
end

gpu.emulated = not moon.cuda.is_available()
if gpu.emulated and not os.getenv "SPEC_DEVICE" then
  local build = os.getenv "MOONLET_BUILD" or sources.root .. "/build"
  local file = build .. "/emulated/cuda.so"
  if file_exists(file) then moon.cuda.look { plugin = file } end
end
local available, why = moon.cuda.is_available()
if not available then
  error("specs of CUDA need a GPU or the emulated one (cmake -DMOONLET_TESTS=ON): " .. why, 0)
end
gpu.device = "cuda:0"

return gpu
