-- Cases of small formulas on vectors and pairs of tensors.
local case = require "spec.support.case"
local naive = require "spec.support.naive"
local places = require "spec.support.places"
local T = case.float

local function p_norm(line, p)
  local sum, most = 0, 0
  for _, v in ipairs(line) do
    v = math.abs(v)
    most = math.max(most, v)
    if p == 0 then sum = sum + (v ~= 0 and 1 or 0) else sum = sum + v ^ p end
  end
  if p == math.huge then return most end
  return p == 0 and sum or sum ^ (1 / p)
end

local function naive_cdist(a, b, p)
  local shape = places.shape_of(a:narrow(-2, 1, math.min(1, a:size(-2))):select(-1, 1),
    b:narrow(-2, 1, math.min(1, b:size(-2))):select(-1, 1))
  shape[#shape] = a:size(-2)
  shape[#shape + 1] = b:size(-2)
  return naive.build(shape, function(at)
    local x, y, line = {}, {}, {}
    for i = 1, #at - 2 do x[i], y[i] = at[i], at[i] end
    x[#at - 1], y[#at - 1] = at[#at - 1], at[#at]
    for k = 1, a:size(-1) do
      x[#at], y[#at] = k, k
      line[k] = places.broadcast(a, x) - places.broadcast(b, y)
    end
    return p_norm(line, p or 2)
  end)
end

local function naive_cosine(a, b, o)
  local shape = places.shape_of(a, b)
  local dim = o and o.dim or 2
  if dim < 0 then dim = dim + #shape + 1 end
  return naive.build(places.without(shape, dim), function(at)
    local dot, aa, bb = 0, 0, 0
    for k = 1, shape[dim] do
      local full = places.inserted(at, dim, k)
      local x, y = places.broadcast(a, full), places.broadcast(b, full)
      dot, aa, bb = dot + x * y, aa + x * x, bb + y * y
    end
    local eps = o and o.eps or 1e-8
    return dot / (math.max(math.sqrt(aa), eps) * math.max(math.sqrt(bb), eps))
  end)
end

local function naive_cross(a, b, dim)
  local shape = places.shape_of(a, b)
  dim = dim or -1
  if dim < 0 then dim = dim + #shape + 1 end
  return naive.build(shape, function(at)
    local i, j = at[dim] % 3 + 1, (at[dim] + 1) % 3 + 1
    local p, q = places.with(at, dim, i), places.with(at, dim, j)
    return places.broadcast(a, p) * places.broadcast(b, q)
      - places.broadcast(a, q) * places.broadcast(b, p)
  end)
end

local function close(o)
  o = o or {}
  return function(a, b)
    if math.abs(a) == math.huge or math.abs(b) == math.huge then return a == b and 1 or 0 end
    return (a == b or math.abs(a - b) <= (o.atol or 1e-8) + (o.rtol or 1e-5) * math.abs(b)) and 1
      or 0
  end
end

return {
  lerp = {
    naive = function(a, b, w)
      return places.pointwise(function(x, y, t) return x + t * (y - x) end, a, b, w)
    end,
    cases = {
      { T{ 3, 4 }, T{ 3, 4 }, 0.3, torch = "torch.lerp(a, b, 0.3)" },
      { T{ 3, 1 }, T{ 4 }, T{ 3, 4 }, torch = "torch.lerp(a, b, c)" },
      { T{ 0, 4 }, T{ 4 }, 0.5 },
    },
  },
  addcmul = {
    naive = function(x, a, b, value)
      return places.pointwise(function(p, q, r) return p + (value or 1) * q * r end, x, a, b)
    end,
    cases = {
      { T{ 3, 4 }, T{ 3, 1 }, T{ 4 }, torch = "torch.addcmul(a, b, c)" },
      { T{ 3 }, T{ 3 }, T{ 3 }, -0.5, torch = "torch.addcmul(a, b, c, value=-0.5)" },
    },
  },
  addcdiv = {
    naive = function(x, a, b, value)
      return places.pointwise(function(p, q, r) return p + (value or 1) * q / r end, x, a, b)
    end,
    cases = {
      { T{ 3, 4 }, T{ 3, 1 }, T({ 4 }, { low = 0.5 }), torch = "torch.addcdiv(a, b, c)" },
      { T{ 3 }, T{ 3 }, T({ 3 }, { low = 0.5 }), -2, torch = "torch.addcdiv(a, b, c, value=-2)" },
    },
  },
  cross = {
    naive = naive_cross,
    cases = {
      { T{ 4, 3 }, T{ 4, 3 }, torch = "linalg.cross(a, b)" },
      { T{ 3, 4 }, T{ 3, 1 }, 1, torch = "linalg.cross(a, b, dim=0)" },
      { T{ 0, 3 }, T{ 0, 3 } },
    },
  },
  cdist = {
    naive = naive_cdist,
    tolerance = { bfloat16 = 2e-1 },   -- powers of differences that lost their digits
    fuzz = function(draw)
      local d, ps = draw(1, 4), { 1, 2, 3, math.huge }
      return { T{ draw(1, 3), draw(1, 4), d }, T{ draw(1, 4), d }, ps[draw(1, 4)] }
    end,
    cases = {
      { T{ 3, 4 }, T{ 2, 4 }, torch = "torch.cdist(a, b)" },
      { T{ 2, 3, 4 }, T{ 2, 2, 4 }, 1, torch = "torch.cdist(a, b, p=1)" },
      { T{ 3, 4 }, T{ 2, 4 }, math.huge, torch = "torch.cdist(a, b, p=math.inf)" },
      { T{ 3, 4 }, T{ 2, 4 }, 2.5, torch = "torch.cdist(a, b, p=2.5)" },
      { T{ 0, 4 }, T{ 2, 4 } },
    },
  },
  cosine_similarity = {
    naive = naive_cosine,
    cases = {
      { T{ 3, 4 }, T{ 3, 4 }, torch = "F.cosine_similarity(a, b)" },
      { T{ 3, 4, 2 }, T{ 3, 4, 2 }, { dim = 1 }, torch = "F.cosine_similarity(a, b, dim=0)" },
      { T{ 3, 4 }, T{ 4 }, { dim = -1 }, torch = "F.cosine_similarity(a, b, dim=-1)" },
      { T{ 0, 4 }, T{ 0, 4 } },
    },
  },
  isclose = {
    naive = function(a, b, o) return places.pointwise(close(o), a, b) end,
    gradient = false, why = "the result is bool",
    cases = {
      { case.values{ 1, 2, 1 / 0, 3 }, case.values{ 1 + 1e-6, 2.1, 1 / 0, -1 / 0 },
        torch = "torch.isclose(a, b)" },
      { T{ 3, 4 }, T{ 3, 4 }, { rtol = 0.5, atol = 0.1 },
        torch = "torch.isclose(a, b, rtol=0.5, atol=0.1)" },
    },
  },
}
