-- What pooling in one to three dimensions, to a size, at random distances and back refuses; ties,
-- NaN, zeros under a norm, and failing allocations. Values: spec/cases/pooling.lua.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local naive = require "spec.support.naive"

local nan = 0 / 0

local fails = naive.refuses

local line, volume = moon.randn(2, 3, 8), moon.randn(1, 2, 4, 5, 6)
local inputs = { line, moon.randn(1, 2, 5, 6), volume }
local layouts = { "(n, c, l)", "(n, c, h, w)", "(n, c, d, h, w)" }

for _, dims in ipairs { 1, 3 } do
  local x, layout = inputs[dims], layouts[dims]
  for _, kind in ipairs { "max", "avg" } do
    local name = ("%s_pool%dd"):format(kind, dims)
    describe(name, function()
      it("says what does not fit", function()
        fails(name, ("input must have %d dimensions %s, got %s; add the batch with " ..
          "input:unsqueeze(1)"):format(dims + 2, layout, table.concat(x[1]:size(), "x")), x[1], 2)
        fails(name, ("input must have %d dimensions %s, got 3"):format(dims + 2, layout),
          moon.zeros(3), 2)
        fails(name, 'input must be of a float type, got int64; cast it with :to "float32"',
          x:long(), 2)
        fails(name, "kernel must be at least 1, got 0", x, 0)
        fails(name, "kernel must be at most 2147483647, got 4294967296", x, 2 ^ 32)
        fails(name, "stride must be at least 1, got 0", x, 2, { stride = 0 })
        fails(name, "padding must be at least 0, got -1", x, 2, { padding = -1 })
        fails(name, "padding must be at most half the kernel, got padding 2 for kernel 3", x, 3,
          { padding = 2 })
        fails(name, ("the kernel's %s 9 (dilation 1) is larger than the padded input's"):format(
          dims == 1 and "length" or "depth"), x, 9)
      end)

      it("survives the failure of any allocation", function()
        local leaf = x:clone():requires_grad_()
        faults.every_allocation(function()
          moon[name](leaf, 2):sum():backward()
          leaf.grad = nil
        end)
        faults.every_allocation(function()
          if kind == "max" then moon[name](x, 2, { return_indices = true }) end
        end)
      end)
    end)
  end
end

describe("kernels far larger than the image", function()
  it("cost no more than the image", function()
    local x, kernel = moon.randn(1, 1, 12, 12), 2 ^ 31 - 1
    local o = { padding = 2 ^ 30 - 1, stride = 1 }
    local started = moon.clock()
    assert.same({ 1, 1, 12, 12 }, moon.max_pool2d(x, kernel, o):size())
    naive.close(moon.max_pool2d(x, kernel, o), x:amax():expand(1, 1, 12, 12), 0)
    naive.close(moon.avg_pool2d(x, kernel, { padding = o.padding, stride = 1,
      count_include_pad = false }), x:mean():expand(1, 1, 12, 12), 1e-5)
    assert.is_true(moon.clock() - started < 1)
  end)
end)

describe("averages", function()
  it("refuse to be divided by nothing", function()
    for dims = 2, 3 do
      fails(("avg_pool%dd"):format(dims), "divisor_override must not be 0", inputs[dims], 2,
        { divisor_override = 0 })
    end
  end)
end)

describe("maxima", function()
  it("are the first of equals, in every way of pooling", function()
    local flat = moon.ones(1, 1, 3, 4, 5)
    local _, indices = moon.max_pool3d(flat, 2, { return_indices = true })
    assert.equal(1, indices[{ 1, 1, 1, 1, 1 }])
    _, indices = moon.adaptive_max_pool3d(flat, 2, { return_indices = true })
    assert.equal(1, indices[{ 1, 1, 1, 1, 1 }])
    assert.equal("int64", indices.dtype)
    local leaf = moon.ones(1, 1, 5):requires_grad_()
    moon.adaptive_max_pool1d(leaf, 2):sum():backward()
    naive.close(leaf.grad, { { { 1, 0, 1, 0, 0 } } })
  end)

  it("are NaN where a window holds one", function()
    local x = moon.tensor { { { 1, nan, 2, 3, 4, 5 } } }
    local y = moon.max_pool1d(x, 2)
    assert.is_true(y[{ 1, 1, 1 }] ~= y[{ 1, 1, 1 }])
    naive.close(y:narrow(3, 2, 2), { { { 3, 5 } } })
    y = moon.adaptive_max_pool1d(x, 4)
    assert.is_true(y[{ 1, 1, 1 }] ~= y[{ 1, 1, 1 }])
    naive.close(y:narrow(3, 3, 2), { { { 4, 5 } } })
  end)

  it("come without positions unless asked", function()
    assert.equal(1, select("#", moon.max_pool2d(inputs[2], 2)))
    assert.equal(2, select("#", moon.max_pool2d(inputs[2], 2, { return_indices = true })))
    assert.equal(1, select("#", moon.max_pool3d(volume, 2)))
    assert.equal(1, select("#", moon.adaptive_max_pool2d(inputs[2], 4)))
  end)
end)

