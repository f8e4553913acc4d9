-- Padding: types, sentences, and that no failing allocation leaks. Values and gradients are in
-- spec/cases/padding.lua.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local naive = require "spec.support.naive"

describe("pad", function()
  it("takes every element type", function()
    for _, dtype in ipairs { "int64", "int32", "uint8", "bool" } do
      local x = moon.tensor { 1, 0, 1 }:to(dtype)
      local zero, one = 0, 1
      if dtype == "bool" then zero, one = false, true end
      assert.same({ zero, one, zero, one }, moon.pad(x, { 1, 0 }):totable())
      assert.same({ one, one, zero, one }, moon.pad(x, { 1, 0 }, "replicate"):totable())
      assert.equal(dtype, moon.pad(x, { 1, 0 }, "circular").dtype)
    end
  end)

  it("gives a copy also where nothing is added", function()
    local x = moon.zeros(3)
    for _, mode in ipairs { "constant", "reflect", "replicate", "circular" } do
      moon.pad(x, { 0, 0 }, mode):fill_(1)
      assert.equal(0, x:sum():item())
    end
  end)

  it("leaves an empty batch empty", function()
    assert.same({ 0, 2, 6 }, moon.pad(moon.zeros(0, 2, 4), { 1, 1 }, "reflect"):size())
  end)

  it("survives the failure of any allocation", function()
    local x = moon.randn(2, 3, 4):requires_grad_()
    for _, mode in ipairs { "constant", "reflect", "replicate", "circular" } do
      faults.every_allocation(function()
        moon.pad(x, { 1, 2, -1, 1 }, mode):sum():backward()
        x.grad = nil
      end)
    end
  end)

  it("says what is wrong", function()
    local x = moon.zeros(2, 3)
    local function fails(text, ...) naive.fails("pad: " .. text, moon.pad, ...) end
    fails("pad must have two numbers for each dimension, before and after, the last dimension " ..
      "first; got 3", x, { 1, 2, 3 })
    fails("pad has numbers for 3 dimensions but input has 2 (2x3)", x, { 1, 1, 1, 1, 1, 1 })
    fails("pad -2, -2 leaves less than nothing of dimension 2 (input 2x3)", x, { -2, -2 })
    fails("pad must lie in -2147483647..2147483647, got 4294967296", x, { 2 ^ 32, 0 })
    fails('dimension 2 of size 3 can be padded by at most 2 in mode "reflect", got 3 (input 2x3)',
      x, { 0, 3 }, "reflect")
    fails('dimension 1 of size 2 can be padded by at most 2 in mode "circular", got 3', x,
      { 0, 0, 3, 0 }, "circular")
    fails('dimension 2 of size 0 can be padded by at most 0 in mode "replicate", got 1',
      moon.zeros(2, 0), { 1, 0 }, "replicate")
    fails('mode must be one of "constant", "reflect", "replicate", "circular", got "mirror"', x,
      { 1, 1 }, "mirror")
    fails("a tensor of 1x2147483649x2147483649x2147483649 has more elements than memory can hold",
      moon.zeros(1, 1, 1, 1), { 2 ^ 30, 2 ^ 30, 2 ^ 30, 2 ^ 30, 2 ^ 30, 2 ^ 30 })
  end)
end)
