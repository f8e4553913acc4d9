-- Every case of the operators that CUDA's libraries serve, with them, against the CPU;
-- spec/ops/cuda_spec.lua runs the same with the kernels of moonlet's own.
local libraries = require "spec.support.gpu_libraries"
local moon = require "moonlet"
local case = require "spec.support.case"
local witnesses = require "spec.support.witnesses"

if libraries.absent then return end

local descriptors = {}
for _, descriptor in ipairs(moon.operators()) do descriptors[descriptor.name] = descriptor end

local function check(entry)
  witnesses.device(entry, descriptors[entry.operator], libraries.device, not libraries.emulated)
end

describe("with CUDA's libraries,", function()
  for _, family in ipairs { "linalg", "fft" } do
    for _, entry in ipairs(case.family(family)) do
      it(entry.operator .. " agrees with the CPU", function() check(entry) end)
    end
  end
end)

for _, engine in ipairs { "cudnn", "implicit" } do
  describe("where convolutions prefer " .. engine .. ",", function()
    before_each(function() moon.conv_engine(engine) end)
    after_each(function() moon.conv_engine "" end)

    it("they get it", function()
      local x = moon.randn(1, 2, 6, 6, { device = libraries.device })
      local w = moon.randn(2, 2, 3, 3, { device = libraries.device })
      local by = libraries.chosen(function() moon.conv2d(x, w) end)
      assert.are.equal(engine, by.conv2d)
    end)

    for _, entry in ipairs(case.family "convolution") do
      it(entry.operator .. " agrees with the CPU", function() check(entry) end)
    end
  end)
end
