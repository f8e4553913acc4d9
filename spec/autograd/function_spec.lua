-- Functions with a backward in Lua: values and gradients of every order, what is saved, what is
-- refused, errors inside, and that dropped graphs are garbage whatever they refer to.
local moon = require "moonlet"
local child = require "spec.support.child"
local faults = require "spec.support.faults"
local gradcheck = require "spec.support.gradcheck"
local naive = require "spec.support.naive"

local leaf = naive.leaf

local Exp = moon.Function:extend "Exp"

function Exp.forward(ctx, x)
  local y = x:exp()
  ctx:save(y)
  return y
end

function Exp.backward(ctx, g)
  local y = ctx:saved()
  return g * y
end

-- a * b * scale and a + b
local Both = moon.Function:extend "Both"

function Both.forward(ctx, a, scale, b)
  ctx:save(a, b)
  ctx.scale = scale
  return a * b * scale, a + b
end

function Both.backward(ctx, product, sum)
  local a, b = ctx:saved()
  return product * b * ctx.scale + sum, nil, product * a * ctx.scale + sum
end

-- A class made for one test.
local function class(forward, backward)
  local made = moon.Function:extend "Made"
  made.forward, made.backward = forward, backward
  return made
end

describe("a function", function()
  it("is called as a class and stands on the tape under its name", function()
    local x = leaf(1, 2)
    local y = Exp(x)
    assert.equal("Exp", y.grad_fn)
    assert.is_true(y.requires_grad)
    y:sum():backward()
    naive.close(x:detach():exp(), x.grad)
  end)

  it("has gradients of every order", function()
    local x = naive.random { 2, 3 }
    gradcheck.check(Exp, { x })
    gradcheck.second(Exp, { x })
    local y = leaf(0.5)
    local first = moon.grad(Exp(y * 2), y, { create_graph = true })
    local second = moon.grad(first, y, { create_graph = true })
    local third = moon.grad(second, y)
    assert.is_near(math.exp(1) * 8, third:item(), 1e-12)
  end)

  it("takes several tensors and other values, and gives several", function()
    local a, b = naive.random { 3 }, naive.random({ 3 }, { seed = 5 })
    gradcheck.check(function(p, q) return Both(p, 3, q) end, { a, b })
    gradcheck.second(function(p, q) return Both(p, 3, q) end, { a, b })
    local Mixed = class(function(_, x, word) return word, x * 2, nil, 7 end,
      function(_, word, g, none, number)
        assert.same({ nil, nil, nil }, { word, none, number })
        return g * 2
      end)
    local x = leaf(1)
    local word, y, none, number = Mixed(x, "word")
    assert.same({ "word", 2, 7 }, { word, y:item(), number })
    assert.is_nil(none)
    y:backward()
    assert.equal(2, x.grad:item())
  end)

  it("gets zeros for results that nothing came back from", function()
    local a, b = leaf(1, 2), leaf(3, 4)
    local _, sum = Both(a, 2, b)
    sum:sum():backward()
    assert.same({ 1, 1 }, a.grad:totable())
    assert.same({ 1, 1 }, b.grad:totable())
  end)

  it("runs forward off the tape, and is off it where no gradient is wanted", function()
    local enabled
    local Look = class(function(ctx, x)
      enabled = moon.is_grad_enabled()
      assert.is_false(ctx.needs[1])
      return x * 2
    end)
    assert.is_false(Look(moon.ones(1)).requires_grad)
    assert.is_false(enabled)
    assert.is_false(moon.no_grad(function() return Look(leaf(1)) end).requires_grad)
  end)

  it("knows which arguments need a gradient", function()
    local seen
    local Look = class(function(ctx, a, word, b)
      assert.equal("word", word)
      seen = { ctx.needs[1], ctx.needs[2], ctx.needs[3] }
      return a * b
    end, function(_, g) return nil, nil, g end)
    Look(moon.ones(1, { dtype = "float64" }), "word", leaf(1)):backward()
    assert.same({ false, false, true }, seen)
  end)

  it("may leave a gradient out", function()
    local a, b = leaf(2), leaf(3)
    class(function(_, x, y) return x * y end, function(_, g) return nil, g end)(a, b):backward()
    assert.is_nil(a.grad)
    assert.equal(1, b.grad:item())
  end)

  it("marks results that no gradient comes from", function()
    local Top = class(function(ctx, x)
      local values, places = x:max(1)
      local doubled = x * 2
      ctx:mark_non_differentiable(doubled)
      return values, places, doubled
    end, function(_, g, places, doubled)
      assert.is_nil(places)
      assert.same({ 0, 0 }, doubled:totable())
      return g * moon.ones(2, { dtype = "float64" })
    end)
    local x = leaf(1, 5)
    local values, places, doubled = Top(x)
    assert.is_true(values.requires_grad)
    assert.is_false(places.requires_grad)
    assert.is_false(doubled.requires_grad)
    values:backward()
    assert.same({ 1, 1 }, x.grad:totable())
  end)

  it("gives tensors of their own, also where it returns an argument or a tensor with a history",
    function()
      local x, w = leaf(1, 2), leaf(3, 4)
      local y = class(function(_, t) return t end, function(_, g) return g * 5 end)(x)
      assert.is_true(x.is_leaf)
      assert.is_true(y:shares_memory(x))
      y:sum():backward()
      assert.same({ 5, 5 }, x.grad:totable())
      local other = w * 2
      class(function() return other end, function(_, g) return g end)(x):sum():backward()
      assert.equal("mul", other.grad_fn)
      assert.is_nil(w.grad)
      naive.fails("add_: a view cannot be changed in place", function() y:add_(x) end)
    end)

  it("inherits from a function", function()
    local Child = Exp:extend "Child"
    local y = Child(leaf(0))
    assert.equal("Child", y.grad_fn)
    assert.equal(1, y:item())
  end)

  it("has up to 32 results", function()
    local Many = class(function(_, x, count)
      local list = {}
      for i = 1, count do list[i] = x * i end
      return (table.unpack or unpack)(list)
    end, function(_, ...)
      local sum
      for i = 1, select("#", ...) do
        local g = select(i, ...) * i
        sum = sum and sum + g or g
      end
      return sum
    end)
    local x, total = leaf(1), nil
    for _, y in ipairs { Many(x, 32) } do total = total and total + y or y end
    total:backward()
    assert.equal(32 * 33 / 2, x.grad:item())
    naive.fails("Made: a function returns at most 32 tensors, this one 33", Many, x, 33)
  end)

  it("works inside of a function and of a backward", function()
    local Outer = class(function(ctx, x)
      ctx:save(x)
      return Exp(x) * 2
    end, function(ctx, g)
      return Exp(ctx:saved()) * 2 * g
    end)
    gradcheck.check(Outer, { naive.random { 3 } })
    gradcheck.second(Outer, { naive.random { 3 } })
  end)

  it("backward may run a walk of its own", function()
    local Inner = class(function(ctx, x)
      ctx:save(x)
      return x:square()
    end, function(ctx, g)
      local x = ctx:saved():detach():requires_grad_()
      return moon.grad(moon.enable_grad(function() return x:square():sum() end), x) * g
    end)
    gradcheck.check(Inner, { naive.random { 3 } })
  end)
end)

