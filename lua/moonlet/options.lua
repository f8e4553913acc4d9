-- Checks tables of named options against a schema: types, defaults, required names. An unknown
-- name is an error that lists the known ones and suggests the nearest.
--
-- A schema maps a name to { type, default } (and `required = true`). Types:
--   "number" "integer" "positive" (whole, 1 or more) "count" (whole, 0 or more)
--   "boolean" "string" "function" "table"
--   "from_zero" "above_zero" (finite numbers) "share" (0 to 1) "fraction" (0 to below 1)
--   "tensor" "callable" (a function or something that can be called)
--   "pair" (a whole number for both, or a list of two), "single", "triple" (of one, of three)
--   "pads1" "pads2" "pads3" (padding of so many dimensions: a whole number, a list of whole numbers
--   or {before, after}, or one of the words)   "any"   { "a", "b" } one of these strings

local M = {}

local function is_whole(value)
  return type(value) == "number" and value == math.floor(value) and value - value == 0
end

local function is_callable(value)
  if type(value) == "function" then return true end
  local meta = getmetatable(value)
  return type(meta) == "table" and meta.__call ~= nil
end

local function is_tensor(value)
  return type(value) == "userdata" and require("moonlet.core").is_tensor(value)
end

local function is_finite(value)
  return type(value) == "number" and value - value == 0
end

-- A whole number, or a list of `count` of them.
local function numbers(count, words)
  local function test(v)
    if is_whole(v) then return true end
    if type(v) ~= "table" or #v ~= count then return false end
    for i = 1, count do
      if not is_whole(v[i]) then return false end
    end
    return true
  end
  return { test, "a whole number or a list of " .. words }
end

local pad_words = { same = true, valid = true, full = true }

local function is_pair(v)
  return type(v) == "table" and #v == 2 and is_whole(v[1]) and is_whole(v[2])
end

