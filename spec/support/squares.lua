-- A dataset of one's own, as a user's module would be: sample i is i squared.
return function(count)
  local set = {}
  function set.size() return count end
  function set.get(_, i) return i * i end
  return setmetatable(set, {})
end
