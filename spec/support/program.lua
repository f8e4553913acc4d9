-- C test programs, which print "ok name" or "not ok name: why" a check: each line becomes a test.
-- `make test` builds them into build/tests, sanitizer builds into the tests folder of
-- MOONLET_BUILD.
local assert = require "luassert"
local sources = require "spec.support.sources"

local program = {}

local build = os.getenv("MOONLET_BUILD") or "build"   -- as seen from the top

-- The path of a program, and whether it has been built.
function program.find(name)
  local path = build .. "/tests/" .. name
  if path:sub(1, 1) ~= "/" then path = sources.root .. "/" .. path end
  local file = io.open(path, "rb")
  if file then file:close() end
  return path, file ~= nil
end

-- The program's lines, run at the top, and how it ended: "0", "1", or what the shell says of a
-- crash.
local function run(path)
  local pipe = assert(io.popen(("cd '%s' && env -u LD_PRELOAD '%s' 2>&1; echo \"status $?\"")
    :format(sources.root, path)))
  local lines, status = {}, "unknown"
  for line in pipe:lines() do
    status = line:match("^status (%d+)$") or status
    lines[#lines + 1] = line
  end
  pipe:close()
  return lines, status
end

-- Runs the program within a describe block, whose `it` it is given.
function program.describe(path, it)
  local lines, status = run(path)
  local failed = 0
  for _, line in ipairs(lines) do
    local passed, rest = line:match("^ok (.+)$"), line:match("^not ok (.+)$")
    if passed then it(passed, function() end) end
    if rest then
      failed = failed + 1
      it(rest:match("^(.-): ") or rest, function() error(rest, 0) end)
    end
  end
  it("ends by itself, saying how it went", function()
    assert.is_true(#lines > 10, table.concat(lines, "\n"))
    assert.equal(failed > 0 and "1" or "0", status, table.concat(lines, "\n"))
  end)
end

return program
