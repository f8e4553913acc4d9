-- Runs the C programs that test csrc/base and repeats each of their lines as a test of its own:
-- "ok name" or "not ok name: why". `make test` builds them into build/tests, sanitizer builds into
-- the tests folder of MOONLET_BUILD.

local root = (debug.getinfo(1, "S").source:match("^@(.*)spec/base/[^/]*$") or "")
local tests = (os.getenv("MOONLET_BUILD") or root .. "build") .. "/tests/"

-- The program's lines, and how it ended: "0", "1", or what the shell says of a crash.
local function run(path)
  local pipe = assert(io.popen("env -u LD_PRELOAD '" .. path .. "' 2>&1; echo \"status $?\""))
  local lines, status = {}, "unknown"
  for line in pipe:lines() do
    status = line:match("^status (%d+)$") or status
    lines[#lines + 1] = line
  end
  pipe:close()
  return lines, status
end

local function exists(path)
  local file = io.open(path, "rb")
  if file then file:close() end
  return file ~= nil
end

for _, name in ipairs { "base_test", "alloc_test", "threads_test" } do
  describe("csrc/base, " .. name, function()
    local path = tests .. name
    if not exists(path) then
      it("has been built", function() error(path .. " is missing: build with MOONLET_TESTS=ON") end)
      return
    end
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
  end)
end
