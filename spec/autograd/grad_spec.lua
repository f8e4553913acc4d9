-- moon.grad: gradients along chosen paths, of any order, and the sentences for what has none.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local naive = require "spec.support.naive"

local leaf = naive.leaf

local function same(expected, tensor) naive.close(tensor, expected, 1e-12) end

describe("moon.grad", function()
  it("gives the gradient of one tensor, or a list for a list, and leaves .grad alone", function()
    local x, w = leaf(1, 2, 3), leaf(4, 5, 6)
    local loss = (x * x * w):sum()
    same({ 8, 20, 36 }, moon.grad(loss, x, { retain_graph = true }))
    local grads = moon.grad({ loss }, { w, x })
    assert.equal(2, #grads)
    same({ 1, 4, 9 }, grads[1])
    same({ 8, 20, 36 }, grads[2])
    assert.is_nil(x.grad)
    assert.is_nil(w.grad)
    assert.is_false(grads[1].requires_grad)
  end)

  it("goes to results of operators too, and to several of one", function()
    local x = leaf(1, 2)
    local y = x * 3
    local values, _ = (y * y):view(1, 2):max(2)
    local parts = y:split(1)
    local loss = values:sum() + parts[1]:sum() * 10
    local grads = moon.grad(loss, { y, parts[1], values, x })
    same({ 10, 12 }, grads[1])
    same({ 10 }, grads[2])
    same({ 1 }, grads[3])
    same({ 30, 36 }, grads[4])
  end)

  it("of a tensor by itself is what comes in", function()
    local x = leaf(1, 2)
    local y = x * 1
    local seed = moon.tensor({ 5, 7 }, { dtype = "float64" })
    same({ 5, 7 }, moon.grad(x, x, { grad_outputs = seed }))
    same({ 5, 7 }, moon.grad(y, y, { grad_outputs = seed }))
    local twice = moon.grad(y, { x, x }, { grad_outputs = seed })
    same({ 5, 7 }, twice[1])
    same({ 5, 7 }, twice[2])
  end)

  it("adds up outputs, each with its gradient", function()
    local x = leaf(1, 2)
    local a, b = x * 2, (x * x):sum()
    local seed = moon.tensor({ 1, 10 }, { dtype = "float64" })
    same({ 4, 24 }, moon.grad({ a, b }, x, { grad_outputs = { seed }, retain_graph = true }))
    same({ 8, 32 }, moon.grad({ b, a, b, b }, x, { grad_outputs = { false, seed } }))
  end)

  it("runs and frees only what leads to the inputs", function()
    local x, y = leaf(1, 2), leaf(3, 4)
    local a, b = x:exp(), y:exp()
    local loss = (a * b):sum()
    moon.grad(loss, a)
    naive.fails("grad: the tape of sum was already used and freed by an earlier backward; give " ..
      "that one {retain_graph = true} to use it twice", moon.grad, loss, y)
    b:sum():backward()
    same(y:exp(), y.grad)
    a:sum():backward()
    same(x:exp(), x.grad)
  end)

  it("gives zeros where nothing arrives, and nil or an error where there is no way", function()
    local x, other = leaf(1.5, 2.5), leaf(1)
    same({ 0, 0 }, moon.grad(x:floor():sum(), x))
    local loss = (x * 2):sum()
    naive.fails("grad: input 2 was not used for the output; give {allow_unused = true} to get " ..
      "nil for it", moon.grad, loss, { x, other })
    local grads = moon.grad(loss, { other, x }, { allow_unused = true })
    assert.is_nil(grads[1])
    same({ 2, 2 }, grads[2])
    assert.is_nil(moon.grad(x:sum(), other, { allow_unused = true }))
  end)

  it("frees nothing when an input is not reached", function()
    local x = leaf(1, 2)
    local loss = x:exp():sum()
    assert.is_false(pcall(moon.grad, loss, { x, leaf(1) }))
    same(x:exp(), moon.grad(loss, x))
  end)

  it("works inside of no_grad for what was recorded before", function()
    local x = leaf(3)
    local y = x * x * x
    moon.no_grad(function()
      local g = moon.grad(y, x, { create_graph = true })
      assert.is_false(moon.is_grad_enabled())
      same({ 27 }, g)
      same({ 18 }, moon.grad(g, x))
    end)
  end)

  it("sums to the shape of what was broadcast, and casts to its type", function()
    local w = moon.ones(1, 3, { requires_grad = true })
    local y = w:double():expand(2, 2, 3) * 2
    local g = moon.grad(y:sum(), w, { create_graph = true })
    assert.same({ 1, 3 }, g:size())
    assert.equal("float32", g.dtype)
    same({ { 8, 8, 8 } }, g:double())
    local x = leaf(1, 2)
    local z = x:view(2, 1) * moon.tensor({ 1, 2, 3 }, { dtype = "float64" }) * x:view(2, 1)
    local first = moon.grad(z:sum(), x, { create_graph = true })
    same({ 12, 24 }, first)
    same({ 12, 12 }, moon.grad(first:sum(), x))
  end)

  it("says what is wrong with its arguments", function()
    local x, y = leaf(1, 2), leaf(3)
    local loss = (x * y):sum()
    naive.fails("grad: outputs must be a tensor or a list of tensors, got nil", moon.grad)
    naive.fails("grad: outputs must be a tensor or a list of tensors, got number", moon.grad, 3, x)
    naive.fails("grad: the list of inputs is empty", moon.grad, loss, {})
    naive.fails("grad: the list of outputs is empty", moon.grad, {}, x)
    naive.fails("grad: member 2 of inputs must be a tensor, got boolean", moon.grad, loss,
      { x, false })
    naive.fails("grad: expected a table of options, got boolean", moon.grad, loss, x, true)
    naive.fails('grad: there is no option "retain"; the options are grad_outputs, retain_graph, ' ..
      "create_graph, allow_unused", moon.grad, loss, x, { retain = true })
    naive.fails('grad: there is no option "number"', moon.grad, loss, x, { true })
    naive.fails("grad: create_graph must be true or false, got number", moon.grad, loss, x,
      { create_graph = 1 })
    naive.fails("grad: input 2 requires no gradient; call requires_grad_() on it before it is used",
      moon.grad, loss, { x, moon.ones(1) })
    naive.fails("grad: this tensor requires no gradient; was it calculated from parameters, " ..
      "outside moon.no_grad? (output 2)", moon.grad, { loss, moon.ones(1) }, x)
    naive.fails("grad: a tensor of 2 is no single loss", moon.grad, x * 2, x)
    local ones = moon.ones(2, { dtype = "float64" })
    naive.fails("grad: gradient must be a float64 tensor of 2 like the tensor, got float64 of 3",
      moon.grad, x * 2, x, { grad_outputs = moon.ones(3, { dtype = "float64" }) })
    naive.fails("grad: gradient must be a float64 tensor of 2 like the tensor, got float32 of 2",
      moon.grad, x * 2, x, { grad_outputs = moon.ones(2) })
    naive.fails("grad: there are 2 grad_outputs for 1 outputs", moon.grad, x * 2, x,
      { grad_outputs = { ones, ones } })
    naive.fails("grad: member 1 of grad_outputs must be a tensor, got string", moon.grad, x * 2, x,
      { grad_outputs = { "1" } })
    same({ 3, 3 }, moon.grad(loss, x))
  end)

  it("takes an output that lies on the way of another", function()
    local x = leaf(1, 2)
    local y = x * x
    local z = (y * 3):sum()
    local grads = moon.grad({ y, z }, { x, y }, { grad_outputs = { y:detach() * 0 + 1 } })
    same({ 8, 16 }, grads[1])
    same({ 4, 4 }, grads[2])
  end)

  it("differentiates by the gradient that comes in", function()
    local x = leaf(1, 2)
    local seed = leaf(3, 4)
    local g = moon.grad(x:exp(), x, { grad_outputs = seed, create_graph = true })
    same(x:detach():exp(), moon.grad(g:sum(), seed))
  end)

  it("inside of a hook goes along a tape of its own, and no other", function()
    local x = leaf(1, 2)
    local y = x * x
    local z, seen = y * 2, {}
    z:register_hook(function(gradient)
      local t = leaf(5)
      seen.own = moon.grad(moon.enable_grad(function() return t * t end), t)
      seen.ok, seen.message = pcall(moon.grad, y, x, { grad_outputs = gradient })
    end)
    z:sum():backward()
    same({ 10 }, seen.own)
    assert.is_false(seen.ok)
    assert.matches("grad: a backward is going through the tape of mul already; one inside of " ..
      "another needs a tape of its own", seen.message, 1, true)
    same({ 4, 8 }, x.grad)
  end)

  it("sees what hooks make of a gradient", function()
    local x = leaf(1, 2)
    local y = x * x
    y:register_hook(function(gradient) return gradient * x end)
    local g = moon.grad(y:sum(), x, { create_graph = true })
    same({ 2, 8 }, g)
    same({ 4, 8 }, moon.grad(g:sum(), x))
  end)

  it("notices what was changed in place since", function()
    local x = leaf(1, 2)
    local y = x * 2
    local z = (y * y):sum()
    y:add_(1)
    naive.fails("backward: mul needs its x, but add_ changed it in place after the call",
      moon.grad, z, x, { create_graph = true })
    naive.fails("backward: mul needs its x, but add_ changed it in place after the call",
      moon.grad, z, x)
  end)

  it("leaves nothing behind when any allocation fails", function()
    local x, w = naive.random { 3, 4 }, naive.random { 4, 2 }
    x.requires_grad, w.requires_grad = true, true
    faults.every_allocation(function()
      local y = moon.cat({ x:matmul(w):tanh(), x:matmul(w) }, 1):mean(1)
      local g = moon.grad((y * y):sum(), { x, w }, { create_graph = true })
      moon.grad((g[1] * g[1]):sum() + g[2]:sum(), { x, w })
    end)
    faults.every_allocation(function()
      local y = moon.batch_norm(x, { training = true })
      local g = moon.grad(moon.cross_entropy(y, moon.tensor({ 1, 4, 2 }, { dtype = "int64" })), x,
        { create_graph = true })
      moon.grad(g:square():sum(), x)
    end)
  end)

  it("leaves memory as it was, graphs of graphs too", function()
    local function live()
      collectgarbage()
      collectgarbage()
      return moon.memory().live
    end
    local x = naive.random { 10 }
    x.requires_grad = true
    local function once()
      local y = (x:exp() * x:sin()):sum()
      local g = moon.grad(y, x, { create_graph = true })
      local h = moon.grad(g:sum(), x, { create_graph = true })
      return moon.grad(h:sum(), x):sum():item()
    end
    once()
    local before = live()
    for _ = 1, 50 do once() end
    assert.equal(before, live())
  end)
end)

describe("retain_grad", function()
  it("keeps the gradient of a result, adding up", function()
    local x = leaf(1, 2)
    local y = x * 3
    assert.equal(y, y:retain_grad())
    y:retain_grad()
    local z = (y * y):sum()
    assert.is_nil(y.grad)
    z:backward { retain_graph = true }
    same({ 6, 12 }, y.grad)
    z:backward()
    same({ 12, 24 }, y.grad)
    same({ 36, 72 }, x.grad)
    y.grad = nil
    assert.is_nil(y.grad)
  end)

  it("does nothing to a leaf and needs a tensor on the tape", function()
    local x = leaf(1)
    local y = x:retain_grad() * 2
    y:backward()
    same({ 2 }, x.grad)
    naive.fails("retain_grad: this tensor requires no gradient, so there is none to keep",
      function() moon.ones(1):retain_grad() end)
    naive.fails("retain_grad: x must be a tensor, got nothing", x.retain_grad)
  end)

  it("follows the tensor through a change in place", function()
    local x = leaf(1, 2)
    local y = x * 3
    y:retain_grad()
    y:add_(1)
    y:mul(2):sum():backward()
    same({ 2, 2 }, y.grad)
  end)

  it("does not make the tape hold itself", function()
    collectgarbage()
    collectgarbage()
    local before = moon.memory().live
    do
      local x = leaf(1, 2)
      local y = (x * 3):retain_grad()
      y:sum():backward()
    end
    collectgarbage()
    collectgarbage()
    assert.equal(before, moon.memory().live)
  end)
end)

describe("backward with create_graph", function()
  it("gives leaves gradients that can be differentiated", function()
    local x = leaf(2)
    local y = x * x * x
    y:backward { create_graph = true }
    same({ 12 }, x.grad)
    assert.is_true(x.grad.requires_grad)
    local g = x.grad
    x.grad = nil
    g:backward()
    same({ 12 }, x.grad)
  end)

  it("adds without changing what it gave before, and keeps the tape", function()
    local x = leaf(2)
    local y, seed = x * x, moon.ones(1, { dtype = "float64" })
    y:backward(seed, { create_graph = true })
    local first = x.grad
    y:backward(seed, { create_graph = true })
    same({ 4 }, first)
    same({ 8 }, x.grad)
    x.grad = nil
    x:backward(seed, { create_graph = true })
    x:backward(seed)
    same({ 1 }, seed)
    y:backward(nil, { create_graph = true, retain_graph = false })
    naive.fails("already used and freed", y.backward, y)
    x.grad = nil
  end)
end)

describe("derivatives of higher order", function()
  it("of a polynomial are those of the book", function()
    local x = leaf(2)
    local d = 3 * x ^ 5 - x ^ 3 + 4 * x
    local expected = { 3 * 5 * 16 - 3 * 4 + 4, 3 * 20 * 8 - 6 * 2, 3 * 60 * 4 - 6, 3 * 120 * 2,
                       360 }
    for order = 1, 5 do
      d = moon.grad(d, x, { create_graph = true })
      same({ expected[order] }, d)
    end
    same({ 0 }, moon.grad(d, x, { create_graph = true }))
  end)

  it("of sine go round", function()
    local x = leaf(0.3, 1.2)
    local d = x:sin()
    for _ = 1, 8 do d = moon.grad(d:sum(), x, { create_graph = true }) end
    naive.close(d, x:detach():sin(), 1e-13)
  end)

  it("give a gradient penalty that trains (Gulrajani et al. 2017)", function()
    moon.manual_seed(1)
    local nn = moon.nn
    local net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2),
      nn.Flatten(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 1))
    for _, p in ipairs(net:parameters()) do assert.is_true(p.requires_grad) end
    local x = moon.randn(4, 1, 6, 6):requires_grad_()
    local function penalty()
      local slope = moon.grad(net(x):sum(), x, { create_graph = true })
      return (slope:flatten(2):norm(2, 2) - 1):square():mean()
    end
    local opt = moon.optim.SGD(net:parameters(), { lr = 0.05 })
    local first, last
    for _ = 1, 20 do
      local loss = penalty()
      first = first or loss:item()
      last = loss:item()
      opt:zero_grad()
      loss:backward()
      opt:step()
    end
    assert.is_true(last < 0.8 * first, ("%g is not below %g"):format(last, first))
  end)

  it("give the penalty's own gradient, as differences do", function()
    local gradcheck = require "spec.support.gradcheck"
    local x = naive.random { 3, 1, 4, 4 }
    gradcheck.check(function(w, v)
      return moon.enable_grad(function()
        local input = x:detach():requires_grad_()
        local y = moon.batch_norm(moon.conv2d(input, w), { training = true }):tanh()
        local loss = (y:avg_pool2d(2):flatten(2):matmul(v)):square():sum()
        local slope = moon.grad(loss, input, { create_graph = true })
        return (slope:square():sum() + 1):sqrt()
      end)
    end, { naive.random({ 2, 1, 3, 3 }, { seed = 5 }), naive.random({ 2, 2 }, { seed = 6 }) },
      { tolerance = 1e-5 })
  end)
end)
