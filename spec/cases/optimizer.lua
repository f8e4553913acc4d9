-- Cases of the optimiser steps: one step from a state in the middle of a run, beside the rule in
-- plain Lua numbers and PyTorch's functional optimisers. Each gives the parameter and its state.
local moon = require "moonlet"
local case = require "spec.support.case"
local T = case.float

local unpack = require "moonlet.unpack"

local no_gradient = "a step is no function: it runs without the tape"

-- A copy that may be written, strided where the original is.
local function own(x)
  if x:is_contiguous() then return x:clone() end
  return moon.stack({ x, x }, -1):select(-1, 1)
end

-- The step of a name on copies; results are the parameter and the states that there are.
local function stepping(name, states)
  local step = moon[name .. "_"]
  return function(parameter, gradient, ...)
    local arguments = { own(parameter), gradient, ... }
    local results = { arguments[1] }
    for i = 3, 2 + states do
      if arguments[i] then
        arguments[i] = own(arguments[i])
        results[#results + 1] = arguments[i]
      end
    end
    step(unpack(arguments, 1, 2 + select("#", ...)))
    return unpack(results)
  end
end

local function numbers(x) return x and x:contiguous():view(-1):totable() end

local function tensor(list, like)
  if #list == 0 then return like:clone() end
  return moon.tensor(list, { dtype = "float64" }):view(like:size())
end

-- rule(p, g, s, o) gives the new p from numbers and changes the states s; both sides of a case get
-- the same arguments. Weight decay and maximize are the same in every rule.
local function each_element(states, rule)
  return function(parameter, gradient, ...)
    local given, o = { ... }, (select(states + 1, ...))
    local ps, gs, lists = numbers(parameter), numbers(gradient), {}
    for s = 1, states do lists[s] = numbers(given[s]) end
    local decay = o.weight_decay or 0
    for i = 1, #ps do
      local p, s, g = ps[i], {}, (o.maximize and -1 or 1) * gs[i]
      for k = 1, states do s[k] = lists[k] and lists[k][i] end
      if o.decoupled then p = p - o.lr * decay * p else g = g + decay * p end
      ps[i] = rule(p, g, s, o)
      for k = 1, states do
        if lists[k] then lists[k][i] = s[k] end
      end
    end
    local results = { tensor(ps, parameter) }
    for k = 1, states do
      if lists[k] then results[#results + 1] = tensor(lists[k], given[k]) end
    end
    return unpack(results)
  end
end

-- -- rules, with PyTorch's defaults

local function mean(old, new, beta) return beta * old + (1 - beta) * new end

local function moments(s, g, o)
  s[1], s[2] = mean(s[1], g, o.beta1 or 0.9), mean(s[2], g * g, o.beta2 or 0.999)
end

local function corrections(o)
  return 1 - (o.beta1 or 0.9) ^ o.step, 1 - (o.beta2 or 0.999) ^ o.step
end

local rules = {}

function rules.sgd(p, g, s, o)
  local momentum = o.momentum or 0
  if momentum ~= 0 then
    s[1] = o.first and g or momentum * s[1] + (1 - (o.dampening or 0)) * g
    g = o.nesterov and g + momentum * s[1] or s[1]
  end
  return p - o.lr * g
end

function rules.adam(p, g, s, o)
  moments(s, g, o)
  if s[3] then s[3] = math.max(s[3], s[2]) end
  local c1, c2 = corrections(o)
  return p - o.lr * s[1] / c1 / (math.sqrt((s[3] or s[2]) / c2) + (o.eps or 1e-8))
end

function rules.adagrad(p, g, s, o)
  s[1] = s[1] + g * g
  local rate = o.lr / (1 + (o.step - 1) * (o.lr_decay or 0))
  return p - rate * g / (math.sqrt(s[1]) + (o.eps or 1e-10))
end

function rules.adadelta(p, g, s, o)
  local eps, rho = o.eps or 1e-6, o.rho or 0.9
  s[1] = mean(s[1], g * g, rho)
  local d = math.sqrt(s[2] + eps) / math.sqrt(s[1] + eps) * g
  s[2] = mean(s[2], d * d, rho)
  return p - (o.lr or 1) * d
end

function rules.rmsprop(p, g, s, o)
  local alpha, eps = o.alpha or 0.99, o.eps or 1e-8
  s[1] = mean(s[1], g * g, alpha)
  if s[2] then s[2] = mean(s[2], g, alpha) end
  local d = g / (math.sqrt(s[1] - (s[2] or 0) ^ 2) + eps)
  if s[3] then
    s[3] = (o.momentum or 0) * s[3] + d
    d = s[3]
  end
  return p - o.lr * d
end

function rules.adamax(p, g, s, o)
  s[1] = mean(s[1], g, o.beta1 or 0.9)
  s[2] = math.max((o.beta2 or 0.999) * s[2], math.abs(g) + (o.eps or 1e-8))
  return p - o.lr / corrections(o) * s[1] / s[2]
end

function rules.nadam(p, g, s, o)
  moments(s, g, o)
  local _, c2 = corrections(o)
  local root = math.sqrt(s[2] / c2) + (o.eps or 1e-8)
  p = p - o.lr * (1 - o.mu) / (1 - o.product) * g / root
  return p - o.lr * o.next_mu / (1 - o.product * o.next_mu) * s[1] / root
end

function rules.radam(p, g, s, o)
  moments(s, g, o)
  local c1, c2 = corrections(o)
  local beta2 = o.beta2 or 0.999
  local most = 2 / (1 - beta2) - 1
  local length = most - 2 * o.step * beta2 ^ o.step / c2
  if length <= 5 then return p - o.lr * s[1] / c1 end
  local rectified = (length - 4) * (length - 2) * most / ((most - 4) * (most - 2) * length)
  return p - o.lr * s[1] / c1 * math.sqrt(c2 * rectified) / (math.sqrt(s[2]) + (o.eps or 1e-8))
end

function rules.rprop(p, g, s, o)
  local agreement = g * s[1]
  if agreement > 0 then s[2] = s[2] * (o.eta_plus or 1.2) end
  if agreement < 0 then g, s[2] = 0, s[2] * (o.eta_minus or 0.5) end
  s[2] = math.min(math.max(s[2], o.step_min or 1e-6), o.step_max or 50)
  s[1] = g
  return p - (g > 0 and s[2] or g < 0 and -s[2] or 0)
end

function rules.asgd(p, g, s, o)
  p = p * (1 - (o.lambd or 1e-4) * o.eta) - o.eta * g
  s[1] = s[1] + (o.mu or 1) * (p - s[1])
  return p
end

-- -- PyTorch's side

-- Calls torch.optim.<name>.<name>(lists and numbers) and gives the tensors of `results`.
local function torch(name, arguments, results)
  return ("(__import__('sys').modules['torch.optim.%s'].%s(%s, foreach=False), (%s,))[1]"):format(
    name, name, arguments, results)
end

local function t_sgd(results, more)
  return torch("sgd", ("[a], [b], [%s], %s, maximize=False"):format(
    results == "a" and "None" or "c", more), results)
end

local function t_adam(step, lists, more, results)
  return torch("adam", ("[a], [b], [c], [d], %s, [torch.tensor(%d.)], %s"):format(
    lists, step - 1, more), results)
end

local function t_moments(name, step, more)
  return torch(name, ("[a], [b], [c], [d], [torch.tensor(%d.)], %s"):format(step - 1, more),
    "a, c, d")
end

-- -- arguments

local shape, positive = { 3, 4 }, { low = 0.1, high = 2 }
local function P(...) return T({ ... }, positive) end

local function fuzz(states, options, ranges)
  return function(draw)
    local size = { draw(0, 3), draw(1, 5) }
    local row = { T(size), T(size) }
    for s = 1, states do row[2 + s] = T(size, ranges[s] or positive) end
    row[3 + states] = options(draw)
    return row
  end
end

local function part(draw) return draw(0, 9) / 10 end

-- ranges: from where the states are drawn, if not from 0.1 .. 2
local function entry(name, states, cases, options, ranges)
  ranges = ranges or {}
  local large = { T { 200, 300 }, T { 200, 300 } }
  for s = 1, states do large[2 + s] = T({ 200, 300 }, ranges[s] or positive) end
  large[3 + states] = options(function(low) return low end)
  return {
    call = stepping(name .. "_step", states), naive = each_element(states, rules[name]),
    gradient = false, why = no_gradient, cases = cases, fuzz = fuzz(states, options, ranges),
    large = large,
  }
end

local MU, NEXT_MU = 0.7 * (1 - 0.5 * 0.96 ^ 0.3), 0.7 * (1 - 0.5 * 0.96 ^ 0.4)   -- t = 3, decay 0.1

local PREFIX = "[a], [b], [c], "

return {
  sgd_step = entry("sgd", 1, {
    { T(shape), T(shape), nil, { lr = 0.5 }, n = 4,
      torch = t_sgd("a", "weight_decay=0, momentum=0, lr=0.5, dampening=0, nesterov=False") },
    { T(shape), T(shape), T(shape),
      { lr = 0.5, momentum = 0.8, dampening = 0.3, weight_decay = 0.1 },
      torch = t_sgd("a, c",
        "weight_decay=0.1, momentum=0.8, lr=0.5, dampening=0.3, nesterov=False") },
    { T(shape), T(shape), T(shape), { lr = 0.5, momentum = 0.8, nesterov = true },
      torch = t_sgd("a, c", "weight_decay=0, momentum=0.8, lr=0.5, dampening=0, nesterov=True") },
    { T(shape), T(shape), T(shape), { lr = 0.5, momentum = 0.8, first = true } },
    { T { 0, 4 }, T { 0, 4 }, T { 0, 4 }, { lr = 0.5, momentum = 0.8 } },
  }, function(draw)
    return { lr = part(draw), momentum = part(draw), dampening = part(draw),
             weight_decay = part(draw), first = draw(0, 1) == 1 }
  end),

  adam_step = entry("adam", 3, {
    { T(shape), T(shape), T(shape), P(3, 4), nil, { lr = 0.1, step = 5 }, n = 6,
      torch = t_adam(5, "[]", "amsgrad=False, beta1=0.9, beta2=0.999, lr=0.1, weight_decay=0, " ..
        "eps=1e-8, maximize=False", "a, c, d") },
    { T(shape), T(shape), T(shape), P(3, 4), nil,
      { lr = 0.1, step = 2, beta1 = 0.5, beta2 = 0.7, eps = 1e-2, weight_decay = 0.3,
        decoupled = true }, n = 6,
      torch = t_adam(2, "[]", "amsgrad=False, beta1=0.5, beta2=0.7, lr=0.1, weight_decay=0.3, " ..
        "eps=1e-2, maximize=False, decoupled_weight_decay=True", "a, c, d") },
    { T(shape), T(shape), T(shape), P(3, 4), P(3, 4),
      { lr = 0.1, step = 3, beta1 = 0.5, beta2 = 0.7, weight_decay = 0.3 },
      torch = t_adam(3, "[e]", "amsgrad=True, beta1=0.5, beta2=0.7, lr=0.1, weight_decay=0.3, " ..
        "eps=1e-8, maximize=False", "a, c, d, e") },
    { T { 0 }, T { 0 }, T { 0 }, T { 0 }, T { 0 }, { lr = 0.1, step = 1 } },
  }, function(draw)
    return { lr = part(draw), beta1 = part(draw), beta2 = part(draw), weight_decay = part(draw),
             step = draw(1, 9), decoupled = draw(0, 1) == 1, eps = 0.1 }
  end),

  adagrad_step = entry("adagrad", 1, {
    { T(shape), T(shape), P(3, 4), { lr = 0.5, step = 1 },
      torch = torch("adagrad", PREFIX .. "[torch.tensor(0.)], lr=0.5, weight_decay=0, " ..
        "lr_decay=0, eps=1e-10, maximize=False", "a, c") },
    { T(shape), T(shape), P(3, 4),
      { lr = 0.5, step = 4, lr_decay = 0.2, eps = 0.1, weight_decay = 0.3, maximize = true },
      torch = torch("adagrad", PREFIX .. "[torch.tensor(3.)], lr=0.5, weight_decay=0.3, " ..
        "lr_decay=0.2, eps=0.1, maximize=True", "a, c") },
    { T { 2, 0 }, T { 2, 0 }, T { 2, 0 }, { lr = 0.5, step = 1 } },
  }, function(draw)
    return { lr = part(draw), lr_decay = part(draw), weight_decay = part(draw), step = draw(1, 9),
             maximize = draw(0, 1) == 1 }
  end),

  adadelta_step = entry("adadelta", 2, {
    { T(shape), T(shape), P(3, 4), P(3, 4), {},
      torch = torch("adadelta", PREFIX .. "[d], [torch.tensor(0.)], lr=1, rho=0.9, eps=1e-6, " ..
        "weight_decay=0, maximize=False", "a, c, d") },
    { T(shape), T(shape), P(3, 4), P(3, 4),
      { lr = 2, rho = 0.6, eps = 0.1, weight_decay = 0.3, maximize = true },
      torch = torch("adadelta", PREFIX .. "[d], [torch.tensor(0.)], lr=2, rho=0.6, eps=0.1, " ..
        "weight_decay=0.3, maximize=True", "a, c, d") },
    { T { 1 }, T { 1 }, P(1), P(1), { lr = 0 } },
    { T { 0 }, T { 0 }, T { 0 }, T { 0 }, {} },
  }, function(draw)
    return { lr = part(draw), rho = part(draw), eps = 0.1, weight_decay = part(draw),
             maximize = draw(0, 1) == 1 }
  end),

  rmsprop_step = entry("rmsprop", 3, {
    { T(shape), T(shape), P(3, 4), nil, nil, { lr = 0.5 }, n = 6,
      torch = torch("rmsprop", PREFIX .. "[], [], [torch.tensor(0.)], lr=0.5, alpha=0.99, " ..
        "eps=1e-8, weight_decay=0, momentum=0, centered=False", "a, c") },
    { T(shape), T(shape), T(shape, { low = 1, high = 2 }), T(shape, { low = 0, high = 0.5 }),
      T(shape), { lr = 0.5, alpha = 0.9, eps = 0.1, weight_decay = 0.1, momentum = 0.6,
                  maximize = true },
      torch = torch("rmsprop", PREFIX .. "[d], [e], [torch.tensor(0.)], lr=0.5, alpha=0.9, " ..
        "eps=0.1, weight_decay=0.1, momentum=0.6, centered=True, maximize=True",
        "a, c, d, e") },
    { T(shape), T(shape), P(3, 4), nil, T(shape), { lr = 0.5, momentum = 0.6 },
      torch = torch("rmsprop", PREFIX .. "[], [d], [torch.tensor(0.)], lr=0.5, alpha=0.99, " ..
        "eps=1e-8, weight_decay=0, momentum=0.6, centered=False", "a, c, d") },
    { T { 0, 1 }, T { 0, 1 }, T { 0, 1 }, T { 0, 1 }, T { 0, 1 }, { lr = 0.5, momentum = 0.6 } },
  }, function(draw)
    return { lr = part(draw), alpha = draw(2, 9) / 10, eps = 0.1, weight_decay = part(draw),
             momentum = part(draw), maximize = draw(0, 1) == 1 }
  end, { { low = 3, high = 4 }, { low = -1, high = 1 } }),   -- more than the mean's square

  adamax_step = entry("adamax", 2, {
    { T(shape), T(shape), T(shape), P(3, 4), { lr = 0.5, step = 1 },
      torch = t_moments("adamax", 1, "eps=1e-8, beta1=0.9, beta2=0.999, lr=0.5, weight_decay=0") },
    { T(shape), T(shape), T(shape), P(3, 4),
      { lr = 0.5, step = 4, beta1 = 0.6, beta2 = 0.8, eps = 0.1, weight_decay = 0.3,
        maximize = true },
      torch = t_moments("adamax", 4,
        "eps=0.1, beta1=0.6, beta2=0.8, lr=0.5, weight_decay=0.3, maximize=True") },
    { T { 0 }, T { 0 }, T { 0 }, T { 0 }, { lr = 0.5, step = 1 } },
  }, function(draw)
    return { lr = part(draw), beta1 = part(draw), beta2 = part(draw), weight_decay = part(draw),
             step = draw(1, 9), maximize = draw(0, 1) == 1 }
  end),

  nadam_step = entry("nadam", 2, {
    { T(shape), T(shape), T(shape), P(3, 4),
      { lr = 0.5, step = 3, beta1 = 0.7, mu = MU, next_mu = NEXT_MU, product = 0.5 * MU },
      torch = torch("nadam", PREFIX .. "[d], [torch.tensor(0.5, dtype=torch.float64)], " ..
        "[torch.tensor(2.)], beta1=0.7, beta2=0.999, lr=0.5, weight_decay=0, " ..
        "momentum_decay=0.1, eps=1e-8", "a, c, d") },
    { T(shape), T(shape), T(shape), P(3, 4),
      { lr = 0.5, step = 3, beta1 = 0.7, beta2 = 0.8, mu = MU, next_mu = NEXT_MU,
        product = 0.5 * MU, weight_decay = 0.3, decoupled = true, maximize = true, eps = 0.1 },
      torch = torch("nadam", PREFIX .. "[d], [torch.tensor(0.5, dtype=torch.float64)], " ..
        "[torch.tensor(2.)], beta1=0.7, beta2=0.8, lr=0.5, weight_decay=0.3, " ..
        "momentum_decay=0.1, eps=0.1, decoupled_weight_decay=True, maximize=True", "a, c, d") },
    { T { 0 }, T { 0 }, T { 0 }, T { 0 },
      { lr = 0.5, step = 1, mu = 0.5, next_mu = 0.5, product = 0.5 } },
  }, function(draw)
    return { lr = part(draw), mu = part(draw), next_mu = part(draw), product = part(draw),
             beta1 = part(draw), beta2 = part(draw), eps = 0.1, weight_decay = part(draw),
             step = draw(1, 9), decoupled = draw(0, 1) == 1, maximize = draw(0, 1) == 1 }
  end),

  radam_step = entry("radam", 2, {
    { T(shape), T(shape), T(shape), P(3, 4), { lr = 0.5, step = 2 },   -- not adaptive yet
      torch = t_moments("radam", 2, "beta1=0.9, beta2=0.999, lr=0.5, weight_decay=0, eps=1e-8") },
    { T(shape), T(shape), T(shape), P(3, 4), { lr = 0.5, step = 6 },   -- adaptive
      torch = t_moments("radam", 6, "beta1=0.9, beta2=0.999, lr=0.5, weight_decay=0, eps=1e-8") },
    { T(shape), T(shape), T(shape), P(3, 4),
      { lr = 0.5, step = 40, beta1 = 0.6, beta2 = 0.9, eps = 0.1, weight_decay = 0.3,
        decoupled = true, maximize = true },
      torch = t_moments("radam", 40, "beta1=0.6, beta2=0.9, lr=0.5, weight_decay=0.3, " ..
        "eps=0.1, decoupled_weight_decay=True, maximize=True") },
    { T { 0 }, T { 0 }, T { 0 }, T { 0 }, { lr = 0.5, step = 1 } },
  }, function(draw)
    return { lr = part(draw), beta1 = part(draw), beta2 = draw(0, 99) / 100, eps = 0.1,
             weight_decay = part(draw), step = draw(1, 40), decoupled = draw(0, 1) == 1,
             maximize = draw(0, 1) == 1 }
  end),

  rprop_step = entry("rprop", 2, {
    { T(shape), T(shape), T(shape), P(3, 4), {},
      torch = t_moments("rprop", 1,
        "step_size_min=1e-6, step_size_max=50, etaminus=0.5, etaplus=1.2") },
    { T(shape), T(shape), T(shape), P(3, 4),
      { eta_minus = 0.1, eta_plus = 3, step_min = 0.3, step_max = 2, maximize = true },
      torch = t_moments("rprop", 1,
        "step_size_min=0.3, step_size_max=2, etaminus=0.1, etaplus=3, maximize=True") },
    { T { 0 }, T { 0 }, T { 0 }, T { 0 }, {} },
  }, function(draw)
    return { eta_minus = part(draw), eta_plus = 1 + part(draw), step_min = part(draw),
             step_max = 1 + part(draw), maximize = draw(0, 1) == 1 }
  end),

  asgd_step = entry("asgd", 1, {
    { T(shape), T(shape), T(shape), { eta = 0.5 },
      torch = torch("asgd", PREFIX .. "[torch.ones(())], [torch.tensor(0.5)], " ..
        "[torch.tensor(1.)], lambd=1e-4, lr=0.5, t0=1, alpha=0.75, weight_decay=0", "a, c") },
    { T(shape), T(shape), T(shape),
      { eta = 0.25, mu = 0.5, lambd = 0.3, weight_decay = 0.2, maximize = true },
      torch = torch("asgd", PREFIX .. "[torch.tensor(0.5)], [torch.tensor(0.25)], " ..
        "[torch.tensor(1.)], lambd=0.3, lr=0.25, t0=1, alpha=0.75, weight_decay=0.2, " ..
        "maximize=True", "a, c") },
    { T { 0 }, T { 0 }, T { 0 }, { eta = 0.5 } },
  }, function(draw)
    return { eta = part(draw), mu = part(draw), lambd = part(draw), weight_decay = part(draw),
             maximize = draw(0, 1) == 1 }
  end),
}
