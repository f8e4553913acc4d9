-- moon.cuda.graph: what is recorded and run again is what would have been calculated.
local moon = require "moonlet"
local gpu = require "spec.support.gpu"
local nn, optim = moon.nn, moon.optim

-- A network with what makes steps differ: dropout, running statistics, Adam's correction, a
-- schedule. `step(x, y)` trains; pictures are copied into the same tensors.
local function training(wrap)
  moon.manual_seed(5)
  local net = nn.Sequential(
    nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3)):cuda()
  local optimizer = optim.Adam(net:parameters(), { lr = 1e-2 })
  local schedule = optim.WarmupCosineLR(optimizer, 30)
  local x = moon.zeros(5, 6, { device = gpu.device })
  local y = moon.ones(5, { dtype = "int64", device = gpu.device })
  local step = wrap(function()
    optimizer:zero_grad()
    local loss = moon.cross_entropy(net(x), y)
    loss:backward()
    optimizer:step()
    schedule:step()
    return loss
  end)
  return net, function(pictures, labels)
    moon.no_grad(x.copy_, x, pictures:cuda())
    moon.no_grad(y.copy_, y, labels:cuda())
    return step()
  end, optimizer
end

local function batches(count)
  moon.manual_seed(9)
  local list = {}
  for i = 1, count do list[i] = { moon.randn(5, 6), moon.randint(1, 3, { 5 }) } end
  return list
end

describe("a CUDA graph", function()
  it("runs a hundred steps as they would have been, with dropout, Adam and a schedule", function()
    local list = batches(100)
    local function losses_of(wrap)
      local net, step, optimizer = training(wrap)
      local losses = {}
      for i, batch in ipairs(list) do losses[i] = step(batch[1], batch[2]):item() end
      local sum = 0
      for _, parameter in ipairs(net:parameters()) do
        sum = sum + parameter:abs():sum():item()
      end
      return losses, sum, optimizer:lr(), moon.rand(1):item()
    end
    local eager, sum, rate, drawn = losses_of(function(fn) return fn end)
    local graph, graph_sum, graph_rate, graph_drawn = losses_of(moon.cuda.graph)
    for i = 1, #list do
      assert.is_true(math.abs(eager[i] - graph[i]) <= 1e-5 * math.max(1, eager[i]),
        ("step %d: %.9g, without a graph %.9g"):format(i, graph[i], eager[i]))
    end
    assert.is_true(math.abs(sum - graph_sum) < 1e-4 * sum)
    assert.equal(rate, graph_rate)
    assert.equal(drawn, graph_drawn)   -- the random stream is as far
  end)

  it("bears collections between its runs, and gives its memory back", function()
    moon.cuda.empty_cache()
    local before = moon.cuda.memory().live
    do
      local _, step = training(moon.cuda.graph)
      for i, batch in ipairs(batches(6)) do
        step(batch[1], batch[2])
        collectgarbage()
        local _ = moon.randn(50 * i, { device = gpu.device })
      end
    end
    for _ = 1, 3 do collectgarbage() end
    moon.cuda.empty_cache()
    assert.equal(before, moon.cuda.memory().live)
  end)

  it("says what cannot be recorded, and leaves the device usable", function()
    local x = moon.ones(3, { device = gpu.device })
    local function refused(text, fn)
      local step = moon.cuda.graph(fn)
      step()
      local ok, message = pcall(step)
      assert.is_false(ok)
      assert.is_truthy(tostring(message):find(text, 1, true), message)
      assert.equal(3, x:sum():item())
    end
    refused("a value is read", function() return x:sum():item() end)
    refused("nothing can be waited for", function() moon.cuda.synchronize() end)
    refused("my own", function()
      if require("moonlet.capture").recording then error("my own", 0) end
    end)
    local other = moon.cuda.graph(function() return x + 1 end)
    for _ = 1, 2 do other() end
    refused("while another one is recorded", function()
      if require("moonlet.capture").recording then other() end
    end)
    refused("do not nest", function()
      local inner = moon.cuda.graph(function() return x + 1 end)
      if not require("moonlet.capture").recording then return end
      inner()
      inner()
    end)
  end)

  it("refuses optimisers whose steps are no kernel with options", function()
    local net = nn.Linear(2, 1):cuda()
    local x = moon.ones(4, 2, { device = gpu.device })
    for name, optimizer in pairs {
      LAMB = optim.LAMB(net:parameters(), { lr = 0.1 }),
      Lookahead = optim.Lookahead(optim.SGD(net:parameters(), { lr = 0.1 })),
    } do
      local step = moon.cuda.graph(function()
        optimizer:zero_grad()
        net(x):sum():backward()
        optimizer:step()
      end)
      step()
      local ok, message = pcall(step)
      assert.is_false(ok)
      assert.is_truthy(message:find(name, 1, true), message)
    end
  end)

  it("is recorded while another one goes", function()
    local x = moon.ones(2, { device = gpu.device })
    local other = moon.cuda.graph(function() return x + 1 end)
    for _ = 1, 3 do other() end
    local step = moon.cuda.graph(function()
      if require("moonlet.capture").recording then other = nil end
      for _ = 1, 3 do collectgarbage() end
      return x * 3
    end)
    for _ = 1, 3 do assert.equal(3, step()[2]) end
    assert.is_nil(other)
  end)

  it("goes on from a state that is loaded between its runs", function()
    local net, x = nn.Linear(6, 3):cuda(), moon.randn(5, 6, { device = gpu.device })
    local optimizer = optim.Adam(net:parameters(), { lr = 1e-2 })
    local ema = optim.EMA(net, { decay = 0.5 })
    local step = moon.cuda.graph(function()
      optimizer:zero_grad()
      local loss = net(x):square():sum()
      loss:backward()
      optimizer:step()
      ema:update()
      return loss
    end)
    local function losses(count)
      local found = {}
      for i = 1, count do found[i] = step():item() end
      found[count + 1] = ema:with(function() return net(x):square():sum():item() end)
      return found
    end
    local function copies(dict)
      local copied = {}
      for name, value in pairs(dict) do
        copied[name] = moon.is_tensor(value) and value:clone() or value
      end
      return copied
    end
    losses(4)
    local weights, state = copies(net:state_dict()), copies(optimizer:state_dict())
    local averages = copies(ema:state_dict())
    local first = losses(5)
    net:load_state_dict(weights)
    optimizer:load_state_dict(state)
    ema:load_state_dict(averages)
    for _ = 1, 3 do collectgarbage() end
    assert.same(first, losses(5))
  end)

  it("keeps what it was recorded with", function()
    local set = moon.cuda.graph(function(x) moon.no_grad(x.fill_, x, 1) end)
    do
      local x = moon.zeros(1000, { device = gpu.device })
      for _ = 1, 2 do set(x) end
    end
    for _ = 1, 3 do collectgarbage() end
    local y = moon.zeros(1000, { device = gpu.device })
    set()
    assert.equal(0, y:sum():item())
  end)

  it("gives results with new contents", function()
    local x = moon.ones(2, { device = gpu.device })
    local double = moon.cuda.graph(function() return x * 2, "told" end)
    double()
    for value = 1, 3 do
      moon.no_grad(x.fill_, x, value)
      local y, text = double()
      assert.equal(2 * value, y[1])
      assert.equal("told", text)
    end
  end)
end)
