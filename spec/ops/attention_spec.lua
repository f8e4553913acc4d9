-- What the cases of attention leave out: refusals, dropout, queries that may look at nothing.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local naive = require "spec.support.naive"

local q = naive.random { 2, 3, 4 }

describe("scaled_dot_product_attention", function()
  local attention = moon.scaled_dot_product_attention

  it("names what does not fit", function()
    naive.fails("query (..., l, e), key (..., s, e) and value (..., s, f) do not fit: got 2x3x4, "
      .. "2x3x5 and 2x3x4", attention, q, naive.random { 2, 3, 5 }, q)
    naive.fails("do not fit: got 2x3x4, 3x3x4 and 2x3x4", attention, q, naive.random { 3, 3, 4 }, q)
    naive.fails("do not fit: got 4, 4 and 4", attention, naive.random { 4 }, naive.random { 4 },
      naive.random { 4 })
    naive.fails("mask 2x2 does not broadcast to 2x3x3", attention, q, q, q, naive.random { 2, 2 })
    naive.fails("mask must be bool or float64, got float32", attention, q, q, q, moon.zeros(3, 3))
    naive.fails("dropout must be from 0 up to but not including 1, got -1", attention, q, q, q,
      { dropout = -1 })
    naive.fails("query is float64 but key is float32", attention, q, q:float(), q)
  end)

  it("gives 0 and no gradient to a query that may look at nothing", function()
    for _, mask in ipairs { moon.zeros(3, 3, { dtype = "bool" }),
                            moon.full({ 3, 3 }, -math.huge, { dtype = "float64" }) } do
      local x = q:clone():requires_grad_()
      local y = attention(x, x, x, mask)
      assert.equal(0, y:abs():sum():item())
      y:sum():backward()
      assert.equal(0, x.grad:abs():sum():item())
    end
  end)

  it("drops weights", function()
    local ones = moon.ones(1, 1000)
    moon.manual_seed(2)
    local y = attention(moon.zeros(1, 1), moon.zeros(1000, 1), ones:t(), { dropout = 0.5 })
    assert.is_true(y:item() ~= 1 and math.abs(y:item() - 1) < 0.2)
  end)

  it("leaks nothing when an allocation fails", function()
    local mask = moon.ones(3, 3, { dtype = "bool" })
    faults.every_allocation(function() attention(q, q, q, mask, { causal = true }) end)
  end)
end)

describe("multi_head_attention", function()
  local w, u = naive.random { 12, 4 }, naive.random { 4, 4 }

  it("names what does not fit", function()
    local function fails(text, ...) naive.fails(text, moon.multi_head_attention, ...) end
    fails("heads must divide the width 4, got 3", q, q, q, 3, w, u)
    fails("heads must divide the width 4, got 0", q, q, q, 0, w, u)
    fails("in_weight must be 12x4, got 4x4", q, q, q, 2, u, u)
    fails("out_weight must be 4x4, got 12x4", q, q, q, 2, w, w)
    fails("in_bias must be 12, got 3", q, q, q, 2, w, u, naive.random { 3 })
    fails("query (l, n, e), key and value (s, n, e) must agree", q, naive.random { 2, 2, 4 },
      naive.random { 2, 2, 4 }, 2, w, u)
    fails("key_padding_mask 3x3 does not broadcast to 3x2", q, q, q, 2, w, u,
      { key_padding_mask = moon.zeros(3, 3, { dtype = "bool" }) })
    fails("mask 5x5 does not broadcast to 6x2x2", q, q, q, 2, w, u,
      { mask = naive.random { 5, 5 } })
    fails("dropout must be from 0", q, q, q, 2, w, u, { dropout = 2 })
  end)

  it("gives the weights of every head when they are not to be averaged", function()
    local _, weights = moon.multi_head_attention(q, q, q, 2, w, u,
      { need_weights = true, average_weights = false })
    local _, mean = moon.multi_head_attention(q, q, q, 2, w, u, { need_weights = true })
    assert.same({ 3, 2, 2, 2 }, weights:size())
    naive.close(weights:mean(2), mean)
    naive.close(weights:sum(-1), moon.ones(3, 2, 2))
  end)

  it("gives no weights unless asked", function()
    assert.equal(1, select("#", moon.multi_head_attention(q, q, q, 2, w, u)))
  end)

  it("leaks nothing when an allocation fails", function()
    faults.every_allocation(function()
      moon.multi_head_attention(q, q, q, 2, w, u, { need_weights = true, causal = true })
    end)
  end)
end)

describe("positional_encoding", function()
  it("names what does not fit", function()
    naive.fails("width must be even, got 2 and 3", moon.positional_encoding, 2, 3)
    naive.fails("must not be negative", moon.positional_encoding, -1, 2)
    naive.fails("base must be above 0, got 0", moon.positional_encoding, 1, 2, 0)
    naive.fails("dtype must be a float type, got int64", moon.positional_encoding, 1, 2,
      { dtype = "int64" })
  end)

  it("is made in the type asked for", function()
    assert.equal("float32", moon.positional_encoding(2, 2).dtype)
    assert.equal("float16", moon.positional_encoding(2, 2, { dtype = "float16" }).dtype)
  end)
end)
