-- Engines of convolutions, forced one by one: each must agree with the same convolution in float64
-- by another engine, in all directions that it has, whatever the layout; and keep what it derives
-- from weights only as long as they are the same.
local moon = require "moonlet"
local engines = require "spec.support.engines"
local faults = require "spec.support.faults"
local naive = require "spec.support.naive"

-- batch, channels, height, width; out channels, channels of a group, kernel; options
local shapes = {
  { { 2, 3, 9, 11 }, { 5, 3, 3, 3 }, {} },
  { { 2, 3, 9, 11 }, { 5, 3, 3, 3 }, { padding = 1, stride = 2 } },
  { { 3, 16, 14, 14 }, { 40, 16, 3, 3 }, { padding = 1 } },
  { { 2, 8, 7, 7 }, { 70, 8, 1, 1 }, {} },
  { { 2, 8, 7, 9 }, { 70, 8, 1, 1 }, { stride = 2 } },
  { { 1, 12, 15, 13 }, { 9, 4, 5, 3 }, { groups = 3, dilation = 2, padding = { 2, 3 } } },
  { { 2, 6, 10, 10 }, { 12, 2, 4, 4 }, { groups = 3, stride = { 3, 2 }, padding = 1 } },
  { { 1, 64, 20, 20 }, { 64, 64, 3, 3 }, { padding = 1 } },
  { { 1, 3, 30, 31 }, { 64, 3, 7, 7 }, { stride = 2, padding = 3 } },
  { { 1, 2, 5, 5 }, { 3, 2, 1, 1 }, { stride = 7 } },
  { { 2, 4, 6, 6 }, { 4, 1, 3, 3 }, { groups = 4, padding = { { 2, 0 }, { 0, 1 } } } },
  { { 1, 1, 300, 3 }, { 2, 1, 5, 1 }, { padding = { 2, 0 } } },
  { { 0, 3, 5, 5 }, { 4, 3, 3, 3 }, {} },
  { { 2, 0, 8, 9 }, { 4, 0, 3, 3 }, { padding = 1 } },
  { { 2, 40, 13, 11 }, { 40, 1, 3, 3 }, { groups = 40, padding = 1 } },
  { { 2, 35, 16, 15 }, { 70, 1, 3, 3 }, { groups = 35, padding = 1, stride = 2 } },
  { { 1, 17, 20, 21 }, { 17, 1, 5, 7 }, { groups = 17, padding = { 4, 3 }, dilation = { 2, 1 } } },
  { { 2, 5, 30, 41 }, { 7, 5, 9, 9 }, { padding = 4 } },
  { { 2, 34, 19, 18 }, { 33, 34, 5, 5 }, { padding = 2 } },
  { { 1, 3, 40, 37 }, { 6, 3, 11, 11 }, { stride = { 4, 3 }, padding = { { 1, 2 }, 0 } } },
  { { 2, 4, 1, 90 }, { 3, 4, 1, 13 }, { padding = { 0, 20 }, dilation = { 1, 2 } } },
  { { 1, 3, 70, 11 }, { 6, 3, 5, 4 }, { padding = 2, dilation = { 3, 1 } } },
  { { 37, 5, 5, 5 }, { 8, 5, 5, 5 }, {} },
}

local function channels_last(x) return x:permute(1, 3, 4, 2):contiguous():permute(1, 4, 2, 3) end

-- A slice of the channels of a wider tensor.
local function sliced(x)
  local wide = moon.zeros(x.shape[1], x.shape[3], x.shape[4], x.shape[2] + 3, { dtype = x.dtype })
  wide = wide:permute(1, 4, 2, 3)
  wide[{ {}, { 2, x.shape[2] + 1 } }] = x
  return wide:narrow(2, 2, x.shape[2])
end

-- The same weights with kernels stored column by column, and as every third number of an array.
local function turned(w) return w:transpose(3, 4):contiguous():transpose(3, 4) end
local function scattered(w)
  local wide = moon.zeros(w.shape[1], w.shape[2], w.shape[3], w.shape[4], 3, { dtype = w.dtype })
  return wide:select(5, 2):copy_(w)
end
local function scattered_last(w) return scattered(w:permute(1, 3, 4, 2)):permute(1, 4, 2, 3) end