describe("a context", function()
  it("gives back what was saved in order, nil included", function()
    local a, b, middle = leaf(1), leaf(2), nil
    local Keep = class(function(ctx, x, y)
      middle = x + y
      ctx:save(y, nil)
      ctx:save(middle, x)
      return x * y
    end, function(ctx, g)
      local y, none, sum, x = ctx:saved()
      assert.is_nil(none)
      assert.same({ 2, 3, 1 }, { y:item(), sum:item(), x:item() })
      return g, g
    end)
    Keep(a, b):backward()
  end)

  it("notices writes to what was saved", function()
    local w = moon.ones(2, { dtype = "float64" })
    local Product = class(function(ctx, x, y)
      ctx:save(x, y)
      return x * y
    end, function(ctx, g)
      local _, y = ctx:saved()
      return g * y, nil
    end)
    local x = leaf(1, 2)
    local product = Product(x, w):sum()
    w:add_(1)
    naive.fails("backward: Made needs its input, but add_ changed it in place after the call",
      product.backward, product)
    local y = Exp(x)
    moon.no_grad(function() y:mul_(2) end)
    naive.fails("backward: Exp needs its result, but mul_ changed it in place", function()
      y:sum():backward()
    end)
    local between
    local Between = class(function(ctx, t)
      between = t * 2
      ctx:save(between)
      return t * 3
    end, function(_, g) return g end)
    local z = Between(x):sum()
    between:zero_()
    naive.fails("backward: Made needs a tensor it saved, but zero_ changed it in place",
      z.backward, z)
  end)

  it("is used up by a backward, unless that retains the graph", function()
    local x = leaf(1)
    local y = Exp(x)
    y:backward(nil, { retain_graph = true })
    y:backward()
    naive.fails("backward: the tape of Exp was already used and freed", y.backward, y)
  end)

  it("refuses tensors as fields, and names of its own", function()
    local sentence = "Made: ctx.x is a tensor; keep tensors with ctx:save(...), and get them " ..
      "with ctx:saved()"
    naive.fails(sentence, class(function(ctx, x) ctx.x = x return x end), leaf(1))
    naive.fails("Made: ctx.list has a tensor in it; keep tensors with ctx:save",
      class(function(ctx, x) ctx.list = { x } return x end), leaf(1))
    naive.fails("ctx.save is taken", class(function(ctx) ctx.save = 1 end), leaf(1))
    naive.fails("ctx.needs is taken", class(function(ctx) ctx.needs = 1 end), leaf(1))
    naive.fails("save: value 2 is a number; tensors are saved, other values are fields of ctx",
      class(function(ctx, x) ctx:save(x, 3) return x end), leaf(1))
    naive.fails("mark_non_differentiable: value 1 must be a tensor, got number",
      class(function(ctx, x) ctx:mark_non_differentiable(3) return x end), leaf(1))
    naive.fails("saved: it is for backward", class(function(ctx) return ctx:saved() end), leaf(1))
    naive.fails("save: call it with a colon", class(function(ctx, x) ctx.save(x) end), leaf(1))
  end)

  it("takes any other field, also again", function()
    local Field = class(function(ctx, x)
      ctx.count = 1
      ctx.count = ctx.count + 1
      ctx[1] = "one"
      return x * 1
    end, function(ctx, g) return g * ctx.count * #ctx[1] end)
    local x = leaf(1)
    Field(x):backward()
    assert.equal(6, x.grad:item())
  end)

  it("saves in forward only", function()
    local Late = class(function(_, x) return x * 1 end, function(ctx, g)
      ctx:save(g)
      return g
    end)
    naive.fails("save: tensors are saved in forward; backward reads them", function()
      Late(leaf(1)):backward()
    end)
  end)
end)

describe("what backward returns", function()
  local function backward_gives(...)
    local values, n = { ... }, select("#", ...)
    return function()
      local Bad = class(function(_, x, _, y) return x * y end, function()
        return (table.unpack or unpack)(values, 1, n)
      end)
      Bad(leaf(1, 2), "word", leaf(3, 4)):sum():backward()
    end
  end
  local good = moon.ones(2, { dtype = "float64" })

  it("is a gradient for each argument", function()
    naive.fails("backward of Made: backward returned 1 gradient for 3 arguments of forward",
      backward_gives(good))
    naive.fails("backward of Made: backward returned 4 gradients for 3 arguments of forward",
      backward_gives(good, nil, good, good))
    naive.fails("backward of Made: backward returned 0 gradients", backward_gives())
  end)

  it("is a tensor of the argument's shape and type, or nil", function()
    naive.fails("backward of Made: the gradient of its tensor 2 must be float64 of 2 like that, " ..
      "got float64 of 3", backward_gives(good, nil, moon.ones(3, { dtype = "float64" })))
    naive.fails("backward of Made: the gradient of its tensor 1 must be float64 of 2 like that, " ..
      "got float32 of 2", backward_gives(moon.ones(2), nil, good))
    naive.fails("backward of Made: backward returned a number as gradient 1; it must be a " ..
      "tensor or nil", backward_gives(1, nil, good))
    naive.fails("backward of Made: backward returned a gradient for argument 2, which was no " ..
      "tensor; return nil there", backward_gives(good, good, good))
    backward_gives(nil, nil, nil)()
  end)

  it("is asked for", function()
    local x = leaf(1)
    naive.fails("backward of Made: there is no backward; write function Made.backward(ctx, " ..
      "gradient)", function() class(function(_, t) return t * 1 end)(x):backward() end)
    naive.fails("Made: there is no forward; write function Made.forward(ctx, x)", class(), x)
    naive.fails("Function: there is no forward", moon.Function, x)
  end)
end)

describe("an error", function()
  it("in forward or backward comes out with its message, and all goes on", function()
    collectgarbage()
    collectgarbage()
    local before = moon.memory().live
    local x = leaf(1, 2)
    naive.fails("too dark", class(function() error "too dark" end), x)
    assert.is_true(moon.is_grad_enabled())
    local Bad = class(function(_, t) return t * 2 end, function() error "too cold" end)
    naive.fails("too cold", function() Bad(x):sum():backward() end)
    naive.fails("backward of Made", function() Bad(x):sum():backward() end)
    assert.is_true(moon.is_grad_enabled())
    Exp(x):sum():backward()
    assert.is_not_nil(x.grad)
    x.grad = nil   -- luacheck: ignore
    x = nil        -- luacheck: ignore
    collectgarbage()
    collectgarbage()
    assert.equal(before, moon.memory().live)
  end)

  it("that is no text is raised as it is", function()
    local fault = setmetatable({}, { __tostring = function() return "a fault" end })
    local Bad = class(function(_, t) return t * 2 end, function() error(fault) end)
    local ok, caught = pcall(function() Bad(leaf(1)):backward() end)
    assert.is_false(ok)
    assert.equal(fault, caught)
    naive.fails("backward: this tensor requires no gradient", function()
      moon.ones(1):backward()   -- the fault is forgotten
    end)
  end)

  it("from yielding in a backward says so", function()
    local Yield = class(function(_, t) return t * 2 end, function(_, g)
      coroutine.yield()
      return g
    end)
    local routine = coroutine.create(function() Yield(leaf(1)):backward() end)
    local ok, message = coroutine.resume(routine)
    assert.is_false(ok)
    assert.matches("backward of Made", message)
    assert.matches("cannot yield", message)
  end)
end)

describe("in a coroutine", function()
  it("functions are called back, and may start coroutines of their own", function()
    local x = leaf(1, 2)
    local Routine = class(function(_, t) return t * 2 end, function(_, g)
      local step = coroutine.wrap(function()
        coroutine.yield((g * 2):clone())
      end)
      local doubled = step()
      step = nil   -- luacheck: ignore
      collectgarbage()
      return doubled
    end)
    coroutine.wrap(function()
      local y = Routine(x)
      for _ = 1, 10 do y = Routine(y) end
      y:sum():backward()
    end)()
    collectgarbage()
    assert.same({ 2 ^ 11, 2 ^ 11 }, x.grad:totable())
  end)
end)

describe("an allocation that fails", function()
  it("in a call or a backward leaves nothing behind", function()
    local a, b = leaf(1, 2), leaf(3, 4)
    faults.every_allocation(function()
      local product, sum = Both(a, 2, b)
      local y = Exp(product + sum)
      moon.grad(y:sum(), a)
    end)
  end)
end)

describe("a graph that is dropped", function()
  local sanitized = os.getenv("MOONLET_SANITIZER")

  local function flat(name, piece, count)
    it("is garbage: " .. name, function()
      if sanitized then pending("a sanitizer keeps freed memory") return end
      child.stays_flat("local F = moon.Function:extend 'F'\n" .. piece, count)
    end)
  end

  flat("saved tensors", [[
    function F.forward(ctx, a) local y = a * 2 ctx:save(a, y) return y end
    function F.backward(ctx, g) return g end
    function graph() return F(F(x)):sum() end]])
  flat("a context that holds its own result", [[
    function F.forward(ctx, a)
      local result
      ctx.read = function() return result end
      ctx.put = function(y) result = y end
      out = ctx
      return a * 2
    end
    function F.backward(ctx, g) return g end
    function graph() local y = F(x) out.put(y) out = nil return y:sum() end]])
  flat("results that meet again, in lists, in place, indexed and split", [[
    function F.forward(ctx, a) ctx.it = function() return a end return a * 2 end
    function F.backward(ctx, g) return g end
    function graph()
      local a, b = F(x), F(x * 2)
      local c = moon.cat({ a, b }, 1)
      local parts = c:split(4, 1)
      parts[1] = parts[1] + c[{ { 1, 4 } }]
      local z = x * 0
      z:add_(a)
      z[1] = b:sum()
      return (parts[1] * parts[2]):sum() + z:sum()
    end]], 2e4)
end)

describe("what results carry", function()
  -- The function's context must be found although nothing in Lua holds the function's own result.
  local function survives(name, through)
    it("comes through " .. name, function()
      local x = leaf(1, 2, 3, 4)
      local y = through(Exp(x))
      for _ = 1, 3 do collectgarbage() end
      y:sum():backward()
      assert.is_not_nil(x.grad)
    end)
  end

  survives("an operator", function(y) return y * 2 end)
  survives("an operator's second argument", function(y) return moon.ones(4):double() * y end)
  survives("an option", function(y)
    return moon.batch_norm(moon.ones(2, 4):double(), y, nil, nil, nil, { training = true })
  end)
  survives("an option by name", function(y)
    return moon.batch_norm(moon.ones(2, 4):double(), { weight = y, training = true })
  end)
  survives("a list", function(y) return moon.cat({ moon.ones(2):double(), y }, 1) end)
  survives("results in a list", function(y) return y:split(2, 1)[2] end)
  survives("several results", function(y) return (y:max(1)) end)
  survives("an index", function(y) return y[{ { 2, 3 } }] end)
  survives("a mask", function(y) return y[y:gt(0)] end)
  survives("positions", function(y) return y[moon.tensor({ 1, 2 }, { dtype = "int64" })] end)
  survives("a cast", function(y) return y:to("float32") end)
  survives("a metamethod", function(y) return -(1 - y) end)
  survives("an operator in place", function(y)
    local z = moon.zeros(4, { dtype = "float64" })
    z:add_(y)
    return z
  end)
  survives("an assignment", function(y)
    local z = moon.zeros(4, { dtype = "float64" })
    z[{ { 1, 4 } }] = y
    return z
  end)
  survives("another function", function(y) return Exp(y) end)
  survives("a walk on the tape", function(y)
    return moon.grad((y * y):sum(), y, { create_graph = true })
  end)

  it("is not carried by what has no history", function()
    local weak = setmetatable({}, { __mode = "v" })
    local x = leaf(1, 2)
    local y
    do
      local Held = class(function(ctx, t)
        ctx.mark = {}
        weak.mark = ctx.mark
        return t * 2
      end, function(_, g) return g end)
      y = Held(x):detach() * 2
    end
    for _ = 1, 3 do collectgarbage() end
    assert.is_nil(weak.mark)
    assert.equal(4, y[1])
  end)
end)
