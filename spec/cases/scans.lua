-- Cases of running products and extremes, differences, and logsumexp.
local case = require "spec.support.case"
local naive = require "spec.support.naive"
local places = require "spec.support.places"
local T = case.float

local function scan(f, results)
  return function(x, dim)
    if x:dim() == 0 then return (f({ x:item() }))[1] end
    dim = places.dim(x, dim)
    return places.lines(x, dim, x:size(dim), f, results)
  end
end

local function products(line)
  local result, product = {}, 1
  for i, v in ipairs(line) do product = product * v; result[i] = product end
  return result
end

local function running(better)
  return scan(function(line)
    local values, where = {}, {}
    for i, v in ipairs(line) do
      if i == 1 or v == values[i - 1] or better(v, values[i - 1]) then values[i], where[i] = v, i
      else values[i], where[i] = values[i - 1], where[i - 1] end
    end
    return values, where
  end, 2)
end

local function differences(line)
  local result = {}
  for i = 1, #line - 1 do result[i] = line[i + 1] - line[i] end
  return result
end

local function naive_diff(x, o)
  o = o or {}
  local dim = places.dim(x, o.dim or -1)
  for _ = 1, o.n or 1 do
    x = places.lines(x, dim, math.max(0, x:size(dim) - 1), differences)
  end
  return x
end

local function naive_logsumexp(x, dims, keepdim)
  dims = type(dims) == "number" and { dims } or dims or {}
  if #dims == 0 then for i = 1, x:dim() do dims[i] = i end end
  local over = {}
  for _, d in ipairs(dims) do over[places.dim(x, d)] = true end
  local shape, result = {}, {}
  for i = 1, x:dim() do shape[i] = over[i] and 1 or x:size(i) end
  for i = 1, x:dim() do if keepdim or not over[i] then result[#result + 1] = shape[i] end end
  local sums = naive.build(shape, function(at)
    local sum = 0
    for from in naive.positions(x:size()) do
      local same = true
      for i = 1, #from do same = same and (over[i] or from[i] == at[i]) end
      if same then sum = sum + math.exp(naive.at(x, from)) end
    end
    return math.log(sum)
  end)
  return sums:reshape(result)
end

local function fuzz(draw)
  local shape = {}
  for i = 1, draw(1, 3) do shape[i] = draw(1, 5) end
  return { T(shape), draw(1, #shape) }
end

local zeros = case.values { { 2, 0, 3, 0.5 }, { 1, 0, -2, 0 }, { 0, 1, 2, 3 } }

return {
  cumprod = {
    naive = scan(products), fuzz = fuzz, large = { T{ 300, 700 }, 2 },
    cases = {
      { T{ 3, 4 }, 2, torch = "torch.cumprod(a, 1)" },
      { T{ 3, 4, 2 }, 1, torch = "torch.cumprod(a, 0)" },
      { zeros, 2, torch = "torch.cumprod(a, 1)" },
      { T{}, -1, torch = "torch.cumprod(a, 0)" },
      { T{ 1, 5 }, -1, torch = "torch.cumprod(a, -1)" },
      { T{ 3, 0 }, 2 }, { T{ 0, 3 }, 2 },
    },
  },
  cummax = {
    naive = running(function(a, b) return a > b end), fuzz = fuzz, large = { T{ 300, 700 }, 2 },
    cases = {
      { T{ 3, 4 }, 2, torch = "(torch.cummax(a, 1)[0], torch.cummax(a, 1)[1] + 1)" },
      { T{ 5, 2, 2 }, 1, torch = "(torch.cummax(a, 0)[0], torch.cummax(a, 0)[1] + 1)" },
      { T{ 3, 0 }, 2 }, { T{ 0, 3 }, 2 },
    },
  },
  cummin = {
    naive = running(function(a, b) return a < b end), fuzz = fuzz,
    cases = {
      { T{ 3, 4 }, 2, torch = "(torch.cummin(a, 1)[0], torch.cummin(a, 1)[1] + 1)" },
      { T{ 5, 2, 2 }, -3, torch = "(torch.cummin(a, 0)[0], torch.cummin(a, 0)[1] + 1)" },
    },
  },
  diff = {
    naive = naive_diff,
    fuzz = function(draw)
      return { T{ draw(1, 5), draw(1, 5) }, { n = draw(0, 3), dim = draw(1, 2) } }
    end,
    cases = {
      { T{ 5 }, torch = "torch.diff(a)" },
      { T{ 4, 3 }, { n = 2, dim = 1 }, torch = "torch.diff(a, n=2, dim=0)" },
      { T{ 2, 1 }, torch = "torch.diff(a)" },
      { T{ 2, 0 } },
    },
  },
  logsumexp = {
    naive = naive_logsumexp,
    fuzz = function(draw)
      return { T{ draw(1, 4), draw(1, 4), draw(1, 3) }, { draw(1, 2), 3 }, draw(0, 1) == 1 }
    end,
    cases = {
      { T{ 3, 4 }, 2, torch = "torch.logsumexp(a, 1)" },
      { T{ 3, 4, 2 }, { 1, 3 }, true, torch = "torch.logsumexp(a, (0, 2), keepdim=True)" },
      { T{ 3, 4 }, torch = "torch.logsumexp(a, (0, 1))" },
      { T({ 2, 3 }, { low = 300, high = 302 }), 2, torch = "torch.logsumexp(a, 1)" },
      { T{}, torch = "torch.logsumexp(a, 0)" },
      { T{ 0, 3 }, 2 },
    },
  },
}
