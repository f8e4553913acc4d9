-- Convolution: values against seven loops in Lua, gradients against differences, layouts, empty
-- batches and sentences.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local gradcheck = require "spec.support.gradcheck"
local naive = require "spec.support.naive"

local function pair(value)
  if type(value) == "table" then return value[1], value[2] end
  return value, value
end

local function size_after(size, kernel, stride, padding, dilation)
  return math.floor((size + 2 * padding - dilation * (kernel - 1) - 1) / stride) + 1
end

-- The sum under the kernel for one element of the result.
local function sum_at(x, w, at, o)
  local channels, height, width = w:size(2), x:size(3), x:size(4)
  local group = math.floor((at[2] - 1) / (w:size(1) / o.groups))
  local sum = 0
  for c = 1, channels do
    for i = 1, w:size(3) do
      local row = (at[3] - 1) * o.sh - o.ph + (i - 1) * o.dh + 1
      for j = 1, w:size(4) do
        local column = (at[4] - 1) * o.sw - o.pw + (j - 1) * o.dw + 1
        if row >= 1 and row <= height and column >= 1 and column <= width then
          sum = sum + x[{ at[1], group * channels + c, row, column }] * w[{ at[2], c, i, j }]
        end
      end
    end
  end
  return sum
end

local function conv2d(x, w, bias, options)
  options = options or {}
  local o = { groups = options.groups or 1 }
  o.sh, o.sw = pair(options.stride or 1)
  o.ph, o.pw = pair(options.padding or 0)
  o.dh, o.dw = pair(options.dilation or 1)
  local shape = { x:size(1), w:size(1), size_after(x:size(3), w:size(3), o.sh, o.ph, o.dh),
                  size_after(x:size(4), w:size(4), o.sw, o.pw, o.dw) }
  return naive.build(shape, function(at)
    return sum_at(x, w, at, o) + (bias and bias[at[2]] or 0)
  end)
end

-- input, weight, options
local cases = {
  ["one by one"] = { { 2, 3, 4, 5 }, { 4, 3, 1, 1 } },
  ["one by one with a stride"] = { { 2, 3, 5, 4 }, { 2, 3, 1, 1 }, { stride = 2 } },
  ["three by three"] = { { 2, 2, 5, 6 }, { 3, 2, 3, 3 } },
  ["three by three with padding"] = { { 1, 2, 4, 5 }, { 3, 2, 3, 3 }, { padding = 1 } },
  ["stride and padding of two kinds"] =
    { { 1, 2, 6, 5 }, { 2, 2, 3, 2 }, { stride = { 2, 1 }, padding = { 1, 0 } } },
  ["dilation"] = { { 1, 2, 7, 6 }, { 2, 2, 3, 2 }, { dilation = { 2, 3 }, padding = 1 } },
  ["groups"] = { { 2, 4, 4, 4 }, { 6, 2, 3, 3 }, { groups = 2, padding = 1 } },
  ["a channel a group"] = { { 1, 3, 5, 5 }, { 3, 1, 3, 3 }, { groups = 3, padding = 1 } },
  ["two outputs a group, with a stride"] =
    { { 1, 3, 5, 5 }, { 6, 1, 2, 2 }, { groups = 3, stride = 2 } },
  ["a kernel as large as the input"] = { { 2, 2, 3, 4 }, { 3, 2, 3, 4 } },
  ["padding wider than the kernel"] = { { 1, 1, 2, 2 }, { 1, 1, 2, 2 }, { padding = 3 } },
}

local function arguments(case)
  return naive.random(case[1], { seed = 1 }), naive.random(case[2], { seed = 2 }),
    naive.random({ case[2][1] }, { seed = 3 }), case[3]
end

