-- Cases of places, different values and search.
local case = require "spec.support.case"
local places = require "spec.support.places"
local naive = require "spec.support.naive"
local moon = require "moonlet"
local T, W, B = case.float, case.whole, case.bool

local discrete = "whole numbers have no slope"

local function naive_nonzero(x)
  local list, count = {}, 0
  for at in naive.positions(x:size()) do
    local v = naive.at(x, at)
    if v ~= 0 and v ~= false then
      count = count + 1
      for i = 1, #at do list[#list + 1] = at[i] end
    end
  end
  if #list == 0 then return moon.zeros({ count, x:dim() }, { dtype = "int64" }) end
  return moon.tensor(list, { dtype = "int64" }):reshape(count, x:dim())
end

local function runs(line)
  local values, inverse, counts = {}, {}, {}
  for i, v in ipairs(line) do
    if i == 1 or v ~= line[i - 1] then
      values[#values + 1] = v
      counts[#values] = 0
    end
    counts[#values] = counts[#values] + 1
    inverse[i] = #values
  end
  return values, inverse, counts
end

local function as_tensors(x, values, inverse, counts)
  local none = moon.zeros { 0 }
  return #values > 0 and moon.tensor(values, { dtype = "float64" }) or none,
    #inverse > 0 and moon.tensor(inverse):reshape(x:size()) or moon.zeros(x:size()),
    #counts > 0 and moon.tensor(counts) or none
end

-- Slices of a dimension as lists, with a text that tells them apart.
local function slices(x, dim)
  local list = {}
  for i = 1, x:size(dim) do
    list[i] = places.all(x:select(dim, i))
    list[i].text = table.concat(list[i], " ")
    list[i].at = i
  end
  return list
end

local function like_words(a, b)
  for k = 1, #a do if a[k] ~= b[k] then return a[k] < b[k] end end
  return a.at < b.at
end

local function unique_slices(x, dim, sorting)
  dim = places.dim(x, dim)
  local list = slices(x, dim)
  if sorting then table.sort(list, like_words) end
  local firsts, inverse, counts = {}, {}, {}
  for i, slice in ipairs(list) do
    if i == 1 or slice.text ~= list[i - 1].text then
      firsts[#firsts + 1] = slice.at
      counts[#firsts] = 0
    end
    counts[#firsts] = counts[#firsts] + 1
    inverse[slice.at] = #firsts
  end
  return x:index_select(dim, moon.tensor(firsts, { dtype = "int64" })), moon.tensor(inverse),
    moon.tensor(counts)
end

local function naive_unique(x, dim)
  if dim then return unique_slices(x, dim, true) end
  local all = places.all(x)
  local sorted, place = {}, {}
  for i, v in ipairs(all) do sorted[i] = v end
  table.sort(sorted)
  local values, _, counts = runs(sorted)
  for k, v in ipairs(values) do place[v] = k end
  local inverse = {}
  for i, v in ipairs(all) do inverse[i] = place[v] end
  return as_tensors(x, values, inverse, counts)
end

local function insertion(line, v, right)
  local place = 1
  for _, w in ipairs(line) do
    if w < v or (right and w == v) then place = place + 1 end
  end
  return place
end

local function naive_search(sorted, values, o)
  local right = o and o.right
  if type(values) == "number" then return insertion(places.all(sorted), values, right) end
  return naive.build(values:size(), function(at)
    local line = sorted:dim() == 1 and places.all(sorted) or places.line(sorted, #at, at)
    return insertion(line, naive.at(values, at), right)
  end)
end

local sorted_lines = case.values { { -1.5, -0.5, 0, 0.5, 1.5 }, { -2, -1, 0.25, 0.3, 1 } }
local sorted_line = case.values { -1.5, -0.5, 0, 0.5, 1.5 }
local ties = case.values { -0.5, 0, 7, -7, 0.5 }

local function lists(torch_call)
  return ("(lambda v, i, n: (v, i + 1, n))(*%s)"):format(torch_call)
end

return {
  nonzero = {
    naive = naive_nonzero, gradient = false, why = discrete,
    fuzz = function(draw) return { W({ draw(0, 4), draw(1, 4) }, 0, 1) } end,
    cases = {
      { W({ 4, 3 }, 0, 1), torch = "torch.nonzero(a) + 1" },
      { B{ 2, 3, 2 }, torch = "torch.nonzero(a) + 1" },
      { T{ 3, 2 }, torch = "torch.nonzero(a) + 1" },
      { T{}, torch = "torch.nonzero(a) + 1" },
      { W({ 3 }, 0, 0), torch = "torch.nonzero(a) + 1" },
      { T{ 0, 2 } },
    },
  },
  count_nonzero = {
    naive = function(x, dim)
      if not dim then
        local count = 0
        for _, v in ipairs(places.all(x)) do count = count + (v ~= 0 and 1 or 0) end
        return count
      end
      return places.reduced(x, dim, false, function(line)
        local count = 0
        for _, v in ipairs(line) do count = count + (v ~= 0 and 1 or 0) end
        return count
      end)
    end,
    gradient = false, why = discrete,
    cases = {
      { W({ 4, 3 }, 0, 1), torch = "torch.count_nonzero(a)" },
      { W({ 4, 3 }, 0, 1), 2, torch = "torch.count_nonzero(a, 1)" },
      { B{ 4, 3 }, 1, torch = "torch.count_nonzero(a, 0)" },
    },
  },
  unique = {
    naive = naive_unique, gradient = false,
    why = "checked in spec/ops/sets_spec.lua: PyTorch has none",
    fuzz = function(draw)
      if draw(0, 1) == 0 then return { W({ draw(0, 4), draw(1, 5) }, -2, 2) } end
      return { W({ draw(1, 4), draw(1, 3), draw(1, 5) }, 0, 1), draw(1, 3) }
    end,
    cases = {
      { W({ 4, 3 }, 1, 5),
        torch = lists "torch.unique(a, return_inverse=True, return_counts=True)" },
      { W({ 12 }, 0, 2),
        torch = lists "torch.unique(a, return_inverse=True, return_counts=True)" },
      { T{ 2, 3 }, torch = lists "torch.unique(a, return_inverse=True, return_counts=True)" },
      { T{}, torch = lists "torch.unique(a, return_inverse=True, return_counts=True)" },
      { W({ 7, 2 }, 0, 1), 1,
        torch = lists "torch.unique(a, return_inverse=True, return_counts=True, dim=0)" },
      { W({ 2, 2, 6 }, 0, 1), 3,
        torch = lists "torch.unique(a, return_inverse=True, return_counts=True, dim=2)" },
      { W({ 2, 6, 2 }, 0, 1), -2,
        torch = lists "torch.unique(a, return_inverse=True, return_counts=True, dim=1)" },
      { T{ 0, 2 } },
    },
  },
  unique_consecutive = {
    naive = function(x, dim)
      if dim then return unique_slices(x, dim, false) end
      return as_tensors(x, runs(places.all(x)))
    end,
    gradient = false, why = "checked in spec/ops/sets_spec.lua: PyTorch has none",
    fuzz = function(draw) return { W({ draw(0, 12) }, 0, 1) } end,
    cases = {
      { W({ 4, 3 }, 1, 2),
        torch = lists "torch.unique_consecutive(a, return_inverse=True, return_counts=True)" },
      { W({ 12 }, 0, 1),
        torch = lists "torch.unique_consecutive(a, return_inverse=True, return_counts=True)" },
      { W({ 2, 9 }, 0, 1), 2,
        torch = lists
          "torch.unique_consecutive(a, return_inverse=True, return_counts=True, dim=1)" },
    },
  },
  searchsorted = {
    naive = naive_search, gradient = false, why = discrete,
    fuzz = function(draw)
      local line = {}
      for i = 1, draw(1, 9) do line[i] = draw(-4, 4) end
      table.sort(line)
      return { case.values(line), W({ draw(1, 3), draw(1, 4) }, -5, 5) and T{ draw(1, 6) } }
    end,
    large = { case.values { -1, 0, 1 }, T{ 400, 500 } },
    cases = {
      { sorted_line, T{ 3, 4 }, torch = "torch.searchsorted(a, b) + 1" },
      { sorted_lines, T{ 2, 4 }, torch = "torch.searchsorted(a, b) + 1" },
      { sorted_line, ties, torch = "torch.searchsorted(a, b) + 1" },
      { sorted_line, ties, { right = true }, torch = "torch.searchsorted(a, b, right=True) + 1" },
      { sorted_line, 0.25, torch = "torch.tensor(torch.searchsorted(a, 0.25).item() + 1)" },
      { T{ 0 }, T{ 2 }, torch = "torch.searchsorted(a, b) + 1" },
      { sorted_line, T{ 0 } },
    },
  },
  bucketize = {
    naive = function(values, line, o) return naive_search(line, values, o) end,
    gradient = false, why = discrete,
    cases = {
      { T{ 3, 4 }, sorted_line, torch = "torch.bucketize(a, b) + 1" },
      { ties, sorted_line, { right = true }, torch = "torch.bucketize(a, b, right=True) + 1" },
    },
  },
}
