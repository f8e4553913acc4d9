-- The include lines are the architecture: a part includes only parts below it, Lua files require
-- only what lies below them, and only os_*.c knows the operating system.
local sources = require "spec.support.sources"

-- what each part may include, besides itself
local below = {
  base = "",
  device = "base",
  cpu = "base device",
  kernels = "base device",
  tensor = "base device",
  autograd = "base device tensor",
  ops = "base device tensor autograd",
  image = "base device tensor",
  io = "base device tensor",
  lua = "base device tensor autograd ops image io",
  host = "base device tensor autograd ops image io lua",
}

-- "class < nn, optim, data < vision, models < train, viz < repl"; unnamed files are `class`-like
local rank = {
  nn = 2, optim = 2, data = 2, vision = 3, models = 3, train = 4, viz = 4, repl = 5,
}

local function allowed(part, other)
  return part == other or (" " .. below[part] .. " "):find(" " .. other .. " ", 1, true) ~= nil
end

local function part_of(path)
  return path:match("^csrc/(%w+)/") or path:match("^(kernels)/")
end

local function includes_pointing_up()
  local wrong = {}
  for _, folder in ipairs { "csrc", "kernels" } do
    for _, path in ipairs(sources.files(folder, ".c", ".h", ".def", ".cu", ".cuh")) do
      local part = part_of(path)
      for _, line in ipairs(sources.lines(path)) do
        local other = line:match('^%s*#%s*include%s+"([%w_]+)/')
        if part and other and not allowed(part, other) then
          wrong[#wrong + 1] = path .. " includes " .. other
        end
      end
    end
  end
  return wrong
end

local system_headers = {
  pthread = true, unistd = true, fcntl = true, dlfcn = true, signal = true, sched = true,
  windows = true, time = true, poll = true,
}

local function system_includes()
  local wrong = {}
  for _, path in ipairs(sources.files("csrc", ".c", ".h")) do
    if not path:match("^csrc/base/os_") then
      for _, line in ipairs(sources.lines(path)) do
        local header = line:match("^%s*#%s*include%s+<([%w_/]+)%.h>")
        if header and (system_headers[header] or header:match("^sys/")) then
          wrong[#wrong + 1] = path .. " includes <" .. header .. ".h>"
        end
      end
    end
  end
  return wrong
end

local function requires_pointing_up()
  local wrong = {}
  for _, path in ipairs(sources.files("lua", ".lua")) do
    local own = rank[path:match("^lua/moonlet/(%w+)[/.]") or ""]
    for _, line in ipairs(sources.lines(path)) do
      local other = line:match('require%s*%(?%s*"moonlet%.(%w+)')
      if own and other and rank[other] and rank[other] > own then
        wrong[#wrong + 1] = path .. " requires " .. other
      end
    end
  end
  return wrong
end

describe("the layers", function()
  it("are all known to this spec", function()
    for _, path in ipairs(sources.files("csrc", ".c", ".h")) do
      local part = part_of(path)
      assert.is_truthy(part == nil or below[part], path .. " lies in an unknown part")
    end
  end)

  it("include only what lies below", function()
    assert.same({}, includes_pointing_up())
  end)

  it("leave the operating system's headers to base/os_*.c", function()
    assert.same({}, system_includes())
  end)

  it("hold in Lua too", function()
    assert.same({}, requires_pointing_up())
  end)
end)
