-- Anomaly mode: which operator and which line of the program it names, what it lets pass, and that
-- it is gone when it is off.
local moon = require "moonlet"
local naive = require "spec.support.naive"

local nn = moon.nn

local function watched(fn) return function() return moon.detect_anomaly(fn) end end

-- The line that calls this function.
local function line() return debug.getinfo(2, "l").currentline end

local here = debug.getinfo(1, "S").short_src

describe("anomaly mode", function()
  it("names the operator and the line of the first NaN in a result", function()
    local expected
    local ok, message = pcall(watched(function()
      local x = moon.tensor { { 1, 2 }, { 3, -1 } }
      local y = x * 2
      expected = line() + 1
      local z = y:log()
      return z + 1
    end))
    assert.is_false(ok)
    assert.equal(("%s:%d: log: the result has nan at {2, 2} (anomaly mode)"):format(here, expected),
      message)
  end)

  it("names it for infinity, in a list, in place, and in an operator made of others", function()
    naive.fails("square: the result has infinity at {1}", watched(function()
      local y = moon.tensor { 1e30 }:square()
      return y
    end))
    naive.fails("log_: the result has nan at {1}", watched(function()
      local y = moon.tensor { -1 }
      y:log_()
    end))
    naive.fails("huber_loss: the result has infinity (anomaly mode)", watched(function()
      local loss = moon.huber_loss(moon.tensor { 3e38 }, moon.tensor { -3e38 })
      return loss
    end))
  end)

  it("says so where a NaN came in", function()
    naive.fails("mul: the result has nan at {2}, and x had nan before the call", watched(function()
      local y = moon.tensor { 1, 0 / 0 } * 2
      return y
    end))
  end)

  it("lets infinities pass that were given, but not new ones", function()
    watched(function()
      local mask = moon.tensor { true, false }
      local scores = moon.masked_fill(moon.ones(2), mask, -math.huge)
      assert.same({ 0, 1 }, scores:softmax(1):totable())
      assert.same({ -math.huge, 1 }, (scores + 0):totable())
    end)()
  end)

  it("does not look at memory that nobody wrote", function()
    watched(function()
      for _ = 1, 20 do moon.empty(100):empty_like() end
      return moon.zeros(2, 0)
    end)()
  end)

  it("names the operator and the line of its call for a gradient", function()
    local expected
    local ok, message = pcall(watched(function()
      local x = moon.tensor({ 0, 4 }, { requires_grad = true })
      expected = line() + 1
      local y = x:sqrt()
      local z = y * 2
      z:sum():backward()
    end))
    assert.is_false(ok)
    assert.matches("backward of sqrt: the gradient of x has infinity at {1}; the call was at "
      .. here .. ":" .. expected .. " (anomaly mode)", message, 1, true)
  end)

  it("names the line inside of a layer's caller, not of the library", function()
    local expected
    local layer = nn.Sequential(nn.Linear(1, 1))
    moon.no_grad(function() layer[1].weight:fill_(1e30) end)
    local ok, message = pcall(watched(function()
      expected = line() + 1
      local y = layer(moon.tensor { { 1e30 } })
      return y
    end))
    assert.is_false(ok)
    assert.matches(here .. ":" .. expected .. ": linear: the result has infinity", message, 1, true)
  end)

  it("looks at what functions and hooks give", function()
    local Bad = moon.Function:extend "Bad"
    function Bad.forward(_, x) return x * 2 end
    function Bad.backward(_, g) return moon.zeros_like(g) / moon.zeros_like(g) end
    naive.fails("div: the result has nan", watched(function()
      Bad(moon.ones(1, { requires_grad = true })):backward()
    end))
    function Bad.backward() return moon.tensor { 0 / 0 } end
    naive.fails("backward of Bad: the gradient of input has nan at {1}; the call was at",
      watched(function() Bad(moon.ones(1, { requires_grad = true })):backward() end))
    naive.fails("that came to a hook, or that it gave has nan", watched(function()
      local x = moon.ones(1, { requires_grad = true })
      x:register_hook(function() return moon.tensor { 0 / 0 } end)
      x:backward()
    end))
  end)

  it("looks at a checkpoint's second run too", function()
    naive.fails("backward of log: the gradient of x has infinity at {1}", watched(function()
      local x = moon.zeros(1, { requires_grad = true })
      local y = moon.checkpoint(function(a) return (a + 1):log() * 0 + (a * 0 + 1e-45):log() end, x)
      y:backward(moon.tensor { 1e38 })
    end))
  end)

  it("is on for a function, or until it is turned off", function()
    local function bad() return moon.tensor({ -1 }):log():size(1) end
    assert.is_false(moon.anomaly())
    assert.equal(1, bad())
    assert.is_true(moon.anomaly(true))
    assert.is_false(pcall(bad))
    assert.is_false(moon.anomaly(false))
    assert.equal(1, bad())
    assert.is_false(pcall(moon.anomaly, bad))
    assert.is_false(moon.anomaly())
    assert.same({ 1, 2 }, { moon.anomaly(function(...) return ... end, 1, 2) })
    naive.fails("anomaly: expected true, false or a function, got string", moon.anomaly, "on")
  end)

  it("leaves a gradient that is well as it is", function()
    local x = naive.random({ 3, 3 }):requires_grad_()
    local function loss() return (x:matmul(x):tanh() + x:exp()):sum() end
    loss():backward()
    local plain = x.grad
    x.grad = nil
    moon.detect_anomaly(function() loss():backward() end)
    assert.is_true(plain:eq(x.grad):all():item())
  end)
end)
