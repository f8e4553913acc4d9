-- Picking and placing by index tensors: values against loops in Lua, gradients, ranges, shapes.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local gradcheck = require "spec.support.gradcheck"
local naive = require "spec.support.naive"

local function whole(list, dtype) return moon.tensor(list, { dtype = dtype or "int64" }) end

-- A copy of a position with one number replaced.
local function moved(position, dim, to)
  local at = {}
  for i = 1, #position do at[i] = position[i] end
  at[dim] = to
  return at
end

describe("index_select", function()
  it("takes slices in the index's order", function()
    local x, index = naive.random { 3, 4, 5 }, { 3, 1, 3, 2 }
    for _, input in ipairs { x, x:transpose(1, 3), x:narrow(2, 2, 3) } do
      for dim = 1, 3 do
        local shape = input:size()
        shape[dim] = #index
        local expected = naive.build(shape, function(position)
          return input[moved(position, dim, index[position[dim]])]
        end)
        for _, dtype in ipairs { "int64", "int32", "uint8" } do
          naive.close(input:index_select(dim, whole(index, dtype)), expected, 0, "float64")
        end
      end
    end
  end)

  it("reads a strided index and takes none at all", function()
    local index = whole({ { 2, 1 }, { 3, 2 } }):select(2, 1)
    naive.close(moon.tensor({ 5, 6, 7 }):index_select(1, index), { 6, 7 })
    local none = moon.empty(0, { dtype = "int64" })
    assert.same({ 2, 0 }, moon.ones(2, 3):index_select(2, none):size())
    naive.close(moon.tensor({ 5, 6 }, { dtype = "uint8" }):index_select(1, whole { 2 }), { 6 })
  end)

  it("has the right slope, also where a position comes twice", function()
    local x = naive.random { 3, 4 }
    gradcheck.check(function(v) return v:index_select(1, whole { 2, 2, 1 }) end, { x })
    gradcheck.check(function(v) return v:index_select(2, whole { 4, 1, 4 }) end, { x })
    gradcheck.check(function(v) return v:index_select(1, whole { 4, 1, 4 }) end, { x:t() })
  end)

  it("says which position is out of range", function()
    local x = moon.zeros(3, 4)
    naive.fails("index_select: index must lie in 1..3, found 4", moon.index_select, x, 1,
      whole { 1, 4 })
    naive.fails("index_select: index must lie in 1..4, found 0", moon.index_select, x, 2,
      whole { 0, 4 })
    naive.fails("index_select: index must have 1 dimensions (n), got 1x2", moon.index_select, x, 1,
      whole { { 1, 2 } })
    naive.fails('index_select: index must be of an integer type, got float32; cast it with :to '
      .. '"int64"', moon.index_select, x, 1, moon.ones(2))
    naive.fails("index_select: input must have a dimension, got 0-d", moon.index_select,
      moon.tensor(1), 1, whole { 1 })
  end)

  it("survives every failing allocation, forward and backward", function()
    local x, index = naive.random { 2, 3 }, whole { 2, 2 }
    faults.every_allocation(function()
      x:detach():requires_grad_(true):index_select(1, index):sum():backward()
    end)
  end)
end)

