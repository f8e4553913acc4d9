-- Cases of picking and placing by index tensors, element by element.
local case = require "spec.support.case"
local naive = require "spec.support.naive"
local places = require "spec.support.places"
local T, W = case.float, case.whole
local at_dim, normal = places.with, places.dim

local function index_select(x, dim, index)
  dim = normal(x, dim)
  local shape = x:size()
  shape[dim] = index:size(1)
  return naive.build(shape, function(at) return x[at_dim(at, dim, index[at[dim]])] end)
end

-- The result of writing slices: combine(old, new).
local function put_slices(combine)
  return function(x, dim, index, source)
    dim = normal(x, dim)
    return naive.build(x:size(), function(at)
      local value = x[at]
      for i = 1, index:size(1) do
        if index[i] == at[dim] then value = combine(value, source[at_dim(at, dim, i)]) end
      end
      return value
    end)
  end
end

local function gather(x, dim, index)
  dim = normal(x, dim)
  return naive.build(index:size(), function(at) return x[at_dim(at, dim, index[at])] end)
end

local function put_elements(combine)
  return function(x, dim, index, source)
    dim = normal(x, dim)
    local written = {}
    for at in naive.positions(index:size()) do
      local key = table.concat(at_dim(at, dim, index[at]), ",")
      local value = type(source) == "number" and source or source[at]
      written[key] = written[key] or {}
      table.insert(written[key], value)
    end
    return naive.build(x:size(), function(at)
      local value = x[at]
      for _, new in ipairs(written[table.concat(at, ",")] or {}) do value = combine(value, new) end
      return value
    end)
  end
end

local function later(_, new) return new end
local function sum(old, new) return old + new end

