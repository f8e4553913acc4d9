-- Accuracy and the confusion matrix, against counts by hand.
local moon = require "moonlet"
local metrics = moon.metrics

local scores = moon.tensor { { 3, 2, 1 }, { 1, 3, 2 }, { 3, 1, 2 }, { 1, 2, 3 } }
local labels = moon.tensor({ 1, 3, 2, 3 }, { dtype = "int64" })

describe("metrics", function()
  it("count what is right", function()
    assert.equal(0.5, metrics.accuracy(scores, labels))
    assert.equal(0.75, metrics.topk(scores, labels, 2))
    assert.equal(1, metrics.topk(scores, labels, 3))
  end)

  it("are 0 over nothing", function()
    assert.equal(0, metrics.accuracy(moon.zeros(0, 3), moon.zeros(0, { dtype = "int64" })))
  end)
end)

describe("ConfusionMatrix", function()
  it("counts pairs over batches, from scores or from classes", function()
    local matrix = metrics.ConfusionMatrix(3, { names = { "a", "b", "c" } })
    matrix:add(scores, labels)
    matrix:add({ 2 }, { 2 })
    assert.same({ { 1, 0, 0 }, { 1, 1, 0 }, { 0, 1, 1 } }, matrix.counts)
    assert.equal(5, matrix:total())
    assert.equal(0.6, matrix:accuracy())
    assert.equal(0.5, matrix:recall(2))
    assert.equal(0.5, matrix:precision(1))
    assert.matches("b +1 +1 +0 +50.00 %%", tostring(matrix))
  end)

  it("refuses classes that there are not", function()
    local matrix = metrics.ConfusionMatrix(2)
    local _, message = pcall(matrix.add, matrix, { 1 }, { 3 })
    assert.matches("class 3 is outside 1 to 2", message)
    _, message = pcall(matrix.add, matrix, { 1, 1 }, { 1 })
    assert.matches("2 predictions for 1 labels", message)
  end)
end)
