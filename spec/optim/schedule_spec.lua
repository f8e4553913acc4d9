-- Schedules of learning rates against their formulas, and their state.
local moon = require "moonlet"
local nn, optim = moon.nn, moon.optim

local function optimizer(lr)
  return optim.SGD({ nn.Parameter(moon.ones(1)) }, { lr = lr or 1 })
end

-- The learning rates at counts 0, 1, ... n.
local function course(schedule, n)
  local rates = { schedule:lr() }
  for i = 1, n do
    schedule:step()
    rates[i + 1] = schedule:lr()
  end
  return rates
end

local function near(expected, found)
  assert.equal(#expected, #found)
  for i, value in ipairs(expected) do assert.is_true(math.abs(value - found[i]) < 1e-12) end
end

describe("schedules", function()
  it("follow their formulas", function()
    near({ 1, 1, 0.5, 0.5, 0.25 }, course(optim.StepLR(optimizer(), 2, { gamma = 0.5 }), 4))
    near({ 1, 0.1, 0.1, 0.01 }, course(optim.MultiStepLR(optimizer(), { 1, 3 }), 3))
    near({ 2, 1, 0.5 }, course(optim.ExponentialLR(optimizer(2), 0.5), 2))
    near({ 1, 0.5, 0, 0.5 }, course(optim.CosineAnnealingLR(optimizer(), 2), 3))
    near({ 0, 0.5, 1, 1 }, course(optim.WarmupLR(optimizer(), 2), 3))
    near({ 0.5, 0.75, 1, 0.5, 0 },
      course(optim.WarmupCosineLR(optimizer(), 4, { warmup = 0.5, start = 0.5, finish = 0 }), 4))
  end)

  it("follow closed formulas at every count, of PyTorch's names and beyond", function()
    local cos, pi = math.cos, math.pi
    local cases = {
      { optim.StepLR(optimizer(2), 3), function(t) return 2 * 0.1 ^ math.floor(t / 3) end },
      { optim.ExponentialLR(optimizer(2), 0.7), function(t) return 2 * 0.7 ^ t end },
      { optim.ConstantLR(optimizer(3)), function(t) return t < 5 and 1 or 3 end },
      { optim.LinearLR(optimizer(3)), function(t) return 1 + math.min(t / 5, 1) * 2 end },
      { optim.PolynomialLR(optimizer(2)), function(t) return 2 * math.max(0, 1 - t / 5) end },
      { optim.CosineAnnealingLR(optimizer(2), 10, { eta_min = 1 }),
        function(t) return 1 + (1 + cos(pi * t / 10)) / 2 end },
      { optim.CosineAnnealingWarmRestarts(optimizer(2), 4, { eta_min = 1 }),
        function(t) return 1 + (1 + cos(pi * (t % 4) / 4)) / 2 end },
      { optim.CosineAnnealingWarmRestarts(optimizer(), 1, { T_mult = 2 }), function(t)
        local length = 2 ^ math.floor(math.log(t + 1) / math.log(2) + 1e-9)   -- 1, 2, 4, 8, ...
        return (1 + cos(pi * (t + 1 - length) / length)) / 2
      end },
      { optim.LambdaLR(optimizer(2), math.sqrt), function(t) return 2 * math.sqrt(t) end },
      { optim.CyclicLR(optimizer(), 1, 3, { step_size_up = 4, cycle_momentum = false }),
        function(t) return 1 + 2 * (1 - math.abs(t % 8 - 4) / 4) end },
      { optim.OneCycleLR(optimizer(), 2, 16, {
          anneal_strategy = "linear", pct_start = 0.5, cycle_momentum = false, div_factor = 4,
          final_div_factor = 10,
        }),
        function(t)
          if t <= 7 then return 0.5 + 1.5 * t / 7 end
          return 2 - 1.95 * math.min(t - 7, 8) / 8   -- stays lowest after the end
        end },
      { optim.WarmupLR(optimizer(2), 4, { start = 0.5 }),
        function(t) return 1 + math.min(t / 4, 1) end },
    }
    for _, case in ipairs(cases) do
      local expected = {}
      for t = 0, 20 do expected[t + 1] = case[2](t) end
      near(expected, course(case[1], 20))
    end
  end)

  it("take their first rate from the optimiser as it was before any of them", function()
    local opt = optimizer(2)
    optim.LinearLR(opt, { start_factor = 0.5 })
    assert.equal(1, opt:lr())
    assert.equal(2, optim.ExponentialLR(opt, 0.5).base[1])
  end)

  it("are stepped per batch where asked", function()
    assert.is_false(optim.StepLR(optimizer(), 2).per_batch)
    assert.is_true(optim.StepLR(optimizer(), 2, { per_batch = true }).per_batch)
    assert.is_true(optim.OneCycleLR(optimizer(), 1, 4).per_batch)
    local opt = optimizer()
    local whole = optim.SequentialLR({
      optim.LinearLR(opt, { per_batch = true }), optim.ExponentialLR(opt, 0.5),
    }, { 3 })
    assert.is_true(whole.per_batch)
  end)

  it("cycle Adam's beta1 in the momentum's place", function()
    local opt = optim.Adam { nn.Parameter(moon.ones(1)) }
    local schedule = optim.OneCycleLR(opt, 1, 10)
    assert.equal(0.95, opt.groups[1].beta1)
    for _ = 1, 2 do schedule:step() end
    assert.is_true(math.abs(opt.groups[1].beta1 - 0.85) < 1e-12)
  end)

  it("keep the groups' rates apart", function()
    local a, b = nn.Parameter(moon.ones(1)), nn.Parameter(moon.ones(1))
    local opt = optim.SGD({ { params = { a }, lr = 1 }, { params = { b }, lr = 4 } })
    optim.ExponentialLR(opt, 0.5):step()
    assert.equal(0.5, opt.groups[1].lr)
    assert.equal(2, opt.groups[2].lr)
  end)

  it("lower the rate when a metric stands still", function()
    local schedule = optim.ReduceLROnPlateau(optimizer(), { patience = 1, factor = 0.5 })
    local rates = {}
    for i, metric in ipairs { 3, 2, 2, 2, 2, 2, 1 } do
      schedule:step(metric)
      rates[i] = schedule:lr()
    end
    assert.same({ 1, 1, 1, 0.5, 0.5, 0.25, 0.25 }, rates)
  end)

  it("wait out a cooldown and stop at the minimum", function()
    local schedule = optim.ReduceLROnPlateau(optimizer(),
      { patience = 0, factor = 0.1, cooldown = 1, min_lr = 0.05, mode = "max" })
    local rates = {}
    for i = 1, 6 do
      schedule:step(1)
      rates[i] = schedule:lr()
    end
    assert.same({ 1, 0.1, 0.1, 0.05, 0.05, 0.05 }, rates)
  end)

  it("go on from a state dictionary", function()
    local cases = {
      function(opt) return optim.StepLR(opt, 2) end,
      function(opt) return optim.WarmupCosineLR(opt, 10) end,
      function(opt) return optim.ReduceLROnPlateau(opt, { patience = 0 }) end,
    }
    for _, make in ipairs(cases) do
      local whole, half = make(optimizer()), make(optimizer())
      for _ = 1, 3 do
        whole:step(1)
        half:step(1)
      end
      local opt = optimizer(half.optimizer:lr())
      local resumed = make(opt)
      resumed:load_state_dict(half:state_dict())
      whole:step(1)
      resumed:step(1)
      assert.equal(whole:lr(), resumed:lr())
    end
  end)

  it("say what they want", function()
    local _, message = pcall(optim.StepLR, 3, 2)
    assert.matches("StepLR: the first argument is an optimiser", message)
    _, message = pcall(optim.StepLR, optimizer(), 0)
    assert.matches("StepLR: step_size must be a whole number from 1", message)
    _, message = pcall(function() optim.ReduceLROnPlateau(optimizer()):step() end)
    assert.matches("metric must be a number", message)
  end)

  it("refuse what makes no course", function()
    local opt, other = optimizer(), optimizer()
    local adagrad = optim.Adagrad { nn.Parameter(moon.ones(1)) }
    local function part(o) return optim.ExponentialLR(o, 0.5) end
    local cases = {
      { "StepLR: gamma must be a number from 0", optim.StepLR, opt, 2, { gamma = -1 } },
      { 'did you mean "gamma"', optim.StepLR, opt, 2, { gama = 1 } },
      { "ExponentialLR: gamma must be a number from 0", optim.ExponentialLR, opt, "a" },
      { "MultiStepLR: milestone 2 must be a whole number from 1", optim.MultiStepLR, opt,
        { 1, 0 } },
      { "ConstantLR: factor must be a number from 0 to 1, not 2", optim.ConstantLR, opt,
        { factor = 2 } },
      { "LinearLR: start_factor must be above 0", optim.LinearLR, opt, { start_factor = 0 } },
      { "PolynomialLR: total_iters must be a whole number from 1", optim.PolynomialLR, opt,
        { total_iters = 0 } },
      { "CosineAnnealingLR: T_max must be a whole number from 1, not 0.5",
        optim.CosineAnnealingLR, opt, 0.5 },
      { "CosineAnnealingWarmRestarts: T_0 must be", optim.CosineAnnealingWarmRestarts, opt, 0 },
      { "CosineAnnealingWarmRestarts: T_mult must be", optim.CosineAnnealingWarmRestarts, opt, 2,
        { T_mult = 1.5 } },
      { "LambdaLR: fn must be a function", optim.LambdaLR, opt, 3 },
      { "LambdaLR: function 1 must be a function", optim.LambdaLR, opt, { 3 } },
      { "LambdaLR: the function gave nil", optim.LambdaLR, opt, function() end },
      { "OneCycleLR: max_lr must be a number from 0", optim.OneCycleLR, opt, nil, 10 },
      { "OneCycleLR: max_lr must be a number, or a list of", optim.OneCycleLR, opt, {}, 10 },
      { "OneCycleLR: total_steps must be a whole number from 1", optim.OneCycleLR, opt, 1 },
      { "OneCycleLR: pct_start must be a number from 0 to 1", optim.OneCycleLR, opt, 1, 10,
        { pct_start = 2 } },
      { "OneCycleLR: Adagrad has no momentum to cycle", optim.OneCycleLR, adagrad, 1, 10 },
      { "CyclicLR: base_lr must be a number from 0", optim.CyclicLR, opt },
      { "CyclicLR: Adagrad has no momentum to cycle", optim.CyclicLR, adagrad, 1, 2 },
      { 'CyclicLR: mode must be one of "triangular"', optim.CyclicLR, opt, 1, 2,
        { mode = "round" } },
      { "SequentialLR: the first argument is a list of schedules", optim.SequentialLR, {} },
      { "SequentialLR: part 2 is no schedule", optim.SequentialLR, { part(opt), 3 }, { 1 } },
      { "SequentialLR: 2 schedules need a list of 1 milestones", optim.SequentialLR,
        { part(opt), part(opt) }, {} },
      { "SequentialLR: milestones must rise", optim.SequentialLR,
        { part(opt), part(opt), part(opt) }, { 3, 3 } },
      { "SequentialLR: part 2 belongs to another optimiser", optim.SequentialLR,
        { part(opt), part(other) }, { 1 } },
      { "ChainedScheduler: ReduceLROnPlateau wants a metric", optim.ChainedScheduler,
        { optim.ReduceLROnPlateau(opt) } },
      { "ReduceLROnPlateau: factor must be a number from 0 to below 1", optim.ReduceLROnPlateau,
        opt, { factor = 1 } },
      { "ReduceLROnPlateau: min_lr must be a number from 0", optim.ReduceLROnPlateau, opt,
        { min_lr = "low" } },
    }
    for _, case in ipairs(cases) do
      local ok, message = pcall(case[2], case[3], case[4], case[5], case[6])
      assert.is_false(ok, case[1])
      assert.is_truthy(message:find(case[1], 1, true), message)
    end
  end)

  it("refuse another schedule's state", function()
    local one, two = optim.StepLR(optimizer(), 2), optim.ExponentialLR(optimizer(), 0.5)
    local _, message = pcall(one.load_state_dict, one, two:state_dict())
    assert.matches("this is StepLR, the state is of ExponentialLR", message)
  end)
end)
