-- The optimiser steps of one formula (csrc/device/steps.def): sentences, version counters, states
-- that a rule has and a call has not, allocations that fail. Values: spec/cases/optimizer.lua.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local naive = require "spec.support.naive"

-- name = { states, options }
local steps = {
  adagrad = { 1, { lr = 0.5, step = 1 } }, adadelta = { 2, {} },
  rmsprop = { 3, { lr = 0.5, momentum = 0.5 } }, adamax = { 2, { lr = 0.5, step = 1 } },
  nadam = { 2, { lr = 0.5, mu = 0.5, next_mu = 0.5, product = 0.5, step = 1 } },
  radam = { 2, { lr = 0.5, step = 1 } }, rprop = { 2, {} }, asgd = { 1, { eta = 0.5 } },
}

local function with(o, name, value)
  local copy = {}
  for k, v in pairs(o) do copy[k] = v end
  copy[name] = value
  return copy
end

-- Calls a step on tensors that make(i) makes: parameter, gradient, states.
local function call(name, o, make)
  local arguments = {}
  for i = 1, 2 + steps[name][1] do arguments[i] = make(i) end
  arguments[#arguments + 1] = o or steps[name][2]
  local unpack = require "moonlet.unpack"
  return moon[name .. "_step_"](unpack(arguments))
end

local function ones() return moon.ones(2, 3) end

local function fails(text, name, o, make)
  naive.fails(text, call, name, o, make or ones)
end

describe("each optimiser step", function()
  it("says what does not fit", function()
    for name in pairs(steps) do
      local function odd(at, value)
        return function(i) return i == at and value or ones() end
      end
      fails("gradient must have the shape of parameter, 2x3, got 3x2", name, nil,
        odd(2, moon.ones(3, 2)))
      fails("must have the shape of parameter, 2x3, got 6", name, nil, odd(3, moon.ones(6)))
      fails("parameter is float32 but gradient is float64", name, nil, odd(2, ones():double()))
      fails("is expanded", name, nil, odd(3, moon.ones(1, 3):expand(2, 3)))
      fails("parameter must be of a float type, got int64", name, nil,
        function() return ones():long() end)
      fails("must not be the parameter itself", name, nil, (function()
        local shared = ones()
        return function(i) return i ~= 2 and shared or ones() end
      end)())
      fails('there is no option "speed"', name, with(steps[name][2], "speed", 1))
    end
  end)

  it("says which number is out of range", function()
    for name, row in pairs(steps) do
      for option in pairs(row[2]) do
        if option == "step" then
          fails("step counts from 1, got 0", name, with(row[2], "step", 0))
        else
          fails(option .. " must be a number not below 0, got -1", name, with(row[2], option, -1))
          fails(option .. " must be a number not below 0", name, with(row[2], option, 0 / 0))
        end
      end
    end
    fails("beta1 must lie in 0..1 without 1, got 1", "adamax", with(steps.adamax[2], "beta1", 1))
    fails("beta2 must lie in 0..1 without 1, got 2", "radam", with(steps.radam[2], "beta2", 2))
    fails("step_min must not exceed step_max, got 2 and 1", "rprop",
      { step_min = 2, step_max = 1 })
    fails("product and product * next_mu must lie below 1, got 1 and 0.5", "nadam",
      with(steps.nadam[2], "product", 1))
    fails("momentum 0.5 needs a momentum_buffer of the parameter's shape", "rmsprop", nil,
      function(i) return i < 5 and ones() or nil end)
    fails("lr is missing", "adagrad", { step = 1 })
  end)

  it("counts as a write of parameter and states, so that backward notices", function()
    for name, row in pairs(steps) do
      for at = 1, 2 + row[1] do
        if at ~= 2 then
          local leaf = moon.ones(2, 3):requires_grad_()
          local loss = (leaf * leaf):sum()
          moon.no_grad(call, name, nil, function(i) return i == at and leaf or ones() end)
          naive.fails(name .. "_step_ changed it in place", function() loss:backward() end)
        end
      end
    end
  end)

  it("leaves the gradient alone, also where it shares memory with the parameter", function()
    for name in pairs(steps) do
      local g = moon.full({ 2, 3 }, 0.5)
      call(name, nil, function(i) return i == 2 and g or ones() end)
      naive.close(g, moon.full({ 2, 3 }, 0.5))
      local apart, shared = ones(), ones()
      call(name, nil, function(i) return i == 1 and apart or ones() end)
      call(name, nil, function(i) return i < 3 and shared or ones() end)
      naive.close(shared, apart)
    end
  end)

  it("survives the failure of any allocation", function()
    for name in pairs(steps) do
      local tensors = {}
      for i = 1, 2 + steps[name][1] do tensors[i] = moon.ones(4, 3):t() end
      faults.every_allocation(function()
        call(name, nil, function(i) return tensors[i] end)
      end)
    end
  end)
end)

describe("rmsprop_step_", function()
  it("needs neither mean nor buffer, and keeps nothing where they are absent", function()
    local p, square = ones(), moon.zeros(2, 3)
    moon.rmsprop_step_(p, ones(), square, { lr = 0.5, alpha = 0.75 })
    naive.close(square, moon.full({ 2, 3 }, 0.25))
    naive.close(p, moon.zeros(2, 3), 1e-6)
  end)

  it("is not led astray by a large gradient's mean that nobody keeps", function()
    -- The gradient's square overflows; its mean's square would too, and 0 times it is no number.
    local p, square = moon.ones(1), moon.zeros(1)
    moon.rmsprop_step_(p, moon.tensor { 1e30 }, square, { lr = 0.5 })
    assert.equal(1, p[1])
  end)
end)

describe("adam_step_ with the largest moment", function()
  it("never speeds up again after a large gradient", function()
    local p, m, v, largest = moon.zeros(1), moon.zeros(1), moon.zeros(1), moon.zeros(1)
    for step, slope in ipairs { 1, 100, 1, 1, 1, 1 } do
      local before = largest[1]
      moon.adam_step_(p, moon.tensor { slope }, m, v, largest, { lr = 1, step = step, beta2 = 0.5 })
      assert.is_true(largest[1] >= before and largest[1] >= v[1])
    end
    assert.is_true(v[1] < largest[1] / 10)
  end)

  it("names it when it does not fit", function()
    local function z() return moon.zeros(2) end
    naive.fails("largest must have the shape of parameter, 2, got 3", moon.adam_step_, z(), z(),
      z(), z(), moon.zeros(3), { lr = 1, step = 1 })
  end)
end)
