-- Hooks on gradients and on modules: when they are called and with what, what they may give back,
-- what they store, how they end, and that they keep nothing alive.
local moon = require "moonlet"
local child = require "spec.support.child"
local faults = require "spec.support.faults"
local naive = require "spec.support.naive"

local nn = moon.nn

local leaf = naive.leaf

local function collect()
  collectgarbage()
  collectgarbage()
end

describe("a hook on a tensor", function()
  it("sees the gradient of a leaf once, when it is whole", function()
    local x, calls = leaf(1, 2), 0
    x:register_hook(function(g)
      calls = calls + 1
      assert.same({ 5, 5 }, g:totable())
    end)
    ;(x * 2 + x * 3):sum():backward()
    assert.equal(1, calls)
    assert.same({ 5, 5 }, x.grad:totable())
    ;(x * 5):sum():backward()
    assert.equal(2, calls)
    assert.same({ 10, 10 }, x.grad:totable())
  end)

  it("sees the gradient of a result before that goes on", function()
    local x = leaf(1, 2)
    local y = x * 2
    local seen
    y:register_hook(function(g)
      seen = g
      return g * 10
    end)
    ;(y * 3 + y):sum():backward()
    assert.same({ 4, 4 }, seen:totable())
    assert.same({ 80, 80 }, x.grad:totable())
  end)

  it("sees the gradient of the root", function()
    local x = leaf(2)
    local y = x * x
    y:register_hook(function(g) return g * 3 end)
    y:backward()
    assert.equal(12, x.grad:item())
    local z = leaf(1)
    z:register_hook(function(g) return g * 7 end)
    z:backward()
    assert.equal(7, z.grad:item())
  end)

  it("belongs to one of several results", function()
    local x = leaf(1, 2, 3, 4)
    local parts = x:split(2, 1)
    parts[2]:register_hook(function(g) return g * 0 end)
    ;(parts[1] + parts[2]):sum():backward()
    assert.same({ 1, 1, 0, 0 }, x.grad:totable())
  end)

  it("works for moon.grad too, on what it asks for and on the way", function()
    local x = leaf(3)
    local y = x * 2
    x:register_hook(function(g) return g + 1 end)
    y:register_hook(function(g) return g * 10 end)
    local gx, gy = (table.unpack or unpack)(moon.grad(y * y, { x, y }))
    assert.equal(120, gy:item())
    assert.equal(241, gx:item())
    assert.is_nil(x.grad)
  end)

  it("is recorded under create_graph", function()
    local x = leaf(2)
    local y = x * 1
    local hook = y:register_hook(function(g) return g * g end)
    local g = moon.grad(y * y * y, x, { create_graph = true })   -- (3 x^2)^2
    assert.equal(144, g:item())
    hook:remove()   -- or it would square the gradient of g too
    assert.is_near(36 * 8, moon.grad(g, x):item(), 1e-9)
  end)

  it("is called in the order of registering, each with what the one before gave", function()
    local x, order = leaf(1), {}
    for i = 1, 3 do
      x:register_hook(function(g)
        order[#order + 1] = g:item()
        if i ~= 2 then return g * 2 end
      end)
    end
    x:backward()
    assert.same({ 1, 2, 2 }, order)
    assert.equal(4, x.grad:item())
  end)

  it("ends with remove, also from inside", function()
    local x, calls = leaf(1), 0
    local hook, other
    hook = x:register_hook(function()
      calls = calls + 1
      hook:remove()
    end)
    other = x:register_hook(function() calls = calls + 10 end)
    x:backward()
    x:backward()
    assert.equal(21, calls)
    other:remove()
    other:remove()
    x:backward()
    assert.equal(21, calls)
  end)

  it("gives a tensor like the gradient, or nothing", function()
    local function hooked(fn)
      return function()
        local y = leaf(1, 2) * 2
        y:register_hook(fn)
        y:sum():backward()
      end
    end
    naive.fails("a hook returned a number; it must be a tensor or nil",
      hooked(function() return 3 end))
    naive.fails("a hook's gradient must be float64 of 2 like the one it got, not float64 of 0-d",
      hooked(function(g) return g:sum() end))
    naive.fails("not float32 of 2", hooked(function() return moon.ones(2) end))
    naive.fails("a hook changed the gradient in place", function()
      local y = leaf(1, 2) * 2
      y:register_hook(function(g) g:zero_() end)
      ;(y * moon.ones(2):double()):backward(moon.ones(2, { dtype = "float64" }))
    end)
    naive.fails("register_hook: this tensor requires no gradient", function()
      moon.ones(1):register_hook(print)
    end)
    naive.fails("register_hook: expected a function, got number", function()
      leaf(1):register_hook(3)
    end)
  end)

  it("that raises ends the walk with its message, and all goes on", function()
    local x = leaf(1)
    local hook = x:register_hook(function() error "not today" end)
    naive.fails("not today", function() (x * 2):backward() end)
    hook:remove()
    x.grad = nil
    ;(x * 2):backward()
    assert.equal(2, x.grad:item())
  end)

  it("may go over another tape, but not over the one it is called from", function()
    local x = leaf(2)
    local y = x * 3
    y:register_hook(function() moon.enable_grad(function() (x * 5):backward() end) end)
    y:backward()
    assert.equal(8, x.grad:item())
    local z = x * 3
    local last = z * 2
    z:register_hook(function() last:backward(nil, { retain_graph = true }) end)
    naive.fails("a backward is going through the tape of", function() last:backward() end)
  end)

  it("may do what it likes with what moon.grad was given", function()
    local x = leaf(3)
    local y = x * 2
    local inputs = { x * 1, y }
    local z = y * inputs[1]
    y:register_hook(function()
      inputs[1], inputs[2] = nil, nil
      collect()
    end)
    local grads = moon.grad(z, inputs)
    assert.same({ 6, 3 }, { grads[1]:item(), grads[2]:item() })
    y = x * 2
    z = y * y
    local hook
    hook = y:register_hook(function()
      hook:remove()
      moon.enable_grad(function() y:add_(x) end)
    end)
    naive.fails("grad: input 1 was changed in place by what the walk called", moon.grad, z, y)
  end)

  it("stores what stays, whatever scope the backward is in", function()
    local x, stored, made = leaf(1, 2), nil, nil
    x:register_hook(function(g)
      stored, made = g, g * 2
    end)
    moon.scope(function() (x * 3):sum():backward() end)
    assert.same({ 3, 3 }, stored:totable())
    assert.same({ 6, 6 }, made:totable())
  end)

  it("lives on what was calculated after it was registered", function()
    local x, seen = leaf(1, 2), 0
    local function build()
      local y = x * 2
      y:register_hook(function() seen = seen + 1 end)
      return (y + 1):sum()
    end
    local loss = build()
    collect()
    loss:backward()
    assert.equal(1, seen)
  end)

  it("that is registered late lives on its tensor, or on what registering gave", function()
    local x, seen = leaf(1, 2), 0
    local function build(keep)
      local y = x * 2
      local loss = y:sum()
      local hook = y:register_hook(function() seen = seen + 1 end)
      return loss, keep == "tensor" and y or keep == "hook" and hook or nil
    end
    for _, keep in ipairs { "tensor", "hook" } do
      local loss, kept = build(keep)
      collect()
      loss:backward()
      assert.is_not_nil(kept)
    end
    assert.equal(2, seen)
  end)

  it("stays on a parameter from step to step, and when its net changes type", function()
    local layer, seen = nn.Linear(2, 1), {}
    layer.weight:register_hook(function(g) seen[#seen + 1] = g.dtype end)
    for _ = 1, 2 do
      layer(moon.ones(1, 2)):sum():backward()
      collect()
    end
    layer:to "float64"
    layer(moon.ones(1, 2, { dtype = "float64" })):sum():backward()
    assert.same({ "float32", "float32", "float64" }, seen)
  end)

  it("leaves nothing behind where an allocation fails", function()
    faults.every_allocation(function()
      local x = leaf(1, 2)
      local y = x * 2
      y:register_hook(function(g) return g * 2 end)
      x:register_hook(function(g) return g + 1 end)
      y:sum():backward()
    end)
  end)
end)

describe("a graph with hooks that is dropped", function()
  local sanitized = os.getenv("MOONLET_SANITIZER")

  local function flat(name, piece)
    it("is garbage: " .. name, function()
      if sanitized then pending("a sanitizer keeps freed memory") return end
      child.stays_flat(piece)
    end)
  end

  flat("a hook that holds its tensor", [[
    function graph()
      local y = x * 2
      y:register_hook(function(g) return g + y end)
      return y:sum()
    end]])
  flat("a hook on a leaf that holds the loss", [[
    function graph()
      local loss
      local w = moon.ones(8, { requires_grad = true })
      w:register_hook(function() return loss end)
      loss = (w * x):sum()
      return loss
    end]])
  it("does not pile up from one collection to the next", function()
    if sanitized then pending("a sanitizer keeps freed memory") return end
    local output, well = child.run [[
      local moon = require "moonlet"
      local x, held = moon.ones(100, { requires_grad = true })
      for round = 1, 4 do
        for _ = 1, 1e5 do
          local y = x * 2
          y:register_hook(function(g) return g * y end)
        end
        collectgarbage() collectgarbage()
        held = held or moon.resident()
      end
      print(("%.1f"):format((moon.resident() - held) / 1e6))
    ]]
    assert.is_true(well, output)
    assert.is_true(tonumber(output:match "(%S+)%s*$") < 12, output)
  end)

  flat("a hook that is registered late and holds the loss", [[
    function graph()
      local y = x * 2
      local loss = y:sum()
      y:register_hook(function() return loss end)
    end]])
end)

describe("a hook on a module", function()
  it("sees arguments and results of each forward", function()
    local layer, seen = nn.Linear(3, 2), {}
    layer:register_forward_hook(function(module, inputs, output)
      seen = { module, inputs[1], inputs.n, output }
    end)
    local x = moon.ones(1, 3)
    local y = layer(x)
    assert.equal(layer, seen[1])
    assert.equal(x, seen[2])
    assert.equal(1, seen[3])
    assert.equal(y, seen[4])
  end)

  it("may give other results, or before it, other arguments", function()
    local layer = nn.Identity()
    local before = layer:register_forward_pre_hook(function(_, inputs) return inputs[1] + 1 end)
    local after = layer:register_forward_hook(function(_, _, output) return output * 10, "more" end)
    local y, more = layer(moon.ones(1))
    assert.equal(20, y:item())
    assert.equal("more", more)
    before:remove()
    after:remove()
    assert.equal(1, layer(moon.ones(1)):item())
  end)

  it("sees several results", function()
    local Two = nn.Module:extend "Two"
    function Two:forward(x) return x, nil, x * 2 end
    local net, count = Two(), nil
    net:register_forward_hook(function(_, _, ...) count = select("#", ...) end)
    local a, none, b = net(moon.ones(1))
    assert.equal(3, count)
    assert.is_nil(none)
    assert.equal(3, a:item() + b:item())
  end)

  it("sees the gradients of arguments and results", function()
    local net, seen = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), {}
    net[2]:register_full_backward_hook(function(module, input, output)
      assert.equal(net[2], module)
      seen[#seen + 1] = { input[1], output[1] }
    end)
    net(moon.randn(5, 3)):sum():backward()
    assert.equal(1, #seen)
    naive.close(moon.ones(5, 2), seen[1][2])
    naive.close(moon.ones(5, 2):mm(net[2].weight:detach()), seen[1][1], 1e-6)
  end)

  it("may give other gradients of the arguments", function()
    local layer, x = nn.Linear(2, 2), moon.ones(1, 2, { requires_grad = true })
    layer:register_full_backward_hook(function(_, input) return { input[1] * 0 } end)
    local weight = layer.weight
    layer(x):sum():backward()
    assert.same({ { 0, 0 } }, x.grad:totable())
    assert.same({ { 1, 1 }, { 1, 1 } }, weight.grad:totable())
    layer:register_full_backward_hook(function() return 3 end)
    naive.fails("a backward hook of Linear returned a number; it must be a list of gradients",
      function() layer(x):sum():backward() end)
  end)

  it("is called with no gradient of the arguments where none needs one", function()
    local layer, calls = nn.Linear(2, 2), 0
    layer:register_full_backward_hook(function(_, input, output)
      calls = calls + 1
      assert.is_nil(input[1])
      assert.same({ 1, 2 }, output[1]:size())
    end)
    layer(moon.ones(1, 2)):sum():backward()
    assert.equal(1, calls)
    moon.no_grad(function() layer(moon.ones(1, 2)) end)
  end)

  it("leaves other arguments and arguments without gradient alone", function()
    local Pick = nn.Module:extend "Pick"
    function Pick:forward(x, list, y, word) return x * list[1] + y * #word end
    local net, seen = Pick(), nil
    net:register_full_backward_hook(function(_, input) seen = input end)
    local x, y = moon.ones(2), moon.ones(2, { requires_grad = true })
    net(x, { 3 }, y, "four"):sum():backward()
    assert.is_nil(seen[1])
    assert.is_nil(seen[2])
    assert.same({ 4, 4 }, seen[3]:totable())
    assert.same({ 4, 4 }, y.grad:totable())
  end)

  it("does not change gradients by being there", function()
    moon.manual_seed(3)
    local net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    local x = moon.randn(5, 3)
    net(x):sum():backward()
    local plain = {}
    for name, p in net:named_parameters() do
      plain[name] = p.grad
      p.grad = nil
    end
    net:apply(function(module) module:register_full_backward_hook(function() end) end)
    net(x):sum():backward()
    for name, p in net:named_parameters() do
      assert.is_true(plain[name]:eq(p.grad):all():item(), name)
    end
  end)

  it("stores what stays, whatever scope the forward is in", function()
    local layer, stored, made = nn.Linear(2, 2), nil, nil
    layer:register_forward_hook(function(_, inputs, output)
      stored, made = { inputs[1], output }, output * 2
    end)
    moon.scope(function() layer(moon.ones(1, 2)) end)
    assert.same({ 1, 2 }, stored[1]:size())
    assert.same({ 1, 2 }, stored[2]:size())
    assert.same({ 1, 2 }, made:size())
  end)

  it("raises its error, and is a function", function()
    local layer = nn.Linear(2, 2)
    naive.fails("register_forward_hook: expected a function, got nil",
      layer.register_forward_hook, layer)
    naive.fails("register_full_backward_hook: call it with a colon",
      layer.register_full_backward_hook, print)
    layer:register_forward_pre_hook(function() error "no entry" end)
    naive.fails("no entry", layer, moon.ones(1, 2))
  end)

  it("is not saved and not registered as a field", function()
    local layer = nn.Linear(2, 2)
    layer:register_forward_hook(function() end)
    local names = {}
    for name in pairs(layer:state_dict()) do names[#names + 1] = name end
    table.sort(names)
    assert.same({ "bias", "weight" }, names)
    assert.equal("Linear(2, 2)", tostring(layer))
  end)
end)

describe("freezing", function()
  it("stops gradients, and keeps names and parameters in plain tables", function()
    local Net = nn.Module:extend "Net"
    function Net:init()
      self.layer = nn.Linear(2, 2)
      self.list = { nn.Parameter(moon.ones(3)) }
    end
    function Net:forward(x) return self.layer(x):sum() + self.list[1]:sum() end
    local net = Net()
    local function names()
      local list = {}
      for name in net:named_parameters() do list[#list + 1] = name end
      return list
    end
    local before = names()
    assert.equal(net, net:freeze())
    assert.same(before, names())
    assert.is_false(net(moon.ones(1, 2)).requires_grad)
    net:unfreeze()
    assert.same(before, names())
    net(moon.ones(1, 2)):backward()
    assert.same({ 1, 1, 1 }, net.list[1].grad:totable())
  end)

  it("of a part leaves the rest to learn", function()
    local net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    net[1]:freeze()
    net(moon.ones(1, 2)):sum():backward()
    assert.is_nil(net[1].weight.grad)
    assert.is_not_nil(net[2].weight.grad)
  end)
end)