describe("index_add and index_copy", function()
  local index = { 3, 1, 3 }

  it("place slices, in place and not", function()
    local x = naive.random { 3, 4 }
    for _, input in ipairs { x, naive.random({ 4, 3 }, { seed = 2 }):t() } do
      local source = naive.random({ 3, 4 }, { seed = 3 })
      local sum = input:clone()
      local copy = input:clone()
      for k = 1, 3 do
        for j = 1, 4 do
          sum[{ index[k], j }] = sum[{ index[k], j }] + source[{ k, j }]
          copy[{ index[k], j }] = source[{ k, j }]
        end
      end
      local before = input:clone()
      naive.close(input:index_add(1, whole(index), source), sum)
      naive.close(input:index_copy(1, whole(index), source), copy)
      naive.close(input, before, 0)
      local changed = input:clone():t():contiguous():t()
      changed:index_add_(1, whole(index), source)
      naive.close(changed, sum)
      changed = input:clone():t()
      changed:index_copy_(2, whole(index), source:t())
      naive.close(changed, copy:t())
    end
  end)

  it("add to integers", function()
    naive.close(whole({ 1, 2, 3 }):index_add(1, whole { 2, 2 }, whole { 10, 20 }), { 1, 32, 3 }, 0,
      "int64")
  end)

  it("read a source that shares the target's memory", function()
    local x = moon.arange(4):to("float64")
    x:narrow(1, 2, 3):index_copy_(1, whole { 1, 2, 3 }, x:narrow(1, 1, 3))
    naive.close(x, { 1, 1, 2, 3 })
  end)

  it("have the right slope", function()
    local x, source = naive.random { 3, 4 }, naive.random({ 2, 4 }, { seed = 2 })
    local places = whole { 3, 1 }
    gradcheck.check(function(v, s) return v:index_add(1, whole { 2, 2 }, s) end, { x, source })
    gradcheck.check(function(v, s) return v:index_copy(1, places, s) end, { x, source })
    gradcheck.check(function(v, s)
      local y = v * 2
      y:index_copy_(1, places, s)
      y:index_add_(1, places, s * s)
      return y * y
    end, { x, source })
    gradcheck.check(function(v, s) return v:t():index_copy(2, places, s:t()) end, { x, source })
  end)

  it("say which shape and type the source must have", function()
    local x = moon.zeros(5, 2)
    naive.fails("index_add: source must be 3x2 (input with 3 positions in dimension 1), got 2x2",
      moon.index_add, x, 1, whole { 1, 2, 3 }, moon.zeros(2, 2))
    naive.fails("index_copy: input is float32 but source is float64; cast one, as in source:to",
      moon.index_copy, x, 1, whole { 1 }, moon.zeros(1, 2, { dtype = "float64" }))
    naive.fails("index_add: index must lie in 1..5, found 6", moon.index_add, x, 1, whole { 6 },
      moon.zeros(1, 2))
    naive.fails("index_add_: an expanded tensor shares elements and cannot be changed in place",
      moon.index_add_, moon.zeros(1, 2):expand(5, 2), 1, whole { 1 }, moon.zeros(1, 2))
  end)

  it("do nothing for an empty index", function()
    local x = naive.random { 3, 2 }
    local none = moon.empty(0, { dtype = "int64" })
    naive.close(x:index_add(1, none, naive.random { 0, 2 }), x, 0)
    naive.close(x:index_copy(1, none, naive.random { 0, 2 }), x, 0)
  end)

  it("survive every failing allocation, forward and backward", function()
    local x, source = naive.random { 3, 2 }, naive.random({ 2, 2 }, { seed = 2 })
    for _, name in ipairs { "index_add", "index_copy" } do
      faults.every_allocation(function()
        local a = x:detach():requires_grad_(true)
        moon[name](a, 1, whole { 1, 3 }, source:detach():requires_grad_(true)):sum():backward()
      end)
    end
  end)
end)

describe("gather and scatter", function()
  local index = whole { { 2, 1, 3 }, { 1, 1, 2 } }

  it("pick and place element by element", function()
    local x = naive.random { 3, 4 }
    for _, input in ipairs { x, naive.random({ 4, 3 }):t() } do
      for dim = 1, 2 do
        local expected = naive.build({ 2, 3 }, function(position)
          return input[moved(position, dim, index[position])]
        end)
        naive.close(input:gather(dim, index), expected, 0, "float64")
        local source = naive.random({ 3, 3 }, { seed = 5 })
        local put, sum = input:clone(), input:clone()
        for position in naive.positions { 2, 3 } do
          local at = moved(position, dim, index[position])
          put[at] = source[position]
          sum[at] = sum[at] + source[position]
        end
        naive.close(input:scatter(dim, index, source), put, 0)
        naive.close(input:scatter_add(dim, index, source), sum)
        local changed = input:clone()
        changed:scatter_(dim, index, source)
        changed:scatter_add_(dim, index, source)
        naive.close(changed:sub(put), sum:sub(input))
      end
    end
  end)

  it("place one number everywhere", function()
    local places = whole { { 3 }, { 1 } }
    naive.close(moon.zeros(2, 3):scatter(2, places, 1), { { 0, 0, 1 }, { 1, 0, 0 } })
    naive.close(moon.zeros(3):scatter_add(1, whole { 2, 2, 3 }, 0.5), { 0, 1, 0.5 })
  end)

  it("take 0-d tensors", function()
    local x, one = moon.tensor(5, { dtype = "float64" }), moon.tensor(1, { dtype = "int64" })
    naive.close(x:gather(1, one), 5)
    naive.close(x:scatter(1, one, 7), 7)
    gradcheck.check(function(v) return v:gather(1, one) end, { x })
  end)

  it("have the right slope", function()
    local x = naive.random { 3, 4 }
    local source, few = naive.random({ 3, 3 }, { seed = 2 }), whole { { 2, 1, 3 }, { 1, 3, 2 } }
    for dim = 1, 2 do
      gradcheck.check(function(v) return v:gather(dim, index) end, { x })
      gradcheck.check(function(v) return v:gather(dim, index) end, { naive.random({ 4, 3 }):t() })
      gradcheck.check(function(v, s) return v:scatter_add(dim, index, s) end, { x, source })
      gradcheck.check(function(v, s) return v:scatter(dim, few, s) end, { x, source })
    end
    gradcheck.check(function(v, s) return v:scatter(1, few, s) end,
      { x, moon.tensor(3, { dtype = "float64" }) })
    gradcheck.check(function(v, s)
      local y = v * 1
      y:scatter_(1, few, s * s)
      y:scatter_add_(2, few, s)
      return y * y
    end, { x, source })
  end)

  it("say what does not fit", function()
    local x = moon.zeros(2, 3)
    naive.fails("gather: index 3x1 does not fit input 2x3: it must have as many dimensions and be "
      .. "no larger, except along dim", moon.gather, x, 2, whole { { 1 }, { 1 }, { 1 } })
    naive.fails("gather: index 1 does not fit input 2x3", moon.gather, x, 1, whole { 1 })
    naive.fails("gather: index must lie in 1..3, found 4", moon.gather, x, 2, whole { { 4 } })
    naive.fails("scatter: index 2x2 does not fit source 1x2", moon.scatter, x, 2,
      whole { { 1, 2 }, { 1, 2 } }, moon.zeros(1, 2))
    naive.fails("scatter_add: input is float32 but source is int64", moon.scatter_add, x, 2,
      whole { { 1 } }, whole { { 1 } })
  end)

  it("do nothing for an empty index", function()
    local none = moon.empty({ 0, 3 }, { dtype = "int64" })
    assert.same({ 0, 3 }, moon.zeros(2, 3):gather(1, none):size())
    naive.close(moon.ones(2, 3):scatter(1, none, 5), moon.ones(2, 3))
  end)

  it("survive every failing allocation, forward and backward", function()
    local x, source = naive.random { 3, 3 }, naive.random({ 2, 3 }, { seed = 2 })
    for _, name in ipairs { "scatter", "scatter_add", "gather" } do
      faults.every_allocation(function()
        local a, s = x:detach():requires_grad_(true), source:detach():requires_grad_(true)
        local out = name == "gather" and a:gather(1, index) or moon[name](a, 1, index, s)
        out:sum():backward()
      end)
    end
  end)
end)