local function bincount(x, n)
  local counts = {}
  for i = 1, n or x:max():item() do counts[i] = 0 end
  for at in naive.positions(x:size()) do
    counts[x[at]] = counts[x[at]] + 1
  end
  return naive.build({ #counts }, function(at) return counts[at[1]] end)
end

local function one_hot(x, classes)
  local shape = x:size()
  shape[#shape + 1] = classes or x:max():item()
  return naive.build(shape, function(at)
    local class = table.remove(places.copy(at))
    local from = places.copy(at)
    from[#from] = nil
    return naive.at(x, from) == class and 1 or 0
  end)
end

local function different(...) return case.values({ ... }, "int64") end

local function draw_slices(draw)
  local shape, dim = { draw(1, 4), draw(1, 4), draw(1, 4) }, draw(1, 3)
  local n = draw(0, 5)
  local source = { shape[1], shape[2], shape[3] }
  source[dim] = n
  return shape, dim, W({ n }, 1, shape[dim]), source
end

-- Index and source of one shape, no larger than x outside dim.
local function draw_elements(draw)
  local shape, dim, size = { draw(1, 4), draw(1, 4), draw(1, 4) }, draw(1, 3), {}
  for i = 1, 3 do size[i] = i == dim and draw(0, 5) or draw(1, shape[i]) end
  return shape, dim, W(size, 1, shape[dim]), size
end

local function fuzz_put(draw_arguments)
  return function(draw)
    local shape, dim, index, source = draw_arguments(draw)
    return { T(shape), dim, index, T(source) }
  end
end

local counted = "row numbers and counts are no smooth function"

return {
  index_select = {
    naive = index_select,
    fuzz = function(draw)
      local shape, dim, index = draw_slices(draw)
      return { T(shape), dim, index }
    end,
    cases = {
      { T { 3, 4 }, 1, W({ 5 }, 1, 3), torch = "torch.index_select(a, 0, b - 1)" },
      { T { 2, 3, 4 }, -1, W({ 2 }, 1, 4), torch = "torch.index_select(a, -1, b - 1)" },
      { T { 2, 0, 4 }, 3, W({ 2 }, 1, 4), torch = "torch.index_select(a, 2, b - 1)" },
      { T { 3, 4 }, 2, W({ 0 }, 1, 4) },
    },
    large = { T { 64, 300, 7 }, 2, W({ 400 }, 1, 300) },
  },
  index_add = {
    naive = put_slices(sum), fuzz = fuzz_put(draw_slices),
    cases = {
      { T { 3, 4 }, 1, W({ 5 }, 1, 3), T { 5, 4 }, torch = "torch.index_add(a, 0, b - 1, c)" },
      { T { 2, 3, 4 }, -2, W({ 2 }, 1, 3), T { 2, 2, 4 },
        torch = "torch.index_add(a, -2, b - 1, c)" },
      { T { 3, 4 }, 2, W({ 0 }, 1, 4), T { 3, 0 } },
    },
    large = { T { 64, 300, 7 }, 2, W({ 400 }, 1, 300), T { 64, 400, 7 } },
  },
  index_copy = {
    naive = put_slices(later), fuzz = fuzz_put(draw_slices),
    cases = {
      { T { 4, 3 }, 1, different(3, 1), T { 2, 3 }, torch = "torch.index_copy(a, 0, b - 1, c)" },
      { T { 2, 4 }, -1, different(4, 2, 1), T { 2, 3 },
        torch = "torch.index_copy(a, -1, b - 1, c)" },
      { T { 0, 4 }, 2, different(4, 2), T { 0, 2 } },
    },
  },
  gather = {
    naive = gather,
    fuzz = function(draw)
      local shape, dim, index = draw_elements(draw)
      return { T(shape), dim, index }
    end,
    cases = {
      { T { 3, 4 }, 1, W({ 2, 4 }, 1, 3), torch = "torch.gather(a, 0, b - 1)" },
      { T { 3, 4, 2 }, 2, W({ 2, 5, 2 }, 1, 4), torch = "torch.gather(a, 1, b - 1)" },
      { T { 3 }, -1, W({ 7 }, 1, 3), torch = "torch.gather(a, -1, b - 1)" },
      { T { 3, 4 }, 2, W({ 0, 2 }, 1, 4) },
    },
    large = { T { 300, 301 }, 2, W({ 300, 200 }, 1, 301) },
  },
  scatter = {
    naive = put_elements(later), fuzz = fuzz_put(draw_elements),
    cases = {
      { T { 3, 4 }, 1, different({ 3, 1, 2, 2 }, { 1, 2, 3, 1 }), T { 2, 4 },
        torch = "torch.scatter(a, 0, b - 1, c)" },
      { T { 2, 4 }, -1, different({ 4, 2 }, { 1, 3 }), T { 2, 3 },
        torch = "torch.scatter(a, -1, b - 1, c[:, :2])" },
      { T { 2, 4 }, 2, different({ 4, 2 }, { 1, 3 }), 1.5,
        torch = "torch.scatter(a, 1, b - 1, 1.5)" },
      { T { 2, 4 }, 2, W({ 2, 0 }, 1, 4), T { 2, 3 } },
    },
  },
  scatter_add = {
    naive = put_elements(sum), fuzz = fuzz_put(draw_elements),
    cases = {
      { T { 3, 4 }, 1, W({ 5, 3 }, 1, 3), T { 5, 3 },
        torch = "torch.scatter_add(a, 0, b - 1, c)" },
      { T { 2, 3, 4 }, -1, W({ 2, 3, 6 }, 1, 4), T { 2, 3, 6 },
        torch = "torch.scatter_add(a, -1, b - 1, c)" },
      { T { 2, 4 }, 2, W({ 2, 0 }, 1, 4), T { 2, 3 } },
    },
    large = { T { 300, 40 }, 2, W({ 300, 200 }, 1, 40), T { 300, 200 } },
  },
  bincount = {
    naive = bincount, gradient = false, why = counted,
    fuzz = function(draw) return { W({ draw(1, 4), draw(1, 9) }, 1, 6), 6 } end,
    cases = {
      { W({ 9 }, 1, 5), 7, torch = "torch.bincount(a - 1, minlength=7)" },
      { W({ 12 }, 1, 4), torch = "torch.bincount(a - 1)" },
      { W({ 0 }, 1, 4), 3 },
    },
  },
  one_hot = {
    naive = one_hot, gradient = false, why = counted,
    fuzz = function(draw) return { W({ draw(0, 4), draw(1, 3) }, 1, 6), 6 } end,
    cases = {
      { W({ 2, 3 }, 1, 5), 6, torch = "F.one_hot(a - 1, 6)" },
      { W({ 9 }, 1, 4), torch = "F.one_hot(a - 1)" },
      { W({}, 1, 4), 4 },
    },
  },
}
