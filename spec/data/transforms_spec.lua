-- Transforms of pictures, one by one and in batches.
local moon = require "moonlet"
local t = moon.data.transforms

describe("transforms", function()
  it("work alike on one picture and on a batch", function()
    local batch = moon.rand(3, 1, 5, 5)
    for _, transform in ipairs { t.pad(1), t.normalize(0.5, 2), t.normalize({ 0.5 }, { 2 }) } do
      local whole = transform(batch)
      assert.equal(0, whole[2]:sub(transform(batch[2])):abs():max():item())
    end
  end)

  it("pad with a border of one value", function()
    local y = t.pad(2, 3)(moon.ones(1, 4, 4))
    assert.same({ 1, 8, 8 }, y:size())
    assert.equal(3, y[{ 1, 1, 1 }])
    assert.equal(1, y[{ 1, 3, 3 }])
    assert.equal(16 + 48 * 3, y:sum():item())
  end)

  it("crop each picture at a place of its own", function()
    moon.manual_seed(1)
    local x = moon.arange(1, 36):view(1, 1, 6, 6):expand(16, 1, 6, 6)
    local y = t.random_crop(4)(x)
    assert.same({ 16, 1, 4, 4 }, y:size())
    local corners = {}
    for i = 1, 16 do
      corners[y[{ i, 1, 1, 1 }]] = true
      assert.equal(7, y[{ i, 1, 2, 2 }] - y[{ i, 1, 1, 1 }])
    end
    assert.is_true(next(corners, next(corners)) ~= nil)
    assert.has_error(function() t.random_crop(9)(x) end)
  end)

  it("mirror some pictures and leave the others", function()
    moon.manual_seed(1)
    local x = moon.tensor { { { 1, 2, 3 } } }:view(1, 1, 1, 3):expand(40, 1, 1, 3)
    local y = t.random_horizontal_flip()(x)
    local mirrored = y:select(4, 1):eq(3):sum():item()
    assert.is_true(mirrored > 5 and mirrored < 35)
    assert.same({ 2 }, y[1]:view(3):narrow(1, 2, 1):totable())
    assert.equal(40, t.random_horizontal_flip(1)(x):select(4, 1):eq(3):sum():item())
  end)

  it("turn some pictures upside down", function()
    local x = moon.tensor { { { 1 }, { 2 }, { 3 } } }
    assert.same({ 3, 2, 1 }, t.random_vertical_flip(1)(x):view(3):totable())
    assert.same({ 1, 2, 3 }, t.random_vertical_flip(0)(x):view(3):totable())
    local origin = t.random_vertical_flip(1):origin()
    assert.equal("moonlet.data.transforms.random_vertical_flip", origin.module)
    local _, message = pcall(t.random_vertical_flip, "x")
    assert.matches("transforms.random_vertical_flip: p must be a number", message)
  end)

  it("come from bytes to floats", function()
    local y = t.to_float()(moon.full({ 1, 1, 1 }, 51, { dtype = "uint8" }))
    assert.is_true(math.abs(y[{ 1, 1, 1 }] - 0.2) < 1e-7)
  end)

  it("are composed, with plain functions among them", function()
    local both = t.compose { t.pad(1), function(x) return x:add(x:dim()) end }
    assert.equal(4, both(moon.ones(2, 1, 2, 2))[{ 1, 1, 2, 2 }])
  end)

  it("remember where they come from", function()
    local origin = t.compose({ t.pad(2) }):origin()
    assert.equal("moonlet.data.transforms.compose", origin.module)
    assert.equal("moonlet.data.transforms.pad", t.pad(2):origin().module)
  end)

  it("say what they want", function()
    local _, message = pcall(t.pad(1), moon.ones(3))
    assert.matches("pad: wants a picture %(c, h, w%) or a batch %(n, c, h, w%), not 3", message)
    _, message = pcall(t.pad, "x")
    assert.matches("transforms.pad: amount must be a whole number", message)
  end)
end)
