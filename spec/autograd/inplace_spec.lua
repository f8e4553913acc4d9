-- Changing tensors in place under the tape: what is followed, and what is refused or noticed
-- because a gradient would come out wrong.
local moon = require "moonlet"
local gradcheck = require "spec.support.gradcheck"
local naive = require "spec.support.naive"

local leaf = naive.leaf

describe("an operator in place", function()
  it("is followed by the tape", function()
    gradcheck.check(function(x, y)
      local a = x * 2
      a:add_(y)
      a:exp_()
      return a * 3
    end, { naive.random { 2, 3 }, naive.random({ 3 }, { seed = 7 }) })
    gradcheck.check(function(x)   -- the target itself had no history
      local a = moon.ones(2, 3, { dtype = "float64" })
      a:add_(x)
      return a * a
    end, { naive.random { 2, 3 } })
  end)

  it("gives its target the history of the operator", function()
    local a = moon.zeros(2, { dtype = "float64" })
    a:add_(leaf(1, 2))
    assert.is_true(a.requires_grad)
    assert.equal("add", a.grad_fn)
  end)

  it("is refused on a leaf that requires a gradient", function()
    local x = leaf(1, 2)
    local sentence = "a leaf that requires a gradient cannot be changed in place; do it inside " ..
      "moon.no_grad, or on a copy"
    naive.fails("add_: " .. sentence, x.add_, x, 1)
    naive.fails("zero_: " .. sentence, x.zero_, x)
    naive.fails(sentence, function() x[1] = 2 end)
    moon.no_grad(function()
      x:add_(1)
      x[1] = 7
    end)
    assert.same({ 7, 3 }, x:totable())
    assert.is_true(x.is_leaf and x.requires_grad)
  end)

  it("is refused on a view while the tape records", function()
    local x = leaf(1, 2)
    local y = x * 2
    local view = y:narrow(1, 1, 1)
    naive.fails("mul_: a view cannot be changed in place while the tape records; assign through " ..
      "its base, or work on a copy", view.mul_, view, 2)
    local plain = moon.zeros(2, { dtype = "float64" })
    naive.fails("add_: a view cannot be changed in place", function()
      plain:narrow(1, 1, 1):add_(leaf(1))
    end)
    plain:narrow(1, 1, 1):add_(1)
    moon.no_grad(function() view:mul_(2) end)
  end)

  it("is noticed by a backward that needs what was there", function()
    local x = leaf(1, 2)
    local y = x * 2
    local z = y:square()
    y:add_(1)
    naive.fails("backward: square needs its x, but add_ changed it in place after the call; " ..
      "work on a copy there", function() z:sum():backward() end)
    y = x * 2
    z = y:exp()
    z:mul_(3)
    naive.fails("backward: exp needs its y, but mul_ changed it in place", function()
      z:sum():backward()
    end)
  end)

  it("is noticed through every view and under no_grad", function()
    for _, change in ipairs {
      function(y) y:detach():narrow(1, 1, 1):fill_(0) end,
      function(y) moon.no_grad(function() y:view(2, 1):t():zero_() end) end,
      function(y) moon.no_grad(function() y[1] = 3 end) end,
      function(y) y:detach()[2] = 5 end,
      function(y) y:address() end,
    } do
      local x = leaf(1, 2)
      local y = x * 2
      local z = (y * y):sum()
      change(y)
      naive.fails("backward: mul needs its x, but", z.backward, z)
    end
  end)

  it("may change what no gradient reads", function()
    local x = leaf(1, 2)
    local y = x * 2
    local z = y + 1
    y:mul_(5)
    z:sum():backward()
    assert.same({ 2, 2 }, x.grad:totable())
  end)

  it("counts a failed write as a write", function()
    local x = leaf(1, 2)
    local y = x * 2
    local z = y:square():sum()
    naive.fails("add_: shapes", y.add_, y, moon.ones(3, { dtype = "float64" }))
    naive.fails("needs its x", z.backward, z)
  end)

  it("leaves the tape as it was when it fails", function()
    local x = leaf(1, 2)
    local y = x * 2
    pcall(y.add_, y, moon.ones(3, { dtype = "float64" }))
    assert.equal("mul", y.grad_fn)
    y:sum():backward()
    assert.same({ 2, 2 }, x.grad:totable())
  end)

  it("can be repeated a hundred thousand times", function()
    local x = leaf(1)
    local y = x * 1
    for _ = 1, 100000 do y:add_(1) end
    y:backward()
    assert.same({ 1 }, x.grad:totable())
    assert.same({ 100001 }, y:totable())
  end)
end)

describe("a view taken before its base changed on the tape", function()
  it("is refused, because its history is out of date", function()
    local x = leaf(1, 2)
    local base = moon.zeros(2, 2, { dtype = "float64" })
    local row = base[1]
    base:add_(x)
    naive.fails("mul: this view was taken before add_ changed its base in place on the tape; " ..
      "take the view again afterwards", function() return row * 2 end)
    local z = (base[1] * 2):sum()
    z:backward()
    assert.same({ 2, 2 }, x.grad:totable())
    moon.no_grad(function() assert.same({ 2, 4 }, (row * 2):totable()) end)
  end)
end)

describe("a leaf that was used and then becomes a result", function()
  it("does not make the tape hold itself", function()
    collectgarbage()
    collectgarbage()
    local before = moon.memory().live
    do
      local x = leaf(1, 2)
      local y = x * 2
      x.requires_grad = false
      x:add_(y)
      x:sum():backward()
      assert.is_false(x.is_leaf)
    end
    collectgarbage()
    collectgarbage()
    assert.equal(before, moon.memory().live)
  end)
end)

describe("assigning on the tape", function()
  it("sends the gradient to the value and takes it from what was overwritten", function()
    gradcheck.check(function(x, y)
      local a = x * 1
      a[{ 1, {} }] = y
      a[{ {}, 2 }] = 5
      return a * a
    end, { naive.random { 3, 3 }, naive.random({ 3 }, { seed = 2 }) })
    gradcheck.check(function(x, y)
      local a = x * 1
      a[a:gt(0)] = 2
      a[moon.tensor({ 3, 1 }, { dtype = "int64" })] = y
      return a * a
    end, { naive.random { 3, 3 }, naive.random({ 2, 3 }, { seed = 2 }) })
    gradcheck.check(function(x, y)
      local a = x * 1
      a[moon.tensor({ true, false, true }, { dtype = "bool" })] = y
      return a * a
    end, { naive.random { 3, 2 }, naive.random({ 2, 2 }, { seed = 2 }) })
  end)
end)
