-- Losses between tensors of one shape: values against formulas in Lua, gradients of both sides
-- against differences, reductions, extremes, layouts, empty inputs and sentences.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local gradcheck = require "spec.support.gradcheck"
local naive = require "spec.support.naive"

local function cut(value) return math.max(value, -100) end

-- Each loss of one pair of numbers; `weight` is that of the two operators which take one.
local formulas = {
  mse_loss = function(x, t) return (x - t) ^ 2 end,
  l1_loss = function(x, t) return math.abs(x - t) end,
  smooth_l1_loss = function(x, t, _, o)
    local d, beta = math.abs(x - t), o.beta or 1
    return d < beta and d * d / (2 * beta) or d - beta / 2
  end,
  huber_loss = function(x, t, _, o)
    local d, delta = math.abs(x - t), o.delta or 1
    return d < delta and d * d / 2 or delta * (d - delta / 2)
  end,
  binary_cross_entropy = function(x, t, w)
    return -w * (t * cut(math.log(x)) + (1 - t) * cut(math.log(1 - x)))
  end,
  binary_cross_entropy_with_logits = function(x, t, w)
    local s = 1 / (1 + math.exp(-x))
    return -(w * t * math.log(s) + (1 - t) * math.log(1 - s))
  end,
}

-- Options each operator is tried with; `low` and `high` of input and target.
local families = {
  mse_loss = { {} }, l1_loss = { {} },
  smooth_l1_loss = { {}, { beta = 0.4 }, { beta = 2 }, { beta = 0 } },
  huber_loss = { {}, { delta = 0.4 }, { delta = 2 } },
  binary_cross_entropy = { {}, low = 0.05, high = 0.95, weight = "weight" },
  binary_cross_entropy_with_logits = { {}, target_low = 0, target_high = 1, weight = "pos_weight" },
}

local function inputs_of(family, shape)
  local low, high = family.low or -2, family.high or 2
  return naive.random(shape, { low = low, high = high, seed = 1 }),
    naive.random(shape, { low = family.target_low or low, high = family.target_high or high,
                          seed = 2 })
end

local function expected(name, x, t, options)
  options = options or {}
  local weight = options.weight or options.pos_weight
  local losses = naive.build(x:size(), function(at)
    local w = weight and naive.at(weight:expand(x:size()), at) or 1
    return formulas[name](naive.at(x, at), naive.at(t, at), w, options)
  end)
  if options.reduction == "none" then return losses end
  local sum = 0
  for at in naive.positions(x:size()) do sum = sum + naive.at(losses, at) end
  return options.reduction == "sum" and sum or sum / x:numel()
end

local function with(options, name, value)
  local copy = {}
  for k, v in pairs(options) do copy[k] = v end
  copy[name] = value
  return copy
end

for name, family in pairs(families) do
  describe(name, function()
    it("agrees with its formula under every reduction", function()
      local x, t = inputs_of(family, { 3, 4 })
      for _, base in ipairs(family) do
        for _, reduction in ipairs { "mean", "sum", "none" } do
          local options = with(base, "reduction", reduction)
          naive.close(moon[name](x, t, options), expected(name, x, t, options))
          naive.close(moon[name](x:float(), t:float(), options), expected(name, x, t, options),
            1e-5, "float32")
        end
      end
      naive.close(moon[name](x, t), expected(name, x, t))
    end)

    it("has gradients of both sides under every reduction", function()
      for _, base in ipairs(family) do
        for _, reduction in ipairs { "mean", "sum", "none" } do
          local x, t = inputs_of(family, { 2, 3 })
          local options = with(base, "reduction", reduction)
          gradcheck.check(function(p, q) return moon[name](p, q, options) end, { x, t })
        end
      end
    end)

    it("takes any layout and single numbers", function()
      local x, t = inputs_of(family, { 4, 3 })
      local row = select(2, inputs_of(family, { 1, 4 })):expand(3, 4)
      naive.close(moon[name](x:t(), row), expected(name, x:t(), row))
      gradcheck.check(moon[name], { x:t(), t:t() })
      local p, q = inputs_of(family, {})
      naive.close(moon[name](p, q), expected(name, p, q))
    end)

    it("gives NaN as the mean of nothing, 0 as its sum", function()
      local x, t = moon.empty(0, 3, { requires_grad = true }), moon.empty(0, 3)
      naive.close(moon[name](x, t), 0 / 0)
      naive.close(moon[name](x, t, { reduction = "sum" }), 0)
      assert.same({ 0, 3 }, moon[name](x, t, { reduction = "none" }):size())
      moon[name](x, t):backward()
      assert.same({ 0, 3 }, x.grad:size())
    end)

    it("broadcasts nothing and says so", function()
      naive.fails(name .. ": input 8x1 and target 8 must have the same shape; reshape one",
        moon[name], moon.full({ 8, 1 }, 0.5), moon.full({ 8 }, 0.5))
      naive.fails(name .. ': input is float32 but target is int64; cast one, as in target:to ' ..
        '"float32"', moon[name], moon.full({ 8 }, 0.5), moon.ones(8):long())
      naive.fails(name .. ': input must be of a float type, got int64; cast it with :to "float32"',
        moon[name], moon.ones(8):long(), moon.ones(8):long())
    end)

    it("survives the failure of any allocation", function()
      local x, t = inputs_of(family, { 3 })
      x.requires_grad = true
      faults.every_allocation(function()
        moon[name](x, t):backward()
        x.grad = nil
      end)
    end)

    if family.weight then
      it("weighs with a broadcast " .. family.weight, function()
        local x, t = inputs_of(family, { 3, 4 })
        for _, shape in ipairs { { 4 }, { 3, 1 }, { 3, 4 }, {} } do
          local weight = naive.random(shape, { low = 0.5, high = 3, seed = 3 })
          for _, reduction in ipairs { "mean", "none" } do
            local options = { [family.weight] = weight, reduction = reduction }
            naive.close(moon[name](x, t, options), expected(name, x, t, options))
            gradcheck.check(function(p, q) return moon[name](p, q, options) end, { x, t })
          end
        end
        naive.fails(name .. ": " .. family.weight .. " 3 does not broadcast to input 3x4",
          moon[name], x, t, moon.ones(3):double())
      end)
    end
  end)
