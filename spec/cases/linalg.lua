-- Cases of products of vectors, matrices and stacks of matrices.
local case = require "spec.support.case"
local naive = require "spec.support.naive"
local places = require "spec.support.places"
local T = case.float

-- The product of stacks (..., m, k) and (..., k, n), element by element.
local function product(a, b)
  local left, right = a:dim() == 1, b:dim() == 1
  if left then a = a:unsqueeze(1) end
  if right then b = b:unsqueeze(2) end
  local shape = {}
  local ndim = math.max(a:dim(), b:dim())
  for i = 1, ndim - 2 do
    local p, q = i - ndim + a:dim(), i - ndim + b:dim()
    local x, y = p > 0 and a:size(p) or 1, q > 0 and b:size(q) or 1
    shape[i] = x == 1 and y or x
  end
  shape[ndim - 1], shape[ndim] = a:size(-2), b:size(-1)
  local y = naive.build(shape, function(at)
    local p, q, sum = places.with(at, ndim, 0), places.with(at, ndim - 1, 0), 0
    for k = 1, a:size(-1) do
      p[ndim], q[ndim - 1] = k, k
      local x = {}
      for i = 1, a:dim() do
        local from = p[i + ndim - a:dim()]
        x[i] = i <= a:dim() - 2 and a:size(i) == 1 and 1 or from
      end
      local z = {}
      for i = 1, b:dim() do
        local from = q[i + ndim - b:dim()]
        z[i] = i <= b:dim() - 2 and b:size(i) == 1 and 1 or from
      end
      sum = sum + a[x] * b[z]
    end
    return sum
  end)
  if left then y = y:squeeze(-2) end
  if right then y = y:squeeze(-1) end
  return y
end

local function naive_linear(x, w, bias)
  local y = product(x, w:transpose(1, 2))
  return bias and places.pointwise(function(a, b) return a + b end, y, bias) or y
end

local function naive_addmm(input, a, b, o)
  local beta, alpha = o and o.beta or 1, o and o.alpha or 1
  return places.pointwise(function(x, y) return (beta == 0 and 0 or beta * x) + alpha * y end,
    input, product(a, b))
end

local sums = { float16 = 5e-2, bfloat16 = 2e-1 }   -- sums of up to five products

local function entry(shapes, fuzz, torch_name, large)
  local list = {}
  for i, pair in ipairs(shapes) do
    list[i] = { T(pair[1]), T(pair[2]), torch = ("torch.%s(a, b)"):format(torch_name) }
  end
  return { naive = product, cases = list, fuzz = fuzz, large = large, tolerance = sums }
end

