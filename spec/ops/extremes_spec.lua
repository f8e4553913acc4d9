-- max, min, argmax, argmin: values, positions, ties, NaN, gradients, sentences.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local gradcheck = require "spec.support.gradcheck"
local naive = require "spec.support.naive"

-- The best of a list and its place; `better(a, b)` is strict, so the first of equals stays.
local function best(list, better)
  local at = 1
  for i = 2, #list do
    if better(list[i], list[at]) then at = i end
  end
  return list[at], at
end

local function more(a, b) return a > b end
local function less(a, b) return a < b end

-- Values and positions along dim, by a loop.
local function along(x, dim, keepdim, better)
  local shape, kept = x:size(), {}
  for i = 1, #shape do
    if i ~= dim then kept[#kept + 1] = shape[i] elseif keepdim then kept[#kept + 1] = 1 end
  end
  local function line(position)
    local at, next_kept, list = {}, 1, {}
    for i = 1, #shape do
      at[i] = i == dim and 1 or position[next_kept]
      if i ~= dim or keepdim then next_kept = next_kept + 1 end
    end
    for i = 1, shape[dim] do
      at[dim] = i
      list[i] = x[at]
    end
    return list
  end
  return naive.build(kept, function(p) return (best(line(p), better)) end),
    naive.build(kept, function(p) return select(2, best(line(p), better)) end)
end

for _, case in ipairs { { "max", "argmax", more }, { "min", "argmin", less } } do
  local name, where, better = case[1], case[2], case[3]

  describe(name, function()
    it("finds values and places along every dimension", function()
      local x = naive.random({ 3, 4, 5 }, { low = 0, high = 6, whole = true })
      for _, input in ipairs { x, x:transpose(1, 3), x:narrow(2, 2, 2) } do
        for dim = 1, 3 do
          for _, keepdim in ipairs { false, true } do
            local values, indices = moon[name](input, dim, keepdim)
            local expected, places = along(input, dim, keepdim, better)
            naive.close(values, expected, 0, "float64")
            naive.close(indices, places, 0, "int64")
            naive.close(moon[where](input, dim, keepdim), places, 0, "int64")
          end
        end
      end
    end)

    it("without a dimension gives one value and no places", function()
      local x = naive.random { 3, 4 }
      local value, nothing = moon[name](x)
      assert.is_nil(nothing)
      naive.close(value, moon["a" .. name](x))
      assert.same({ 1, 1 }, x[name](x, { keepdim = true }):size())
    end)

    it("works on every type", function()
      for _, dtype in ipairs { "float32", "float16", "bfloat16", "int64", "int32", "uint8" } do
        local values, indices = moon[name](moon.tensor({ 3, 1, 3, 1 }):to(dtype), 1)
        naive.close(values, name == "max" and 3 or 1, 0, dtype)
        naive.close(indices, name == "max" and 1 or 2, 0, "int64")
      end
    end)

    it("takes NaN for the one", function()
      local values, indices = moon[name](moon.tensor { { 1, 0 / 0, 0 / 0 }, { 1, 2, 3 } }, 2)
      naive.close(values, { 0 / 0, name == "max" and 3 or 1 })
      naive.close(indices, { 2, name == "max" and 3 or 1 })
    end)

    it("of a 0-d tensor is its element, in place 1", function()
      local x = moon.tensor(7, { dtype = "float64" })
      local value, place = moon[name](x, 1)
      naive.close(value, 7)
      naive.close(place, 1)
      naive.close(moon[where](x), 1)
      gradcheck.check(function(v) return (moon[name](v, 1)) end, { x })
    end)

    it("has the right slope", function()
      local x = naive.random { 3, 4, 2 }
      for dim = 1, 3 do
        gradcheck.check(function(v) return moon[name](v, dim) end, { x })
        gradcheck.check(function(v) return moon[name](v, dim, true) end, { x:transpose(1, 2) })
      end
      gradcheck.check(function(v) return moon[name](v) end, { x })
    end)

    it("along a dimension sends the slope to the first of equals", function()
      local x = moon.tensor({ 4, 4, 4 }):requires_grad_(true)
      local value = moon[name](x, 1)
      value:backward()
      naive.close(x.grad, { 1, 0, 0 })
    end)

    it("finds nothing among nothing", function()
      naive.fails(name .. ": input is empty, so there is no element to choose", moon[name],
        moon.zeros(0))
      naive.fails(name .. ": dimension 2 of input 3x0 is empty", moon[name], moon.zeros(3, 0), 2)
      naive.fails(where .. ": input is empty", moon[where], moon.zeros(0, 3))
      naive.fails(where .. ": dimension 1 of input 0x3 is empty", moon[where], moon.zeros(0, 3), 1)
      local values, indices = moon[name](moon.zeros(3, 0), 1)
      assert.same({ 0 }, values:size())
      assert.same({ 0 }, indices:size())
    end)

    it("names a dimension that is not there", function()
      naive.fails(name .. ": dimension 4 does not exist in a tensor of 2 dimensions", moon[name],
        moon.zeros(2, 2), 4)
      naive.fails(where .. ": dimension -3 does not exist in a tensor of 2 dimensions", moon[where],
        moon.zeros(2, 2), -3)
    end)

    it("survives every failing allocation, forward and backward", function()
      local x = naive.random { 2, 3 }
      faults.every_allocation(function()
        local leaf = x:detach():requires_grad_(true)
        local values = moon[name](leaf, 2)
        values:sum():backward()
        moon[where](leaf)
      end)
    end)
  end)

  describe(where, function()
    it("of everything counts in row-major order, whatever the layout", function()
      local x = naive.random { 4, 5 }
      for _, input in ipairs { x, x:t(), x:narrow(2, 2, 3) } do
        local list = {}
        for position in naive.positions(input:size()) do list[#list + 1] = input[position] end
        naive.close(moon[where](input), (select(2, best(list, better))), 0, "int64")
      end
      assert.same({ 1, 1 }, moon[where](x, { keepdim = true }):size())
    end)
  end)
end
