-- Pooling by its definition: the positions a window sees, as PyTorch counts them, and what becomes
-- of the numbers there. The reference for cases and specs.
local naive = require "spec.support.naive"

local windows = {}

-- A number, or a list, as one number a dimension.
function windows.sides(value, dims)
  if type(value) == "table" and #value == dims then return value end
  if type(value) == "table" then value = value[1] end
  local list = {}
  for i = 1, dims do list[i] = value end
  return list
end

-- The positions, from 1, that window number `at` sees along a dimension, and how many there are
-- with those in the padding.
local function seen(at, size, kernel, stride, padding, dilation)
  local list, padded = {}, 0
  for tap = 0, kernel - 1 do
    local position = (at - 1) * stride - padding + tap * dilation + 1
    if position <= size + padding then padded = padded + 1 end
    if position >= 1 and position <= size then list[#list + 1] = position end
  end
  return list, padded
end

-- A last window may hang over the end, but must start inside the input or its left padding.
local function count_windows(size, kernel, stride, padding, dilation, ceil_mode)
  local room = size + 2 * padding - dilation * (kernel - 1) - 1
  local count = (ceil_mode and math.ceil or math.floor)(room / stride) + 1
  if ceil_mode and (count - 1) * stride >= size + padding then count = count - 1 end
  return count
end

-- Calls fn(members), one of each list, for every combination; the table is used again.
local function product(lists, fn)
  local at = {}
  local function go(i)
    if i > #lists then return fn(at) end
    for _, member in ipairs(lists[i]) do
      at[i] = member
      go(i + 1)
    end
  end
  go(1)
end

-- A result of `shape` whose element is reduce(values, positions, padded): what the window sees.
-- lists_at(at) gives a list of positions for each dimension behind the channel.
function windows.reduced(x, shape, lists_at, reduce)
  return naive.build(shape, function(at)
    local values, positions = {}, {}
    local lists, padded = lists_at(at)
    product(lists, function(inside)
      local position, flat = { at[1], at[2] }, 0
      for i, p in ipairs(inside) do
        position[2 + i] = p
        flat = flat * x:size(2 + i) + p - 1
      end
      values[#values + 1] = x[position]
      positions[#positions + 1] = flat + 1
    end)
    return reduce(values, positions, padded)
  end)
end

-- The result's shape, and lists_at for windows of a fixed size; options as PyTorch's.
function windows.plain(x, dims, kernel, o)
  local k = windows.sides(kernel, dims)
  local s, p = windows.sides(o.stride or k, dims), windows.sides(o.padding or 0, dims)
  local d = windows.sides(o.dilation or 1, dims)
  local shape = { x:size(1), x:size(2) }
  for i = 1, dims do
    shape[2 + i] = count_windows(x:size(2 + i), k[i], s[i], p[i], d[i], o.ceil_mode)
  end
  return shape, function(at)
    local lists, padded = {}, 1
    for i = 1, dims do
      local list, all = seen(at[2 + i], x:size(2 + i), k[i], s[i], p[i], d[i])
      lists[i], padded = list, padded * all
    end
    return lists, padded
  end
end

local function largest(values, positions)
  local best, where = -math.huge, nil
  for i, value in ipairs(values) do
    if value > best then best, where = value, positions[i] end
  end
  return best, where
end

local function position_of_largest(values, positions)
  return (select(2, largest(values, positions)))
end

-- Values, and where `indices` is true, positions from 1 within the plane.
function windows.maxima(x, shape, lists_at, indices)
  local values = windows.reduced(x, shape, lists_at, function(v, p) return (largest(v, p)) end)
  if not indices then return values end
  return values, windows.reduced(x, shape, lists_at, position_of_largest)
end

-- The references themselves: max_pool(2)(x, kernel, options), and so on.
function windows.max_pool(dims)
  return function(x, kernel, o)
    o = o or {}
    local shape, lists_at = windows.plain(x, dims, kernel, o)
    return windows.maxima(x, shape, lists_at, o.return_indices)
  end
end

function windows.avg_pool(dims)
  return function(x, kernel, o)
    o = o or {}
    local shape, lists_at = windows.plain(x, dims, kernel, o)
    return windows.reduced(x, shape, lists_at, function(values, _, padded)
      local sum = 0
      for _, value in ipairs(values) do sum = sum + value end
      local count = o.count_include_pad == false and #values or padded
      return sum / (o.divisor_override or count)
    end)
  end
end

-- As windows.plain, for windows that share out the input.
function windows.adaptive(x, dims, size)
  local counts, shape = windows.sides(size, dims), { x:size(1), x:size(2) }
  for i = 1, dims do shape[2 + i] = counts[i] end
  return shape, function(at)
    local lists = {}
    for i = 1, dims do
      local total, list = x:size(2 + i), {}
      local first = math.floor((at[2 + i] - 1) * total / counts[i]) + 1
      for position = first, math.ceil(at[2 + i] * total / counts[i]) do
        list[#list + 1] = position
      end
      lists[i] = list
    end
    return lists
  end
end

function windows.adaptive_avg_pool(dims)
  return function(x, size)
    local shape, lists_at = windows.adaptive(x, dims, size)
    return windows.reduced(x, shape, lists_at, function(values)
      local sum = 0
      for _, value in ipairs(values) do sum = sum + value end
      return sum / #values
    end)
  end
end

return windows
