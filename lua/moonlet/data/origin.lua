-- Origins: how a dataset or a transform crosses into a worker thread's Lua state.
--
-- An object that can cross answers origin(): the module that makes it and the plain arguments to
-- call that module's value with. Numbers, strings, booleans, tensors (by reference, not copied),
-- plain tables of those and other objects with an origin are plain. A closure is not, and the error
-- says which field held it and where it was written.

local core = require "moonlet.core"
local unpack = require "moonlet.unpack"

local M = {}

local KEY = "moonlet_origin"

local function where(fn)
  local info = debug.getinfo(fn, "S")
  return ("%s:%d"):format(info.short_src, info.linedefined)
end

local encode

local function encode_table(value, path, seen)
  if seen[value] then return nil, path .. " holds itself" end
  seen[value] = true
  local result = {}
  for key, member in pairs(value) do
    local name = type(key) == "number" and ("%s[%s]"):format(path, key)
      or ("%s.%s"):format(path, tostring(key))
    local plain, problem = encode(member, name, seen)
    if problem then return nil, problem end
    result[key] = plain
  end
  seen[value] = nil
  return result
end

local function encode_object(value, path, seen)
  local meta = getmetatable(value)
  if type(meta) ~= "table" or type(value.origin) ~= "function" then
    return nil, path .. " is an object without an origin; data.named makes one from a module"
  end
  local origin = value:origin()
  if not origin then
    return nil, ("%s (%s) does not say which module makes it; data.named does"):format(
      path, tostring(value))
  end
  local arguments, problem = encode(origin.arguments or {}, path, seen)
  if problem then return nil, problem end
  return { [KEY] = origin.module, arguments = arguments, count = origin.count }
end

encode = function(value, path, seen)
  local kind = type(value)
  if kind == "table" then
    if getmetatable(value) then return encode_object(value, path, seen) end
    return encode_table(value, path, seen)
  elseif kind == "function" then
    return nil, ("%s is a Lua function (%s), which stays in the state that made it"):format(
      path, where(value))
  elseif kind == "userdata" and not core.is_tensor(value) or kind == "thread" then
    return nil, ("%s is a %s"):format(path, kind)
  end
  return value
end

--- The plain form of a value, or nil and a sentence that says what is in the way.
-- @param value what to send
-- @string path what to call it in the sentence
function M.encode(value, path)
  return encode(value, path, {})
end

local function decode(value)
  if type(value) ~= "table" then return value end
  local result = {}
  for key, member in pairs(value) do
    if key ~= KEY then result[key] = decode(member) end
  end
  local name = value[KEY]
  if not name then return result end
  local make = require(name)
  local rebuild = type(make) == "table" and rawget(make, "rebuild")
  if rebuild then return rebuild(result.arguments) end
  return make(unpack(result.arguments, 1, result.count))
end

--- The value again, built from its plain form.
-- @param plain what encode gave
M.decode = decode

return M