describe("bincount and one_hot", function()
  it("count and mark labels from 1", function()
    local labels = whole { 2, 3, 2, 1, 2 }
    naive.close(labels:bincount(), { 1, 3, 1 }, 0, "int64")
    naive.close(labels:bincount(5), { 1, 3, 1, 0, 0 }, 0, "int64")
    naive.close(whole({ { 1, 3 }, { 3, 3 } }, "uint8"):t():bincount(), { 1, 0, 3 }, 0, "int64")
    naive.close(whole({ 2, 1 }):one_hot(), { { 0, 1 }, { 1, 0 } }, 0, "int64")
    naive.close(whole({ { 2 }, { 1 } }):one_hot(3), { { { 0, 1, 0 } }, { { 1, 0, 0 } } }, 0)
    naive.close(moon.tensor(2, { dtype = "int64" }):one_hot(3), { 0, 1, 0 }, 0)
  end)

  it("build a confusion matrix", function()
    local truth, guess = whole { 1, 1, 2, 3 }, whole { 1, 2, 2, 1 }
    naive.close(((truth - 1) * 3 + guess):bincount(9):view(3, 3),
      { { 1, 1, 0 }, { 0, 1, 0 }, { 1, 0, 0 } })
  end)

  it("take nothing", function()
    local none = moon.empty(0, { dtype = "int64" })
    naive.close(none:bincount(2), { 0, 0 })
    assert.same({ 0 }, none:bincount():size())
    assert.same({ 0, 4 }, none:one_hot(4):size())
  end)

  it("refuse labels out of range and labels that are no integers", function()
    naive.fails("bincount: input must lie in 1..3, found 4", moon.bincount, whole { 4, 1 }, 3)
    naive.fails("bincount: input must lie in 1..2, found 0", moon.bincount, whole { 0, 2 })
    naive.fails("one_hot: input must lie in 1..2, found 3", moon.one_hot, whole { 3 }, 2)
    naive.fails("one_hot: input must be of an integer type, got float32", moon.one_hot,
      moon.ones(2))
    naive.fails("bincount: n must not be negative, got -1", moon.bincount, whole { 1 }, -1)
    naive.fails("one_hot: a tensor has at most 8 dimensions", moon.one_hot,
      moon.ones(1, 1, 1, 1, 1, 1, 1, 1, { dtype = "int64" }), 2)
  end)

  it("survive every failing allocation", function()
    local labels = whole { 2, 1 }
    faults.every_allocation(function()
      labels:bincount()
      labels:one_hot()
    end)
  end)
end)
