-- Medians, quantiles, histograms, covariances: NaN, other types, sentences, failing allocations.
-- Values and gradients are in spec/cases/statistics.lua.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local naive = require "spec.support.naive"

local nan = 0 / 0

describe("median and quantile", function()
  it("are NaN where there is one", function()
    local x = moon.tensor { { 1, nan, 0 }, { 3, 1, 2 } }
    local values, indices = x:median(2)
    naive.close(values, { nan, 2 })
    naive.close(indices, { 2, 3 })
    naive.close((x:median()), nan)
    naive.close(x:quantile(0.5, 2), { nan, 2 })
    naive.close((x:kthvalue(3, 2)), { nan, 3 })
  end)

  it("take single elements and integers", function()
    naive.close((moon.tensor(3):median()), 3)
    local value, index = moon.tensor(3):median(1)
    naive.close(value, 3)
    naive.close(index, 1)
    naive.close((moon.tensor({ 5, 1, 3, 2 }, { dtype = "int32" }):median()), 2, 0, "int32")
    naive.close((moon.arange(9):kthvalue(4)), 4, 0, "int64")
    naive.close(moon.tensor(3):quantile(0.3), 3)
    naive.close((moon.zeros(2, 2):median(nil, true)), { { 0 } })
  end)

  it("give quantiles one shape for a number and another for a vector", function()
    local x = naive.random { 3, 4 }
    assert.same({ 3 }, x:quantile(0.5, 2):size())
    assert.same({ 2, 3 }, x:quantile(moon.tensor({ 0.1, 0.2 }, { dtype = "float64" }), 2):size())
    assert.same({ 0, 3 }, x:quantile(moon.zeros(0):double(), 2):size())
    assert.same({ 2, 1, 1 }, x:quantile(moon.tensor({ 0, 1 }, { dtype = "float64" }),
      { keepdim = true }):size())
  end)

  it("refuse what has no order", function()
    naive.fails("median: input is empty", moon.median, moon.zeros(0))
    naive.fails("median: dimension 2 of input 3x0 is empty", moon.median, moon.zeros(3, 0), 2)
    naive.fails("quantile: q must lie in 0..1, got 1.5", moon.quantile, moon.zeros(3), 1.5)
    naive.fails("quantile: q must lie in 0..1, got", moon.quantile, moon.zeros(3), nan)
    naive.fails("quantile: q must be a number or a vector, got 2 dimensions", moon.quantile,
      moon.zeros(3), moon.zeros(1, 1))
    naive.fails("quantile: input is float32 but q is float64", moon.quantile, moon.zeros(3),
      moon.zeros(1):double())
    naive.fails("quantile: input must be float32 or float64, got float16", moon.quantile,
      moon.zeros(3):half(), 0.5)
    naive.fails("quantile: input is empty", moon.quantile, moon.zeros(0), 0.5)
    naive.fails("kthvalue: k must lie in 1..3, the size of dimension 2, got 4", moon.kthvalue,
      moon.zeros(2, 3), 4)
    naive.fails("interpolation must be one of", moon.quantile, moon.zeros(3), 0.5,
      { interpolation = "cubic" })
  end)
end)

describe("histograms", function()
  it("count ends and leave out what lies outside, and NaN", function()
    local x = moon.tensor { -1, 0, 0.5, 1, 2, nan }
    naive.close(x:histc(2, 0, 1), { 1, 2 })
    local counts, edges = x:histogram(2, 0, 1)
    naive.close(counts, { 1, 2 })
    naive.close(edges, { 0, 0.5, 1 })
  end)

  it("of nothing are zeros", function()
    naive.close(moon.zeros(0):histc(3), { 0, 0, 0 })
  end)

  it("have no gradient, and do not stand in the way of one", function()
    local x = naive.random({ 5 }):requires_grad_(true)
    assert.is_false(x:histc(3).requires_grad)
  end)

  it("refuse what makes no parts", function()
    naive.fails("histc: bins must lie in 1..4194304, got 0", moon.histc, moon.zeros(3), 0)
    naive.fails("histc: bins must lie in 1..4194304", moon.histc, moon.zeros(3), 2 ^ 40)
    naive.fails("histc: min and max must be finite and min at most max, got 2 and 1", moon.histc,
      moon.zeros(3), 4, 2, 1)
    naive.fails("histc: input must be finite where min and max are not given, but has NaN",
      moon.histc, moon.tensor { math.huge, 1 })
    naive.fails("histogram: input must be finite where min and max are not given, but has NaN",
      moon.histogram, moon.tensor { nan, 1 })
    naive.fails("histogram: input must be float32 or float64, got int64", moon.histogram,
      moon.arange(3))
  end)
end)

describe("covariance", function()
  it("of too few observations is not finite", function()
    naive.close(moon.ones(2, 1):cov():isfinite():any(), 0)
  end)

  it("wants variables and observations", function()
    naive.fails("cov: input must be (variables, observations) or one variable, got 2x2x2",
      moon.cov, moon.zeros(2, 2, 2))
    naive.fails("corrcoef: input must be (variables, observations) or one variable, got 0-d",
      moon.corrcoef, moon.tensor(1))
    naive.fails("cov: input must be of a float type, got int64", moon.cov, moon.arange(4))
  end)
end)

describe("statistics", function()
  it("survive every failing allocation, forward and backward", function()
    local x = naive.random { 2, 4 }
    for _, f in ipairs {
      function(v) return (v:median(2)) end,
      function(v) return v:quantile(0.3, 2) end,
      function(v) return v:corrcoef() end,
    } do
      faults.every_allocation(function() f(x:detach():requires_grad_(true)):sum():backward() end)
    end
    faults.every_allocation(function() x:histogram(3) end)
  end)
end)
