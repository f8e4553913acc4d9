-- Checkpoints: the same bits as without, whatever fn reads and however checkpoints lie in each
-- other; random numbers and running statistics; less memory; what is refused.
local moon = require "moonlet"
local child = require "spec.support.child"
local faults = require "spec.support.faults"
local gradcheck = require "spec.support.gradcheck"
local naive = require "spec.support.naive"

local nn = moon.nn
local checkpoint = moon.checkpoint
local unpack = table.unpack or unpack

local leaf = naive.leaf

local function straight(fn, ...) return fn(...) end

local function same_bits(a, b) return a:eq(b):all():item() end

describe("a checkpoint", function()
  local w = leaf(0.5, 0.2, 0.1)
  local function f(a) return (a * w):sin() * a + a * a end

  -- loss(run) builds the same loss with run = checkpoint and without.
  local function same(name, loss)
    it("gives the same bits: " .. name, function()
      local grads = {}
      for i, run in ipairs { checkpoint, straight } do
        local x = leaf(1, 2, 3)
        w.grad = nil
        local value = loss(run, x)
        value:backward()
        grads[i] = { value, x.grad, w.grad or moon.zeros(3, { dtype = "float64" }) }
      end
      for k = 1, 3 do assert.is_true(same_bits(grads[1][k], grads[2][k]), "number " .. k) end
    end)
  end

  same("a function of an argument and a closure", function(run, x) return run(f, x):sum() end)
  same("one after the other, beside other uses of the argument", function(run, x)
    return (run(f, run(f, x)) + x * 2 + run(f, x) + x:exp()):sum()
  end)
  same("results of the tape in a closure, used by two and by the rest", function(run, x)
    local h = x:exp() * w
    return (run(function(a) return a * h end, x) + run(function(a) return (a + h):sin() end, w)
      + h):sum()
  end)
  same("results of the tape in a closure, used nowhere else", function(run, x)
    local h = x:exp() * w
    return (run(function(a) return a * h end, x) + run(function(a) return a + h end, w)):sum()
  end)
  same("one in another", function(run, x)
    return run(function(a)
      return run(function(b) return run(f, b) * a end, a * 2) + a
    end, x):sum()
  end)
  same("several results and other values", function(run, x)
    local product, scale, sum, none = run(function(a, s) return a * w, s, a + w, nil end, x, 3)
    assert.is_nil(none)
    return (product * sum * scale):sum()
  end)
  same("a result that is not used", function(run, x)
    local product = run(function(a) return a * w, a + w end, x)
    return product:sum()
  end)
  same("no argument at all", function(run, x)
    return run(function() return (x * w):sum() end)
  end)
  same("an argument returned as it is", function(run, x)
    return (run(function(a) return a end, x) * w):sum()
  end)
  same("a leaf returned from a closure", function(run, x)
    return (run(function() return x end) * w):sum()
  end)
  same("a function with a backward in Lua", function(run, x)
    local Cube = moon.Function:extend "Cube"
    function Cube.forward(ctx, a) ctx:save(a) return a * a * a end
    function Cube.backward(ctx, g) return g * ctx:saved():square() * 3 end
    return run(function(a) return Cube(a * w) end, x):sum()
  end)
  same("a hook inside", function(run, x)
    return run(function(a)
      local y = a * w
      if y.requires_grad then y:register_hook(function(g) return g * 2 end) end
      return y:sin()
    end, x):sum()
  end)

  it("agrees with differences, to the second order", function()
    local x = naive.random { 3 }
    gradcheck.check(function(a) return checkpoint(f, a) end, { x })
    gradcheck.second(function(a) return checkpoint(f, a) end, { x })
  end)

  it("lets moon.grad through, also to what only fn reads", function()
    local x, grads = leaf(1, 2, 3), {}
    for i, run in ipairs { checkpoint, straight } do
      local h = x * 2
      grads[i] = moon.grad(run(f, h):sum(), { x, h, w })
    end
    for k = 1, 3 do assert.is_true(same_bits(grads[1][k], grads[2][k]), "input " .. k) end
    naive.fails("grad: input 1 was not used for the output", moon.grad, checkpoint(f, x):sum(),
      leaf(1))
    assert.is_nil(moon.grad(checkpoint(f, x):sum(), leaf(1), { allow_unused = true }))
  end)

  it("can be gone over twice where the graph is retained", function()
    local x = leaf(1, 2, 3)
    local y = checkpoint(f, x):sum()
    y:backward(nil, { retain_graph = true })
    local once = x.grad:clone()
    y:backward()
    naive.close(once * 2, x.grad)
    naive.fails("backward: the tape of sum was already used and freed", y.backward, y)
  end)

  it("is on the tape where something in it needs a gradient, and only then", function()
    local x = moon.ones(3, { dtype = "float64" })
    assert.is_true(checkpoint(f, x).requires_grad)
    assert.equal("checkpoint", checkpoint(f, x).grad_fn)
    assert.is_false(checkpoint(function(a) return a * 2 end, x).requires_grad)
    assert.is_false(moon.no_grad(function() return checkpoint(f, leaf(1, 2, 3)) end).requires_grad)
  end)

  it("takes a module, and runs what it runs again on the same arguments", function()
    local layer, x = nn.Linear(3, 2), moon.ones(1, 3)
    checkpoint(layer, x):sum():backward()
    assert.same({ { 1, 1, 1 }, { 1, 1, 1 } }, layer.weight.grad:totable())
    local y = leaf(1, 2, 3)
    local loss = checkpoint(function(a) return a * a end, y * 1):sum()
    assert.is_nil(y.grad)
    loss:backward()
    assert.same({ 2, 4, 6 }, y.grad:totable())
    local z = y:detach():clone()
    loss = checkpoint(function(a) return a * w end, z):sum()
    z:zero_()
    naive.fails("backward: checkpoint needs its input, but zero_ changed it in place",
      loss.backward, loss)
  end)

  it("draws the same random numbers, and moves the stream on only once", function()
    local grads, states = {}, {}
    for i, run in ipairs { checkpoint, straight } do
      moon.manual_seed(5)
      local x = leaf(1, 2, 3)
      local y = run(function(a)
        return moon.dropout(a * w, 0.5, true) + moon.rand(3):double() * a
      end, x)
      local after = moon.rand(2)
      y:sum():backward()
      grads[i], states[i] = x.grad, moon.get_rng_state()
      assert.is_true(after:lt(1):all():item())
    end
    assert.is_true(same_bits(grads[1], grads[2]))
    assert.is_true(same_bits(states[1], states[2]))
  end)

  it("moves running statistics once", function()
    local results = {}
    for i, run in ipairs { checkpoint, straight } do
      moon.manual_seed(2)
      local norm, spectral = nn.BatchNorm1d(4), nn.spectral_norm(nn.Linear(4, 4))
      local instance = nn.InstanceNorm1d(4, { track_running_stats = true, affine = true })
      local x = moon.randn(6, 4, { requires_grad = true })
      local y = run(function(a)
        return instance(spectral(norm(a)):reshape(6, 4, 1):expand(6, 4, 3) * a:reshape(6, 4, 1)
          :expand(6, 4, 3):cumsum(3))
      end, x)
      y:square():sum():backward()
      local all = { x.grad }
      for _, module in ipairs { norm, spectral, instance } do
        for _, p in ipairs(module:parameters()) do all[#all + 1] = p.grad end
        for _, buffer in module:named_buffers() do all[#all + 1] = buffer end
      end
      results[i] = all
    end
    assert.equal(#results[1], #results[2])
    assert.is_true(#results[1] > 9)
    for k, tensor in ipairs(results[1]) do
      assert.is_true(same_bits(tensor, results[2][k]), "number " .. k)
    end
  end)

  it("says when it runs again", function()
    local seen = {}
    local x = leaf(1)
    checkpoint(function(a)
      seen[#seen + 1] = moon.is_recomputing()
      return a * 2
    end, x):backward()
    assert.same({ false, true }, seen)
    assert.is_false(moon.is_recomputing())
  end)

  it("passes errors on, from the first run and from the second", function()
    local x, runs = leaf(1), 0
    naive.fails("at once", checkpoint, function() error "at once" end, x)
    assert.is_true(moon.is_grad_enabled())
    local state = moon.get_rng_state()
    local y = checkpoint(function(a)
      runs = runs + 1
      if runs == 2 then error "at last" end
      return a * 2
    end, x)
    naive.fails("backward of checkpoint", y.backward, y)
    runs = 1
    naive.fails("at last", y.backward, y)
    assert.is_false(moon.is_recomputing())
    assert.is_true(same_bits(state, moon.get_rng_state()))
    y:backward()
    assert.equal(2, x.grad:item())
  end)

  it("notices when fn gives something else the second time", function()
    local x = leaf(1, 2)
    local count = 0
    local y = checkpoint(function(a)
      count = count + 1
      return count == 1 and a * 2 or (a * 2):sum()
    end, x)
    naive.fails("the function gave another result 1 when it was run again", function()
      y:sum():backward()
    end)
    naive.fails("checkpoint: expected a function or a module, got nil", checkpoint)
    naive.fails("checkpoint: expected a function or a module, got table", checkpoint, {})
  end)

  it("leaves nothing behind where an allocation fails", function()
    local x = leaf(1, 2, 3)
    faults.every_allocation(function()
      moon.grad(checkpoint(f, x):sum(), { x, w })
    end)
  end)

  it("works in a scope, the backward in another", function()
    local x = leaf(1, 2, 3)
    local loss = moon.scope(function() return checkpoint(f, x):sum() end)
    moon.scope(function() loss:backward() end)
    local grad = x.grad
    x.grad = nil
    f(x):sum():backward()
    assert.is_true(same_bits(grad, x.grad))
  end)
end)

describe("checkpoint_sequential", function()
  local function build(count)
    moon.manual_seed(1)
    local layers = {}
    for _ = 1, count do
      layers[#layers + 1] = nn.Linear(6, 6)
      layers[#layers + 1] = nn.BatchNorm1d(6)
      layers[#layers + 1] = nn.Tanh()
      layers[#layers + 1] = nn.Dropout(0.3)
    end
    return nn.Sequential(unpack(layers))
  end

  local function gradients(segments)
    local net = build(3)
    moon.manual_seed(9)
    local x = moon.randn(8, 6)
    local y = segments and moon.checkpoint_sequential(net, segments, x) or net(x)
    y:square():mean():backward()
    local list = {}
    for _, p in ipairs(net:parameters()) do list[#list + 1] = p.grad end
    for _, buffer in net:named_buffers() do list[#list + 1] = buffer end
    return list
  end

  it("gives the same bits for any number of segments", function()
    local expected = gradients()
    for _, segments in ipairs { 1, 2, 3, 5, 12 } do
      for k, tensor in ipairs(gradients(segments)) do
        assert.is_true(same_bits(tensor, expected[k]), segments .. " segments, number " .. k)
      end
    end
  end)

  it("takes a list of functions, and several arguments for the first", function()
    local x = leaf(2)
    local y = moon.checkpoint_sequential({ moon.mul, moon.exp, function(t) return t * 2 end }, 3,
      x, x)
    y:backward()
    assert.is_near(2 * math.exp(4) * 4, x.grad:item(), 1e-9)
  end)

  it("refuses what is no chain and segments that do not fit", function()
    naive.fails("checkpoint_sequential: expected a Sequential or a list of layers, got 3",
      moon.checkpoint_sequential, 3, 1, leaf(1))
    naive.fails("checkpoint_sequential: 5 segments are more than the 4 layers",
      moon.checkpoint_sequential, build(1), 5, leaf(1))
    naive.fails("checkpoint_sequential: segments must be a whole number from 1, not 0",
      moon.checkpoint_sequential, build(1), 0, leaf(1))
  end)
end)

describe("the memory of a deep net", function()
  local prologue = [[
    local moon = require "moonlet"
    local nn = moon.nn
    local layers = {}
    for _ = 1, 48 do
      layers[#layers + 1] = nn.Linear(64, 64)
      layers[#layers + 1] = nn.SiLU()
      -- what is garbage goes at once, or waiting garbage would be measured
      layers[#layers + 1] = nn.Lambda(function(x) collectgarbage() return x end)
    end
    local net = nn.Sequential((table.unpack or unpack)(layers))
    local x = moon.randn(4096, 64)   -- 1 MiB, as are 96 results, all of them saved
  ]]

  local function peak(call)
    local output, well = child.run(prologue .. call .. [[:sum():backward()
      print(moon.memory().peak / 2 ^ 20)]])
    assert.is_true(well, output)
    return tonumber(output:match("(%S+)%s*$"))
  end

  it("is less than half in seven segments", function()
    local plain, less = peak "net(x)", peak "moon.checkpoint_sequential(net, 7, x)"
    assert.is_true(plain > 96, plain .. " MiB")
    assert.is_true(less < plain / 2, less .. " of " .. plain .. " MiB")
  end)
end)

describe("a graph with checkpoints that is dropped", function()
  it("is garbage", function()
    if os.getenv("MOONLET_SANITIZER") then pending("a sanitizer keeps freed memory") return end
    child.stays_flat [[
      local w = moon.ones(8, { requires_grad = true })
      function graph()
        local y
        y = moon.checkpoint(function(a)
          local z = y
          return a * w
        end, x * 2)
      end]]
  end)
end)
