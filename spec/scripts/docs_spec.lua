-- The reference in docs/ is what scripts/make-docs.lua writes from the source as it is.
local child = require "spec.support.child"

describe("the reference", function()
  it("is up to date; make docs writes it", function()
    local pipe = io.popen(child.lua .. " scripts/make-docs.lua --check; echo status $?")
    local output = pipe:read "*a"
    pipe:close()
    assert.equal("status 0\n", output)
  end)
end)
