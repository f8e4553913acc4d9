-- Reductions: values against loops in Lua, gradients against differences, types, empty inputs and
-- sentences.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local gradcheck = require "spec.support.gradcheck"
local naive = require "spec.support.naive"

local unpack = table.unpack or unpack

-- Folds x over the dimensions in the set `over`, in Lua. `f(list)` gives a number from a list.
local function fold(x, over, keepdim, f)
  local shape, lists, kept = x:size(), {}, {}
  for i = 1, #shape do
    if not over[i] then kept[#kept + 1] = shape[i] elseif keepdim then kept[#kept + 1] = 1 end
  end
  local function key(position, dropped)
    local parts = {}
    for i = 1, #shape do
      if not over[i] then parts[#parts + 1] = position[i]
      elseif keepdim and not dropped then parts[#parts + 1] = 1 end
    end
    return table.concat(parts, ",")
  end
  for position in naive.positions(shape) do
    local k = key(position)
    lists[k] = lists[k] or {}
    table.insert(lists[k], naive.at(x, position))
  end
  return naive.build(kept, function(position)
    return f(lists[table.concat(position, ",")] or {})
  end)
end

local folds = {
  sum = function(list)
    local total = 0
    for _, v in ipairs(list) do total = total + v end
    return total
  end,
  prod = function(list)
    local product = 1
    for _, v in ipairs(list) do product = product * v end
    return product
  end,
  amax = function(list) return math.max(unpack(list)) end,
  amin = function(list) return math.min(unpack(list)) end,
}
function folds.mean(list) return folds.sum(list) / #list end

-- How dims are given, and which they are.
local choices = {
  { nil, { true, true, true } }, { 2, { false, true, false } }, { -1, { false, false, true } },
  { { 1, 3 }, { true, false, true } }, { { -3, 2 }, { true, true, false } },
}

for name, f in pairs(folds) do
  describe(name, function()
    it("folds any dimensions as a loop does", function()
      local x = naive.random { 3, 4, 5 }
      for _, choice in ipairs(choices) do
        for _, keepdim in ipairs { false, true } do
          naive.close(moon[name](x, choice[1], keepdim), fold(x, choice[2], keepdim, f), 1e-12,
            "float64")
        end
      end
    end)

    it("reads a transposed and a narrowed tensor", function()
      local x = naive.random({ 5, 4, 3 }):transpose(1, 3):narrow(2, 2, 2)
      naive.close(moon[name](x, { 1, 2 }), fold(x, { true, true, false }, false, f))
    end)

    it("takes options by name, as a method too", function()
      local x = naive.random { 2, 3 }
      local expected = fold(x, { true, false }, true, f)
      naive.close(x[name](x, { dim = 1, keepdim = true }), expected)
    end)

    it("has the right slope", function()
      local x = naive.random { 3, 2, 2 }
      for _, choice in ipairs(choices) do
        gradcheck.check(function(v) return moon[name](v, choice[1]) end, { x })
      end
      gradcheck.check(function(v) return moon[name](v, 2, true) end, { x:transpose(1, 2) })
    end)

    it("names a dimension that is not there, or is there twice", function()
      local x = moon.zeros(2, 3)
      naive.fails(name .. ": dimension 3 does not exist in a tensor of 2 dimensions",
        moon[name], x, 3)
      naive.fails(name .. ": dim names dimension 1 twice", moon[name], x, { 1, -2 })
    end)

    it("survives every failing allocation, forward and backward", function()
      local x = naive.random { 2, 3 }
      faults.every_allocation(function()
        local leaf = x:detach():requires_grad_(true)
        moon[name](leaf, 2):sum():backward()
      end)
    end)
  end)
end

describe("types of reductions", function()
  it("sums and multiplies bool and integers in int64", function()
    local bytes = moon.full({ 300 }, 255, { dtype = "uint8" })
    naive.close(bytes:sum(), 300 * 255, 0, "int64")
    naive.close(moon.tensor({ 1, 0, 1 }, { dtype = "bool" }):sum(), 2, 0, "int64")
    naive.close(moon.tensor({ 2, 3, 4 }, { dtype = "int32" }):prod(), 24, 0, "int64")
    naive.close(moon.tensor({ 2, 3, 4 }, { dtype = "int32" }):amax(), 4, 0, "int32")
  end)

  it("refuses the mean of integers and says how to cast", function()
    naive.fails('mean: the mean of int64 elements is no whole number; cast first, as in input:to '
      .. '"float32"', moon.mean, moon.arange(3))
  end)

  it("accumulates half types in more than their own digits", function()
    local ones = moon.ones(4096, { dtype = "float16" })
    naive.close(ones:sum(), 4096, 0, "float16")
    naive.close(ones:to("bfloat16"):mean(), 1, 0, "bfloat16")
  end)

  it("gives gradients of half types", function()
    local x = moon.ones(4, { dtype = "float16", requires_grad = true })
    x:mean():backward()
    naive.close(x.grad, { 0.25, 0.25, 0.25, 0.25 }, 0, "float16")
  end)
end)

describe("nothing to reduce", function()
  it("sums to 0, multiplies to 1, has no mean", function()
    local x = moon.zeros(0, 3)
    naive.close(x:sum(), 0)
    naive.close(x:sum(1), { 0, 0, 0 })
    naive.close(x:prod(1), { 1, 1, 1 })
    naive.close(x:mean(1), { 0 / 0, 0 / 0, 0 / 0 })
    assert.same({ 0 }, x:sum(2):size())
    naive.close(x:all(1), { 1, 1, 1 })
    naive.close(x:any(1), { 0, 0, 0 })
  end)

  it("has no largest element, but an empty result needs none", function()
    local x = moon.zeros(3, 0)
    naive.fails("amax: dimension 2 of input 3x0 is empty, so there is no element to choose",
      moon.amax, x, 2)
    naive.fails("amin: dimension 2 of input 3x0 is empty", moon.amin, x)
    assert.same({ 0 }, x:amax(1):size())
  end)

  it("has an empty gradient", function()
    local x = moon.zeros(0, 3, { requires_grad = true })
    x:sum():backward()
    assert.same({ 0, 3 }, x.grad:size())
  end)
end)

describe("a 0-d tensor", function()
  it("reduces to itself", function()
    local x = moon.tensor(3)
    for name in pairs(folds) do naive.close(moon[name](x), 3) end
    naive.close(x:sum(1), 3)
    naive.close(x:cumsum(1), 3)
  end)
end)

describe("slopes at special places", function()
  local function slope(f, list)
    local x = moon.tensor(list, { dtype = "float64" }):requires_grad_(true)
    f(x):sum():backward()
    return x.grad
  end

  it("of a product with one zero go to that zero alone", function()
    naive.close(slope(moon.prod, { 2, 0, 3 }), { 0, 6, 0 })
    naive.close(slope(function(x) return x:prod(1) end, { { 2, 0 }, { 0, 3 } }),
      { { 0, 3 }, { 2, 0 } })
  end)

  it("of a product with two zeros are zero", function()
    naive.close(slope(moon.prod, { 0, 0, 3 }), { 0, 0, 0 })
    gradcheck.check(function(x) return x:prod(2) end,
      { moon.tensor({ { 0, 0, 3 }, { 1, 0, 2 }, { 1, 2, 3 } }, { dtype = "float64" }) })
  end)

  it("are shared evenly among equal extremes", function()
    naive.close(slope(moon.amax, { 5, 1, 5 }), { 0.5, 0, 0.5 })
    naive.close(slope(function(x) return x:amin(2) end, { { 1, 1, 4 }, { 3, 2, 3 } }),
      { { 0.5, 0.5, 0 }, { 0, 1, 0 } })
  end)

  it("of a sum take no memory of their own", function()
    local x = moon.zeros(256, 256, { requires_grad = true })
    local y = x * 1
    local loss = y:sum()
    local before = moon.memory().live
    loss:backward()
    local held = moon.memory().live - before
    assert.is_true(held <= 256 * 256 * 4)   -- x.grad alone
  end)
end)

describe("all and any", function()
  it("ask whether elements are zero, of any type", function()
    local x = moon.tensor { { 1, 0, 2 }, { 3, 4, 5 }, { 0, 0, 0 } }
    naive.close(x:all(2), { 0, 1, 0 }, 0, "bool")
    naive.close(x:any(2), { 1, 1, 0 }, 0, "bool")
    naive.close(x:to("uint8"):t():any({ 1 }, true), { { 1, 1, 0 } }, 0, "bool")
    naive.close(x:gt(0):all(), 0, 0, "bool")
    naive.close(moon.tensor({ 0 / 0 }):any(), 1, 0, "bool")
  end)
end)

describe("NaN", function()
  it("goes through every reduction", function()
    local x = moon.tensor { 1, 0 / 0, 3 }
    for name in pairs(folds) do naive.close(moon[name](x), 0 / 0) end
  end)
end)

describe("cumsum", function()
  it("adds up along a dimension", function()
    local x = naive.random { 3, 4, 2 }
    for dim = 1, 3 do
      local expected = naive.build({ 3, 4, 2 }, function(position)
        local total, at = 0, { position[1], position[2], position[3] }
        for i = 1, position[dim] do
          at[dim] = i
          total = total + x[at]
        end
        return total
      end)
      naive.close(x:cumsum(dim), expected)
      naive.close(x:transpose(1, 2):contiguous():transpose(1, 2):cumsum(dim), expected)
    end
  end)

  it("counts integers and bool in int64", function()
    local bits = moon.tensor({ 1, 1, 0, 1 }, { dtype = "bool" })
    naive.close(bits:cumsum(1), { 1, 2, 2, 3 }, 0, "int64")
    local bytes = moon.full({ 3 }, 200, { dtype = "uint8" })
    naive.close(bytes:cumsum(-1), { 200, 400, 600 }, 0, "int64")
  end)

  it("has the right slope", function()
    gradcheck.check(function(x) return x:cumsum(1) end, { naive.random { 4, 3 } })
    gradcheck.check(function(x) return x:cumsum(2) end, { naive.random({ 4, 3 }):t() })
    gradcheck.check(function(x) return x:cumsum(1) end, { naive.random { 1, 3 } })
  end)

  it("of nothing is nothing", function()
    assert.same({ 0, 3 }, moon.zeros(0, 3):cumsum(1):size())
  end)

  it("names a dimension that is not there", function()
    naive.fails("cumsum: dimension 3 does not exist in a tensor of 2 dimensions", moon.cumsum,
      moon.zeros(2, 2), 3)
  end)
end)
