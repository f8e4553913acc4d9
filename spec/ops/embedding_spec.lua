-- What the cases of tables leave out: the padding row, in-place renorming, refusals, memory.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local naive = require "spec.support.naive"

local function whole(list) return moon.tensor(list, { dtype = "int64" }) end

local table_of_rows = naive.random { 4, 3 }

describe("embedding", function()
  it("gives the padding row no gradient, though it is read as any other", function()
    local weight = table_of_rows:clone():requires_grad_()
    local y = moon.embedding(weight, whole { 2, 1, 2, 4 }, { padding_index = 2 })
    naive.close(y:select(1, 1), weight:select(1, 2))
    y:sum():backward()
    naive.close(weight.grad, { { 1, 1, 1 }, { 0, 0, 0 }, { 0, 0, 0 }, { 1, 1, 1 } })
  end)

  it("names what does not fit", function()
    naive.fails("embedding: index must lie in 1..4, found 5", moon.embedding, table_of_rows,
      whole { 1, 5 })
    naive.fails("embedding: index must lie in 1..4, found 0", moon.embedding, table_of_rows,
      whole { 0 })
    naive.fails("embedding: index must be of an integer type, got float64", moon.embedding,
      table_of_rows, table_of_rows)
    naive.fails("embedding: weight must have 2 dimensions (rows, columns), got 3", moon.embedding,
      naive.random { 3 }, whole { 1 })
    naive.fails("embedding: weight must be of a float type, got int64", moon.embedding,
      whole { { 1 } }, whole { 1 })
    naive.fails("padding_index must lie in 1..4 or count from the end, found 5", moon.embedding,
      table_of_rows, whole { 1 }, 5)
  end)

  it("leaks nothing when an allocation fails", function()
    local weight = table_of_rows:clone():requires_grad_()
    faults.every_allocation(function()
      moon.embedding(weight, whole { 2, 1 }, 1):sum():backward()
      weight.grad = nil
    end)
  end)
end)

describe("embedding_renorm_", function()
  it("works in place, on the rows that are named", function()
    local weight = moon.tensor({ { 3, 4 }, { 6, 8 } }, { dtype = "float64" })
    weight:embedding_renorm_(whole { 1 }, 1)
    naive.close(weight, { { 0.6, 0.8 }, { 6, 8 } }, 1e-7)
  end)

  it("names what does not fit, and has no gradient", function()
    naive.fails("embedding_renorm_: max_norm must be above 0, got 0",
      table_of_rows.embedding_renorm_, table_of_rows:clone(), whole { 1 }, 0)
    naive.fails("norm_type must be above 0, got -1",
      table_of_rows.embedding_renorm_, table_of_rows:clone(), whole { 1 }, 1, -1)
    naive.fails("index must lie in 1..4, found 9",
      table_of_rows.embedding_renorm_, table_of_rows:clone(), whole { 9 }, 1)
    local taped = table_of_rows:clone():requires_grad_() * 1
    naive.fails("no gradient is defined", taped.embedding_renorm_, taped, whole { 1 }, 1)
  end)
end)

describe("embedding_bag", function()
  it("names what does not fit", function()
    local index = whole { 1, 2, 3 }
    local function fails(text, ...) naive.fails(text, moon.embedding_bag, table_of_rows, ...) end
    fails("embedding_bag: index must be (n) with offsets or (bags, size) without, got 3 without",
      index)
    fails("got 1x3 with", whole { { 1, 2, 3 } }, whole { 1 })
    fails("the first of offsets must be 1, found 2", index, whole { 2, 3 })
    fails("offsets must not fall, found a step of -1", index, whole { 1, 3, 2 })
    fails("offsets must lie in 1..4, found 5", index, whole { 1, 5 })
    fails("the last of offsets must be 4, one past the end, found 3", index, whole { 1, 3 },
      { include_last_offset = true })
    fails("offsets is empty but index has 3 members", index,
      moon.empty({ 0 }, { dtype = "int64" }))
    fails('per_sample_weights go with mode "sum" only', index, whole { 1 },
      { per_sample_weights = naive.random { 3 } })
    fails("per_sample_weights 2 must have the shape of index 3", index, whole { 1 },
      { mode = "sum", per_sample_weights = naive.random { 2 } })
    fails("index must lie in 1..4, found 7", whole { { 7 } })
    fails("mode", index, whole { 1 }, { mode = "median" })
  end)

  it("leaks nothing when an allocation fails", function()
    local weight = table_of_rows:clone():requires_grad_()
    for _, mode in ipairs { "sum", "mean", "max" } do
      faults.every_allocation(function()
        moon.embedding_bag(weight, whole { 1, 2, 4 }, whole { 1, 3 }, mode):sum():backward()
        weight.grad = nil
      end)
    end
  end)
end)
