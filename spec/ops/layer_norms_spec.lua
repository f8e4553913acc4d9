-- Normalisation of samples by themselves: what the cases (spec/cases/normalization.lua) do not see:
-- running statistics, half types at large values, sentences, failing allocations.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local naive = require "spec.support.naive"

local fails = naive.refuses

describe("layer_norm", function()
  it("says what does not fit", function()
    local x = moon.zeros(2, 3, 4)
    fails("layer_norm", "normalized_shape 3 must be the last dimensions of input 2x3x4", x, { 3 })
    fails("layer_norm", "normalized_shape 2x3x4x1 must be the last dimensions of input 2x3x4", x,
      { 2, 3, 4, 1 })
    fails("layer_norm", "normalized_shape must name at least one dimension", x, {})
    fails("layer_norm", "weight must have normalized_shape 3x4, got 4", x, { 3, 4 }, moon.ones(4))
    fails("layer_norm", "bias must have normalized_shape 4, got 1x4", x, { 4 }, nil,
      moon.ones(1, 4))
    fails("layer_norm", "eps must not be negative, got -1", x, { 4 }, { eps = -1 })
    fails("layer_norm", "eps must not be negative", x, { 4 }, { eps = 0 / 0 })
    fails("layer_norm", 'input is float32 but weight is float64; cast one, as in weight:to ', x,
      { 4 }, moon.ones(4):double())
    fails("layer_norm", "input must be of a float type, got int64", x:long(), { 4 })
  end)

  it("keeps its statistics in float32 for half types", function()
    local x = moon.full({ 1, 512 }, 1000, { dtype = "float16" })
    x[{ {}, { 1, 256 } }] = 1002
    local y = moon.layer_norm(x, { 512 })
    naive.close(y[{ { 1 }, { 1, 2 } }]:float(), { { 1, 1 } }, 1e-2)
    assert.equal("float16", y.dtype)
  end)

  it("gives nothing for nothing", function()
    assert.same({ 3, 0 }, moon.layer_norm(moon.zeros(3, 0), { 0 }):size())
  end)
end)

describe("rms_norm", function()
  it("does not overflow in float16", function()
    local y = moon.rms_norm(moon.full({ 1, 4 }, 3e4, { dtype = "float16" }), { 4 })
    naive.close(y:float(), { { 1, 1, 1, 1 } }, 1e-3)
  end)

  it("says what does not fit", function()
    fails("rms_norm", "normalized_shape 3 must be the last dimensions of input 2x4",
      moon.zeros(2, 4), { 3 })
    fails("rms_norm", "eps must not be negative, got -2", moon.zeros(2, 4), { 4 }, { eps = -2 })
  end)
end)

describe("group_norm", function()
  it("says what does not fit", function()
    local x = moon.zeros(2, 6, 4)
    fails("group_norm", "groups must divide the 6 channels of input 2x6x4, got 4", x, 4)
    fails("group_norm", "groups must divide the 6 channels of input 2x6x4, got 0", x, 0)
    fails("group_norm", "groups must divide the 6 channels of input 2x6x4, got -2", x, -2)
    fails("group_norm", "input must have dimensions (n, c) or (n, c, ...), got 6", moon.zeros(6), 2)
    fails("group_norm", "weight must have one element for each of the 6 channels of input " ..
      "2x6x4, got 2", x, 2, moon.ones(2))
  end)
end)

