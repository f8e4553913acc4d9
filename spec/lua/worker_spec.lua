-- Workers: values both ways, tensors by reference, errors, endings, and states that do not disturb
-- each other.
local moon = require "moonlet"
local naive = require "spec.support.naive"
local started = require "spec.support.started"

local start = started.worker

after_each(started.close)

local function echoed(value)
  local worker = start "echo"
  worker:send(value)
  return worker:receive()
end

describe("a worker", function()
  it("is sent plain values, and sends them back", function()
    local worker = start "echo"
    local long = ("x"):rep(1e5)
    for _, value in ipairs { true, false, 0, -1.5, 2 ^ 53, math.huge, "", "a\0b", long } do
      worker:send(value)
      assert.equal(value, worker:receive())
    end
    worker:send(nil)
    assert.equal(1, select("#", worker:receive()))
    worker:send(0 / 0)
    local nan = worker:receive()
    assert.is_true(nan ~= nan)
    if rawget(math, "type") then
      worker:send(3)
      assert.equal("integer", rawget(math, "type")(worker:receive()))
      worker:send(3.0)
      assert.equal("float", rawget(math, "type")(worker:receive()))
    end
  end)

  it("is sent tables of them", function()
    local value = { 1, "two", { deep = { deeper = { true } } }, [true] = false, [2.5] = "key" }
    assert.same(value, echoed(value))
    assert.same({}, echoed({}))
    local list = {}
    for i = 1, 1000 do list[i] = { i } end
    assert.same(list, echoed(list))
  end)

  it("keeps the order of what it is sent", function()
    local worker = start("count", { to = 5000 })
    for i = 1, 5000 do assert.equal(i, worker:receive()) end
  end)

  it("takes tensors by reference", function()
    local x = moon.zeros(3)
    local worker = start("add", { by = 2 })
    worker:send(x)
    assert.equal("done", worker:receive())
    assert.same({ 2, 2, 2 }, x:totable())
    worker:send(x:narrow(1, 2, 1))
    assert.equal("done", worker:receive())
    assert.same({ 2, 4, 2 }, x:totable())
    local back = echoed { deep = { x } }
    assert.is_true(back.deep[1]:shares_memory(x))
    back.deep[1]:fill_(7)
    assert.equal(21, x:sum():item())
  end)

  it("takes tensors of every type and layout", function()
    for _, dtype in ipairs { "float32", "float64", "float16", "bfloat16", "int64", "int32",
                             "uint8", "bool" } do
      local x = moon.tensor({ { 1, 0, 1 }, { 0, 1, 1 } }, { dtype = dtype }):t()
      local back = echoed(x)
      naive.close(back, x, 0, dtype)
      assert.same(x:stride(), back:stride())
    end
    assert.same({ 0, 2 }, echoed(moon.empty(0, 2)):size())
  end)

  it("gives tensors that outlive it", function()
    local worker = start("give", { count = 100 })
    local x = worker:receive()
    worker:close()
    assert.equal(5050, x:sum():item())
    x:add_(1)
    assert.equal(5150, x:sum():item())
  end)

  it("may have a worker of its own", function()
    local worker = start "pass"
    worker:send { 1, { 2 } }
    assert.same({ 1, { 2 } }, worker:receive())
  end)
end)

describe("what cannot cross to a worker", function()
  it("is refused with the place where it stands", function()
    local worker = start "echo"
    naive.fails("a function cannot cross to another Lua state; plain values and tensors can",
      worker.send, worker, print)
    naive.fails("callbacks: done: a function cannot cross to another Lua state",
      worker.send, worker, { callbacks = { done = function() end } })
    naive.fails("[2]: [1]: a userdata cannot cross", worker.send, worker, { 1, { io.stdout } })
    naive.fails("a thread cannot cross", worker.send, worker, coroutine.create(function() end))
    naive.fails("arguments: transform: a function cannot cross to another Lua state",
      moon.worker_new, "spec.support.workers", "echo", { transform = print })
    local circle = {}
    circle.circle = circle
    naive.fails("tables nest deeper than 32, or contain themselves", worker.send, worker, circle)
    worker:send "still there"
    assert.equal("still there", worker:receive())
  end)

  it("is a tensor that a scope released", function()
    local worker, gone = start "echo", nil
    moon.scope(function() gone = moon.ones(1) end)
    naive.fails("x: a tensor without memory cannot cross to another Lua state",
      worker.send, worker, { x = gone })
  end)

  it("is a tape: tensors arrive without history", function()
    local x = moon.ones(2, { requires_grad = true })
    local worker = start "look"
    worker:send(x * 3)
    assert.same({ requires_grad = false, is_leaf = true }, worker:receive())
    local y = worker:receive()
    assert.is_false(y.requires_grad)
    assert.is_nil(y.grad_fn)
    assert.same({ 6, 6 }, y:totable())
    assert.is_nil(x.grad)
  end)
end)

