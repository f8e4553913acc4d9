-- Losses against class labels: values against loops in Lua under every option, gradients against
-- differences, layouts, empty batches and sentences.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local gradcheck = require "spec.support.gradcheck"
local naive = require "spec.support.naive"

-- The position in the input of class k at a position of the target.
local function class_at(at, k)
  local position = { at[1], k }
  for i = 2, #at do position[i + 1] = at[i] end
  return position
end

local function log_softmax(x)
  return naive.build(x:size(), function(at)
    local place, sum = { at[1] }, 0
    for i = 3, #at do place[i - 1] = at[i] end
    for k = 1, x:size(2) do sum = sum + math.exp(naive.at(x, class_at(place, k))) end
    return naive.at(x, at) - math.log(sum)
  end)
end

-- The loss at one place, and the weight of its label in a mean.
local function loss_at(logp, at, label, o)
  if label == o.ignore_index then return 0, 0 end
  local c, s = logp:size(2), o.label_smoothing or 0
  local function weight(k) return o.weight and o.weight[k] or 1 end
  local loss = -(1 - s) * weight(label) * naive.at(logp, class_at(at, label))
  for k = 1, s > 0 and c or 0 do
    loss = loss - s / c * weight(k) * naive.at(logp, class_at(at, k))
  end
  return loss, weight(label)
end

local function reduce(logp, target, o)
  local sum, weights = 0, 0
  local losses = naive.build(target:size(), function(at)
    local loss, weight = loss_at(logp, at, naive.at(target, at), o)
    sum, weights = sum + loss, weights + weight
    return loss
  end)
  if o.reduction == "none" then return losses end
  return o.reduction == "sum" and sum or sum / weights
end

local references = {
  cross_entropy = function(x, target, o) return reduce(log_softmax(x), target, o) end,
  nll_loss = reduce,
}

local weight5 = naive.random({ 5 }, { low = 0.5, high = 2, seed = 9 })
local options = {
  cross_entropy = {
    {}, { weight = weight5 }, { ignore_index = 2 }, { ignore_index = -100 },
    { label_smoothing = 0.1 }, { weight = weight5, ignore_index = 2 },
    { weight = weight5, label_smoothing = 0.3, ignore_index = 3 }, { label_smoothing = 1 },
  },
  nll_loss = { {}, { weight = weight5 }, { ignore_index = 2 }, { ignore_index = -100 },
               { weight = weight5, ignore_index = 2 } },
}
local shapes = { { 6, 5 }, { 3, 5, 4 }, { 2, 5, 2, 3 } }

local function labels_for(shape)
  local places = { shape[1] }
  for i = 3, #shape do places[i - 1] = shape[i] end
  return naive.random(places, { low = 1, high = 5, whole = true, seed = 4, dtype = "int64" })
end