local function with_engine(name, f)
  moon.conv_engine(name)
  local results = { pcall(f) }
  moon.conv_engine ""
  assert(results[1], results[2])
  return select(2, (table.unpack or unpack)(results))
end

local function gradients(x, w, b, options)
  x, w = x:detach():requires_grad_(), w:detach():requires_grad_()
  local y = moon.conv2d(x, w, b, options)
  y:backward(y:detach() * 0.5 + 1)
  return { y = y:detach(), x = x.grad, w = w.grad }
end

local function error_of(got, expected)
  if expected:numel() == 0 then return 0 end
  local scale = expected:abs():max():item()
  return (got:double() - expected):abs():max():item() / (scale > 0 and scale or 1)
end

local function close(got, expected, limit)
  for part, value in pairs(expected) do
    local off = error_of(got[part], value)
    assert(off <= limit, ("gradient or result %s is off by %g"):format(part, off))
  end
end

for _, engine in ipairs(engines.names()) do
  describe(('the engine "%s"'):format(engine), function()
    for _, shape in ipairs(shapes) do
      local x, w = moon.randn(shape[1]), moon.randn(shape[2])
      local b, options = moon.randn(shape[2][1]), shape[3]
      local name = ("agrees with float64 on %s and %s"):format(table.concat(shape[1], "x"),
        table.concat(shape[2], "x"))
      it(name, function()
        local expected = gradients(x:double(), w:double(), b:double(), options)
        for _, layout in ipairs { function(t) return t end, channels_last, sliced } do
          close(with_engine(engine, function()
            return gradients(layout(x), w, b, options)
          end), expected, engines.tolerance(engine))
        end
        close(with_engine(engine, function()
          return gradients(x:double(), w:double(), b:double(), options)
        end), expected, 1e-13)
      end)
    end

    it("reads weights in any order", function()
      for _, options in ipairs { { padding = 1 }, { stride = 2 } } do
        local x, w = moon.randn(2, 18, 11, 12), moon.randn(37, 18, 3, 4)
        local expected = gradients(x:double(), w:double(), nil, options)
        for _, layout in ipairs { channels_last, turned, scattered, scattered_last } do
          close(with_engine(engine, function()
            return gradients(x, layout(w), nil, options)
          end), expected, engines.tolerance(engine))
          close(with_engine(engine, function()
            return gradients(x:double(), layout(w:double()), nil, options)
          end), expected, 1e-13)
        end
      end
    end)

    it("gives the same bits with any number of threads", function()
      local usual = { { 72, 20, 3, 3 }, { padding = 1 } }
      local fit = ({ depthwise = { { 20, 1, 3, 3 }, { padding = 1, groups = 20 } },
                     fft = { { 31, 20, 7, 7 }, { padding = 3 } } })[engine] or usual
      local x, w, options = moon.randn(3, 20, 17, 19), moon.randn(fit[1]), fit[2]
      local before, found = moon.get_num_threads(), {}
      for threads = 1, 3 do
        moon.set_num_threads(threads)
        found[threads] = with_engine(engine, function() return gradients(x, w, nil, options) end)
      end
      moon.set_num_threads(before)
      for threads = 2, 3 do
        for part, value in pairs(found[1]) do
          assert.equal(0, (found[threads][part] - value):abs():max():item())
        end
      end
    end)
  end)
end

describe("engines leak nothing where an allocation fails:", function()
  local function check(engine, input, weight, options)
    it(engine, function()
      local x, w = moon.randn(input):requires_grad_(), moon.randn(weight):requires_grad_()
      with_engine(engine, function()
        faults.every_allocation(function()
          moon.conv2d(x, w, nil, options):sum():backward()
          x.grad, w.grad = nil, nil
        end)
      end)
    end)
  end
  check("implicit", { 8, 3, 9, 9 }, { 4, 3, 3, 3 }, { padding = 1 })
  check("depthwise", { 2, 3, 9, 9 }, { 6, 1, 3, 3 }, { padding = 1, groups = 3 })
  check("fft", { 2, 3, 9, 9 }, { 4, 3, 7, 7 }, { padding = 3 })
  check("col2im", { 2, 3, 20, 9 }, { 4, 3, 5, 5 }, { padding = 1 })
  check("planar", { 2, 3, 20, 9 }, { 4, 3, 5, 5 }, { padding = 1 })
end)

