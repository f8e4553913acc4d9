-- Every case of spec/cases on a CUDA device against the CPU; with SPEC_PART in the environment
-- that family's alone. Without a GPU the device is emulated (spec/emulated), which shows the same
-- but for speed and races.
local moon = require "moonlet"
local case = require "spec.support.case"
local gpu = require "spec.support.gpu"
local witnesses = require "spec.support.witnesses"

local descriptors = {}
for _, descriptor in ipairs(moon.operators()) do descriptors[descriptor.name] = descriptor end

local only = os.getenv "SPEC_PART"
for _, family in ipairs(only and { only } or case.families()) do
  describe("on " .. gpu.device .. ", " .. family .. ":", function()
    for _, entry in ipairs(case.family(family)) do
      it(entry.operator .. " agrees with the CPU", function()
        witnesses.device(entry, descriptors[entry.operator], gpu.device, not gpu.emulated)
      end)
    end
  end)
end