return {
  matmul = entry({
      { { 3, 4 }, { 4, 2 } }, { { 4 }, { 4 } }, { { 4 }, { 4, 3 } }, { { 3, 4 }, { 4 } },
      { { 2, 3, 4 }, { 4, 2 } }, { { 2, 1, 3, 2 }, { 4, 2, 3 } }, { { 3 }, { 2, 3, 4 } },
      { { 2, 3, 0 }, { 2, 0, 2 } }, { { 0, 3 }, { 3, 2 } },
    }, function(draw)
      local m, k, n = draw(1, 9), draw(1, 9), draw(1, 9)
      local a = draw(0, 1) == 0 and { m, k } or { draw(1, 3), m, k }
      return { T(a), T{ k, n } }
    end, "matmul", { T{ 4, 150, 70 }, T{ 4, 70, 130 } }),
  mm = entry({ { { 3, 4 }, { 4, 2 } }, { { 1, 1 }, { 1, 5 } }, { { 3, 0 }, { 0, 2 } } },
    function(draw)
      local k = draw(1, 20)
      return { T{ draw(1, 20), k }, T{ k, draw(1, 20) } }
    end, "mm", { T{ 200, 150 }, T{ 150, 130 } }),
  bmm = entry({ { { 2, 3, 4 }, { 2, 4, 2 } }, { { 1, 2, 2 }, { 1, 2, 2 } },
                { { 0, 2, 2 }, { 0, 2, 3 } } },
    function(draw)
      local b, k = draw(1, 3), draw(1, 6)
      return { T{ b, draw(1, 6), k }, T{ b, k, draw(1, 6) } }
    end, "bmm", { T{ 20, 50, 40 }, T{ 20, 40, 30 } }),
  mv = entry({ { { 3, 4 }, { 4 } }, { { 1, 5 }, { 5 } }, { { 3, 0 }, { 0 } } },
    function(draw)
      local k = draw(1, 9)
      return { T{ draw(1, 9), k }, T{ k } }
    end, "mv"),
  dot = entry({ { { 5 }, { 5 } }, { { 1 }, { 1 } }, { { 0 }, { 0 } } },
    function(draw)
      local k = draw(1, 30)
      return { T{ k }, T{ k } }
    end, "dot"),
  outer = {
    naive = function(a, b)
      return naive.build({ a:size(1), b:size(1) }, function(at) return a[at[1]] * b[at[2]] end)
    end,
    cases = {
      { T{ 3 }, T{ 4 }, torch = "torch.outer(a, b)" },
      { T{ 1 }, T{ 1 }, torch = "torch.outer(a, b)" },
      { T{ 0 }, T{ 4 } },
    },
  },
  addmm = {
    naive = naive_addmm, tolerance = sums,
    cases = {
      { T{ 3, 2 }, T{ 3, 4 }, T{ 4, 2 }, torch = "torch.addmm(a, b, c)" },
      { T{ 2 }, T{ 3, 4 }, T{ 4, 2 }, { beta = 0.5, alpha = -2 },
        torch = "torch.addmm(a, b, c, beta=0.5, alpha=-2)" },
      { T{ 3, 1 }, T{ 3, 4 }, T{ 4, 2 }, torch = "torch.addmm(a, b, c)" },
      { T{ 0, 2 }, T{ 0, 4 }, T{ 4, 2 } },
    },
  },
  linear = {
    naive = naive_linear, tolerance = sums, large = { T{ 100, 80 }, T{ 120, 80 }, T{ 120 } },
    fuzz = function(draw)
      local i, o = draw(1, 9), draw(1, 9)
      return { T{ draw(1, 4), draw(1, 3), i }, T{ o, i }, T{ o } }
    end,
    cases = {
      { T{ 3, 4 }, T{ 5, 4 }, T{ 5 }, torch = "F.linear(a, b, c)" },
      { T{ 2, 3, 4 }, T{ 5, 4 }, torch = "F.linear(a, b)" },
      { T{ 4 }, T{ 5, 4 }, T{ 5 }, torch = "F.linear(a, b, c)" },
      { T{ 0, 4 }, T{ 5, 4 }, T{ 5 } },
    },
  },
  linear_fused = {
    naive = function(input, weight, bias, activation)
      local low = activation == "none" and -math.huge or 0
      local high = activation == "relu6" and 6 or math.huge
      return places.pointwise(function(y) return math.min(high, math.max(low, y)) end,
        naive_linear(input, weight, bias))
    end,
    tolerance = sums,
    large = { T{ 100, 80 }, T{ 120, 80 }, T{ 120 }, "relu" },
    fuzz = function(draw)
      local i, o = draw(1, 9), draw(1, 9)
      return { T{ draw(1, 40), i }, T{ o, i }, draw(0, 1) == 0 and T{ o } or nil,
               ({ "none", "relu", "relu6" })[draw(1, 3)], n = 4 }
    end,
    cases = {
      { T{ 20, 4 }, T{ 5, 4 }, T{ 5 }, "relu", torch = "F.relu(F.linear(a, b, c))" },
      { T{ 2, 9, 4 }, T{ 33, 4 }, nil, "relu6", n = 4, torch = "F.relu6(F.linear(a, b))" },
      { T{ 4 }, T{ 5, 4 }, T{ 5 }, "relu", torch = "F.relu(F.linear(a, b, c))" },
      { T{ 0, 4 }, T{ 5, 4 }, T{ 5 }, "none" },
    },
  },
}
