-- Tensors of more than 2^31 elements, where 32 bits of an index are not enough, on GPUs with room
-- for them; and the same on small ones everywhere, so that what is expected is known to be right.
local moon = require "moonlet"
local core = require "moonlet.core"
local gpu = require "spec.support.gpu"

local HUGE, SMALL = 2 ^ 31 + 2 ^ 16 + 8, 2 ^ 12 + 8
local GIB = 2 ^ 30

-- Zeros but for a last element, as bytes.
local function bytes(n)
  local x = moon.zeros({ n }, { dtype = "uint8", device = gpu.device })
  x[n] = 7
  return x
end

local checks = {
  ["fill, read and write"] = function(n)
    local x = bytes(n)
    assert.equal(7, x[n])
    assert.equal(0, x[n - 1])
    moon.no_grad(x.fill_, x, 3)
    assert.equal(3 * n, x:sum():item())
  end,

  ["add, compare and choose"] = function(n)
    local y = bytes(n) + 1
    assert.equal(8, y[n])
    assert.equal(n + 7, y:sum():item())
    local where = y:eq(8)
    assert.equal(1, where:sum():item())
    assert.is_true(where[n])
  end,

  ["find the last"] = function(n)
    local x = bytes(n)
    local value, place = x:max(1)
    assert.equal(7, value:item())
    assert.equal(n, place:item())
    assert.equal(n, x:nonzero()[1][1])
    local index = moon.tensor({ n, 1 }, { dtype = "int64" }):to(gpu.device)
    assert.same({ 7, 0 }, x:index_select(1, index):totable())
    assert.same({ 7, 0 }, x:gather(1, index):totable())
  end,

  ["join, turn and copy with strides"] = function(n)
    local half = n / 2
    local x = moon.cat({ bytes(half), bytes(half) }, 1)
    assert.same({ 7, 7 }, { x[half], x[n] })
    local turned = x:view(2, half):t():contiguous()
    assert.same({ { 7, 7 } }, turned:narrow(1, half, 1):totable())
    assert.equal(14, turned:sum():item())
  end,

  ["run on along a line"] = function(n)
    local x = moon.ones({ n }, { dtype = "uint8", device = gpu.device })
    local running = x:cumsum(1)
    assert.equal(n, running[n])
  end,

  ["normalise rows"] = function(n)
    local x = moon.zeros({ n / 8, 8 }, { dtype = "float16", device = gpu.device })
    x[{ n / 8, 8 }] = 100
    local y = x:softmax(2)
    assert.same({ 0, 1 }, { y[{ n / 8, 1 }], y[{ n / 8, 8 }] })
    assert.equal(0.125, y[{ n / 8 - 1, 3 }])
  end,

  ["pool and give back"] = function(n)
    local x = moon.zeros({ 1, n / 8, 2, 4 }, { dtype = "float16", device = gpu.device })
    x[{ 1, n / 8, 2, 4 }] = 5
    x:requires_grad_()
    local y = moon.max_pool2d(x, 2)
    assert.equal(5, y[{ 1, n / 8, 1, 2 }])
    y:backward(moon.ones_like(y))
    assert.equal(1, x.grad[{ 1, n / 8, 2, 4 }])
    assert.equal(0, x.grad[{ 1, n / 8, 2, 3 }])
  end,
}

local function describe_all(kind, n)
  describe(kind .. " tensors on " .. gpu.device, function()
    for name, check in pairs(checks) do
      it(name, function()
        check(n)
        moon.cuda.empty_cache()
      end)
    end
  end)
end

describe_all("small", SMALL)
if core.cuda_info().devices[1].memory_free > 40 * GIB then
  describe_all("huge", HUGE)
end
