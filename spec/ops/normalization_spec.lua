-- Batch and local response normalisation: values and running statistics against loops in Lua,
-- gradients against differences, layouts, empty batches and sentences.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local gradcheck = require "spec.support.gradcheck"
local naive = require "spec.support.naive"

-- Mean and biased variance of each channel, and how many values that is.
local function statistics(x)
  local c, sums, squares, count = x:size(2), {}, {}, x:numel() / x:size(2)
  for k = 1, c do sums[k], squares[k] = 0, 0 end
  for at in naive.positions(x:size()) do sums[at[2]] = sums[at[2]] + naive.at(x, at) end
  for k = 1, c do sums[k] = sums[k] / count end
  for at in naive.positions(x:size()) do
    squares[at[2]] = squares[at[2]] + (naive.at(x, at) - sums[at[2]]) ^ 2
  end
  for k = 1, c do squares[k] = squares[k] / count end
  return sums, squares, count
end

local function normalize(x, weight, bias, mean, var, eps)
  return naive.build(x:size(), function(at)
    local k = at[2]
    return (naive.at(x, at) - mean[k]) / math.sqrt(var[k] + eps) * (weight and weight[k] or 1)
      + (bias and bias[k] or 0)
  end)
end

local shapes = { { 6, 3 }, { 4, 3, 5 }, { 2, 3, 4, 5 }, { 2, 3, 2, 2, 3 }, { 1, 3, 2, 2 } }

describe("batch_norm in training", function()
  for _, shape in ipairs(shapes) do
    local name = table.concat(shape, "x")
    it("agrees with plain loops: " .. name, function()
      local x = naive.random(shape)
      local weight, bias = naive.random({ 3 }, { seed = 2 }), naive.random({ 3 }, { seed = 3 })
      local mean, var = statistics(x)
      local options = { training = true, eps = 1e-3 }
      naive.close(moon.batch_norm(x, weight, bias, nil, nil, options),
        normalize(x, weight, bias, mean, var, 1e-3))
      naive.close(moon.batch_norm(x, nil, nil, nil, nil, options),
        normalize(x, nil, nil, mean, var, 1e-3))
      naive.close(moon.batch_norm(x:float(), weight:float(), bias:float(), nil, nil, options),
        normalize(x, weight, bias, mean, var, 1e-3), 1e-4, "float32")
    end)

    it("has gradients: " .. name, function()
      gradcheck.check(function(x, weight, bias)
        return moon.batch_norm(x, weight, bias, nil, nil, { training = true, eps = 1e-3 })
      end, { naive.random(shape), naive.random({ 3 }, { seed = 2 }), naive.random({ 3 }) })
    end)
  end

  it("has each gradient alone", function()
    local x, weight, bias = naive.random(shapes[3]), naive.random { 3 }, naive.random { 3 }
    local function run(training)
      return function(p, w, b)
        return moon.batch_norm(p or x, w or weight, b or bias, moon.zeros_like(bias),
          moon.ones_like(bias), { training = training })
      end
    end
    for _, training in ipairs { true, false } do
      gradcheck.check(function(p) return run(training)(p) end, { x })
      gradcheck.check(function(w) return run(training)(nil, w) end, { weight })
      gradcheck.check(function(b) return run(training)(nil, nil, b) end, { bias })
    end
    gradcheck.check(function(p)
      return moon.batch_norm(p, nil, nil, nil, nil, { training = true })
    end, { x })
  end)

  it("moves the running statistics", function()
    for _, dtype in ipairs { "float64", "float32" } do
      local x = naive.random({ 4, 3, 5 }, { low = 1, high = 3 })
      local mean, var, count = statistics(x)
      local running_mean = moon.full({ 3 }, 10, { dtype = dtype })
      local running_var = moon.full({ 3 }, 20, { dtype = dtype })
      moon.batch_norm(x:to(dtype), nil, nil, running_mean, running_var,
        { training = true, momentum = 0.25 })
      local tolerance = dtype == "float64" and 1e-12 or 1e-5
      naive.close(running_mean,
        naive.build({ 3 }, function(at) return 7.5 + 0.25 * mean[at[1]] end), tolerance, dtype)
      naive.close(running_var, naive.build({ 3 }, function(at)
        return 15 + 0.25 * var[at[1]] * count / (count - 1)
      end), tolerance, dtype)
    end
  end)

  it("keeps float32 statistics for half precision", function()
    local x = naive.random({ 8, 3 }, { whole = true })
    local mean, var = statistics(x)
    local running_mean, running_var = moon.zeros(3), moon.ones(3)
    local options = { training = true, momentum = 1 }
    for _, dtype in ipairs { "float16", "bfloat16" } do
      naive.close(moon.batch_norm(x:to(dtype), nil, nil, running_mean, running_var, options),
        normalize(x, nil, nil, mean, var, 1e-5), 2e-2, dtype)
      naive.close(running_mean, moon.tensor(mean), 1e-6, "float32")
      local half = moon.zeros(3, { dtype = dtype })
      moon.batch_norm(x:to(dtype), nil, nil, half, moon.ones_like(half), options)
      naive.close(half, moon.tensor(mean), 1e-2, dtype)
    end
  end)

  it("takes any layout", function()
    local x = naive.random({ 4, 5, 3, 2 }):permute(4, 3, 1, 2)
    local weight = naive.random({ 6 }):unfold(1, 1, 2):select(2, 1)
    local mean, var = statistics(x)
    naive.close(moon.batch_norm(x, weight, nil, nil, nil, { training = true }),
      normalize(x, weight, nil, mean, var, 1e-5))
    gradcheck.check(function(p, w)
      return moon.batch_norm(p, w, nil, nil, nil, { training = true })
    end, { x, weight })
  end)

  it("passes an empty batch through and leaves the running statistics", function()
    local weight = moon.ones(3, { requires_grad = true })
    local bias = moon.ones(3, { requires_grad = true })
    local running_mean, running_var = moon.zeros(3), moon.ones(3)
    local out = moon.batch_norm(moon.empty(0, 3, 4, 4), weight, bias, running_mean, running_var,
      { training = true })
    assert.same({ 0, 3, 4, 4 }, out:size())
    out:sum():backward()
    naive.close(weight.grad, { 0, 0, 0 })
    naive.close(bias.grad, { 0, 0, 0 })
    naive.close(running_mean, { 0, 0, 0 })
    naive.close(running_var, { 1, 1, 1 })
  end)
end)

