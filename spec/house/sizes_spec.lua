-- No file over 800 lines; no line over 100 columns; no function over 100 lines without a sentence
-- in front that says why (a comment with the words "long because"). Files open with a comment, and
-- names are found where they belong.
local sources = require "spec.support.sources"

-- A function starts at a line in column one that has a parenthesis and reaches "{" before anything
-- else starts in column one; it ends at "}" in column one.
local function c_functions(lines)
  local functions, head, start = {}, nil, nil
  for number, line in ipairs(lines) do
    if not start then
      if line:match("^[%a_]") then head = line:find("(", 1, true) and number or nil end
      if head and line:match("{%s*$") then start = head end
      if line:match(";%s*$") and not start then head = nil end
    elseif line:match("^}") then
      functions[#functions + 1] = { first = start, last = number }
      start, head = nil, nil
    end
  end
  return functions
end

local function lua_functions(lines)
  local functions = {}
  for number, line in ipairs(lines) do
    local indent = line:match("^(%s*)local function ") or line:match("^(%s*)function ")
    if indent and not line:match("%f[%w]end%s*$") then
      for last = number + 1, #lines do
        if lines[last]:match("^" .. indent .. "end%f[%W]") or lines[last] == indent .. "end" then
          functions[#functions + 1] = { first = number, last = last }
          break
        end
      end
    end
  end
  return functions
end

local function explained(lines, first)
  for number = math.max(1, first - 8), first do
    if lines[number]:find("long because", 1, true) then return true end
  end
  return false
end

local function too_long(find, folder, ...)
  local wrong = {}
  for _, path in ipairs(sources.files(folder, ...)) do
    local lines = sources.lines(path)
    for _, f in ipairs(find(lines)) do
      if f.last - f.first + 1 > 100 and not explained(lines, f.first) then
        wrong[#wrong + 1] = ("%s:%d is %d lines long"):format(path, f.first, f.last - f.first + 1)
      end
    end
  end
  return wrong
end

local folders = { "csrc", "kernels", "lua", "spec", "examples", "bench" }

describe("sizes", function()
  it("see the functions they measure", function()
    assert.is_true(#c_functions(sources.lines("csrc/tensor/shape.c")) >= 8)
    assert.is_true(#lua_functions(sources.lines("spec/house/sizes_spec.lua")) >= 4)
  end)

  it("stay under 800 lines a file", function()
    local wrong = {}
    for _, folder in ipairs(folders) do
      for _, path in ipairs(sources.files(folder, ".c", ".h", ".cu", ".cuh", ".def", ".lua")) do
        local count = #sources.lines(path)
        if count > 800 then wrong[#wrong + 1] = path .. " has " .. count .. " lines" end
      end
    end
    assert.same({}, wrong)
  end)

  it("stay under 100 columns a line", function()
    local wrong = {}
    for _, folder in ipairs(folders) do
      for _, path in ipairs(sources.files(folder, ".c", ".h", ".cu", ".cuh", ".def", ".lua")) do
        for number, line in ipairs(sources.lines(path)) do
          local width = #line:gsub("[\128-\191]", "")
          if width > 100 then
            wrong[#wrong + 1] = ("%s:%d is %d columns wide"):format(path, number, width)
          end
        end
      end
    end
    assert.same({}, wrong)
  end)

  it("stay under 100 lines a function in C", function()
    assert.same({}, too_long(c_functions, "csrc", ".c", ".h"))
    assert.same({}, too_long(c_functions, "kernels", ".cu", ".cuh"))
  end)

  it("stay under 100 lines a function in Lua", function()
    for _, folder in ipairs { "lua", "examples", "bench" } do
      assert.same({}, too_long(lua_functions, folder, ".lua"))
    end
  end)
end)

describe("files", function()
  it("open with their idea", function()
    local wrong = {}
    for _, folder in ipairs(folders) do
      for _, path in ipairs(sources.files(folder, ".c", ".h", ".cu", ".cuh", ".def", ".lua")) do
        local first = sources.lines(path)[1] or ""
        if not first:match("^//") and not first:match("^%-%-") then wrong[#wrong + 1] = path end
      end
    end
    assert.same({}, wrong)
  end)
end)

describe("names", function()
  it("of operators are said once, in their descriptor", function()
    local seen = {}
    for _, path in ipairs(sources.files("csrc/ops", ".c")) do
      for _, line in ipairs(sources.lines(path)) do
        local name = line:match('%.name = "([%w_]+)"')
        assert.is_nil(name and seen[name], (name or "") .. " is described twice")
        if name then seen[name] = path end
      end
    end
  end)

  it("of files in csrc/ops are all on the map, families.def", function()
    local map = table.concat(sources.lines("csrc/ops/families.def"), "\n")
    for _, path in ipairs(sources.files("csrc/ops", ".c")) do
      local name = path:match("([%w_]+)%.c$")
      assert.is_truthy(map:find("%f[%w_]" .. name .. "%f[^%w_]"), path)
    end
  end)

  it("of operators in used.def are sorted and used", function()
    local used, last = {}, ""
    for _, path in ipairs(sources.files("csrc", ".c", ".h")) do
      local text = table.concat(sources.lines(path), "\n")
      for name in text:gmatch("COMPOSE%([^,()]*,%s*([%w_]+)") do used[name] = true end
      for name in text:gmatch("COMPOSE_MORE%([^,()]*,[^,()]*,%s*([%w_]+)") do used[name] = true end
      for name in text:gmatch("OP_([%l%d_]+)") do used[name] = true end
    end
    for _, line in ipairs(sources.lines("csrc/ops/used.def")) do
      local name = line:match("^USED%(([%w_]+)%)")
      assert.is_truthy(not name or used[name], line)
      assert.is_truthy(not name or name > last, line)
      last = name or last
    end
  end)

  it("of shared C functions start with moon_, their part or their file", function()
    local pattern = "^[%a_][%w_ %*]-%f[%w_]([%a_][%w_]*)%("
    for _, part in ipairs { "base", "device", "tensor", "autograd" } do
      for _, path in ipairs(sources.files("csrc/" .. part, ".h")) do
        local file = path:match("([%w]+)[%w_]*%.h$")
        local known = { moon = true, MOON = true, [part] = true, [file] = true }
        known[file:gsub("s$", "")] = true
        -- node.h holds records and hooks too; op.h and tensor.h have short verbs for their own
        -- structs
        for _, extra in ipairs { "record", "hook", "shape", "array", "half", "bfloat", "base" } do
          known[extra] = true
        end
        for _, line in ipairs(sources.lines(path)) do
          local inner = line:match("^static") or line:match("^typedef")
          local name = not inner and line:match(pattern)
          local prefix = name and name:match("^(%a+)_?")
          assert.is_truthy(not name or known[prefix], path .. ": " .. tostring(name))
        end
      end
    end
  end)
end)
