-- Runs the C programs that test csrc/base; each of their lines is a test of its own.
local program = require "spec.support.program"

for _, name in ipairs { "base_test", "alloc_test", "threads_test" } do
  describe("csrc/base, " .. name, function()
    local path, built = program.find(name)
    if built then return program.describe(path, it) end
    it("has been built", function() error(path .. " is missing: build with MOONLET_TESTS=ON") end)
  end)
end
