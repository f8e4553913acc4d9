-- Indexing: numbers, tables, masks and positions, read and assigned, with gradients and sentences.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local gradcheck = require "spec.support.gradcheck"
local naive = require "spec.support.naive"

local function whole(...) return moon.tensor({ ... }, { dtype = "int64" }) end
local function flags(...) return moon.tensor({ ... }, { dtype = "bool" }) end

local x   -- 11 12 13 14 / 21 22 23 24 / 31 32 33 34

before_each(function()
  x = moon.tensor { { 11, 12, 13, 14 }, { 21, 22, 23, 24 }, { 31, 32, 33, 34 } }
end)

describe("reading", function()
  it("one element gives a number, a boolean or an exact whole number", function()
    assert.equal(23, x[{ 2, 3 }])
    assert.equal(34, x[{ -1, -1 }])
    assert.equal(13, x[1][3])
    assert.equal(14, x[1][-1])
    assert.is_true(flags(false, true)[2])
    assert.equal(2 ^ 53, whole(2 ^ 53)[1])
    assert.equal(7, moon.tensor(7)[{}])
    assert.equal("number", type(moon.tensor({ 1.5 }, { dtype = "float16" })[1]))
  end)

  it("one index gives a row that shares memory", function()
    assert.same({ 21, 22, 23, 24 }, x[2]:totable())
    assert.same({ 31, 32, 33, 34 }, x[-1]:totable())
    assert.same({ 31, 32, 33, 34 }, x[{ 3 }]:totable())
    assert.is_true(x[2]:shares_memory(x))
  end)

  it("ranges give blocks that share memory", function()
    assert.same({ { 12, 13 }, { 22, 23 } }, x[{ { 1, 2 }, { 2, 3 } }]:totable())
    assert.same({ { 14 }, { 24 }, { 34 } }, x[{ {}, { 4 } }]:totable())
    assert.same({ 14, 24, 34 }, x[{ {}, 4 }]:totable())
    assert.same({ 23, 24 }, x[{ 2, { 3, -1 } }]:totable())
    assert.same({ { 31, 32, 33, 34 } }, x[{ { -1 } }]:totable())
    assert.same({ { 11, 12, 13, 14 }, { 21, 22, 23, 24 } }, x[{ { 1, 2 } }]:totable())
    assert.same({ 3, 4 }, x[{}]:size())
    assert.is_true(x[{ {}, { 2, 3 } }]:shares_memory(x))
    assert.is_true(x[{}]:shares_memory(x))
  end)

  it("ranges may be empty", function()
    assert.same({ 3, 0 }, x[{ {}, { 3, 2 } }]:size())
    assert.same({ 0, 4 }, x[{ { 1, 0 } }]:size())
    assert.same({ 0 }, moon.empty(0)[{ {} }]:size())
    assert.same({ 0 }, moon.empty(0)[{ { 1, 0 } }]:size())
    assert.same({ 0 }, moon.empty(0)[{ { 1, -1 } }]:size())
  end)

  it("a mask of the same shape gives the elements where it is true, in order", function()
    assert.same({ 24, 31, 32, 33, 34 }, x[x:gt(23)]:totable())
    assert.same({ 0 }, x[x:gt(99)]:size())
    assert.same({ 14, 24, 34 }, x:t()[x:t():remainder(10):eq(4)]:totable())
    assert.is_false(x[x:gt(0)]:shares_memory(x))
  end)

  it("a mask of the first dimensions gives rows", function()
    assert.same({ { 11, 12, 13, 14 }, { 31, 32, 33, 34 } }, x[flags(true, false, true)]:totable())
    assert.same({ 0, 4 }, x[flags(false, false, false)]:size())
    local deep = moon.arange(1, 12):reshape(2, 3, 2)
    local mask = moon.tensor({ { true, false, false }, { false, true, true } }, { dtype = "bool" })
    assert.same({ { 1, 2 }, { 9, 10 }, { 11, 12 } }, deep[mask]:totable())
  end)

  it("positions give rows in their order, as often as they say", function()
    assert.same({ { 31, 32, 33, 34 }, { 11, 12, 13, 14 }, { 31, 32, 33, 34 } },
      x[whole(3, 1, 3)]:totable())
    assert.same({ 2, 2, 4 }, x[moon.tensor({ { 1, 2 }, { 3, 1 } }, { dtype = "int64" })]:size())
    assert.same({ 3, 1 }, moon.tensor({ 1, 2, 3 })[whole(3, 1)]:totable())
    assert.same({ 0, 4 }, x[moon.empty(0, { dtype = "int64" })]:size())
    assert.same({ 21, 22, 23, 24 }, x[moon.tensor(2, { dtype = "int64" })]:totable())
    assert.same({ { 21, 22, 23, 24 } }, x[moon.tensor({ 2 }, { dtype = "int32" })]:totable())
    assert.same({ { 21, 22, 23, 24 } }, x[moon.tensor({ 2 }, { dtype = "uint8" })]:totable())
  end)

  it("is on the tape wherever it gives a tensor", function()
    gradcheck.check(function(a)
      return a[2], a[{ {}, 3 }], a[{ { 1, 2 }, { 2, 3 } }], a[{}], a[a:gt(0)],
        a[flags(true, false, true)], a[whole(3, 1, 3)],
        a[moon.tensor({ { 1, 2 }, { 3, 3 } }, { dtype = "int64" })]
    end, { naive.random { 3, 4 } })
    local a = moon.ones(3, { requires_grad = true })
    assert.equal("number", type(a[1]))
    assert.is_true(a[{ { 1 } }].requires_grad)
  end)

  it("survives every allocation that fails", function()
    local mask, rows, at = x:gt(20), flags(true, false, true), whole(3, 1)
    for _, index in ipairs { 2, { {}, 2 }, { { 1, 2 }, { 2, 3 } }, mask, rows, at } do
      faults.every_allocation(function() return x[index] end)
      faults.every_allocation(function() x[index] = 5 end)
    end
    local values = moon.ones(2, 4)
    faults.every_allocation(function() x[rows] = values end)
    faults.every_allocation(function() x[at] = values end)
    faults.every_allocation(function() x[{ { 1, 2 } }] = values end)
  end)
end)

