-- What a checkout offers without any setting: require "moonlet" from the root and from elsewhere, a
-- sentence where nothing was built, the list of packages, and scripts that say what went wrong.

local lua = rawget(_G, "jit") and "luajit" or _VERSION:lower():gsub(" ", "")

-- The output of a shell command, and its exit status as a number.
local function run(command)
  local pipe = assert(io.popen("{ " .. command .. "; } 2>&1; echo $?"))
  local text = pipe:read("*a")
  pipe:close()
  local output, status = text:match("^(.-)(%d+)\n$")
  return output, tonumber(status)
end

local function root()
  return (run("pwd")):gsub("\n$", "")
end

describe("a checkout", function()
  it("gives moonlet to a program that runs in it", function()
    local output = run(lua .. " -e 'print(require \"moonlet\" == package.loaded.moonlet)'")
    assert.equal("true\n", output)
  end)

  it("gives moonlet to a program that runs elsewhere and knows where it is", function()
    local build = os.getenv("MOONLET_BUILD")
    local set = build and not build:match("^/") and "MOONLET_BUILD=" .. root() .. "/" .. build or ""
    local output = run(("cd / && %s %s -e 'package.path = \"%s/?.lua;\" .. package.path; " ..
      "print(require(\"moonlet\").ones(2):sum():item())'"):format(set, lua, root()))
    assert.equal(2, tonumber(output), output)
  end)

  it("says what to do where there is no binary for this Lua", function()
    local output, status = run("MOONLET_BUILD=/nowhere " .. lua .. " -e 'require \"moonlet\"'")
    assert.is_truthy(output:find("no binary for " .. lua, 1, true), output)
    assert.is_truthy(output:find("run make", 1, true), output)
    assert.not_equal(0, status)
  end)

  it("never holds a moonlet.so that another Lua would pick up", function()
    assert.is_nil(io.open("moonlet.so", "rb"))
  end)
end)

describe("the list of packages", function()
  it("says of each why", function()
    local groups, names = {}, 0
    for line in io.lines("packages.txt") do
      local group = line:match("^%[(%w+)%]$")
      if group then
        groups[group] = true
      elseif line ~= "" and not line:match("^#") then
        names = names + 1
        assert.is_truthy(line:match("^[%w.+-]+%s+%S.+$"), line)
      end
    end
    assert.same({ run = true, build = true, demo = true, test = true }, groups)
    assert.is_true(names > 15)
  end)

  it("is read by a script that does nothing where nothing is missing", function()
    local output, status = run("scripts/install-packages run build")
    assert.same({ "", 0 }, { output, status })
  end)

  it("refuses a group that is not there", function()
    local output, status = run("scripts/install-packages nonsense")
    assert.is_truthy(output:find('no group "nonsense"', 1, true))
    assert.equal(2, status)
  end)
end)

describe("the runner of specs", function()
  local function run_specs(text)
    local path = os.tmpname()
    local file = assert(io.open(path .. "_spec.lua", "w"))
    file:write(text)
    file:close()
    local output, status = run(("LUA=%s scripts/run-specs %s_spec.lua"):format(lua, path))
    os.remove(path)
    os.remove(path .. "_spec.lua")
    return output:match("([^\n]*)\n$"), status
  end

  it("counts what passed", function()
    local last, status = run_specs("it('a', function() end) it('b', function() end)")
    assert.same({ "2 passed, 0 failed", 0 }, { last, status })
  end)

  it("counts failures and errors, and fails", function()
    local last, status = run_specs(
      "it('a', function() assert(false) end) it('b', function() end) " ..
      "describe('c', function() error('no') end)")
    assert.same({ "1 passed, 2 failed", 1 }, { last, status })
  end)

  it("fails where a file does not load, where nothing runs and where the process dies", function()
    assert.same({ "0 passed, 1 failed", 1 }, { run_specs("this is no Lua") })
    assert.same({ "0 passed, 1 failed", 1 }, { run_specs("-- nothing") })
    assert.same({ "0 passed, 1 failed", 1 }, { run_specs("it('a', function() os.exit(0) end)") })
  end)
end)
