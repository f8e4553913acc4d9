-- Normalisation on a CUDA device where the cases are too small: planes and pixels, in chunks and
-- without, channels in several blocks, sums in several splits.
local moon = require "moonlet"
local gpu = require "spec.support.gpu"
local pixels = require "spec.support.pixels"
local twins = require "spec.support.twins"

local tolerances = { float32 = 4e-6, float64 = 1e-12, bfloat16 = 4e-2 }

local function each(shapes, all, visit)
  pixels.each(shapes, all and tolerances or { float32 = tolerances.float32 }, visit)
end

describe("batch normalisation on " .. gpu.device .. ":", function()
  local shapes = { { 2, 6, 8, 24 }, { 3, 5, 7, 13 }, { 2, 2, 2, 300 }, { 5, 1, 1, 40 },
    { 2, 40, 51, 3 }, { 9, 16, 16, 1 }, { 1, 3, 8, 1100 } }

  local function normalised(layout, options)
    return function(x, weight, bias, added)
      local mean, var = moon.zeros_like(bias) + 0.25, moon.ones_like(bias) * 2
      local y = moon.batch_norm(layout(x), weight, bias, mean, var, {
        training = options.training, activation = options.activation,
        add = options.add and layout(added) or nil })
      return y, mean, var
    end
  end

  for _, options in ipairs {
    { "training", training = true }, { "evaluation", training = false },
    { "training, relu of a sum", training = true, add = true, activation = "relu" },
    { "evaluation, relu6 of a sum", training = false, add = true, activation = "relu6" },
    { "training, relu6", training = true, activation = "relu6" },
  } do
    it(options[1], function()
      each(shapes, options.activation ~= "relu6", function(layout, shape, dtype, tolerance)
        local x, added = moon.randn(shape):to(dtype), moon.randn(shape):to(dtype)
        local weight, bias = (moon.rand(shape[4]) + 0.5):to(dtype), moon.randn(shape[4]):to(dtype)
        -- sums of gradients grow with the places
        twins.agree_backward(tolerance * 8, normalised(layout, options), x, weight, bias, added)
      end)
    end)
  end

  it("vectors in float32 beside bfloat16", function()
    each({ { 2, 6, 8, 24 } }, false, function(layout, shape)
      twins.agree(4e-2, normalised(layout, { training = true }), moon.randn(shape):bfloat16(),
        moon.rand(shape[4]) + 0.5, moon.randn(shape[4]), moon.zeros(1))
    end)
  end)

  it("a large common part, and a first value far from the others", function()
    each({ { 2, 20, 24, 16 } }, false, function(layout, shape)
      local x = moon.randn(shape) * 0.01 + 1000
      x[{ 1, 1, 1 }] = 0
      twins.agree(1e-3, normalised(layout, { training = true }), x, moon.ones(16), moon.zeros(16),
        moon.zeros(1))
    end)
  end)

  it("a channel with NaN, alone", function()
    each({ { 2, 6, 8, 24 } }, false, function(layout, shape)
      local x = moon.randn(shape)
      x[{ 2, 3, 4, 5 }] = 0 / 0
      twins.agree(4e-6, normalised(layout, { training = true, activation = "relu" }), x,
        moon.ones(24), moon.zeros(24), moon.zeros(1))
    end)
  end)
end)

describe("local response normalisation on " .. gpu.device .. ":", function()
  it("windows of any size, in every layout", function()
    each({ { 2, 5, 6, 24 }, { 1, 3, 3, 3 }, { 3, 1, 1, 70 } }, true,
      function(layout, shape, dtype, tolerance)
        for _, o in ipairs { { 5, 0.75 }, { 2, 0.5 }, { 1, 0.75 }, { 9, 1 } } do
          twins.agree_backward(tolerance, function(x)
            return moon.local_response_norm(layout(x), o[1], { alpha = 0.3, beta = o[2] })
          end, moon.randn(shape):to(dtype))
        end
      end)
  end)
end)

