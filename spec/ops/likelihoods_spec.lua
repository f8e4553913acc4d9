-- Losses from likelihoods: what the cases (spec/cases/losses.lua) do not see: extremes, limits,
-- sentences, failing allocations.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local naive = require "spec.support.naive"

local fails = naive.refuses

describe("kl_div", function()
  it("is 0 where the target is 0, with a gradient that is a number", function()
    local x = moon.tensor({ -1, -2 }, { dtype = "float64", requires_grad = true })
    local t = moon.tensor({ 0, 1 }, { dtype = "float64", requires_grad = true })
    local loss = moon.kl_div(x, t, { reduction = "none" })
    naive.close(loss, { 0, 2 })
    loss:sum():backward()
    naive.close(x.grad, { 0, -1 })
    assert.is_false(moon.isnan(t.grad):any():item())
  end)

  it("is 0 for equal distributions and never below", function()
    local p = moon.randn(4, 5, { dtype = "float64" }):softmax(2)
    naive.close(moon.kl_div(p:log(), p, { reduction = "batchmean" }), 0)
    local q = moon.randn(4, 5, { dtype = "float64" }):softmax(2)
    assert.is_true(moon.kl_div(q:log(), p, { reduction = "batchmean" }):item() > 0)
  end)

  it("says what does not fit", function()
    fails("kl_div", "input 2 and target 3 must have the same shape; reshape one", moon.ones(2),
      moon.ones(3))
    fails("kl_div", '"batchmean" needs a batch, got input 0-d', moon.tensor(1), moon.tensor(1),
      { reduction = "batchmean" })
  end)
end)

describe("gaussian_nll_loss", function()
  it("raises small variances to eps, and lets them grow again", function()
    local x, t = moon.zeros(1, { dtype = "float64" }), moon.ones(1, { dtype = "float64" })
    local var = moon.zeros(1, { dtype = "float64", requires_grad = true })
    local loss = moon.gaussian_nll_loss(x, t, var, { eps = 0.25 })
    naive.close(loss, (math.log(0.25) + 4) / 2)
    loss:backward()
    naive.close(var.grad, { (4 - 16) / 2 })
  end)

  it("says what does not fit", function()
    local x = moon.ones(2, 3)
    fails("gaussian_nll_loss", "var 2 does not broadcast to input 2x3", x, x, moon.ones(2))
    fails("gaussian_nll_loss", "var must not be negative, found -0.5", x, x, x - 1.5)
    fails("gaussian_nll_loss", "eps must be positive, got 0", x, x, x, { eps = 0 })
    fails("gaussian_nll_loss", "input 2x3 and target 3 must have the same shape", x, moon.ones(3),
      x)
  end)
end)

describe("poisson_nll_loss", function()
  it("says what does not fit", function()
    fails("poisson_nll_loss", "eps must not be negative, got -1", moon.ones(2), moon.ones(2),
      { eps = -1 })
  end)

  it("is near log(n!) for full counts that are met", function()
    local n = moon.tensor({ 10 }, { dtype = "float64" })
    local loss = moon.poisson_nll_loss(n:log(), n, { full = true }):item()
    local exact = 10 - 10 * math.log(10)
    for k = 2, 10 do exact = exact + math.log(k) end
    assert.is_true(math.abs(loss - exact) < 0.01)
  end)
end)

describe("focal_loss", function()
  it("does not overflow and has gradients that are numbers", function()
    for _, gamma in ipairs { 0, 0.5, 1, 2, 5 } do
      local x = moon.tensor({ 1000, -1000, 1000, -1000, 0 }, { requires_grad = true })
      local t = moon.tensor { 1, 0, 0, 1, 1 }
      local loss = moon.focal_loss(x, t, { alpha = -1, gamma = gamma, reduction = "none" })
      naive.close(loss, { 0, 0, 1000, 1000, 0.5 ^ gamma * math.log(2) }, 1e-5)
      loss:sum():backward()
      assert.is_false(moon.isnan(x.grad):any():item())
    end
  end)

  it("without gamma and alpha is binary_cross_entropy_with_logits", function()
    local x, t = naive.random { 3, 4 }, naive.random({ 3, 4 }, { low = 0, high = 1 })
    naive.close(moon.focal_loss(x, t, { gamma = 0, alpha = -1 }),
      moon.binary_cross_entropy_with_logits(x, t))
  end)

  it("says what does not fit", function()
    fails("focal_loss", "alpha must not be above 1, got 2", moon.ones(2), moon.ones(2),
      { alpha = 2 })
    fails("focal_loss", "gamma must not be negative, got -1", moon.ones(2), moon.ones(2),
      { gamma = -1 })
    fails("focal_loss", "input is float32 but target is int64", moon.ones(2), moon.ones(2):long())
  end)
end)

describe("losses from likelihoods", function()
  it("survive the failure of any allocation", function()
    local x, t = moon.randn(3), moon.rand(3)
    x.requires_grad = true
    local calls = {
      function() return moon.kl_div(x, t) end,
      function() return moon.kl_div(x, t, { log_target = true, reduction = "sum" }) end,
      function() return moon.poisson_nll_loss(x, t, { full = true }) end,
      function() return moon.gaussian_nll_loss(x, t, t, { full = true }) end,
      function() return moon.focal_loss(x, t) end,
    }
    faults.every_backward(calls, x)
  end)
end)
