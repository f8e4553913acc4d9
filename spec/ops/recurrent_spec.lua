-- What cases of recurrent networks leave out: refusals, memory, dropout between layers, and the
-- cost of the backward pass.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local naive = require "spec.support.naive"

local function weights(gates, inputs, hidden, layers)
  local list = {}
  for layer = 1, layers do
    local width = layer == 1 and inputs or hidden
    list[#list + 1] = naive.random({ gates * hidden, width }, { seed = layer })
    list[#list + 1] = naive.random({ gates * hidden, hidden }, { seed = 10 + layer })
    list[#list + 1] = naive.random({ gates * hidden }, { seed = 20 + layer })
    list[#list + 1] = naive.random({ gates * hidden }, { seed = 30 + layer })
  end
  return list
end

local x = naive.random { 4, 2, 3 }

describe("recurrent networks", function()
  it("name the argument that does not fit", function()
    local w = weights(4, 3, 2, 1)
    local function whole(list) return moon.tensor(list, { dtype = "int64" }) end
    naive.fails("lstm: weights must be 8 tensors (4 for each of 2 layers and 1 directions), got 4",
      moon.lstm, x, w, { layers = 2 })
    naive.fails("lstm: input has 5 features but weights[1] (w_ih) expects 3", moon.lstm,
      naive.random { 4, 2, 5 }, w)
    naive.fails("gru: weights[1] must be 6x3, got 8x3", moon.gru, x, w)
    naive.fails("lstm: weights[3] must be 8, got 4", moon.lstm, x,
      { w[1], w[2], moon.zeros(4, { dtype = "float64" }), w[4] })
    naive.fails("lstm: input must be (steps, n, in), or (steps, in) for one sequence, got 3",
      moon.lstm, naive.random { 3 }, w)
    naive.fails("lstm: input must have at least one step, got 0x2x3", moon.lstm,
      moon.zeros(0, 2, 3, { dtype = "float64" }), w)
    naive.fails("lstm: h0 must be 1x2x2 (layers times directions, n, hidden), got 1x2x3",
      moon.lstm, x, w, naive.random { 1, 2, 3 })
    naive.fails("lstm: c0 must be 1x2x2", moon.lstm, x, w, naive.random { 1, 2, 2 },
      naive.random { 2, 2 })
    naive.fails("lstm: layers must be from 1 to 4096, got 0", moon.lstm, x, w, { layers = 0 })
    naive.fails("lstm: dropout must be from 0 up to but not including 1, got 1", moon.lstm, x, w,
      { dropout = 1 })
    naive.fails("lstm: lengths must hold a number for each of 2 sequences, got 3", moon.lstm, x, w,
      { lengths = whole { 1, 2, 3 } })
    naive.fails("lstm: lengths must lie in 1..4, found 5", moon.lstm, x, w,
      { lengths = whole { 1, 5 } })
    naive.fails("lengths must lie in 1..4, found 0", moon.lstm, x, w, { lengths = whole { 0, 1 } })
    naive.fails("lengths must be of an integer type, got float64", moon.lstm, x, w,
      { lengths = naive.random { 2 } })
    naive.fails("lstm: input is float64 but weights is float32", moon.lstm, x,
      { w[1]:float(), w[2], w[3], w[4] })
    naive.fails("nonlinearity", moon.rnn, x, weights(1, 3, 2, 1), { nonlinearity = "sine" })
    naive.fails("lstm: input must be of a float type, got int64", moon.lstm, x:long(), w)
  end)

  it("name what does not fit a cell", function()
    local w = weights(4, 3, 2, 1)
    local h = naive.random { 2, 2 }
    naive.fails("lstm_cell: input must have 2 dimensions (n, in) or 1 (in), got 4x2x3",
      moon.lstm_cell, x, h, h, w[1], w[2])
    naive.fails("lstm_cell: input 4x3 and h 2x2 must agree", moon.lstm_cell,
      x:select(2, 1), h, h, w[1], w[2])
    naive.fails("lstm_cell: h 2x2 and c 2x3 must have the same shape", moon.lstm_cell,
      x:select(1, 1), h, naive.random { 2, 3 }, w[1], w[2])
    naive.fails("gru_cell: w_ih must be 6x3, got 8x3", moon.gru_cell, x:select(1, 1), h, w[1], w[2])
    naive.fails("rnn_cell: b_hh must be 2, got 8", moon.rnn_cell, x:select(1, 1), h,
      naive.random { 2, 3 }, naive.random { 2, 2 }, naive.random { 2 }, w[4])
  end)

  it("drop between layers while training, not behind the last and not otherwise", function()
    local w = weights(3, 3, 2, 2)
    local plain = moon.gru(x, w, { layers = 2 })
    naive.close(moon.gru(x, w, { layers = 2, dropout = 0.5 }), plain)
    moon.manual_seed(1)
    local dropped = moon.gru(x, w, { layers = 2, dropout = 0.5, training = true })
    assert.is_true((dropped - plain):abs():max():item() > 1e-3)
    assert.is_true(dropped:eq(0):sum():item() == 0)
    local one = { w[1], w[2], w[3], w[4] }
    naive.close(moon.gru(x, one, { dropout = 0.5, training = true }), moon.gru(x, one))
  end)

  it("carry on where the last state was left", function()
    local w = weights(4, 3, 2, 1)
    local all, h, c = moon.lstm(x, w)
    local first, h1, c1 = moon.lstm(x:narrow(1, 1, 2), w)
    local second, h2, c2 = moon.lstm(x:narrow(1, 3, 2), w, h1, c1)
    naive.close(moon.cat { first, second }, all)
    naive.close(h2, h)
    naive.close(c2, c)
  end)

  it("leak nothing when an allocation fails", function()
    local w = weights(4, 3, 2, 1)
    local lengths = moon.tensor({ 4, 2 }, { dtype = "int64" })
    faults.every_allocation(function() moon.lstm(x, w, { lengths = lengths }) end)
    local leaf = w[1]:clone():requires_grad_()
    faults.every_allocation(function()
      local y = moon.lstm(x:narrow(1, 1, 2), { leaf, w[2], w[3], w[4] })
      leaf.grad = nil
      y:sum():backward()
      leaf.grad = nil
    end)
  end)

  it("keep nothing of the steps when nothing is recorded", function()
    local steps, n, hidden = 64, 8, 32
    local long = moon.zeros(steps, n, 4)
    local w = { moon.zeros(4 * hidden, 4), moon.zeros(4 * hidden, hidden) }
    moon.collect()
    local before = moon.memory().live
    local y = moon.lstm(long, w, { bias = false })
    local kept = moon.memory().live - before
    assert.is_true(kept <= 2 * y:numel() * 4, tostring(kept))
  end)
end)
