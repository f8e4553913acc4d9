-- Batch normalisation with something added and an activation in the same pass: the same numbers as
-- the operators one after the other, in every layout, direction and type, on any number of threads.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local gradcheck = require "spec.support.gradcheck"
local naive = require "spec.support.naive"

-- x's elements in another order of memory.
local layouts = {
  contiguous = function(x) return x:clone() end,
  ["channels last"] = function(x)
    return x:permute(1, 3, 4, 2):contiguous():permute(1, 4, 2, 3)
  end,
  ["a slice of channels"] = function(x)
    local c = x:size(2)
    local wide = moon.zeros(x:size(1), x:size(3), x:size(4), c + 5, { dtype = x.dtype })
    local slice = wide:narrow(4, 3, c)
    slice:copy_(x:permute(1, 3, 4, 2))
    return slice:permute(1, 4, 2, 3)
  end,
  ["a cut image"] = function(x)
    local n, c, h, w = x:size(1), x:size(2), x:size(3), x:size(4)
    local wide = moon.zeros(n, h + 2, w + 3, c, { dtype = x.dtype })
    local cut = wide:narrow(2, 2, h):narrow(3, 1, w)
    cut:copy_(x:permute(1, 3, 4, 2))
    return cut:permute(1, 4, 2, 3)
  end,
}

-- One after the other.
local function apart(x, weight, bias, mean, var, o)
  local y = moon.batch_norm(x, weight, bias, mean, var, { training = o.training })
  if o.add then y = y + o.add end
  return o.activation and o.activation ~= "none" and moon[o.activation](y) or y
end

local function leaves(list)
  for i, x in ipairs(list) do list[i] = x:detach():requires_grad_(true) end
  return list
end

-- Result and gradients of x, weight, bias and what is added.
local function run(fn, x, weight, bias, added, o)
  local p = leaves { x, weight, bias, added }
  local mean, var = moon.zeros_like(bias) + 0.25, moon.ones_like(bias) * 2
  local y = fn(p[1], p[2], p[3], mean, var,
    { training = o.training, add = p[4], activation = o.activation })
  local weights = moon.arange(1, y:numel(), { dtype = "float64" }):sin():to(y.dtype)
  y:backward(weights:reshape(y:size()))
  return { y:detach(), p[1].grad, p[2].grad, p[3].grad, p[4] and p[4].grad, mean, var }
end

local function differ(a, b) return (a:to "float64" - b:to "float64"):abs():max():item() end

local shapes = { { 2, 3, 4, 5 }, { 3, 16, 4, 4 }, { 2, 40, 3, 5 }, { 4, 300, 2, 2 },
  { 2, 1, 5, 3 }, { 2, 8, 20, 21 } }

local function each_option(visit)
  for _, training in ipairs { true, false } do
    for _, activation in ipairs { "none", "relu", "relu6" } do
      for _, adds in ipairs { true, false } do visit(training, activation, adds) end
    end
  end
end

