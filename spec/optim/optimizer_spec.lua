-- What all optimisers share, shown with SGD and Adam: groups, state, interrupts, sentences.
local moon = require "moonlet"
local nn, optim = moon.nn, moon.optim

-- One parameter of two numbers, moved by hand-given gradients.
local function parameter(values)
  return nn.Parameter(moon.tensor(values, { dtype = "float64" }))
end

local function run(opt, p, gradients)
  for _, gradient in ipairs(gradients) do
    p.grad = moon.tensor(gradient, { dtype = "float64" })
    opt:step()
  end
  return p:totable()
end

local function near(expected, found)
  for i, value in ipairs(expected) do
    assert.is_true(math.abs(value - found[i]) < 1e-12, value .. " is not " .. found[i])
  end
end

-- The same rules in plain Lua numbers.
local function naive_sgd(x, gradients, o)
  local buffer
  for _, g in ipairs(gradients) do
    g = g + (o.weight_decay or 0) * x
    if o.momentum then
      buffer = buffer and o.momentum * buffer + (1 - (o.dampening or 0)) * g or g
      g = o.nesterov and g + o.momentum * buffer or buffer
    end
    x = x - o.lr * g
  end
  return x
end

local function naive_adam(x, gradients, o)
  local m, v = 0, 0
  for t, g in ipairs(gradients) do
    if o.decoupled then x = x - o.lr * o.weight_decay * x else g = g + o.weight_decay * x end
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
    x = x - o.lr * (m / (1 - 0.9 ^ t)) / (math.sqrt(v / (1 - 0.999 ^ t)) + 1e-8)
  end
  return x
end

local gradients = { { 0.5, -1 }, { 0.25, 2 }, { -1, 0.125 } }
local first, second = { 0.5, 0.25, -1 }, { -1, 2, 0.125 }

describe("SGD", function()
  it("moves as the formula says", function()
    local cases = {
      { lr = 0.1 }, { lr = 0.1, momentum = 0.9 }, { lr = 0.1, weight_decay = 0.01 },
      { lr = 0.1, momentum = 0.9, dampening = 0.5, weight_decay = 0.1 },
      { lr = 0.1, momentum = 0.9, nesterov = true },
    }
    for _, o in ipairs(cases) do
      local p = parameter { 1, 2 }
      near({ naive_sgd(1, first, o), naive_sgd(2, second, o) },
        run(optim.SGD({ p }, o), p, gradients))
    end
  end)

  it("refuses nesterov without momentum", function()
    local _, message = pcall(optim.SGD, { parameter { 1 } }, { nesterov = true })
    assert.matches("SGD: nesterov needs a momentum", message)
  end)
end)

describe("Adam", function()
  it("moves as the formula says", function()
    local o = { lr = 0.1, weight_decay = 0.05 }
    local p = parameter { 1, 2 }
    near({ naive_adam(1, first, o), naive_adam(2, second, o) },
      run(optim.Adam({ p }, o), p, gradients))
  end)

  it("takes the decay off the parameter as AdamW", function()
    local o = { lr = 0.1, weight_decay = 0.05 }
    local p = parameter { 1, 2 }
    local expected = { lr = 0.1, weight_decay = 0.05, decoupled = true }
    near({ naive_adam(1, first, expected), naive_adam(2, second, expected) },
      run(optim.AdamW({ p }, o), p, gradients))
  end)
end)

