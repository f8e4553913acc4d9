-- cat, stack, split, chunk, flip: values against loops in Lua, gradients, sentences.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local gradcheck = require "spec.support.gradcheck"
local naive = require "spec.support.naive"

local unpack = table.unpack or unpack

-- A list of tensors joined along dim, by a loop.
local function joined(list, dim)
  local shape, owner = list[1]:size(), {}
  shape[dim] = 0
  for _, tensor in ipairs(list) do
    for i = 1, tensor:size(dim) do owner[#owner + 1] = { tensor, i } end
    shape[dim] = shape[dim] + tensor:size(dim)
  end
  return naive.build(shape, function(position)
    local at = {}
    for i = 1, #position do at[i] = position[i] end
    local tensor
    tensor, at[dim] = owner[position[dim]][1], owner[position[dim]][2]
    return tensor[at]
  end)
end

-- Three tensors of 3x4x2 but for dim, one of them transposed and one narrowed.
local function members(dim)
  local first, second, third = { 3, 4, 2 }, { 2, 4, 3 }, { 3, 4, 2 }
  first[dim] = 1
  second[4 - dim] = 5
  third[dim] = third[dim] + 3
  return { naive.random(first), naive.random(second, { seed = 2 }):transpose(1, 3),
    naive.random(third, { seed = 3 }):narrow(dim, 2, 2) }
end

describe("cat", function()
  it("joins along every dimension", function()
    for dim = 1, 3 do
      local list = members(dim)
      naive.close(moon.cat(list, dim), joined(list, dim), 0, "float64")
      naive.close(moon.cat(list, dim - 4), joined(list, dim), 0)
    end
    naive.close(moon.cat { moon.tensor { 1 }, moon.tensor { 2, 3 } }, { 1, 2, 3 })
  end)

  it("joins every type, and nothing at all", function()
    for _, dtype in ipairs { "float16", "int64", "uint8", "bool" } do
      local x = moon.ones(2, { dtype = dtype })
      naive.close(moon.cat { x, x }, { 1, 1, 1, 1 }, 0, dtype)
    end
    naive.close(moon.cat { moon.zeros(0, 2), moon.ones(1, 2), moon.zeros(0, 2) }, { { 1, 1 } })
    assert.same({ 0, 2 }, moon.cat({ moon.zeros(0, 2) }):size())
  end)

  it("has the right slope", function()
    for dim = 1, 3 do
      gradcheck.check(function(a, b, c) return moon.cat({ a, b, c }, dim) end, members(dim))
    end
    local x = naive.random { 2, 2 }
    gradcheck.check(function(a) return moon.cat({ a, a * a, a }, 2) end, { x })
  end)

  it("gives members that need no gradient none", function()
    local a, b = moon.ones(2, { requires_grad = true }), moon.ones(2)
    moon.cat({ b, a }):sum():backward()
    naive.close(a.grad, { 1, 1 })
    assert.is_nil(b.grad)
  end)

  it("says which member does not fit", function()
    naive.fails("cat: the list of tensors is empty", moon.cat, {})
    naive.fails("cat: tensor 2 is 2x4 but tensor 1 is 2x3: all sizes must agree, except along dim",
      moon.cat, { moon.zeros(2, 3), moon.zeros(2, 4) }, 1)
    naive.fails("cat: tensor 3 is 2 but tensor 1 is 1x2", moon.cat,
      { moon.zeros(1, 2), moon.zeros(1, 2), moon.zeros(2) })
    naive.fails("cat: tensor 1 is float32 but tensor 2 is int64; cast one with :to", moon.cat,
      { moon.zeros(2), moon.arange(2) })
    naive.fails("cat: 0-d tensors have no dimension to join along; use stack", moon.cat,
      { moon.tensor(1), moon.tensor(2) })
    naive.fails("cat: dimension 3 does not exist in a tensor of 2 dimensions", moon.cat,
      { moon.zeros(1, 2) }, 3)
    naive.fails("cat: member 2 of tensors must be a tensor, got number", moon.cat,
      { moon.zeros(2), 3 })
  end)

  it("survives every failing allocation, forward and backward", function()
    local list = members(2)
    faults.every_allocation(function()
      local leaves = {}
      for i, tensor in ipairs(list) do leaves[i] = tensor:detach():requires_grad_(true) end
      moon.cat(leaves, 2):sum():backward()
    end)
  end)
end)

describe("stack", function()
  local a, b = naive.random { 2, 3 }, naive.random({ 3, 2 }, { seed = 2 }):t()

  it("joins along a new dimension", function()
    for dim = 1, 3 do
      local parts = { a:unsqueeze(dim), b:unsqueeze(dim) }
      naive.close(moon.stack({ a, b }, dim), joined(parts, dim), 0)
      naive.close(moon.stack({ a, b }, dim - 4), joined(parts, dim), 0)
    end
    naive.close(moon.stack { moon.tensor(1), moon.tensor(2) }, { 1, 2 })
  end)

  it("has the right slope", function()
    for dim = 1, 3 do
      gradcheck.check(function(v, w) return moon.stack({ v, w, v }, dim) end, { a, b })
    end
  end)

  it("says which member does not fit", function()
    naive.fails("stack: tensor 2 is 3 but tensor 1 is 2: all sizes must agree", moon.stack,
      { moon.zeros(2), moon.zeros(3) })
    naive.fails("stack: the list of tensors is empty", moon.stack, {})
    naive.fails("stack: dimension 4 does not exist in a tensor of 3 dimensions", moon.stack, { a },
      4)
  end)

  it("survives every failing allocation", function()
    faults.every_allocation(function() moon.stack { a, b } end)
  end)
end)

describe("split and chunk", function()
  local x = naive.random { 7, 3 }

  local function sizes(list, dim)
    local result = {}
    for i, part in ipairs(list) do result[i] = part:size(dim) end
    return result
  end

  it("cut into views that join again", function()
    assert.same({ 3, 3, 1 }, sizes(x:split(3), 1))
    assert.same({ 7 }, sizes(x:split(10), 1))
    assert.same({ 1, 1, 1 }, sizes(x:split(1, 2), 2))
    assert.same({ 3, 3, 1 }, sizes(x:chunk(3), 1))
    assert.same({ 2, 2, 2, 1 }, sizes(x:chunk(4), 1))
    assert.same({ 1, 1, 1 }, sizes(x:chunk(5, -1), 2))
    naive.close(moon.cat(x:split(3)), x, 0)
    naive.close(moon.cat(x:t():chunk(2, 2), 2), x:t(), 0)
    assert.is_true(x:split(3)[2]:shares_memory(x))
  end)

  it("cut nothing into one empty part", function()
    assert.same({ 0 }, sizes(moon.zeros(0, 2):split(3), 1))
    assert.same({ 0 }, sizes(moon.zeros(0, 2):chunk(3), 1))
  end)

  it("have the right slope", function()
    gradcheck.check(function(v) return unpack(v:split(3)) end, { x })
    gradcheck.check(function(v) return v:chunk(2, 2)[2] end, { x })
  end)

  it("refuse bad numbers", function()
    naive.fails("split: size must be at least 1, got 0", moon.split, x, 0)
    naive.fails("chunk: n must be at least 1, got -1", moon.chunk, x, -1)
    naive.fails("split: a 0-d tensor has no dimension to split", moon.split, moon.tensor(1), 1)
    naive.fails("chunk: dimension 3 does not exist in a tensor of 2 dimensions", moon.chunk, x, 2,
      3)
  end)

  it("survive every failing allocation, forward and backward", function()
    faults.every_allocation(function()
      x:detach():requires_grad_(true):split(3)[2]:sum():backward()
      x:chunk(2)
    end)
  end)
end)

describe("flip", function()
  local x = naive.random { 3, 4 }

  it("turns the order round", function()
    for _, input in ipairs { x, naive.random({ 4, 3 }):t() } do
      naive.close(input:flip(1), naive.build({ 3, 4 }, function(p)
        return input[{ 4 - p[1], p[2] }]
      end), 0)
      naive.close(input:flip(), naive.build({ 3, 4 }, function(p)
        return input[{ 4 - p[1], 5 - p[2] }]
      end), 0)
      naive.close(input:flip({ -1, 1 }), input:flip(), 0)
    end
    assert.same({ 0, 2 }, moon.zeros(0, 2):flip():size())
    naive.close(moon.tensor(3):flip(), 3)
  end)

  it("has the right slope", function()
    gradcheck.check(function(v) return v:flip(2) end, { x })
    gradcheck.check(function(v) return v:flip() end, { x:t() })
  end)

  it("names a dimension that is not there", function()
    naive.fails("flip: dimension 3 does not exist in a tensor of 2 dimensions", moon.flip, x, 3)
  end)
end)