describe("assigning", function()
  it("a number to one element", function()
    x[{ 2, 3 }] = -1
    x[{ -1, -1 }] = -2
    x[1][2] = -3
    assert.same({ -1, -2, -3 }, { x[{ 2, 3 }], x[{ 3, 4 }], x[{ 1, 2 }] })
    local n = whole(1, 2)
    n[1] = 2 ^ 53
    assert.equal(2 ^ 53, n[1])
    local b = flags(false, false)
    b[2] = true
    assert.same({ false, true }, b:totable())
    b[1], b[2] = 1, 0
    assert.same({ true, false }, b:totable())
    n[2] = true
    assert.equal(1, n[2])
    local scalar = moon.tensor(1)
    scalar[{}] = 5
    assert.equal(5, scalar:item())
  end)

  it("a number to rows and blocks", function()
    x[2] = 0
    x[{ {}, { 1, 2 } }] = 1
    x[{ { 3, 2 } }] = 99
    assert.same({ { 1, 1, 13, 14 }, { 1, 1, 0, 0 }, { 1, 1, 33, 34 } }, x:totable())
  end)

  it("a tensor to blocks, broadcast and cast", function()
    x[1] = moon.tensor { 1, 2, 3, 4 }
    x[{ { 2, 3 }, {} }] = moon.tensor({ { 5 }, { 6 } }, { dtype = "int64" })
    assert.same({ { 1, 2, 3, 4 }, { 5, 5, 5, 5 }, { 6, 6, 6, 6 } }, x:totable())
    x[{ {}, 4 }] = moon.tensor({ 7, 8, 9 }, { dtype = "float64" })
    assert.same({ 7, 8, 9 }, x[{ {}, 4 }]:totable())
    x[{ 3, 1 }] = moon.tensor(42)
    assert.equal(42, x[{ 3, 1 }])
  end)

  it("a tensor that overlaps with the target, as if it were apart", function()
    x[{ {}, { 2, 4 } }] = x[{ {}, { 1, 3 } }]
    assert.same({ 11, 11, 12, 13 }, x[1]:totable())
    local square = moon.tensor { { 1, 2 }, { 3, 4 } }
    square[{}] = square:t()
    assert.same({ { 1, 3 }, { 2, 4 } }, square:totable())
  end)

  it("through masks", function()
    x[x:gt(30)] = 0
    assert.same({ 0, 0, 0, 0 }, x[3]:totable())
    x[flags(true, false, true)] = 7
    assert.same({ { 7, 7, 7, 7 }, { 21, 22, 23, 24 }, { 7, 7, 7, 7 } }, x:totable())
    x[x:eq(7)] = moon.arange(1, 8, 1, { dtype = "float32" })
    assert.same({ { 1, 2, 3, 4 }, { 21, 22, 23, 24 }, { 5, 6, 7, 8 } }, x:totable())
    x[flags(false, true, false)] = moon.tensor { { 9, 9, 9, 9 } }
    assert.same({ 9, 9, 9, 9 }, x[2]:totable())
    x[x:gt(99)] = 5
    assert.equal(9, x[{ 2, 1 }])
  end)

  it("through positions", function()
    x[whole(3, 1)] = 0
    assert.same({ { 0, 0, 0, 0 }, { 21, 22, 23, 24 }, { 0, 0, 0, 0 } }, x:totable())
    x[whole(1, 3)] = moon.tensor { { 1, 2, 3, 4 }, { 5, 6, 7, 8 } }
    assert.same({ 5, 6, 7, 8 }, x[3]:totable())
    x[whole(2, 3)] = moon.tensor { 9, 8, 7, 6 }
    assert.same({ { 9, 8, 7, 6 }, { 9, 8, 7, 6 } }, x[{ { 2, 3 } }]:totable())
    x[moon.tensor({ { 1, 2 } }, { dtype = "int64" })] = moon.zeros(1, 2, 4)
    assert.equal(0, x[{ { 1, 2 } }]:sum():item())
    local line = moon.zeros(5)
    line[whole(5, 2)] = moon.tensor { 1, 2 }
    assert.same({ 0, 2, 0, 0, 1 }, line:totable())
    line[moon.empty(0, { dtype = "int64" })] = 3
    assert.same({ 0, 2, 0, 0, 1 }, line:totable())
  end)

  it("into views reaches the base", function()
    x:t()[1] = moon.tensor { 1, 2, 3 }
    assert.same({ 1, 2, 3 }, x[{ {}, 1 }]:totable())
    local column = x[{ {}, 2 }]
    column[column:gt(20)] = 0
    assert.same({ 12, 0, 0 }, x[{ {}, 2 }]:totable())
    column[whole(1, 2)] = 4
    assert.same({ 4, 4, 0 }, x[{ {}, 2 }]:totable())
  end)
end)

