-- Runs the program of this folder, built once for each Lua whose library was found, and repeats
-- each of its lines as a test of its own: "ok name" or "not ok name: why". Every run of the specs
-- takes all these programs, whatever Lua the specs themselves run on.

local root = debug.getinfo(1, "S").source:match("^@(.*)spec/host/[^/]*$") or ""
if root == "" then root = "./" end
local build = os.getenv("MOONLET_BUILD") or "build"   -- as seen from the top

local luas = { "luajit", "lua5.1", "lua5.4" }

local function exists(path)
  local file = io.open(path, "rb")
  if file then file:close() end
  return file ~= nil
end

-- The program's lines, and how it ended: "0", "1", or what the shell says of a crash.
local function run(program)
  local pipe = assert(io.popen(("cd '%s' && env -u LD_PRELOAD '%s' 2>&1; echo \"status $?\"")
    :format(root, program)))
  local lines, status = {}, "unknown"
  for line in pipe:lines() do
    status = line:match("^status (%d+)$") or status
    lines[#lines + 1] = line
  end
  pipe:close()
  return lines, status
end

local function repeat_lines(lines)
  local failed = 0
  for _, line in ipairs(lines) do
    local passed, rest = line:match("^ok (.+)$"), line:match("^not ok (.+)$")
    if passed then it(passed, function() end) end
    if rest then
      failed = failed + 1
      it(rest:match("^(.-): ") or rest, function() error(rest, 0) end)
    end
  end
  return failed
end

local built = {}
for _, lua in ipairs(luas) do
  local program = build .. "/tests/host_test-" .. lua
  if exists(program:sub(1, 1) == "/" and program or root .. program) then
    built[#built + 1] = lua
    describe("a host with " .. lua, function()
      local lines, status = run(program)
      local failed = repeat_lines(lines)
      it("ends by itself, saying how it went", function()
        assert.is_true(#lines > 10, table.concat(lines, "\n"))
        assert.equal(failed > 0 and "1" or "0", status, table.concat(lines, "\n"))
      end)
    end)
  end
end

describe("the host program", function()
  it("has been built", function()
    assert(#built > 0, build .. "/tests/host_test-* are missing: build with MOONLET_TESTS=ON")
  end)
end)
