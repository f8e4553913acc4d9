-- Pooling and resampling on a CUDA device where the cases are too small: planes and pixels, in
-- chunks and without, windows and spans of many sizes.
local moon = require "moonlet"
local gpu = require "spec.support.gpu"
local pixels = require "spec.support.pixels"
local twins = require "spec.support.twins"

local tolerances = { float32 = 4e-6, float64 = 1e-12, bfloat16 = 4e-2, float16 = 5e-3 }

local function each(shapes, all, visit)
  pixels.each(shapes, all and tolerances or { float32 = tolerances.float32 }, visit)
end

describe("pooling on " .. gpu.device .. ":", function()
  local shapes = { { 2, 13, 12, 24 }, { 1, 9, 21, 5 }, { 2, 8, 8, 8 } }
  local windows = {
    { 2, {} }, { 3, { stride = 2, padding = 1 } }, { 3, { stride = 1 } },
    { { 2, 5 }, { stride = { 3, 1 }, padding = { 1, 2 }, ceil_mode = true } },
    { 2, { stride = 5 } },
  }

  it("largest elements and where they lie", function()
    each(shapes, true, function(layout, shape, dtype, tolerance)
      for _, window in ipairs(windows) do
        twins.agree_backward(tolerance, function(x)
          local o = { return_indices = true }
          for k, v in pairs(window[2]) do o[k] = v end
          return moon.max_pool2d(layout(x), window[1], o)
        end, (moon.randn(shape) * 2):round():to(dtype))   -- with many equals
      end
    end)
  end)

  it("dilated windows, windows of more taps than bytes count, and NaN", function()
    each({ { 2, 20, 19, 8 }, { 1, 18, 20, 3 } }, false, function(layout, shape, _, tolerance)
      local x = moon.randn(shape)
      x[{ 1, 4, 5, 2 }], x[{ 1, 5, 5, 2 }] = 0 / 0, 0 / 0
      for _, o in ipairs { { 3, dilation = 2, stride = 2 }, { 17, stride = 1 },
                           { 3, dilation = { 1, 3 }, padding = 1, stride = 1 } } do
        local kernel, options = o[1], {}
        for k, v in pairs(o) do if k ~= 1 then options[k] = v end end
        twins.agree_backward(tolerance, function(y)
          return moon.max_pool2d(layout(y), kernel, options)
        end, x)
      end
    end)
  end)

  it("averages", function()
    each(shapes, true, function(layout, shape, dtype, tolerance)
      for _, window in ipairs(windows) do
        for _, pad in ipairs { true, false } do
          local o = { count_include_pad = pad }
          for k, v in pairs(window[2]) do o[k] = v end
          twins.agree_backward(tolerance, function(x)
            return moon.avg_pool2d(layout(x), window[1], o)
          end, moon.randn(shape):to(dtype))
        end
      end
      twins.agree_backward(tolerance, function(x)
        return moon.avg_pool2d(layout(x), 3, { divisor_override = 4 })
      end, moon.randn(shape):to(dtype))
    end)
  end)

  it("planes of more than 2^31 elements", function()
    local side = 2 ^ 16
    local row = moon.zeros(1, 1, 1, side)
    row[{ 1, 1, 1, 40001 }], row[{ 1, 1, 1, 40002 }] = 2, 1
    local x = row:to(gpu.device):expand(1, 1, side, side)
    local y = moon.no_grad(moon.max_pool2d, x, { 1, 2 }, { stride = 40000 })
    assert.equal(2, y[{ 1, 1, 2, 2 }])
  end)

  it("nothing, and a side that is too long to count", function()
    twins.agree(nil, function(x)
      return moon.max_pool2d(x, 2), moon.avg_pool2d(x, 2)
    end, moon.zeros(0, 3, 4, 4))
    local thin = moon.zeros(1, 1, 1, 1, { device = gpu.device }):expand(1, 1, 1, 2 ^ 30)
    assert.has_error(function() return moon.max_pool2d(thin, { 1, 2 ^ 29 }) end)
  end)
end)

describe("pooling of windows at random on " .. gpu.device, function()
  it("makes what it needs where the pictures lie", function()
    local x = moon.rand(2, 3, 9, 8)
    local function pool(device)
      moon.manual_seed(4)
      return moon.fractional_max_pool2d(x:to(device), 2, { output_size = { 4, 4 } })
    end
    assert.is_true(pool("cpu"):equal(pool(gpu.device):cpu()))
  end)
end)

describe("resampling on " .. gpu.device .. ":", function()
  it("up and down, short and long spans, one dimension and two", function()
    each({ { 2, 13, 11, 16 }, { 1, 40, 37, 3 } }, true, function(layout, shape, dtype, tolerance)
      local x = moon.randn(shape):to(dtype)
      for _, o in ipairs { { mode = "bilinear" }, { mode = "bicubic" },
                           { mode = "bilinear", antialias = true } } do
        for _, size in ipairs { { 20, 30 }, { 5, 3 } } do
          twins.agree_backward(tolerance * 2, function(y)
            return moon.interpolate(layout(y), size, o)
          end, x)
        end
      end
      for _, size in ipairs { 1, { 3, 2 }, { 13, 1 } } do
        twins.agree_backward(tolerance, function(y)
          return moon.adaptive_avg_pool2d(layout(y), size)
        end, x)
      end
    end)
  end)
end)
