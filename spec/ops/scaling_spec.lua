-- Scaling by norms: what the cases (spec/cases/normalization.lua) do not see: zero vectors, power
-- iteration, sentences, failing allocations.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local gradcheck = require "spec.support.gradcheck"
local naive = require "spec.support.naive"

local fails = naive.refuses

describe("normalize", function()
  it("leaves zero vectors, in every type", function()
    for _, dtype in ipairs { "float64", "float32", "float16", "bfloat16" } do
      local x = moon.tensor({ { 0, 0 }, { 3, 4 } }, { dtype = dtype, requires_grad = true })
      local y = moon.normalize(x)
      naive.close(y:double(), { { 0, 0 }, { 0.6, 0.8 } }, 1e-2)
      y:sum():backward()
      assert.is_false(moon.isnan(x.grad):any():item())   -- of zeros: 1 / eps, infinite in halves
      assert.is_true(moon.isfinite(x.grad[2]):all():item())
    end
  end)

  it("does not overflow in float16", function()
    local y = moon.normalize(moon.full({ 1, 4 }, 6e4, { dtype = "float16" }))
    naive.close(y:double(), { { 0.5, 0.5, 0.5, 0.5 } }, 1e-3)
  end)

  it("says what does not fit", function()
    fails("normalize", "p must be positive, got 0", moon.ones(2, 2), 0)
    fails("normalize", "eps must not be negative, got -1", moon.ones(2, 2), { eps = -1 })
    fails("normalize", "dim", moon.ones(2), 2, 2)
  end)
end)

describe("renorm", function()
  it("limits nothing at infinity", function()
    local x = moon.ones(2, 2, { requires_grad = true })
    moon.renorm(x, 2, 1, math.huge):sum():backward()
    naive.close(x.grad, moon.ones(2, 2))
  end)

  it("limits what is above and leaves the rest as it is", function()
    local x = moon.tensor({ { 3, 4 }, { 0.3, 0.4 } }, { dtype = "float64" })
    naive.close(moon.renorm(x, 2, 1, 1), { { 0.6, 0.8 }, { 0.3, 0.4 } }, 1e-6)
  end)

  it("says what does not fit", function()
    fails("renorm", "maxnorm must not be negative, got -1", moon.ones(2, 2), 2, 1, -1)
    fails("renorm", "p must be positive, got -2", moon.ones(2, 2), -2, 1, 1)
    fails("renorm", "input must have at least 1 dimension, got 0-d", moon.tensor(1), 2, 1, 1)
  end)
end)

describe("weight_norm", function()
  it("has slices of length g", function()
    local w = moon.weight_norm(naive.random { 3, 4, 2 }, moon.full({ 3, 1, 1 }, 2,
      { dtype = "float64" }), 1)
    naive.close(w:norm(2, { 2, 3 }), { 2, 2, 2 })
  end)

  it("says what does not fit", function()
    fails("weight_norm", "g must be 3x1, a norm for each slice of v, got 3", moon.ones(3, 4),
      moon.ones(3), 1)
    fails("weight_norm", "g must be 1x1, a norm for each slice of v, got 3x1", moon.ones(3, 4),
      moon.ones(3, 1))
  end)
end)

describe("spectral_norm", function()
  local function start(rows, columns)
    return naive.random({ rows }, { low = 0.1 }), naive.random({ columns }, { low = 0.1, seed = 2 })
  end

  it("finds the largest singular value", function()
    local w = moon.tensor({ { 3, 0, 0 }, { 0, -5, 0 } }, { dtype = "float64" })
    local u, v = start(2, 3)
    naive.close(moon.spectral_norm(w, u, v, { iterations = 60 }), w / 5, 1e-9)
    naive.close(u:abs(), { 0, 1 }, 1e-9)
    naive.close(v:abs(), { 0, 1, 0 }, 1e-9)
  end)

  it("moves its vectors step by step, and not without iterations", function()
    local w, u, v = naive.random { 3, 4 }, start(3, 4)
    local u2, v2 = u:clone(), v:clone()
    moon.spectral_norm(w, u, v, { iterations = 2 })
    moon.spectral_norm(w, u2, v2)
    moon.spectral_norm(w, u2, v2)
    naive.close(u, u2)
    naive.close(v, v2)
    moon.spectral_norm(w, u, v, { iterations = 0 })
    naive.close(u, u2)
  end)

  it("has the gradient at fixed vectors, also when they move before the backward pass", function()
    local w, u, v = naive.random { 3, 4 }, start(3, 4)
    moon.spectral_norm(w, u, v, { iterations = 50 })
    gradcheck.check(function(x) return moon.spectral_norm(x, u, v, { iterations = 0 }) end, { w })
    local x = w:clone():requires_grad_()
    local y = moon.spectral_norm(x, u, v)
    moon.spectral_norm(x * 2 + 1, u, v)
    y:sum():backward()
    assert.is_true(moon.isfinite(x.grad):all():item())
  end)

  it("says what does not fit", function()
    local w = moon.ones(2, 3)
    fails("spectral_norm", "u must have 2 elements, got 3", w, moon.ones(3), moon.ones(3))
    fails("spectral_norm", "v must have 3 elements, got 2", w, moon.ones(2), moon.ones(2))
    fails("spectral_norm", "weight must have at least 2 dimensions and elements, got 2",
      moon.ones(2), moon.ones(2), moon.ones(1))
    fails("spectral_norm", "iterations must lie in 0..100000, got -1", w, moon.ones(2),
      moon.ones(3), { iterations = -1 })
    fails("spectral_norm", "the tensor to write into, 2, is expanded", w,
      moon.ones(1):expand(2), moon.ones(3))
    fails("spectral_norm", "eps must not be negative", w, moon.ones(2), moon.ones(3), { eps = -1 })
  end)
end)

describe("scaling", function()
  it("survives the failure of any allocation", function()
    local x, g = moon.randn(3, 2), moon.ones(3, 1)
    local u, v = moon.ones(3), moon.ones(2)
    x.requires_grad, g.requires_grad = true, true
    local calls = {
      function() return moon.normalize(x) end,
      function() return moon.normalize(x:half()):float() end,
      function() return moon.renorm(x, 2, 1, 0.1) end,
      function() return moon.weight_norm(x, g, 1) end,
      function() return moon.spectral_norm(x, u, v, { iterations = 2 }) end,
    }
    for _, call in ipairs(calls) do
      faults.every_allocation(function()
        call():sum():backward()
        x.grad, g.grad = nil, nil
      end)
    end
  end)
end)
