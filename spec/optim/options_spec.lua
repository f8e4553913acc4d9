-- What optimisers, wrappers and averages refuse, and what all optimisers share: maximize, groups,
-- lazy parameters, closures, parameters without a gradient, memory.
local moon = require "moonlet"
local optim, nn = moon.optim, moon.nn

local function weight(...) return nn.parameter(moon.ones(...)) end
local function sgd(given) return optim.SGD({ weight(1) }, given) end

local function fails(text, fn, ...)
  local ok, message = pcall(fn, ...)
  assert.is_false(ok, "nothing was refused: " .. text)
  if not tostring(message):find(text, 1, true) then
    error(("expected '%s', got '%s'"):format(text, tostring(message)), 2)
  end
end

local function refuses(text, class, given)
  fails(text, function() optim[class]({ weight(2, 2) }, given) end)
end

local names = {
  "SGD", "Adagrad", "Adadelta", "RMSprop", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "Rprop",
  "ASGD", "LBFGS", "LAMB", "LARS", "Muon",
}

local function new(name, params, given)
  return optim[name](params, given)
end

describe("an option out of range", function()
  it("is refused by every optimiser", function()
    for _, name in ipairs(names) do
      refuses(name .. ": lr must be a number from 0, not -1", name, { lr = -1 })
      refuses(name .. ": lr must be a number from 0, not inf", name, { lr = math.huge })
      refuses(name .. ": lr must be a number from 0, not ", name, { lr = 0 / 0 })
      refuses(name .. ': lr must be a number from 0, not "fast"', name, { lr = "fast" })
      refuses(name .. ": maximize must be true or false", name, { maximize = 1 })
      refuses(name .. ': there is no option "lrr", did you mean "lr"?', name, { lrr = 1 })
      if optim[name].schema.weight_decay then
        refuses(name .. ": weight_decay must be a number from 0", name, { weight_decay = -0.1 })
      end
      if optim[name].schema.eps then
        refuses(name .. ": eps must be a number", name, { eps = -1 })
      end
      if optim[name].schema.beta1 then
        refuses(name .. ": beta1 must be a number from 0 to below 1, not 1", name, { beta1 = 1 })
        refuses(name .. ": beta2 must be a number from 0 to below 1", name, { beta2 = -0.1 })
      end
    end
  end)

  it("is refused by those that know it", function()
    local cases = {
      { "SGD: momentum must be a number from 0", "SGD", { momentum = -1 } },
      { "SGD: nesterov needs a momentum above 0, no dampening and no average", "SGD",
        { nesterov = true, momentum = 0.9, average = true } },
      { "SGD: average needs a momentum below 1, and is a dampening by itself", "SGD",
        { average = true, momentum = 0.9, dampening = 0.5 } },
      { "Adagrad: lr_decay must be a number from 0", "Adagrad", { lr_decay = -1 } },
      { "Adagrad: initial_accumulator_value must be", "Adagrad",
        { initial_accumulator_value = -1 } },
      { "Adadelta: rho must be a number from 0 to 1, not 1.5", "Adadelta", { rho = 1.5 } },
      { "RMSprop: alpha must be a number from 0 to 1", "RMSprop", { alpha = -1 } },
      { "RMSprop: centered must be true or false", "RMSprop", { centered = "yes" } },
      { "NAdam: momentum_decay must be a number from 0", "NAdam", { momentum_decay = -1 } },
      { "Rprop: eta_minus must lie below 1 and eta_plus above, not 0.5 and 0.9", "Rprop",
        { eta_plus = 0.9 } },
      { "Rprop: step_min must not exceed step_max, but 2 > 1", "Rprop",
        { step_min = 2, step_max = 1 } },
      { "ASGD: lambd must be a number from 0", "ASGD", { lambd = -1 } },
      { "LBFGS: max_iter must be a whole number from 1, not 0", "LBFGS", { max_iter = 0 } },
      { "LBFGS: history_size must be a whole number from 1", "LBFGS", { history_size = 0.5 } },
      { 'LBFGS: line_search_fn must be one of "none", "strong_wolfe"', "LBFGS",
        { line_search_fn = "armijo" } },
      { "LARS: trust must be a number above 0, not 0", "LARS", { trust = 0 } },
      { "LARS: nesterov needs a momentum above 0", "LARS", { nesterov = true, momentum = 0 } },
      { "Muon: momentum must be a number from 0 to 1", "Muon", { momentum = 2 } },
      { "Muon: ns_steps must lie below 100, not 100", "Muon", { ns_steps = 100 } },
      { 'Muon: adjust_lr_fn must be one of "original"', "Muon", { adjust_lr_fn = "none" } },
    }
    for _, row in ipairs(cases) do refuses(row[1], row[2], row[3]) end
  end)

  it("is refused in a group, by whoever it belongs to", function()
    for _, name in ipairs(names) do
      if name ~= "LBFGS" then
        fails(name .. ": lr must be a number from 0", optim[name],
          { { params = { weight(2, 2) }, lr = -1 } })
      end
    end
  end)
end)

