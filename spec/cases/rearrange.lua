-- Cases of elements in other places, or several times.
local case = require "spec.support.case"
local naive = require "spec.support.naive"
local places = require "spec.support.places"
local T, W = case.float, case.whole

local function rolled(x, dim, by)
  local n = x:size(dim)
  return naive.build(x:size(), function(at)
    return naive.at(x, places.with(at, dim, (at[dim] - 1 - by) % n + 1))
  end)
end

local function list_of(v) return type(v) == "table" and v or { v } end

local function naive_roll(x, shifts, dims)
  if not dims then return rolled(x:reshape(x:numel()), 1, list_of(shifts)[1]):reshape(x:size()) end
  for i, dim in ipairs(list_of(dims)) do
    x = rolled(x, places.dim(x, dim), list_of(shifts)[i])
  end
  return x
end

local function naive_shift(rounding)
  return function(x, dims)
    dims = dims and list_of(dims) or {}
    if #dims == 0 then for i = 1, x:dim() do dims[i] = i end end
    for _, dim in ipairs(dims) do
      dim = places.dim(x, dim)
      x = rolled(x, dim, rounding(x:size(dim) / 2))
    end
    return x
  end
end

-- One quarter: the element that comes to (i, j) was at (j, n + 1 - i).
local function quarter(x, a, b)
  local shape = x:size()
  shape[a], shape[b] = shape[b], shape[a]
  return naive.build(shape, function(at)
    local from = places.with(at, a, at[b])
    from[b] = shape[a] + 1 - at[a]
    return x[from]
  end)
end

local function naive_rot90(x, k, dims)
  for _ = 1, (k or 1) % 4 do x = quarter(x, dims and dims[1] or 1, dims and dims[2] or 2) end
  return x
end

local function naive_tile(x, times)
  local ndim = math.max(x:dim(), #times)
  local shape = {}
  local function own(i) return i > ndim - x:dim() and x:size(i - ndim + x:dim()) or 1 end
  for i = 1, ndim do shape[i] = own(i) * (times[i - ndim + #times] or 1) end
  return naive.build(shape, function(at)
    local from = {}
    for i = ndim - x:dim() + 1, ndim do from[#from + 1] = (at[i] - 1) % own(i) + 1 end
    return naive.at(x, from)
  end)
end

local function naive_interleave(x, repeats, dim)
  if not dim then x, dim = x:reshape(x:numel()), 1 end
  dim = places.dim(x, dim)
  local from = {}
  for i = 1, x:size(dim) do
    local times = repeats
    if type(repeats) ~= "number" then times = repeats[math.min(i, repeats:size(1))] end
    for _ = 1, times do from[#from + 1] = i end
  end
  return naive.build(places.with(x:size(), dim, #from), function(at)
    return x[places.with(at, dim, from[at[dim]])]
  end)
end

local function naive_meshgrid(list, indexing)
  local shape, result = {}, {}
  for i, x in ipairs(list) do shape[i] = x:numel() end
  for k, x in ipairs(list) do
    local y = naive.build(shape, function(at) return x:reshape(x:numel())[at[k]] end)
    if indexing == "xy" and #list > 1 then y = y:transpose(1, 2) end
    result[k] = y
  end
  return result
end

return {
  roll = {
    naive = naive_roll,
    fuzz = function(draw)
      return { T{ draw(1, 4), draw(1, 4), 2 }, { draw(-9, 9), draw(-9, 9) }, { draw(1, 2), 3 } }
    end,
    cases = {
      { T{ 5 }, 2, torch = "torch.roll(a, 2)" },
      { T{ 3, 4 }, -3, torch = "torch.roll(a, -3)" },
      { T{ 3, 4 }, { 1, -6 }, { 2, 1 }, torch = "torch.roll(a, (1, -6), (1, 0))" },
      { T{ 3, 4 }, 0, { 2 }, torch = "torch.roll(a, 0, 1)" },
      { T{ 0, 4 }, 1, { 1 } },
      { T{ 3, 4 }, -2, 1, torch = "torch.roll(a, -2, 0)" },
    },
  },
  fftshift = {
    naive = naive_shift(math.floor),
    cases = {
      { T{ 5 }, torch = "fft.fftshift(a)" }, { T{ 3, 4 }, torch = "fft.fftshift(a)" },
      { T{ 3, 4, 2 }, { 1, 2 }, torch = "fft.fftshift(a, (0, 1))" },
    },
  },
  ifftshift = {
    naive = naive_shift(math.ceil),
    cases = {
      { T{ 5 }, torch = "fft.ifftshift(a)" }, { T{ 3, 4 }, torch = "fft.ifftshift(a)" },
      { T{ 3, 4, 2 }, { 1, 2 }, torch = "fft.ifftshift(a, (0, 1))" },
    },
  },
  rot90 = {
    naive = naive_rot90,
    cases = {
      { T{ 3, 4 }, torch = "torch.rot90(a)" },
      { T{ 3, 4, 2 }, 2, { 2, 3 }, torch = "torch.rot90(a, 2, (1, 2))" },
      { T{ 3, 4 }, -1, { 2, 1 }, torch = "torch.rot90(a, -1, (1, 0))" },
      { T{ 3, 2 }, 4, torch = "torch.rot90(a, 4)" },
      { T{ 0, 2 }, 3 },
    },
  },
  tile = {
    naive = naive_tile,
    fuzz = function(draw)
      return { T{ draw(1, 3), draw(1, 3) }, { draw(0, 3), draw(1, 3), draw(1, 2) } }
    end,
    cases = {
      { T{ 2, 3 }, { 2, 2 }, torch = "torch.tile(a, (2, 2))" },
      { T{ 3 }, { 2, 1, 2 }, torch = "torch.tile(a, (2, 1, 2))" },
      { T{ 2, 3 }, { 3 }, torch = "torch.tile(a, (3,))" },
      { T{}, { 2 }, torch = "torch.tile(a, (2,))" },
      { T{ 2, 3 }, { 0, 1 }, torch = "torch.tile(a, (0, 1))" },
    },
  },
  repeat_interleave = {
    naive = naive_interleave,
    cases = {
      { T{ 2, 3 }, 2, torch = "torch.repeat_interleave(a, 2)" },
      { T{ 2, 3 }, 3, 1, torch = "torch.repeat_interleave(a, 3, 0)" },
      { T{ 2, 4 }, W({ 4 }, 0, 3), 2, torch = "torch.repeat_interleave(a, b, 1)" },
      { T{ 2, 3 }, 0, 2, torch = "torch.repeat_interleave(a, 0, 1)" },
    },
  },
  meshgrid = {
    naive = naive_meshgrid,
    cases = {
      { case.list{ T{ 2 }, T{ 3 } }, torch = "torch.meshgrid(*l, indexing='ij')" },
      { case.list{ T{ 2 }, T{ 3 }, T{ 2 } }, "xy", torch = "torch.meshgrid(*l, indexing='xy')" },
      { case.list{ T{ 4 } }, torch = "torch.meshgrid(*l, indexing='ij')" },
    },
  },
}
