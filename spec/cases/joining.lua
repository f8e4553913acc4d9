-- Cases of joining: putting tensors together and taking them apart.
local case = require "spec.support.case"
local naive = require "spec.support.naive"
local places = require "spec.support.places"
local T, L = case.float, case.list
local copy, normal = places.copy, places.normal

-- The part of x that starts after `before` positions of a dimension and is `length` long.
local function part(x, dim, before, length)
  local shape = x:size()
  shape[dim] = length
  return naive.build(shape, function(position)
    local at = copy(position)
    at[dim] = at[dim] + before
    return naive.at(x, at)
  end)
end

local function cut(x, size, dim)
  dim = normal(dim or 1, x:dim())
  local parts, length = {}, x:size(dim)
  for before = 0, math.max(0, length - 1), size do
    parts[#parts + 1] = part(x, dim, before, math.min(size, length - before))
  end
  return parts
end

local function joined(list, dim)
  dim = normal(dim or 1, list[1]:dim())
  local shape = list[1]:size()
  for i = 2, #list do shape[dim] = shape[dim] + list[i]:size(dim) end
  return naive.build(shape, function(position)
    local at, member = copy(position), 1
    while at[dim] > list[member]:size(dim) do
      at[dim] = at[dim] - list[member]:size(dim)
      member = member + 1
    end
    return naive.at(list[member], at)
  end)
end

-- The elements of x without position `dim`, which is `index`.
local function slice(x, dim, index)
  local shape = x:size()
  table.remove(shape, dim)
  return naive.build(shape, function(position)
    local at = copy(position)
    table.insert(at, dim, index)
    return naive.at(x, at)
  end)
end

local function unbound(x, dim)
  dim = normal(dim or 1, x:dim())
  local list = {}
  for i = 1, x:size(dim) do list[i] = slice(x, dim, i) end
  return list
end

local function stacked(list, dim)
  dim = normal(dim or 1, list[1]:dim() + 1)
  local shape = list[1]:size()
  table.insert(shape, dim, #list)
  return naive.build(shape, function(position)
    local at = copy(position)
    return naive.at(list[table.remove(at, dim)], at)
  end)
end

local function flipped(x, dims)
  local over = {}
  if dims == nil then
    for i = 1, x:dim() do over[i] = true end
  else
    for _, dim in ipairs(type(dims) == "table" and dims or { dims }) do
      over[normal(dim, x:dim())] = true
    end
  end
  return naive.build(x:size(), function(position)
    local at = copy(position)
    for i in pairs(over) do at[i] = x:size(i) + 1 - at[i] end
    return naive.at(x, at)
  end)
end

return {
  cat = {
    naive = joined,
    cases = {
      { L { T { 2, 3 }, T { 4, 3 } }, torch = "torch.cat(l)" },
      { L { T { 2, 1, 3 }, T { 2, 0, 3 }, T { 2, 2, 3 } }, 2, torch = "torch.cat(l, 1)" },
      { L { T { 2, 3 } }, -1, torch = "torch.cat(l, -1)" },
      { L { T { 0 }, T { 0 } }, torch = "torch.cat(l)" },
    },
    fuzz = function(draw)
      local shape, dim, list = { draw(1, 3), draw(1, 3), draw(1, 3) }, draw(1, 3), {}
      for i = 1, draw(1, 4) do
        local size = copy(shape)
        size[dim] = draw(0, 3)
        list[i] = T(size)
      end
      return { L(list), dim }
    end,
    large = { L { T { 300, 400 }, T { 300, 500 } }, 2 },
  },
  stack = {
    naive = stacked,
    cases = {
      { L { T { 2, 3 }, T { 2, 3 } }, torch = "torch.stack(l)" },
      { L { T { 2, 3 }, T { 2, 3 }, T { 2, 3 } }, -1, torch = "torch.stack(l, -1)" },
      { L { T {}, T {} }, torch = "torch.stack(l)" },
      { L { T { 0, 2 } }, 2, torch = "torch.stack(l, 1)" },
    },
    fuzz = function(draw)
      local shape, list = { draw(0, 3), draw(1, 3) }, {}
      for i = 1, draw(1, 4) do list[i] = T(shape) end
      return { L(list), draw(1, 3) }
    end,
  },
  halve = {
    call = function(x, dim, at)   -- what splitting in two is made of
      local parts = x:split(at, dim)
      return parts[1], parts[2]
    end,
    naive = function(x, dim, at)
      return part(x, dim, 0, at), part(x, dim, at, x:size(dim) - at)
    end,
    cases = {
      { T { 4, 3 }, 1, 2, torch = "(a[:2], a[2:])" },
      { T { 2, 3, 2 }, 2, 2, torch = "(a[:, :2], a[:, 2:])" },
    },
  },
  split = {
    naive = cut,
    cases = {
      { T { 5, 2 }, 2, torch = "torch.split(a, 2)" },
      { T { 2, 7 }, 3, -1, torch = "torch.split(a, 3, -1)" },
      { T { 3, 2 }, 4, torch = "torch.split(a, 4)" },
      { T { 0, 2 }, 2, torch = "torch.split(a, 2)" },
    },
    fuzz = function(draw) return { T { draw(1, 9), draw(0, 3) }, draw(1, 5), 1 } end,
  },
  chunk = {
    naive = function(x, n, dim)
      local length = x:size(normal(dim or 1, x:dim()))
      return cut(x, math.max(1, math.ceil(length / n)), dim)
    end,
    cases = {
      { T { 7, 2 }, 3, torch = "torch.chunk(a, 3)" },
      { T { 2, 5 }, 2, 2, torch = "torch.chunk(a, 2, 1)" },
      { T { 3, 1 }, 5, torch = "torch.chunk(a, 5)" },
    },
    fuzz = function(draw) return { T { draw(1, 9), draw(1, 3) }, draw(1, 4), 1 } end,
  },
  unbind = {
    naive = unbound,
    cases = {
      { T { 3, 2 }, torch = "torch.unbind(a)" },
      { T { 2, 4, 3 }, -2, torch = "torch.unbind(a, -2)" },
      { T { 1, 0 }, torch = "torch.unbind(a)" },
      { T { 4 }, torch = "torch.unbind(a)" },
    },
    fuzz = function(draw) return { T { draw(1, 5), draw(1, 5), draw(0, 2) }, draw(1, 2) } end,
  },
  flip = {
    naive = flipped,
    cases = {
      { T { 2, 3 }, torch = "torch.flip(a, (0, 1))" },
      { T { 2, 3, 2 }, { 1, 3 }, torch = "torch.flip(a, (0, 2))" },
      { T { 4, 2 }, -1, torch = "torch.flip(a, (-1,))" },
      { T { 0, 2 }, 1, torch = "torch.flip(a, (0,))" },
    },
    fuzz = function(draw) return { T { draw(0, 4), draw(1, 4) }, draw(1, 2) } end,
  },
}