-- Padding of `count` dimensions, in the forms that moon.conv2d takes.
local function pads(count, example)
  local function test(v)
    if is_whole(v) or (type(v) == "string" and pad_words[v]) then return true end
    if type(v) ~= "table" or (#v ~= count and #v ~= 1) then return false end
    for i = 1, #v do
      if not is_whole(v[i]) and not is_pair(v[i]) then return false end
    end
    return true
  end
  return { test, "a whole number, a list such as " .. example
    .. ', or one of "same", "valid", "full"' }
end

-- Each type: a test and the words for what it wants.
local kinds = {
  number = { function(v) return type(v) == "number" end, "a number" },
  integer = { is_whole, "a whole number" },
  from_zero = { function(v) return is_finite(v) and v >= 0 end, "a number from 0" },
  above_zero = { function(v) return is_finite(v) and v > 0 end, "a number above 0" },
  share = { function(v) return is_finite(v) and v >= 0 and v <= 1 end, "a number from 0 to 1" },
  fraction = {
    function(v) return is_finite(v) and v >= 0 and v < 1 end, "a number from 0 to below 1",
  },
  positive = { function(v) return is_whole(v) and v >= 1 end, "a whole number from 1" },
  count = { function(v) return is_whole(v) and v >= 0 end, "a whole number from 0" },
  boolean = { function(v) return type(v) == "boolean" end, "true or false" },
  string = { function(v) return type(v) == "string" end, "a string" },
  ["function"] = { function(v) return type(v) == "function" end, "a function" },
  table = { function(v) return type(v) == "table" end, "a table" },
  callable = { is_callable, "a function or a callable object" },
  tensor = { is_tensor, "a tensor" },
  any = { function() return true end, "anything" },
  single = numbers(1, "one"),
  pair = numbers(2, "two"),
  triple = numbers(3, "three"),
  pads1 = pads(1, "{1} or {{1, 2}}"),
  pads2 = pads(2, "{1, 2} or {{1, 2}, {0, 0}}"),
  pads3 = pads(3, "{1, 2, 0} or {{1, 2}, {0, 0}, {1, 1}}"),
}

local function one_of(choices)
  local words = {}
  for i, choice in ipairs(choices) do words[i] = '"' .. choice .. '"' end
  local function test(v)
    for _, choice in ipairs(choices) do
      if v == choice then return true end
    end
    return false
  end
  return { test, "one of " .. table.concat(words, ", ") }
end

-- Number of single-letter edits between two words.
local function distance(a, b)
  local row = {}
  for j = 0, #b do row[j] = j end
  for i = 1, #a do
    local diagonal = row[0]
    row[0] = i
    for j = 1, #b do
      local cost = a:byte(i) == b:byte(j) and 0 or 1
      local best = math.min(row[j] + 1, row[j - 1] + 1, diagonal + cost)
      diagonal, row[j] = row[j], best
    end
  end
  return row[#b]
end

--- The name nearest to `word` among `names`, if one is near enough to be a misspelling.
-- @usage assert(require "moonlet.options".nearest("pading", {"stride", "padding"}) == "padding")
function M.nearest(word, names)
  local best, best_distance
  for _, name in ipairs(names) do
    local d = distance(word:lower(), name:lower())
    if not best or d < best_distance then best, best_distance = name, d end
  end
  if best and best_distance <= math.max(2, math.floor(#word / 3)) then return best end
end

local function sorted_names(schema)
  local names = {}
  for name in pairs(schema) do names[#names + 1] = name end
  table.sort(names)
  return names
end

--- How a value reads in a message.
function M.show(value)
  if type(value) == "string" then return '"' .. value .. '"' end
  if type(value) == "number" or type(value) == "boolean" or value == nil then
    return tostring(value)
  end
  if is_tensor(value) then return "a tensor" end
  return "a " .. type(value)
end

local function unknown(owner, key, schema)
  if type(key) ~= "string" then
    return ("%s: options have names, such as {%s = ...}; found a value at position %s"):format(
      owner, sorted_names(schema)[1] or "name", tostring(key))
  end
  local names = sorted_names(schema)
  if #names == 0 then return ('%s: there is no option "%s"; it takes none'):format(owner, key) end
  local near = M.nearest(key, names)
  return ('%s: there is no option "%s"%s; known: %s'):format(
    owner, key, near and (', did you mean "' .. near .. '"?') or "", table.concat(names, ", "))
end

local function wrong(owner, name, rule, value)
  local kind = type(rule[1]) == "table" and one_of(rule[1]) or kinds[rule[1]]
  if kind[1](value) then return nil end
  return ("%s: %s must be %s, not %s"):format(owner, name, kind[2], M.show(value))
end

--- Reads an option table: a new table with every default filled in.
-- @string owner who asks, the first word of every message
-- @tparam ?table given what the caller passed
-- @tparam table schema name to { type, default, required = true? }
-- @int[opt=4] level whom to blame; 4 suits an `init` that a constructor calls
-- @usage local options = require "moonlet.options"
-- local o = options.read("blur", { radius = 2 }, { radius = { "number", 1 }, edge = { "string" } })
-- assert(o.radius == 2)
function M.read(owner, given, schema, level)
  level = level or 4
  if given ~= nil and type(given) ~= "table" then
    error(("%s: options are a table, such as {%s = ...}, not %s"):format(
      owner, sorted_names(schema)[1] or "name", M.show(given)), level)
  end
  given = given or {}
  for key in pairs(given) do
    if schema[key] == nil then error(unknown(owner, key, schema), level) end
  end
  local result = {}
  for name, rule in pairs(schema) do
    local value = given[name]
    if value == nil then
      if rule.required then error(("%s: %s is missing"):format(owner, name), level) end
      value = rule[2]
    else
      local message = wrong(owner, name, rule, value)
      if message then error(message, level) end
    end
    result[name] = value
  end
  return result
end

--- Checks one positional argument and returns it.
-- @string owner who asks
-- @string name the argument's name
-- @param value what was passed
-- @string kind a type as in a schema
-- @int[opt=4] level whom to blame
function M.argument(owner, name, value, kind, level)
  local message = wrong(owner, name, { kind }, value)
  if message then error(message, level or 4) end
  return value
end

return M
