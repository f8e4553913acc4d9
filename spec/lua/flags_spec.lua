-- A program's flags: values, defaults, mistakes and help.
local flags = require "moonlet" and require "moonlet.flags"

local rows = {
  { "epochs", "integer", 3, "how often" },
  { "lr", "number", 0.1, "how fast" },
  { "config", { "A", "B" }, "A", "which" },
  { "resume", "switch", false, "go on" },
  { "name", "string", nil, "what" },
}

describe("flags", function()
  it("reads values after a space or an equals sign, and defaults", function()
    local o = flags.parse(rows, { "--epochs", "5", "--lr=0.5", "--resume" })
    assert.equal(5, o.epochs)
    assert.equal(0.5, o.lr)
    assert.equal("A", o.config)
    assert.is_true(o.resume)
    assert.is_nil(o.name)
    assert.same({ epochs = true, lr = true, resume = true }, o.given)
  end)

  it("answers mistakes with a sentence", function()
    local cases = {
      { { "--epoch", "5" }, "there is no flag %-%-epoch, did you mean %-%-epochs" },
      { { "--epochs", "many" }, "%-%-epochs must be a whole number, not many" },
      { { "--epochs" }, "%-%-epochs needs a value" },
      { { "--config", "Z" }, "%-%-config must be one of A, B, not Z" },
      { { "--resume=yes" }, "%-%-resume takes no value" },
      { { "5" }, '"5" is no flag' },
    }
    for _, case in ipairs(cases) do
      local o, message = flags.parse(rows, case[1])
      assert.is_nil(o)
      assert.matches(case[2], message)
    end
  end)

  it("lists every flag in the help", function()
    local text = flags.help(rows, "usage: x")
    for _, row in ipairs(rows) do assert.matches("%-%-" .. row[1], text) end
    assert.is_true(flags.parse(rows, { "--help" }).help)
  end)
end)
