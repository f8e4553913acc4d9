-- Cases of sums, products, means, extremes without a place, all and any, and running sums.
local case = require "spec.support.case"
local places = require "spec.support.places"
local T, W, B = case.float, case.whole, case.bool

-- f(list) over the dimensions that the call names.
local function over(f)
  return function(x, dims, keepdim) return places.over(x, dims, keepdim, f) end
end

local function fold(start, step)
  return function(list)
    local v = start
    for _, x in ipairs(list) do v = step(v, x) end
    return v
  end
end

local add = fold(0, function(a, b) return a + b end)
local multiply = fold(1, function(a, b) return a * b end)
local most = fold(-math.huge, math.max)
local least = fold(math.huge, math.min)
local function mean(list) return add(list) / #list end
local every = fold(1, function(a, b) return (a ~= 0 and b ~= 0) and 1 or 0 end)
local some = fold(0, function(a, b) return (a ~= 0 or b ~= 0) and 1 or 0 end)

local function fuzz(draw)
  local dims = { { 1 }, { 2 }, { 1, 3 }, { 2, 3 }, { 1, 2, 3 } }
  return { T{ draw(1, 4), draw(1, 4), draw(1, 4) }, dims[draw(1, 5)], draw(0, 1) == 1 }
end

local function entry(f, torch_name, several)
  local t = "torch." .. torch_name
  return {
    naive = over(f), fuzz = fuzz, large = { T{ 300, 200 }, 1 },
    cases = {
      { T{ 3, 4 }, torch = t .. "(a)" },
      { T{ 3, 4 }, 2, torch = t .. "(a, 1)" },
      { T{ 2, 3, 4 }, 1, true, torch = t .. "(a, 0, keepdim=True)" },
      { T{ 2, 3, 4 }, { 1, 3 }, torch = several and t .. "(a, (0, 2))" or nil },
      { T{}, torch = t .. "(a)" },
      { T{ 0, 3 }, 2 },
    },
  }
end

local sum, product, average = entry(add, "sum", true), entry(multiply, "prod"),
  entry(mean, "mean", true)
sum.cases[#sum.cases + 1] = { W({ 3, 4 }, -5, 5), 1, torch = "torch.sum(a, 0)" }
sum.cases[#sum.cases + 1] = { T{ 0, 3 }, 1, torch = "torch.sum(a, 0)" }
product.cases[#product.cases + 1] =
  { case.values{ { 2, 0, 3 }, { 1, 2, -1 }, { 0, 0, 5 } }, 2, torch = "torch.prod(a, 1)" }
product.cases[#product.cases + 1] = { W({ 3, 4 }, -3, 3), 1, torch = "torch.prod(a, 0)" }
product.cases[#product.cases + 1] = { T{ 0, 3 }, 1, torch = "torch.prod(a, 0)" }

local function question(f, torch_name)
  local t = "torch." .. torch_name
  return {
    naive = over(f), gradient = false, why = "the result is bool",
    fuzz = function(draw)
      return { W({ draw(1, 3), draw(1, 3), draw(1, 3) }, 0, 1), { draw(1, 2), 3 } }
    end,
    cases = {
      { B{ 3, 4 }, torch = t .. "(a)" }, { W({ 4, 3 }, 0, 2), 2, torch = t .. "(a, 1)" },
      { T{ 2, 3 }, 1, torch = t .. "(a, 0)" }, { B{ 0, 3 }, 1, torch = t .. "(a, 0)" },
    },
  }
end

local function running(line)
  local result, total = {}, 0
  for i, v in ipairs(line) do total = total + v; result[i] = total end
  return result
end

return {
  sum = sum, prod = product, mean = average,
  amax = entry(most, "amax", true), amin = entry(least, "amin", true),
  all = question(every, "all"), any = question(some, "any"),
  cumsum = {
    naive = function(x, dim)
      if x:dim() == 0 then return x:item() end
      dim = places.dim(x, dim)
      return places.lines(x, dim, x:size(dim), running)
    end,
    fuzz = function(draw) return { T{ draw(1, 5), draw(1, 5), draw(1, 3) }, draw(1, 3) } end,
    large = { T{ 300, 400 }, 2 },
    cases = {
      { T{ 3, 4 }, 2, torch = "torch.cumsum(a, 1)" },
      { T{ 3, 4, 2 }, -3, torch = "torch.cumsum(a, 0)" },
      { W({ 3, 4 }, -5, 5), 1, torch = "torch.cumsum(a, 0)" },
      { T{}, 1, torch = "torch.cumsum(a, 0)" },
      { T{ 3, 0 }, 2 },
    },
  },
}
