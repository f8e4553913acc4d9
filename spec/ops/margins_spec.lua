-- Losses with margins, and of distances and pictures: what the cases (spec/cases/losses.lua and
-- classification.lua) do not see: extremes, targets of other types, sentences, failing allocations.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local naive = require "spec.support.naive"

local fails = naive.refuses
local function labels(list) return moon.tensor(list, { dtype = "int64" }) end

describe("losses against signs", function()
  it("take signs as integers or as numbers", function()
    local x, list = naive.random { 4 }, { 1, -1, -1, 1 }
    for _, name in ipairs { "hinge_loss", "soft_margin_loss", "hinge_embedding_loss" } do
      local expected = moon[name](x, moon.tensor(list, { dtype = "float64" }))
      naive.close(moon[name](x, labels(list)), expected)
      naive.close(moon[name](x, moon.tensor(list, { dtype = "int32" })), expected)
    end
  end)

  it("do not overflow", function()
    naive.close(moon.soft_margin_loss(moon.tensor { 1e30 }, moon.tensor { 1 }), 0)
    naive.close(moon.soft_margin_loss(moon.tensor { -1e30 }, moon.tensor { 1 }) / 1e30, 1, 1e-6)
  end)

  it("say what does not fit", function()
    local x = moon.ones(2, 3)
    for _, name in ipairs { "hinge_loss", "soft_margin_loss", "hinge_embedding_loss" } do
      fails(name, "target must be 2x3, got 3", x, moon.ones(3))
      fails(name, 'target must hold 1 and -1, got bool; cast it with :to "float32"', x, x:bool())
      fails(name, "input is float32 but target is float64", x, x:double())
      fails(name, "input must be of a float type, got int64", x:long(), x:long())
    end
    fails("margin_ranking_loss", "input1 2x3 and input2 3 must have the same shape; reshape one", x,
      moon.ones(3), x)
    fails("margin_ranking_loss", "target must be 2x3, got 2", x, x, moon.ones(2))
  end)
end)

describe("losses against labels with margins", function()
  it("say what does not fit", function()
    local x = moon.ones(2, 3)
    fails("multi_margin_loss", "target must lie in 1..3, found 4", x, labels { 1, 4 })
    fails("multi_margin_loss", "target must lie in 1..3, found 0", x, labels { 1, 0 })
    fails("multi_margin_loss", "target must hold a label for each row of input 2x3, got 3", x,
      labels { 1, 2, 3 })
    fails("multi_margin_loss", "p must be 1 or 2, got 3", x, labels { 1, 2 }, { p = 3 })
    fails("multi_margin_loss", "weight must have one element for each of the 3 classes of input " ..
      "2x3, got 2", x, labels { 1, 2 }, { weight = moon.ones(2) })
    fails("multi_margin_loss", "target must be of an integer type, got float32", x, moon.ones(2))
    fails("multi_margin_loss", "input must have dimensions (n, c) or (c), got 1x2x3",
      moon.ones(1, 2, 3), labels { 1 })
    fails("multilabel_margin_loss", "target must have input's shape 2x3, got 2", x, labels { 1, 2 })
    fails("multilabel_margin_loss", "target must lie in 1..3, found 5", x,
      labels { { 1, 0, 0 }, { 5, 0, 0 } })
    fails("multilabel_margin_loss", "target must lie in 1..3, found -1", x,
      labels { { 1, 0, 0 }, { -1, 0, 0 } })
    fails("multilabel_margin_loss", "target must be of an integer type, got float32", x, x)
    fails("multilabel_margin_loss", "input must have at least one class", moon.ones(2, 0),
      moon.ones(2, 0):long())
    fails("multilabel_soft_margin_loss", "input 2x3 and target 2 must have the same shape", x,
      moon.ones(2))
    fails("multilabel_soft_margin_loss", "weight 2 does not broadcast to input 2x3", x, x,
      moon.ones(2))
  end)

  it("look at no label behind the first 0", function()
    local x = naive.random { 2, 3 }
    naive.close(moon.multilabel_margin_loss(x, labels { { 2, 0, 99 }, { 0, -7, 1 } }),
      moon.multilabel_margin_loss(x, labels { { 2, 0, 0 }, { 0, 0, 0 } }))
  end)
end)

