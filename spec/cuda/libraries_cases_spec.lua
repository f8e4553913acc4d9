-- Every case of the operators that CUDA's libraries serve, with them, against the CPU;
-- spec/ops/cuda_spec.lua runs the same with the kernels of moonlet's own.
local libraries = require "spec.support.gpu_libraries"
local moon = require "moonlet"
local case = require "spec.support.case"
local witnesses = require "spec.support.witnesses"

if libraries.why then
  describe("CUDA's libraries", function() pending("are not there: " .. libraries.why) end)
  return
end

describe("with CUDA's libraries,", function()
  local descriptors = {}
  for _, descriptor in ipairs(moon.operators()) do descriptors[descriptor.name] = descriptor end
  for _, family in ipairs { "convolution", "linalg", "fft" } do
    for _, entry in ipairs(case.family(family)) do
      it(entry.operator .. " agrees with the CPU", function()
        witnesses.device(entry, descriptors[entry.operator], libraries.device,
          not libraries.emulated)
      end)
    end
  end
end)
