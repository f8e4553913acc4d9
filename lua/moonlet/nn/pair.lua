-- Options that are a whole number for both directions or a list of two: printing and unpacking.

local M = {}

--- "3" or "{3, 5}".
function M.text(value)
  if type(value) == "table" then return ("{%s, %s}"):format(value[1], value[2]) end
  return tostring(value)
end

--- Height and width of a pair.
function M.unpack(value)
  if type(value) == "table" then return value[1], value[2] end
  return value, value
end

--- ", name = value" for each option that is not at its default; in the order of `names`.
function M.options_text(owner, names, defaults)
  local parts = {}
  for _, name in ipairs(names) do
    local value = owner[name]
    if value ~= defaults[name] and value ~= nil then
      parts[#parts + 1] = (", %s = %s"):format(name, M.text(value))
    end
  end
  return table.concat(parts)
end

return M
