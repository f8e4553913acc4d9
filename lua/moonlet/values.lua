-- The arguments and results of calls, as lists.

local core = require "moonlet.core"

local M = {}

-- A list of the values with their number, nil among them counted, as n.
function M.pack(...) return { n = select("#", ...), ... } end

-- The tensors among values 1..n, and their places.
function M.tensors(values)
  local list, places = {}, {}
  for i = 1, values.n do
    if core.is_tensor(values[i]) then
      list[#list + 1] = values[i]
      places[#places + 1] = i
    end
  end
  return list, places
end

-- Whether two tensors have the same sizes.
function M.same_shape(a, b)
  local x, y = a:size(), b:size()
  if #x ~= #y then return false end
  for i = 1, #x do
    if x[i] ~= y[i] then return false end
  end
  return true
end

return M
