-- Running products and extremes, differences, logsumexp: what cases cannot say, sentences, failing
-- allocations. Values and gradients are in spec/cases/scans.lua.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local gradcheck = require "spec.support.gradcheck"
local naive = require "spec.support.naive"

local nan, huge = 0 / 0, math.huge

describe("cumprod", function()
  it("counts in int64", function()
    naive.close(moon.tensor({ 2, 3, 4 }, { dtype = "uint8" }):cumprod(1), { 2, 6, 24 }, 0, "int64")
    naive.close(moon.tensor { true, false, true }:cumprod(1), { 1, 0, 0 }, 0, "int64")
  end)

  it("has both derivatives where factors are zero", function()
    local x = moon.tensor({ 2, 0, 3, 0, 1.5 }, { dtype = "float64" })
    gradcheck.check(function(v) return v:cumprod(1) end, { x })
    gradcheck.second(function(v) return v:cumprod(1) end, { x })
  end)

  it("is right along lines longer than a chunk", function()
    local x = naive.random({ 3, 1500 }, { low = 0.99, high = 1.01 })
    naive.close(x:cumprod(2), x:log():cumsum(2):exp(), 1e-10)
    naive.close(x:t():cumprod(1), x:log():cumsum(2):exp():t(), 1e-10)
  end)

  it("names a dimension that is not there", function()
    naive.fails("cumprod: dimension 3 does not exist", moon.cumprod, moon.zeros(2, 2), 3)
  end)
end)

describe("cummax and cummin", function()
  it("keep NaN", function()
    local x = moon.tensor { 1, 3, nan, 5, nan, 7 }
    local values, indices = x:cummax(1)
    naive.close(values, { 1, 3, nan, nan, nan, nan })
    naive.close(indices, { 1, 2, 3, 3, 5, 5 })
    naive.close((x:cummin(1)), { 1, 1, nan, nan, nan, nan })
  end)

  it("take the last of equals, and infinities", function()
    local _, indices = moon.tensor { 1, 1, 0, 1 }:cummax(1)
    naive.close(indices, { 1, 2, 2, 4 })
    naive.close((moon.tensor { huge, -huge, 3 }:cummin(1)), { huge, -huge, -huge })
  end)

  it("work on every type, and on lines longer than a chunk", function()
    for _, dtype in ipairs { "float16", "bfloat16", "int64", "int32", "uint8" } do
      local values = moon.tensor { 1, 3, 2, 4 }:to(dtype):cummax(1)
      naive.close(values, { 1, 3, 3, 4 }, 0, dtype)
    end
    local x = naive.random { 2, 1300 }
    local values, indices = x:cummax(2)
    naive.close(x:gather(2, indices), values, 0)
    naive.close(values:select(2, 1300), x:amax(2), 0)
  end)
end)

describe("diff", function()
  it("of too many times is nothing", function()
    assert.same({ 0 }, moon.zeros(3):diff { n = 7 }:size())
    assert.same({ 0 }, moon.zeros(3):diff { n = 2 ^ 40 }:size())
  end)

  it("refuses what has none", function()
    naive.fails("diff: input must have at least 1 dimension, got 0-d", moon.diff, moon.tensor(1))
    naive.fails("diff: n must not be negative, got -1", moon.diff, moon.zeros(3), -1)
    naive.fails("diff: input is bool, which has no differences", moon.diff,
      moon.zeros(3, { dtype = "bool" }))
  end)
end)

describe("logsumexp", function()
  it("neither overflows nor vanishes", function()
    naive.close(moon.tensor { 1e4, 1e4 }:logsumexp(), 1e4 + math.log(2), 1e-6)
    naive.close(moon.tensor { -1e4, -1e4 }:logsumexp(), -1e4 + math.log(2), 1e-6)
  end)

  it("of infinities is one, of nothing minus infinity", function()
    naive.close(moon.tensor { huge, 1 }:logsumexp(), huge)
    naive.close(moon.tensor { -huge, -huge }:logsumexp(), -huge)
    naive.close(moon.zeros(2, 0):logsumexp(2), { -huge, -huge })
    naive.close(moon.zeros(0):logsumexp(), -huge)
  end)

  it("has softmax as its gradient", function()
    local x = naive.random { 3, 4 }
    local leaf = x:clone():requires_grad_()
    leaf:logsumexp(2):sum():backward()
    naive.close(leaf.grad, x:softmax(2), 1e-12)
  end)

  it("needs floats", function()
    naive.fails("logsumexp: input must be of a float type, got int64", moon.logsumexp,
      moon.arange(3))
  end)
end)

describe("the scans", function()
  it("survive every failing allocation, forward and backward", function()
    local x = naive.random { 2, 3 }
    for _, f in ipairs {
      function(v) return v:cumprod(2) end,
      function(v) return (v:cummax(2)) end,
      function(v) return v:diff() end,
      function(v) return v:logsumexp(1) end,
    } do
      faults.every_allocation(function() f(x:detach():requires_grad_(true)):sum():backward() end)
    end
  end)
end)
