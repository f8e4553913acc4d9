-- Writes the reference: docs/operators.md (a table of all operators), docs/operators/<family>.md
-- from the operators' descriptors, and docs/library/<part>.md from the comments of lua/moonlet.
-- With --check it writes nothing and names the files that are not as it would write them.
--
--   luajit scripts/make-docs.lua [--check]
package.path = "./?.lua;" .. package.path
local moon = require "moonlet"
local Class = require "moonlet.class"

local NOTE = "<!-- Written by scripts/make-docs.lua; change the source, then run `make docs`. -->"
  .. "\n\n"

-- -- operators

local orders = { none = "none", first = "first order", every = "every order" }

local function order_of(op)
  return orders[op.order or (op.gradient and "every" or "none")]
end

local kinds = {
  ["float32 float64 float16 bfloat16"] = "floats",
  ["float32 float64 float16 bfloat16 int64 int32 uint8"] = "numbers",
  ["float32 float64 float16 bfloat16 int64 int32 uint8 bool"] = "all",
  ["int64 int32 uint8"] = "integers",
  ["float32 float64"] = "reals",
}

local function dtypes_of(op)
  local text = table.concat(op.dtypes, " ")
  return kinds[text] or text:gsub(" ", ", ")
end

local function visible_operators()
  local list = {}
  for _, op in ipairs(moon.operators()) do
    if not op.hidden then list[#list + 1] = op end
  end
  return list
end

local function name_of(op) return op.only_inplace and op.name .. "_" or op.name end

local function table_of_operators(operators)
  local lines = { NOTE .. "# Operators", "",
    "Element types: *reals* are float32 and float64; *floats* float16 and bfloat16 too; *integers*",
    "int64, int32 and uint8; *numbers* both; *all* bool too. They are those of the first tensor.",
    "*Gradient* says how often the operator can be differentiated. `moon.operators()` gives the",
    "same as a table, and each name links to formula, shapes, source and example.", "",
    "| operator | family | types | devices | gradient |", "| --- | --- | --- | --- | --- |" }
  for _, op in ipairs(operators) do
    lines[#lines + 1] = ("| [%s](operators/%s.md#%s) | %s | %s | %s | %s |"):format(
      name_of(op), op.family, name_of(op), op.family, dtypes_of(op), "cpu, cuda", order_of(op))
  end
  return table.concat(lines, "\n") .. "\n"
end

-- The schema without what only the backward sees.
local function signature(op)
  local text = op.schema:gsub(", %[[%w_]+%]", ""):gsub("%[[%w_]+%], ", "")
  return name_of(op) .. text:gsub(" %-> %[[%w_]+%]$", "")
end

local function forms(op)
  local list = {}
  if not op.only_inplace and op.family ~= "creation" then list[#list + 1] = "moon." .. op.name end
  if op.method and #op.inputs > 0 then
    list[#list + 1] = ("%s:%s"):format(op.inputs[1].name, name_of(op))
  end
  if op.inplace and not op.only_inplace then
    list[#list + 1] = ("%s:%s_"):format(op.inputs[1].name, op.name)
  end
  return "`" .. table.concat(list, "`, `") .. "`"
end

local function describe_operator(op)
  local lines = { "## " .. name_of(op), "", "```", signature(op), "```", "", op.doc, "" }
  if op.formula then
    lines[#lines + 1] = ("Formula `%s`; derivative `%s`%s."):format(op.formula,
      op.derivative or "none", op.derivative_y and (", by y `%s`"):format(op.derivative_y) or "")
    lines[#lines + 1] = ""
  end
  local called = op.inputs[1] and forms(op) or ("`moon.%s`"):format(op.name)
  lines[#lines + 1] = ("Called as %s. Types: %s. Gradient: %s."):format(
    called, dtypes_of(op), order_of(op))
  if op.example then
    lines[#lines + 1] = ""
    lines[#lines + 1] = "```lua\n" .. op.example .. "\n```"
  end
  return table.concat(lines, "\n") .. "\n"
end

local function operator_files(files)
  local operators = visible_operators()
  files["docs/operators.md"] = table_of_operators(operators)
  for _, op in ipairs(operators) do
    local path = ("docs/operators/%s.md"):format(op.family)
    local before = files[path] or NOTE .. "# " .. op.family .. "\n"
    files[path] = before .. "\n" .. describe_operator(op)
  end
end

-- -- the library in Lua

local function lines_of(path)
  local lines = {}
  for line in io.lines(path) do lines[#lines + 1] = line end
  return lines
end

-- The comment that opens a file.
local function opening(lines)
  local text = {}
  for _, line in ipairs(lines) do
    local words = line:match "^%-%- ?(.*)$"
    if not words or line:match "^%-%-%-" then break end
    text[#text + 1] = words
  end
  return table.concat(text, "\n")
end

local tag_writers = {
  usage = function(rest) return "\n```lua\n" .. rest, "```" end,
  param = function(rest)
    local name, words = rest:match "^(%S+)%s*(.*)$"
    return ("- `%s` %s"):format(name, words)
  end,
  tparam = function(rest)
    local kind, name, words = rest:match "^(%S+)%s+(%S+)%s*(.*)$"
    return ("- `%s` (%s) %s"):format(name, (kind:gsub("^%?", "optional ")), words)
  end,
  ["function"] = function() return nil end,
  ["return"] = function(rest) return "- returns " .. rest end,
}

local function typed(kind)
  return function(rest)
    local name, words = rest:match "^(%S+)%s*(.*)$"
    return ("- `%s` (%s) %s"):format(name, kind, words)
  end
end

for _, kind in ipairs { "int", "string", "bool", "number", "tab", "func" } do
  tag_writers[kind] = typed(kind)
end

-- One documentation block in Markdown: words first, then tags.
local function block_text(block)
  local out, closing = {}, nil
  local function close()
    while closing and out[#out] == "" do out[#out] = nil end
    out[#out + 1] = closing
    closing = nil
  end
  for _, line in ipairs(block) do
    local tag, rest = line:match "^@(%w+)%[?[^%]%s]*%]?%s*(.*)$"
    if tag then
      close()
      local writer = tag_writers[tag] or typed(tag)
      local text
      text, closing = writer(rest)
      out[#out + 1] = text
    else
      out[#out + 1] = line
    end
  end
  close()
  return (table.concat(out, "\n"):gsub("\n\n\n+", "\n\n"))
end

-- The `---` blocks of a file: { title, lines }; the title is that of the function that follows, or
-- what @function says.
local function blocks(lines)
  local found, block = {}, nil
  for _, line in ipairs(lines) do
    local first = line:match "^%-%-%- ?(.*)$"
    local more = line:match "^%-%- ?(.*)$"
    if first then
      block = { first }
      found[#found + 1] = block
    elseif block and more then
      block.title = block.title or more:match "^@function (.*)$"
      block[#block + 1] = more
    elseif block then
      block.title = block.title or line:match "^local function ([%w_.:]+%b())"
        or line:match "^function ([%w_.:]+%b())" or line:match "^([%w_.]+) ="
      block = nil
    end
  end
  return found
end

-- The names of the classes in a file that returns a table of them, as nn/losses.lua does.
local function members(path)
  local part, file = path:match "^lua/moonlet/(nn)/([%w_]+)%.lua$"
  local names = {}
  local module = part and require("moonlet.nn." .. file)
  if type(module) ~= "table" or getmetatable(module) then return nil end
  for name, value in pairs(module) do
    if Class.is_class(value) then names[#names + 1] = ("`nn.%s`"):format(name) end
  end
  table.sort(names)
  return #names > 0 and "Here are " .. table.concat(names, ", ") .. ".\n" or nil
end

local function describe_file(path)
  local lines = lines_of(path)
  local text = opening(lines)
  local title = text:match "^([%w_.]+):" or text:match "^(%u[%w_]+)[ ,]*%("
    or path:match "([%w_]+)%.lua$"
  local out = { "## " .. title, "", "`" .. path .. "`", "", text, "" }
  out[#out + 1] = members(path)
  for _, block in ipairs(blocks(lines)) do
    if block.title then
      out[#out + 1] = "### `" .. block.title .. "`\n\n" .. block_text(block) .. "\n"
    end
  end
  return table.concat(out, "\n")
end

local function library_files(files)
  local list = io.popen "find lua/moonlet -name '*.lua' | LC_ALL=C sort"
  for path in list:lines() do
    local part = path:match "^lua/moonlet/([%w_]+)/" or "moonlet"
    local target = ("docs/library/%s.md"):format(part)
    local title = part == "moonlet" and part or "moon." .. part
    local before = files[target] or NOTE .. "# " .. title .. "\n"
    files[target] = before .. "\n" .. describe_file(path)
  end
  list:close()
end

-- -- writing

local function read(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local text = file:read "*a"
  file:close()
  return text
end

local function write(path, text)
  os.execute(("mkdir -p %s"):format(path:match "^(.*)/"))
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

local function tidy(text)
  return (text:gsub("[ \t]+\n", "\n"):gsub("\n\n\n+", "\n\n"):gsub("\n+$", "\n"))
end

local files, stale = {}, {}
operator_files(files)
library_files(files)
for path, text in pairs(files) do
  text = tidy(text)
  if read(path) ~= text then
    stale[#stale + 1] = path
    if arg[1] ~= "--check" then write(path, text) end
  end
end
table.sort(stale)
for _, path in ipairs(stale) do print(path) end
os.exit(arg[1] == "--check" and #stale > 0 and 1 or 0)
