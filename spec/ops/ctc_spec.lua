-- ctc_loss: what the cases (spec/cases/classification.lua) do not see: impossible labellings,
-- lengths, long sequences, sentences, failing allocations.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local naive = require "spec.support.naive"

local function whole(list) return moon.tensor(list, { dtype = "int64" }) end
local function logs(...) return moon.randn(..., { dtype = "float64" }):log_softmax(3) end

describe("ctc_loss", function()
  it("is infinite for labellings that do not fit, or 0 on request", function()
    local x = logs { 2, 1, 3 }:detach():requires_grad_()
    local arguments = { x, whole { { 2, 2 } }, whole { 2 }, whole { 2 } }   -- needs 3 steps
    local unpack = table.unpack or unpack
    assert.equal(math.huge, moon.ctc_loss(unpack(arguments)):item())
    arguments[5] = { zero_infinity = true }
    local loss = moon.ctc_loss(unpack(arguments))
    naive.close(loss, 0)
    loss:backward()
    naive.close(x.grad, moon.zeros(2, 1, 3))
  end)

  it("takes nothing from beyond a sample's length", function()
    local x = logs { 5, 1, 3 }:detach()
    local short = moon.ctc_loss(x[{ { 1, 3 } }], whole { { 2 } }, whole { 3 }, whole { 1 })
    x[{ { 4, 5 } }] = 0 / 0
    local leaf = x:detach():requires_grad_()
    local loss = moon.ctc_loss(leaf, whole { { 2, 77 } }, whole { 3 }, whole { 1 })
    naive.close(loss, short)
    loss:backward()
    naive.close(leaf.grad[{ { 4, 5 } }], moon.zeros(2, 1, 3))
  end)

  it("stays finite over a thousand steps", function()
    local steps = 1000
    local x = moon.full({ steps, 1, 2 }, math.log(0.5), { dtype = "float64", requires_grad = true })
    local loss = moon.ctc_loss(x, whole { { 2 } }, whole { steps }, whole { 1 })
    -- paths that are blank, label, blank: choose where the label begins and ends
    local paths = steps * (steps + 1) / 2
    naive.close(loss, steps * math.log(2) - math.log(paths))
    loss:backward()
    naive.close(x.grad:sum(3), moon.full({ steps, 1 }, -1), 1e-9)
  end)

  it("counts labels and lengths of any integer type", function()
    local x = logs { 4, 2, 3 }
    local expected = moon.ctc_loss(x, whole { { 2, 3 }, { 3, 0 } }, whole { 4, 4 }, whole { 2, 1 })
    naive.close(moon.ctc_loss(x, moon.tensor({ 2, 3, 3 }, { dtype = "uint8" }),
      moon.tensor({ 4, 4 }, { dtype = "int32" }), whole { 2, 1 }), expected)
  end)

  it("takes a single sample without a batch", function()
    local x = logs { 4, 1, 3 }
    local expected = moon.ctc_loss(x, whole { { 2, 3 } }, whole { 4 }, whole { 2 })
    for _, lengths in ipairs { { whole(4), whole(2) }, { whole { 4 }, whole { 2 } } } do
      naive.close(moon.ctc_loss(x:select(2, 1), whole { 2, 3 }, lengths[1], lengths[2]), expected)
    end
    assert.same({}, moon.ctc_loss(x:select(2, 1), whole { 2, 3 }, whole(4), whole(2),
      { reduction = "none" }):size())
  end)

  it("says that its gradient has none", function()
    local x = logs { 4, 1, 3 }:detach():requires_grad_()
    local loss = moon.ctc_loss(x, whole { { 2 } }, whole { 4 }, whole { 1 })
    naive.fails("the gradient has no gradient of its own", moon.grad, loss, { x },
      { create_graph = true })
    for _, op in ipairs(moon.operators()) do
      if op.name == "ctc_loss" then assert.equal("first", op.order) end
    end
  end)

  it("says what does not fit", function()
    local x, t, i, n = logs { 4, 2, 3 }, whole { { 2 }, { 3 } }, whole { 4, 4 }, whole { 1, 1 }
    local function fails(text, ...) naive.fails("ctc_loss: " .. text, moon.ctc_loss, ...) end
    fails("log_probs must have dimensions (t, n, c) or (t, c), got 4", moon.ones(4), t, i, n)
    fails("targets must be (n, s) for the 1 samples, or 1-d one after the other, got 2x1",
      moon.ones(4, 3), t, i, n)
    fails("input_lengths must have one element for each of the 1 samples, got 2", moon.ones(4, 3),
      whole { 2 }, i, n)
    fails("targets must be (n, s) for the 2 samples, or 1-d one after the other, got 3x1", x,
      whole { { 2 }, { 3 }, { 2 } }, i, n)
    fails("targets must be of an integer type, got float32", x, moon.ones(2, 1), i, n)
    fails("input_lengths must have one element for each of the 2 samples, got 1", x, t, whole { 4 },
      n)
    fails("input_lengths must lie in 0..4, found 5", x, t, whole { 4, 5 }, n)
    fails("target_lengths must lie in 0..1, found 2", x, t, i, whole { 2, 1 })
    fails("target_lengths must lie in 0..1, found -1", x, t, i, whole { -1, 1 })
    fails("target_lengths add up to 2, but there are 3 targets", x, whole { 2, 3, 2 }, i, n)
    fails("targets must lie in 1..3, found 4", x, whole { { 2 }, { 4 } }, i, n)
    fails("targets must not hold the blank, 1", x, whole { { 2 }, { 1 } }, i, n)
    fails("targets must not hold the blank, 3", x, t, i, n, { blank = 3 })
    fails("blank must be one of the 3 classes, got 4", x, t, i, n, { blank = 4 })
    fails("target_lengths must be of an integer type", x, t, i, moon.ones(2))
  end)

  it("survives the failure of any allocation", function()
    local x = logs { 4, 2, 3 }:detach():requires_grad_()
    faults.every_allocation(function()
      moon.ctc_loss(x, whole { { 2, 3 }, { 3, 0 } }, whole { 4, 3 }, whole { 2, 1 }):backward()
      x.grad = nil
    end)
  end)
end)
