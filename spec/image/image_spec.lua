-- Pictures in Lua: written and read back, options, sentences. spec/c/image_test.c damages files;
-- spec/image/torture_spec.lua reads hard ones.
local moon = require "moonlet"
local core = require "moonlet.core"

local path

setup(function() path = os.tmpname() end)
teardown(function() os.remove(path) end)

local function message_of(f, ...)
  local ok, message = pcall(f, ...)
  assert.is_false(ok)
  return message
end

local function assert_says(part, message)
  assert.is_truthy(message:find(part, 1, true), message)
end

describe("a picture", function()
  it("is read back as it was written, for every number of channels", function()
    for channels = 1, 4 do
      local picture = moon.randint(0, 255, { channels, 7, 5 }):to("uint8")
      core.image_save(path, picture)
      local back = core.image_load(path)
      assert.equal("uint8", back.dtype)
      assert.same({ channels, 7, 5 }, back.shape)
      assert.equal(picture:tobytes(), back:tobytes())
    end
  end)

  it("may be a matrix, a view, or floats from 0 to 1", function()
    local grey = moon.tensor({ { 0, 0.5, 1 }, { 2, -1, 0.2 } })
    core.image_save(path, grey)
    assert.same({ { { 0, 128, 255 }, { 255, 0, 51 } } }, core.image_load(path):totable())
    core.image_save(path, grey:t():double())
    assert.same({ { { 0, 255 }, { 128, 0 }, { 255, 51 } } }, core.image_load(path):totable())
  end)

  it("is brought to the channels asked for", function()
    core.image_save(path, moon.full({ 1, 2, 3 }, 0.2))
    assert.same({ 3, 2, 3 }, core.image_load(path, { channels = 3 }).shape)
    local four = core.image_load(path, { channels = 4 })
    assert.equal(51, four[{ 1, 1, 1 }])
    assert.equal(255, four[{ 4, 1, 1 }])
  end)

  it("may come from a string of bytes", function()
    core.image_save(path, moon.ones(3, 2, 2))
    local file = assert(io.open(path, "rb"))
    local bytes = file:read("*a")
    file:close()
    assert.same({ 3, 2, 2 }, core.image_load({ bytes = bytes }).shape)
    assert_says("truncated", message_of(core.image_load, { bytes = bytes:sub(1, -5) }))
  end)

  it("of a wrong shape, type or name gets a sentence", function()
    assert_says("not 5x2x2", message_of(core.image_save, path, moon.ones(5, 2, 2)))
    assert_says("not int64", message_of(core.image_save, path, moon.ones(2, 2):long()))
    assert_says("at least one pixel", message_of(core.image_save, path, moon.ones(3, 0, 2)))
    assert_says("image must be a tensor, got string", message_of(core.image_save, path, "x"))
    assert_says("expected a path", message_of(core.image_load, 3))
    assert_says("unknown option \"chanels\"; it knows channels",
      message_of(core.image_load, path, { chanels = 3 }))
    assert_says("channels must be 1, 3 or 4", message_of(core.image_load, path, { channels = 2 }))
    assert_says(path .. ".none", message_of(core.image_load, path .. ".none"))
  end)

  it("in a format that is not read is refused by name", function()
    assert_says("neither PNG, JPEG nor BMP", message_of(core.image_load, { bytes = "GIF89a..." }))
  end)
end)