local function name_of(o)
  local names = {}
  for name in pairs(o) do
    names[#names + 1] = name == "weight" and name or name .. " " .. tostring(o[name])
  end
  table.sort(names)
  return #names == 0 and "defaults" or table.concat(names, ", ")
end

local function with(o, reduction)
  return { weight = o.weight, ignore_index = o.ignore_index, label_smoothing = o.label_smoothing,
           reduction = reduction }
end

for name, reference in pairs(references) do
  describe(name, function()
    for _, base in ipairs(options[name]) do
      it("agrees with plain loops: " .. name_of(base), function()
        for _, shape in ipairs(shapes) do
          local x, target = naive.random(shape), labels_for(shape)
          for _, reduction in ipairs { "mean", "sum", "none" } do
            local o = with(base, reduction)
            naive.close(moon[name](x, target, o), reference(x, target, o))
            local single = with(base, reduction)
            single.weight = base.weight and base.weight:float()
            naive.close(moon[name](x:float(), target, single), reference(x, target, o), 1e-5,
              "float32")
          end
        end
      end)

      it("has the gradient: " .. name_of(base), function()
        for _, shape in ipairs { { 4, 5 }, { 2, 5, 3 } } do
          local x, target = naive.random(shape), labels_for(shape)
          for _, reduction in ipairs { "mean", "sum", "none" } do
            local o = with(base, reduction)
            gradcheck.check(function(p) return moon[name](p, target, o) end, { x })
          end
        end
      end)
    end

    it("takes labels of any integer type", function()
      local x, target = naive.random { 6, 5 }, labels_for { 6, 5 }
      for _, dtype in ipairs { "int64", "int32", "uint8" } do
        for _, o in ipairs { {}, { ignore_index = 2 } } do
          naive.close(moon[name](x, target:to(dtype), with(o)), reference(x, target, o))
        end
      end
    end)

    it("takes any layout", function()
      local x = naive.random({ 4, 5, 3 }):permute(3, 2, 1)
      local target = labels_for({ 4, 5, 3 }):t()
      local weight = naive.random({ 10 }, { low = 0.5, high = 1 }):unfold(1, 1, 2):select(2, 1)
      local o = { weight = weight, ignore_index = 3 }
      naive.close(moon[name](x, target, o), reference(x, target, o))
      gradcheck.check(function(p) return moon[name](p, target, o) end, { x })
      local turned = naive.random({ 2, 4, 3, 5 }):permute(1, 4, 2, 3)
      local places = labels_for { 2, 5, 4, 3 }
      naive.close(moon[name](turned, places), reference(turned, places, {}))
      gradcheck.check(function(p)
        return moon[name](p, places, { reduction = "none" }):transpose(2, 3)
      end, { turned })
    end)

    it("works in half precision", function()
      local x, target = naive.random({ 6, 5 }), labels_for { 6, 5 }
      naive.close(moon[name](x:half(), target), reference(x, target, {}), 5e-3, "float16")
      naive.close(moon[name](x:to "bfloat16", target), reference(x, target, {}), 3e-2, "bfloat16")
      local p = x:half()
      p.requires_grad = true
      moon[name](p, target):backward()
      assert.equal("float16", p.grad.dtype)
    end)

    it("gives NaN as a mean of nothing, 0 as its sum", function()
      local x = moon.ones(2, 5, { requires_grad = true })
      local target = moon.tensor({ 3, 3 }, { dtype = "int64" })
      local loss = moon[name](x, target, { ignore_index = 3 })
      naive.close(loss, 0 / 0)
      naive.close(moon[name](x, target, { ignore_index = 3, reduction = "sum" }), 0)
      local none = moon.empty(0, 5, { requires_grad = true })
      local no_labels = moon.empty(0, { dtype = "int64" })
      naive.close(moon[name](none, no_labels), 0 / 0)
      naive.close(moon[name](none, no_labels, { reduction = "sum" }), 0)
      moon[name](none, no_labels):backward()
      assert.same({ 0, 5 }, none.grad:size())
    end)

    it("says what does not fit", function()
      local x, target = moon.zeros(3, 10), moon.ones(3, { dtype = "int64" })
      local function fails(text, ...) naive.fails(name .. ": " .. text, moon[name], ...) end
      fails("target must lie in 1..10, found 11", x, moon.tensor({ 1, 11, 2 }, { dtype = "int64" }))
      fails("target must lie in 1..10, found 0", x, moon.tensor({ 1, 0, 2 }, { dtype = "int64" }))
      fails("target must lie in 1..10, found 0", x, moon.tensor({ 4, 0, 2 }, { dtype = "int64" }),
        { ignore_index = 4 })
      fails("target must be 3, a label for each place of input 3x10, got 3x1", x,
        target:unsqueeze(2))
      fails("target must be 3x4x5, a label for each place of input 3x10x4x5, got 3x4",
        moon.zeros(3, 10, 4, 5), target:unsqueeze(2):expand(3, 4))
      fails(name == "nll_loss" and 'target must hold class labels of an integer type, got ' ..
        'float32; cast it with :to "int64"' or "target must hold class labels of an integer " ..
        "type, or probabilities in the shape of input 3x10, got float32 3", x, moon.ones(3))
      fails("target must hold class labels of an integer type, got bool", x, moon.ones(3):bool())
      fails("input must have dimensions (n, c) or (n, c, d1, ...), got 10; add the batch with " ..
        "input:unsqueeze(1)", moon.zeros(10), target)
      fails("weight must have one element for each of the 10 classes of input 3x10, got 3", x,
        target, moon.ones(3))
      fails('input is float32 but weight is float64; cast one, as in weight:to "float32"', x,
        target, moon.ones(10):double())
      fails('input must be of a float type, got int64; cast it with :to "float32"', x:long(),
        target)
    end)

    it("survives the failure of any allocation", function()
      local x, target = moon.randn(3, 5), labels_for { 3, 5 }
      local weight = moon.rand(5)
      x.requires_grad = true
      faults.every_allocation(function()
        moon[name](x, target, { weight = weight, ignore_index = 2 }):backward()
        x.grad = nil
      end)
    end)
  end)
end

describe("cross_entropy", function()
  it("does not overflow", function()
    local x = moon.tensor { { 1000, 0 }, { -1000, 1000 } }
    local target = moon.tensor({ 2, 2 }, { dtype = "int64" })
    naive.close(moon.cross_entropy(x, target, { reduction = "none" }), { 1000, 0 })
  end)

  it("gives ignored places no gradient, whatever they hold", function()
    local x = moon.tensor({ { 0 / 0, 1 }, { 0, 0 } }, { requires_grad = true })
    local target = moon.tensor({ 1, 2 }, { dtype = "int64" })
    local loss = moon.cross_entropy(x, target, { ignore_index = 1 })
    naive.close(loss, math.log(2), 1e-6)
    loss:backward()
    naive.close(x.grad, { { 0, 0 }, { 0.5, -0.5 } }, 1e-6)
  end)

  it("takes probabilities, of which one-hot ones are labels", function()
    local x, target = naive.random { 4, 5, 3 }, labels_for { 4, 5, 3 }
    local one_hot = moon.one_hot(target, 5):double():permute(1, 3, 2)
    local weight = naive.random({ 5 }, { low = 0.5, high = 2 })
    naive.close(moon.cross_entropy(x, one_hot), moon.cross_entropy(x, target))
    local o = { weight = weight, label_smoothing = 0.2, reduction = "none" }
    naive.close(moon.cross_entropy(x, one_hot, o), moon.cross_entropy(x, target, o))
  end)

  it("has a gradient of probabilities, too", function()
    local x, p = naive.random { 3, 4 }, naive.random({ 3, 4 }, { low = 0, high = 1 })
    gradcheck.check(moon.cross_entropy, { x, p })
  end)

  it("says what does not fit probabilities", function()
    local x, p = moon.zeros(3, 4), moon.ones(3, 4)
    local function fails(text, ...)
      naive.fails("cross_entropy: " .. text, moon.cross_entropy, ...)
    end
    fails("ignore_index is for class labels, but target holds probabilities (float32)", x, p,
      { ignore_index = 1 })
    fails("input is float32 but target is float64", x, p:double())
    fails("label_smoothing must lie in 0..1, got -1", x, p, { label_smoothing = -1 })
    fails("weight must have one element for each of the 4 classes of input 3x4, got 3", x, p,
      moon.ones(3))
    fails("input must have dimensions (n, c) or (n, c, d1, ...), got 4; add the batch",
      moon.zeros(4), moon.ones(4))
  end)

  it("survives the failure of any allocation against probabilities", function()
    local x, p = moon.randn(3, 4, { requires_grad = true }), moon.rand(3, 4)
    faults.every_allocation(function()
      moon.cross_entropy(x, p, { weight = p[1], label_smoothing = 0.1 }):backward()
      x.grad = nil
    end)
  end)

  it("refuses a label_smoothing outside 0..1", function()
    naive.fails("cross_entropy: label_smoothing must lie in 0..1, got 1.5", moon.cross_entropy,
      moon.zeros(1, 2), moon.ones(1, { dtype = "int64" }), { label_smoothing = 1.5 })
  end)
end)

describe("nll_loss", function()
  it("is cross_entropy after log_softmax", function()
    local x, target = naive.random { 4, 5, 3 }, labels_for { 4, 5, 3 }
    naive.close(moon.nll_loss(moon.log_softmax(x, 2), target), moon.cross_entropy(x, target))
  end)

  it("takes nothing from ignored places, whatever they hold", function()
    local x = moon.tensor({ { -math.huge, 1 }, { 0, -3 } }, { requires_grad = true })
    local target = moon.tensor({ 1, 2 }, { dtype = "int64" })
    local loss = moon.nll_loss(x, target, { ignore_index = 1 })
    naive.close(loss, 3)
    loss:backward()
    naive.close(x.grad, { { 0, 0 }, { 0, -1 } })
  end)
end)
