-- Cases of resizing. The reference interpolates by the definition: a kernel function over all
-- elements of every dimension, with what lies beyond an edge given to the edge.
local case = require "spec.support.case"
local naive = require "spec.support.naive"
local T = case.float

local function clamp(i, size) return math.max(1, math.min(size, i)) end

local function keys(d, a)
  a = a or -0.75
  d = math.abs(d)
  if d <= 1 then return (a + 2) * d ^ 3 - (a + 3) * d ^ 2 + 1 end
  return d < 2 and a * d ^ 3 - 5 * a * d ^ 2 + 8 * a * d - 4 * a or 0
end

local function hat(d) return math.max(0, 1 - math.abs(d)) end

-- { [position] = weight } for result i (from 0).
local rules = {}

local function smooth(kernel, reach, limited)
  return function(i, size, count, scale, align)
    local at = align and (count > 1 and i * (size - 1) / (count - 1) or 0)
      or (i + 0.5) * scale - 0.5
    if limited then at = math.max(at, 0) end
    local weights = {}
    for tap = math.floor(at) - reach + 1, math.floor(at) + reach do
      local position = clamp(tap + 1, size)
      weights[position] = (weights[position] or 0) + kernel(at - tap)
    end
    return weights
  end
end

rules.linear = smooth(hat, 1, true)
rules.bilinear, rules.trilinear = rules.linear, rules.linear
rules.bicubic = smooth(keys, 2, false)
rules.nearest = function(i, size, _, scale)
  return { [clamp(math.floor(i * scale + 1e-9) + 1, size)] = 1 }
end
rules["nearest-exact"] = function(i, size, _, scale)
  return { [clamp(math.floor((i + 0.5) * scale + 1e-9) + 1, size)] = 1 }
end
rules.area = function(i, size, count)
  local weights, first, last = {}, math.floor(i * size / count), math.ceil((i + 1) * size / count)
  for position = first + 1, last do weights[position] = 1 / (last - first) end
  return weights
end

-- Antialiased: the kernel stretched by the scale, over what there is, weights made to sum to 1.
local function stretched(kernel, reach)
  return function(i, size, _, scale)
    local at = (i + 0.5) * scale - 0.5
    local wide, weights, sum = math.max(scale, 1), {}, 0
    for position = 1, size do
      local distance = (position - 1 - at) / wide
      if math.abs(distance) < reach then
        weights[position] = kernel(distance)
        sum = sum + weights[position]
      end
    end
    for position, weight in pairs(weights) do weights[position] = weight / sum end
    return weights
  end
end

local antialiased = {
  bilinear = stretched(hat, 1), bicubic = stretched(function(d) return keys(d, -0.5) end, 2),
}

local function interpolate(x, o)
  local dims, shape = x:dim() - 2, { x:size(1), x:size(2) }
  local rule, scales = (o.antialias and antialiased or rules)[o.mode or "nearest"], {}
  for i = 1, dims do
    local size = x:size(2 + i)
    local given = type(o.size) == "table" and (o.size[i] or o.size[1]) or o.size
    shape[2 + i] = given or math.floor(size * o.scale_factor)
    scales[i] = given and size / given or 1 / o.scale_factor
  end
  return naive.build(shape, function(at)
    local position = { at[1], at[2] }
    local function sum(i)
      if i > dims then return x[position] end
      local total = 0
      for tap, weight in pairs(rule(at[2 + i] - 1, x:size(2 + i), shape[2 + i], scales[i],
          o.align_corners)) do
        position[2 + i] = tap
        total = total + weight * sum(i + 1)
      end
      return total
    end
    return sum(1)
  end)
end

local function options_text(o)
  local size = type(o.size) == "table" and "(" .. table.concat(o.size, ", ") .. ")"
    or tostring(o.size or "None")
  local smooth_mode = o.mode and o.mode:find("linear") or o.mode == "bicubic"
  return ("F.interpolate(a, %s, %s, mode=%q%s%s)"):format(size, o.scale_factor or "None",
    o.mode or "nearest", o.antialias and ", antialias=True" or "",
    smooth_mode and ", align_corners=" .. (o.align_corners and "True" or "False") or "")
