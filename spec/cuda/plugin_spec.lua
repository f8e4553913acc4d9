-- The CUDA plug-in as a part: memory, errors, devices. On the emulated device where there is no
-- GPU.
local moon = require "moonlet"
local gpu = require "spec.support.gpu"

local MIB = 2 ^ 20

local function full(count, value)
  return moon.full({ count }, value, { device = gpu.device })
end

describe("tensors on " .. gpu.device, function()
  it("go there and back with their type and layout", function()
    local x = moon.randn(2, 3, 4, 5):contiguous "channels_last"
    local y = x:cuda()
    assert.equal("cuda:0", y.device)
    assert.same({ y:stride() }, { x:stride() })
    assert.is_true(y:cpu():equal(x))
    local z = moon.randn(3, 4):t():to(moon.zeros(1, { dtype = "float64", device = gpu.device }))
    assert.equal("float64", z.dtype)
    assert.equal("cuda:0", z.device)
  end)

  it("arrive whole when more is copied than can be on its way at once", function()
    local list = {}
    for i = 1, 9 do
      local x = moon.full({ 20000 + 5000 * i }, i)
      list[i] = x:cuda()
      moon.no_grad(x.fill_, x, -1)   -- what was there may be written over at once
    end
    for i, x in ipairs(list) do
      assert.same({ i, i }, { x:min():item(), x:max():item() })
    end
  end)

  it("have gradients across devices", function()
    local x = moon.ones(3, { requires_grad = true });
    (x:cuda() * 2):cpu():backward(moon.ones(3))
    assert.is_true(x.grad:equal(moon.full({ 3 }, 2)))
  end)

  it("do not mix with others", function()
    local x = full(2, 1)
    for _, other in ipairs { moon.ones(2), moon.cuda.device_count() > 1 and x:cuda(1) or nil } do
      local ok, message = pcall(moon.add, x, other)
      assert.is_false(ok)
      assert.is_truthy(message:find("cuda:0", 1, true), message)
      assert.is_truthy(message:find(other.device, 1, true), message)
    end
  end)

  it("refuse raw pointers", function()
    assert.has_error(function() full(2, 1):data() end)
  end)

  if moon.cuda.device_count() > 1 then
    it("go from one device to the next", function()
      assert.is_true(full(3, 5):to("cuda:1"):to("cuda:0"):cpu():equal(moon.full({ 3 }, 5)))
    end)
  end

  it("carry a network, whole numbers too", function()
    local net = moon.nn.Sequential(moon.nn.Linear(2, 2), moon.nn.BatchNorm1d(2))
    net:register_buffer("seen", moon.zeros(1, { dtype = "int64" }))
    assert.equal(net, net:cuda())
    for _, tensor in pairs(net:state_dict()) do assert.equal("cuda:0", tensor.device) end
    assert.equal("cuda:0", net:device())
    assert.equal("cpu", net:cpu():device())
  end)
end)

describe("memory of " .. gpu.device, function()
  local function live() return moon.cuda.memory().live end

  it("is counted, kept, and given back", function()
    moon.cuda.empty_cache()
    local before = live()
    local held = { full(MIB, 1) }
    assert.is_true(live() - before >= 4 * MIB and live() - before <= 5 * MIB + 512)
    held[1] = nil
    collectgarbage()
    collectgarbage()
    assert.equal(before, live())
    assert.is_true(moon.cuda.memory().cached >= 4 * MIB)
    local asked = moon.cuda.memory().allocations
    held[1] = full(MIB, 2)
    assert.equal(asked, moon.cuda.memory().allocations)
    assert.equal(2, held[1][7])
    held[1] = nil
    moon.cuda.empty_cache()
    assert.is_true(moon.cuda.memory().cached < 4 * MIB)
  end)

  it("runs out with a sentence, and serves again", function()
    moon.cuda.empty_cache()
    moon.cuda.memory_limit(live() + 16 * MIB)
    local ok, message = pcall(full, 8 * MIB, 1)
    assert.is_false(ok)
    assert.matches("out of memory on cuda:0", message)
    assert.matches("32.0 MiB", message, 1, true)
    for _ = 1, 8 do full(MIB, 3) end   -- garbage makes room
    assert.equal(3, full(MIB, 3)[1])
    moon.cuda.memory_limit(0)
    assert.equal(1, full(8 * MIB, 1)[5])
    assert.has_error(function() moon.cuda.memory_limit(-1) end)
    assert.has_error(function() moon.cuda.memory(99) end)
  end)

  it("stays flat in a loop", function()
    local x = full(1000, 1)
    local function round() x = x * 0.5 + 1 end
    for _ = 1, 100 do round() end
    moon.cuda.empty_cache()
    local before = live()
    for _ = 1, 2000 do round() end
    moon.cuda.empty_cache()
    assert.equal(before, live())
    assert.is_true(math.abs(x[1] - 2) < 1e-5)
  end)
end)

describe("time on " .. gpu.device, function()
  it("is measured between two points", function()
    local seconds = moon.cuda.timer()
    full(1000, 1)
    local first = seconds()
    assert.is_true(first >= 0 and seconds() >= first)
    assert.has_error(function() require("moonlet.core").cuda_between({}, 1) end)
  end)

  it("is waited for", function()
    moon.cuda.synchronize()
    for _, flag in ipairs { "debug", "benchmark", "tf32" } do
      assert.is_false(moon.cuda[flag]())
      assert.is_true(moon.cuda[flag](true))
      assert.equal(6, (full(3, 2):sum()):item())
      assert.is_false(moon.cuda[flag](false))
    end
  end)
end)
