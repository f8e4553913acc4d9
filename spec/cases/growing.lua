-- Cases of growing: joining along channels without copying what is there.
local moon = require "moonlet"
local case = require "spec.support.case"
local naive = require "spec.support.naive"
local T = case.float

local function joined(x, more)
  local shape, channels = x:size(), x:size(2)
  shape[2] = channels + more:size(2)
  return naive.build(shape, function(position)
    local at = { position[1], position[2], position[3], position[4], position[5] }
    if at[2] <= channels then return naive.at(x, at) end
    at[2] = at[2] - channels
    return naive.at(more, at)
  end)
end

local appended = {
  { T { 2, 3, 2, 4 }, T { 2, 2, 2, 4 }, torch = "torch.cat((a, b), 1)" },
  { T { 1, 1, 3 }, T { 1, 1, 3 }, torch = "torch.cat((a, b), 1)" },
  { T { 2, 2, 1, 3, 2 }, T { 2, 3, 1, 3, 2 }, torch = "torch.cat((a, b), 1)" },
  { T { 2, 3, 1, 1 }, T { 2, 1, 1, 1 }, torch = "torch.cat((a, b), 1)" },
  { T { 0, 3, 2, 2 }, T { 0, 2, 2, 2 }, torch = "torch.cat((a, b), 1)" },
  { T { 2, 3, 2, 2 }, T { 2, 0, 2, 2 }, torch = "torch.cat((a, b), 1)" },
}

return {
  append = {
    naive = joined,
    call = function(x, more) return moon.append(moon.reserve(x, more:size(2)), more) end,
    cases = appended,
  },
  reserve = {
    naive = function(x) return x end,
    cases = {
      { T { 2, 3, 2, 4 }, 5, torch = "a.clone()" },
      { T { 1, 1, 3 }, 0, torch = "a.clone()" },
      { T { 0, 2, 2, 2, 1 }, 1, torch = "a.clone()" },
    },
  },
}
