-- Optimisers and schedules beside PyTorch's, step by step: what make_training.py stored under the
-- same keys (its WAYS and COURSES), with options that are no defaults.
local moon = require "moonlet"
local stream = require "spec.support.stream"
local optim = moon.optim

local stored = moon.load("spec/fixtures/training.safetensors")

local ways = {
  ["sgd"] = { "SGD", { lr = 0.1 } },
  ["sgd-dampened"] = { "SGD", { lr = 0.1, momentum = 0.8, dampening = 0.3, weight_decay = 0.02 } },
  ["sgd-nesterov"] = { "SGD", { lr = 0.1, momentum = 0.9, nesterov = true, weight_decay = 0.01 } },
  ["sgd-up"] = { "SGD", { lr = 0.02, momentum = 0.5, maximize = true } },
  ["adagrad"] = { "Adagrad", {} },
  ["adagrad-odd"] = { "Adagrad", {
    lr = 0.3, lr_decay = 0.05, weight_decay = 0.03, initial_accumulator_value = 0.2, eps = 1e-3,
  } },
  ["adadelta"] = { "Adadelta", {} },
  ["adadelta-odd"] = { "Adadelta", { lr = 2.5, rho = 0.7, eps = 1e-4, weight_decay = 0.04 } },
  ["rmsprop"] = { "RMSprop", {} },
  ["rmsprop-odd"] = { "RMSprop", {
    lr = 0.02, alpha = 0.8, eps = 1e-3, weight_decay = 0.05, momentum = 0.7, centered = true,
  } },
  ["rmsprop-momentum"] = { "RMSprop", { lr = 0.02, momentum = 0.4, maximize = true } },
  ["adam"] = { "Adam", {} },
  ["adam-odd"] = { "Adam", {
    lr = 0.05, beta1 = 0.6, beta2 = 0.8, eps = 1e-3, weight_decay = 0.1,
  } },
  ["adam-amsgrad"] = { "Adam", {
    lr = 0.2, beta1 = 0.5, beta2 = 0.6, weight_decay = 0.02, amsgrad = true,
  } },
  ["adam-amsgrad by name"] = { "AMSGrad", {
    lr = 0.2, beta1 = 0.5, beta2 = 0.6, weight_decay = 0.02,
  }, stored = "adam-amsgrad" },
  ["adamw"] = { "AdamW", { lr = 0.02, weight_decay = 0.3 } },
  ["adamw-amsgrad"] = { "AdamW", {
    lr = 0.2, beta1 = 0.5, beta2 = 0.6, weight_decay = 0.2, amsgrad = true, maximize = true,
  } },
  ["adamax"] = { "Adamax", {} },
  ["adamax-odd"] = { "Adamax", {
    lr = 0.05, beta1 = 0.7, beta2 = 0.9, eps = 1e-3, weight_decay = 0.05,
  } },
  ["nadam"] = { "NAdam", {} },
  ["nadam-odd"] = { "NAdam", {
    lr = 0.05, beta1 = 0.7, beta2 = 0.9, eps = 1e-3, weight_decay = 0.05, momentum_decay = 0.1,
  } },
  ["nadam-decoupled"] = { "NAdam", {
    lr = 0.05, weight_decay = 0.2, decoupled_weight_decay = true,
  } },
  ["radam"] = { "RAdam", {} },
  ["radam-odd"] = { "RAdam", {
    lr = 0.05, beta1 = 0.7, beta2 = 0.9, eps = 1e-3, weight_decay = 0.05,
  } },
  ["radam-decoupled"] = { "RAdam", {
    lr = 0.05, weight_decay = 0.2, decoupled_weight_decay = true,
  } },
  ["rprop"] = { "Rprop", {} },
  ["rprop-odd"] = { "Rprop", {
    lr = 0.1, eta_minus = 0.3, eta_plus = 1.7, step_min = 0.01, step_max = 0.3,
  } },
  ["asgd"] = { "ASGD", {} },
  ["asgd-odd"] = { "ASGD", { lr = 0.1, lambd = 0.05, alpha = 0.6, t0 = 5, weight_decay = 0.1 } },
  ["muon"] = { "Muon", {} },
  ["muon-odd"] = { "Muon", {
    lr = 0.05, weight_decay = 0.5, momentum = 0.7, nesterov = false, ns_steps = 3,
    adjust_lr_fn = "match_rms_adamw",
  } },
  ["muon-tall"] = { "Muon", {
    lr = 0.05, weight_decay = 0.1, adjust_lr_fn = "spectral_unclamped",
  } },
  ["lbfgs"] = { "LBFGS", { lr = 0.1, max_iter = 3, history_size = 2 } },
  ["lbfgs-wolfe"] = { "LBFGS", {
    max_iter = 2, history_size = 4, line_search_fn = "strong_wolfe",
  } },
}

