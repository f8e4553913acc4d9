-- What is on the tape and what is not: leaves, no_grad and enable_grad, detach, casts and
-- operators without a gradient.
local moon = require "moonlet"
local naive = require "spec.support.naive"

local leaf = naive.leaf

describe("a leaf", function()
  it("is a tensor that no operator on the tape made", function()
    local x = moon.ones(2)
    assert.is_true(x.is_leaf)
    assert.is_false(x.requires_grad)
    assert.is_nil(x.grad_fn)
    x.requires_grad = true
    local y = x * 2
    assert.is_true(x.is_leaf and x.requires_grad)
    assert.is_true(y.requires_grad)
    assert.is_false(y.is_leaf)
    assert.equal("mul", y.grad_fn)
    assert.is_true((moon.ones(2) * 2).is_leaf)
  end)

  it("takes requires_grad as an option, a field and a method", function()
    assert.is_true(moon.zeros(2, { requires_grad = true }).requires_grad)
    assert.is_true(moon.tensor({ 1 }, { requires_grad = true }).requires_grad)
    local x = moon.zeros(2)
    assert.equal(x, x:requires_grad_())
    assert.is_true(x.requires_grad)
    x:requires_grad_(false)
    assert.is_false(x.requires_grad)
    assert.is_false((x * 2).requires_grad)
  end)

  it("is of a float type", function()
    naive.fails("only tensors of a float type can require a gradient, this one is int64",
      function() moon.zeros(2, { dtype = "int64" }):requires_grad_() end)
    naive.fails("only tensors of a float type",
      function() moon.tensor({ 1 }, { dtype = "bool", requires_grad = true }) end)
  end)

  it("is the only thing whose requires_grad can change", function()
    local y = leaf(1) * 2
    naive.fails("requires_grad can be changed on leaves only; this tensor was made by mul: use " ..
      "detach() for one without history", function() y.requires_grad = false end)
    naive.fails("requires_grad must be true or false, got number",
      function() y.requires_grad = 1 end)
  end)

  it("has a gradient that can be set and dropped, of its own shape and type", function()
    local x = leaf(1, 2)
    assert.is_nil(x.grad)
    x.grad = moon.tensor({ 3, 4 }, { dtype = "float64" })
    assert.same({ 3, 4 }, x.grad:totable())
    x.grad = nil
    assert.is_nil(x.grad)
    naive.fails("grad must be a float64 tensor of 2 like its tensor, got float64 of 3",
      function() x.grad = moon.ones(3, { dtype = "float64" }) end)
    naive.fails("grad must be a float64 tensor of 2 like its tensor, got float32 of 2",
      function() x.grad = moon.ones(2) end)
    naive.fails("grad must be a tensor or nil, got number", function() x.grad = 0 end)
    naive.fails('a tensor has no field "gard" to assign', function() x.gard = nil end)
  end)
end)

describe("no_grad", function()
  it("keeps what is calculated inside off the tape", function()
    local x = leaf(1, 2)
    local y = moon.no_grad(function()
      assert.is_false(moon.is_grad_enabled())
      return x * 2
    end)
    assert.is_true(moon.is_grad_enabled())
    assert.is_false(y.requires_grad)
    assert.is_true(y.is_leaf)
  end)

  it("passes arguments and results through", function()
    assert.same({ 1, nil, 3, n = 3 }, (function(...)
      return { n = select("#", ...), ... }
    end)(moon.no_grad(function(...) return ... end, 1, nil, 3)))
  end)

  it("ends when an error passes", function()
    local ok, message = pcall(moon.no_grad, function() error("inside", 0) end)
    assert.is_false(ok)
    assert.equal("inside", message)
    assert.is_true(moon.is_grad_enabled())
    local fault = setmetatable({}, {})
    local _, same = pcall(moon.no_grad, function() error(fault) end)
    assert.equal(fault, same)
  end)

  it("nests with enable_grad", function()
    local x = leaf(3)
    moon.no_grad(function()
      local y = moon.enable_grad(function()
        assert.is_true(moon.is_grad_enabled())
        moon.no_grad(function() assert.is_false((x * 2).requires_grad) end)
        return x * 2
      end)
      assert.is_false(moon.is_grad_enabled())
      pcall(moon.enable_grad, error)
      assert.is_false(moon.is_grad_enabled())
      y:backward()
    end)
    assert.equal(2, x.grad:item())
  end)

  it("needs a function", function()
    naive.fails("function expected", moon.no_grad)
    naive.fails("function expected", moon.enable_grad, 3)
  end)

  it("does not stop backward of what was recorded before", function()
    local x = leaf(3)
    local y = x * x
    moon.no_grad(function() y:backward() end)
    assert.equal(6, x.grad:item())
  end)
end)

describe("detach", function()
  it("gives the same memory without history", function()
    local x = leaf(1, 2)
    local y = (x * 2):detach()
    assert.is_false(y.requires_grad)
    assert.is_nil(y.grad_fn)
    local d = x:detach()
    assert.is_true(d:shares_memory(x))
    d[1] = 7
    assert.equal(7, x[1])
  end)

  it("cuts the way of a gradient", function()
    local x = leaf(2)
    local y = x * (x * 3):detach()
    y:backward()
    assert.equal(6, x.grad:item())
  end)
end)

describe("the tape", function()
  it("follows casts, and brings each leaf a gradient of its own type", function()
    local x = moon.tensor({ 1, 2 }, { requires_grad = true })
    local w = moon.tensor({ 3, 4 }, { dtype = "float16", requires_grad = true })
    local y = x:double() * w:to("float64")
    assert.equal("float64", y.dtype)
    y:sum():backward()
    assert.same({ "float32", "float16" }, { x.grad.dtype, w.grad.dtype })
    assert.same({ { 3, 4 }, { 1, 2 } }, { x.grad:totable(), w.grad:totable() })
  end)

  it("ends at types that are not float", function()
    local x = leaf(1.5, 2.5)
    assert.is_false(x:long().requires_grad)
    assert.is_false(x:gt(2).requires_grad)
    assert.is_false(x:bool().requires_grad)
    assert.is_false(x:argmax().requires_grad)
  end)

  it("refuses operators that have no gradient", function()
    local p, g = leaf(1, 2), leaf(1, 1)
    for _, op in ipairs(moon.operators()) do
      if not op.gradient and op.name == "sgd_step" then
        naive.fails("sgd_step_: a leaf that requires a gradient cannot be changed in place; do " ..
          "it inside moon.no_grad, or on a copy", moon.sgd_step_, p, g, nil, { lr = 1 })
        naive.fails("sgd_step_: no gradient is defined; call it on detach()ed tensors or inside " ..
          "moon.no_grad", moon.sgd_step_, moon.zeros(2, { dtype = "float64" }), g, nil, { lr = 1 })
      end
    end
  end)

  it("is not left behind where no gradient is wanted", function()
    local before = moon.memory().live
    local x = moon.ones(1000)
    for _ = 1, 50 do x = x * 1 end
    collectgarbage()
    collectgarbage()
    assert.is_true(moon.memory().live <= before + 4000)
  end)
end)