end

local function resized(shape, o) return { T(shape), o, torch = options_text(o) } end

local modes = { [3] = { "linear" }, [4] = { "bilinear", "bicubic" }, [5] = { "trilinear" } }

-- -- grids: coordinates of a corner-to-corner or edge-to-edge grid times theta

local function affine_grid(theta, size, o)
  local dims = #size - 2
  local function coordinate(i, count)
    if o and o.align_corners then return count > 1 and 2 * (i - 1) / (count - 1) - 1 or 0 end
    return (2 * i - 1) / count - 1
  end
  local shape = { size[1] }
  for i = 1, dims do shape[1 + i] = size[2 + i] end
  shape[dims + 2] = dims
  return naive.build(shape, function(at)
    local row, sum = at[dims + 2], 0
    for k = 1, dims do
      local axis = dims + 1 - k
      sum = sum + theta[{ at[1], row, k }] * coordinate(at[1 + axis], size[2 + axis])
    end
    return sum + theta[{ at[1], row, dims + 1 }]
  end)
end

local function pixel_shuffle(x, r)
  local n = x:dim()
  local shape = x:size()
  shape[n - 2], shape[n - 1], shape[n] = shape[n - 2] / r ^ 2, shape[n - 1] * r, shape[n] * r
  return naive.build(shape, function(at)
    local from, i, j = {}, at[n - 1] - 1, at[n] - 1
    for k = 1, n do from[k] = at[k] end
    from[n - 2] = (at[n - 2] - 1) * r * r + (i % r) * r + j % r + 1
    from[n - 1], from[n] = math.floor(i / r) + 1, math.floor(j / r) + 1
    return x[from]
  end)
end

local function pixel_unshuffle(x, r)
  local n = x:dim()
  local shape = x:size()
  shape[n - 2], shape[n - 1], shape[n] = shape[n - 2] * r ^ 2, shape[n - 1] / r, shape[n] / r
  return naive.build(shape, function(at)
    local from, c = {}, at[n - 2] - 1
    for k = 1, n do from[k] = at[k] end
    from[n - 2] = math.floor(c / r ^ 2) + 1
    from[n - 1] = (at[n - 1] - 1) * r + math.floor(c % r ^ 2 / r) + 1
    from[n] = (at[n] - 1) * r + c % r + 1
    return x[from]
  end)
end

-- -- sampling at a grid: the definition, a neighbour at a time

local function reflect(at, low, span)
  if span == 0 then return 0 end
  local distance = math.abs(at - low)
  local flips, rest = math.floor(distance / span), math.fmod(distance, span)
  return (flips % 2 == 0 and rest or span - rest) + low
end

local function fold(at, size, o)
  if o.padding_mode == "reflection" then
    at = reflect(at, o.align_corners and 0 or -0.5, o.align_corners and size - 1 or size)
  end
  if (o.padding_mode or "zeros") == "zeros" then return at end
  return math.max(0, math.min(size - 1, at))
end