describe("batch_norm in evaluation", function()
  local function arguments(shape)
    return naive.random(shape), naive.random({ 3 }, { seed = 2 }),
      naive.random({ 3 }, { seed = 3 }), naive.random({ 3 }, { seed = 4 }),
      naive.random({ 3 }, { seed = 5, low = 0.5, high = 2 })
  end

  for _, shape in ipairs(shapes) do
    local name = table.concat(shape, "x")
    it("uses the running statistics and has gradients: " .. name, function()
      local x, weight, bias, mean, var = arguments(shape)
      naive.close(moon.batch_norm(x, weight, bias, mean, var),
        normalize(x, weight, bias, mean, var, 1e-5))
      gradcheck.check(function(p, w, b) return moon.batch_norm(p, w, b, mean, var) end,
        { x, weight, bias })
    end)
  end

  it("lets training move the statistics before the backward pass", function()
    local x, weight, bias, mean, var = arguments { 4, 3 }
    weight.requires_grad = true
    local out = moon.batch_norm(x, weight, bias, mean, var)
    local expected = moon.batch_norm(x, nil, nil, mean, var):sum(1)
    moon.batch_norm(x, nil, nil, mean, var, { training = true })
    out:sum():backward()
    naive.close(weight.grad, expected)
  end)

  it("takes a single value a channel and an empty batch", function()
    local _, _, _, mean, var = arguments { 1, 3 }
    local x = naive.random { 1, 3 }
    naive.close(moon.batch_norm(x, nil, nil, mean, var), normalize(x, nil, nil, mean, var, 1e-5))
    assert.same({ 0, 3, 2 },
      moon.batch_norm(moon.empty(0, 3, 2), nil, nil, moon.zeros(3), moon.ones(3)):size())
  end)
end)

describe("batch_norm says", function()
  local x = moon.zeros(8, 3, 4, 4)
  local function fails(text, ...) naive.fails("batch_norm: " .. text, moon.batch_norm, ...) end

  it("which vector does not fit", function()
    fails("weight must have one element for each of the 3 channels of input 8x3x4x4, got 4", x,
      moon.ones(4))
    fails("running_var must have one element for each of the 3 channels of input 8x3x4x4, got 1x3",
      x, nil, nil, moon.zeros(3), moon.zeros(1, 3))
    fails('input is float32 but bias is float64; cast one, as in bias:to "float32"', x, nil,
      moon.zeros(3, { dtype = "float64" }))
  end)

  it("what is missing", function()
    fails("running_mean and running_var are needed unless training is true", x)
    fails("running_mean and running_var belong together, got one of them", x, nil, nil,
      moon.zeros(3))
  end)

  it("that expanded statistics cannot be moved", function()
    fails("the tensor to write into, 3, is expanded", x, nil, nil, moon.zeros(1):expand(3),
      moon.ones(3), { training = true })
  end)

  it("what does not work", function()
    fails("training needs more than one value a channel, got input 1x3; use a larger batch, or " ..
      "evaluation", moon.zeros(1, 3), nil, nil, nil, nil, { training = true })
    fails("input must have dimensions (n, c) or (n, c, ...), got 5", moon.zeros(5))
    fails("eps must not be negative, got -1", x, nil, nil, nil, nil, { training = true, eps = -1 })
    fails('input must be of a float type, got uint8; cast it with :to "float32"', x:byte())
  end)
end)