local STEPS = 20

local function near(expected, found, limit)
  local most = (expected - found):abs():max():item()
  assert.is_true(most < limit, ("largest difference %.3g"):format(most))
end

local function problem()
  local x, y = stream.uniform(500, { 8, 4 }, -1, 1), stream.uniform(501, { 8, 3 }, -1, 1)
  local w = moon.nn.parameter(stream.uniform(502, { 4, 3 }, -1, 1))
  local b = moon.nn.parameter(stream.uniform(503, { 3 }, -1, 1))
  return w, b, function() return moon.mse_loss((x:mm(w) + b):tanh(), y) end
end

-- Both parameters, flat, after each step, and the optimiser.
local function follow(class, given)
  local w, b, loss_of = problem()
  local opt = optim[class](class == "Muon" and { w } or { w, b }, given)
  local rows = {}
  local function closure()
    w.grad, b.grad = nil, nil
    local loss = loss_of()
    loss:backward()
    return loss
  end
  for step = 1, STEPS do
    opt:step(closure)
    rows[step] = moon.cat({ w:detach():reshape(-1), b:detach() }, 1)
  end
  return moon.stack(rows, 1), opt
end


-- L-BFGS divides differences of gradients by each other, which magnifies roundings.
local limits = { ["lbfgs-wolfe"] = 1e-9, lbfgs = 1e-10 }

describe("optimisers go PyTorch's way:", function()
  for key, way in pairs(ways) do
    it(key, function()
      local found, opt = follow(way[1], way[2])
      near(stored["way/" .. (way.stored or key)], found, limits[key] or 1e-12)
      local averages = stored["way/" .. key .. "/averages"]
      if averages then
        local mine = opt:averages()
        near(averages, moon.cat({ mine[1]:reshape(-1), mine[2]:reshape(-1) }, 1), 1e-12)
      end
    end)
  end

  it("every stored one is compared", function()
    for name in pairs(stored) do
      local key = name:match("^way/([^/]+)")
      assert.is_true(key == nil or ways[key] ~= nil, key)
    end
  end)
end)

describe("LBFGS in Rosenbrock's valley", function()
  it("tries the points that PyTorch tries", function()
    local p = moon.nn.parameter(moon.tensor({ -1.5, 2 }, { dtype = "float64" }))
    local opt, rows = optim.LBFGS({ p }, {
      max_iter = 3, history_size = 3, line_search_fn = "strong_wolfe", tolerance_change = 0,
    }), {}
    for step = 1, 12 do
      opt:step(function()
        opt:zero_grad()
        local x, y = p:select(1, 1), p:select(1, 2)
        local loss = (1 - x):square() + (y - x:square()):square() * 100
        loss:backward()
        return loss
      end)
      local count = opt:state_dict()["memory.evaluations"]
      rows[step] = { p[1], p[2], count }
    end
    -- The valley is narrow: by the last step, the last digits of the first are in the ninth place.
    near(stored.valley, moon.tensor(rows, { dtype = "float64" }), 1e-6)
  end)
end)

describe("optim.EMA", function()
  it("averages as torch.optim.swa_utils does", function()
    local x, y = stream.uniform(500, { 8, 4 }, -1, 1), stream.uniform(501, { 8, 3 }, -1, 1)
    local w = moon.nn.parameter(stream.uniform(502, { 4, 3 }, -1, 1))
    local opt, ema = optim.SGD({ w }, { lr = 0.5 }), optim.EMA({ w }, { decay = 0.8 })
    for _ = 1, 10 do
      opt:zero_grad()
      moon.mse_loss(x:mm(w), y):backward()
      opt:step()
      ema:update()
    end
    near(stored.ema, ema.averages[1], 1e-13)
  end)
end)

local function sequential(opt)
  return optim.SequentialLR({
    optim.LinearLR(opt, { start_factor = 0.2, total_iters = 4 }),
    optim.CosineAnnealingLR(opt, 6), optim.ExponentialLR(opt, 0.5),
  }, { 4, 10 })
end

local function chained(opt)
  return optim.ChainedScheduler {
    optim.ConstantLR(opt, { factor = 0.1, total_iters = 3 }), optim.ExponentialLR(opt, 0.9),
    optim.StepLR(opt, 6, { gamma = 0.5 }),
  }
