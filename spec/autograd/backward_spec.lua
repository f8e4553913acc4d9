-- The backward walk: where gradients go and how they add up, what it frees, what it refuses, and
-- how long a tape it takes.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local gradcheck = require "spec.support.gradcheck"
local naive = require "spec.support.naive"

local leaf = naive.leaf

local function backward(y, ...) y:backward(...) end

describe("backward", function()
  it("starts with one at a single element, of any number of dimensions", function()
    local x = leaf(3)
    backward(x * x)
    assert.same({ 6 }, x.grad:totable())
    x.grad = nil
    x:sum():square():backward()
    assert.same({ 6 }, x.grad:totable())
    x.grad = nil
    backward((x * x):view(1, 1, 1))
    assert.same({ 6 }, x.grad:totable())
  end)

  it("of a leaf is the gradient itself", function()
    local x = leaf(3)
    x:backward()
    x:backward(moon.tensor({ 4 }, { dtype = "float64" }))
    assert.same({ 5 }, x.grad:totable())
  end)

  it("writes an activation's gradient over what came in, where nobody holds that", function()
    local x = moon.rand(1024, 4096, { requires_grad = true })   -- 16 MiB
    local y = x:tanh():tanh():tanh():sum()
    local live = moon.memory().live
    y:backward(nil, { retain_graph = true })
    assert.is_true(moon.memory().peak - live < 1.5 * 16 * 2 ^ 20)
  end)

  it("leaves a gradient as it is that somebody holds, or that has two readers", function()
    local x, held = leaf(0.5, -0.25), nil
    local h = x * 1
    h:retain_grad()
    local t = h:tanh()
    t:retain_grad()
    t:register_hook(function(gradient) held = gradient end)
    local s = t + h:exp()
    s:backward(moon.tensor({ 3, 5 }, { dtype = "float64" }))
    assert.same({ 3, 5 }, held:totable())
    assert.same({ 3, 5 }, t.grad:totable())
    local function tanh(v) return 1 - 2 / (math.exp(2 * v) + 1) end
    naive.close(h.grad, { 3 * (1 - tanh(0.5) ^ 2) + 3 * math.exp(0.5),
                          5 * (1 - tanh(0.25) ^ 2) + 5 * math.exp(-0.25) })
    naive.close(x.grad, h.grad)
  end)

  it("adds to what an earlier one left", function()
    local x = leaf(1, 2)
    for _ = 1, 3 do (x * x):sum():backward() end
    assert.same({ 6, 12 }, x.grad:totable())
    local gathered = x.grad
    backward((x * 1):sum())
    assert.same({ 7, 13 }, gathered:totable())
    x.grad = nil
    backward((x * 1):sum())
    assert.same({ 1, 1 }, x.grad:totable())
    assert.same({ 7, 13 }, gathered:totable())
  end)

  it("adds up the branches of a diamond", function()
    gradcheck.check(function(x)
      local a = x:exp()
      local b, c = a * 2, a:sin()
      return (b * c + a):sum() * a:sum()
    end, { naive.random { 3 } })
    local x = leaf(2)
    local y = x
    for _ = 1, 20 do y = y + y end   -- 2^20 ways through it
    y:backward()
    assert.equal(2 ^ 20, x.grad:item())
  end)

  it("uses one tensor in several places of a call", function()
    gradcheck.check(function(x) return x * x end, { naive.random { 3 } })
    gradcheck.check(function(x) return moon.cat({ x, x, x * 2 }, 1) end, { naive.random { 3 } })
    gradcheck.check(function(x) return x:matmul(x) end, { naive.random { 3, 3 } })
  end)

  it("leaves branches alone that the result does not use", function()
    local x, y = leaf(1), leaf(1)
    local unused = y * 3
    local values, indices = (x:view(1, 1) * 2):max(2)
    values:sum():backward()
    assert.is_nil(y.grad)
    assert.equal(2, x.grad:item())
    assert.is_false(indices.requires_grad)
    unused:backward()
    assert.equal(3, y.grad:item())
  end)

  it("works where only one of several results is used", function()
    gradcheck.check(function(x)
      local parts = x:split(2, 1)
      return parts[2] * 3
    end, { naive.random { 5, 2 } })
    gradcheck.check(function(x)
      local _, largest = x:max(1), x:max(2)
      return largest
    end, { naive.random { 4, 3 } })
  end)

  it("sums gradients of broadcast and 0-d inputs back to their shapes", function()
    local x, b = leaf(1, 2, 3), leaf(5)
    local w = moon.tensor(2, { dtype = "float64", requires_grad = true })
    backward((x:view(3, 1):expand(3, 4) * w + b):sum())
    assert.same({ 8, 8, 8 }, x.grad:totable())
    assert.equal(24, w.grad:item())
    assert.same({}, w.grad:size())
    assert.same({ 12 }, b.grad:totable())
    assert.same({ 1 }, b.grad:size())
  end)

  it("gives each leaf a gradient that shares memory with nothing", function()
    local x, y = leaf(1, 2), leaf(3, 4)
    local seed = moon.tensor({ 1, 1 }, { dtype = "float64" })
    backward(x + y, seed)
    assert.is_false(x.grad:shares_memory(seed))
    assert.is_false(y.grad:shares_memory(seed))
    assert.is_false(x.grad:shares_memory(y.grad))
    seed:fill_(9)
    x.grad:fill_(5)
    assert.same({ 1, 1 }, y.grad:totable())
    local z = leaf(1, 2)
    z:backward(seed)
    seed:fill_(0)
    assert.same({ 9, 9 }, z.grad:totable())
    local w = moon.zeros(2, 2, { requires_grad = true })
    w:t():sum():backward()
    assert.is_true(w.grad:is_contiguous())
  end)

  it("takes a gradient of the result's shape and type", function()
    local y = leaf(1, 2) * 2
    naive.fails("backward: a tensor of 2 is no single loss; reduce it with mean() or sum(), or " ..
      "pass a gradient of its shape", y.backward, y)
    naive.fails("backward: gradient must be a float64 tensor of 2 like the tensor, got float64 " ..
      "of 3", y.backward, y, moon.ones(3, { dtype = "float64" }))
    naive.fails("backward: gradient must be a float64 tensor of 2 like the tensor, got float32 " ..
      "of 2", y.backward, y, moon.ones(2))
    naive.fails("backward: expected a gradient or {retain_graph = true}, got number",
      y.backward, y, 1)
    naive.fails('backward: there is no option "retain"; the options are retain_graph, create_graph',
      y.backward, y, { retain = true })
    naive.fails("backward: loss must be a tensor, got nothing; a method is called with a colon",
      y.backward)
    y:backward(moon.ones(2, { dtype = "float64" }))
  end)

  it("is refused where nothing requires a gradient", function()
    local sentence = "backward: this tensor requires no gradient; was it calculated from " ..
      "parameters, outside moon.no_grad?"
    naive.fails(sentence, function() moon.ones(1):backward() end)
    local x = leaf(1)
    naive.fails(sentence, function() moon.no_grad(function() return x * 2 end):backward() end)
  end)

  it("goes through a tape once, unless that is retained", function()
    local x = leaf(2)
    local y = (x * x):sin()
    y:backward(nil, { retain_graph = true })
    local first = x.grad:item()
    y:backward { retain_graph = true }
    y:backward()
    assert.is_true(math.abs(x.grad:item() - 3 * first) < 1e-12)
    naive.fails("backward: the tape of sin was already used and freed by an earlier backward; " ..
      "give that one {retain_graph = true} to use it twice", y.backward, y)
    local shared = x * 3
    shared:exp():backward()
    naive.fails("backward: the tape of mul was already used and freed",
      function() shared:log():backward() end)
    assert.equal("sin", y.grad_fn)
  end)

  it("frees what the tape saved as it goes", function()
    local x = moon.ones(1000, { requires_grad = true })
    collectgarbage()
    collectgarbage()
    local before = moon.memory().live
    local y = x
    for _ = 1, 10 do y = (y * 1.5):exp():clamp(0, 1) end
    y = y:sum()
    collectgarbage()
    collectgarbage()
    assert.is_true(moon.memory().live > before + 40000)
    y:backward()
    collectgarbage()
    assert.is_true(moon.memory().live < before + 8000)
    assert.is_true(y.requires_grad)
  end)

  it("leaves nothing behind when any allocation fails", function()
    local x, w = naive.random { 3, 4 }, naive.random { 4, 2 }
    x.requires_grad, w.requires_grad = true, true
    faults.every_allocation(function()
      local y = x:matmul(w):relu()
      local z = moon.cat({ y, y:exp() }, 1) + 1
      z:mean():backward()
      x.grad, w.grad = nil, nil
    end)
    -- A pass that failed half-way may have left part of the gradients.
    x.grad, w.grad = nil, nil
  end)
end)

