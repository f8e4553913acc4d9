-- moon.vjp, jvp, hvp, jacobian and hessian against finite differences and each other.
local moon = require "moonlet"
local naive = require "spec.support.naive"

local function r(shape, seed) return naive.random(shape, { seed = seed }) end
local function same(expected, tensor) naive.close(tensor, expected, 1e-12) end

local function bent(x) return (x * x):cumsum(1):sin() end

-- The slope of fn at x along v, by differences.
local function slope(fn, x, v, step)
  step = step or 1e-5
  return (fn(x + v * step) - fn(x - v * step)) / (2 * step)
end

describe("moon.jvp", function()
  it("is the slope along a vector", function()
    local x, v = r({ 4 }, 1), r({ 4 }, 2)
    local y, product = moon.jvp(bent, x, v)
    same(bent(x), y)
    naive.close(product, slope(bent, x, v), 1e-8)
    assert.is_false(y.requires_grad or product.requires_grad)
  end)

  it("takes several inputs and gives several outputs", function()
    local a, b = r({ 2, 3 }, 1), r({ 3, 2 }, 2)
    local u, v = r({ 2, 3 }, 3), r({ 3, 2 }, 4)
    local outputs, products = moon.jvp(function(p, q) return p:matmul(q), p * 2 end, { a, b },
      { u, v })
    same(a:matmul(b), outputs[1])
    same(u:matmul(b) + a:matmul(v), products[1])
    same(u * 2, products[2])
  end)

  it("gives zeros where an output does not depend on the inputs", function()
    local x = r { 3 }
    local _, product = moon.jvp(function() return x * 2 end, x, x)
    same({ 0, 0, 0 }, product)
  end)

  it("can be differentiated again", function()
    local x = r({ 3 }, 1):requires_grad_()
    local v = moon.ones(3, { dtype = "float64" })
    local _, product = moon.jvp(function(a) return a ^ 3 end, x, v, { create_graph = true })
    naive.close(moon.grad(product:sum(), x), x:detach() * 6, 1e-12)
  end)
end)

describe("moon.vjp", function()
  it("agrees with jvp: u J v is the same from both sides", function()
    local x, v, u = r({ 4 }, 1), r({ 4 }, 2), r({ 4 }, 3)
    local _, forward = moon.jvp(bent, x, v)
    local y, back = moon.vjp(bent, x, u)
    same(bent(x), y)
    naive.close((back * v):sum(), (forward * u):sum():item(), 1e-12)
  end)

  it("needs no vector for a single number, and works inside of no_grad", function()
    local x = r({ 3 }, 1)
    local y, g = moon.no_grad(function()
      return moon.vjp(function(a) return (a * a):sum() end, x)
    end)
    naive.close(y, (x * x):sum():item(), 1e-12)
    same(x * 2, g)
    assert.is_nil(x.grad)
    assert.is_false(x.requires_grad)
  end)
end)

describe("moon.jacobian", function()
  it("has a row for each element of the output", function()
    local m, x = r({ 2, 3 }, 1), r({ 3 }, 2)
    same(m, moon.jacobian(function(a) return m:mv(a) end, x))
    local j = moon.jacobian(function(a, b) return a:outer(b) end, { r({ 2 }, 1), r({ 3 }, 2) })
    assert.same({ 2, 3, 2 }, j[1]:size())
    assert.same({ 2, 3, 3 }, j[2]:size())
    naive.close(j[1], naive.build({ 2, 3, 2 }, function(p)
      return p[1] == p[3] and r({ 3 }, 2)[p[2]] or 0
    end), 1e-12)
  end)

  it("of no elements has none", function()
    local j = moon.jacobian(function(a) return a:narrow(1, 1, 0) end, r { 3 })
    assert.same({ 0, 3 }, j:size())
  end)
end)

describe("moon.hessian", function()
  it("is symmetric and what differences of the gradient give", function()
    local x = r({ 4 }, 1)
    local function f(a) return bent(a):sum() * a:sum() end
    local h = moon.hessian(f, x)
    naive.close(h, h:t(), 1e-12)
    for i = 1, 4 do
      local e = moon.zeros(4, { dtype = "float64" })
      e[i] = 1
      local function gradient(a)
        local _, g = moon.vjp(f, a)
        return g
      end
      naive.close(h[i], slope(gradient, x, e), 1e-7)
    end
  end)

  it("has a block for each pair of inputs", function()
    local a, b = r({ 2 }, 1), r({ 3 }, 2)
    local h = moon.hessian(function(p, q) return (p:outer(q)):square():sum() end, { a, b })
    assert.same({ 2, 3 }, h[1][2]:size())
    naive.close(h[1][2], h[2][1]:t(), 1e-12)
    naive.close(h[1][2], a:outer(b) * 4, 1e-12)
    naive.close(h[2][2], moon.eye(3, { dtype = "float64" }) * (a * a):sum() * 2, 1e-12)
  end)

  it("times a vector is hvp, for a net with batch norm too", function()
    moon.manual_seed(2)
    local net = moon.nn.Sequential(moon.nn.Linear(3, 5), moon.nn.BatchNorm1d(5), moon.nn.Tanh(),
      moon.nn.Linear(5, 2)):to("float64")
    local labels = moon.tensor({ 1, 2, 2, 1 }, { dtype = "int64" })
    local function loss(x) return moon.cross_entropy(net(x), labels) end
    local x, v = r({ 4, 3 }, 1), r({ 4, 3 }, 2)
    local y, product = moon.hvp(loss, x, v)
    naive.close(y, loss(x):item(), 1e-12)
    local h = moon.hessian(loss, x):view(12, 12)
    naive.close(product:view(12), h:mv(v:view(12)), 1e-12)
    local function gradient(a)
      local _, g = moon.vjp(loss, a)
      return g
    end
    naive.close(product, slope(gradient, x, v), 1e-6)
  end)
end)

describe("derivatives of functions", function()
  it("say what is wrong", function()
    local x = r { 2 }
    naive.fails("jvp: vector 1 must be a float64 tensor of 2 like the inputs, got float32 of 3",
      moon.jvp, bent, x, moon.ones(3))
    naive.fails("vjp: there are 2 vectors for 1 outputs", moon.vjp, bent, x, { x, x })
    naive.fails("vjp: output 1 has 2 elements, so vectors of the outputs' shapes are needed",
      moon.vjp, bent, x)
    naive.fails("vectors must be a tensor or a list of tensors, got nil", moon.jvp, bent, x)
    naive.fails("jvp: inputs must be a tensor or a list of tensors, got an empty table", moon.jvp,
      bent, {}, {})
    naive.fails("hvp: member 2 of inputs must be a tensor, got number", moon.hvp, bent, { x, 3 },
      { x })
    naive.fails("hessian: the function must return a single number, got a tensor of 2",
      moon.hessian, bent, x)
    naive.fails("jacobian: the function must return one tensor, got 2", moon.jacobian,
      function(a) return a, a end, x)
    naive.fails("jacobian: what the function returns must be a tensor", moon.jacobian,
      function() end, x)
    naive.fails('hessian: there is no option "graph"; the options are create_graph', moon.hessian,
      bent, x, { graph = true })
    naive.fails("vjp: the first argument must be a function, got nil", moon.vjp)
  end)
end)