describe("batch_norm with an activation", function()
  for name, lay in pairs(layouts) do
    it("gives what the operators give one after the other: " .. name, function()
      for _, shape in ipairs(shapes) do
        local c = shape[2]
        local x, other = naive.random(shape, { low = -9, high = 9 }),
          naive.random(shape, { seed = 7, low = -4, high = 9 })
        local weight, bias = naive.random({ c }, { seed = 2, low = 1, high = 9 }),
          naive.random({ c }, { seed = 3, low = 0, high = 3 })
        each_option(function(training, activation, adds)
          local o = { training = training, activation = activation }
          local expected = run(apart, x, weight, bias, adds and other or nil, o)
          local got = run(moon.batch_norm, lay(x), weight, bias, adds and lay(other) or nil, o)
          for i, tensor in pairs(expected) do assert.is_true(differ(got[i], tensor) < 1e-9) end
        end)
      end
    end)
  end

  it("holds in every float type", function()
    local x, other = naive.random({ 4, 24, 6, 6 }, { whole = true }),
      naive.random({ 4, 24, 6, 6 }, { seed = 7, whole = true })
    local weight, bias = naive.random({ 24 }, { whole = true, low = 1, high = 3 }), moon.zeros(24,
      { dtype = "float64" })
    for dtype, tolerance in pairs { float32 = 1e-5, bfloat16 = 4e-2, float16 = 5e-3 } do
      for _, lay in pairs(layouts) do
        each_option(function(training, activation, adds)
          local o = { training = training, activation = activation }
          local expected = run(moon.batch_norm, x, weight, bias, adds and other or nil, o)
          local got = run(moon.batch_norm, lay(x:to(dtype)), weight:to(dtype), bias:to(dtype),
            adds and lay(other:to(dtype)) or nil, o)
          local largest = expected[1]:abs():max():item()
          assert.is_true(differ(got[1], expected[1]) <= tolerance * largest, dtype)
          largest = expected[2]:abs():max():item()
          local off = (got[2]:to "float64" - expected[2]):abs()
          -- an element at a kink may fall on the other side of it
          assert.is_true(off:mean():item() <= tolerance * largest, dtype)
        end)
      end
    end
  end)

  it("has gradients, and they have theirs", function()
    local x, other = naive.random { 2, 2, 2, 3 }, naive.random({ 2, 2, 2, 3 }, { seed = 4 })
    local weight, bias = naive.random({ 2 }, { low = 1 }), naive.random({ 2 }, { seed = 8 })
    local mean, var = naive.random { 2 }, naive.random({ 2 }, { low = 1 })
    each_option(function(training, activation, adds)
      local function call(p, w, b, a)
        return moon.batch_norm(p, w, b, training and mean:clone() or mean,
          training and var:clone() or var,
          { training = training, activation = activation, add = a })
      end
      local inputs = { x, weight, bias, adds and other or nil }
      gradcheck.check(call, inputs)
      gradcheck.second(call, inputs)
    end)
  end)

  it("is as accurate far from 0", function()
    for name, lay in pairs(layouts) do
      local exact = naive.random({ 4, 5, 30, 30 }) * 0.5 + 1000
      local x = lay(exact:to "float32")
      local y = moon.batch_norm(x, nil, nil, nil, nil, { training = true })
      local expected = moon.batch_norm(x:to "float64", nil, nil, nil, nil, { training = true })
      assert.is_true(differ(y, expected) < 2e-4, name)
    end
  end)

  it("gives the same bits on any number of threads", function()
    local x, other = naive.random({ 4, 24, 60, 50 }):float(), naive.random({ 4, 24, 60, 50 },
      { seed = 7 }):float()
    local weight, bias = naive.random({ 24 }):float(), naive.random({ 24 }, { seed = 3 }):float()
    local before = moon.get_num_threads()
    for _, lay in pairs(layouts) do
      local results = {}
      for threads = 1, 3 do
        moon.set_num_threads(threads)
        results[threads] = run(moon.batch_norm, lay(x), weight, bias, lay(other),
          { training = true, activation = "relu" })
      end
      for i = 1, #results[1] do
        for threads = 2, 3 do
          assert.is_true(results[1][i]:eq(results[threads][i]):all():item())
        end
      end
    end
    moon.set_num_threads(before)
  end)

  it("says what does not fit", function()
    local x = moon.ones(2, 3, 4, 4)
    local function fails(text, o)
      o.training = true
      naive.fails("batch_norm: " .. text, moon.batch_norm, x, nil, nil, nil, nil, o)
    end
    fails("add must have the shape of input, got 2x3x4 and input 2x3x4x4",
      { add = moon.ones(2, 3, 4) })
    fails("input is float32 but add is float64", { add = moon.ones(2, 3, 4, 4,
      { dtype = "float64" }) })
    fails('activation must be one of "none", "relu", "relu6", got "tanh"', { activation = "tanh" })
  end)

  it("survives the failure of any allocation", function()
    for _, lay in pairs(layouts) do
      local x, other = lay(moon.randn(4, 3, 2, 2)), lay(moon.randn(4, 3, 2, 2))
      local weight, bias = moon.ones(3), moon.zeros(3)
      local mean, var = moon.zeros(3), moon.ones(3)
      for _, t in ipairs { x, other, weight, bias } do t.requires_grad = true end
      faults.every_allocation(function()
        moon.batch_norm(x, weight, bias, mean, var,
          { training = true, add = other, activation = "relu" }):sum():backward()
        for _, t in ipairs { x, other, weight, bias } do t.grad = nil end
      end)
    end
  end)
end)
