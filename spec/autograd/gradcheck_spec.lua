-- moon.gradcheck: it agrees with what is right, finds what is wrong, and changes nothing.
local moon = require "moonlet"
local naive = require "spec.support.naive"

-- Three times the right gradient at one element.
local Wrong = moon.Function:extend "Wrong"
function Wrong.forward(ctx, x) ctx:save(x) return x:exp() end
function Wrong.backward(ctx, g)
  local right = g * ctx:saved():exp()
  return right * moon.tensor({ 1, 3 }, { dtype = "float64" })
end

-- Right, but its gradient has none.
local Flat = moon.Function:extend "Flat"
function Flat.forward(ctx, x) ctx:save(x) return x:exp() end
function Flat.backward(ctx, g) return g * ctx:saved():detach():exp() end

describe("moon.gradcheck", function()
  local x = moon.tensor({ 0.5, 1 }, { dtype = "float64" })

  it("gives true where gradients are right", function()
    assert.is_true(moon.gradcheck(moon.exp, x))
    assert.is_true(moon.gradcheck(moon.exp, { x }, { second = true }))
    assert.is_true(moon.gradcheck(function(a, word, b) return a * b, a + #word end, { x, "w", x }))
    assert.is_true(moon.gradcheck(moon.exp, naive.random({ 3, 4 }):t():narrow(1, 2, 2)))
    assert.is_true(moon.gradcheck(moon.exp, moon.tensor(2, { dtype = "float64" })))
    assert.is_true(moon.gradcheck(moon.exp, moon.zeros(0, 3, { dtype = "float64" })))
  end)

  it("gives nil and the place where they are wrong, or raises it", function()
    local ok, message = moon.gradcheck(Wrong, x)
    assert.is_nil(ok)
    assert.matches("^gradient of input 1 at {2}: backward gives %S+, differences %S+$", message)
    naive.fails("gradcheck: gradient of input 1 at {2}", moon.gradcheck, Wrong, x, { raise = true })
    naive.fails("the results depend on none of the inputs", moon.gradcheck,
      function() return moon.ones(1, { dtype = "float64" }) end, x, { raise = true })
    assert.is_true(moon.gradcheck(function() return moon.ones(1, { dtype = "float64" }) end, x,
      { may_be_constant = true }))
  end)

  it("checks the gradient's gradient where asked", function()
    assert.is_true(moon.gradcheck(Flat, x))
    local ok, message = moon.gradcheck(Flat, x, { second = true })
    assert.is_nil(ok)
    assert.matches("^of the gradient, gradient of input 1", message)
    assert.is_nil((moon.gradcheck(Flat, x, { second = "only" })))
  end)

  it("takes a step and a tolerance", function()
    local function cube(a) return a * a * a end
    assert.is_nil((moon.gradcheck(cube, x, { step = 0.1 })))
    assert.is_true(moon.gradcheck(cube, x, { step = 0.1, tolerance = 0.1 }))
  end)

  it("varies as many elements as asked for, from the first to the last", function()
    local evaluations = 0
    local function count(a) evaluations = evaluations + 1 return a:exp() end
    local many = naive.random { 3, 4 }
    assert.is_true(moon.gradcheck(count, many, { most = 5 }))
    assert.equal(1 + 2 * 5, evaluations)
    evaluations = 0
    assert.is_true(moon.gradcheck(count, many))
    assert.equal(1 + 2 * 12, evaluations)
    assert.is_true(moon.gradcheck(Wrong, x, { most = 1 }))
    assert.is_nil((moon.gradcheck(Wrong, x, { most = 2 })))
    assert.is_true(moon.gradcheck(moon.exp, x, { most = 100, second = true }))
    naive.fails("gradcheck: most must be 0, for all elements, or more, not -1", moon.gradcheck,
      moon.exp, x, { most = -1 })
  end)

  it("leaves inputs, their gradients and the random stream's users alone", function()
    local y = moon.tensor({ 1, 2 }, { dtype = "float64", requires_grad = true })
    moon.manual_seed(4)
    assert.is_true(moon.gradcheck(function(a) return moon.dropout(a * 2, 0.5, true) end, y))
    assert.same({ 1, 2 }, y:totable())
    assert.is_nil(y.grad)
  end)

  it("works where the tape is off", function()
    assert.is_true(moon.no_grad(moon.gradcheck, moon.exp, x))
  end)

  it("refuses what it cannot check", function()
    naive.fails("gradcheck: none of the inputs is a float64 tensor; differences of float32 are " ..
      "too coarse", moon.gradcheck, moon.exp, moon.ones(2))
    naive.fails("gradcheck: inputs must be a tensor or a list, got number", moon.gradcheck,
      moon.exp, 3)
    naive.fails("gradcheck: fn must be a function or a callable object, not 3", moon.gradcheck,
      3, x)
    naive.fails('gradcheck: there is no option "eps"', moon.gradcheck, moon.exp, x, { eps = 1 })
    naive.fails('gradcheck: second must be true, false or "only"', moon.gradcheck, moon.exp, x,
      { second = 2 })
    naive.fails("gradcheck: the function returned no float64 tensor", moon.gradcheck,
      function() return 1 end, x)
  end)
end)
