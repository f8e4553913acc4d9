-- Options that are a whole number for all directions or a list of one a direction, and padding,
-- which may be a list of {before, after} or a word: their types, printing, reading.

local M = {}

--- What moonlet.options calls a number for each of one, two or three dimensions.
M.kinds = { "single", "pair", "triple" }

--- "3", "{3, 5}", "{{1, 2}, {0, 0}}" or the word in quotes.
function M.text(value)
  if type(value) == "string" then return '"' .. value .. '"' end
  if type(value) ~= "table" then return tostring(value) end
  local parts = {}
  for i, member in ipairs(value) do parts[i] = M.text(member) end
  return "{" .. table.concat(parts, ", ") .. "}"
end

--- Refuses a number below `least`, alone or in a list, nested as padding may be; words pass.
-- @string owner who asks, the first word of the message
-- @string name the option's name
-- @param value a number, a list or a word
-- @int least the smallest number allowed
-- @int level whom to blame
function M.at_least(owner, name, value, least, level)
  if type(value) == "number" and value < least then
    error(("%s: %s must be at least %d, not %s"):format(owner, name, least, M.text(value)), level)
  end
  for _, member in ipairs(type(value) == "table" and value or {}) do
    M.at_least(owner, name, member, least, level + 1)
  end
end

--- A list of `count` numbers.
function M.list(value, count)
  local list = {}
  for i = 1, count do
    list[i] = type(value) == "table" and (value[i] or value[1]) or value
  end
  return list
end

--- Padding in numbers as moon.pad takes them: before and after of each dimension, the last first.
-- @param padding a whole number, a list or a word, as for moon.conv2d
-- @param kernel its sizes, one a dimension
-- @param dilation likewise
function M.pads(padding, kernel, dilation)
  local list, count = {}, #kernel
  for i = count, 1, -1 do
    local reach = dilation[i] * (kernel[i] - 1)
    local side = padding
    if type(padding) == "table" then side = padding[i] or padding[1] end
    local before, after = side, side
    if side == "same" then before, after = math.floor(reach / 2), math.ceil(reach / 2)
    elseif side == "full" then before, after = reach, reach
    elseif side == "valid" then before, after = 0, 0
    elseif type(side) == "table" then before, after = side[1], side[2]
    end
    list[#list + 1], list[#list + 2] = before, after
  end
  return list
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
