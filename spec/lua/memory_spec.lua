-- Memory: figures, the budget, scopes and what survives them, and loops that stay small.
local moon = require "moonlet"
local child = require "spec.support.child"
local faults = require "spec.support.faults"
local naive = require "spec.support.naive"

local nn, optim = moon.nn, moon.optim
local MB = 2 ^ 20

local function live()
  collectgarbage()
  collectgarbage()
  return moon.memory().live
end

-- A step of training that allocates, goes back and changes parameters.
local function train_a_step()
  local net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
  local opt = optim.SGD(net:parameters(), { lr = 0.1, momentum = 0.9 })
  local loss = net(moon.randn(16, 4)):square():mean()
  opt:zero_grad()
  loss:backward()
  opt:step()
  return loss:item()
end

describe("moon.memory", function()
  it("counts live bytes, their peak, and those since the last collection", function()
    local before = live()
    local x = moon.zeros(1000)
    assert.equal(before + 4000, moon.memory().live)
    local view = x:view(10, 100)
    assert.is_true(view:shares_memory(x))
    assert.equal(before + 4000, moon.memory().live)
    assert.is_true(moon.memory().peak >= before + 4000)
    assert.is_true(moon.memory().since_collect >= 4000)
    x = nil
    assert.equal(before + 4000, live())
    view = nil
    assert.equal(before, live())
    moon.collect()
    assert.is_true(moon.memory().since_collect == 0)
    assert.is_true(moon.memory().budget > 64 * MB)
    assert.is_nil(x or view)
  end)

  it("shows what is kept for reuse, which collect gives back", function()
    local x = moon.zeros(MB)
    assert.is_true(x:numel() > 0)
    x = nil
    live()
    moon.collect()
    -- free places beside live small blocks stay
    assert.is_true(moon.memory().cached < MB)
    assert.is_nil(x)
  end)

  it("takes no nonsense for a budget", function()
    for _, wrong in ipairs { -1, 1.5, 0 / 0, "much", {} } do
      naive.fails("set_memory_budget: bytes must be a whole number from 0", moon.set_memory_budget,
        wrong)
    end
    naive.fails("set_memory_budget: bytes must be", moon.set_memory_budget)
  end)

  it("has a limit for workspaces, and takes no nonsense for that either", function()
    local before = moon.workspace_limit()
    assert.is_true(before >= MB)
    assert.equal(3 * MB, moon.workspace_limit(3 * MB))
    assert.equal(3 * MB, moon.workspace_limit())
    for _, wrong in ipairs { -1, 1.5, 0 / 0, "much", {} } do
      naive.fails("workspace_limit: bytes must be a whole number from 0", moon.workspace_limit,
        wrong)
    end
    assert.equal(before, moon.workspace_limit(before))
  end)
end)

