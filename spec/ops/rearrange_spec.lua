-- Elements in other places, or several times: other types, sentences, failing allocations. Values
-- and gradients are in spec/cases/rearrange.lua.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local naive = require "spec.support.naive"

describe("roll", function()
  it("takes any shift, every type and nothing", function()
    naive.close(moon.arange(4):roll(-2 ^ 60), { 1, 2, 3, 4 }, 0, "int64")
    naive.close(moon.tensor { true, false, false }:roll(1), { 0, 1, 0 }, 0, "bool")
    naive.close(moon.tensor(3):roll(5), 3)
    assert.same({ 0 }, moon.zeros(0):roll(1):size())
  end)

  it("is a copy also where nothing moves", function()
    local x = moon.ones(2)
    x:roll(2):zero_()
    x:roll(2, { 1 }):zero_()
    x:fftshift({ 1 }):zero_()
    moon.ones(2, 2):rot90(0):zero_()
    naive.close(x, { 1, 1 })
  end)

  it("wants a shift for each dimension", function()
    naive.fails("roll: shifts must be one number where no dim is named, got 2", moon.roll,
      moon.zeros(2, 2), { 1, 2 })
    naive.fails("roll: shifts and dim must have as many numbers, got 1 and 2", moon.roll,
      moon.zeros(2, 2), { 1 }, { 1, 2 })
    naive.fails("roll: input is 0-d and has no dimension to roll", moon.roll, moon.tensor(1), 1,
      { 1 })
    naive.fails("roll: dimension 3 does not exist", moon.roll, moon.zeros(2, 2), 1, { 3 })
  end)
end)

describe("fftshift", function()
  it("and its inverse undo each other", function()
    local x = naive.random { 5, 4, 3 }
    naive.close(x:fftshift():ifftshift(), x, 0)
    naive.close(x:ifftshift({ 1, 3 }):fftshift({ 1, 3 }), x, 0)
  end)
end)

describe("rot90", function()
  it("is the identity after four quarters", function()
    local x = naive.random { 2, 3 }
    naive.close(x:rot90():rot90():rot90():rot90(), x, 0)
    naive.close(x:rot90(-3), x:rot90(1), 0)
  end)

  it("wants two dimensions", function()
    naive.fails("rot90: input must have at least 2 dimensions, got 1", moon.rot90, moon.zeros(3))
    naive.fails("rot90: dim must name two dimensions, got 3", moon.rot90, moon.zeros(2, 2, 2), 1,
      { 1, 2, 3 })
    naive.fails("rot90: dim must name two different dimensions, got 2 twice", moon.rot90,
      moon.zeros(2, 2, 2), 1, { 2, 2 })
  end)
end)

describe("tile", function()
  it("makes 8 dimensions at most, of at most as many elements as there can be", function()
    naive.fails("memory", moon.tile, moon.zeros(3), { 2 ^ 40, 2 ^ 40 })
    naive.fails("tile: repeats must not be negative, got -1", moon.tile, moon.zeros(3), { -1 })
    assert.same({ 1, 1, 1, 1, 1, 1, 1, 4 }, moon.zeros(1, 1, 1, 1, 1, 1, 1, 2):tile(2):size())
  end)

  it("is a copy", function()
    local x = moon.ones(2)
    x:tile(1):zero_()
    x:tile(1, 1):zero_()
    naive.close(x, { 1, 1 })
  end)
end)

describe("repeat_interleave", function()
  it("takes every type of number and of repeats", function()
    naive.close(moon.tensor({ 1, 2 }, { dtype = "uint8" }):repeat_interleave(2), { 1, 1, 2, 2 }, 0,
      "uint8")
    naive.close(moon.tensor { 1, 2 }:half():repeat_interleave(2), { 1, 1, 2, 2 }, 0, "float16")
    naive.close(moon.tensor(7):repeat_interleave(3), { 7, 7, 7 })
    local y = moon.ones(1)
    y:repeat_interleave(1):zero_()
    y:repeat_interleave(3):zero_()
    naive.close(y, { 1 })
    local one = moon.tensor({ 2 }, { dtype = "int32" })
    naive.close(moon.tensor { 1, 2 }:repeat_interleave(one), { 1, 1, 2, 2 })
  end)

  it("refuses repeats that make no sense", function()
    local x = moon.zeros(3)
    naive.fails("repeats must be a whole number, got 1.5", moon.repeat_interleave, x, 1.5)
    naive.fails("repeats must not be negative, got -1", moon.repeat_interleave, x, -1)
    naive.fails("repeats must be of an integer type, got float32", moon.repeat_interleave, x,
      moon.ones(3))
    naive.fails("repeats must be one number, or one for each of the 3 slices, got 2",
      moon.repeat_interleave, x, moon.arange(2))
    naive.fails("must be given as an int64 tensor", moon.repeat_interleave, x:half(), 4096)
    for _, many in ipairs { 2 ^ 40, 2 ^ 62 } do
      naive.fails("memory", moon.repeat_interleave, x, moon.full({ 1 }, many, { dtype = "int64" }))
      naive.fails("so many repeats are more than memory can hold", moon.repeat_interleave, x,
        moon.full({ 3 }, many, { dtype = "int64" }))
    end
  end)
end)

describe("meshgrid", function()
  it("wants vectors of one type", function()
    naive.fails("meshgrid: tensors must have at least one member", moon.meshgrid, {})
    naive.fails("meshgrid: member 2 of tensors must be a vector or a number, got 2 dimensions",
      moon.meshgrid, { moon.zeros(2), moon.zeros(2, 2) })
    naive.fails("cast one", moon.meshgrid, { moon.zeros(2), moon.arange(2) })
    local nine = {}
    for i = 1, 9 do nine[i] = moon.zeros(1) end
    naive.fails("meshgrid: tensors must have at most 8 members, got 9", moon.meshgrid, nine)
  end)

  it("takes numbers and nothing", function()
    local grid = moon.meshgrid { moon.tensor(3), moon.zeros(0) }
    assert.same({ 1, 0 }, grid[1]:size())
  end)
end)

describe("rearranging", function()
  it("survives every failing allocation, forward and backward", function()
    local x = naive.random { 2, 3 }
    for _, f in ipairs {
      function(v) return v:roll({ 1, 1 }, { 1, 2 }) end,
      function(v) return v:roll(1) end,
      function(v) return v:rot90() end,
      function(v) return v:tile(2, 2) end,
      function(v) return v:repeat_interleave(2, 1) end,
      function(v) return moon.meshgrid({ v[1], v[2] })[2] end,
    } do
      faults.every_allocation(function() f(x:detach():requires_grad_(true)):sum():backward() end)
    end
  end)
end)
