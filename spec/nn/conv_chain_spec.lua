-- conv_chain: a Sequential of convolutions and normalisations in one operator, where it can be.
local moon = require "moonlet"
local nn = moon.nn

local function block(options)
  options = options or {}
  local net = nn.Sequential(
    nn.Sequential(nn.Conv2d(4, 12, 1, { bias = false }), nn.BatchNorm2d(12), nn.ReLU6()),
    nn.Sequential(nn.Conv2d(12, 12, 3, { padding = options.padding or 1, groups = 12 }),
      nn.BatchNorm2d(12), nn.ReLU6()),
    nn.Conv2d(12, 4, 1), nn.BatchNorm2d(4))
  for name, buffer in net:named_buffers() do
    if name:find "var" then buffer:uniform_(0.5, 2) else buffer:uniform_(-0.5, 0.5) end
  end
  return net:eval()
end

local function calls(fn)
  for _, row in ipairs(moon.profile(fn).operators) do
    if row.name == "conv2d_chain" then return row.calls end
  end
  return 0
end

local function evaluate(net, x, add)
  return moon.no_grad(function() return nn.conv_chain(net, x, add) end)
end

local function deviation(a, b) return (a - b):abs():max():item() / b:abs():max():item() end

describe("nn.conv_chain", function()
  local x = moon.randn(2, 4, 9, 8)

  it("is the modules one by one, in one call in evaluation", function()
    local net = block()
    local expected = net(x):detach()
    assert.is_true(deviation(evaluate(net, x), expected) < 5e-6)
    assert.is_true(deviation(evaluate(net, x, x), expected + x) < 5e-6)
    assert.equal(1, calls(function() evaluate(net, x, x) end))
    assert.equal(0, calls(function() nn.conv_chain(net, x, x) end))
  end)

  it("follows weights and statistics", function()
    local net = block()
    evaluate(net, x)
    net[1][2].running_mean:add_(0.5)
    net[2][1].weight:detach():mul_(-2)
    assert.is_true(deviation(evaluate(net, x), net(x):detach()) < 5e-6)
  end)

  it("leaves the tape, training, hooks, other settings and other modules alone", function()
    local trained = block():train()
    assert.equal(0, calls(function() evaluate(trained, x) end))
    local watched, seen = block(), 0
    watched[2]:register_forward_hook(function() seen = seen + 1 end)
    assert.equal(0, calls(function() evaluate(watched, x) end))
    assert.is_true(seen > 0)
    assert.equal(0, calls(function() evaluate(block { padding = "same" }, x) end))
    local odd = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Tanh()):eval()
    assert.equal(0, calls(function() evaluate(odd, x) end))
    assert.is_true(deviation(evaluate(odd, x, x), odd(x):detach() + x) < 5e-6)
    local last = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU()):eval()
    assert.equal(1, calls(function() evaluate(last, x) end))
    assert.equal(0, calls(function() evaluate(last, x, x) end))
    assert.is_true(deviation(evaluate(last, x, x), last(x):detach() + x) < 5e-6)
  end)

  it("works in mixed precision", function()
    local net = block()
    local y = moon.autocast(function() return evaluate(net, x) end)
    assert.is_true(deviation(y:float(), net(x):detach()) < 5e-2)
  end)
end)
