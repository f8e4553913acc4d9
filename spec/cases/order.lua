-- Cases of sorting.
local case = require "spec.support.case"
local places = require "spec.support.places"
local T, W = case.float, case.whole

-- Places in order; equal elements keep theirs.
local function order(line, descending)
  local at = {}
  for i = 1, #line do at[i] = i end
  table.sort(at, function(a, b)
    if line[a] == line[b] then return a < b end
    if descending then return line[a] > line[b] end
    return line[a] < line[b]
  end)
  return at
end

local function sorted(x, dim, descending, length)
  if x:dim() == 0 then return x:item(), 1 end
  dim = places.dim(x, dim or -1)
  return places.lines(x, dim, length or x:size(dim), function(line)
    local values, at = {}, order(line, descending)
    for i, place in ipairs(at) do values[i] = line[place] end
    return values, at
  end, 2)
end

local function both(call) return ("tuple(v + i for i, v in enumerate(%s))"):format(call) end

local function fuzz(draw) return { T{ draw(1, 4), draw(1, 9), 2 }, draw(1, 3), draw(0, 1) == 1 } end

return {
  sort = {
    naive = function(x, dim, descending) return sorted(x, dim, descending) end,
    fuzz = fuzz, large = { T{ 300, 400 }, 2 },
    cases = {
      { T{ 3, 5 }, torch = both "torch.sort(a)" },
      { T{ 5, 3 }, 1, true, torch = both "torch.sort(a, 0, True)" },
      { T{ 60 }, torch = both "torch.sort(a)" },
      { W({ 4, 6 }, 0, 2), 2, torch = both "torch.sort(a, dim=1, stable=True)" },
      { T{}, torch = both "torch.sort(a)" },
      { T{ 3, 0 } },
    },
  },
  argsort = {
    naive = function(x, dim, descending) return (select(2, sorted(x, dim, descending))) end,
    fuzz = fuzz, gradient = false, why = "places have no slope",
    cases = {
      { T{ 3, 5 }, torch = "torch.argsort(a) + 1" },
      { T{ 5, 3 }, 1, true, torch = "torch.argsort(a, 0, True) + 1" },
      { T{ 3, 0 } },
    },
  },
  topk = {
    naive = function(x, k, dim, largest) return sorted(x, dim, largest ~= false, k) end,
    fuzz = function(draw)
      local n = draw(1, 9)
      return { T{ draw(1, 4), n }, draw(1, n), 2, draw(0, 1) == 1 }
    end,
    large = { T{ 300, 400 }, 5 },
    cases = {
      { T{ 3, 5 }, 2, torch = both "torch.topk(a, 2)" },
      { T{ 5, 3 }, 4, 1, false, torch = both "torch.topk(a, 4, 0, False)" },
      { T{ 2, 80 }, 70, torch = both "torch.topk(a, 70)" },
      { T{ 3, 2 }, 0 },
    },
  },
}
