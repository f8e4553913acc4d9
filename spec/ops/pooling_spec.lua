-- Pooling: values against loops in Lua, gradients against differences, PyTorch's sizes under
-- ceil_mode, layouts, empty batches and sentences.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local gradcheck = require "spec.support.gradcheck"
local naive = require "spec.support.naive"
local windows = require "spec.support.windows"

local function pair(value)
  if type(value) == "table" then return value end
  return { value, value }
end

local max_cases = {
  { { 2, 3, 4, 6 }, 2 }, { { 1, 2, 5, 7 }, 2 }, { { 1, 2, 5, 7 }, 2, { ceil_mode = true } },
  { { 1, 2, 6, 5 }, { 3, 2 }, { stride = { 1, 2 }, padding = 1 } },
  { { 1, 1, 7, 7 }, 2, { dilation = { 2, 3 }, stride = 1 } },
  { { 1, 1, 5, 5 }, 3, { stride = 2, padding = 1, ceil_mode = true } },
  { { 1, 1, 5, 4 }, 2, { stride = 3, padding = 1, ceil_mode = true } },
  { { 1, 2, 4, 4 }, { 4, 4 } }, { { 2, 1, 3, 3 }, 1 },
  -- rows of more windows than vectors have elements, windows that step over columns, one by one
  { { 1, 2, 5, 40 }, 3, { stride = 1, padding = 1 } },
  { { 1, 1, 7, 39 }, 3, { stride = 2, padding = 1 } },
  { { 1, 1, 5, 70 }, 2, { stride = { 3, 2 }, padding = 1, ceil_mode = true } },
  { { 1, 1, 5, 35 }, 3, { stride = { 2, 3 }, padding = { 0, 1 }, dilation = { 2, 1 } } },
  { { 1, 1, 3, 40 }, 2, { stride = { 1, 9 } } },
}
local avg_cases = {
  { { 2, 3, 4, 6 }, 2 }, { { 1, 2, 5, 7 }, 2, { ceil_mode = true } },
  { { 1, 2, 6, 5 }, { 3, 2 }, { stride = { 1, 2 }, padding = 1 } },
  { { 1, 2, 6, 5 }, { 3, 2 }, { stride = { 1, 2 }, padding = 1, count_include_pad = false } },
  { { 1, 1, 5, 5 }, 3, { stride = 2, padding = 1, ceil_mode = true } },
  { { 1, 1, 6, 6 }, 3, { stride = 2, padding = 1, ceil_mode = true } },
  { { 1, 1, 6, 6 }, 3, { stride = 2, padding = 1, ceil_mode = true, count_include_pad = false } },
  { { 1, 1, 5, 4 }, 2, { stride = 3, padding = 1, ceil_mode = true } },
  { { 2, 1, 3, 3 }, 1 }, { { 1, 2, 4, 4 }, 4 },
  { { 1, 2, 5, 40 }, 3, { stride = 1, padding = 1 } },
  { { 1, 1, 7, 39 }, 3, { stride = 2, padding = 1, count_include_pad = false } },
  { { 1, 1, 5, 70 }, 2, { stride = { 3, 2 }, padding = 1, ceil_mode = true } },
  { { 1, 1, 5, 35 }, 3, { stride = { 2, 3 }, padding = { 0, 1 }, divisor_override = 4 } },
  { { 1, 1, 3, 40 }, 2, { stride = { 1, 9 } } }, { { 1, 2, 5, 33 }, { 3, 33 } },
}