describe("losses of distances", function()
  it("have a gradient where vectors are equal or zero", function()
    local x = moon.zeros(2, 3, { requires_grad = true })
    moon.triplet_margin_loss(x, moon.zeros(2, 3), moon.ones(2, 3), { eps = 0 }):backward()
    assert.is_false(moon.isnan(x.grad):any():item())
    x.grad = nil
    moon.cosine_embedding_loss(x, moon.ones(2, 3), labels { 1, -1 }):backward()
    assert.is_false(moon.isnan(x.grad):any():item())
  end)

  it("tell scaled vectors from turned ones in float16", function()
    local a = moon.tensor({ { 300, 0 } }, { dtype = "float16" })
    local b = moon.tensor({ { 600, 0 } }, { dtype = "float16" })
    naive.close(moon.cosine_embedding_loss(a, b, labels { 1 }):float(), 0, 1e-3)
  end)

  it("say what does not fit", function()
    local x = moon.ones(2, 3)
    fails("pairwise_distance", "x1 2x3 and x2 3 must have the same shape", x, moon.ones(3))
    fails("pairwise_distance", "x1 must have dimensions (..., d), got 0-d", moon.tensor(1),
      moon.tensor(1))
    fails("pairwise_distance", "p must be positive, got 0", x, x, 0)
    fails("pairwise_distance", "vectors without elements have no largest one", moon.ones(2, 0),
      moon.ones(2, 0), math.huge)
    fails("triplet_margin_loss", "anchor 2x3 and negative 2x2 must have the same shape", x, x,
      moon.ones(2, 2))
    fails("triplet_margin_loss", "margin must be positive, got 0", x, x, x, { margin = 0 })
    fails("cosine_embedding_loss", "target must be 2, got 3", x, x, moon.ones(3))
    fails("cosine_embedding_loss", "input1 must have dimensions (n, d) or (d), got 1x2x3",
      moon.ones(1, 2, 3), moon.ones(1, 2, 3), moon.ones(1))
  end)
end)

describe("losses of pictures", function()
  it("are 0 for perfect overlap and for flat pictures", function()
    local t = moon.rand(2, 3, 4, { dtype = "float64" }):gt(0.5):double()
    naive.close(moon.dice_loss(t, t, { smooth = 0.1 }), 0)
    naive.close(moon.total_variation(moon.full({ 2, 3, 4, 4 }, 5)), 0)
  end)

  it("say what does not fit", function()
    fails("dice_loss", "input must have dimensions (n, ...), got 0-d", moon.tensor(1),
      moon.tensor(1))
    fails("dice_loss", "smooth must not be negative, got -1", moon.ones(2, 2), moon.ones(2, 2),
      { smooth = -1 })
    fails("total_variation", "input must have dimensions (h, w) or (n, ..., h, w), got 3",
      moon.ones(3))
    fails("total_variation", "p must be 1 or 2, got 3", moon.ones(3, 3), 3)
  end)
end)

describe("losses with margins, of distances and pictures", function()
  it("survive the failure of any allocation", function()
    local x, y, signs = moon.randn(2, 3), moon.randn(2, 3), moon.tensor { 1, -1 }
    local matrix = moon.tensor { { 1, -1, 1 }, { -1, 1, 1 } }
    x.requires_grad = true
    local calls = {
      function() return moon.hinge_loss(x, matrix, { squared = true }) end,
      function() return moon.soft_margin_loss(x, matrix) end,
      function() return moon.hinge_embedding_loss(x, matrix) end,
      function() return moon.margin_ranking_loss(x, y, matrix) end,
      function() return moon.multi_margin_loss(x, labels { 1, 3 }, { p = 2 }) end,
      function() return moon.multilabel_margin_loss(x, labels { { 1, 0, 0 }, { 2, 3, 0 } }) end,
      function() return moon.multilabel_soft_margin_loss(x, matrix) end,
      function() return moon.pairwise_distance(x, y):sum() end,
      function() return moon.triplet_margin_loss(x, y, y, { swap = true }) end,
      function() return moon.cosine_embedding_loss(x, y, signs) end,
      function() return moon.dice_loss(x:sigmoid(), y) end,
      function() return moon.total_variation(x, 2) end,
    }
    faults.every_backward(calls, x)
  end)
end)