describe("batch_norm and memory", function()
  it("survives the failure of any allocation", function()
    local x, weight, bias = moon.randn(4, 3, 2), moon.ones(3), moon.zeros(3)
    local mean, var = moon.zeros(3), moon.ones(3)
    for _, t in ipairs { x, weight, bias } do t.requires_grad = true end
    for _, training in ipairs { true, false } do
      faults.every_allocation(function()
        moon.batch_norm(x, weight, bias, mean, var, { training = training }):sum():backward()
        x.grad, weight.grad, bias.grad = nil, nil, nil
      end)
    end
  end)
end)

describe("local_response_norm", function()
  local function lrn(x, o)
    return naive.build(x:size(), function(at)
      local near, sum = {}, 0
      for i = 1, #at do near[i] = at[i] end
      for c = at[2] - math.floor(o.size / 2), at[2] + math.floor((o.size - 1) / 2) do
        near[2] = c
        if c >= 1 and c <= x:size(2) then sum = sum + naive.at(x, near) ^ 2 end
      end
      return naive.at(x, at) * (o.k + o.alpha / o.size * sum) ^ -o.beta
    end)
  end

  local cases = {
    { size = 5, alpha = 1e-4, beta = 0.75, k = 1 }, { size = 3, alpha = 2, beta = 0.75, k = 2 },
    { size = 4, alpha = 1, beta = 1.5, k = 0.5 }, { size = 1, alpha = 1, beta = 0.5, k = 1 },
    { size = 9, alpha = 3, beta = 1, k = 1 },
  }

  it("agrees with plain loops", function()
    for _, o in ipairs(cases) do
      for _, shape in ipairs { { 2, 6, 3, 4 }, { 3, 5 }, { 2, 4, 3 } } do
        local x = naive.random(shape)
        local options = { alpha = o.alpha, beta = o.beta, k = o.k }
        naive.close(moon.local_response_norm(x, o.size, options), lrn(x, o))
        naive.close(moon.local_response_norm(x:float(), o.size, options), lrn(x, o), 1e-5,
          "float32")
      end
    end
    local x = naive.random { 2, 6, 3, 4 }
    naive.close(moon.local_response_norm(x), lrn(x, cases[1]))
  end)

  it("has the gradient", function()
    for _, o in ipairs(cases) do
      gradcheck.check(function(x)
        return moon.local_response_norm(x, o.size, { alpha = o.alpha, beta = o.beta, k = o.k })
      end, { naive.random { 2, 6, 2, 2 } })
    end
  end)

  it("takes any layout and an empty batch", function()
    local x = naive.random({ 3, 4, 6, 2 }):permute(4, 3, 1, 2)
    naive.close(moon.local_response_norm(x, 3, { alpha = 2, k = 2 }), lrn(x, cases[2]))
    gradcheck.check(function(p) return moon.local_response_norm(p, 3, { alpha = 2 }) end, { x })
    local empty = moon.empty(0, 6, 2, 2, { requires_grad = true })
    local out = moon.local_response_norm(empty)
    assert.same({ 0, 6, 2, 2 }, out:size())
    out:sum():backward()
    assert.same({ 0, 6, 2, 2 }, empty.grad:size())
  end)

  it("says what does not fit", function()
    naive.fails("local_response_norm: size must be at least 1, got 0", moon.local_response_norm,
      moon.ones(1, 2), 0)
    naive.fails("local_response_norm: input must have dimensions (n, c) or (n, c, ...), got 5",
      moon.local_response_norm, moon.ones(5))
    naive.fails('local_response_norm: input must be of a float type, got int32',
      moon.local_response_norm, moon.ones(2, 2):int())
  end)

  it("survives the failure of any allocation", function()
    local x = moon.randn(2, 5, 3)
    x.requires_grad = true
    faults.every_allocation(function()
      moon.local_response_norm(x):sum():backward()
      x.grad = nil
    end)
  end)
end)