local function name_of(case)
  local parts = { "kernel " .. table.concat(pair(case[2]), "x") }
  local names = {}
  for name in pairs(case[3] or {}) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    local value = case[3][name]
    parts[#parts + 1] = name .. " " ..
      (type(value) == "table" and table.concat(value, "x") or tostring(value))
  end
  return table.concat(case[1], "x") .. ", " .. table.concat(parts, ", ")
end

for name, family in pairs {
  max_pool2d = { naive = windows.max_pool(2), cases = max_cases },
  avg_pool2d = { naive = windows.avg_pool(2), cases = avg_cases },
} do
  describe(name, function()
    for _, case in ipairs(family.cases) do
      it("agrees with plain loops: " .. name_of(case), function()
        local x = naive.random(case[1])
        local expected = family.naive(x, case[2], case[3])
        naive.close(moon[name](x, case[2], case[3]), expected, 1e-12)
        naive.close(moon[name](x:float(), case[2], case[3]), expected, 1e-5, "float32")
      end)

      it("has the gradient: " .. name_of(case), function()
        gradcheck.check(function(x) return moon[name](x, case[2], case[3]) end,
          { naive.random(case[1]) })
      end)
    end

    it("takes any layout", function()
      local x = naive.random({ 4, 6, 2, 3 }, { seed = 7 }):permute(3, 4, 1, 2)
      naive.close(moon[name](x, 2), family.naive(x, 2))
      gradcheck.check(function(p) return moon[name](p, 2) end, { x })
    end)

    it("takes half precision", function()
      local x = naive.random({ 1, 2, 4, 4 }, { low = -8, high = 8, whole = true })
      for _, dtype in ipairs { "float16", "bfloat16" } do
        naive.close(moon[name](x:to(dtype), 2), family.naive(x, 2), 0, dtype)
      end
    end)

    it("gives an empty batch", function()
      local x = moon.empty(0, 3, 8, 8, { requires_grad = true })
      local out = moon[name](x, 2)
      assert.same({ 0, 3, 4, 4 }, out:size())
      out:sum():backward()
      assert.same({ 0, 3, 8, 8 }, x.grad:size())
      assert.same({ 2, 0, 4, 4 }, moon[name](moon.empty(2, 0, 8, 8), 2):size())
    end)

    it("says what does not fit", function()
      local x = moon.zeros(2, 3, 4, 4)
      local function fails(text, ...) naive.fails(name .. ": " .. text, moon[name], ...) end
      fails("input must have 4 dimensions (n, c, h, w), got 3x4x4; add the batch with " ..
        "input:unsqueeze(1)", moon.zeros(3, 4, 4), 2)
      fails("input must have 4 dimensions (n, c, h, w), got 4x4", moon.zeros(4, 4), 2)
      fails('input must be of a float type, got int64; cast it with :to "float32"', x:long(), 2)
      fails("kernel must be at least 1, got 0", x, 0)
      fails("stride must be at least 1, got 0", x, 2, { stride = 0 })
      fails("padding must be at least 0, got -1", x, 2, { padding = -1 })
      fails("padding must be at most half the kernel, got padding 2 for kernel 3", x, 3,
        { padding = 2 })
      fails("the kernel's height 5 (dilation 1) is larger than the padded input's 4 " ..
        "(input 2x3x4x4, padding 0)", x, 5)
      fails("a window would see nothing but padding in the input's width 0",
        moon.zeros(1, 1, 4, 0), 2, { padding = 1 })
    end)

    it("survives the failure of any allocation", function()
      local x = moon.randn(2, 3, 4, 4)
      x.requires_grad = true
      faults.every_allocation(function()
        moon[name](x, 2):sum():backward()
        x.grad = nil
      end)
    end)
  end)
end

describe("max_pool2d", function()
  it("gives NaN where a window holds one", function()
    local x = moon.tensor { { { { 1, 0 / 0 }, { 2, 3 } } } }
    local y = moon.max_pool2d(x, 2)
    assert(y:item() ~= y:item())
  end)

  -- Rows of one window, and of several vectors of them.
  it("gives NaN to the windows that hold one, and their gradients to it", function()
    for _, width in ipairs { 2, 37 } do
      local x = naive.random({ 1, 1, 5, width }):float()
      local nan = moon.zeros(1, 1, 5, width)
      x[{ 1, 1, 3, 2 }], nan[{ 1, 1, 3, 2 }] = 0 / 0, 1
      x.requires_grad = true
      for stride = 1, 2 do
        local o = { stride = stride, padding = 1 }
        local y, hit = moon.max_pool2d(x, 3, o), moon.max_pool2d(nan, 3, o)
        assert.is_true(y:ne(y):float():eq(hit):all():item())
        x.grad = nil
        y:sum():backward()
        assert.equal(hit:sum():item(), x.grad[{ 1, 1, 3, 2 }])
      end
    end
  end)

  it("takes the first of a window's elements where all are minus infinity", function()
    for _, width in ipairs { 2, 37 } do
      local x = moon.full({ 1, 1, 4, width }, -math.huge)
      local y, at = moon.max_pool2d(x, 3, { stride = 1, padding = 1, return_indices = true })
      assert.is_true(y:eq(-math.huge):all():item())
      naive.close(at, naive.build({ 1, 1, 4, width }, function(p)
        return (math.max(p[3] - 1, 1) - 1) * width + math.max(p[4] - 1, 1)
      end), 0)
    end
  end)

  it("says where its elements were found in rows of many windows", function()
    local x = naive.random { 2, 3, 6, 37 }
    for stride = 1, 3 do
      local o = { stride = stride, padding = 1, return_indices = true }
      local _, expected = windows.max_pool(2)(x, 3, o)
      naive.close((select(2, moon.max_pool2d(x, 3, o))), expected, 0)
    end
  end)

  it("gives the gradient to the first of equal elements", function()
    local x = moon.ones(1, 1, 2, 2, { requires_grad = true })
    moon.max_pool2d(x, 2):sum():backward()
    naive.close(x.grad, { { { { 1, 0 }, { 0, 0 } } } })
  end)

  it("refuses windows that could miss the input", function()
    naive.fails("max_pool2d: a window would see nothing but padding in the input's height 1 " ..
      "(input 1x1x1x1, dilation 2)", moon.max_pool2d, moon.zeros(1, 1, 1, 1), 2,
      { padding = 1, dilation = 2 })
  end)
end)

describe("adaptive_avg_pool2d", function()
  local adaptive = windows.adaptive_avg_pool(2)

  local cases = { { { 2, 3, 6, 4 }, { 3, 2 } }, { { 2, 2, 7, 5 }, { 3, 2 } }, { { 1, 2, 5, 5 }, 1 },
                  { { 1, 2, 2, 3 }, { 4, 3 } }, { { 1, 1, 7, 7 }, 7 } }
  for _, case in ipairs(cases) do
    local name = table.concat(case[1], "x") .. " to " .. table.concat(pair(case[2]), "x")
    it("agrees with plain loops and has a gradient: " .. name, function()
      local x = naive.random(case[1])
      naive.close(moon.adaptive_avg_pool2d(x, case[2]), adaptive(x, case[2]))
      gradcheck.check(function(p) return moon.adaptive_avg_pool2d(p, case[2]) end, { x })
    end)
  end

  it("takes any layout and an empty batch", function()
    local x = naive.random({ 5, 7, 2, 3 }):permute(3, 4, 1, 2)
    naive.close(moon.adaptive_avg_pool2d(x, { 2, 3 }), adaptive(x, { 2, 3 }))
    assert.same({ 0, 3, 2, 2 }, moon.adaptive_avg_pool2d(moon.empty(0, 3, 5, 5), 2):size())
  end)

  it("says what does not fit", function()
    naive.fails("adaptive_avg_pool2d: size must be at least 1, got 0", moon.adaptive_avg_pool2d,
      moon.zeros(1, 1, 4, 4), 0)
    naive.fails("adaptive_avg_pool2d: input must have a height and a width, got 1x1x0x4",
      moon.adaptive_avg_pool2d, moon.zeros(1, 1, 0, 4), 1)
  end)

  it("survives the failure of any allocation", function()
    local x = moon.randn(1, 2, 3, 3)
    x.requires_grad = true
    faults.every_allocation(function()
      moon.adaptive_avg_pool2d(x, 2):sum():backward()
      x.grad = nil
    end)
  end)
end)
