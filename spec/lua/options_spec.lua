-- Tables of named options against their schemas: what is filled in, and every sentence.
local options = require "moonlet" and require "moonlet.options"

local schema = {
  padding = { "pair", 0 }, bias = { "boolean", true }, mode = { { "min", "max" }, "min" },
  size = { "positive" },
}

local function message_of(given, other)
  local ok, message = pcall(options.read, "layer", given, other or schema)
  assert.is_false(ok)
  return message
end

describe("options", function()
  it("fills in defaults and leaves the given table alone", function()
    local given = { padding = { 1, 2 } }
    local o = options.read("layer", given, schema)
    assert.same({ 1, 2 }, o.padding)
    assert.is_true(o.bias)
    assert.equal("min", o.mode)
    assert.is_nil(o.size)
    assert.is_nil(given.bias)
  end)

  it("keeps a false that was given", function()
    assert.is_false(options.read("layer", { bias = false }, schema).bias)
  end)

  it("lists the known options and suggests the nearest for a misspelt one", function()
    local message = message_of { pading = 1 }
    assert.matches('layer: there is no option "pading", did you mean "padding"', message)
    assert.matches("known: bias, mode, padding, size", message)
  end)

  it("suggests nothing when nothing is near", function()
    assert.not_matches("did you mean", message_of { wavelength = 1 })
  end)

  it("names the type it wants and what it got", function()
    assert.matches("layer: bias must be true or false, not 3", message_of { bias = 3 })
    assert.matches("padding must be a whole number or a list of two, not 1.5",
      message_of { padding = 1.5 })
    assert.matches('mode must be one of "min", "max", not "mid"', message_of { mode = "mid" })
    assert.matches("size must be a whole number from 1, not 0", message_of { size = 0 })
  end)

  it("takes a number for all directions or a list of one a direction", function()
    local words = { single = "one", pair = "two", triple = "three" }
    for kind, fits in pairs { single = { 4 }, pair = { 1, 2 }, triple = { 1, 2, 3 } } do
      local rule = { size = { kind } }
      assert.equal(3, options.read("layer", { size = 3 }, rule).size)
      assert.equal(fits, options.read("layer", { size = fits }, rule).size)
      for _, wrong in ipairs { { 1, 2, 3, 4 }, "3", { 0.5, 1, 1 }, {} } do
        assert.matches("size must be a whole number or a list of " .. words[kind],
          message_of({ size = wrong }, rule))
      end
    end
  end)

  it("takes padding as a number, sides or a word", function()
    local rule = { padding = { "pads2", 0 } }
    for _, padding in ipairs { 3, { 1 }, { 1, 2 }, { { 1, 2 }, 0 }, { { 1, 2 } }, "same" } do
      assert.equal(padding, options.read("layer", { padding = padding }, rule).padding)
    end
    for _, wrong in ipairs { "fool", 1.5, { 1, 2, 3 }, { { 1 }, 2 }, { { 1, 2, 3 }, 2 }, {} } do
      assert.matches("padding must be a whole number, a list such as {1, 2} or {{1, 2}, {0, 0}}",
        message_of({ padding = wrong }, rule), 1, true)
    end
  end)

  it("says so when options are no table, or have no names", function()
    assert.matches("layer: options are a table, such as {bias = ...}, not 3", message_of(3))
    assert.matches("options have names", message_of { 1 })
  end)

  it("says which required option is missing", function()
    assert.matches("layer: total is missing",
      message_of({}, { total = { "number", required = true } }))
  end)

  it("checks positional arguments", function()
    local _, message = pcall(options.argument, "Linear", "inputs", "3", "positive")
    assert.matches('Linear: inputs must be a whole number from 1, not "3"', message)
  end)
end)
