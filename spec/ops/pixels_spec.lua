-- Layers on arrays whose channels lie side by side have kernels of their own: they must give what
-- the contiguous layout gives, forward and backward, in every float type, with more channels than
-- vectors are wide, for slices of channels too, and the same bits on any number of threads.
local moon = require "moonlet"
local naive = require "spec.support.naive"

local function channels_last(x)
  return x:permute(1, 3, 4, 2):contiguous():permute(1, 4, 2, 3)
end

-- x as the middle channels of a wider array.
local function slice(x)
  local c = x:size(2)
  local wide = moon.zeros(x:size(1), x:size(3), x:size(4), c + 4, { dtype = x.dtype })
  wide:narrow(4, 3, c):copy_(x:permute(1, 3, 4, 2))
  return wide:narrow(4, 3, c):permute(1, 4, 2, 3)
end

local function labels(x)
  return moon.arange(0, x:numel() / x:size(2) - 1):remainder(x:size(2)):add(1)
    :reshape(x:size(1), x:size(3), x:size(4))
end

local calls = {
  ["max_pool2d 2"] = function(x) return moon.max_pool2d(x, 2) end,
  ["max_pool2d 3, stride 2"] = function(x)
    return moon.max_pool2d(x, 3, { stride = 2, padding = 1, ceil_mode = true })
  end,
  ["max_pool2d 3, stride 1"] = function(x)
    return moon.max_pool2d(x, { 3, 2 }, { stride = 1, padding = 1 })
  end,
  ["max_pool2d, dilation"] = function(x)
    return moon.max_pool2d(x, 3, { stride = 1, dilation = 2, padding = 1 })
  end,
  ["max_pool2d, windows of more than 255"] = function(x)
    return moon.max_pool2d(x, { 9, 31 }, { stride = 1, padding = { 4, 15 } })
  end,
  ["max_pool2d, stride 3 and dilation 2"] = function(x)
    return moon.max_pool2d(x, 3, { stride = { 1, 3 }, dilation = { 1, 2 }, padding = { 0, 1 } })
  end,
  ["avg_pool2d, stride 2 of ragged edges"] = function(x)
    return moon.avg_pool2d(x, 3, { stride = 2, padding = 1, ceil_mode = true })
  end,
  ["avg_pool2d 2"] = function(x) return moon.avg_pool2d(x, 2) end,
  ["avg_pool2d 3"] = function(x)
    return moon.avg_pool2d(x, 3, { stride = 1, padding = 1, count_include_pad = false })
  end,
  ["adaptive_avg_pool2d"] = function(x) return moon.adaptive_avg_pool2d(x, 1) end,
  ["local_response_norm 5"] = function(x)
    return moon.local_response_norm(x, 5, { alpha = 1, beta = 0.75, k = 2 })
  end,
  ["local_response_norm 4"] = function(x)
    return moon.local_response_norm(x, 4, { alpha = 2, beta = 1.5 })
  end,
  ["local_response_norm, wider than the channels"] = function(x)
    return moon.local_response_norm(x, 99, { alpha = 2 })
  end,
  ["interpolate, nearest"] = function(x) return moon.interpolate(x, { scale_factor = 2 }) end,
  ["interpolate, bilinear"] = function(x)
    return moon.interpolate(x, { scale_factor = 2, mode = "bilinear" })
  end,
  ["softmax of channels"] = function(x) return moon.softmax(x, 2) end,
  ["log_softmax of columns"] = function(x) return moon.log_softmax(x, 4) end,
  ["cross_entropy"] = function(x) return moon.cross_entropy(x, labels(x)) end,
  ["cross_entropy, smoothed"] = function(x)
    return moon.cross_entropy(x, labels(x), { label_smoothing = 0.1 })
  end,
  ["cross_entropy, weighted"] = function(x)
    local weight = moon.arange(1, x:size(2)):to(x.dtype):sqrt()
    return moon.cross_entropy(x, labels(x), { weight = weight, ignore_index = 2 })
  end,
}

local function run(call, x)
  x = x:detach():requires_grad_(true)
  local y = call(x)
  local weights = moon.arange(1, y:numel(), { dtype = "float64" }):sin():to(y.dtype)
  y:backward(weights:reshape(y:size()))
  return { y:detach(), x.grad }
end

local function off_by(a, b)
  a, b = a:to "float64", b:to "float64"
  return (a - b):abs():max():item() / b:abs():max():item()
end

local tolerance = { float64 = 1e-12, float32 = 2e-6, bfloat16 = 2e-2, float16 = 3e-3 }

describe("by pixels", function()
  for name, call in pairs(calls) do
    it("gives what contiguous arrays give: " .. name, function()
      for _, shape in ipairs { { 1, 85, 9, 31 }, { 2, 3, 9, 32 } } do
        local x = naive.random(shape, { seed = 5 })
        for dtype, most in pairs(tolerance) do
          local rounded = x:to(dtype)
          local expected = run(call, rounded:to "float64")
          for _, lay in ipairs { channels_last, slice, moon.clone } do
            local got = run(call, lay(rounded))
            for i = 1, 2 do
              assert.is_true(off_by(got[i], expected[i]) <= most, dtype)
            end
          end
        end
      end
    end)

    it("gives the same bits on any number of threads: " .. name, function()
      local before, random = moon.get_num_threads(), naive.random({ 3, 24, 36, 33 }):float()
      for _, x in ipairs { random, channels_last(random) } do
        local results = {}
        for threads = 1, 3 do
          moon.set_num_threads(threads)
          results[threads] = run(call, x)
        end
        moon.set_num_threads(before)
        for i = 1, 2 do
          for threads = 2, 3 do
            assert.is_true(results[1][i]:eq(results[threads][i]):all():item())
          end
        end
      end
    end)
  end

  -- More classes than go through in one run, long rows, and labels that are left out; nothing is
  -- kept where nothing is recorded.
  it("gives the losses of many classes", function()
    for _, shape in ipairs { { 2, 1500, 3, 3 }, { 3, 70, 1, 150 }, { 130, 9000, 1, 1 } } do
      local x = naive.random(shape, { seed = 6 })
      local target = labels(x)
      target[{ 1, 1, 1 }] = -100
      local options = { ignore_index = -100, reduction = "none" }
      local expected = -x:log_softmax(2):gather(2, target:clamp(1):unsqueeze(2)):squeeze(2)
      expected[{ 1, 1, 1 }] = 0
      for _, lay in ipairs { channels_last, slice, moon.clone } do
        local logits = lay(x:float())
        local recorded = moon.cross_entropy(logits:detach():requires_grad_(true), target, options)
        local plain = moon.cross_entropy(logits, target, options)
        assert.is_true(off_by(plain, expected) <= 2e-6)
        assert.is_true(plain:eq(recorded):all():item())
      end
    end
  end)

  it("drops out in the order of memory", function()
    local x = moon.ones(2, 5, 6, 7)
    moon.manual_seed(3)
    local plain = x:permute(1, 3, 4, 2):contiguous():dropout(0.5)
    for _, dtype in ipairs { "float32", "float64", "bfloat16" } do
      moon.manual_seed(3)
      local y = channels_last(x:to(dtype)):dropout(0.5)
      assert.is_true(y:permute(1, 3, 4, 2):float():eq(plain):all():item(), dtype)
    end
  end)
end)
