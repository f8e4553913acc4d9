-- Optimiser steps: several steps against the published rules written out in Lua, layouts, half
-- precision, version counters and sentences.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local naive = require "spec.support.naive"

-- Parameters and a gradient for each step, as plain tables of numbers.
local function numbers(count, seed)
  local draw, list = naive.generator(seed), {}
  for i = 1, count do list[i] = draw(-2, 2) end
  return list
end

local function sgd(p, grads, o)
  local buffer = {}
  for step, g in ipairs(grads) do
    for i = 1, #p do
      local d = g[i] + (o.weight_decay or 0) * p[i]
      if (o.momentum or 0) ~= 0 then
        buffer[i] = step == 1 and d or o.momentum * buffer[i] + (1 - (o.dampening or 0)) * d
        d = o.nesterov and d + o.momentum * buffer[i] or buffer[i]
      end
      p[i] = p[i] - o.lr * d
    end
  end
  return p, buffer
end

local function adam(p, grads, o)
  local m, v = {}, {}
  local beta1, beta2, decay = o.beta1 or 0.9, o.beta2 or 0.999, o.weight_decay or 0
  for i = 1, #p do m[i], v[i] = 0, 0 end
  for step, grad in ipairs(grads) do
    for i = 1, #p do
      local g = grad[i]
      if o.decoupled then p[i] = p[i] - o.lr * decay * p[i] else g = g + decay * p[i] end
      m[i] = beta1 * m[i] + (1 - beta1) * g
      v[i] = beta2 * v[i] + (1 - beta2) * g * g
      local root = math.sqrt(v[i] / (1 - beta2 ^ step)) + (o.eps or 1e-8)
      p[i] = p[i] - o.lr * m[i] / (1 - beta1 ^ step) / root
    end
  end
  return p, m, v
end

local function with(o, name, value)
  local copy = {}
  for k, v in pairs(o) do copy[k] = v end
  copy[name] = value
  return copy
end

local function tensor(list, dtype) return moon.tensor(list, { dtype = dtype or "float64" }) end

-- Runs the steps on `p` and its state, whatever they are laid out like.
local function run_sgd(p, buffer, grads, o)
  for step, g in ipairs(grads) do moon.sgd_step_(p, g, buffer, with(o, "first", step == 1)) end
end

local function run_adam(p, m, v, grads, o)
  for step, g in ipairs(grads) do moon.adam_step_(p, g, m, v, with(o, "step", step)) end
end

local gradients = { numbers(10, 2), numbers(10, 3), numbers(10, 4) }

local function gradient_tensors(dtype)
  local list = {}
  for i, g in ipairs(gradients) do list[i] = tensor(g, dtype) end
  return list
end

local sgd_options = {
  { lr = 0.1 }, { lr = 0.1, weight_decay = 0.01 }, { lr = 0.1, momentum = 0.9 },
  { lr = 0.1, momentum = 0.9, dampening = 0.5, weight_decay = 0.1 },
  { lr = 0.1, momentum = 0.9, nesterov = true, weight_decay = 0.1 },
}
local adam_options = {
  { lr = 0.1 }, { lr = 0.1, beta1 = 0.5, beta2 = 0.9, eps = 1e-3 },
  { lr = 0.1, weight_decay = 0.1 }, { lr = 0.1, weight_decay = 0.1, decoupled = true },
}

