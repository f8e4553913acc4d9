-- Cases of pooling. One reference serves every window (spec/support/windows.lua): it lists the
-- positions a window sees, and an operator says what becomes of the numbers there.
local case = require "spec.support.case"
local naive = require "spec.support.naive"
local windows = require "spec.support.windows"
local T = case.float

local max_pool, avg_pool = windows.max_pool, windows.avg_pool
local adaptive_avg = windows.adaptive_avg_pool

local function lp_pool(dims)
  return function(x, p, kernel, o)
    o = o or {}
    local elements = 1
    for _, side in ipairs(windows.sides(kernel, dims)) do elements = elements * side end
    local shape, lists_at = windows.plain(x, dims, kernel, o)
    return windows.reduced(x, shape, lists_at, function(values)
      local sum = 0
      for _, value in ipairs(values) do sum = sum + value ^ p end
      return (sum / #values * elements) ^ (1 / p)
    end)
  end
end

local function adaptive_max(dims)
  return function(x, size, o)
    local shape, lists_at = windows.adaptive(x, dims, size)
    return windows.maxima(x, shape, lists_at, o and o.return_indices)
  end
end

local function fractional(x, kernel, o)
  local dims = x:dim() - 2
  local k, shape = windows.sides(kernel, dims), { x:size(1), x:size(2) }
  for i = 1, dims do
    shape[2 + i] = o.output_size and windows.sides(o.output_size, dims)[i]
      or math.floor(x:size(2 + i) * o.output_ratio)
  end
  local function lists_at(at)
    local lists = {}
    for i = 1, dims do
      local size, count, index = x:size(2 + i), shape[2 + i], at[2 + i] - 1
      local u = o.random_samples[{ at[1], at[2], dims == 2 and 3 - i or i }]
      local alpha = (size - k[i]) / (count - 1)
      local start = math.floor((index + u) * alpha) - math.floor(u * alpha)
      if index == count - 1 then start = size - k[i] end
      local list = {}
      for tap = 1, k[i] do list[tap] = start + tap end
      lists[i] = list
    end
    return lists
  end
  return windows.maxima(x, shape, lists_at, o.return_indices)
end

local function unpool(dims)
  return function(x, indices, kernel, o)
    o = o or {}
    local k = windows.sides(kernel, dims)
    local s, p = windows.sides(o.stride or k, dims), windows.sides(o.padding or 0, dims)
    local shape = { x:size(1), x:size(2) }
    for i = 1, dims do
      shape[2 + i] = o.output_size and o.output_size[#o.output_size - dims + i]
        or (x:size(2 + i) - 1) * s[i] - 2 * p[i] + k[i]
    end
    local placed = {}
    for at in naive.positions(x:size()) do
      placed[table.concat({ at[1], at[2], indices[at] }, ",")] = x[at]
    end
    return naive.build(shape, function(at)
      local flat = 0
      for i = 1, dims do flat = flat * shape[2 + i] + at[2 + i] - 1 end
      return placed[table.concat({ at[1], at[2], flat + 1 }, ",")] or 0
    end)
  end
end

local function maxout(x, group, dim)
  dim = dim or 2
  local shape = x:size()
  shape[dim] = shape[dim] / group
  return naive.build(shape, function(at)
    local best, position = -math.huge, {}
    for i, p in ipairs(at) do position[i] = p end
    for k = 1, group do
      position[dim] = (at[dim] - 1) * group + k
      best = math.max(best, x[position])
    end
    return best
  end)
end

-- Options of a window that fits `sizes`.
local function draw_window(draw, dims, sizes, fields)
  local kernel, o = {}, { stride = {}, ceil_mode = draw(0, 1) == 1 }
  if fields.padding then o.padding = {} end
  if fields.dilation then o.dilation = {} end
  for i = 1, dims do
    kernel[i] = draw(1, math.min(3, sizes[2 + i]))
    o.stride[i] = draw(1, 3)
    if fields.padding then o.padding[i] = draw(0, math.floor(kernel[i] / 2)) end
    if fields.dilation then
      local fits = sizes[2 + i] > 2 * (kernel[i] - 1)
      o.dilation[i] = fits and draw(1, 2) or 1
    end
  end
  if dims == 1 then
    kernel = kernel[1]
    for _, name in ipairs { "stride", "padding", "dilation" } do
      o[name] = o[name] and o[name][1]
    end
  end
  return kernel, o
end

local function draw_sizes(draw, dims)
  local sizes = { draw(1, 2), draw(1, 3) }
  for i = 1, dims do sizes[2 + i] = draw(3, dims == 3 and 5 or 8) end
  return sizes
end

local function fuzz_max(dims)
  return function(draw)
    local sizes = draw_sizes(draw, dims)
    local kernel, o = draw_window(draw, dims, sizes, { padding = true, dilation = true })
    o.return_indices = draw(0, 1) == 1
    return { T(sizes), kernel, o }
  end
end

local function fuzz_avg(dims)
  return function(draw)
    local sizes = draw_sizes(draw, dims)
    local kernel, o = draw_window(draw, dims, sizes, { padding = true })
    o.count_include_pad = draw(0, 1) == 1
    if dims > 1 and draw(0, 2) == 0 then o.divisor_override = draw(1, 7) end
    return { T(sizes), kernel, o }
  end
end

local function fuzz_lp(dims)
  return function(draw)
    local sizes = draw_sizes(draw, dims)
    local kernel, o = draw_window(draw, dims, sizes, {})
    return { T(sizes, { low = 0.2, high = 2 }), draw(1, 6) / 2, kernel, o }
  end
end

local function fuzz_adaptive(dims)
  return function(draw)
    local sizes, size = draw_sizes(draw, dims), {}
    for i = 1, dims do size[i] = draw(1, 6) end
    return { T(sizes), dims == 1 and size[1] or size }
  end
end

local function fuzz_adaptive_max(dims)
  local plain = fuzz_adaptive(dims)
  return function(draw)
    local row = plain(draw)
    row[3] = { return_indices = draw(0, 1) == 1 }
    return row
  end
end

-- Positions that are all different in each plane.
local function places(shape, count)
  local step = 0
  local values = {}
  local function fill(level, list)
    for i = 1, shape[level] do
      if level == #shape then
        step = step + 1
        list[i] = (step * 5) % count + 1
      else
        list[i] = {}
        fill(level + 1, list[i])
      end
    end
  end
  fill(1, values)
  return case.values(values, "int64")
end

local function positions_of(expression)
  return ("(lambda r: (r[0], r[1] + 1))(%s)"):format(expression)
end

local samples = { T({ 2, 3, 2 }, { low = 0, high = 1 }), T({ 1, 2, 2 }, { low = 0, high = 1 }) }

local function with_samples(u, o)
  local given = { random_samples = u }
  for name, value in pairs(o) do given[name] = value end
  return given
end
local function fractional_call(dims)
  return function(x, u, kernel, o)
    return require "moonlet"[("fractional_max_pool%dd"):format(dims)](x, kernel, with_samples(u, o))
  end
end
local function fractional_naive(x, u, kernel, o)
  return fractional(x, kernel, with_samples(u, o))
end

local function fuzz_fractional(dims)
  return function(draw)
    local shape, kernel, size = { draw(1, 2), draw(1, 3) }, {}, {}
    for i = 1, dims do
      kernel[i], size[i] = draw(1, 3), draw(2, 4)
      shape[2 + i] = size[i] + kernel[i] + draw(0, dims == 2 and 4 or 1)
    end
    return { T(shape), T({ shape[1], shape[2], dims }, { low = 0, high = 1 }), kernel,
             { output_size = size, return_indices = draw(0, 1) == 1 } }
  end
end

local cases = {
  max_pool1d = {
    naive = max_pool(1), fuzz = fuzz_max(1),
    cases = {
      { T { 2, 3, 7 }, 2, {}, torch = "F.max_pool1d(a, 2)" },
      { T { 1, 2, 8 }, 3, { stride = 2, padding = 1, dilation = 2, ceil_mode = true,
                            return_indices = true },
        torch = positions_of "F.max_pool1d(a, 3, 2, 1, 2, True, True)" },
      { T { 0, 3, 7 }, 2, { return_indices = true } },
      { T { 1, 1, 5 }, { 1 }, { stride = { 3 } }, torch = "F.max_pool1d(a, 1, 3)" },
    },
    large = { T { 8, 32, 301 }, 3, { stride = 2 } },
  },
  max_pool2d = {
    naive = max_pool(2), fuzz = fuzz_max(2),
    cases = {
      { T { 2, 3, 4, 6 }, 2, {}, torch = "F.max_pool2d(a, 2)" },
      { T { 1, 2, 7, 6 }, { 3, 2 }, { stride = { 2, 1 }, padding = { 1, 0 }, dilation = { 1, 2 },
                                      ceil_mode = true, return_indices = true },
        torch = positions_of "F.max_pool2d(a, (3, 2), (2, 1), (1, 0), (1, 2), True, True)" },
      { T { 0, 2, 4, 4 }, 2, { return_indices = true } },
    },
    large = { T { 4, 16, 65, 67 }, 3, { stride = 2, padding = 1 } },
  },
  max_pool3d = {
    naive = max_pool(3), fuzz = fuzz_max(3),
    cases = {
      { T { 1, 2, 4, 4, 5 }, 2, {}, torch = "F.max_pool3d(a, 2)" },
      { T { 2, 2, 5, 4, 6 }, { 3, 2, 2 },
        { stride = { 2, 1, 2 }, padding = { 1, 1, 0 }, dilation = { 1, 2, 1 }, ceil_mode = true,
          return_indices = true },
        torch = positions_of(
          "F.max_pool3d(a, (3, 2, 2), (2, 1, 2), (1, 1, 0), (1, 2, 1), True, True)") },
      { T { 2, 0, 3, 3, 3 }, 2, { return_indices = true } },
      { T { 1, 1, 3, 4, 4 }, { 1, 2, 2 }, { stride = { 1, 2, 2 }, return_indices = true },
        torch = positions_of "F.max_pool3d(a, (1, 2, 2), return_indices=True)" },
    },
    large = { T { 2, 8, 9, 33, 31 }, 3, { stride = 2, padding = 1 } },
  },
  avg_pool1d = {
    naive = avg_pool(1), fuzz = fuzz_avg(1),
    cases = {
      { T { 2, 3, 7 }, 2, {}, torch = "F.avg_pool1d(a, 2)" },
      { T { 1, 2, 8 }, 3, { stride = 2, padding = 1, ceil_mode = true },
        torch = "F.avg_pool1d(a, 3, 2, 1, True)" },
      { T { 1, 2, 7 }, 3, { stride = 3, padding = 1, count_include_pad = false },
        torch = "F.avg_pool1d(a, 3, 3, 1, False, False)" },
      { T { 0, 3, 7 }, 2, {} },
    },
    large = { T { 8, 32, 301 }, 3, { stride = 2 } },
  },
  avg_pool2d = {
    naive = avg_pool(2), fuzz = fuzz_avg(2),
    cases = {
      { T { 2, 3, 4, 6 }, 2, {}, torch = "F.avg_pool2d(a, 2)" },
      { T { 1, 2, 7, 6 }, { 3, 2 }, { stride = { 2, 1 }, padding = { 1, 0 }, ceil_mode = true },
        torch = "F.avg_pool2d(a, (3, 2), (2, 1), (1, 0), True)" },
      { T { 1, 2, 5, 5 }, 3, { padding = 1, ceil_mode = true, count_include_pad = false },
        torch = "F.avg_pool2d(a, 3, None, 1, True, False)" },
      { T { 1, 2, 5, 5 }, 3, { padding = 1, divisor_override = 5 },
        torch = "F.avg_pool2d(a, 3, None, 1, divisor_override=5)" },
      { T { 2, 0, 4, 4 }, 2, {} },
    },
    large = { T { 4, 16, 65, 67 }, 3, { stride = 2, padding = 1 } },
  },
  avg_pool3d = {
    naive = avg_pool(3), fuzz = fuzz_avg(3),
    cases = {
      { T { 1, 2, 4, 4, 5 }, 2, {}, torch = "F.avg_pool3d(a, 2)" },
      { T { 2, 1, 5, 4, 6 }, { 3, 2, 2 },
        { stride = { 2, 1, 2 }, padding = { 1, 1, 0 }, ceil_mode = true },
        torch = "F.avg_pool3d(a, (3, 2, 2), (2, 1, 2), (1, 1, 0), True)" },
      { T { 1, 1, 4, 5, 4 }, 3, { padding = 1, stride = 2, count_include_pad = false },
        torch = "F.avg_pool3d(a, 3, 2, 1, count_include_pad=False)" },
      { T { 1, 1, 4, 5, 4 }, 3, { padding = 1, stride = 2, divisor_override = 7 },
        torch = "F.avg_pool3d(a, 3, 2, 1, divisor_override=7)" },
      { T { 0, 1, 4, 4, 4 }, 2, {} },
    },
    large = { T { 2, 8, 9, 33, 31 }, 3, { stride = 2, padding = 1 } },
  },
  lp_pool1d = {
    naive = lp_pool(1), fuzz = fuzz_lp(1),
    cases = {
      { T { 2, 3, 7 }, 2, 3, {}, torch = "F.lp_pool1d(a, 2, 3)" },
      { T({ 1, 2, 8 }, { low = 0.2 }), 3, 3, { stride = 2, ceil_mode = true },
        torch = "F.lp_pool1d(a, 3, 3, 2, True)" },
      { T { 0, 3, 7 }, 2, 2, {} },
    },
  },
  lp_pool2d = {
    naive = lp_pool(2), fuzz = fuzz_lp(2),
    cases = {
      { T { 2, 3, 4, 6 }, 2, 2, {}, torch = "F.lp_pool2d(a, 2, 2)" },
      { T({ 1, 2, 7, 6 }, { low = 0.2 }), 1.5, { 3, 2 }, { stride = { 2, 1 }, ceil_mode = true },
        torch = "F.lp_pool2d(a, 1.5, (3, 2), (2, 1), True)" },
      { T({ 1, 2, 3, 3 }, { low = 0.2 }), 1, 2, {}, torch = "F.lp_pool2d(a, 1., 2)" },
    },
  },
  lp_pool3d = {
    naive = lp_pool(3), fuzz = fuzz_lp(3),
    cases = {
      { T { 1, 2, 4, 4, 5 }, 2, 2, {}, torch = "F.lp_pool3d(a, 2, 2)" },
      { T({ 1, 1, 3, 4, 3 }, { low = 0.2 }), 0.5, { 2, 2, 1 }, { stride = 1 },
        torch = "F.lp_pool3d(a, 0.5, (2, 2, 1), 1)" },
    },
  },
  adaptive_avg_pool1d = {
    naive = adaptive_avg(1), fuzz = fuzz_adaptive(1),
    cases = {
      { T { 2, 3, 7 }, 3, torch = "F.adaptive_avg_pool1d(a, 3)" },
      { T { 1, 2, 8 }, 4, torch = "F.adaptive_avg_pool1d(a, 4)" },
      { T { 1, 2, 3 }, 5, torch = "F.adaptive_avg_pool1d(a, 5)" },
      { T { 0, 2, 3 }, 2 },
    },
    large = { T { 8, 32, 301 }, 7 },
  },
  adaptive_avg_pool2d = {
    naive = adaptive_avg(2), fuzz = fuzz_adaptive(2),
    cases = {
      { T { 2, 3, 7, 5 }, { 3, 2 }, torch = "F.adaptive_avg_pool2d(a, (3, 2))" },
      { T { 1, 2, 4, 6 }, { 2, 3 }, torch = "F.adaptive_avg_pool2d(a, (2, 3))" },
      { T { 1, 2, 2, 3 }, { 4, 3 }, torch = "F.adaptive_avg_pool2d(a, (4, 3))" },
      { T { 2, 0, 7, 5 }, 3 },
    },
    large = { T { 4, 16, 65, 67 }, 7 },
  },
  adaptive_avg_pool3d = {
    naive = adaptive_avg(3), fuzz = fuzz_adaptive(3),
    cases = {
      { T { 1, 2, 5, 4, 7 }, { 2, 3, 3 }, torch = "F.adaptive_avg_pool3d(a, (2, 3, 3))" },
      { T { 2, 1, 4, 4, 2 }, 2, torch = "F.adaptive_avg_pool3d(a, 2)" },
    },
    large = { T { 2, 8, 9, 33, 31 }, 4 },
  },
  adaptive_max_pool1d = {
    naive = adaptive_max(1), fuzz = fuzz_adaptive_max(1),
    cases = {
      { T { 2, 3, 7 }, 3, torch = "F.adaptive_max_pool1d(a, 3)" },
      { T { 1, 2, 8 }, 4, { return_indices = true },
        torch = positions_of "F.adaptive_max_pool1d(a, 4, True)" },
      { T { 1, 2, 7 }, 5, { return_indices = true },
        torch = positions_of "F.adaptive_max_pool1d(a, 5, True)" },
      { T { 0, 2, 3 }, 2, { return_indices = true } },
    },
    large = { T { 8, 32, 301 }, 7 },
  },
  adaptive_max_pool2d = {
    naive = adaptive_max(2), fuzz = fuzz_adaptive_max(2),
    cases = {
      { T { 2, 3, 7, 5 }, { 3, 2 }, { return_indices = true },
        torch = positions_of "F.adaptive_max_pool2d(a, (3, 2), True)" },
      { T { 1, 2, 4, 6 }, { 2, 3 }, { return_indices = true },
        torch = positions_of "F.adaptive_max_pool2d(a, (2, 3), True)" },
      { T { 1, 2, 2, 3 }, { 4, 3 }, torch = "F.adaptive_max_pool2d(a, (4, 3))" },
      { T { 0, 2, 7, 5 }, 3 },
    },
    large = { T { 4, 16, 65, 67 }, 7 },
  },
  adaptive_max_pool3d = {
    naive = adaptive_max(3), fuzz = fuzz_adaptive_max(3),
    cases = {
      { T { 1, 2, 5, 4, 7 }, { 2, 3, 3 }, { return_indices = true },
        torch = positions_of "F.adaptive_max_pool3d(a, (2, 3, 3), True)" },
      { T { 2, 1, 4, 4, 2 }, 2, { return_indices = true },
        torch = positions_of "F.adaptive_max_pool3d(a, 2, True)" },
    },
    large = { T { 2, 8, 9, 33, 31 }, 4 },
  },
  fractional_max_pool3d = {
    call = fractional_call(3), naive = fractional_naive, fuzz = fuzz_fractional(3),
    cases = {
      { T { 1, 2, 6, 5, 7 }, T({ 1, 2, 3 }, { low = 0, high = 1 }), { 2, 1, 3 },
        { output_size = { 3, 4, 2 }, return_indices = true },
        torch = positions_of("F.fractional_max_pool3d(a, (2, 1, 3), output_size=(3, 4, 2), " ..
          "return_indices=True, _random_samples=b.detach())") },
      { T { 1, 1, 5, 5, 5 }, T({ 1, 1, 3 }, { low = 0, high = 1 }), 2, { output_ratio = 0.6 },
        torch = "F.fractional_max_pool3d(a, 2, output_ratio=(0.6, 0.6, 0.6), " ..
          "_random_samples=b.detach())" },
    },
  },
  fractional_max_pool2d = {
    call = fractional_call(2), naive = fractional_naive, fuzz = fuzz_fractional(2),
    cases = {
      { T { 2, 3, 8, 7 }, samples[1], 2, { output_size = { 5, 4 } },
        torch = "F.fractional_max_pool2d(a, 2, output_size=(5, 4), _random_samples=b.detach())" },
      { T { 1, 2, 9, 9 }, samples[2], { 3, 2 }, { output_ratio = 0.6, return_indices = true },
        torch = positions_of("F.fractional_max_pool2d(a, (3, 2), output_ratio=(0.6, 0.6), " ..
          "return_indices=True, _random_samples=b.detach())") },
      { T { 1, 2, 5, 5 }, samples[2], 3, { output_size = { 1, 3 } },
        torch = "F.fractional_max_pool2d(a, 3, output_size=(1, 3), _random_samples=b.detach())" },
      { T { 0, 2, 5, 5 }, T { 0, 2, 2 }, 2, { output_size = 3 } },
    },
  },
  max_unpool1d = {
    naive = unpool(1),
    cases = {
      { T { 1, 2, 3 }, places({ 1, 2, 3 }, 6), 2, {}, torch = "F.max_unpool1d(a, b - 1, 2)" },
      { T { 1, 1, 3 }, places({ 1, 1, 3 }, 7), 2, { output_size = { 7 } },
        torch = "F.max_unpool1d(a, b - 1, 2, output_size=(7,))" },
    },
  },
  max_unpool2d = {
    naive = unpool(2),
    cases = {
      { T { 2, 2, 2, 3 }, places({ 2, 2, 2, 3 }, 24), 2, {},
        torch = "F.max_unpool2d(a, b - 1, 2)" },
      { T { 1, 2, 3, 2 }, places({ 1, 2, 3, 2 }, 24), { 3, 2 },
        { stride = { 2, 3 }, padding = { 1, 0 }, output_size = { 1, 2, 6, 4 } },
        torch = "F.max_unpool2d(a, b - 1, (3, 2), (2, 3), (1, 0), (6, 4))" },
    },
  },
  max_unpool3d = {
    naive = unpool(3),
    cases = {
      { T { 1, 2, 2, 1, 3 }, places({ 1, 2, 2, 1, 3 }, 48), 2, {},
        torch = "F.max_unpool3d(a, b - 1, 2)" },
    },
  },
  maxout = {
    naive = maxout, peer = "PyTorch has no maxout",
    fuzz = function(draw)
      local group, dim, shape = draw(1, 4), draw(1, 3), { draw(1, 4), draw(1, 4), draw(1, 4) }
      shape[dim] = shape[dim] * group
      return { T(shape), group, dim }
    end,
    cases = { { T { 2, 6, 3 }, 3 }, { T { 4, 3 }, 2, 1 }, { T { 0, 4, 2 }, 2 } },
  },
}

return cases
