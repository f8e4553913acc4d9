-- How a module's fields are read: which are parameters, buffers and children, in which order.
--
-- Fields come in the order of their first assignment (module.lua's __newindex keeps it). A plain
-- table among them is looked into as well: its array part in order, then its string keys sorted, so
-- `self.blocks = { a, b }` gives "blocks.1" and "blocks.2". Costs a walk over the fields; nothing
-- is cached.

local core = require "moonlet.core"

local M = {}

local is_tensor, is_lazy = core.is_tensor, core.is_lazy

-- Tensors in plain tables that were once found to be parameters, and stay so when frozen.
local known = setmetatable({}, { __mode = "k" })

--- "parameter", "buffer", "module", "table", "function" or nil for a field's value.
-- A field stays a parameter when its gradient is turned off, since `kinds` remembers it.
local function kind_of(value, remembered)
  if type(value) == "userdata" then
    if not is_tensor(value) then return nil end
    if remembered == "buffer" or remembered == "parameter" then return remembered end
    if is_lazy(value) then return "parameter" end
    if value.requires_grad and value.is_leaf then return "parameter" end
  elseif type(value) == "table" then
    local meta = getmetatable(value)
    if meta == nil then return "table" end
    if type(meta) == "table" and meta.is_moonlet_module then return "module" end
  elseif type(value) == "function" then
    return "function"
  end
  return nil
end
M.kind_of = kind_of

local function sorted_keys(list)
  local keys, names = {}, {}
  for i = 1, #list do keys[i] = i end
  for key in pairs(list) do
    if type(key) == "string" then names[#names + 1] = key end
  end
  table.sort(names)
  for _, name in ipairs(names) do keys[#keys + 1] = name end
  return keys
end

-- Adds the entries of a plain table; `path` guards against tables that hold themselves.
local function add_list(entries, prefix, list, path)
  if path[list] then return end
  path[list] = true
  for _, key in ipairs(sorted_keys(list)) do
    local value = list[key]
    local name = prefix .. "." .. tostring(key)
    local kind = kind_of(value, known[value])
    if kind == "parameter" then known[value] = kind end
    if kind == "table" then
      add_list(entries, name, value, path)
    elseif kind then
      entries[#entries + 1] = { name = name, value = value, kind = kind, holder = list, key = key }
    end
  end
  path[list] = nil
end

--- What a module holds itself, in order: { name, value, kind, holder, key }.
function M.entries(module)
  local entries = {}
  local kinds = rawget(module, "_kinds") or {}
  for _, key in ipairs(rawget(module, "_fields") or {}) do
    local value = rawget(module, key)
    local kind = kind_of(value, kinds[key])
    if kind == "parameter" then kinds[key] = kind end
    if kind == "table" then
      add_list(entries, tostring(key), value, {})
    elseif kind then
      entries[#entries + 1] =
        { name = tostring(key), value = value, kind = kind, holder = module, key = key }
    end
  end
  return entries
end

--- Calls visit(name, entry) for every entry at or below `module`, depth first; a child module is
-- visited before what it holds. A module that is reached again inside itself is not entered.
function M.each(module, visit, prefix, path)
  path = path or {}
  path[module] = true
  for _, entry in ipairs(M.entries(module)) do
    local name = prefix and (prefix .. "." .. entry.name) or entry.name
    visit(name, entry)
    if entry.kind == "module" and not path[entry.value] then
      M.each(entry.value, visit, name, path)
    end
  end
  path[module] = nil
end

--- All entries of one kind as a list of { name, value, ... }; each value once unless `repeated`.
function M.collect(module, kind, repeated)
  local found, seen = {}, {}
  M.each(module, function(name, entry)
    if entry.kind ~= kind or (seen[entry.value] and not repeated) then return end
    seen[entry.value] = true
    found[#found + 1] =
      { name = name, value = entry.value, holder = entry.holder, key = entry.key }
  end)
  return found
end

return M
