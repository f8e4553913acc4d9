-- Tensors of a CUDA device that cross between Lua states, each with a stream of its own. The
-- emulated device does what is on a stream only when somebody waits for it.
local moon = require "moonlet"
local gpu = require "spec.support.gpu"
local started = require "spec.support.started"

local COUNT = 10000
local start = started.worker

local function full(value) return moon.full({ COUNT }, value, { device = gpu.device }) end

local function collect()
  for _ = 1, 3 do collectgarbage() end
end

after_each(function()
  started.close()
  collect()   -- a worker's memory goes to the driver with its last tensor, which waits for all
end)

describe("a tensor on " .. gpu.device .. " that crosses to another Lua state", function()
  it("is calculated before it is read", function()
    local worker = start("give_from_device", { count = COUNT, times = 2 })
    for _ = 1, 2 do assert.equal(6 * COUNT, worker:receive():sum():item()) end
  end)

  it("may be written there, and read again once a message says so", function()
    local worker, x = start("add", { by = 2 }), full(1)
    for i = 1, 3 do
      worker:send(x)
      assert.equal("done", worker:receive())
      x:add_(1)
      assert.equal((1 + 3 * i) * COUNT, x:sum():item())
    end
  end)

  it("keeps its memory until it was read there", function()
    local worker = start "triple_on_device"
    local function give() worker:send(full(5)) end   -- nothing of it stays here
    give()
    assert.equal("asked", worker:receive())
    collect()
    local later = full(0)
    assert.equal(0, later:sum():item())
    worker:send "go on"
    assert.equal(15 * COUNT, worker:receive())
  end)

  it("may arrive while a graph is recorded", function()
    local worker = start("give_from_device", { count = COUNT, times = 2 })
    local arrived = {}
    local step = moon.cuda.graph(function()
      local x = worker:receive()
      arrived[#arrived + 1] = x   -- the graph reads it in each run
      return x + 1
    end)
    for _ = 1, 3 do assert.equal(7 * COUNT, step():sum():item()) end
    assert.equal(2, #arrived)
  end)
end)
