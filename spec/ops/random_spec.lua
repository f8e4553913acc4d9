-- Random numbers: the Philox stream against a version in plain Lua, moments of what comes out,
-- dropout and its gradient, sentences.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local gradcheck = require "spec.support.gradcheck"
local naive = require "spec.support.naive"
local philox = require "spec.support.philox"

local unit = philox.unit

local function equal(a, b) return a:tobytes() == b:tobytes() end

describe("the stream", function()
  it("is Philox, four numbers to a block", function()
    moon.manual_seed(1234)
    local a, b = moon.rand(5), moon.rand(3)
    naive.close(a, naive.build({ 5 }, function(p) return unit(1234, 0, p[1] - 1) end), 0)
    naive.close(b, naive.build({ 3 }, function(p) return unit(1234, 2, p[1] - 1) end), 0)
  end)

  it("repeats with its seed, for any number of threads and any layout", function()
    local function draw(threads)
      moon.set_num_threads(threads)
      moon.manual_seed(7)
      local normal = moon.randn(40000)
      local turned = moon.empty(50, 60):t()
      turned:uniform_()
      return normal, turned:contiguous(), moon.randperm(500), moon.randint(1, 9, 5000)
    end
    local before = { draw(1) }
    for k, tensor in ipairs { draw(2) } do assert.is_true(equal(tensor, before[k])) end
    moon.set_num_threads(0)
    moon.manual_seed(8)
    assert.is_false(equal(moon.randn(40000), before[1]))
  end)

  it("goes on where a saved state stood", function()
    moon.manual_seed(3)
    moon.rand(10)
    local state = moon.get_rng_state()
    local next_one = moon.randn(10)
    moon.set_rng_state(state)
    assert.is_true(equal(moon.randn(10), next_one))
  end)

  it("fills a view in row-major order of the view", function()
    moon.manual_seed(5)
    local plain = moon.rand(3, 2)
    moon.manual_seed(5)
    local turned = moon.zeros(2, 3):t()
    turned:uniform_()
    naive.close(turned, plain, 0)
  end)
end)

describe("uniform_ and normal_", function()
  it("have the moments they promise", function()
    moon.manual_seed(1)
    local uniform = moon.empty(100000):uniform_(-1, 3)
    naive.close(uniform:mean(), 1, 0.02)
    naive.close(uniform:var(), 16 / 12, 0.02)
    assert.is_true(uniform:min():item() >= -1 and uniform:max():item() < 3)
    local normal = moon.empty(100000):normal_(2, 0.5)
    naive.close(normal:mean(), 2, 0.01)
    naive.close(normal:std(), 0.5, 0.01)
    naive.close(((normal - 2) / 0.5):pow(4):mean(), 3, 0.1)
  end)

  it("fill every float type and may be narrow", function()
    for _, dtype in ipairs { "float32", "float64", "float16", "bfloat16" } do
      local x = moon.empty(1000, { dtype = dtype }):uniform_(1, 1.001)
      assert.is_true(x:min():item() >= 1)
      naive.close(moon.empty(2, { dtype = dtype }):uniform_(3, 3), { 3, 3 })
      naive.close(moon.empty(2, { dtype = dtype }):normal_(3, 0), { 3, 3 })
    end
  end)

  it("give back what they filled, which may be empty", function()
    local x = moon.empty(0)
    assert.are.equal(x, x:uniform_())
    assert.are.equal(x, x:normal_())
  end)

  it("refuse what makes no sense", function()
    local x = moon.zeros(2)
    naive.fails("low must not be above high, got 2 and 1", x.uniform_, x, 2, 1)
    naive.fails("high must be a finite number, got inf", x.uniform_, x, 0, math.huge)
    naive.fails("std must not be negative, got -1", x.normal_, x, 0, -1)
    naive.fails("self must be of a float type, got int64", x.uniform_, moon.arange(3))
    naive.fails("self must be of a float type, got int64", x.normal_, moon.arange(3))
  end)

  it("refuse a leaf that requires a gradient, but not inside no_grad", function()
    local x = moon.zeros(2, { requires_grad = true })
    naive.fails("a leaf that requires a gradient cannot be changed in place", x.normal_, x)
    moon.no_grad(function() x:normal_() end)
  end)

  it("cut the slope of what was there before", function()
    local x = moon.ones(3, { requires_grad = true })
    local y = x * 2
    y:uniform_()
    y:sum():backward()
    naive.close(x.grad or moon.zeros(3), { 0, 0, 0 }, 0)
  end)
end)