describe("conv2d", function()
  for name, case in pairs(cases) do
    it("agrees with plain loops: " .. name, function()
      local x, w, bias, options = arguments(case)
      naive.close(moon.conv2d(x, w, bias, options), conv2d(x, w, bias, options), 1e-11)
      naive.close(moon.conv2d(x, w, nil, options), conv2d(x, w, nil, options), 1e-11)
    end)

    it("has the gradient: " .. name, function()
      local x, w, bias, options = arguments(case)
      gradcheck.check(function(p, q, b) return moon.conv2d(p, q, b, options) end, { x, w, bias },
        { step = 1e-3, tolerance = 1e-6 })
    end)

    it("agrees in float32: " .. name, function()
      local x, w, bias, options = arguments(case)
      local out = moon.conv2d(x:float(), w:float(), bias:float(), options)
      naive.close(out, conv2d(x, w, bias, options), 1e-4, "float32")
    end)
  end

  it("has gradients in float32 that agree with those in float64", function()
    for _, case in pairs(cases) do
      local x, w, bias, options = arguments(case)
      local grads = {}
      for _, dtype in ipairs { "float64", "float32" } do
        local p, q, b = x:to(dtype):clone(), w:to(dtype):clone(), bias:to(dtype):clone()
        for _, t in ipairs { p, q, b } do t.requires_grad = true end
        moon.conv2d(p, q, b, options):square():sum():backward()
        grads[dtype] = { p.grad, q.grad, b.grad }
      end
      for i = 1, 3 do naive.close(grads.float32[i], grads.float64[i], 1e-3, "float32") end
    end
  end)

  it("takes whole numbers in half precision exactly", function()
    local x = naive.random({ 1, 2, 4, 4 }, { low = -3, high = 3, whole = true })
    local w = naive.random({ 2, 2, 3, 3 }, { low = -2, high = 2, whole = true, seed = 4 })
    for _, dtype in ipairs { "float16", "bfloat16" } do
      naive.close(moon.conv2d(x:to(dtype), w:to(dtype)), conv2d(x, w), 0, dtype)
    end
  end)

  it("takes any layout", function()
    local x = naive.random({ 2, 5, 6, 3 }):permute(1, 4, 2, 3)
    local w = naive.random({ 3, 3, 3, 4 }):permute(4, 1, 3, 2)
    local bias = naive.random({ 8 }):unfold(1, 1, 2):select(2, 1)
    local options = { padding = 1 }
    naive.close(moon.conv2d(x, w, bias, options), conv2d(x, w, bias, options), 1e-11)
    gradcheck.check(function(p, q, b) return moon.conv2d(p, q, b, options) end, { x, w, bias },
      { step = 1e-3 })
  end)

  it("takes padding of each side, in numbers or words", function()
    local x, w = naive.random { 1, 2, 4, 5 }, naive.random { 3, 2, 2, 4 }
    local wide = moon.zeros(1, 2, 11, 12, { dtype = "float64" })
    wide[{ {}, {}, { 4, 7 }, { 4, 8 } }] = x
    -- rows, columns: how many zeros before and after
    local function expected(top, bottom, left, right)
      return conv2d(wide[{ {}, {}, { 4 - top, 7 + bottom }, { 4 - left, 8 + right } }], w)
    end
    for padding, sides in pairs {
      [{ { 1, 2 }, { 0, 3 } }] = { 1, 2, 0, 3 }, [{ 1, { 2, 0 } }] = { 1, 1, 2, 0 },
      [{ { 1, 2 } }] = { 1, 2, 1, 2 }, [{ 2 }] = { 2, 2, 2, 2 },
      same = { 0, 1, 1, 2 }, valid = { 0, 0, 0, 0 }, full = { 1, 1, 3, 3 },
    } do
      local options = { padding = padding }
      naive.close(moon.conv2d(x, w, nil, options), expected((table.unpack or unpack)(sides)),
        1e-12)
      gradcheck.check(function(p, q) return moon.conv2d(p, q, nil, options) end, { x, w },
        { step = 1e-3 })
    end
  end)

  it("takes an expanded gradient", function()
    local x, w = naive.random { 1, 1, 3, 3 }, naive.random { 1, 1, 2, 2 }
    w.requires_grad = true
    moon.conv2d(x, w):sum():backward()
    naive.close(w.grad, conv2d(x, moon.ones(1, 1, 2, 2, { dtype = "float64" })), 1e-12)
  end)

  it("gives an empty batch, and zero gradients for it", function()
    local w = moon.ones(4, 3, 3, 3, { requires_grad = true })
    local b = moon.ones(4, { requires_grad = true })
    local out = moon.conv2d(moon.empty(0, 3, 8, 8), w, b, { padding = 1 })
    assert.same({ 0, 4, 8, 8 }, out:size())
    out:sum():backward()
    naive.close(w.grad, moon.zeros(4, 3, 3, 3))
    naive.close(b.grad, moon.zeros(4))
  end)

  it("gives the bias where there are no input channels", function()
    local out = moon.conv2d(moon.empty(1, 0, 3, 3), moon.empty(2, 0, 2, 2), moon.tensor { 1, 2 })
    naive.close(out, { { { { 1, 1 }, { 1, 1 } }, { { 2, 2 }, { 2, 2 } } } })
  end)

  it("survives the failure of any allocation", function()
    local x, w, b = moon.randn(2, 3, 5, 5), moon.randn(4, 3, 3, 3), moon.randn(4)
    for _, t in ipairs { x, w, b } do t.requires_grad = true end
    faults.every_allocation(function()
      moon.conv2d(x, w, b, { padding = 1 }):sum():backward()
      x.grad, w.grad, b.grad = nil, nil, nil
    end)
  end)
end)