describe("a budget", function()
  local before
  before_each(function() before = moon.memory().budget end)
  after_each(function() moon.set_memory_budget(before) end)

  it("that live tensors fill gives an error, and work goes on when they are dropped", function()
    moon.collect()
    moon.set_memory_budget(256 * MB)
    local list, message = {}, nil
    for i = 1, 100 do
      local ok, made = pcall(moon.empty, 10 * MB / 4)
      if not ok then
        message = made
        break
      end
      list[i] = made
    end
    assert.is_true(#list >= 20 and #list <= 25)
    assert.matches("empty: out of memory: asked for 10%.0 MiB %(10485760 bytes%) while " ..
      "2%d%d%.%d MiB are live and the budget is 256%.0 MiB", message)
    assert.equal(0, list[1]:select(1, 1):fill_(0):item())
    list = nil
    assert.is_true(train_a_step() > 0)
    for _ = 1, 100 do moon.empty(10 * MB / 4) end   -- garbage is collected when it is in the way
    assert.is_nil(list)
  end)

  it("leaves small things room to fail one by one", function()
    local net, input = nn.Linear(4, 2), moon.ones(2, 4)
    moon.set_memory_budget(live() + 8)
    naive.fails("linear: out of memory: asked for 16 bytes", net, input)
    naive.fails("out of memory", moon.zeros, 1000)
    moon.set_memory_budget(before)
    assert.is_true(train_a_step() > 0)
  end)

  it("is never enough for a terabyte", function()
    naive.fails("zeros: out of memory: asked for 1.0 TiB", moon.zeros, 2 ^ 38)
    naive.fails("randn: out of memory: asked for 1.0 TiB", moon.randn, 2 ^ 19, 2 ^ 19)
    moon.set_memory_budget(2 ^ 50)
    local ok, message = pcall(moon.empty, 2 ^ 47)   -- more than the address space
    assert.is_false(ok)
    assert.matches("empty: out of memory: asked for 512.0 TiB", message)
    assert.is_true(train_a_step() > 0)
  end)
end)

describe("moon.scope", function()
  it("releases what was made inside, at once", function()
    local before = live()
    local inside
    moon.scope(function()
      inside = moon.zeros(1000)
      moon.zeros(1000)
      assert.equal(before + 8000, moon.memory().live)
    end)
    assert.equal(before, moon.memory().live)
    assert.matches("released by a scope", tostring(inside))
  end)

  it("says where a released tensor was released", function()
    local first, second
    local line = debug.getinfo(1, "l").currentline
    moon.scope(function() first = moon.ones(1) end)
    moon.scope(function() second = moon.ones(1) end)
    for i, tensor in ipairs { first, second } do
      local sentence = ("this tensor was released by moon.scope at %s:%d; return it from the " ..
        "scope's function or mark it with moon.keep"):format("spec/lua/memory_spec.lua", line + i)
      naive.fails(sentence, function() return tensor + 1 end)
      naive.fails(sentence, function() return tensor[1] end)
      naive.fails(sentence, function() tensor[1] = 2 end)
      naive.fails(sentence, function() return tensor.shape end)
      naive.fails(sentence, function() return moon.cat { tensor } end)
      naive.fails(sentence, function() tensor:backward() end)
      naive.fails(sentence, moon.keep, tensor)
    end
  end)

  it("passes on its results, also in tables", function()
    local a, t, n = moon.scope(function(k)
      local deep = { list = { moon.ones(1), moon.ones(2) }, [moon.ones(3)] = "key" }
      deep.again = deep
      return moon.ones(4) * k, deep, 7
    end, 5)
    assert.same({ 5, 5, 5, 5 }, a:totable())
    assert.same({ 1, 2 }, { t.list[1]:numel(), t.list[2]:numel() })
    for key, value in pairs(t) do
      if value == "key" then assert.equal(3, key:numel()) end
    end
    assert.equal(7, n)
    assert.equal(0, select("#", moon.scope(function() end)))
    assert.same({ nil, 2, n = 2 }, (function(...)
      return { n = select("#", ...), ... }
    end)(moon.scope(function() return nil, 2 end)))
  end)

  it("leaves alone what was made outside", function()
    local outside = moon.ones(3)
    moon.scope(function() outside:add_(1) end)
    assert.same({ 2, 2, 2 }, outside:totable())
  end)

  it("leaves parameters, gradients and kept tensors alive", function()
    local parameter, kept, grad, net
    local outer = moon.ones(2, { requires_grad = true })
    moon.scope(function()
      parameter = moon.ones(2, { requires_grad = true })
      kept = moon.keep(moon.ones(3))
      net = nn.Linear(2, 2)
      local loss = (net(parameter:view(1, 2)) * outer):sum()
      loss:backward()
      grad = parameter.grad
    end)
    assert.same({ 1, 1 }, parameter:totable())
    assert.equal(3, kept:sum():item())
    assert.equal(2, grad:numel())
    assert.equal(2, outer.grad:numel())
    assert.equal(4, net.weight:numel())
    assert.same({ 2, 2 }, net.weight.grad:size())
  end)

  it("leaves what the tape saved alive", function()
    local x = moon.ones(3, { requires_grad = true })
    local loss = moon.scope(function() return (x * 2):exp():square():sum() end)
    loss:backward()
    assert.is_true(x.grad[1] > 0)
  end)

  it("leaves views of results alive, whatever happens to their base", function()
    local view = moon.scope(function() return moon.arange(1, 10):narrow(1, 3, 2) end)
    assert.same({ 3, 4 }, view:totable())
  end)

  it("nests; results go one scope up", function()
    local inner, middle
    local outer = moon.scope(function()
      local mine = moon.ones(1)
      middle = moon.scope(function()
        inner = moon.ones(2)
        return moon.ones(3), mine
      end)
      naive.fails("was released by moon.scope", inner.numel, inner)
      assert.equal(3, middle:numel())
      return mine
    end)
    naive.fails("was released by moon.scope", middle.numel, middle)
    assert.equal(1, outer:numel())
  end)

  it("does not keep a tensor of an outer scope because an inner one returned it", function()
    local mine
    moon.scope(function()
      mine = moon.ones(1)
      moon.scope(function() return mine end)
    end)
    naive.fails("was released by moon.scope", mine.numel, mine)
  end)

  it("ends when an error passes", function()
    local before = live()
    local inside
    local ok, message = pcall(moon.scope, function()
      inside = moon.ones(1000)
      error("away", 0)
    end)
    assert.same({ false, "away" }, { ok, message })
    assert.equal(before, moon.memory().live)
    naive.fails("was released by moon.scope", inside.numel, inside)
    local after = moon.ones(2)
    assert.equal(2, after:sum():item())
    naive.fails("function expected", moon.scope, 3)
    assert.is_false((pcall(coroutine.wrap(function() moon.scope(coroutine.yield) end))))
    assert.equal(2, moon.ones(2):sum():item())
  end)

  it("works inside coroutines, whose garbage it does not hold", function()
    local results = {}
    for i = 1, 100 do
      results[i] = coroutine.wrap(function()
        return moon.scope(function() return (moon.ones(10) * i):sum() end)
      end)()
    end
    assert.equal(1000, results[100]:item())
  end)

  it("survives every allocation that fails", function()
    local x = moon.ones(3, { requires_grad = true })
    faults.every_allocation(function()
      moon.scope(function() return (x * 2):sum() end):backward()
      x.grad = nil
    end)
  end)

  it("keep wants a tensor", function()
    naive.fails("keep: expected a tensor, got number", moon.keep, 3)
    local x = moon.ones(1)
    assert.equal(x, moon.keep(x))
  end)
end)

describe("without a scope", function()
  it("what forward, a callback and a closure stored is alive after a step", function()
    local stored
    local Net = nn.Module:extend "Net"
    function Net:init()
      self.fc = nn.Linear(4, 3)
      self.callbacks = {}
    end
    function Net:forward(input)
      self.activation = self.fc(input)
      for _, callback in ipairs(self.callbacks) do callback(self.activation:relu()) end
      return self.activation:square()
    end
    local net, seen = Net(), {}
    net.callbacks[1] = function(value) seen[#seen + 1] = value end
    local opt = optim.Adam(net:parameters(), { lr = 1e-2 })
    for _ = 1, 3 do
      opt:zero_grad()
      local loss = net(moon.randn(5, 4)):mean()
      local function closure() stored = loss * 2 end
      closure()
      loss:backward()
      opt:step()
      collectgarbage()
    end
    assert.same({ 5, 3 }, net.activation:size())
    assert.equal(15, net.activation:relu():numel())
    assert.equal(3, #seen)
    for _, value in ipairs(seen) do assert.is_true(value:sum():item() >= 0) end
    assert.is_true(stored:item() > 0)
  end)
end)

local prologue = [[
local moon = require "moonlet"
local most = 0
local function look() most = math.max(most, moon.resident()) end
]]
local epilogue = [[

look()
print(("%.0f"):format(most / 1e6))
]]

-- The largest resident size, in MB of a million bytes, that the piece saw with look().
local function resident(piece)
  local output, well = child.run(prologue .. piece .. epilogue)
  assert.is_true(well, output)
  return tonumber(output:match("(%d+)%s*$"))
end

local sanitized = os.getenv("MOONLET_SANITIZER")

describe("a loop that makes and drops", function()
  local function measured(name, piece)
    it(name .. " stays under 300 MB", function()
      if sanitized then pending("a sanitizer keeps freed memory") return end
      local most = resident(piece)
      assert.is_true(most < 300, most .. " MB")
    end)
  end

  measured("a million small tensors", [[
    for i = 1, 1e6 do
      local x = moon.ones(1)
      if i % 5e4 == 0 then look() end
    end]])
  measured("small results on the tape", [[
    local w = moon.ones(1, { requires_grad = true })
    for i = 1, 1e5 do
      local x = (w * 2):exp()
      if i % 5e4 == 0 then look() end
    end]])
  measured("views and lists of views", [[
    local x = moon.ones(4, 4)
    for i = 1, 1e5 do
      local a, b = x[1], x:split(2, 1)
      if i % 5e4 == 0 then look() end
    end]])
  measured("ten thousand tensors of 10 MB", [[
    for i = 1, 1e4 do
      local x = moon.empty(2560, 1024)
      x:select(2, 1):fill_(1)   -- touches every page
      if i % 100 == 0 then look() end
    end]])
  measured("tensors of 10 MB beside live ones", [[
    local kept = {}
    for i = 1, 3 do kept[i] = moon.ones(2560, 1024) end
    for i = 1, 1e3 do
      local x = moon.empty(2560, 1024)
      x:select(2, 1):fill_(1)
      if i % 100 == 0 then look() end
    end]])
  measured("tensors from strings and tables", [[
    local bytes = ("x"):rep(1e6)
    for i = 1, 1000 do
      local x = moon.from_bytes(bytes, "uint8")
      if i % 50 == 0 then look() end
    end
    local list = {}
    for i = 1, 1e3 do list[i] = i end
    for i = 1, 5e3 do
      local x = moon.tensor(list)
      if i % 1e3 == 0 then look() end
    end]])
  measured("tensors that a worker sends", [[
    local worker = moon.worker_new("spec.support.sender", "send", { count = 300, size = 2.5e6 })
    for i = 1, 3 do worker:send(i) end   -- it is three tensors ahead, no more
    for i = 1, 300 do
      local x = worker:receive()
      if i <= 297 then worker:send(i) end   -- it ends after its 300th
      if i % 10 == 0 then look() end
    end
    worker:close()]])
end)

describe("a training loop without memory calls", function()
  -- Small as it is, the garbage that may wait for a collection (64 MiB) is most of it.
  it("is as large after 200 steps as after 50, but for waiting garbage", function()
    if sanitized then pending("a sanitizer keeps freed memory") return end
    local output, well = child.run([[
      local moon = require "moonlet"
      local nn, optim = moon.nn, moon.optim
      local net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Dropout(0.25), nn.Flatten(), nn.LazyLinear(32), nn.ReLU(), nn.Linear(32, 10))
      local opt
      local at = {}
      for step = 1, 200 do
        local x, y = moon.randn(32, 1, 28, 28), moon.randint(1, 10, { 32 })
        local loss = moon.cross_entropy(net(x), y)
        opt = opt or optim.Adam(net:parameters(), { lr = 1e-3 })
        opt:zero_grad()
        loss:backward()
        opt:step()
        if step == 50 or step == 200 then at[#at + 1] = moon.resident() end
      end
      print(at[1], at[2])
    ]])
    assert.is_true(well, output)
    local early, late = output:match("(%S+)%s+(%S+)")
    assert.is_true(tonumber(late) < 1.05 * tonumber(early) + 64 * MB, output)
  end)
end)