describe("an optimiser", function()
  it("takes groups with options of their own", function()
    local a, b = parameter { 1 }, parameter { 1 }
    local opt = optim.SGD({ { params = { a }, lr = 1 }, { params = { b } } }, { lr = 0.5 })
    a.grad, b.grad = moon.ones(1, { dtype = "float64" }), moon.ones(1, { dtype = "float64" })
    opt:step()
    assert.equal(0, a[1])
    assert.equal(0.5, b[1])
  end)

  it("takes weight decay by group", function()
    for _, name in ipairs { "SGD", "AdamW", "RMSprop" } do
      local a, b, c = parameter { 1 }, parameter { 1 }, parameter { 1 }
      local opt = optim[name]({ { params = { a }, weight_decay = 0.5 },
        { params = { b }, weight_decay = 0 }, { params = { c } } },
        { lr = 0.1, weight_decay = 0.5 })
      for _, p in ipairs { a, b, c } do p.grad = moon.zeros(1, { dtype = "float64" }) end
      opt:step()
      assert.equal(1, b[1], name)
      assert.is_true(a[1] < 1, name)
      assert.equal(a[1], c[1], name)
    end
  end)

  it("leaves parameters without a gradient alone", function()
    local p = parameter { 1 }
    optim.Adam({ p }):step()
    assert.equal(1, p[1])
  end)

  it("drops gradients", function()
    local p = parameter { 1 }
    p.grad = moon.ones(1, { dtype = "float64" })
    optim.SGD({ p }):zero_grad()
    assert.is_nil(p.grad)
  end)

  it("goes on from a state dictionary as if never stopped", function()
    for _, name in ipairs { "SGD", "Adam", "AdamW" } do
      local o = name == "SGD" and { lr = 0.1, momentum = 0.9 } or { lr = 0.1 }
      local a = parameter { 1, 2 }
      local whole = run(optim[name]({ a }, o), a, gradients)
      local b = parameter { 1, 2 }
      local opt = optim[name]({ b }, o)
      run(opt, b, { gradients[1] })
      local resumed = optim[name]({ b }, { lr = 7 })
      resumed:load_state_dict(opt:state_dict())
      assert.same(whole, run(resumed, b, { gradients[2], gradients[3] }))
    end
  end)

  it("explains what is wrong", function()
    local p = parameter { 1 }
    local cases = {
      { function() optim.SGD({ p }, { momentm = 0.9 }) end, 'did you mean "momentum"' },
      { function() optim.SGD(nn.Linear(1, 1)) end, "a list of parameters, as net:parameters" },
      { function() optim.SGD {} end, "there are no parameters" },
      { function() optim.SGD { p, p } end, "a parameter is given twice" },
      { function() optim.SGD { p:mul(2) } end, "only leaf tensors" },
      { function() optim.SGD({ p }).step() end, "call it with a colon, optimizer:step" },
      { function() optim.Adam({ p }):load_state_dict(optim.SGD({ p }):state_dict()) end,
        "this is Adam with 1 parameters, the state is of SGD" },
    }
    for _, case in ipairs(cases) do
      local ok, message = pcall(case[1])
      assert.is_false(ok)
      assert.matches(case[2], message)
    end
  end)

  it("does a whole step when an interrupt arrives, which the next operator hears", function()
    local p = parameter { 1 }
    p.grad = moon.ones(1, { dtype = "float64" })
    local opt = optim.SGD({ p }, { lr = 0.5, momentum = 0.5 })
    moon.interrupt()
    opt:step()
    local ok, message = pcall(moon.add, p, 1)
    moon.clear_interrupt()
    assert.is_false(ok)
    assert.matches("interrupted", message)
    assert.equal(0.5, p[1])
  end)
end)

describe("gradient clipping", function()
  it("scales all gradients to a joint norm", function()
    local a, b = parameter { 1 }, parameter { 1 }
    a.grad = moon.tensor({ 3 }, { dtype = "float64" })
    b.grad = moon.tensor({ 4 }, { dtype = "float64" })
    assert.equal(5, optim.clip_grad_norm({ a, b }, 1))
    assert.is_true(math.abs(a.grad[1] - 0.6) < 1e-12)
    assert.is_true(math.abs(optim.clip_grad_norm({ a, b }, 1) - 1) < 1e-12)
  end)

  it("limits each element", function()
    local a = parameter { 1, 1 }
    a.grad = moon.tensor({ -3, 0.5 }, { dtype = "float64" })
    optim.clip_grad_value({ a }, 1)
    assert.same({ -1, 0.5 }, a.grad:totable())
  end)
end)
