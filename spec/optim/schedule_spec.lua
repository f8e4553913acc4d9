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
end)
