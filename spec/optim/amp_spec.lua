-- moon.amp: either half type, and losses scaled so that float16's small gradients survive.
local moon = require "moonlet"
local nn, optim, amp = moon.nn, moon.optim, moon.amp

local function one_weight(value)
  local net = nn.Linear(1, 1, { bias = false })
  moon.no_grad(function() net.weight:fill_(value) end)
  return net, optim.SGD(net:parameters(), { lr = 1 })
end

describe("amp.autocast", function()
  it("takes either half type, and a layer as well as a function", function()
    local net, x = nn.Linear(3, 2), moon.randn(4, 3)
    for _, dtype in ipairs { "bfloat16", "float16" } do
      assert.equal(dtype, amp.autocast(dtype, net, x).dtype)
      local y, z = amp.autocast(dtype, function(a) return net(a), 7 end, x)
      assert.equal(dtype, y.dtype)
      assert.equal(7, z)
    end
    assert.equal("float32", net(x).dtype)
  end)

  it("refuses other types", function()
    for _, dtype in ipairs { "float32", "int64", "half" } do
      local ok, message = pcall(amp.autocast, dtype, function() end)
      assert.is_false(ok)
      assert.matches("bfloat16", message)
    end
  end)
end)

describe("amp.GradScaler", function()
  it("keeps gradients that float16 would lose", function()
    local net, optimizer = one_weight(0)
    local x = moon.ones(1, 1)
    local function gradient_of(scale)
      net.weight.grad = nil
      local loss = amp.autocast("float16", net, x):float():sum() * 1e-9
      (loss * scale):backward()
      return net.weight.grad:item()
    end
    assert.equal(0, gradient_of(1))
    local scaler = amp.GradScaler { scale = 65536 }
    gradient_of(65536)
    assert.is_true(scaler:step(optimizer))
    assert.is_true(math.abs(-net.weight:item() / 1e-9 - 1) < 1e-2)
  end)

  it("leaves a step out when a gradient overflows, and halves the factor", function()
    local net, optimizer = one_weight(3)
    local scaler = amp.GradScaler { scale = 8, interval = 2 }
    for _, bad in ipairs { 1 / 0, 0 / 0 } do
      net.weight.grad = moon.full({ 1, 1 }, bad)
      assert.is_false(scaler:step(optimizer))
      assert.equal(3, net.weight:item())
    end
    assert.equal(2, scaler.scale)
    for _ = 1, 2 do
      net.weight.grad = moon.full({ 1, 1 }, 2)   -- 1, times the factor
      assert.is_true(scaler:step(optimizer))
    end
    assert.equal(1, net.weight:item())
    assert.equal(4, scaler.scale)
  end)

  it("unscales once, before gradients are clipped", function()
    local net, optimizer = one_weight(0)
    local scaler = amp.GradScaler { scale = 16 }
    net.weight.grad = moon.full({ 1, 1 }, 160)
    assert.is_true(scaler:unscale(optimizer))
    assert.equal(10, net.weight.grad:item())
    assert.has_error(function() scaler:unscale(optimizer) end)
    optim.clip_grad_norm(net:parameters(), 1)
    assert.is_true(scaler:step(optimizer))
    assert.equal(-1, net.weight:item())
  end)

  it("goes on from its state", function()
    local a, b = amp.GradScaler { scale = 4 }, amp.GradScaler()
    a.steps = 3
    b:load_state_dict(a:state_dict())
    assert.same({ scale = 4, steps = 3 }, b:state_dict())
    assert.has_error(function() b:load_state_dict { scale = "much" } end)
  end)
end)
