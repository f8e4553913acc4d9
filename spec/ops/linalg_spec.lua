-- Matrix products: values against loops in Lua, every mix of vectors, matrices and stacks,
-- gradients against differences, layouts, empty inputs and sentences.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local gradcheck = require "spec.support.gradcheck"
local naive = require "spec.support.naive"

local unpack = table.unpack or unpack

-- The shapes as stacks of matrices: a vector is a row on the left, a column on the right.
local function as_stack(shape, left)
  if #shape > 1 then return { unpack(shape) } end
  return left and { 1, shape[1] } or { shape[1], 1 }
end

-- A function of (position in the batch of the result, row, column) over any operand.
local function element(x, left, batch_dims)
  local shape = x:size()
  local stack = as_stack(shape, left)
  return function(at, row, column)
    if #shape == 1 then return naive.at(x, { left and column or row }) end
    local position = {}
    for i = 1, #stack - 2 do
      local there = at[batch_dims - (#stack - 2) + i]
      position[i] = stack[i] == 1 and 1 or there
    end
    position[#position + 1] = row
    position[#position + 1] = column
    return naive.at(x, position)
  end
end

local function broadcast(a, b)
  local n, shape = math.max(#a, #b) - 2, {}
  for i = 1, n do
    local p, q = a[#a - 2 - n + i] or 1, b[#b - 2 - n + i] or 1
    shape[i] = p == 1 and q or p
  end
  return shape
end

local function matmul(a, b)
  local p, q = as_stack(a:size(), true), as_stack(b:size(), false)
  local shape = broadcast(p, q)
  local batch = #shape
  local x, y = element(a, true, batch), element(b, false, batch)
  if a:dim() > 1 then shape[#shape + 1] = p[#p - 1] end
  if b:dim() > 1 then shape[#shape + 1] = q[#q] end
  return naive.build(shape, function(at)
    local row = a:dim() > 1 and at[batch + 1] or 1
    local column = b:dim() > 1 and at[#at] or 1
    local sum = 0
    for k = 1, p[#p] do sum = sum + x(at, row, k) * y(at, k, column) end
    return sum
  end)
end

local mixes = {
  { { 4 }, { 4 } }, { { 3, 4 }, { 4 } }, { { 4 }, { 4, 3 } }, { { 3, 4 }, { 4, 5 } },
  { { 2, 3, 4 }, { 4 } }, { { 4 }, { 2, 4, 3 } }, { { 2, 3, 4 }, { 4, 5 } },
  { { 3, 4 }, { 2, 4, 5 } }, { { 2, 3, 4 }, { 2, 4, 5 } }, { { 1, 3, 4 }, { 2, 4, 5 } },
  { { 2, 1, 3, 4 }, { 3, 4, 2 } }, { { 2, 3, 1, 4 }, { 4, 2 } }, { { 3, 1, 2, 4 }, { 1, 2, 4, 2 } },
  { { 2, 2, 2, 3, 4 }, { 2, 1, 4, 3 } },
}

local function name_of(mix)
  return table.concat(mix[1], "x") .. " x " .. table.concat(mix[2], "x")
end

describe("matmul", function()
  for _, mix in ipairs(mixes) do
    it("multiplies " .. name_of(mix), function()
      local a, b = naive.random(mix[1], { seed = 1 }), naive.random(mix[2], { seed = 2 })
      naive.close(moon.matmul(a, b), matmul(a, b))
    end)

    it("has the gradient of " .. name_of(mix), function()
      gradcheck.check(moon.matmul,
        { naive.random(mix[1], { seed = 3 }), naive.random(mix[2], { seed = 4 }) })
    end)
  end

  it("takes operands of any layout", function()
    local a, b = naive.random { 4, 3, 2 }:permute(3, 2, 1), naive.random { 5, 4 }:t()
    naive.close(moon.matmul(a, b), matmul(a, b))
    local row = naive.random({ 1, 4 }):expand(3, 4)
    naive.close(moon.matmul(row, b), matmul(row, b))
    local part = naive.random({ 2, 6, 8 }):narrow(2, 2, 3):narrow(3, 3, 4)
    naive.close(moon.matmul(part, b), matmul(part, b))
    local turned = naive.random({ 3, 2, 4 }):transpose(1, 2)
    naive.close(moon.matmul(turned, b), matmul(turned, b))
    gradcheck.check(moon.matmul, { naive.random { 4, 3, 2 }:permute(3, 2, 1),
                                   naive.random { 5, 4 }:t() })
  end)

  it("gives empty products, and zeros where there is nothing to add up", function()
    assert.same({ 0, 5 }, moon.matmul(moon.empty(0, 4), moon.empty(4, 5)):size())
    assert.same({ 2, 0, 5 }, moon.matmul(moon.empty(2, 0, 4), moon.empty(4, 5)):size())
    assert.same({ 0, 3, 5 }, moon.matmul(moon.empty(0, 3, 4), moon.empty(1, 4, 5)):size())
    naive.close(moon.matmul(moon.empty(2, 0), moon.empty(0, 3)), { { 0, 0, 0 }, { 0, 0, 0 } })
    naive.close(moon.matmul(moon.empty(0), moon.empty(0)), 0)
  end)

  it("has gradients of empty products", function()
    local a = moon.empty(0, 4, { requires_grad = true })
    local b = moon.ones(4, 5, { requires_grad = true })
    moon.matmul(a, b):sum():backward()
    assert.same({ 0, 4 }, a.grad:size())
    naive.close(b.grad, moon.zeros(4, 5))
  end)

  it("works in every float type", function()
    local a, b = naive.random({ 3, 4 }, { whole = true }), naive.random({ 4, 2 }, { whole = true })
    for _, dtype in ipairs { "float32", "float16", "bfloat16" } do
      naive.close(moon.matmul(a:to(dtype), b:to(dtype)), matmul(a, b), 0, dtype)
    end
  end)

  it("says what does not fit", function()
    local a, b = moon.ones(2, 3), moon.ones(4, 5)
    naive.fails("matmul: sizes 3 and 4 do not match (a 2x3, b 4x5)", moon.matmul, a, b)
    naive.fails("matmul: the batch dimensions of a 2x3x4 and b 3x4x5 do not broadcast",
      moon.matmul, moon.ones(2, 3, 4), moon.ones(3, 4, 5))
    naive.fails("matmul: a must have at least 1 dimension, got 0-d", moon.matmul,
      moon.full({}, 2), b)
    naive.fails('matmul: a must be of a float type, got int64; cast it with :to "float32"',
      moon.matmul, a:to "int64", b:to "int64")
    naive.fails('matmul: a is float32 but b is float64; cast one, as in b:to "float32"',
      moon.matmul, a, moon.ones(3, 2, { dtype = "float64" }))
  end)

  it("survives the failure of any allocation", function()
    local a, b = moon.randn(2, 3, 4), moon.randn(4, 5)
    a.requires_grad, b.requires_grad = true, true
    faults.every_allocation(function()
      moon.matmul(a, b):sum():backward()
      a.grad, b.grad = nil, nil
    end)
  end)
end)

describe("the strict products", function()
  local forms = {
    dot = { { 4 }, { 4 }, "a must have 1 dimensions (size), got 1x1x1x1" },
    mv = { { 3, 4 }, { 4 }, "a must have 2 dimensions (rows, columns), got 1x1x1x1" },
    mm = { { 3, 4 }, { 4, 5 }, "a must have 2 dimensions (rows, columns), got 1x1x1x1" },
    bmm = { { 2, 3, 4 }, { 2, 4, 5 },
            "a must have 3 dimensions (batch, rows, columns), got 1x1x1x1" },
  }
  for name, form in pairs(forms) do
    it(name .. " multiplies and has a gradient", function()
      local a, b = naive.random(form[1], { seed = 5 }), naive.random(form[2], { seed = 6 })
      naive.close(moon[name](a, b), matmul(a, b))
      gradcheck.check(moon[name], { a, b })
    end)

    it(name .. " says what it takes", function()
      naive.fails(name .. ": " .. form[3], moon[name], moon.ones(1, 1, 1, 1), moon.ones(1))
    end)
  end

  it("bmm broadcasts no batches", function()
    naive.fails("bmm: sizes 1 and 2 do not match (a 1x3x4, b 2x4x5)", moon.bmm,
      moon.ones(1, 3, 4), moon.ones(2, 4, 5))
  end)

  it("outer multiplies every pair", function()
    local a, b = naive.random({ 6 }, { seed = 7 })[{ { 1, 3 } }], naive.random({ 4 }, { seed = 8 })
    naive.close(moon.outer(a, b),
      naive.build({ 3, 4 }, function(at) return a[at[1]] * b[at[2]] end))
    gradcheck.check(moon.outer, { naive.random { 3 }, naive.random { 4 } })
    assert.same({ 0, 4 }, moon.outer(moon.empty(0), moon.ones(4)):size())
    naive.fails("outer: b must have 1 dimensions (size), got 2x2", moon.outer, moon.ones(2),
      moon.ones(2, 2))
  end)
end)

describe("addmm", function()
  local function addmm(input, a, b, beta, alpha)
    return input * beta + matmul(a, b) * alpha
  end

  it("adds a scaled product to a broadcast input", function()
    local a, b = naive.random({ 3, 4 }, { seed = 1 }), naive.random({ 4, 2 }, { seed = 2 })
    for _, shape in ipairs { { 3, 2 }, { 2 }, { 3, 1 }, {} } do
      local input = naive.random(shape, { seed = 3 })
      naive.close(moon.addmm(input, a, b), addmm(input, a, b, 1, 1))
      naive.close(moon.addmm(input, a, b, { beta = 0.5, alpha = -2 }), addmm(input, a, b, 0.5, -2))
      gradcheck.check(function(i, p, q) return moon.addmm(i, p, q, 0.5, -2) end, { input, a, b })
    end
  end)

  it("does not read the input where beta is 0", function()
    local nan = moon.full({ 2, 2 }, 0 / 0)
    local out = moon.addmm(nan, moon.ones(2, 3), moon.ones(3, 2), { beta = 0 })
    naive.close(out, { { 3, 3 }, { 3, 3 } })
  end)

  it("keeps the input where there is nothing to multiply", function()
    local out = moon.addmm(moon.ones(2, 2), moon.empty(2, 0), moon.empty(0, 2))
    naive.close(out, { { 1, 1 }, { 1, 1 } })
  end)

  it("says what does not fit", function()
    naive.fails("addmm: input 4 does not broadcast to the product 2x2", moon.addmm, moon.ones(4),
      moon.ones(2, 3), moon.ones(3, 2))
    naive.fails("addmm: sizes 3 and 2 do not match (a 2x3, b 2x2)", moon.addmm, moon.ones(2),
      moon.ones(2, 3), moon.ones(2, 2))
  end)
end)

describe("linear", function()
  local function linear(input, weight, bias)
    local product = matmul(input, weight:t())
    return bias and product + bias or product
  end

  it("multiplies with the transposed weight and adds the bias", function()
    local weight, bias = naive.random({ 5, 4 }, { seed = 1 }), naive.random({ 5 }, { seed = 2 })
    for _, shape in ipairs { { 4 }, { 3, 4 }, { 2, 3, 4 }, { 2, 1, 3, 4 } } do
      local input = naive.random(shape, { seed = 3 })
      naive.close(moon.linear(input, weight), linear(input, weight))
      naive.close(moon.linear(input, weight, bias), linear(input, weight, bias))
      gradcheck.check(moon.linear, { input, weight, bias })
    end
  end)

  it("takes any layout", function()
    local input, weight = naive.random({ 4, 3, 2 }):permute(3, 2, 1), naive.random({ 4, 5 }):t()
    local bias = naive.random({ 10 }):unfold(1, 1, 2):select(2, 1)
    naive.close(moon.linear(input, weight, bias), linear(input, weight, bias))
    gradcheck.check(moon.linear, { input, weight, bias })
  end)

  it("follows the weight in inference, where it is kept packed for many rows", function()
    local input, weight = naive.random({ 40, 30 }), naive.random({ 50, 30 })
    local bias = naive.random { 50 }
    for _ = 1, 3 do
      for _, rows in ipairs { input, input:narrow(1, 3, 20), input:t():contiguous():t() } do
        naive.close(moon.no_grad(function() return moon.linear(rows, weight, bias) end),
          linear(rows, weight, bias), 1e-12)
      end
      weight:mul_(-2)
      weight[{ 3, 4 }] = 7
    end
  end)

  it("gives an empty batch and zero gradients for it", function()
    local weight = moon.ones(5, 4, { requires_grad = true })
    local bias = moon.ones(5, { requires_grad = true })
    local out = moon.linear(moon.empty(0, 4), weight, bias)
    assert.same({ 0, 5 }, out:size())
    out:sum():backward()
    naive.close(weight.grad, moon.zeros(5, 4))
    naive.close(bias.grad, moon.zeros(5))
  end)

  it("says what does not fit", function()
    naive.fails("linear: input has 3 features but weight expects 4 (input 2x3, weight 5x4)",
      moon.linear, moon.ones(2, 3), moon.ones(5, 4))
    naive.fails("linear: bias must have one element for each of the 5 out features, got 4",
      moon.linear, moon.ones(2, 4), moon.ones(5, 4), moon.ones(4))
    naive.fails("linear: weight must have 2 dimensions (out features, in features), got 4",
      moon.linear, moon.ones(2, 4), moon.ones(4))
    naive.fails('linear: input must be of a float type, got uint8; cast it with :to "float32"',
      moon.linear, moon.ones(2, 4, { dtype = "uint8" }), moon.ones(5, 4))
  end)

  it("survives the failure of any allocation", function()
    local input, weight, bias = moon.randn(2, 3, 4), moon.randn(5, 4), moon.randn(5)
    weight.requires_grad, bias.requires_grad = true, true
    faults.every_allocation(function()
      moon.linear(input, weight, bias):sum():backward()
      weight.grad, bias.grad = nil, nil
    end)
  end)
end)
