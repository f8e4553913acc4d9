-- Cases of variances, deviations and norms.
local case = require "spec.support.case"
local places = require "spec.support.places"
local T = case.float

local function variance(list, correction)
  local mean, sum = 0, 0
  for _, v in ipairs(list) do mean = mean + v / #list end
  for _, v in ipairs(list) do sum = sum + (v - mean) ^ 2 end
  return sum / (#list - correction)
end

local function spread(root)
  return function(x, dims, unbiased, keepdim)
    local correction = 1
    if type(unbiased) == "table" then
      correction, keepdim = unbiased.correction or 1, unbiased.keepdim
    elseif unbiased == false then
      correction = 0
    end
    return places.over(x, dims, keepdim, function(list)
      local v = variance(list, correction)
      return root and math.sqrt(v) or v
    end)
  end
end

local function norm_of(list, p)
  local sum, most, least = 0, 0, math.huge
  for _, v in ipairs(list) do
    v = math.abs(v)
    most, least = math.max(most, v), math.min(least, v)
    sum = sum + (p == 0 and (v ~= 0 and 1 or 0) or v ^ p)
  end
  if p == math.huge then return most end
  if p == -math.huge then return least end
  return p == 0 and sum or sum ^ (1 / p)
end

local function fuzz(draw)
  local dims = { { 2 }, { 1, 2 }, { 2, 3 }, { 1, 2, 3 } }
  return { T{ draw(1, 4), draw(2, 4), draw(1, 4) }, dims[draw(1, 4)], draw(0, 1) == 1,
           draw(0, 1) == 1 }
end

local function entry(name)
  local t = "torch." .. name
  return {
    naive = spread(name == "std"), fuzz = fuzz, large = { T{ 300, 400 }, 1 },
    cases = {
      { T{ 3, 4 }, torch = t .. "(a)" },
      { T{ 3, 4 }, 2, torch = t .. "(a, 1)" },
      { T{ 2, 3, 4 }, { 1, 3 }, false, true,
        torch = t .. "(a, (0, 2), correction=0, keepdim=True)" },
      { T{ 3, 5 }, 2, { correction = 2 }, torch = t .. "(a, 1, correction=2)" },
      { T{ 0, 3 }, 2 },
    },
  }
end

return {
  var = entry "var", std = entry "std",
  norm = {
    naive = function(x, p, dims, keepdim)
      return places.over(x, dims, keepdim, function(list) return norm_of(list, p or 2) end)
    end,
    fuzz = function(draw)
      local ps = { 1, 2, 3, 1.5, math.huge, -math.huge }
      return { T{ draw(1, 4), draw(1, 4) }, ps[draw(1, 6)], { draw(1, 2) } }
    end,
    large = { T{ 300, 400 }, 2, 1 },
    cases = {
      { T{ 3, 4 }, torch = "linalg.vector_norm(a)" },
      { T{ 3, 4 }, 1, 2, torch = "linalg.vector_norm(a, 1, 1)" },
      { T{ 2, 3, 4 }, 3, { 1, 3 }, true, torch = "linalg.vector_norm(a, 3, (0, 2), True)" },
      { T{ 3, 4 }, math.huge, 1, torch = "linalg.vector_norm(a, math.inf, 0)" },
      { T{ 3, 4 }, -math.huge, 1, torch = "linalg.vector_norm(a, -math.inf, 0)" },
      { T{ 3, 4 }, 0.5, 1, torch = "linalg.vector_norm(a, 0.5, 0)" },
      { T{ 3 }, -1, torch = "linalg.vector_norm(a, -1)" },
      { T{ 0, 3 }, 2, 2 },
    },
  },
}
