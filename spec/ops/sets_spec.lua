-- Places, different values, search: NaN, gradients of values, sentences, failing allocations.
-- Values are in spec/cases/sets.lua.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local gradcheck = require "spec.support.gradcheck"
local naive = require "spec.support.naive"

local nan = 0 / 0

describe("nonzero", function()
  it("finds NaN, and nothing in nothing", function()
    naive.close(moon.tensor { 0, nan, 1 }:nonzero(), { { 2 }, { 3 } }, 0, "int64")
    assert.same({ 0, 2 }, moon.zeros(0, 3):nonzero():size())
    assert.same({ 1, 0 }, moon.tensor(3):nonzero():size())
    assert.same({ 0, 0 }, moon.tensor(0):nonzero():size())
  end)

  it("finds places in views", function()
    local x = moon.tensor { { 0, 1, 0 }, { 2, 0, 3 } }
    naive.close(x:t():nonzero(), { { 1, 2 }, { 2, 1 }, { 3, 2 } })
  end)
end)

describe("unique", function()
  it("counts each NaN by itself", function()
    local values, inverse, counts = moon.tensor { nan, 1, nan }:unique()
    naive.close(values, { 1, nan, nan })
    naive.close(inverse, { 2, 1, 3 })
    naive.close(counts, { 1, 1, 1 })
  end)

  it("gives the tensor back from values and places", function()
    local x = naive.random({ 4, 5 }, { low = 0, high = 5, whole = true })
    local values, inverse, counts = x:unique()
    naive.close(values:index_select(1, inverse:reshape(20)):reshape(4, 5), x, 0)
    naive.close(counts:sum(), 20)
  end)

  it("takes every type", function()
    for _, dtype in ipairs { "float16", "bfloat16", "int32", "uint8" } do
      naive.close((moon.tensor { 3, 1, 3 }:to(dtype):unique()), { 1, 3 }, 0, dtype)
    end
    naive.close((moon.tensor { true, false, true }:unique()), { 0, 1 }, 0, "bool")
  end)

  it("gives the gradient of a value to the first of equals", function()
    local x = moon.tensor({ 3, 1, 3 }, { dtype = "float64", requires_grad = true })
    x:unique():backward(moon.tensor({ 5, 7 }, { dtype = "float64" }))
    naive.close(x.grad, { 7, 5, 0 })
    gradcheck.check(function(v) return (v:unique()) end, { naive.random { 5 } })
    gradcheck.check(function(v) return (v:unique(2)) end, { naive.random { 2, 4 } })
    gradcheck.check(function(v) return (v:unique_consecutive()) end, { naive.random { 5 } })
  end)
end)

describe("unique along a dimension", function()
  it("finds rows, and says what has none", function()
    local x = moon.tensor { { 2, 1 }, { 0, 5 }, { 2, 1 }, { 0, 4 } }
    local values, inverse, counts = x:unique(1)
    naive.close(values, { { 0, 4 }, { 0, 5 }, { 2, 1 } })
    naive.close(inverse, { 3, 2, 3, 1 })
    naive.close(counts, { 1, 1, 2 })
    naive.fails("unique: slices of dimension 1 of input 0x2 are empty", moon.unique,
      moon.zeros(0, 2), 1)
    naive.fails("unique: input is 0-d and has no slices", moon.unique, moon.tensor(1), 1)
    naive.fails("unique: dimension 3 does not exist", moon.unique, x, 3)
  end)
end)

describe("searchsorted and bucketize", function()
  it("put NaN behind everything", function()
    local line = moon.tensor { 1, 2, nan }
    naive.close(line:searchsorted(moon.tensor { nan, 3 }), { 3, 3 })
    naive.close(line:searchsorted(moon.tensor { nan, 3 }, { right = true }), { 4, 3 })
  end)

  it("search integers exactly, and halves", function()
    local big = moon.tensor({ 2 ^ 53 - 1, 2 ^ 53 }, { dtype = "int64" })
    naive.close(big:searchsorted(big), { 1, 2 })
    naive.close(moon.tensor { 1, 2 }:half():searchsorted(moon.tensor { 1.5 }:half()), { 2 })
  end)

  it("say what does not match", function()
    naive.fails("searchsorted: sorted is float32 but values is int64", moon.searchsorted,
      moon.zeros(3), moon.arange(3))
    naive.fails("searchsorted: sorted must be one line, or have values' sizes in all dimensions "
      .. "but the last, got 2x3 for values 3x3", moon.searchsorted, moon.zeros(2, 3),
      moon.zeros(3, 3))
    naive.fails("searchsorted: sorted must have at least 1 dimension, got 0-d", moon.searchsorted,
      moon.tensor(1), moon.zeros(3))
    naive.fails("searchsorted: a single value is searched in one line, got 2 dimensions",
      moon.searchsorted, moon.zeros(2, 2), 1)
    naive.fails("bucketize: boundaries must have 1 dimensions (n), got 2x2", moon.bucketize,
      moon.zeros(3), moon.zeros(2, 2))
  end)
end)

describe("sets", function()
  it("survive every failing allocation", function()
    local x, line = moon.tensor { { 0, 2 }, { 2, 1 } }, moon.tensor { 1, 2 }
    faults.every_allocation(function() x:nonzero() end)
    faults.every_allocation(function() x:unique() end)
    faults.every_allocation(function() x:unique(1) end)
    faults.every_allocation(function() line:searchsorted(x) end)
    faults.every_allocation(function() x:count_nonzero(1) end)
  end)
end)