describe("lp_pool", function()
  it("refuses norms that are none", function()
    for dims = 1, 3 do
      local name = ("lp_pool%dd"):format(dims)
      for _, p in ipairs { 0, -1 } do
        fails(name, ("norm_type must be a number above 0, got %d"):format(p), inputs[dims], p, 2)
      end
      fails(name, "norm_type must be a number above 0, got inf", inputs[dims], math.huge, 2)
    end
  end)

  it("has the gradient 0 where a window is zero", function()
    local x = moon.zeros(1, 1, 4, 4, { requires_grad = true })
    moon.lp_pool2d(x, 2, 2):sum():backward()
    naive.close(x.grad, moon.zeros(1, 1, 4, 4))
  end)

  it("survives the failure of any allocation", function()
    local leaf = line:clone():requires_grad_()
    faults.every_allocation(function()
      moon.lp_pool1d(leaf, 3, 2):sum():backward()
      leaf.grad = nil
    end)
  end)
end)

describe("adaptive pooling", function()
  it("says what does not fit", function()
    for _, kind in ipairs { "max", "avg" } do
      fails(("adaptive_%s_pool1d"):format(kind), "size must be at least 1, got 0", line, 0)
      fails(("adaptive_%s_pool3d"):format(kind), "size must be a number or a list of three, got 2",
        volume, { 2, 2 })
      fails(("adaptive_%s_pool1d"):format(kind), "input must have a length, got 2x3x0",
        moon.zeros(2, 3, 0), 2)
      fails(("adaptive_%s_pool3d"):format(kind), "input must have a depth, a height and a " ..
        "width, got 1x1x2x0x2", moon.zeros(1, 1, 2, 0, 2), 2)
    end
  end)

  it("survives the failure of any allocation", function()
    local leaf = inputs[2]:clone():requires_grad_()
    for _, name in ipairs { "adaptive_max_pool2d", "adaptive_avg_pool2d" } do
      faults.every_allocation(function()
        moon[name](leaf, 4):sum():backward()
        leaf.grad = nil
      end)
    end
  end)
end)

describe("fractional_max_pool2d", function()
  local x = moon.randn(2, 3, 9, 8)

  it("says what does not fit", function()
    local function no(text, ...) fails("fractional_max_pool2d", text, ...) end
    no("give either output_size or output_ratio, got neither", x, 2)
    no("give either output_size or output_ratio, got both", x, 2,
      { output_size = 3, output_ratio = 0.5 })
    no("output_ratio must lie between 0 and 1, got 1", x, 2, { output_ratio = 1 })
    no("output_size must be at least 1, got 0", x, 2, { output_ratio = 0.05 })
    no("kernel must be at least 1, got 0", x, 0, { output_size = 2 })
    no("8 windows of 2 elements do not fit the input's width 8", x, 2, { output_size = 8 })
    no("random_samples must be 2x3x2, got 2x3", x, 2,
      { output_size = 3, random_samples = moon.zeros(2, 3) })
    for _, u in ipairs { -0.1, 1, math.huge } do
      no("random_samples must lie from 0 to below 1", x, 2,
        { output_size = 3, random_samples = moon.full({ 2, 3, 2 }, u) })
    end
    no("input is float32 but random_samples is float64", x, 2,
      { output_size = 3, random_samples = moon.zeros(2, 3, 2):double() })
  end)

  it("keeps inside for the largest random number below one", function()
    local most = moon.full({ 2, 3, 2 }, 1 - 2 ^ -24)
    for size = 1, 7 do
      local y, at = moon.fractional_max_pool2d(x, 2,
        { output_size = size, random_samples = most, return_indices = true })
      naive.close(x:flatten(3):gather(3, at:flatten(3)), y:flatten(3), 0)
    end
  end)

  it("survives the failure of any allocation", function()
    local leaf = x:clone():requires_grad_()
    faults.every_allocation(function()
      moon.fractional_max_pool2d(leaf, 2, { output_size = 3 }):sum():backward()
      leaf.grad = nil
    end)
  end)
end)

describe("max_unpool", function()
  local x, places = moon.randn(1, 1, 2, 2), moon.tensor({ { { { 1, 4 }, { 9, 16 } } } },
    { dtype = "int64" })

  it("says what does not fit", function()
    local function no(text, ...) fails("max_unpool2d", text, ...) end
    no("indices must have input's shape 1x1x2x2, got 1x1x2", x, places:select(4, 1), 2)
    no("indices must lie in 1..4, found 16", x, places, 1)
    no("indices must lie in 1..16, found 0", x, places - 1, 2)
    no('indices must be of an integer type, got float32; cast it with :to "int64"', x,
      places:float(), 2)
    no("output_size must have 2 or 4 numbers, got 3", x, places, 2, { output_size = { 1, 4, 4 } })
    no("the height of output_size must lie between 2 and 6 (without them), got 6", x, places, 2,
      { output_size = { 6, 4 } })
    no("the padding 3 leaves no height (input 1x1x2x2)", x, places, 2, { padding = 3 })
    no("kernel must be at least 1, got 0", x, places, 0)
    no("input must have 1 to 2147483647 elements in its height, got 1x1x0x2",
      moon.zeros(1, 1, 0, 2), moon.zeros(1, 1, 0, 2):long(), 2)
  end)

  it("survives the failure of any allocation", function()
    local leaf = x:clone():requires_grad_()
    faults.every_allocation(function()
      moon.max_unpool2d(leaf, places, 2):sum():backward()
      leaf.grad = nil
    end)
  end)
end)

describe("maxout", function()
  it("says what does not fit", function()
    fails("maxout", "group must divide dimension 2 of input 2x3x8, got 2", line, 2)
    fails("maxout", "group must divide dimension 2 of input 2x3x8, got 0", line, 0)
    fails("maxout", "dimension 4 does not exist in a tensor of 3 dimensions", line, 2, 4)
  end)
end)
