-- Profiles: what is counted, where it is charged, how times add up, what the trace looks like, and
-- that nothing is left behind.
local json = require "dkjson"   -- comes with busted
local moon = require "moonlet"
local naive = require "spec.support.naive"

local nn = moon.nn

local function find(rows, name, pass)
  for _, row in ipairs(rows) do
    if row.name == name and (not pass or row.pass == pass) then return row end
  end
end

local function sum(rows, key)
  local total = 0
  for _, row in ipairs(rows) do total = total + row[key] end
  return total
end

-- A network with a module inside of a module, and a step of it.
local function small_net()
  return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Sequential(nn.Flatten(), nn.Linear(64, 3)))
end

local function step_of(net, input)
  return function() net(input):sum():backward() end
end

describe("moon.profile", function()
  it("counts calls and bytes of operators, in place and with numbers too", function()
    local x, y = moon.ones(100, 10), moon.ones(100, 10)
    local p = moon.profile(function()
      for _ = 1, 3 do x:add(y) end
      x:exp_()
      return x + 1
    end)
    local add, exp = find(p.operators, "add"), find(p.operators, "exp_")
    assert.equal(4, add.calls)
    assert.equal(3 * 3 * 4000 + 2 * 4000 + 4, add.moved)
    assert.equal(4000, add.memory)
    assert.equal("forward", add.pass)
    assert.equal(1, exp.calls)
    assert.equal(2 * 4000, exp.moved)
    assert.equal(0, exp.memory)
    assert.same({}, p.modules)
  end)

  it("counts no bytes for views and for what calls others, but for those", function()
    local x, y = moon.ones(10, 10), moon.zeros(10, 10)
    local p = moon.profile(function()
      moon.huber_loss(x, y)
      x:t()
      moon.cat({ x, y }, 1)
      x:split(5, 1)
    end)
    assert.equal(0, find(p.operators, "huber_loss").moved)
    assert.is_true(sum(p.operators, "moved") > 400)
    assert.equal(0, find(p.operators, "t").moved)
    assert.equal(1600, find(p.operators, "cat").moved)
    assert.equal(1, find(p.operators, "split").calls)
  end)

  it("counts what a step of an optimiser reads and writes, all parameters in one call", function()
    local net = nn.Linear(10, 4)
    local optimiser = moon.optim.SGD(net:parameters(), { lr = 0.1 })
    net(moon.ones(2, 10)):sum():backward()
    local row = find(moon.profile(optimiser.step, optimiser).operators, "sgd_step_")
    assert.equal(1, row.calls)
    assert.equal(3 * 44 * 4, row.moved)
  end)

  it("leaves gradients to be written over as they are without it", function()
    local x = moon.ones(1000, { requires_grad = true })
    local loss = ((x * 2):relu() * 3):sum()
    local row = find(moon.profile(loss.backward, loss).operators, "relu", "backward")
    assert.equal(0, row.memory)
    assert.equal(3 * 4000, row.moved)
  end)

  it("gives fn's results after the profile, nil among them", function()
    local p, a, b, c = moon.profile(function(...) return select("#", ...), nil, "c" end, nil, 2)
    assert.is_true(p.seconds >= 0)
    assert.same({ 2, nil, "c" }, { a, b, c })
  end)

  it("charges a backward to the module whose forward it is of", function()
    local net = small_net()
    collectgarbage()   -- or what others left goes meanwhile, and `kept` counts it
    collectgarbage()
    local p = moon.profile(step_of(net, moon.ones(2, 1, 6, 6, { requires_grad = true })))
    for _, name in ipairs { "conv2d", "tanh", "linear", "flatten", "sum" } do
      assert.equal(1, find(p.operators, name, "forward").calls, name)
      assert.is_true(find(p.operators, name, "backward").calls >= 1, name)
    end
    local names = {}
    for i, row in ipairs(p.modules) do names[i] = row.layer .. " " .. row.name end
    assert.same({
      "Sequential ", "Conv2d 1", "Tanh 2", "Sequential 3", "Flatten 3.1", "Linear 3.2",
    }, names)
    for _, row in ipairs(p.modules) do
      assert.equal(1, row.calls)
      assert.is_true(row.backward > 0, row.name)
    end
    local paths = {}
    for _, event in ipairs(p.events) do
      if event.kind == "backward" then paths[event.name] = event.path or "nobody" end
    end
    assert.same({ "1", "3.2", "nobody" }, { paths.conv2d, paths.linear, paths.sum })
    assert.equal(2 * 4 * 4 * 4 * 4, p.modules[2].kept)
  end)

  it("adds up: self times are the whole, and what is inside is part of what is around", function()
    local net = small_net()
    local p = moon.profile(step_of(net, moon.ones(2, 1, 6, 6)))
    assert.is_true(math.abs(sum(p.operators, "self") - p.seconds) < 1e-9 + 1e-6 * p.seconds)
    for _, row in ipairs(p.operators) do
      assert.is_true(row.self >= 0 and row.self <= row.time + 1e-12, row.name)
    end
    local outermost, own, inside = p.modules[1], 0, 0
    for i, row in ipairs(p.modules) do
      own = own + row.self
      if i > 1 then assert.is_true(row.time < outermost.time, row.name) end
      inside = inside + row.backward_self
    end
    assert.is_true(math.abs(own - outermost.time) < 1e-9)
    assert.is_true(math.abs(inside - outermost.backward) < 1e-9)
    assert.is_true(outermost.time + outermost.backward < p.seconds)
  end)

  it("tells which algorithm a kernel chose", function()
    local p = moon.profile(function()
      moon.conv2d(moon.ones(1, 3, 8, 8), moon.ones(4, 3, 3, 3))
      return moon.ones(2) + 1
    end)
    local row = find(p.operators, "conv2d")
    assert.is_true(#row.algorithm > 0)
    assert.matches(row.algorithm, tostring(p), 1, true)
    assert.is_nil(find(p.operators, "add").algorithm)
  end)

  it("charges what neighbours calculate in one pass to the first of them", function()
    local net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU()):eval()
    local x = moon.ones(1, 1, 4, 4)
    local p = moon.profile(moon.no_grad, function() return net(x) end)
    assert.equal("1", p.modules[2].name)
    assert.equal(2, #p.modules)
    for _, event in ipairs(p.events) do
      if event.name == "conv2d_fused" then assert.equal("1", event.path) end
    end
  end)

  it("knows functions and checkpoints, whose second run is a forward of its own", function()
    local Double = moon.Function:extend "Double"
    function Double.forward(_, x) return x * 2 end
    function Double.backward(_, g) return g * 2 end
    local inner = nn.Linear(4, 4)
    local Net = nn.Module:extend "Net"
    function Net:init() self.inner = inner end
    function Net:forward(x) return Double(moon.checkpoint(self.inner, x)) end
    local p = moon.profile(step_of(Net(), moon.ones(2, 4, { requires_grad = true })))
    assert.equal(1, find(p.operators, "Double", "backward").calls)
    assert.equal(2, find(p.operators, "linear", "forward").calls)
    assert.equal(1, find(p.operators, "linear", "backward").calls)
    local row = find(p.modules, "inner")
    assert.equal(2, row.calls)
    assert.is_true(row.backward > 0)
  end)

  it("does nothing when it is over, not even for what was recorded during it", function()
    local net, input = small_net(), moon.ones(2, 1, 6, 6)
    local loss
    moon.profile(function() loss = net(input):sum() end)
    loss:backward()
    local p = moon.profile(step_of(nn.ReLU(), moon.ones(3, { requires_grad = true })))
    assert.equal(1, #p.modules)
    assert.is_nil(find(p.operators, "conv2d"))
    local late = moon.profile(function() return nil end)
    assert.equal(1, #late.operators)
    assert.equal("(Lua)", late.operators[1].name)
  end)

  it("takes what an earlier profile recorded for nobody's", function()
    local net, input, loss = small_net(), moon.ones(2, 1, 6, 6), nil
    moon.profile(function() loss = net(input):sum() end)
    local p = moon.profile(function() loss:backward() end)
    assert.equal(1, find(p.operators, "conv2d", "backward").calls)
    assert.same({}, p.modules)
  end)

  it("can be taken inside of another, and each has its own part", function()
    local x, inner = moon.ones(4), nil
    local outer = moon.profile(function()
      x:exp()
      inner = moon.profile(function() return nn.ReLU()(x) end)
      x:exp()
    end)
    assert.equal(2, find(outer.operators, "exp").calls)
    assert.equal(1, find(outer.operators, "relu").calls)
    assert.equal(1, find(inner.operators, "relu").calls)
    assert.is_nil(find(inner.operators, "exp"))
    assert.equal(1, #inner.modules)
    assert.equal(1, #outer.modules)
  end)

  it("ends with an error of fn, which passes on as it was", function()
    local problem = {}
    local ok, message = pcall(moon.profile, error, problem)
    assert.is_false(ok)
    assert.equal(problem, message)
    naive.fails("linear: ", moon.profile, function() nn.Linear(3, 2)(moon.ones(1, 4)) end)
    local p = moon.profile(function()
      pcall(nn.Linear(3, 2), moon.ones(1, 4))
      return moon.ones(2):exp()
    end)
    assert.equal(1, find(p.operators, "linear").calls)
    for _, event in ipairs(p.events) do
      if event.name == "exp" then assert.is_nil(event.path) end
    end
  end)

  it("follows coroutines: who is suspended inside of a module has no part in what others do",
    function()
      local Slow = nn.Module:extend "Slow"
      function Slow.forward(_, x)
        local y = x:exp()
        coroutine.yield()
        return y:log()
      end
      local slow, fast, x = Slow(), nn.ReLU(), moon.ones(3)
      local p = moon.profile(function()
        local thread = coroutine.wrap(function() return slow(x) end)
        local other = coroutine.wrap(function() return slow(x) end)
        if not pcall(thread) then return end   -- Lua 5.1 has no way out of a pcall
        x:tanh()
        fast(x)
        other()   -- nobody comes back to it
        thread()
        x:sqrt()
      end)
      local layers = {}
      for _, event in ipairs(p.events) do layers[event.name] = event.layer or "none" end
      if not layers.tanh then return end
      assert.same({ "Slow", "none", "ReLU", "Slow", "none" },
        { layers.exp, layers.tanh, layers.relu, layers.log, layers.sqrt })
      assert.equal(2, find(p.modules, "").calls)
    end)

  it("cannot be left by a coroutine half way", function()
    local thread = coroutine.create(function()
      return moon.profile(function() coroutine.yield() end)
    end)
    local ok, message = coroutine.resume(thread)
    assert.is_false(ok)
    assert.matches("attempt to yield", message)
    assert.equal(1, #moon.profile(function() return nil end).operators)
  end)

  it("keeps the highest figure of memory right", function()
    local before = moon.memory().peak
    local p = moon.profile(function() return moon.ones(1000):exp() end)
    assert.is_true(moon.memory().peak >= before)
    assert.equal(4000, find(p.operators, "exp").memory)
  end)

  it("refuses what it cannot call, and options that it does not know", function()
    naive.fails("profile: fn must be a function or a callable object, not 3", moon.profile, 3)
    naive.fails("profile: fn must be a function or a callable object, not nil", moon.profile)
    local p = moon.profile(function() return nil end)
    naive.fails('table: there is no option "order"', p.table, p, { order = "self" })
    naive.fails("table: sort must be one of", p.table, p, { sort = "name" })
    naive.fails("table: call it with a colon, p:table()", p.table)
    naive.fails("save: path must be a string", p.save, p, 1)
    naive.fails("save: ", p.save, p, "/no/such/folder/trace.json")
    naive.fails("profile_end: no profile", moon.profile_end, 0)
  end)

  it("leaves nothing when memory runs out anywhere in it", function()
    local net, x = nn.Linear(2, 2), moon.ones(1, 2)
    for n = 1, 40 do
      moon.fail_allocation(n)
      pcall(moon.profile, step_of(net, x))
      moon.fail_allocation(0)
      assert.equal(1, #moon.profile(function() return nil end).operators)
    end
  end)
end)

describe("a profile's table", function()
  it("has the most expensive rows first, and says what it left out", function()
    local p = moon.profile(step_of(small_net(), moon.ones(2, 1, 6, 6)))
    local text = p:table { sort = "calls", limit = 2 }
    assert.matches("^operator +pass +algorithm +calls +self ms", text)
    assert.matches("%(%d+ more; give {limit = ...}%)$", text)
    local previous = math.huge
    for line in p:table({ by = "modules", sort = "time" }):gmatch "\n([^\n]+)" do
      local forward, backward = line:match "%S+%s+[%d.]+%s+([%d.]+)%s+[%d.]+%s+([%d.]+)"
      local both = tonumber(forward) + tonumber(backward)
      assert.is_true(both <= previous + 0.0021)   -- printed to a thousandth
      previous = both
    end
    assert.matches("Linear %(3%.2%)", tostring(p))
  end)
end)

describe("a profile's trace", function()
  local path = os.tmpname()
  teardown(function() os.remove(path) end)

  local function saved(profile)
    profile:save(path)
    local file = assert(io.open(path))
    local text = file:read "*a"
    file:close()
    return assert(json.decode(text)).traceEvents
  end

  it("is JSON of complete events that nest", function()
    local net = small_net()
    local Odd = nn.Module:extend 'Odd "\\\n'
    function Odd.forward(_, x) return net(x) end
    local p = moon.profile(step_of(Odd(), moon.ones(2, 1, 6, 6)))
    local events, open = saved(p), {}
    assert.equal(#p.events, #events)
    for i, event in ipairs(events) do
      assert.equal("X", event.ph)
      assert.equal(1, event.tid)
      local stop = event.ts + event.dur
      while #open > 0 and open[#open] <= event.ts + 0.002 do open[#open] = nil end
      if #open > 0 then assert.is_true(stop <= open[#open] + 0.002, event.name) end
      open[#open + 1] = stop
      assert.is_true(event.ts >= 0 and stop <= p.seconds * 1e6 + 0.002, tostring(i))
    end
    assert.equal('Odd "\\\n', events[1].name)
  end)

  it("says which module and what bytes, and has a track for each coroutine", function()
    local net, x = small_net(), moon.ones(2, 1, 6, 6)
    local events = saved(moon.profile(function()
      net(x)
      coroutine.wrap(function() net(x) end)()
    end))
    local tracks = {}
    for _, event in ipairs(events) do
      if event.name == "linear" then
        assert.equal("3.2", event.args.module)
        assert.equal((2 * 64 + 64 * 3 + 3 + 2 * 3) * 4, event.args["moved bytes"])
        tracks[#tracks + 1] = event.tid
      end
    end
    assert.same({ 1, 2 }, tracks)
  end)

  it("of nothing is a trace too", function()
    assert.same({}, saved(moon.profile(function() return nil end)))
  end)
end)
