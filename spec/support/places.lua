-- Positions and lines of tensors, for naive references: a position is a list of indices from 1.
local naive = require "spec.support.naive"

local places = {}

function places.copy(at)
  local copy = {}
  for i = 1, #at do copy[i] = at[i] end
  return copy
end

-- A copy of a position with the index of one dimension changed.
function places.with(at, dim, index)
  local copy = places.copy(at)
  copy[dim] = index
  return copy
end

-- A copy without one dimension; with one inserted at `dim`.
function places.without(at, dim)
  local copy = {}
  for i = 1, #at do if i ~= dim then copy[#copy + 1] = at[i] end end
  return copy
end

function places.inserted(at, dim, index)
  local copy = {}
  for i = 1, #at + 1 do copy[i] = i < dim and at[i] or i == dim and index or at[i - 1] end
  return copy
end

-- What may be counted from the end (-1 the last of n), counted from 1; so a dimension of x.
function places.normal(i, n) return i < 0 and i + n + 1 or i end
function places.dim(x, dim) return places.normal(dim, x:dim()) end

local function value(x, at)
  local v = naive.at(x, at)
  if type(v) == "boolean" then return v and 1 or 0 end
  return v
end

-- The numbers of x along dim through a position.
function places.line(x, dim, at)
  local list = {}
  for i = 1, x:size(dim) do list[i] = value(x, places.with(at, dim, i)) end
  return list
end

-- f(line) for each line of x along dim: a list of `count` numbers, which become the line of the
-- result. f may give several lists, for `number` results.
function places.lines(x, dim, count, f, number)
  local shape = places.with(x:size(), dim, count)
  local cache, results = {}, {}
  local function lists_at(at)
    local key = table.concat(places.without(at, dim), ",")
    cache[key] = cache[key] or { f(places.line(x, dim, places.with(at, dim, 1))) }
    return cache[key]
  end
  for k = 1, number or 1 do
    results[k] = naive.build(shape, function(at) return lists_at(at)[k][at[dim]] end)
  end
  return (table.unpack or unpack)(results)
end

-- f(line) -> number for each line of x along dim, which disappears unless it is kept.
function places.reduced(x, dim, keepdim, f)
  local shape = keepdim and places.with(x:size(), dim, 1) or places.without(x:size(), dim)
  return naive.build(shape, function(at)
    local full = keepdim and places.with(at, dim, 1) or places.inserted(at, dim, 1)
    return f(places.line(x, dim, full))
  end)
end

-- f(list) over the dimensions named (a number, a list, or nil: all of them), which disappear unless
-- they are kept.
function places.over(x, dims, keepdim, f)
  dims = type(dims) == "number" and { dims } or dims or {}
  local reduced, shape, result = {}, {}, {}
  for _, d in ipairs(dims) do reduced[places.dim(x, d)] = true end
  for i = 1, x:dim() do
    reduced[i] = #dims == 0 or reduced[i]
    shape[i] = reduced[i] and 1 or x:size(i)
    if keepdim or not reduced[i] then result[#result + 1] = shape[i] end
  end
  return naive.build(shape, function(at)
    local list = {}
    for from in naive.positions(x:size()) do
      local same = true
      for i = 1, #from do same = same and (reduced[i] or from[i] == at[i]) end
      if same then list[#list + 1] = value(x, from) end
    end
    return f(list)
  end):reshape(result)
end

-- All numbers in row-major order.
function places.all(x)
  local list = {}
  for at in naive.positions(x:size()) do list[#list + 1] = value(x, at) end
  return list
end

-- The element of x at a position of a shape that x is broadcast to.
function places.broadcast(x, at)
  if not (type(x) == "userdata" or type(x) == "table") then return x end
  local own, missing = {}, #at - x:dim()
  for i = 1, x:dim() do own[i] = x:size(i) == 1 and 1 or at[i + missing] end
  return value(x, own)
end

-- The shape that tensors broadcast to.
function places.shape_of(...)
  local shape = {}
  for k = 1, select("#", ...) do
    local x = select(k, ...)
    local size = (type(x) == "userdata" or type(x) == "table") and x:size() or {}
    while #shape < #size do table.insert(shape, 1, 1) end
    for i = 1, #size do
      local to = #shape - #size + i
      if size[i] ~= 1 then shape[to] = size[i] end
    end
  end
  return shape
end

-- f(numbers...) element by element over broadcast tensors.
function places.pointwise(f, ...)
  local inputs, count = { ... }, select("#", ...)
  return naive.build(places.shape_of(...), function(at)
    local numbers = {}
    for k = 1, count do numbers[k] = places.broadcast(inputs[k], at) end
    return f((table.unpack or unpack)(numbers))
  end)
end

return places