describe("an error in a worker", function()
  it("reaches its maker with its text", function()
    local worker = start("fail", "out of luck")
    naive.fails("worker ended: ", worker.receive, worker)
    naive.fails("out of luck", worker.receive, worker)
    naive.fails("workers.lua:", worker.receive, worker)
    naive.fails("worker ended: ", worker.send, worker, 1)
    naive.fails("view: 6 elements do not fill shape 7", function()
      start("fail_in_operator"):receive()
    end)
  end)

  it("may have no text", function()
    naive.fails("worker ended: error without text", function() start("fail", { 1 }):receive() end)
    naive.fails("worker ended: ", function() start("fail", ("long "):rep(1000)):receive() end)
  end)

  it("comes after what it sent before", function()
    local worker = start("count", { to = 3 })
    for i = 1, 3 do assert.equal(i, worker:receive(5)) end
    naive.fails("worker ended: its function returned", worker.receive, worker)
  end)

  it("may be a module or function that does not exist", function()
    naive.fails("module 'spec.support.nowhere' not found", function()
      moon.worker_new("spec.support.nowhere", "run"):receive()
    end)
    naive.fails("module spec.support.workers has no function dance", function()
      start("dance"):receive()
    end)
    naive.fails("module string has no function dance", function()
      moon.worker_new("string", "dance"):receive()
    end)
    naive.fails("string expected", moon.worker_new)
    naive.fails("string expected", moon.worker_new, "string")
  end)
end)

describe("waiting for a worker", function()
  it("ends when the time is over", function()
    local worker = start "echo"
    for _, seconds in ipairs { 0, 0.001, 0.051, 0.12 } do
      local from = moon.clock()
      assert.equal(0, select("#", worker:receive(seconds)))
      local took = moon.clock() - from
      assert.is_true(took >= seconds - 0.002 and took < seconds + 2)
    end
    worker:send(5)
    assert.equal(5, worker:receive(10))
  end)

  it("ends when the interrupt key is pressed", function()
    local worker = start "echo"
    moon.interrupt()
    local ok, message = pcall(worker.receive, worker)
    moon.clear_interrupt()
    assert.is_false(ok)
    assert.matches("interrupted", message)
    worker:send(5)
    assert.equal(5, worker:receive())
  end)

  it("is a method of workers", function()
    local worker = start "echo"
    for _, name in ipairs { "send", "receive", "close" } do
      naive.fails("worker: expected a worker, got no value; its methods are called with a colon",
        worker[name])
      naive.fails("worker: expected a worker, got userdata", worker[name], io.stdout)
    end
  end)
end)

describe("closing a worker", function()
  it("that is busy waits for it", function()
    local worker = start("busy", { seconds = 0.2 })
    local from = moon.clock()
    worker:close()
    assert.is_true(moon.clock() - from > 0.1)
  end)

  it("may be done twice, and ends everything else", function()
    local worker = start "echo"
    worker:close()
    worker:close()
    naive.fails("worker: send after close", worker.send, worker, 1)
    naive.fails("worker: receive after close", worker.receive, worker)
  end)

  it("drops what it was sent and did not take", function()
    local x = moon.zeros(1)
    local worker = start("add", { by = 1 })
    for _ = 1, 50000 do worker:send(x) end
    worker:close()
    assert.is_true(x:item() < 50000)
    collectgarbage()
    collectgarbage()
    local before = moon.memory().live
    local unread = start("count", { to = 1000 })
    unread:close()
    assert.equal(before, moon.memory().live)
  end)

  it("right after work was done does no harm", function()
    for _ = 1, 20 do
      local worker = start("busy", { seconds = 0 })
      assert.equal("tired", worker:receive())
      worker:close()
    end
  end)

  it("is done by the garbage collector where nobody did it", function()
    for _ = 1, 10 do moon.worker_new("spec.support.workers", "echo"):send(moon.ones(10)) end
    collectgarbage()
    collectgarbage()
  end)

  it("a hundred times leaves nothing behind", function()
    local before = moon.memory().live
    for i = 1, 100 do
      local worker = moon.worker_new("spec.support.workers", "echo")
      if i % 2 == 0 then
        worker:send(moon.ones(10))
        assert.equal(10, worker:receive():numel())
      end
      worker:close()
    end
    collectgarbage()
    collectgarbage()
    assert.equal(before, moon.memory().live)
  end)
end)

describe("states", function()
  it("have settings and streams of their own", function()
    moon.manual_seed(42)
    moon.set_num_threads(1)
    local settings
    moon.no_grad(function()
      local worker = start "settings"
      settings = worker:receive()
      assert.is_false(worker:receive())
      assert.is_false(moon.is_grad_enabled())
    end)
    assert.is_true(moon.is_grad_enabled())
    assert.is_true(settings.grad)
    assert.is_true(settings.live < 10000)
    local first = moon.rand(1):item()
    moon.manual_seed(42)
    assert.equal(first, moon.rand(1):item())
    moon.set_num_threads(0)
    assert.equal(moon.get_num_threads(), settings.threads)
  end)

  it("that train at once, with different thread caps, give the bits of single runs", function()
    local steps = os.getenv("MOONLET_SANITIZER") and 2 or 10
    local function run(seed, threads)
      return start("train", { seed = seed, threads = threads, steps = steps })
    end
    local alone = { run(1, 1):receive(), run(2, 1):receive() }
    local a, b = run(1, 2), run(2, 1)
    assert.is_true(alone[1][1] ~= alone[2][1])
    for i, worker in ipairs { a, b } do
      local bytes = worker:receive()
      for k = 1, #bytes do assert.is_true(bytes[k] == alone[i][k]) end
    end
  end)
end)