-- { position (from 0, perhaps outside), weight } of the neighbours of coordinate u.
local function neighbours(u, size, o)
  local at = o.align_corners and (u + 1) / 2 * (size - 1) or ((u + 1) * size - 1) / 2
  local list, mode = {}, o.mode or "bilinear"
  if mode == "nearest" then return { { math.floor(fold(at, size, o) + 0.5), 1 } } end
  if mode == "bilinear" then at = fold(at, size, o) end
  local reach = mode == "bilinear" and 1 or 2
  for tap = math.floor(at) - reach + 1, math.floor(at) + reach do
    local weight = (mode == "bilinear" and hat or keys)(at - tap)
    list[#list + 1] = { mode == "bilinear" and tap or fold(tap, size, o), weight }
  end
  return list
end

local function grid_sample(x, grid, o)
  o = o or {}
  local dims = x:dim() - 2
  local shape = { x:size(1), x:size(2) }
  for i = 1, dims do shape[2 + i] = grid:size(1 + i) end
  return naive.build(shape, function(at)
    local lists, position = {}, { at[1] }
    for i = 1, dims do position[1 + i] = at[2 + i] end
    for i = 1, dims do
      position[dims + 2] = dims + 1 - i
      lists[i] = neighbours(grid[position], x:size(2 + i), o)
    end
    local from = { at[1], at[2] }
    local function sum(i)
      if i > dims then return x[from] end
      local total = 0
      for _, tap in ipairs(lists[i]) do
        if tap[1] >= 0 and tap[1] < x:size(2 + i) then
          from[2 + i] = tap[1] + 1
          total = total + tap[2] * sum(i + 1)
        end
      end
      return total
    end
    return sum(1)
  end)
end

local near, wide = { low = -0.9, high = 0.9 }, { low = -3, high = 3 }

local function sampled(shape, grid, range, o)
  return { T(shape), T(grid, range), o, torch = ("F.grid_sample(a, b, %q, %q, %s)"):format(
    o.mode or "bilinear", o.padding_mode or "zeros", o.align_corners and "True" or "False") }
end

local function draw_interpolation(draw)
  local n = draw(3, 5)
  local shape, o = { draw(1, 2), draw(1, 2) }, {}
  for i = 3, n do shape[i] = draw(1, 5) end
  local kind = draw(1, 4)
  if kind == 1 then o.mode = ({ "nearest", "nearest-exact", "area" })[draw(1, 3)]
  else o.mode = modes[n][draw(1, #modes[n])] end
  if kind == 2 then o.align_corners = true end
  if kind > 2 and n == 4 and draw(0, 2) == 0 then o.antialias = true end
  if o.mode ~= "area" and draw(0, 2) == 0 then
    o.scale_factor = ({ 1, 2, 3, 1.5, 2.25 })[draw(1, 5)]
  else
    o.size = {}
    for i = 3, n do o.size[i - 2] = draw(1, 8) end
  end
  return { T(shape), o }
end

return {
  interpolate = {
    naive = interpolate, fuzz = draw_interpolation,
    cases = {
      resized({ 2, 3, 4 }, { size = { 7 } }),
      resized({ 1, 2, 5, 3 }, { size = { 3, 7 }, mode = "nearest-exact" }),
      resized({ 2, 3, 4 }, { size = { 9 }, mode = "linear" }),
      resized({ 2, 3, 5 }, { size = { 3 }, mode = "linear", align_corners = true }),
      resized({ 2, 2, 3, 4 }, { scale_factor = 2, mode = "bilinear" }),
      resized({ 1, 2, 3, 4 }, { size = { 5, 3 }, mode = "bilinear", align_corners = true }),
      resized({ 1, 2, 5, 4 }, { scale_factor = 1.5, mode = "bicubic" }),
      resized({ 1, 2, 3, 4 }, { size = { 2, 7 }, mode = "bicubic", align_corners = true }),
      resized({ 1, 2, 2, 3, 2 }, { size = { 3, 2, 4 }, mode = "trilinear" }),
      resized({ 1, 1, 2, 3, 2 }, { scale_factor = 2, mode = "trilinear", align_corners = true }),
      resized({ 1, 2, 5, 3 }, { size = { 3, 2 }, mode = "area" }),
      resized({ 1, 2, 7, 5 }, { size = { 3, 4 }, mode = "bilinear", antialias = true }),
      resized({ 1, 1, 9, 3 }, { size = { 4, 5 }, mode = "bicubic", antialias = true }),
      { T { 0, 2, 3, 3 }, { size = 5, mode = "bilinear" } },
    },
    large = { T { 4, 8, 33, 31 }, { size = { 65, 70 }, mode = "bicubic" } },
  },
  grid_sample = {
    naive = grid_sample,
    fuzz = function(draw)
      local dims, n, o = draw(2, 3), draw(1, 2), { align_corners = draw(0, 1) == 1 }
      local shape, grid = { n, draw(1, 3) }, { n }
      for i = 1, dims do shape[2 + i], grid[1 + i] = draw(1, 5), draw(1, 4) end
      grid[dims + 2] = dims
      o.mode = ({ "bilinear", "nearest", "bicubic" })[draw(1, dims == 2 and 3 or 2)]
      o.padding_mode = ({ "zeros", "border", "reflection" })[draw(1, 3)]
      return { T(shape), T(grid, wide), o }
    end,
    cases = {
      sampled({ 2, 3, 4, 5 }, { 2, 3, 2, 2 }, near, {}),
      sampled({ 1, 2, 4, 5 }, { 1, 3, 4, 2 }, wide, { align_corners = true }),
      sampled({ 1, 2, 4, 5 }, { 1, 3, 4, 2 }, wide, { padding_mode = "border" }),
      sampled({ 1, 2, 4, 3 }, { 1, 3, 4, 2 }, wide, { padding_mode = "reflection" }),
      sampled({ 1, 2, 4, 3 }, { 1, 3, 4, 2 }, wide,
        { padding_mode = "reflection", align_corners = true }),
      sampled({ 1, 2, 4, 5 }, { 1, 3, 4, 2 }, wide, { mode = "nearest" }),
      sampled({ 1, 2, 4, 5 }, { 1, 3, 3, 2 }, wide, { mode = "bicubic" }),
      sampled({ 1, 2, 4, 5 }, { 1, 3, 3, 2 }, wide,
        { mode = "bicubic", padding_mode = "reflection", align_corners = true }),
      sampled({ 1, 2, 4, 5 }, { 1, 3, 3, 2 }, wide,
        { mode = "bicubic", padding_mode = "border" }),
      sampled({ 1, 2, 3, 4, 3 }, { 1, 2, 2, 2, 3 }, wide, {}),
      sampled({ 1, 2, 3, 4, 3 }, { 1, 2, 2, 2, 3 }, wide,
        { padding_mode = "reflection", mode = "nearest" }),
      { T { 0, 2, 3, 3 }, T { 0, 2, 2, 2 }, {} },
    },
    large = { T { 2, 16, 33, 31 }, T({ 2, 40, 41, 2 }, wide), {} },
  },
  pixel_shuffle = {
    naive = pixel_shuffle,
    cases = {
      { T { 2, 8, 2, 3 }, 2, torch = "F.pixel_shuffle(a, 2)" },
      { T { 9, 1, 2 }, 3, torch = "F.pixel_shuffle(a, 3)" },
      { T { 2, 0, 2, 3 }, 2 },
    },
    fuzz = function(draw)
      local r = draw(1, 3)
      return { T { draw(1, 3), draw(1, 2) * r * r, draw(1, 3), draw(1, 3) }, r }
    end,
  },
  pixel_unshuffle = {
    naive = pixel_unshuffle,
    cases = {
      { T { 2, 2, 4, 6 }, 2, torch = "F.pixel_unshuffle(a, 2)" },
      { T { 1, 3, 6 }, 3, torch = "F.pixel_unshuffle(a, 3)" },
      { T { 0, 1, 2, 4 }, 2 },
    },
    fuzz = function(draw)
      local r = draw(1, 3)
      return { T { draw(1, 3), draw(1, 2), draw(1, 3) * r, draw(1, 3) * r }, r }
    end,
  },
  affine_grid = {
    naive = affine_grid,
    cases = {
      { T { 2, 2, 3 }, { 2, 1, 3, 4 }, {},
        torch = "F.affine_grid(a, [2, 1, 3, 4], align_corners=False)" },
      { T { 1, 2, 3 }, { 1, 1, 3, 2 }, { align_corners = true },
        torch = "F.affine_grid(a, [1, 1, 3, 2], align_corners=True)" },
      { T { 1, 3, 4 }, { 1, 2, 2, 3, 2 }, {},
        torch = "F.affine_grid(a, [1, 2, 2, 3, 2], align_corners=False)" },
    },
    fuzz = function(draw)
      local dims, size = draw(2, 3), { draw(1, 2), 1 }
      for i = 1, dims do size[2 + i] = draw(1, 4) end
      return { T { size[1], dims, dims + 1 }, size, { align_corners = draw(0, 1) == 1 } }
    end,
  },
}
