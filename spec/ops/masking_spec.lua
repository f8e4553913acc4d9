-- Masks, where, and assigning into blocks: values against loops in Lua, gradients, sentences.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local gradcheck = require "spec.support.gradcheck"
local naive = require "spec.support.naive"

-- A mask from a draw, about half of it true.
local function random_mask(shape, seed)
  return naive.random(shape, { seed = seed or 7 }):gt(0)
end

local function is_true(mask, position)
  local value = naive.at(mask, position)
  return value == true or value == 1
end

-- Two inputs of shape 3x4 in different layouts.
local inputs = { naive.random { 3, 4 }, naive.random({ 4, 3 }, { seed = 2 }):t() }

describe("masked_select", function()
  it("gives the elements in row-major order", function()
    local masks = { random_mask { 3, 4 }, random_mask({ 4, 3 }):t() }
    for _, x in ipairs(inputs) do
      for _, mask in ipairs(masks) do
        local list = {}
        for position in naive.positions { 3, 4 } do
          if is_true(mask, position) then list[#list + 1] = x[position] end
        end
        naive.close(x:masked_select(mask), list, 0)
      end
    end
  end)

  it("broadcasts both ways", function()
    local x = moon.tensor { { 1, 2, 3 }, { 4, 5, 6 } }
    naive.close(x:masked_select(moon.tensor({ 1, 0, 1 }, { dtype = "bool" })), { 1, 3, 4, 6 })
    local tall = moon.tensor({ { 1 }, { 0 }, { 1 } }, { dtype = "bool" })
    naive.close(moon.tensor({ 7, 8 }):masked_select(tall), { 7, 8, 7, 8 })
  end)

  it("has the right slope, broadcast too", function()
    for _, x in ipairs(inputs) do
      gradcheck.check(function(v) return v:masked_select(random_mask { 3, 4 }) end, { x })
      gradcheck.check(function(v) return v:masked_select(random_mask { 2, 3, 4 }) end, { x })
    end
  end)

  it("finds nothing where nothing is true or there", function()
    assert.same({ 0 }, moon.ones(3):masked_select(moon.zeros(3):gt(1)):size())
    assert.same({ 0 }, moon.ones(0, 2):masked_select(moon.zeros(0, 2):gt(1)):size())
    local x = moon.ones(3, { requires_grad = true })
    x:masked_select(moon.zeros(3):gt(1)):sum():backward()
    naive.close(x.grad, { 0, 0, 0 })
  end)

  it("wants a bool mask that fits", function()
    naive.fails('masked_select: mask must be bool, got uint8; cast it with :to "bool"',
      moon.masked_select, moon.ones(2), moon.ones(2, { dtype = "uint8" }))
    naive.fails("masked_select: shapes 2 and 3 do not broadcast", moon.masked_select, moon.ones(2),
      moon.ones(3, { dtype = "bool" }))
  end)
end)

describe("masked_fill", function()
  it("puts a value where the mask is true, in place and not", function()
    local mask = random_mask { 3, 4 }
    for _, x in ipairs(inputs) do
      local expected = naive.build({ 3, 4 }, function(position)
        return is_true(mask, position) and 9 or x[position]
      end)
      naive.close(x:masked_fill(mask, 9), expected, 0)
      naive.close(x:masked_fill(mask, moon.tensor(9, { dtype = "float64" })), expected, 0)
      local changed = x:clone():t():contiguous():t()
      changed:masked_fill_(mask, 9)
      naive.close(changed, expected, 0)
    end
  end)

  it("broadcasts", function()
    local row = moon.tensor({ 1, 0, 0 }, { dtype = "bool" })
    naive.close(moon.zeros(2, 3):masked_fill(row, 1), { { 1, 0, 0 }, { 1, 0, 0 } })
    local column = moon.tensor({ { 0 }, { 1 } }, { dtype = "bool" })
    naive.close(moon.tensor({ 1, 2 }):masked_fill(column, 5), { { 1, 2 }, { 5, 5 } })
    local x = moon.zeros(2, 3)
    x:masked_fill_(column, moon.tensor { 1, 2, 3 })
    naive.close(x, { { 0, 0, 0 }, { 1, 2, 3 } })
  end)

  it("works on integers", function()
    local x = moon.arange(3)
    x:masked_fill_(x:eq(2), -1)
    naive.close(x, { 1, -1, 3 }, 0, "int64")
  end)

  it("has the right slope", function()
    local value = moon.tensor(0.5, { dtype = "float64" })
    for _, x in ipairs(inputs) do
      local mask = random_mask { 3, 4 }
      gradcheck.check(function(v, w) return v:masked_fill(mask, w) end, { x, value })
      gradcheck.check(function(v, w)
        local y = v * v
        y:masked_fill_(mask, w)
        return y * y
      end, { x, value })
      gradcheck.check(function(v, w) return v:masked_fill(random_mask { 2, 3, 4 }, w) end,
        { x, naive.random { 4 } })
    end
  end)

  it("says what does not fit", function()
    local mask = moon.ones(2, 3, { dtype = "bool" })
    naive.fails("mask 2x3 does not fit input 3", moon.masked_fill_, moon.ones(3), mask, 1)
    naive.fails("masked_fill: value 2 does not fit the result 2x3", moon.masked_fill, moon.ones(3),
      mask, moon.ones(2))
    naive.fails("masked_fill: input is float32 but value is int64", moon.masked_fill, moon.ones(3),
      mask, moon.tensor(1, { dtype = "int64" }))
    naive.fails("masked_fill: mask must be bool", moon.masked_fill, moon.ones(3), moon.ones(3), 1)
  end)

  it("leaves an empty tensor empty", function()
    local none = moon.zeros(0, 2)
    assert.same({ 0, 2 }, none:masked_fill(none:gt(0), 1):size())
    none:masked_fill_(none:gt(0), 1)
  end)
end)

describe("masked_scatter", function()
  it("puts a source's elements where the mask is true, in order", function()
    local mask = random_mask { 3, 4 }
    local source = naive.random({ 4, 3 }, { seed = 5 })
    for _, from in ipairs { source, naive.random({ 3, 4 }, { seed = 6 }):t() } do
      local flat, used = {}, 0
      for position in naive.positions(from:size()) do flat[#flat + 1] = from[position] end
      for _, x in ipairs(inputs) do
        used = 0
        local expected = naive.build({ 3, 4 }, function(position)
          if not is_true(mask, position) then return x[position] end
          used = used + 1
          return flat[used]
        end)
        naive.close(x:masked_scatter(mask, from), expected, 0)
        local changed = x:clone():t():contiguous():t()
        changed:masked_scatter_(mask, from)
        naive.close(changed, expected, 0)
      end
    end
  end)

  it("has the right slope", function()
    local source = naive.random({ 15 }, { seed = 5 })
    for _, mask in ipairs { random_mask { 3, 4 }, random_mask { 4 } } do
      for _, x in ipairs(inputs) do
        gradcheck.check(function(v, s) return v:masked_scatter(mask, s) end, { x, source })
      end
    end
  end)

  it("wants enough elements and a mask that fits", function()
    local mask = moon.ones(3, { dtype = "bool" })
    naive.fails("masked_scatter: source has 2 elements but the mask is true at 3",
      moon.masked_scatter, moon.zeros(3), mask, moon.zeros(2))
    naive.fails("masked_scatter: mask 3 does not fit input 2", moon.masked_scatter, moon.zeros(2),
      mask, moon.zeros(3))
    naive.fails("masked_scatter: input is float32 but source is int64", moon.masked_scatter,
      moon.zeros(3), mask, moon.arange(3))
  end)

  it("does nothing where nothing is true", function()
    naive.close(moon.ones(2):masked_scatter(moon.zeros(2):gt(0), moon.zeros(0)), { 1, 1 })
  end)
end)

describe("where", function()
  it("chooses element by element and broadcasts", function()
    local condition = random_mask { 3, 4 }
    for _, x in ipairs(inputs) do
      for _, y in ipairs { inputs[1], naive.random { 4 }, naive.random { 3, 1 } } do
        local wide = y:expand(3, 4)
        naive.close(moon.where(condition, x, y), naive.build({ 3, 4 }, function(position)
          return is_true(condition, position) and x[position] or wide[position]
        end), 0)
      end
    end
  end)

  it("takes numbers", function()
    local mask = moon.tensor({ 1, 0 }, { dtype = "bool" })
    naive.close(moon.where(mask, moon.tensor { 5, 6 }, 0), { 5, 0 }, 0, "float32")
    naive.close(moon.where(mask, -1, moon.arange(2)), { -1, 2 }, 0, "int64")
    naive.close(moon.where(mask, 1.5, 0), { 1.5, 0 }, 0, "float32")
  end)

  it("has the right slope", function()
    local mask = random_mask { 3, 4 }
    for _, x in ipairs(inputs) do
      gradcheck.check(function(a, b) return moon.where(mask, a, b) end, { x, naive.random { 4 } })
      gradcheck.check(function(a, b) return moon.where(random_mask { 2, 1, 4 }, a, b) end,
        { x, moon.tensor(1, { dtype = "float64" }) })
    end
  end)

  it("of nothing is nothing", function()
    assert.same({ 0, 2 }, moon.where(moon.zeros(0, 2):gt(0), 1, 0):size())
  end)

  it("says what does not fit", function()
    local x = moon.ones(2)
    naive.fails("where: condition must be bool, got float32", moon.where, x, x, x)
    naive.fails("where: x is float32 but y is int64; cast one, as in y:to \"float32\"", moon.where,
      x:gt(0), x, moon.arange(2))
    naive.fails("where: shapes 2 and 3 do not broadcast", moon.where, x:gt(0), x, moon.ones(3))
  end)
end)

describe("assigning into a block", function()
  it("writes what the indices name", function()
    local x = naive.random { 3, 4 }
    for _, input in ipairs { x, naive.random({ 4, 3 }):t() } do
      local y = input:clone():t():contiguous():t()
      y[{ { 2, 3 }, { 1, 2 } }] = moon.tensor({ { 1, 2 }, { 3, 4 } }, { dtype = "float64" })
      y[{ {}, 4 }] = moon.tensor({ 7, 8, 9 }, { dtype = "float64" })
      y[{ 1, 1 }] = -1
      naive.close(y, { { -1, input[{ 1, 2 }], input[{ 1, 3 }], 7 }, { 1, 2, input[{ 2, 3 }], 8 },
        { 3, 4, input[{ 3, 3 }], 9 } }, 0)
      y[2] = 5
      naive.close(y[2], { 5, 5, 5, 5 })
    end
  end)

  it("broadcasts the value, and reads one that shares its memory", function()
    local x = moon.arange(6):view(2, 3)
    x[{ {}, { 2, 3 } }] = x[{ {}, { 1, 2 } }]
    naive.close(x, { { 1, 1, 2 }, { 4, 4, 5 } })
    x[{}] = moon.tensor({ { 8 }, { 9 } }, { dtype = "int64" })
    naive.close(x, { { 8, 8, 8 }, { 9, 9, 9 } })
  end)

  it("has the right slope", function()
    local x, value = naive.random { 3, 4 }, naive.random({ 2 }, { seed = 2 })
    gradcheck.check(function(v, w)
      local y = v * v
      y[{ 2, { 2, 3 } }] = w * 3
      y[{ {}, 4 }] = 0
      return y * y
    end, { x, value })
    gradcheck.check(function(v, w)
      local y = v:t() * 1
      y[{ { 1, 2 } }] = w:unsqueeze(2)
      return y * y
    end, { x, value })
  end)

  it("takes an empty block", function()
    local x = moon.ones(2, 3)
    x[{ { 2, 1 } }] = 5
    naive.close(x, moon.ones(2, 3))
  end)

  it("says what does not fit", function()
    local x = moon.zeros(2, 3)
    naive.fails("the value 2 does not fit the part 3", function() x[1] = moon.zeros(2) end)
    naive.fails("index 3 lies outside dimension 1 of size 2", function() x[3] = 1 end)
  end)

  it("survives every failing allocation, with all that masks do", function()
    local x, mask = naive.random { 2, 3 }, random_mask { 2, 3 }
    local w = naive.random({ 6 }, { seed = 2 })
    faults.every_allocation(function()
      local a, b = x:detach():requires_grad_(true), w:detach():requires_grad_(true)
      local y = a:masked_fill(mask, 1):masked_scatter(mask, b)
      y[{ 1, { 1, 2 } }] = b:narrow(1, 1, 2)
      moon.where(mask, y, 0):masked_select(mask):sum():backward()
    end)
  end)
end)
