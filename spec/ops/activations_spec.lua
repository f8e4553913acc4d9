-- Activations with slopes of their own or along a dimension: what the cases
-- (spec/cases/activations.lua) do not see: random slopes, sentences, failing allocations.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local naive = require "spec.support.naive"

local fails = naive.refuses

describe("rrelu", function()
  it("draws a slope for each element in training, evenly between its limits", function()
    moon.manual_seed(5)
    local y = moon.rrelu(moon.full({ 20000 }, -1, { dtype = "float64" }), 0.2, 0.6, true)
    local slopes = -y
    assert.is_true(slopes:min():item() >= 0.2 and slopes:max():item() <= 0.6)
    assert.is_true(math.abs(slopes:mean():item() - 0.4) < 0.01)
    assert.is_true(math.abs(slopes:var():item() - 0.4 ^ 2 / 12) < 1e-3)
    naive.close(moon.rrelu(moon.ones(3), 0.2, 0.6, true), { 1, 1, 1 })
  end)

  it("has the slopes it drew as its gradient", function()
    local x = moon.full({ 5 }, -1, { dtype = "float64", requires_grad = true })
    local y = moon.rrelu(x, 0.2, 0.6, true)
    y:sum():backward()
    naive.close(x.grad, -y)
  end)

  it("says what does not fit", function()
    fails("rrelu", "lower and upper must be finite and lower at most upper, got 0.5 and 0.2",
      moon.ones(2), 0.5, 0.2)
    fails("rrelu", "lower and upper must be finite", moon.ones(2), 0, math.huge)
  end)
end)

describe("prelu, glu, crelu and softmin", function()
  it("take the slope of weight at 0", function()
    local x = moon.zeros(1, { requires_grad = true })
    moon.prelu(x, moon.tensor { 0.3 }):sum():backward()
    naive.close(x.grad, { 0.3 }, 1e-6)
  end)

  it("say what does not fit", function()
    fails("prelu", "weight must have 1 element, or one for each of the 3 channels of input 2x3, " ..
      "got 2", moon.ones(2, 3), moon.ones(2))
    fails("prelu", "weight must have 1 element, or one for each of the 3 channels", moon.ones(2, 3),
      moon.ones(1, 3))
    fails("prelu", 'input is float32 but weight is float64', moon.ones(2), moon.ones(1):double())
    fails("glu", "dimension 2 must have an even size to be halved, got input 2x3", moon.ones(2, 3))
    fails("glu", "dimension 1 must have an even size to be halved, got input 0-d", moon.tensor(1))
    fails("crelu", "input must have at least 1 dimension, got 0-d", moon.tensor(1))
    fails("crelu", "dim", moon.ones(3))
    fails("softmin", "dim", moon.ones(3), 2)
  end)

  it("survive the failure of any allocation", function()
    local x, w = moon.randn(2, 4), moon.ones(4)
    x.requires_grad, w.requires_grad = true, true
    local calls = {
      function() return moon.prelu(x, w) end,
      function() return moon.rrelu(x, 0.1, 0.2, true) end,
      function() return moon.glu(x) end,
      function() return moon.crelu(x) end,
      function() return moon.softmin(x):square() end,
    }
    for _, call in ipairs(calls) do
      faults.every_allocation(function()
        call():sum():backward()
        x.grad, w.grad = nil, nil
      end)
    end
  end)
end)
