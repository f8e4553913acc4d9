-- softmax and log_softmax: values against loops in Lua, gradients against differences, large
-- numbers, layouts, empty inputs and sentences.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local gradcheck = require "spec.support.gradcheck"
local naive = require "spec.support.naive"

-- log(sum of exp) along dim through one position.
local function log_sum(x, at, dim)
  local position, sum = {}, 0
  for i = 1, #at do position[i] = at[i] end
  for k = 1, x:size(dim) do
    position[dim] = k
    sum = sum + math.exp(naive.at(x, position))
  end
  return math.log(sum)
end

local function log_softmax(x, dim)
  return naive.build(x:size(), function(at) return naive.at(x, at) - log_sum(x, at, dim) end)
end

local function softmax(x, dim)
  return naive.build(x:size(), function(at)
    return math.exp(naive.at(x, at) - log_sum(x, at, dim))
  end)
end

for name, reference in pairs { softmax = softmax, log_softmax = log_softmax } do
  describe(name, function()
    it("agrees with plain loops along any dimension", function()
      local x = naive.random { 3, 4, 5 }
      for dim = 1, 3 do
        naive.close(moon[name](x, dim), reference(x, dim))
        naive.close(moon[name](x, dim - 4), reference(x, dim))
        naive.close(moon[name](x:float(), dim), reference(x, dim), 1e-5, "float32")
      end
      naive.close(moon[name](x), reference(x, 3))
      naive.close(x[name](x, { dim = 2 }), reference(x, 2))
    end)

    it("has the gradient along any dimension", function()
      for dim = 1, 3 do
        gradcheck.check(function(x) return moon[name](x, dim) end, { naive.random { 2, 3, 4 } })
      end
    end)

    it("takes any layout", function()
      local x = naive.random({ 4, 3, 2 }):permute(2, 3, 1)
      for dim = 1, 3 do naive.close(moon[name](x, dim), reference(x, dim)) end
      local row = naive.random({ 1, 4 }):expand(3, 4)
      naive.close(moon[name](row, 1), reference(row, 1))
      gradcheck.check(function(p) return moon[name](p, 1) end, { x })
    end)

    it("takes single numbers and empty inputs", function()
      naive.close(moon[name](moon.full({}, 3)), name == "softmax" and 1 or 0)
      assert.same({ 0, 5 }, moon[name](moon.empty(0, 5)):size())
      assert.same({ 5, 0 }, moon[name](moon.empty(5, 0)):size())
      local x = moon.empty(0, 5, { requires_grad = true })
      moon[name](x):sum():backward()
      assert.same({ 0, 5 }, x.grad:size())
    end)

    it("works in half precision", function()
      local x = naive.random { 3, 4 }
      naive.close(moon[name](x:half()), reference(x, 2), 4e-3, "float16")
      naive.close(moon[name](x:to "bfloat16"), reference(x, 2), 4e-2, "bfloat16")
    end)

    it("says what does not fit", function()
      naive.fails(name .. ": dimension 3 does not exist in a tensor of 2 dimensions", moon[name],
        moon.ones(2, 2), 3)
      naive.fails(name .. ': input must be of a float type, got int64; cast it with :to "float32"',
        moon[name], moon.ones(2, 2, { dtype = "int64" }))
    end)

    it("survives the failure of any allocation", function()
      local x = moon.randn(3, 4)
      x.requires_grad = true
      faults.every_allocation(function()
        moon[name](x, 1):sum():backward()
        x.grad = nil
      end)
    end)
  end)
end

describe("softmax of extremes", function()
  it("does not overflow", function()
    naive.close(moon.softmax(moon.tensor { 1000, 1000, -1000 }), { 0.5, 0.5, 0 })
    naive.close(moon.log_softmax(moon.tensor { 1000, 0 }), { 0, -1000 })
  end)

  it("takes minus infinity as impossible", function()
    naive.close(moon.softmax(moon.tensor { -math.huge, 0, 0 }), { 0, 0.5, 0.5 })
    local x = moon.tensor({ -math.huge, 0, 0 }, { requires_grad = true })
    moon.softmax(x)[{ { 2 } }]:sum():backward()
    naive.close(x.grad, { 0, 0.25, -0.25 })
  end)
end)

-- Blocks of columns, rows that go together, rows shorter than a vector: by sizes around the limits
-- of each, against other operators in float64.
describe("softmax of channels", function()
  local shapes = { { 2, 2, 33, 33 }, { 3, 7, 1, 700 }, { 2, 16, 1, 530 }, { 1, 70, 25, 25 },
                   { 2, 2100, 1, 40 } }

  local function off_by(a, b)
    return (a:double() - b):abs():max():item() / b:abs():max():item()
  end

  -- The result and its gradient for the gradient g.
  local function formula(name, x, g)
    local p = x:exp()
    p = p / p:sum({ 2 }, true)
    if name == "softmax" then return p, p * (g - (g * p):sum({ 2 }, true)) end
    return p:log(), g - p * g:sum({ 2 }, true)
  end

  for name in pairs { softmax = true, log_softmax = true } do
    it("agrees with the formula in any layout: " .. name, function()
      for _, shape in ipairs(shapes) do
        local x, g = naive.random(shape, { seed = 2 }) * 4, naive.random(shape, { seed = 3 })
        local y, dx = formula(name, x, g)
        for dtype, most in pairs { float64 = 1e-12, float32 = 2e-6 } do
          for _, layout in ipairs { "contiguous", "channels_last" } do
            local leaf = x:to(dtype):contiguous(layout):requires_grad_(true)
            local result = moon[name](leaf, 2)
            result:backward(g:to(dtype):contiguous(layout))
            assert.is_true(off_by(result:detach(), y) <= most, layout)
            assert.is_true(off_by(leaf.grad, dx) <= most, layout)
          end
        end
      end
    end)
  end
end)