describe("sgd_step_", function()
  it("follows the rule over several steps", function()
    for _, o in ipairs(sgd_options) do
      local expected, buffer_expected = sgd(numbers(10, 1), gradients, o)
      for dtype, tolerance in pairs { float64 = 1e-12, float32 = 1e-5, float16 = 1e-2 } do
        local p = tensor(numbers(10, 1), dtype)
        local buffer = o.momentum and moon.full({ 10 }, 7, { dtype = dtype })
        run_sgd(p, buffer, gradient_tensors(dtype), o)
        naive.close(p, tensor(expected), tolerance, dtype)
        if buffer then naive.close(buffer, tensor(buffer_expected), tolerance, dtype) end
      end
    end
  end)

  it("takes any layout", function()
    local o = sgd_options[4]
    local expected, buffer_expected = sgd(numbers(10, 1), gradients, o)
    local p = tensor(numbers(10, 1)):reshape(2, 5):t():contiguous():t()
    local buffer = moon.zeros(20, { dtype = "float64" }):unfold(1, 1, 2):select(2, 1):view(2, 5)
    local grads = {}
    for i, g in ipairs(gradient_tensors()) do grads[i] = g:reshape(2, 5):t():contiguous():t() end
    assert.is_false(p:is_contiguous())
    assert.is_false(buffer:is_contiguous())
    run_sgd(p, buffer, grads, o)
    naive.close(p, tensor(expected):reshape(2, 5))
    naive.close(buffer, tensor(buffer_expected):reshape(2, 5))
  end)

  it("moves a list as one by one, in any layout, type and number of threads", function()
    local function lists()
      local p, g, m = {}, {}, {}
      for i, shape in ipairs { { 70000 }, { 3, 4, 2, 2 }, { 0 }, { 5 }, { 40000 } } do
        moon.manual_seed(i)
        local o = { dtype = i % 2 == 0 and "float64" or "float32" }
        p[i], g[i], m[i] = moon.randn(shape, o), moon.randn(shape, o), moon.randn(shape, o)
      end
      p[2] = p[2]:permute(1, 3, 4, 2):contiguous():permute(1, 4, 2, 3)
      m[4] = moon.zeros(10, { dtype = "float64" }):unfold(1, 1, 2):select(2, 1)
      return p, g, m
    end
    local o = { lr = 0.1, momentum = 0.9, weight_decay = 0.01 }
    local p, g, m = lists()
    for i = 1, #p do moon.sgd_step_(p[i], g[i], m[i], o) end
    for threads = 1, 3 do
      moon.set_num_threads(threads)
      local q, h, n = lists()
      moon.sgd_step_(q, h, n, o)
      for i = 1, #p do
        assert.equal(p[i]:tobytes(), q[i]:tobytes())
        assert.equal(m[i]:tobytes(), n[i]:tobytes())
      end
    end
    moon.set_num_threads(0)
  end)

  it("says which member of a list does not fit", function()
    local function fails(text, ...) naive.fails(text, moon.sgd_step_, ...) end
    local a, b = moon.zeros(2), moon.zeros(3)
    fails("gradient must be a list as long as parameter, 2, got 1", { a, b }, a, nil, { lr = 1 })
    fails("gradient 2 must have the shape of parameter 2, 3, got 2", { a, b }, { a, a }, nil,
      { lr = 1 })
    fails("momentum_buffer 1 must not be the parameter itself", { a, b }, { a, b }, { a, a },
      { lr = 1 })
    fails("parameter must be a tensor or a list of them, got number", 1, a, nil, { lr = 1 })
    local leaf = moon.zeros(2, { requires_grad = true })
    fails("a leaf that requires a gradient cannot be changed in place", { a, leaf }, { a, a }, nil,
      { lr = 1 })
    moon.sgd_step_({}, {}, nil, { lr = 1 })
  end)

  it("leaks nothing when the n-th allocation of a sweep fails", function()
    local p, g, m = { moon.ones(3), moon.ones(2, 2):t() }, { moon.ones(3), moon.ones(2, 2) },
      { moon.ones(3), moon.ones(2, 2) }
    faults.every_allocation(function() moon.sgd_step_(p, g, m, { lr = 1, momentum = 0.9 }) end)
  end)

  it("takes a gradient that shares memory with the parameter", function()
    local p = tensor { 1, 2 }
    moon.sgd_step_(p, p, nil, { lr = 0.5 })
    naive.close(p, { 0.5, 1 })
  end)

  it("leaves a momentum buffer alone where there is no momentum", function()
    local buffer = moon.zeros(2)
    moon.sgd_step_(moon.ones(2), moon.ones(2), buffer, { lr = 1 })
    naive.close(buffer, { 0, 0 })
  end)

  it("takes empty parameters", function()
    moon.sgd_step_(moon.empty(0), moon.empty(0), moon.empty(0), { lr = 1, momentum = 0.9 })
  end)

  it("says what does not fit", function()
    local p, g = moon.zeros(2, 3), moon.zeros(2, 3)
    local function fails(text, ...) naive.fails(text, moon.sgd_step_, ...) end
    fails("gradient must have the shape of parameter, 2x3, got 3x2", p, moon.zeros(3, 2), nil,
      { lr = 1 })
    fails('parameter is float32 but gradient is float64; cast one, as in gradient:to "float32"', p,
      g:double(), nil, { lr = 1 })
    fails("momentum 0.9 needs a momentum_buffer of the parameter's shape", p, g, nil,
      { lr = 1, momentum = 0.9 })
    fails("momentum_buffer must have the shape of parameter, 2x3, got 6", p, g, moon.zeros(6),
      { lr = 1, momentum = 0.9 })
    fails("momentum_buffer must not be the parameter itself", p, g, p, { lr = 1, momentum = 0.9 })
    fails("nesterov needs a momentum and no dampening, got momentum 0 and dampening 0", p, g, nil,
      { lr = 1, nesterov = true })
    fails("lr must be a number not below 0, got -1", p, g, nil, { lr = -1 })
    fails("lr is missing", p, g, nil, {})
    fails("an expanded tensor", moon.zeros(1, 3):expand(2, 3), g, nil, { lr = 1 })
    fails("the tensor to write into, 2x3, is expanded", p, g, moon.zeros(1, 3):expand(2, 3),
      { lr = 1, momentum = 0.9 })
    fails('parameter must be of a float type, got int64', p:long(), g:long(), nil, { lr = 1 })
  end)

  it("needs the tape to be off for a leaf with a gradient", function()
    local p = moon.zeros(2, { requires_grad = true })
    naive.fails("a leaf that requires a gradient cannot be changed in place", moon.sgd_step_, p,
      moon.ones(2), nil, { lr = 1 })
    moon.no_grad(function() moon.sgd_step_(p, moon.ones(2), nil, { lr = 1 }) end)
    naive.close(p, { -1, -1 })
  end)
end)

