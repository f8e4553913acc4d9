-- Flags: the command line of a script, from one table a flag. An unknown flag or a wrong value is a
-- sentence on the error output and exit status 2; --help prints the table.
--
-- A row is { name, kind, default, help }; kinds: "number" "integer" "string" "switch" (no value)
-- and a list of allowed strings. Both --name value and --name=value are read.

local options = require "moonlet.options"

local M = {}

local function is_whole(number) return number and number == math.floor(number) end

local readers = {
  string = function(text) return text end,
  number = function(text) return tonumber(text), "a number" end,
  integer = function(text)
    local number = tonumber(text)
    return is_whole(number) and number or nil, "a whole number"
  end,
}

local function read_choice(choices, text)
  for _, choice in ipairs(choices) do
    if choice == text then return text end
  end
  return nil, "one of " .. table.concat(choices, ", ")
end

local function read_value(row, text)
  if type(row[2]) == "table" then return read_choice(row[2], text) end
  return readers[row[2]](text)
end

local function by_name(rows)
  local index, names = {}, { "--help" }
  for _, row in ipairs(rows) do
    index[row[1]] = row
    names[#names + 1] = "--" .. row[1]
  end
  return index, names
end

local function unknown(name, names)
  local near = options.nearest("--" .. name, names)
  return ("there is no flag --%s%s; --help lists the flags"):format(
    name, near and (", did you mean " .. near .. "?") or "")
end

local function take(result, row, name, text, next_text)
  if row[2] == "switch" then
    if text then return nil, ("--%s takes no value"):format(name) end
    result[name], result.given[name] = true, true
    return 0
  end
  local value_text = text or next_text
  if not value_text then return nil, ("--%s needs a value"):format(name) end
  local value, wanted = read_value(row, value_text)
  if value == nil then
    return nil, ("--%s must be %s, not %s"):format(name, wanted, value_text)
  end
  result[name], result.given[name] = value, true
  return text and 0 or 1
end

--- Reads a list of arguments: the values by name, and `given`, which of them were asked for; or nil
-- and a sentence. `help` is true when --help was among them.
-- @tparam table rows the flags
-- @tparam table arguments the command line
-- @usage local flags = require "moonlet.flags"
-- local o = flags.parse({ { "lr", "number", 0.1, "learning rate" } }, { "--lr", "0.5" })
-- assert(o.lr == 0.5)
function M.parse(rows, arguments)
  local index, names = by_name(rows)
  local result = { given = {} }
  for _, row in ipairs(rows) do result[row[1]] = row[3] end
  local i = 1
  while i <= #arguments do
    local name, text = arguments[i]:match("^%-%-([%w-]+)=(.*)$")
    name = name or arguments[i]:match("^%-%-([%w-]+)$")
    if not name then return nil, ('"%s" is no flag; --help lists them'):format(arguments[i]) end
    if name == "help" then
      result.help = true
    elseif not index[name] then
      return nil, unknown(name, names)
    else
      local used, problem = take(result, index[name], name, text, arguments[i + 1])
      if not used then return nil, problem end
      i = i + used
    end
    i = i + 1
  end
  return result
end

local function kind_text(row)
  if row[2] == "switch" then return "" end
  if type(row[2]) == "table" then return " " .. table.concat(row[2], "|") end
  return " " .. row[2]:upper()
end

--- The text of --help.
function M.help(rows, usage)
  local lines = { usage, "" }
  for _, row in ipairs(rows) do
    local default = ""
    if row[3] ~= nil and row[2] ~= "switch" then default = (" (%s)"):format(tostring(row[3])) end
    local flag = "--" .. row[1] .. kind_text(row)
    lines[#lines + 1] = ("  %-26s %s%s"):format(flag, row[4], default)
  end
  return table.concat(lines, "\n")
end

--- Reads a script's command line; prints and exits for --help and for mistakes.
-- @tparam table rows the flags
-- @tparam table arguments usually `arg`
-- @string usage the first line of the help
function M.read(rows, arguments, usage)
  local result, problem = M.parse(rows, arguments)
  if not result then
    io.stderr:write(problem, "\n")
    os.exit(2)
  end
  if result.help then
    print(M.help(rows, usage))
    os.exit(0)
  end
  return result
end

return M
