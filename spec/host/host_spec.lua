-- Runs the program of this folder, built once for each Lua whose library was found; each of its
-- lines is a test of its own. Every run of the specs takes all of them, whatever Lua the specs
-- themselves run on.
local program = require "spec.support.program"

local built = {}
for _, lua in ipairs { "luajit", "lua5.1", "lua5.4" } do
  local path, there = program.find("host_test-" .. lua)
  if there then
    built[#built + 1] = lua
    describe("a host with " .. lua, function() program.describe(path, it) end)
  end
end

describe("the host program", function()
  it("has been built", function()
    assert(#built > 0, program.find("host_test-luajit") .. " and its like are missing: build " ..
      "with MOONLET_TESTS=ON")
  end)
end)