describe("adam_step_", function()
  it("follows the rule over several steps", function()
    for _, o in ipairs(adam_options) do
      local expected, m_expected, v_expected = adam(numbers(10, 1), gradients, o)
      for dtype, tolerance in pairs { float64 = 1e-12, float32 = 1e-5 } do
        local p, m = tensor(numbers(10, 1), dtype), moon.zeros(10, { dtype = dtype })
        local v = moon.zeros(10, { dtype = dtype })
        run_adam(p, m, v, gradient_tensors(dtype), o)
        naive.close(p, tensor(expected), tolerance, dtype)
        naive.close(m, tensor(m_expected), tolerance, dtype)
        naive.close(v, tensor(v_expected), tolerance, dtype)
      end
    end
  end)

  it("takes any layout", function()
    local o = adam_options[3]
    local expected = adam(numbers(10, 1), gradients, o)
    local function turned(list) return tensor(list):reshape(2, 5):t():contiguous():t() end
    local zeros = numbers(10, 1)
    for i = 1, 10 do zeros[i] = 0 end
    local p, m, v = turned(numbers(10, 1)), turned(zeros), turned(zeros)
    local grads = {}
    for i, g in ipairs(gradients) do grads[i] = turned(g) end
    run_adam(p, m, v, grads, o)
    naive.close(p, tensor(expected):reshape(2, 5))
  end)

  it("takes empty parameters", function()
    local p = moon.empty(0, 3)
    moon.adam_step_(p, moon.empty(0, 3), moon.empty(0, 3), moon.empty(0, 3), { lr = 1, step = 1 })
  end)

  it("says what does not fit", function()
    local p, g, m, v = moon.zeros(2), moon.zeros(2), moon.zeros(2), moon.zeros(2)
    local function fails(text, ...) naive.fails(text, moon.adam_step_, ...) end
    fails("first_moment must have the shape of parameter, 2, got 3", p, g, moon.zeros(3), v,
      { lr = 1, step = 1 })
    fails("parameter is float32 but second_moment is float64", p, g, m, v:double(),
      { lr = 1, step = 1 })
    fails("second_moment must not be the parameter itself", p, g, m, p, { lr = 1, step = 1 })
    fails("step counts from 1, got 0", p, g, m, v, { lr = 1, step = 0 })
    fails("step is missing", p, g, m, v, { lr = 1 })
    fails("beta1 must lie in 0..1 without 1, got 1", p, g, m, v, { lr = 1, step = 1, beta1 = 1 })
    fails("eps must be a number not below 0, got -1", p, g, m, v, { lr = 1, step = 1, eps = -1 })
  end)
end)

describe("optimiser steps", function()
  it("count as writes, so that backward notices them", function()
    local w = moon.ones(2, { requires_grad = true })
    local loss = (w * w):sum()
    moon.no_grad(function() moon.sgd_step_(w, moon.ones(2), nil, { lr = 1 }) end)
    naive.fails("sgd_step_ changed it in place", function() loss:backward() end)
    local m = moon.ones(2, { requires_grad = true })
    loss = (m * m):sum()
    moon.no_grad(function()
      moon.adam_step_(moon.ones(2), moon.ones(2), m, moon.ones(2), { lr = 1, step = 1 })
    end)
    naive.fails("adam_step_ changed it in place", function() loss:backward() end)
  end)

  it("survive the failure of any allocation", function()
    local p, g = moon.zeros(4, 3):t(), moon.ones(3, 4)
    local m, v = moon.zeros(4, 3):t(), moon.zeros(4, 3):t()
    faults.every_allocation(function()
      moon.adam_step_(p, g, m, v, { lr = 1, step = 1 })
      moon.sgd_step_(p, g, m, { lr = 1, momentum = 0.9 })
    end)
  end)
end)
