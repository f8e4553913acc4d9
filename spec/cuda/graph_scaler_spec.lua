-- moon.cuda.graph with moon.amp.GradScaler: a run that overflows leaves its step out, and what the
-- host knows of the step, the factor and the random stream is as without a graph.
local moon = require "moonlet"
local gpu = require "spec.support.gpu"
local nn, optim, amp = moon.nn, moon.optim, moon.amp

-- Mixed precision with what makes steps differ: dropout, the optimiser's correction, a warm-up.
-- `train(x, y)` makes a step, of the graph where `wrap` is moon.cuda.graph.
local function training(wrap, make, given)
  moon.manual_seed(5)
  local net = nn.Sequential(
    nn.Linear(6, 8), nn.LayerNorm(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3)):cuda()
  local run = { net = net, optimizer = make(net:parameters()) }
  run.scaler = amp.GradScaler(given.scaler)
  run.schedule = optim.WarmupLR(run.optimizer, 30)
  local x = moon.zeros(5, 6, { device = gpu.device })
  local y = moon.ones(5, { dtype = "int64", device = gpu.device })
  local step = wrap(function()
    run.optimizer:zero_grad()
    local loss = moon.cross_entropy(amp.autocast("float16", net, x):float(), y)
    run.scaler:scaled(loss):backward()
    if given.clip then
      run.scaler:unscale(run.optimizer)
      optim.clip_grad_value(net:parameters(), given.clip)
    end
    run.scaler:step(run.optimizer)
    run.schedule:step()
    return loss
  end)
  function run.train(pictures, labels)
    moon.no_grad(x.copy_, x, pictures:cuda())
    moon.no_grad(y.copy_, y, labels:cuda())
    return step()
  end
  return run
end

local function batches(count)
  moon.manual_seed(9)
  local list = {}
  for i = 1, count do list[i] = { moon.randn(5, 6), moon.randint(1, 3, { 5 }) } end
  return list
end

-- Trains on the batches; before(i, run) may meddle, and the trace has a row for each step.
local function trace_of(wrap, make, list, given, before)
  local run, trace = training(wrap, make, given), {}
  for i, batch in ipairs(list) do
    before(i, run)
    local loss = run.train(batch[1], batch[2]):item()
    trace[i] = { loss, run.scaler.scale, run.scaler.steps, run.optimizer:lr() }
  end
  return trace, run, moon.rand(1):item()
end

local function same_states(a, b)
  for name, value in pairs(a:state_dict()) do
    local other = b:state_dict()[name]
    if moon.is_tensor(value) then
      local size = value:abs():max():item()
      assert.is_true((value - other):abs():max():item() <= 1e-4 * math.max(size, 1e-3), name)
    else
      assert.equal(value, other, name)
    end
  end
end

-- How many steps of a trace were left out: the factor fell after those.
local function left_out(trace)
  local count = 0
  for i = 2, #trace do
    if trace[i][2] < trace[i - 1][2] then count = count + 1 end
  end
  return count
end

local function agree(make, list, given, before)
  local eager, run, drawn = trace_of(function(fn) return fn end, make, list, given, before)
  local graph, other, other_drawn = trace_of(moon.cuda.graph, make, list, given, before)
  for i, row in ipairs(eager) do
    local loss, found = row[1], graph[i][1]
    assert.is_true(math.abs(loss - found) <= 1e-4 * math.max(1, loss) or loss ~= loss,
      ("step %d: %.9g, without a graph %.9g"):format(i, found, loss))
    assert.same({ row[2], row[3], row[4] }, { graph[i][2], graph[i][3], graph[i][4] },
      "scaler or schedule at step " .. i)
  end
  same_states(run.net, other.net)
  same_states(run.optimizer, other.optimizer)
  assert.equal(drawn, other_drawn)   -- the random stream is as far
  return eager
end

local function adam(parameters) return optim.Adam(parameters, { lr = 1e-2 }) end