describe("conv2d says", function()
  local x, w = moon.zeros(8, 3, 6, 6), moon.zeros(4, 3, 3, 3)
  local function fails(text, ...) naive.fails("conv2d: " .. text, moon.conv2d, ...) end

  it("how many channels were expected", function()
    fails("input has 3 channels but weight expects 64 (input 8x3x224x224, weight 64x64x3x3, " ..
      "groups 1)", moon.zeros(8, 3, 1, 1):expand(8, 3, 224, 224), moon.zeros(64, 64, 3, 3))
    fails("input has 3 channels but weight expects 6 (input 8x3x6x6, weight 4x3x3x3, groups 2)",
      x, w, { groups = 2 })
  end)

  it("that groups do not divide", function()
    fails("3 groups do not divide the 4 output channels (weight 4x3x3x3)", x, w, { groups = 3 })
    fails("groups must be at least 1, got 0", x, w, { groups = 0 })
  end)

  it("how to add the batch", function()
    fails("input must have 4 dimensions (n, c, h, w), got 3x6x6; add the batch with " ..
      "input:unsqueeze(1)", moon.zeros(3, 6, 6), w)
    fails("input must have 4 dimensions (n, c, h, w), got 6x6", moon.zeros(6, 6), w)
    fails("weight must have 4 dimensions (out channels, in channels / groups, h, w), got 3x3", x,
      moon.zeros(3, 3))
  end)

  it("that the kernel is too large", function()
    fails("the kernel's height 3 (dilation 3) is larger than the padded input's 6 " ..
      "(input 8x3x6x6, weight 4x3x3x3, padding 0)", x, w, { dilation = 3 })
    fails("the kernel's width 9 (dilation 1) is larger than the padded input's 8", x,
      moon.zeros(4, 3, 3, 9), { padding = 1 })
    fails("weight has a kernel of no height", x, moon.zeros(4, 3, 0, 3))
  end)

  it("which number is out of range", function()
    fails("stride must be at least 1, got 0", x, w, { stride = 0 })
    fails("padding must be at least 0, got -1", x, w, { padding = { 0, -1 } })
    fails("dilation must be at least 1, got 0", x, w, { dilation = 0 })
    fails("padding must be at most 2147483647, got 4294967296", x, w, { padding = 2 ^ 32 })
    fails('padding "same" needs a stride of 1, got 2', x, w, { padding = "same", stride = 2 })
    for _, padding in ipairs { "fool", { 1, 2, 3 }, { { 1 }, 2 }, {}, { "a", 1 } } do
      fails("padding must be a number, a list such as {1, 2} or {{1, 2}, {0, 0}}, or one of " ..
        '"same", "valid", "full"', x, w, { padding = padding })
    end
  end)

  it("which type or bias does not fit", function()
    fails("bias must have one element for each of the 4 output channels, got 3", x, w,
      moon.zeros(3))
    fails('input is float32 but weight is float64; cast one, as in weight:to "float32"', x,
      w:double())
    fails('input must be of a float type, got uint8; cast it with :to "float32"', x:byte(), w)
  end)

  it("that borders of the widest dilations are too large for the gradient of weights", function()
    local kernels = moon.ones(128, 128, 3, 3, { requires_grad = true })
    local wide = { padding = 2 ^ 30, dilation = 2 ^ 30 }
    local loss = moon.conv2d(moon.ones(1, 128, 8, 8), kernels, wide):sum()
    naive.fails("backward of conv2d: out of memory: ", loss.backward, loss)
  end)
end)

describe("conv2d_fused says", function()
  local x, w = moon.zeros(2, 3, 5, 5), moon.zeros(4, 3, 3, 3)

  it("which sizes do not fit", function()
    naive.refuses("conv2d_fused", "scale must have one element for each of the 4 output " ..
      "channels, got 3 (weight 4x3x3x3)", x, w, { scale = moon.zeros(3) })
    naive.refuses("conv2d_fused", "add must have the result's shape 2x4x3x3, got 2x4x5x5", x, w,
      { add = moon.zeros(2, 4, 5, 5) })
    naive.refuses("conv2d_fused", "input is float32 but add is float64", x, w,
      { add = moon.zeros(2, 4, 3, 3):double() })
  end)
end)