-- sentence, call
local mistakes = {
  { "index 4 lies outside dimension 1 of size 3", function() return x[4] end },
  { "index 0 lies outside dimension 1 of size 3", function() return x[0] end },
  { "index -5 lies outside dimension 2 of size 4", function() return x[{ 1, -5 }] end },
  { "index 5 lies outside dimension 2 of size 4", function() x[{ 1, 5 }] = 0 end },
  { "index 5 lies outside dimension 2 of size 4", function() return x[{ 1, { 2, 5 } }] end },
  { "index: 3 indices for a tensor of 2 dimensions", function() return x[{ 1, 1, 1 }] end },
  { "index: expected a whole number, got number", function() return x[1.5] end },
  { "index: expected a whole number, got string", function() return x[{ 1, "a" }] end },
  { "index: a range is {}, {first} or {first, last}, got 3 numbers",
    function() return x[{ { 1, 2, 3 } }] end },
  { "index: the range 3..1 of dimension 2 runs backwards",
    function() return x[{ {}, { 3, 1 } }] end },
  { "index: a 0-d tensor has no elements to index; use item()",
    function() return moon.tensor(1)[1] end },
  { "index: a tensor is indexed by a number, a table, a mask or positions, got boolean",
    function() return x[true] end },
  { "index: a tensor is indexed by a number, a table, a mask or positions, got nil",
    function() return x[nil] end },
  { "index: a tensor is indexed by a number, a table, a mask or positions, got function",
    function() x[print] = 1 end },
  { "index: a mask of 2 does not cover the first dimensions of a tensor of 3x4",
    function() return x[flags(true, false)] end },
  { "index: a mask of 4x3 does not cover", function() x[x:t():gt(0)] = 1 end },
  { "index must lie in 1..3, found 4", function() return x[whole(4)] end },
  { "index must lie in 1..3, found 0", function() x[whole(0)] = 1 end },
  { "index must be of an integer type, got float32", function() return x[moon.ones(2)] end },
  { "index: positions of 1 dimensions do not fit a tensor of 0",
    function() return moon.tensor(1)[whole(1)] end },
  { "index: a number or a tensor can be assigned, got string", function() x[1] = "1" end },
  { "index: a number or a tensor can be assigned, got nil", function() x[1] = nil end },
  { "index: a number or a tensor can be assigned, got table",
    function() x[1] = { 1, 2, 3, 4 } end },
  { "index: the value is the fraction 1.5 beside a tensor of int64",
    function() whole(1)[1] = 1.5 end },
  { "index: the value is 256, which a tensor of uint8 cannot hold",
    function() moon.zeros(1, { dtype = "uint8" })[1] = 256 end },
  { "index: the value is nan, which a tensor of int32 cannot hold",
    function() moon.zeros(1, { dtype = "int32" })[1] = 0 / 0 end },
  { "index: the value is 1e+300, which a tensor of int64 cannot hold",
    function() whole(1)[1] = 1e300 end },
  { "assign_: the value 3 does not fit the part 4", function() x[1] = moon.ones(3) end },
  { "expand: input 3 cannot be expanded to 2x4", function() x[whole(1, 2)] = moon.ones(3) end },
  { "masked_scatter_: ", function() x[x:gt(20)] = moon.ones(3) end },
  { 'a tensor has no field "data_" to assign; requires_grad and grad can be',
    function() x.data_ = 1 end },
}

describe("mistakes with indices", function()
  for _, mistake in ipairs(mistakes) do
    it("are answered: " .. mistake[1], function() naive.fails(mistake[1], mistake[2]) end)
  end

  it("leave the tensor as it was", function()
    pcall(function() x[whole(1, 9)] = 0 end)
    pcall(function() x[x:gt(20)] = moon.ones(3) end)
    assert.equal(11 + 12 + 13 + 14, x[1]:sum():item())
    assert.equal(21 + 22 + 23 + 24, x[2]:sum():item())
  end)

  it("give nil for names that do not exist", function()
    assert.is_nil(x.no_such_thing)
  end)
end)