end

-- key = { class, arguments... } or a maker
local courses = {
  ["step"] = { "StepLR", 3, { gamma = 0.5 } },
  ["multistep"] = { "MultiStepLR", { 2, 5, 11 }, { gamma = 0.3 } },
  ["exponential"] = { "ExponentialLR", 0.9 },
  ["constant"] = { "ConstantLR", { factor = 0.25, total_iters = 4 } },
  ["linear"] = { "LinearLR", { start_factor = 0.1, end_factor = 0.8, total_iters = 7 } },
  ["polynomial"] = { "PolynomialLR", { total_iters = 9, power = 1.7 } },
  ["cosine"] = { "CosineAnnealingLR", 8, { eta_min = 0.01 } },
  ["restarts"] = { "CosineAnnealingWarmRestarts", 3, { T_mult = 2, eta_min = 0.01 } },
  ["restarts-even"] = { "CosineAnnealingWarmRestarts", 4 },
  ["lambda"] = { "LambdaLR", function(epoch) return 1 / (1 + epoch) end },
  ["onecycle"] = { "OneCycleLR", 0.5, 21 },
  ["onecycle-odd"] = { "OneCycleLR", { 0.5, 0.2 }, 21, {
    pct_start = 0.4, anneal_strategy = "linear", div_factor = 10, final_div_factor = 50,
    three_phase = true, base_momentum = 0.7, max_momentum = 0.8,
  } },
  ["cyclic"] = { "CyclicLR", 0.1, 0.5, { step_size_up = 3, step_size_down = 5 } },
  ["cyclic-halving"] = { "CyclicLR", 0.1, { 0.5, 0.3 }, {
    step_size_up = 3, mode = "triangular2",
  } },
  ["cyclic-range"] = { "CyclicLR", 0.1, 0.5, {
    step_size_up = 4, mode = "exp_range", gamma = 0.9, cycle_momentum = false,
  } },
  ["sequential"] = sequential,
  ["chained"] = chained,
  ["plateau"] = { "ReduceLROnPlateau", {
    factor = 0.5, patience = 1, cooldown = 2, min_lr = { 0.06, 0.01 },
  } },
  ["plateau-max"] = { "ReduceLROnPlateau", {
    mode = "max", factor = 0.3, patience = 0, threshold = 0.05, threshold_mode = "abs",
  } },
}

local function two_groups()
  local groups = {}
  for g = 1, 2 do groups[g] = { params = { moon.nn.parameter(moon.zeros(1)) } } end
  groups[2].lr = 0.05
  return optim.SGD(groups, { lr = 0.4, momentum = 0.9 })
end

local function make(course, opt)
  if type(course) == "function" then return course(opt) end
  return optim[course[1]](opt, course[2], course[3], course[4])
end

local metrics = stream.uniform(600, { STEPS }, 0, 1):totable()

local function advance(schedule, step)
  schedule:step(schedule.wants_metric and metrics[step] or nil)
end

local function row(opt)
  local one, two = opt.groups[1], opt.groups[2]
  return { one.lr, two.lr, one.momentum }
end

describe("schedules take PyTorch's course:", function()
  for key, course in pairs(courses) do
    it(key, function()
      local opt = two_groups()
      local schedule = make(course, opt)
      local rows = { row(opt) }
      for step = 1, STEPS do
        advance(schedule, step)
        rows[step + 1] = row(opt)
      end
      near(stored["course/" .. key], moon.tensor(rows, { dtype = "float64" }), 1e-14)
    end)

    it(key .. " again, from a checkpoint in the middle", function()
      local opt = two_groups()
      local schedule = make(course, opt)
      for step = 1, 7 do advance(schedule, step) end
      local path = os.tmpname()
      moon.train.checkpoint.save(path, { schedule = schedule, optimizer = opt })
      local other = two_groups()
      local resumed = make(course, other)
      moon.train.checkpoint.load(path, { schedule = resumed, optimizer = other })
      os.remove(path)
      assert.same(row(opt), row(other))
      for step = 8, STEPS do
        advance(schedule, step)
        advance(resumed, step)
        assert.same(row(opt), row(other))
      end
    end)
  end

  it("every stored one is compared", function()
    for name in pairs(stored) do
      local key = name:match("^course/(.+)")
      assert.is_true(key == nil or courses[key] ~= nil, key)
    end
  end)
end)