describe("instance_norm", function()
  it("moves running statistics towards the mean over the samples", function()
    local x = naive.random({ 4, 2, 5 }, { low = 1, high = 3 })
    local mean, var = moon.full({ 2 }, 10, { dtype = "float64" }),
      moon.full({ 2 }, 20, { dtype = "float64" })
    local y = moon.instance_norm(x, mean, var, { momentum = 0.25 })
    naive.close(y, moon.instance_norm(x))
    naive.close(mean, x:mean(3):mean(1) * 0.25 + 7.5)
    naive.close(var, x:var(3):mean(1) * 0.25 + 15)
  end)

  it("uses them where use_input_stats is false", function()
    local x = naive.random { 3, 2, 4 }
    local mean, var = naive.random { 2 }, naive.random({ 2 }, { low = 0.5, high = 1 })
    local y = moon.instance_norm(x, mean, var, { use_input_stats = false })
    naive.close(y, moon.batch_norm(x, nil, nil, mean, var))
  end)

  it("lets the statistics move before the backward pass", function()
    local x = naive.random { 3, 2, 4 }
    x.requires_grad = true
    local mean, var = moon.zeros(2, { dtype = "float64" }), moon.ones(2, { dtype = "float64" })
    local y = moon.instance_norm(x, mean, var)
    moon.instance_norm(x, mean, var)
    y:sum():backward()
    assert.is_true(x.grad:abs():max():item() < 1e-10)
  end)

  it("takes float32 statistics beside half types", function()
    local x = naive.random { 3, 2, 8 }
    for _, dtype in ipairs { "float16", "bfloat16" } do
      local mean, var = moon.zeros(2), moon.ones(2)
      local y = moon.instance_norm(x:to(dtype), mean, var, { momentum = 1 })
      assert.equal(dtype, y.dtype)
      naive.close(mean, x:to(dtype):float():mean(3):mean(1), 1e-3)
    end
    fails("instance_norm", "input is float64 but running_mean is float32", x, moon.zeros(2),
      moon.ones(2))
  end)

  it("refuses to move expanded statistics", function()
    fails("instance_norm", "the tensor to write into, 3, is expanded", moon.zeros(2, 3, 4),
      moon.zeros(1):expand(3), moon.ones(3))
  end)

  it("says what does not fit", function()
    local x = moon.zeros(2, 3, 4)
    fails("instance_norm", "input must have dimensions (n, c, d1, ...), got 2x3", moon.zeros(2, 3))
    fails("instance_norm", "a channel of one value has no deviation, got input 2x3x1",
      moon.zeros(2, 3, 1))
    fails("instance_norm", "running_mean and running_var belong together", x, moon.zeros(3))
    fails("instance_norm", "running_mean and running_var are needed unless use_input_stats is true",
      x, { use_input_stats = false })
    fails("instance_norm", "running_var must have one element for each of the 3 channels", x,
      moon.zeros(3), moon.zeros(4))
  end)
end)

describe("local_contrast_norm", function()
  it("gives flat pictures 0 and does not care for brightness or contrast", function()
    local x = naive.random { 1, 1, 6, 6 }
    naive.close(moon.local_contrast_norm(x * 5 + 3, nil, 5), moon.local_contrast_norm(x, nil, 5),
      1e-9)
    local flat = moon.local_contrast_norm(moon.full({ 1, 2, 5, 5 }, 7, { dtype = "float64" }))
    assert.is_true(flat:abs():max():item() < 1e-9)
  end)

  it("says what does not fit", function()
    local x = moon.zeros(1, 2, 5, 5)
    fails("local_contrast_norm", "input must have 4 dimensions (n, c, h, w), got 5x5",
      moon.zeros(5, 5))
    fails("local_contrast_norm", "size must be an odd number from 1, got 4", x, nil, 4)
    fails("local_contrast_norm", "kernel must have 2 dimensions of odd size, got 2x3", x,
      moon.ones(2, 3))
    fails("local_contrast_norm", "threshold must be positive, got 0", x, { threshold = 0 })
  end)
end)

describe("normalisation of samples", function()
  it("survives the failure of any allocation", function()
    local x, weight, bias = moon.randn(2, 4, 3), moon.ones(3), moon.zeros(3)
    local four, mean, var = moon.ones(4), moon.zeros(4), moon.ones(4)
    local picture = moon.randn(1, 1, 4, 4)
    for _, t in ipairs { x, weight, bias, four, picture } do t.requires_grad = true end
    local calls = {
      function() return moon.layer_norm(x, { 3 }, weight, bias) end,
      function() return moon.rms_norm(x, { 3 }, weight) end,
      function() return moon.rms_norm(x:half(), { 3 }) end,
      function() return moon.group_norm(x, 2, four, four) end,
      function() return moon.instance_norm(x, mean, var, four) end,
      function() return moon.local_contrast_norm(picture, nil, 3) end,
    }
    for _, call in ipairs(calls) do
      faults.every_allocation(function()
        call():float():sum():backward()
        for _, t in ipairs { x, weight, bias, four, picture } do t.grad = nil end
      end)
    end
  end)
end)
