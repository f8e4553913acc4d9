-- Runs every @usage of the library's Lua files, each as a program of its own.
local sources = require "spec.support.sources"

local load_text = rawget(_G, "loadstring") or load

-- The @usage blocks of a file: { line, text }.
local function usages(path)
  local found, block, number = {}, nil, 0
  for line in io.lines(sources.root .. "/" .. path) do
    number = number + 1
    local start, more = line:match("^%-%- @usage (.*)$"), line:match("^%-%- ?(.*)$")
    if start then
      block = { line = number, text = start }
      found[#found + 1] = block
    elseif block and more and not more:match("^@") then
      block.text = block.text .. "\n" .. more
    else
      block = nil
    end
  end
  return found
end

describe("the examples in the comments", function()
  require "moonlet"
  local files = sources.files("lua/moonlet", ".lua")
  local total = 0
  for _, path in ipairs(files) do
    for _, usage in ipairs(usages(path)) do
      total = total + 1
      it(("of %s, line %d, run"):format(path, usage.line), function()
        local text = 'local moon = require "moonlet"; ' .. usage.text
        local program = assert(load_text(text, path))
        local ok, message = pcall(program)
        if not ok and tostring(message):find("need LuaJIT", 1, true) then
          return pending(message)
        end
        assert(ok, message)
      end)
    end
  end

  it("are there", function() assert.is_true(total > 40) end)
end)