local million = os.getenv("MOONLET_SANITIZER") and 20000 or 1000000

-- A chain of operators forward and back, and one that is dropped without backward.
local function long_chain(length)
  local x = leaf(1)
  local y = x
  for _ = 1, length do y = y + 0 end
  y:backward()
  y = x
  for _ = 1, length / 2 do y = y:neg() end
  y = nil
  collectgarbage()
  collectgarbage()
  return x.grad:item(), y
end

describe("a chain of a million operators", function()
  it("goes forward, back and away", function()
    collectgarbage()
    local before = moon.memory().live
    assert.equal(1, (long_chain(million)))
    collectgarbage()
    assert.is_true(moon.memory().live <= before + 64)
  end)

  it("does so inside a coroutine", function()
    local grad = coroutine.wrap(function() return (long_chain(million / 5)) end)()
    assert.equal(1, grad)
    local second = coroutine.wrap(function()
      local x = leaf(1)
      local y = x
      for _ = 1, million / 50 do y = y * x end
      return moon.grad(moon.grad(y, x, { create_graph = true }), x):item()
    end)()
    assert.equal((million / 50 + 1) * (million / 50), second)
  end)
end)

describe("an interrupt", function()
  after_each(function() moon.clear_interrupt() end)

  it("stops operators and backward with an error, and everything can be used afterwards", function()
    local x = leaf(1, 2)
    local y = x * x
    local z = y:exp():sum()
    moon.interrupt()
    assert.is_true(moon.interrupted())
    naive.fails("mul: interrupted", moon.mul, x, x)
    naive.fails("interrupted", z.backward, z)
    naive.fails("interrupted", function() x:detach()[1] = 3 end)
    moon.clear_interrupt()
    assert.is_true(moon.is_grad_enabled())
    x.grad = nil
    backward((x * x):sum())
    assert.same({ 2, 4 }, x.grad:totable())
  end)

  it("stops a backward under way", function()
    -- A hook that interrupts after so many instructions cannot run inside of backward; a chain long
    -- enough, interrupted from a worker, can.
    local worker = moon.worker_new("spec.support.interrupter", "run", { seconds = 0.005 })
    local ok, message = true, nil
    for _ = 1, 50 do
      local x = leaf(1)
      local y = x
      ok, message = pcall(function()
        for _ = 1, 20000 do y = y * 1 end
        y:backward()
      end)
      if not ok then break end
    end
    worker:close()
    moon.clear_interrupt()
    assert.is_false(ok)
    assert.matches("interrupted", message)
    local x = leaf(5)
    backward(x * x)
    assert.equal(10, x.grad:item())
  end)
end)