describe("a CUDA graph with a scaler", function()
  it("runs a hundred steps as they would have been, with overflows and growth", function()
    local list = batches(100)
    list[70][1]:mul_(1e6)   -- infinite in float16: the loss is NaN
    local trace = agree(adam, list, { scaler = { scale = 1024, interval = 7 } }, function(i, run)
      if i == 40 then run.scaler:load_state_dict { scale = 2 ^ 24, steps = 3 } end
    end)
    assert.is_true(left_out(trace) >= 4)
    assert.is_true(trace[100][2] > trace[75][2])   -- the factor has grown since
    assert.is_true(trace[70][1] ~= trace[70][1])
  end)

  it("begins where the first steps overflow, and then keeps the optimiser's state", function()
    local trace = agree(function(parameters)
      return optim.SGD(parameters, { lr = 0.05, momentum = 0.9, dampening = 0.5 })
    end, batches(16), { scaler = { scale = 2 ^ 26 } }, function() end)
    assert.is_true(left_out(trace) >= 2)
  end)

  it("takes back whatever an optimiser counts", function()
    local list = batches(6)
    list[4][1]:mul_(1e6)
    for _, make in ipairs {
      function(parameters) return optim.NAdam(parameters, { lr = 1e-2 }) end,
      function(parameters) return optim.ASGD(parameters, { lr = 1e-2, t0 = 3 }) end,
      function(parameters) return optim.Adagrad(parameters, { lr = 1e-2, lr_decay = 0.1 }) end,
      function(parameters) return optim.RAdam(parameters, { lr = 1e-2 }) end,
    } do
      agree(make, list, { scaler = { scale = 64, interval = 3 } }, function() end)
    end
  end)

  it("unscales before gradients are clipped", function()
    local list = batches(10)
    list[6][1]:mul_(1e6)
    agree(adam, list, { scaler = { scale = 4096, interval = 5 }, clip = 1e-3 }, function() end)
  end)

  it("moves a factor that is no power of two", function()
    agree(adam, batches(9), { scaler = { scale = 1000, growth = 1.7, interval = 3 } },
      function() end)
  end)

  it("may have optimisers beside it that always step", function()
    local guarded, free = nn.parameter(moon.ones(3)), nn.parameter(moon.ones(3))
    guarded, free = nn.parameter(guarded:detach():cuda()), nn.parameter(free:detach():cuda())
    local scaler = amp.GradScaler { scale = 4 }
    local first, second = optim.SGD({ guarded }, { lr = 1 }), optim.SGD({ free }, { lr = 1 })
    local x = moon.ones(3, { device = gpu.device })
    local step = moon.cuda.graph(function()
      first:zero_grad()
      second:zero_grad()
      scaler:scaled((guarded * x).sum(guarded * x)):backward()
      free:sum():backward()
      scaler:step(first)
      second:step()
    end)
    for _ = 1, 3 do step() end
    assert.same({ -2, -2 }, { guarded[1], free[1] })
    moon.no_grad(x.fill_, x, 1 / 0)
    step()
    assert.same({ -2, -3, 2 }, { guarded[1], free[1], scaler.scale })
    moon.no_grad(x.fill_, x, 1)
    step()
    assert.same({ -3, -4, 2 }, { guarded[1], free[1], scaler.scale })
  end)

  it("leaves the scaler usable when what is recorded fails", function()
    local weight = nn.parameter(moon.ones(2, { device = gpu.device }))
    local optimizer, scaler = optim.SGD({ weight }, { lr = 1 }), amp.GradScaler { scale = 4 }
    local function eager()
      optimizer:zero_grad()
      scaler:scaled(weight:sum()):backward()
    end
    local step = moon.cuda.graph(function()
      eager()
      scaler:unscale(optimizer)
      assert.has_error(function() scaler:unscale(optimizer) end)
      scaler:step(optimizer)
      weight:sum():item()   -- cannot be recorded
    end)
    step()
    assert.is_false(pcall(step))
    eager()
    assert.is_true(scaler:step(optimizer))
    assert.equal(-1, weight[1])
    assert.same({ scale = 4, steps = 2 }, scaler:state_dict())
  end)

  it("refuses what is no float on the device", function()
    local core = require "moonlet.core"
    local graph = core.cuda_graph_begin(0)
    for _, found in ipairs { moon.zeros(1), moon.zeros(2, { device = gpu.device }),
      moon.zeros(1, { dtype = "float64", device = gpu.device }) } do
      assert.has_error(function() core.cuda_graph_unless(graph, found, function() end) end)
    end
    core.cuda_graph_abort(graph)
    local found = moon.zeros(1, { device = gpu.device })
    local ok, message = pcall(core.cuda_graph_unless, graph, found, function() end)
    assert.is_false(ok)
    assert.matches("not being recorded", message)
  end)
end)