describe("parameters that do not suit", function()
  it("are refused by Muon unless they are matrices", function()
    fails("Muon: parameter 2 has 1 dimensions; Muon moves matrices", optim.Muon,
      { weight(2, 2), weight(3) })
  end)

  it("are refused by LBFGS in several groups", function()
    fails("LBFGS: all parameters go in one group", optim.LBFGS,
      { { params = { weight(1) } }, { params = { weight(1) } } })
    local opt = optim.LBFGS { weight(1) }
    fails("LBFGS: all parameters go in one group", opt.add_group, opt, {})
  end)

  it("are refused by EMA", function()
    fails("EMA: the first argument is a net or a list of parameters", optim.EMA, 3)
    fails("EMA: the first argument is a net or a list of parameters", optim.EMA, {})
    fails("EMA: parameter 1 must be a tensor, not 3", optim.EMA, { 3 })
    fails("EMA: decay must be a number from 0 to 1, not 2", optim.EMA, { weight(1) },
      { decay = 2 })
  end)
end)

describe("a wrapper", function()
  it("wants an optimiser and its own options", function()
    for _, name in ipairs { "Lookahead", "SAM" } do
      fails(name .. ": the first argument is an optimiser", optim[name], { weight(1) })
    end
    fails("Lookahead: k must be a whole number from 1, not 0", optim.Lookahead, sgd(), { k = 0 })
    fails("Lookahead: alpha must be a number from 0 to 1", optim.Lookahead, sgd(), { alpha = 2 })
    fails("SAM: rho must be a number from 0, not -1", optim.SAM, sgd(), { rho = -1 })
  end)

  it("shows the wrapped one's rate to schedules, which set it", function()
    for _, name in ipairs { "Lookahead", "SAM" } do
      local base = sgd { lr = 1 }
      local opt = optim[name](base)
      local schedule = optim.ExponentialLR(opt, 0.5)
      schedule:step()
      assert.equal(0.5, opt:lr())
      assert.equal(0.5, base:lr())
    end
  end)

  it("takes new groups into the wrapped one", function()
    local base = sgd { lr = 1 }
    local opt, late = optim.Lookahead(base, { k = 1, alpha = 0.5 }), weight(1)
    opt:add_group { params = { late }, lr = 2 }
    late.grad = moon.ones(1)
    opt:step()
    assert.equal(0, late[1])   -- 1 - 2, and half of the way back
  end)

  it("names the steps in their order", function()
    local opt = optim.SAM(sgd())
    fails("SAM: step needs a closure", opt.step, opt)
    fails("SAM: first_step comes before second_step", opt.second_step, opt)
    opt:first_step()
    fails("SAM: first_step was called already", opt.first_step, opt)
  end)
end)

describe("optimisers that want a closure", function()
  it("are not wrapped by SAM, and are by Lookahead", function()
    local p = weight(2)
    fails("SAM: LBFGS calculates the loss at points of its own", optim.SAM, optim.LBFGS { p })
    local opt = optim.Lookahead(optim.LBFGS({ p }, { line_search_fn = "strong_wolfe" }),
      { k = 1, alpha = 0.5 })
    opt:step(function()
      opt:zero_grad()
      local loss = p:square():sum()
      loss:backward()
      return loss
    end)
    assert.is_true(math.abs(p[1] - 0.5) < 1e-3)   -- half of the way back from 0 to 1
  end)

  it("say so to whoever forgets it", function()
    local opt = optim.Lookahead(optim.SAM(sgd()))
    assert.is_true(opt.wants_closure)
    fails("SAM: step needs a closure", opt.step, opt)
  end)
end)

describe("EMA out of turn", function()
  it("says what comes first", function()
    local ema = optim.EMA { weight(1) }
    fails("EMA: restore comes after apply", ema.restore, ema)
    ema:update()
    ema:apply()
    fails("EMA: the averaged weights are in use already", ema.apply, ema)
    fails("EMA: the averaged weights are in use; call restore first", ema.update, ema)
  end)
end)

