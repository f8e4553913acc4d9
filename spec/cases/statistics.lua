-- Cases of medians, quantiles, histograms and covariances.
local case = require "spec.support.case"
local naive = require "spec.support.naive"
local places = require "spec.support.places"
local T = case.float

local counting = "counts have no slope"
local wide = { "float64", "float32" }

local function order(line)
  local at = {}
  for i = 1, #line do at[i] = i end
  table.sort(at, function(a, b)
    if line[a] == line[b] then return a < b end
    return line[a] < line[b]
  end)
  return at
end

local function chosen(x, dim, keepdim, place)
  dim = places.dim(x, dim)
  local values = places.reduced(x, dim, keepdim, function(line)
    return line[order(line)[place(#line)]]
  end)
  return values, places.reduced(x, dim, keepdim, function(line)
    return order(line)[place(#line)]
  end)
end

local function lower_middle(n) return math.floor((n + 1) / 2) end

local function naive_median(x, dim, keepdim)
  if dim then return chosen(x, dim, keepdim, lower_middle) end
  local all = places.all(x)
  return all[order(all)[lower_middle(#all)]]
end

local rules = {
  linear = function(low, high, part) return low + (high - low) * part end,
  lower = function(low) return low end,
  higher = function(_, high) return high end,
  midpoint = function(low, high) return (low + high) / 2 end,
  nearest = function(low, high, part) return part > 0.5 and high or low end,
}

local function quantile_of(line, q, rule)
  local sorted = {}
  for i, at in ipairs(order(line)) do sorted[i] = line[at] end
  local rank = q * (#line - 1)
  local low = math.floor(rank)
  if low == rank then return sorted[low + 1] end
  return rules[rule](sorted[low + 1], sorted[low + 2], rank - low)
end

local function naive_quantile(x, q, o)
  o = o or {}
  local dim, rule, number = o.dim, o.interpolation or "linear", type(q) == "number"
  local shape, lines = x:size(), x
  if not dim then lines, dim, shape = x:reshape(x:numel()), 1, x:size() end
  dim = places.dim(lines, dim)
  local list = number and { q } or places.all(q)
  local results = {}
  for i, part in ipairs(list) do
    local y = places.reduced(lines, dim, o.keepdim, function(line)
      return quantile_of(line, part, rule)
    end)
    if not o.dim and o.keepdim then
      local ones = {}
      for k = 1, #shape do ones[k] = 1 end
      y = y:reshape(ones)
    end
    results[i] = y
  end
  return number and results[1] or require("moonlet").stack(results, 1)
end

local function bins_of(x, o)
  local all, bins, low, high = places.all(x), o.bins or 100, o.min or 0, o.max or 0
  if low == high and #all > 0 then
    low, high = math.huge, -math.huge
    for _, v in ipairs(all) do low, high = math.min(low, v), math.max(high, v) end
  end
  if low == high then low, high = low - 1, high + 1 end
  local counts, edges = {}, {}
  for i = 1, bins do counts[i] = 0 end
  for _, v in ipairs(all) do
    if v >= low and v <= high then
      local bin = math.min(bins, math.floor((v - low) / (high - low) * bins) + 1)
      counts[bin] = counts[bin] + 1
    end
  end
  for i = 0, bins do edges[i + 1] = low + (high - low) * i / bins end
  if o.density then
    for i = 1, bins do counts[i] = counts[i] / #all / ((high - low) / bins) end
  end
  return counts, edges
end

local function naive_cov(x, correction)
  local rows = x:dim() == 1 and x:reshape(1, x:size(1)) or x
  local n, count = rows:size(1), rows:size(2)
  local cov = naive.build({ n, n }, function(at)
    local sum, a, b = 0, 0, 0
    for k = 1, count do a, b = a + rows[at[1]][k] / count, b + rows[at[2]][k] / count end
    for k = 1, count do sum = sum + (rows[at[1]][k] - a) * (rows[at[2]][k] - b) end
    return sum / (count - (correction or 1))
  end)
  if x:dim() == 1 then return cov:reshape {} end
  return cov
end

local function naive_corrcoef(x)
  local cov = naive_cov(x)
  if x:dim() == 1 then return 1 end
  return naive.build(cov:size(), function(at)
    return cov[at] / math.sqrt(cov[at[1]][at[1]] * cov[at[2]][at[2]])
  end)
end

return {
  kthvalue = {
    naive = function(x, k, o)
      return chosen(x, o and o.dim or -1, o and o.keepdim, function() return k end)
    end,
    fuzz = function(draw)
      local n = draw(1, 6)
      return { T{ draw(1, 3), n }, draw(1, n) }
    end,
    cases = {
      { T{ 3, 5 }, 2, torch = "tuple(v + i for i, v in enumerate(torch.kthvalue(a, 2)))" },
      { T{ 4, 3 }, 4, { dim = 1, keepdim = true },
        torch = "tuple(v + i for i, v in enumerate(torch.kthvalue(a, 4, 0, True)))" },
      { T{ 0, 3 }, 1 },
    },
  },
  median = {
    naive = naive_median,
    fuzz = function(draw) return { T{ draw(1, 4), draw(1, 7) }, draw(1, 2), draw(0, 1) == 1 } end,
    cases = {
      { T{ 3, 5 }, torch = "torch.median(a)" },
      { T{ 3, 4 }, torch = "torch.median(a)" },
      { T{ 3, 4 }, 2, torch = "tuple(v + i for i, v in enumerate(torch.median(a, 1)))" },
      { T{ 5, 2 }, 1, true,
        torch = "tuple(v + i for i, v in enumerate(torch.median(a, 0, True)))" },
      { T{ 0, 3 }, 2 },
    },
  },
  quantile = {
    naive = naive_quantile, dtypes = wide, why = "ranks of halves would be rounded",
    fuzz = function(draw)
      local names = { "linear", "lower", "higher", "midpoint" }
      return { T{ draw(1, 4), draw(1, 7) }, draw(0, 8) / 8,
               { dim = draw(1, 2), interpolation = names[draw(1, 4)] } }
    end,
    cases = {
      { T{ 3, 5 }, 0.3, torch = "torch.quantile(a, 0.3)" },
      { T{ 3, 5 }, case.values{ 0.05, 0.3, 0.95 }, { dim = 2 },
        torch = "torch.quantile(a, b, dim=1)" },
      { T{ 3, 5 }, case.values{ 0.1, 0.77 }, { dim = 1, keepdim = true },
        torch = "torch.quantile(a, b, dim=0, keepdim=True)" },
      { T{ 3, 4 }, 0.6, { keepdim = true, interpolation = "lower" },
        torch = "torch.quantile(a, 0.6, keepdim=True, interpolation='lower')" },
      { T{ 3, 4 }, 0.6, { dim = 2, interpolation = "higher" },
        torch = "torch.quantile(a, 0.6, dim=1, interpolation='higher')" },
      { T{ 3, 4 }, 0.5, { dim = 2, interpolation = "midpoint" },
        torch = "torch.quantile(a, 0.5, dim=1, interpolation='midpoint')" },
      { T{ 3, 4 }, 0.6, { dim = 2, interpolation = "nearest" },
        torch = "torch.quantile(a, 0.6, dim=1, interpolation='nearest')" },
    },
  },
  histc = {
    naive = function(x, o) return (bins_of(x, o or {})) end,
    dtypes = wide, gradient = false, why = counting,
    fuzz = function(draw) return { T{ draw(0, 30) }, { bins = draw(1, 9), min = -1, max = 2 } } end,
    cases = {
      { T{ 40 }, torch = "torch.histc(a)" },
      { T{ 5, 8 }, { bins = 7, min = -1, max = 1 }, torch = "torch.histc(a, 7, -1, 1)" },
      { case.values{ 2, 2, 2 }, { bins = 4 }, torch = "torch.histc(a, 4)" },
    },
  },
  histogram = {
    naive = function(x, o) return bins_of(x, o) end,
    dtypes = wide, gradient = false, why = counting,
    cases = {
      { T{ 5, 8 }, { bins = 7 },
        torch = "tuple(torch.histogram(a.detach(), 7))" },
      { T{ 40 }, { bins = 5, min = -2, max = 2, density = true },
        torch = "tuple(torch.histogram(a.detach(), 5, range=(-2., 2.), density=True))" },
    },
  },
  cov = {
    naive = naive_cov,
    fuzz = function(draw) return { T{ draw(1, 4), draw(2, 6) }, draw(0, 1) } end,
    cases = {
      { T{ 3, 5 }, torch = "torch.cov(a)" }, { T{ 3, 5 }, 0, torch = "torch.cov(a, correction=0)" },
      { T{ 6 }, torch = "torch.cov(a)" },
    },
  },
  corrcoef = {
    naive = naive_corrcoef,
    cases = { { T{ 3, 5 }, torch = "torch.corrcoef(a)" } },
  },
}
