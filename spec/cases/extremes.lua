-- Cases of largest and smallest elements and their places.
local case = require "spec.support.case"
local places = require "spec.support.places"
local T, W = case.float, case.whole

local function place_of(line, better)
  local place = 1
  for i, v in ipairs(line) do if better(v, line[place]) then place = i end end
  return place
end

local function more(a, b) return a > b end
local function less(a, b) return a < b end

local function extreme(better)
  return function(x, dim, keepdim)
    if not dim then
      local all = places.all(x)
      return all[place_of(all, better)]
    end
    if x:dim() == 0 then return x:item(), 1 end
    dim = places.dim(x, dim)
    return places.reduced(x, dim, keepdim, function(line) return line[place_of(line, better)] end),
      places.reduced(x, dim, keepdim, function(line) return place_of(line, better) end)
  end
end

local function place(better)
  return function(x, dim, keepdim)
    if not dim then return place_of(places.all(x), better) end
    return places.reduced(x, places.dim(x, dim), keepdim, function(line)
      return place_of(line, better)
    end)
  end
end

local function fuzz(draw) return { T{ draw(1, 4), draw(1, 6), 2 }, draw(1, 3), draw(0, 1) == 1 } end

local function with_place(better, name)
  local function both(rest)
    return ("tuple(v + i for i, v in enumerate(torch.%s(a, %s)))"):format(name, rest)
  end
  return {
    naive = extreme(better), fuzz = fuzz, large = { T{ 300, 400 }, 2 },
    cases = {
      { T{ 3, 4 }, torch = ("torch.%s(a)"):format(name) },
      { T{ 3, 4 }, 2, torch = both "1" },
      { T{ 2, 5, 3 }, -2, true, torch = both "1, keepdim=True" },
      { T{}, 1, torch = both "0" },
      { W({ 2, 3 }, -9, 9), 1 },
      { T{ 0, 3 }, 2 },
    },
  }
end

local function only_place(better, name)
  return {
    naive = place(better), fuzz = fuzz, gradient = false, why = "places have no slope",
    cases = {
      { T{ 3, 4 }, torch = ("torch.%s(a) + 1"):format(name) },
      { T{ 3, 4 }, 1, torch = ("torch.%s(a, 0) + 1"):format(name) },
      { T{ 2, 5, 3 }, -2, true, torch = ("torch.%s(a, 1, keepdim=True) + 1"):format(name) },
      { T{ 0, 3 }, 2 },
    },
  }
end

return {
  max = with_place(more, "max"), min = with_place(less, "min"),
  argmax = only_place(more, "argmax"), argmin = only_place(less, "argmin"),
}
