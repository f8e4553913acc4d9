-- Small formulas on vectors and pairs: other types, sentences, failing allocations. Values and
-- gradients are in spec/cases/geometry.lua.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local naive = require "spec.support.naive"

local nan, huge = 0 / 0, math.huge

describe("lerp, addcmul and addcdiv", function()
  it("say which types do not match", function()
    naive.fails("lerp: input is float32 but to is float64", moon.lerp, moon.zeros(2),
      moon.zeros(2):double(), 0.5)
    naive.fails("addcmul: input is float32 but b is int64", moon.addcmul, moon.zeros(2),
      moon.zeros(2), moon.arange(2))
    naive.fails("addcdiv: input must be of a float type, got int64", moon.addcdiv, moon.arange(2),
      moon.arange(2), moon.arange(2))
    naive.fails("addcmul: value must be whole for int64 tensors, got 0.5", moon.addcmul,
      moon.arange(2), moon.arange(2), moon.arange(2), 0.5)
    naive.fails("do not broadcast", moon.lerp, moon.zeros(2), moon.zeros(3), 0.5)
  end)

  it("count in integers where there is no fraction", function()
    local x = moon.arange(3)
    naive.close(x:addcmul(x, x, 2), { 3, 10, 21 }, 0, "int64")
  end)
end)

describe("cross", function()
  it("needs vectors of three", function()
    naive.fails("cross: dimension 2 of a 2x4 and b 2x4 must have size 3", moon.cross,
      moon.zeros(2, 4), moon.zeros(2, 4))
    naive.fails("cross: a 3 and b 2x3 must have as many dimensions", moon.cross, moon.zeros(3),
      moon.zeros(2, 3))
    naive.fails("cross: a must be a number type, got bool", moon.cross,
      moon.zeros(3, { dtype = "bool" }), moon.zeros(3, { dtype = "bool" }))
  end)

  it("is orthogonal to both", function()
    local a, b = naive.random({ 5, 3 }, { seed = 3 }), naive.random({ 5, 3 }, { seed = 4 })
    naive.close((a:cross(b) * a):sum(2), moon.zeros(5), 1e-14)
    naive.close((a:cross(b) * b):sum(2), moon.zeros(5), 1e-14)
  end)
end)

describe("cdist", function()
  it("counts differences, and finds none between vectors of nothing", function()
    naive.close(moon.tensor { { 1, 2, 3 } }:cdist(moon.tensor { { 1, 5, 4 } }, 0), { { 2 } })
    naive.close(moon.zeros(2, 0):cdist(moon.zeros(1, 0), huge), { { 0 }, { 0 } })
  end)

  it("has a gradient of 0 where rows are equal", function()
    local a = moon.ones(1, 3, { requires_grad = true })
    a:cdist(moon.ones(1, 3)):sum():backward()
    naive.close(a.grad, { { 0, 0, 0 } })
  end)

  it("says what does not match", function()
    naive.fails("cdist: a and b must have at least 2 dimensions (..., rows, size), got 3 and 2x3",
      moon.cdist, moon.zeros(3), moon.zeros(2, 3))
    naive.fails("cdist: rows of a 2x3 and b 2x4 must have the same size", moon.cdist,
      moon.zeros(2, 3), moon.zeros(2, 4))
    naive.fails("cdist: p must not be negative, got -1", moon.cdist, moon.zeros(2, 3),
      moon.zeros(2, 3), -1)
    naive.fails("cdist: p must not be negative", moon.cdist, moon.zeros(2, 3), moon.zeros(2, 3),
      nan)
  end)
end)

describe("cosine_similarity", function()
  it("of nothing with anything is 0", function()
    local a = moon.zeros(1, 3, { requires_grad = true })
    local y = a:cosine_similarity(moon.ones(1, 3))
    naive.close(y, { 0 })
    y:sum():backward()
    naive.close(a.grad:isfinite():all(), 1)
  end)

  it("says what does not fit", function()
    naive.fails("cosine_similarity: dimension 2 does not exist", moon.cosine_similarity,
      moon.zeros(3), moon.zeros(3))
    naive.fails("cosine_similarity: eps must be positive, got 0", moon.cosine_similarity,
      moon.zeros(2, 3), moon.zeros(2, 3), { eps = 0 })
    naive.fails("do not broadcast", moon.cosine_similarity, moon.zeros(2, 3), moon.zeros(2, 4))
    naive.fails("cosine_similarity: a and b are 0-d", moon.cosine_similarity, moon.tensor(1),
      moon.tensor(1))
  end)
end)

describe("isclose, allclose and equal", function()
  it("treat what is no number by itself", function()
    local a, b = moon.tensor { nan, huge, huge, 1 }, moon.tensor { nan, huge, -huge, nan }
    naive.close(a:isclose(b), { 0, 1, 0, 0 }, 0, "bool")
    naive.close(a:isclose(b, { equal_nan = true }), { 1, 1, 0, 0 })
    naive.close(moon.tensor { huge }:isclose(moon.tensor { 1 }, { rtol = 1 }), { 0 })
  end)

  it("compare every type", function()
    naive.close(moon.arange(3):isclose(moon.arange(3)), { 1, 1, 1 })
    naive.close(moon.tensor { true, false }:isclose(moon.tensor { true, true }), { 1, 0 })
    naive.close(moon.tensor { 1, 2 }:half():isclose(moon.tensor { 1, 2.5 }:half()), { 1, 0 })
  end)

  it("give Lua's booleans", function()
    local x = moon.tensor { 1, 2 }
    assert.is_true(x:equal(x:clone()))
    assert.is_false(x:equal(x:double()))
    assert.is_false(x:equal(moon.zeros(2, 1)))
    assert.is_false(moon.equal(x, x + 1e-6))
    assert.is_true(moon.equal(moon.zeros(0), moon.zeros(0)))
    assert.is_true(x:allclose(x + 1e-6))
    assert.is_false(x:allclose(x + 1e-3))
    assert.is_true(x:allclose(x + 1e-3, { atol = 1e-2 }))
    assert.is_true(moon.allclose(moon.ones(2, 2), moon.tensor(1)))
  end)

  it("name what they cannot compare", function()
    naive.fails("isclose: a is float32 but b is float64", moon.isclose, moon.zeros(2),
      moon.zeros(2):double())
    naive.fails("isclose: rtol and atol must not be negative, got -1 and 1e-08", moon.isclose,
      moon.zeros(2), moon.zeros(2), { rtol = -1 })
    naive.fails("equal: argument 2 must be a tensor, got number", moon.equal, moon.zeros(2), 3)
    naive.fails("allclose: argument 1 must be a tensor, got nil", moon.allclose)
  end)
end)

describe("geometry", function()
  it("survives every failing allocation, forward and backward", function()
    local x, y = naive.random({ 2, 3 }, { seed = 1 }), naive.random({ 2, 3 }, { seed = 2 })
    for _, f in ipairs {
      function(a, b) return a:lerp(b, 0.5) end,
      function(a, b) return a:addcdiv(b, a, 2) end,
      function(a, b) return a:cross(b) end,
      function(a, b) return a:cdist(b) end,
      function(a, b) return a:cosine_similarity(b) end,
    } do
      faults.every_allocation(function()
        f(x:detach():requires_grad_(true), y:detach():requires_grad_(true)):sum():backward()
      end)
    end
    faults.every_allocation(function() x:isclose(y, { equal_nan = true }) end)
  end)
end)