-- One step under a gradient of ones; Muon's needs a matrix, LBFGS a closure.
local function one_step(name, params, given, slope)
  local opt = new(name, params, given)
  for _, p in ipairs(params) do p.grad = moon.full_like(p, slope or 1):detach() end
  opt:step(name == "LBFGS" and function() return slope or 1 end or nil)
  return opt
end

describe("every optimiser", function()
  it("moves against the gradient, and with it under maximize", function()
    for _, name in ipairs(names) do
      local down, up = weight(2, 2), weight(2, 2)
      one_step(name, { down }, { lr = 0.1, weight_decay = optim[name].schema.weight_decay and 0 })
      one_step(name, { up },
        { lr = 0.1, weight_decay = optim[name].schema.weight_decay and 0, maximize = true })
      local fall, rise = 1 - down[{ 1, 2 }], up[{ 1, 2 }] - 1
      assert.is_true(fall > 0, name)
      assert.is_true(math.abs(fall - rise) < 1e-4, name)   -- ASGD decays whichever way it goes
    end
  end)

  it("leaves a parameter without a gradient alone, and its state unmade", function()
    for _, name in ipairs(names) do
      local used, unused = weight(2, 2), weight(2, 2)
      local opt = new(name, { used, unused }, { lr = 0.1 })
      used.grad = moon.ones(2, 2)
      opt:step(name == "LBFGS" and function() return 1 end or nil)
      assert.same({ { 1, 1 }, { 1, 1 } }, unused:totable(), name)
      assert.is_nil(opt:state_dict()["state.2.step"], name)
    end
  end)

  it("keeps weights leaves and state off the tape", function()
    for _, name in ipairs(names) do
      local p = weight(2, 2)
      local opt = one_step(name, { p })
      assert.is_true(p.is_leaf and p.requires_grad, name)
      for key, value in pairs(opt:state_dict()) do
        assert.is_false(moon.is_tensor(value) and value.requires_grad, name .. key)
      end
    end
  end)

  it("waits for a lazy parameter's first forward", function()
    for _, name in ipairs(names) do
      local net = nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 1))
      local params = name == "Muon" and { net[1].weight, net[2].weight } or net:parameters()
      local opt = new(name, params, { lr = 0.1 })
      if name ~= "LBFGS" then opt:step() end   -- nothing has a gradient
      opt:zero_grad()
      local function closure()
        opt:zero_grad()
        local loss = net(moon.ones(2, 4)):square():mean()
        loss:backward()
        return loss
      end
      closure()
      local before = net[1].weight:totable()
      opt:step(closure)
      assert.not_same(before, net[1].weight:totable(), name)
    end
  end)

  it("moves halves, empty weights and views", function()
    for _, name in ipairs(names) do
      local half = nn.parameter(moon.ones(2, 2, { dtype = "float16" }))
      one_step(name, { half }, { lr = name == "LARS" and 100 or 0.1 })
      assert.is_true(half[{ 1, 1 }] < 1, name)
      assert.equal("float16", half.dtype)
      local turned = nn.parameter(moon.ones(3, 2):t())
      one_step(name, { turned }, { lr = 0.1 })
      assert.is_true(turned[{ 2, 3 }] < 1, name)
      if name ~= "Muon" and name ~= "LBFGS" then one_step(name, { weight(0) }, { lr = 0.1 }) end
    end
  end)

  it("decays each group as the group says", function()
    for _, name in ipairs(names) do
      if optim[name].schema.weight_decay then
        local decayed, left = weight(2, 2), weight(2, 2)
        local opt = optim[name] {
          { params = { decayed }, weight_decay = 0.5 }, { params = { left }, weight_decay = 0 },
        }
        for t = 1, 20 do   -- gradients that lead nowhere
          for _, p in ipairs { decayed, left } do p.grad = moon.full({ 2, 2 }, 0.01 * (-1) ^ t) end
          opt:step()
        end
        assert.is_true(decayed[{ 1, 1 }] < left[{ 1, 1 }], name)
      end
    end
  end)

  it("runs a closure with the tape on and gives its loss", function()
    for _, name in ipairs(names) do
      local p = weight(2, 2)
      local opt = new(name, { p }, { lr = 0.1 })
      local loss = moon.no_grad(function()
        return opt:step(function()
          opt:zero_grad()
          local value = (p * p):sum()
          value:backward()
          return value
        end)
      end)
      assert.equal(4, loss:item(), name)
      assert.is_true(p[{ 1, 1 }] < 1, name)
      fails("closure must be a function or a callable object, not 3", opt.step, opt, 3)
    end
  end)

  it("drops its temporaries with each step", function()
    for _, name in ipairs(names) do
      local p = nn.parameter(moon.randn(256, 256))
      p.grad = moon.randn(256, 256)
      local opt = new(name, { p })
      local closure = name == "LBFGS" and function() return 1 end or nil
      opt:step(closure)
      if name ~= "LBFGS" then   -- which runs the closure and may open no scope round it
        moon.collect()
        collectgarbage "stop"
        local before = moon.memory().live
        for _ = 1, 5 do opt:step(closure) end
        local grown = moon.memory().live - before
        collectgarbage "restart"
        assert.is_true(grown < 256 * 256, name .. " left " .. grown .. " bytes")
      end
    end
  end)
