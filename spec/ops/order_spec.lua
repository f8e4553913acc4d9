-- sort, argsort, topk: order, stability, NaN, gradients, sentences.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local gradcheck = require "spec.support.gradcheck"
local naive = require "spec.support.naive"

-- The line of x along dim through a position.
local function line(x, dim, position)
  local at, list = {}, {}
  for i = 1, #position do at[i] = position[i] end
  for i = 1, x:size(dim) do
    at[dim] = i
    list[i] = x[at]
  end
  return list
end

-- Places of a list in order; equal elements keep their order.
local function order_of(list, descending)
  local places = {}
  for i = 1, #list do places[i] = i end
  table.sort(places, function(a, b)
    if list[a] == list[b] then return a < b end
    if descending then return list[a] > list[b] end
    return list[a] < list[b]
  end)
  return places
end

local function sorted(x, dim, descending, length)
  local shape = x:size()
  shape[dim] = length or shape[dim]
  local values = naive.build(shape, function(position)
    local list = line(x, dim, position)
    return list[order_of(list, descending)[position[dim]]]
  end)
  local places = naive.build(shape, function(position)
    return order_of(line(x, dim, position), descending)[position[dim]]
  end)
  return values, places
end

local inputs = {
  plain = naive.random({ 3, 5, 4 }, { low = 0, high = 5, whole = true }),
  turned = naive.random({ 4, 5, 3 }, { low = 0, high = 5, whole = true }):transpose(1, 3),
  part = naive.random({ 3, 9, 4 }, { low = 0, high = 5, whole = true }):narrow(2, 3, 5),
}

describe("sort", function()
  it("orders every line, equal elements as they came", function()
    for _, x in pairs(inputs) do
      for dim = 1, 3 do
        for _, descending in ipairs { false, true } do
          local values, indices = x:sort(dim, descending)
          local expected, places = sorted(x, dim, descending)
          naive.close(values, expected, 0, "float64")
          naive.close(indices, places, 0, "int64")
          naive.close(x:argsort(dim, descending), places, 0, "int64")
        end
      end
    end
  end)

  it("takes the last dimension by itself, and options by name", function()
    local values = moon.tensor({ { 3, 1, 2 } }):sort()
    naive.close(values, { { 1, 2, 3 } })
    naive.close((moon.tensor({ { 3, 1, 2 } }):sort { descending = true }), { { 3, 2, 1 } })
  end)

  it("orders long lines", function()
    local x = naive.random({ 2000 }, { low = -100, high = 100 })
    local values, indices = x:sort(1)
    naive.close(values:narrow(1, 2, 1999):ge(values:narrow(1, 1, 1999)):all(), 1)
    naive.close(x:index_select(1, indices), values, 0)
  end)

  it("puts NaN last, as the largest", function()
    local x = moon.tensor { 2, 0 / 0, -1 / 0, 1 / 0, 0 }
    naive.close((x:sort(1)), { -1 / 0, 0, 2, 1 / 0, 0 / 0 })
    naive.close((x:sort(1, true)), { 0 / 0, 1 / 0, 2, 0, -1 / 0 })
  end)

  it("sorts every type", function()
    local types = { "float32", "float16", "bfloat16", "int64", "int32", "uint8", "bool" }
    for _, dtype in ipairs(types) do
      local values, indices = moon.tensor({ 1, 0, 1 }):to(dtype):sort(1)
      naive.close(values, { 0, 1, 1 }, 0, dtype)
      naive.close(indices, { 2, 1, 3 }, 0, "int64")
    end
  end)

  it("has the right slope", function()
    local x = naive.random { 3, 4, 2 }
    for dim = 1, 3 do
      gradcheck.check(function(v) return v:sort(dim) end, { x })
      gradcheck.check(function(v) return v:sort(dim, true) end, { x:transpose(1, 3) })
    end
  end)

  it("leaves nothing and one element as they are", function()
    local values, indices = moon.zeros(3, 0):sort(2)
    assert.same({ 3, 0 }, values:size())
    assert.same({ 3, 0 }, indices:size())
    values, indices = moon.tensor(4):sort()
    naive.close(values, 4)
    naive.close(indices, 1)
    gradcheck.check(function(v) return v:sort() end, { moon.tensor(4, { dtype = "float64" }) })
  end)

  it("names a dimension that is not there", function()
    naive.fails("sort: dimension 3 does not exist in a tensor of 2 dimensions", moon.sort,
      moon.zeros(2, 2), 3)
    naive.fails("argsort: dimension 3 does not exist", moon.argsort, moon.zeros(2, 2), 3)
  end)

  it("survives every failing allocation, forward and backward", function()
    local x = naive.random { 2, 3 }
    faults.every_allocation(function()
      local values = x:detach():requires_grad_(true):sort(2)
      values:sum():backward()
      x:argsort(1)
    end)
  end)
end)

describe("topk", function()
  it("gives the first k of the order", function()
    for _, x in pairs(inputs) do
      for dim = 1, 3 do
        for k = 0, 3 do
          for _, largest in ipairs { false, true } do
            local values, indices = x:topk(k, dim, largest)
            local expected, places = sorted(x, dim, largest, k)
            naive.close(values, expected, 0, "float64")
            naive.close(indices, places, 0, "int64")
          end
        end
      end
    end
  end)

  it("takes the largest of the last dimension by itself", function()
    local values, indices = moon.tensor({ { 3, 1, 2 }, { 4, 6, 5 } }):topk(2)
    naive.close(values, { { 3, 2 }, { 6, 5 } })
    naive.close(indices, { { 1, 3 }, { 2, 3 } })
  end)

  it("has the right slope", function()
    local x = naive.random { 4, 5 }
    gradcheck.check(function(v) return v:topk(2) end, { x })
    gradcheck.check(function(v) return v:topk(3, 1, false) end, { x:t() })
  end)

  it("wants a k that is there", function()
    local text = "topk: k must lie in 0..3, the size of dimension 2, got "
    naive.fails(text .. "4", moon.topk, moon.zeros(2, 3), 4)
    naive.fails(text .. "-1", moon.topk, moon.zeros(2, 3), -1)
    naive.fails("topk: k must lie in 1..1", moon.topk, moon.tensor(1), 0)
  end)

  it("of nothing is nothing", function()
    assert.same({ 0, 2 }, (moon.zeros(0, 5):topk(2)):size())
    assert.same({ 0 }, (moon.zeros(0):topk(0)):size())
  end)

  it("survives every failing allocation, forward and backward", function()
    local x = naive.random { 2, 3 }
    faults.every_allocation(function()
      local values = x:detach():requires_grad_(true):topk(2)
      values:sum():backward()
    end)
  end)
end)