describe("bernoulli_ and random_", function()
  it("draw ones as often as p says, into any type", function()
    moon.manual_seed(2)
    for _, dtype in ipairs { "float32", "float64", "int64", "uint8", "bool" } do
      local x = moon.empty(20000, { dtype = dtype }):bernoulli_(0.3)
      naive.close(x:to("float64"):mean(), 0.3, 0.02)
      naive.close(x:eq(moon.zeros_like(x)):logical_or(x:eq(moon.ones_like(x))):all(), 1)
    end
    naive.close(moon.empty(3):bernoulli_(0), { 0, 0, 0 })
    naive.close(moon.empty(3):bernoulli_(1), { 1, 1, 1 })
    naive.fails("p must lie in 0..1, got 1.5", moon.zeros(1).bernoulli_, moon.zeros(1), 1.5)
  end)

  it("draw whole numbers with both ends, evenly", function()
    moon.manual_seed(2)
    local counts = moon.randint(3, 7, 50000):sub(2):bincount(5)
    for i = 1, 5 do assert.is_true(math.abs(counts[i] - 10000) < 500) end
    for _, dtype in ipairs { "float32", "float16", "int32", "uint8" } do
      local x = moon.empty(1000, { dtype = dtype }):random_(1, 3)
      naive.close(x:min(), 1, 0, dtype)
      naive.close(x:max(), 3, 0, dtype)
    end
    naive.close(moon.empty(2):random_(-5, -5), { -5, -5 })
  end)

  it("refuse numbers that the type cannot hold", function()
    local bytes = moon.empty(2, { dtype = "uint8" })
    naive.fails("uint8 holds whole numbers from 0 to 255, got low 0 and high 256", bytes.random_,
      bytes, 0, 256)
    naive.fails("low must not be above high, got 2 and 1", bytes.random_, bytes, 2, 1)
  end)
end)

describe("dropout", function()
  local x = naive.random { 8, 5 }

  it("drops with probability p and scales the rest", function()
    moon.manual_seed(4)
    local y = moon.ones(100000):dropout(0.25)
    naive.close(y:eq(0):to("float32"):mean(), 0.25, 0.01)
    naive.close(y:max(), 1 / 0.75, 1e-6)
    naive.close(y:mean(), 1, 0.01)
  end)

  it("gives the input as it is when not training, or with p = 0", function()
    naive.close(x:dropout(0.5, false), x, 0)
    naive.close(x:t():dropout(0), x:t(), 0)
    gradcheck.check(function(v) return v:dropout(0.5, false) end, { x })
  end)

  it("drops everything with p = 1", function()
    local leaf = x:detach():requires_grad_(true)
    local y = leaf:dropout(1)
    naive.close(y, moon.zeros_like(x), 0)
    y:sum():backward()
    naive.close(leaf.grad or moon.zeros_like(x), moon.zeros_like(x), 0)
  end)

  it("has the slope of what it kept", function()
    gradcheck.check(function(v)
      moon.manual_seed(9)
      return v:dropout(0.4)
    end, { x })
    gradcheck.check(function(v)
      moon.manual_seed(9)
      return v:dropout(0.4)
    end, { naive.random({ 5, 8 }):t() })
  end)

  it("leaves nothing as nothing, and NaN in training too", function()
    assert.same({ 0, 2 }, moon.zeros(0, 2):dropout():size())
    naive.close(moon.full({ 100 }, 1 / 0):dropout():eq(1 / 0):any(), 1)
  end)

  it("wants floats and a probability", function()
    naive.fails("dropout: p must lie in 0..1, got -0.1", moon.dropout, x, -0.1)
    naive.fails("dropout: p must lie in 0..1, got", moon.dropout, x, 0 / 0)
    naive.fails("dropout: input must be of a float type, got int64", moon.dropout, moon.arange(3))
  end)

  it("survives every failing allocation, as do the fillers", function()
    faults.every_allocation(function()
      x:detach():requires_grad_(true):dropout(0.5):sum():backward()
      moon.empty(5):bernoulli_(0.5):random_(1, 3):normal_():uniform_()
    end)
  end)
end)
