-- The C test programs: every spec/c/<name>.c is built to <build>/tests/<name>, and must end with
-- success; with SPEC_PART in the environment that one alone. Under a sanitizer they are the
-- sanitizer's own programs and look for leaks too.

local build = os.getenv("MOONLET_BUILD") or "build"
local runner = os.getenv("MOONLET_RUNNER")   -- an emulator, where they are of another processor

local function lines_of(command)
  local lines = {}
  local pipe = assert(io.popen(command))
  for line in pipe:lines() do lines[#lines + 1] = line end
  pipe:close()
  return lines
end

-- Runs a command; gives its output and its exit status, the same on every Lua.
local function run(command)
  local lines = lines_of(command .. " 2>&1; echo $?")
  local status = tonumber(table.remove(lines))
  return table.concat(lines, "\n"), status
end

-- Some programs have a spec of their own, which names them.
local function has_own_spec(name)
  local found = lines_of("grep -rlF --include='*_spec.lua' '\"" .. name .. "\"' spec")
  return #found > 0
end

local function names()
  local list, only = {}, os.getenv("SPEC_PART")
  for _, source in ipairs(lines_of("ls spec/c/*.c")) do
    local name = source:match("([%w_]+)%.c$")
    if not has_own_spec(name) and (not only or name == only) then list[#list + 1] = name end
  end
  return list
end

describe("C test program", function()
  for _, name in ipairs(names()) do
    it(name .. " ends well", function()
      local program = build .. "/tests/" .. name
      local output, status = run(runner and runner .. " " .. program or program)
      assert(status == 0, ("%s ended with %s:\n%s"):format(name, tostring(status), output))
    end)
  end
end)
