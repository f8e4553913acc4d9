-- Arguments that are the sizes of some dimensions: a whole number, or a list of them.

local options = require "moonlet.options"

local M = {}

local function is_size(value)
  return type(value) == "number" and value >= 1 and value == math.floor(value)
end

--- The sizes as a list of its own.
-- @string owner who asks, the first word of the message
-- @string name the argument's name
-- @param value what was passed
-- @int[opt=4] level whom to blame; 4 suits an `init` that a constructor calls
function M.read(owner, name, value, level)
  local list = {}
  for i, size in ipairs(type(value) == "table" and value or { value }) do
    if not is_size(size) then list = {} break end
    list[i] = size
  end
  if #list == 0 or (type(value) == "table" and #list ~= #value) then
    error(("%s: %s must be a whole number from 1 or a list of them, not %s"):format(
      owner, name, options.show(value)), level or 4)
  end
  return list
end

--- "4" or "{3, 4}".
function M.text(list)
  if #list == 1 then return tostring(list[1]) end
  return "{" .. table.concat(list, ", ") .. "}"
end

return M