end)

describe("add_group", function()
  it("trains more parameters with the optimiser's options or their own", function()
    local a, b = weight(1), weight(1)
    local opt = optim.SGD({ a }, { lr = 0.5, momentum = 0.9 })
    opt:add_group { params = { b }, lr = 0.25 }
    a.grad, b.grad = moon.ones(1), moon.ones(1)
    opt:step()
    assert.equal(0.5, a[1])
    assert.equal(0.75, b[1])
    assert.equal(0.9, opt.groups[2].momentum)
  end)

  it("reaches a schedule made before", function()
    local opt = sgd { lr = 1 }
    local schedule = optim.ExponentialLR(opt, 0.5)
    schedule:step()
    opt:add_group { params = { weight(1) }, lr = 4 }
    schedule:step()
    assert.equal(0.25, opt.groups[1].lr)
    assert.equal(1, opt.groups[2].lr)
  end)

  it("says what is wrong", function()
    local p = weight(1)
    local opt = optim.SGD { p }
    fails("SGD: a group is a table with params", opt.add_group, opt, { p })
    fails("SGD: a parameter of the new group is trained already", opt.add_group, opt,
      { params = { p } })
    fails("SGD: lr must be a number from 0", opt.add_group, opt,
      { params = { weight(1) }, lr = -1 })
    fails("only leaf tensors can be trained", opt.add_group, opt, { params = { p * 2 } })
  end)
end)

describe("LBFGS", function()
  it("needs a closure that gives a number", function()
    local opt = optim.LBFGS { weight(1) }
    fails("LBFGS: step needs a closure", opt.step, opt)
    fails("LBFGS: the closure returns the loss", opt.step, opt, function() end)
  end)

  it("puts the weights back when the closure fails in the middle of a search", function()
    local p, calls = nn.parameter(moon.tensor { -1.5, 2 }), 0
    local opt = optim.LBFGS({ p }, { line_search_fn = "strong_wolfe" })
    local function closure()
      calls = calls + 1
      if calls == 4 then error("no more data", 0) end
      opt:zero_grad()
      local loss = (p:square() * moon.tensor { 1, 30 }):sum()
      loss:backward()
      return loss
    end
    fails("no more data", opt.step, opt, closure)
    assert.same({ -1.5, 2 }, p:totable())
    assert.equal(0, opt:state_dict()["memory.iterations"])
    opt:step(closure)
    assert.is_true(p:abs():max():item() < 1e-3)
  end)

  it("finds the bottom of Rosenbrock's valley", function()
    local p = nn.parameter(moon.tensor({ -1.5, 2 }, { dtype = "float64" }))
    local opt = optim.LBFGS({ p }, {
      line_search_fn = "strong_wolfe", max_iter = 100, tolerance_change = 1e-15,
    })
    opt:step(function()
      opt:zero_grad()
      local x, y = p:select(1, 1), p:select(1, 2)
      local loss = (1 - x):square() + (y - x:square()):square() * 100
      loss:backward()
      return loss
    end)
    assert.is_true((p - 1):abs():max():item() < 1e-6)
  end)
end)

describe("Muon's orthogonal matrix", function()
  it("has singular values near 1 and the directions of what it came from", function()
    local a = moon.tensor({ { 3, 0, 0 }, { 0, 0, 0.5 } }, { dtype = "float64" })
    local x = optim.Muon.orthogonalize(a, 5, 1e-7)
    local gram = x:mm(x:t())
    for i = 1, 2 do
      assert.is_true(gram[{ i, i }] > 0.4 and gram[{ i, i }] < 1.5)
      assert.is_true(math.abs(gram[{ i, 3 - i }]) < 1e-9)
    end
    local tall = optim.Muon.orthogonalize(a:t(), 5, 1e-7)
    assert.is_true((tall - x:t()):abs():max():item() < 1e-12)
  end)
end)
