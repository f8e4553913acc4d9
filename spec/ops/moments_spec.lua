-- var, std and norm: values against loops in Lua, gradients, special places.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local gradcheck = require "spec.support.gradcheck"
local naive = require "spec.support.naive"

local function elements(x)
  local list = {}
  for position in naive.positions(x:size()) do list[#list + 1] = naive.at(x, position) end
  return list
end

local function variance(list, below)
  local mean, total = 0, 0
  for _, v in ipairs(list) do mean = mean + v / #list end
  for _, v in ipairs(list) do total = total + (v - mean) ^ 2 end
  return total / below
end

local function p_norm(list, p)
  local total, largest, smallest = 0, 0, math.huge
  for _, v in ipairs(list) do
    largest, smallest = math.max(largest, math.abs(v)), math.min(smallest, math.abs(v))
    if p ~= 0 then total = total + math.abs(v) ^ p elseif v ~= 0 then total = total + 1 end
  end
  if p == math.huge then return largest end
  if p == -math.huge then return smallest end
  return p == 0 and total or total ^ (1 / p)
end

-- f of each row of a matrix.
local function rows(x, f)
  return naive.build({ x:size(1) }, function(position)
    return f(elements(x:select(1, position[1])))
  end)
end

describe("var and std", function()
  local x = naive.random { 4, 6 }

  it("measure the distance from the mean", function()
    naive.close(x:var(), variance(elements(x), 23))
    naive.close(x:std(), math.sqrt(variance(elements(x), 23)))
    naive.close(x:var(2), rows(x, function(list) return variance(list, 5) end))
    naive.close(x:std(1), rows(x:t(), function(list) return math.sqrt(variance(list, 3)) end))
    naive.close(x:var({ 1, 2 }), variance(elements(x), 23))
  end)

  it("divide by n when not unbiased", function()
    naive.close(x:var({ unbiased = false }), variance(elements(x), 24))
    naive.close(x:std(2, false), rows(x, function(list) return math.sqrt(variance(list, 6)) end))
    assert.same({ 4, 1 }, x:var({ dim = 2, keepdim = true }):size())
  end)

  it("keep their digits beside a large mean", function()
    naive.close((x + 1e8):var(), x:var(), 1e-6)
  end)

  it("are NaN where they divide by nothing, and 0 for one element's biased form", function()
    naive.close(moon.tensor({ 3 }):var(), 0 / 0)
    naive.close(moon.tensor({ 3 }):var(1, false), 0)
    naive.close(moon.zeros(0, 2):std(1), { 0 / 0, 0 / 0 })
  end)

  it("have the right slope", function()
    gradcheck.check(function(v) return v:var() end, { x })
    gradcheck.check(function(v) return v:var(2, false) end, { x:t() })
    gradcheck.check(function(v) return v:std(1, true, true) end, { x })
    gradcheck.check(function(v) return v:std({ 1, 2 }) end, { x })
  end)

  it("have slope 0 where std is 0", function()
    local same = moon.ones(3, { requires_grad = true })
    same:std():backward()
    naive.close(same.grad, { 0, 0, 0 })
  end)

  it("calculate half types in float32", function()
    local halves = moon.tensor({ 300, 500 }, { dtype = "float16", requires_grad = true })
    local var = halves:var()
    naive.close(var, 20000, 0, "float16")
    var:backward()
    naive.close(halves.grad, { -200, 200 }, 0, "float16")
  end)

  it("want floats and existing dimensions", function()
    naive.fails('var: input must be of a float type, got int64; cast it with :to "float32"',
      moon.var, moon.arange(3))
    naive.fails("std: dimension 3 does not exist in a tensor of 2 dimensions", moon.std, x, 3)
  end)

  it("survive every failing allocation, forward and backward", function()
    faults.every_allocation(function() x:detach():requires_grad_(true):std(2):sum():backward() end)
  end)
end)

describe("norm", function()
  local x = naive.random { 4, 6 }
  local orders = { 2, 1, math.huge, -math.huge, 3, 0.5, -2, 0 }

  it("is the p-th root of the sum of powers", function()
    for _, p in ipairs(orders) do
      naive.close(x:norm(p), p_norm(elements(x), p))
      naive.close(x:norm(p, 2), rows(x, function(list) return p_norm(list, p) end))
      naive.close(x:norm(p, { -2 }), rows(x:t(), function(list) return p_norm(list, p) end))
    end
    naive.close(x:norm(), p_norm(elements(x), 2))
    assert.same({ 1, 6 }, x:norm({ dim = 1, keepdim = true }):size())
  end)

  it("counts what is not zero with p = 0", function()
    naive.close(moon.tensor({ { 0, 2 }, { 0, 0 } }):norm(0, 2), { 1, 0 }, 0, "float32")
  end)

  it("has the right slope for every p", function()
    for _, p in ipairs(orders) do
      if p ~= 0 then
        gradcheck.check(function(v) return v:norm(p) end, { x })
        gradcheck.check(function(v) return v:norm(p, 1, true) end, { x:t() })
      end
    end
  end)

  it("has slope 0 at zero", function()
    for _, p in ipairs { 2, 1, 3, math.huge } do
      local zero = moon.zeros(3, { requires_grad = true })
      zero:norm(p):backward()
      naive.close(zero.grad, { 0, 0, 0 })
    end
  end)

  it("shares the slope of the largest among equals", function()
    local ties = moon.tensor({ 3, -3, 1 }):requires_grad_(true)
    ties:norm(math.huge):backward()
    naive.close(ties.grad, { 0.5, -0.5, 0 })
  end)

  it("of nothing is 0, but has no largest", function()
    naive.close(moon.zeros(0):norm(), 0)
    naive.close(moon.zeros(0):norm(1), 0)
    naive.fails("norm: dimension 1 of input 0 is empty", moon.norm, moon.zeros(0), math.huge)
  end)

  it("calculates half types in float32", function()
    naive.close(moon.full({ 4 }, 300, { dtype = "float16" }):norm(), 600, 0, "float16")
  end)

  it("wants floats and a number for p", function()
    naive.fails("norm: input must be of a float type, got int64", moon.norm, moon.arange(3))
    naive.fails("norm: p must be a number, got NaN", moon.norm, x, 0 / 0)
  end)

  it("survives every failing allocation, forward and backward", function()
    for _, p in ipairs { 2, 3, math.huge } do
      faults.every_allocation(function()
        x:detach():requires_grad_(true):norm(p, 2):sum():backward()
      end)
    end
  end)
end)