describe("what inference keeps beside a weight", function()
  local x, options = moon.randn(1, 16, 9, 9), { padding = 1 }

  local function inferred(w)
    return moon.no_grad(function() return moon.conv2d(x, w, options) end)
  end

  -- What the weights give that nothing was ever kept for.
  local function fresh(w) return moon.conv2d(x, w:clone():requires_grad_(), options):detach() end

  local function live()
    collectgarbage()
    collectgarbage()
    return moon.memory().live
  end

  it("is dropped when the weight is written to", function()
    local w = moon.randn(32, 16, 3, 3)
    inferred(w)
    assert.equal(0, error_of(inferred(w), fresh(w):double()))
    moon.no_grad(function() w:mul_(2) end)
    assert.equal(0, error_of(inferred(w), fresh(w):double()))
    w:narrow(1, 3, 5):fill_(1)
    assert.equal(0, error_of(inferred(w), fresh(w):double()))
    assert.equal(0, error_of(inferred(w:narrow(1, 3, 16)), fresh(w:narrow(1, 3, 16)):double()))
  end)

  it("is not there once somebody has the weight's address", function()
    local w = moon.randn(32, 16, 3, 3)
    local alone = live()
    inferred(w)
    assert.is_true(live() > alone)
    w:address()
    inferred(w)
    assert.equal(alone, live())
  end)

  it("goes when training begins, and with the weight", function()
    local start = live()
    local w = moon.randn(64, 16, 3, 3):requires_grad_()
    local alone = live()
    inferred(w)
    assert.is_true(live() > alone)
    moon.conv2d(x, w, options)
    assert.equal(alone, live())
    inferred(w)
    w = nil   -- luacheck: ignore
    assert.equal(start, live())
  end)
end)

describe("conv_engines", function()
  local function names(...)
    local found = {}
    for i, row in ipairs(moon.conv_engines(...)) do
      found[i] = row.name
      assert.is_true(row.cost > 0)
      assert.is_true(i == 1 or row.cost >= moon.conv_engines(...)[i - 1].cost)
    end
    return found
  end

  it("puts first what a convolution of the shapes gets", function()
    for _, shape in ipairs(shapes) do
      if shape[1][1] > 0 and shape[1][2] > 0 then
        local x, w = moon.randn(shape[1]), moon.randn(shape[2])
        local profile = moon.profile(function() moon.conv2d(x, w, nil, shape[3]) end)
        assert.equal(profile.operators[1].algorithm, names(shape[1], shape[2], shape[3])[1])
      end
    end
  end)

  it("knows the gradients and both types", function()
    for _, direction in ipairs { "forward", "input", "weight" } do
      for _, dtype in ipairs { "float32", "float64" } do
        local found = names({ 1, 64, 14, 14 }, { 64, 64, 3, 3 },
          { padding = 1, direction = direction, dtype = dtype })
        assert.is_true((" " .. table.concat(found, " ") .. " "):find(" implicit ", 1, true) ~= nil)
      end
    end
  end)

  it("says what it cannot read", function()
    naive.fails("conv_engines: input must be a list of four sizes", moon.conv_engines, { 1, 2 },
      { 1, 2, 3, 3 })
    naive.fails("sizes must be at least 1", moon.conv_engines, { 1, 2, 3, 3 }, { 1, 2, 5, 5 })
    naive.fails("sizes must be at least 1", moon.conv_engines, { 1, 2, 3, 0 }, { 1, 2, 1, 1 })
    naive.fails('there is no option "strides"', moon.conv_engines, { 1, 2, 3, 3 }, { 1, 2, 1, 1 },
      { strides = 1 })
    naive.fails("describe no convolution", moon.conv_engines, { 1, 6, 3, 3 }, { 4, 2, 1, 1 },
      { groups = 3 })
    naive.fails("too large", moon.conv_engines, { 2 ^ 40, 2 ^ 40, 3, 3 }, { 1, 2, 1, 1 })
  end)

  it("have names that conv_engine knows, and no others", function()
    naive.fails('conv_engine: no engine is called "fastest"; there are "implicit", ',
      moon.conv_engine, "fastest")
    assert.equal("", moon.conv_engine())
  end)
end)