end

describe("smooth_l1_loss and huber_loss", function()
  it("refuse bends below 0", function()
    local x = moon.ones(2)
    naive.fails("smooth_l1_loss: beta must not be negative, got -1", moon.smooth_l1_loss, x, x,
      { beta = -1 })
    naive.fails("huber_loss: delta must be positive, got 0", moon.huber_loss, x, x, { delta = 0 })
  end)
end)

describe("binary_cross_entropy", function()
  it("cuts logarithms at -100, with a finite gradient", function()
    local x = moon.tensor({ 0, 1, 0, 1 }, { dtype = "float64", requires_grad = true })
    local t = moon.tensor({ 0, 1, 1, 0 }, { dtype = "float64" })
    local losses = moon.binary_cross_entropy(x, t, { reduction = "none" })
    naive.close(losses, { 0, 0, 100, 100 })
    losses:sum():backward()
    naive.close(x.grad, { 0, 0, -1e12, 1e12 })
  end)

  it("takes probabilities only", function()
    naive.fails("binary_cross_entropy: input must lie in 0..1, found 1.5; use " ..
      "binary_cross_entropy_with_logits for scores", moon.binary_cross_entropy,
      moon.tensor { 0.5, 1.5 }, moon.ones(2))
    naive.fails("input must lie in 0..1, found -2", moon.binary_cross_entropy,
      moon.tensor { 0.5, -2 }, moon.ones(2))
  end)

  it("lets NaN through", function()
    naive.close(moon.binary_cross_entropy(moon.tensor { 0 / 0 }, moon.ones(1)), 0 / 0)
  end)
end)

describe("binary_cross_entropy_with_logits", function()
  it("neither overflows nor loses small losses", function()
    local x, t = moon.tensor { 1000, -1000, 20, -20, 0 }, moon.tensor { 1, 0, 1, 0, 1 }
    local losses = moon.binary_cross_entropy_with_logits(x, t, { reduction = "none" })
    naive.close(losses[{ { 1, 2 } }], { 0, 0 })
    naive.close(losses[{ { 3, 4 } }] * 1e9, { math.exp(-20) * 1e9, math.exp(-20) * 1e9 }, 1e-5)
    naive.close(moon.binary_cross_entropy_with_logits(-x, t, { reduction = "sum" }),
      2040 + math.log(2), 1e-5)
  end)

  it("weighs each loss, besides pos_weight", function()
    local x, t = naive.random { 3, 4 }, naive.random({ 3, 4 }, { low = 0, high = 1 })
    local weight, pos = naive.random { 4 }, naive.random({ 4 }, { low = 0.5, high = 2, seed = 9 })
    local plain = moon.binary_cross_entropy_with_logits(x, t,
      { pos_weight = pos, reduction = "none" })
    naive.close(moon.binary_cross_entropy_with_logits(x, t,
      { pos_weight = pos, weight = weight, reduction = "none" }), plain * weight)
    naive.fails("binary_cross_entropy_with_logits: weight 3 does not broadcast to input 3x4",
      moon.binary_cross_entropy_with_logits, x, t, { weight = moon.ones(3):double() })
  end)

  it("has the right gradient at 0", function()
    local x = moon.zeros(2, { requires_grad = true })
    moon.binary_cross_entropy_with_logits(x, moon.tensor { 1, 0 }, { reduction = "sum" }):backward()
    naive.close(x.grad, { -0.5, 0.5 })
  end)
end)
