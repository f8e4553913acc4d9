-- Cases of triangles, diagonals, Kronecker products and sums with products.
local case = require "spec.support.case"
local naive = require "spec.support.naive"
local places = require "spec.support.places"
local T = case.float

local function triangle(keep)
  return function(x, offset)
    local ndim = x:dim()
    return naive.build(x:size(), function(at)
      return keep(at[ndim] - at[ndim - 1], offset or 0) and x[at] or 0
    end)
  end
end

local function naive_diagonal(x, o)
  o = o or {}
  local offset, a = o.offset or 0, places.dim(x, o.dim1 or 1)
  local b = places.dim(x, o.dim2 or 2)
  local rows, columns = x:size(a), x:size(b)
  local length = math.max(0, math.min(rows + math.min(offset, 0), columns - math.max(offset, 0)))
  local shape, others = {}, {}
  for i = 1, x:dim() do
    if i ~= a and i ~= b then
      shape[#shape + 1] = x:size(i)
      others[#others + 1] = i
    end
  end
  shape[#shape + 1] = length
  return naive.build(shape, function(at)
    local full, place = {}, at[#at]
    for k, i in ipairs(others) do full[i] = at[k] end
    full[a] = place - math.min(offset, 0)
    full[b] = place + math.max(offset, 0)
    return x[full]
  end)
end

local function naive_embed(x, o)
  o = o or {}
  local offset, ndim = o.offset or 0, x:dim() + 1
  local a, b = o.dim1 or -2, o.dim2 or -1
  if a < 0 then a = a + ndim + 1 end
  if b < 0 then b = b + ndim + 1 end
  local shape, n = {}, x:size(x:dim()) + math.abs(offset)
  local others = {}
  for i = 1, ndim do
    if i == a or i == b then shape[i] = n
    else
      others[#others + 1] = i
      shape[i] = x:size(#others)
    end
  end
  return naive.build(shape, function(at)
    if at[b] - at[a] ~= offset then return 0 end
    local from = {}
    for k, i in ipairs(others) do from[k] = at[i] end
    from[#from + 1] = math.min(at[a], at[b])
    return naive.at(x, from)
  end)
end

local function naive_diag(x, offset)
  if x:dim() == 1 then return naive_embed(x, { offset = offset }) end
  return naive_diagonal(x, { offset = offset })
end

local function naive_trace(x)
  local sum = 0
  for i = 1, math.min(x:size(1), x:size(2)) do sum = sum + x[i][i] end
  return sum
end

local function naive_kron(a, b)
  local ndim = math.max(a:dim(), b:dim())
  local function size(x, i) return i > ndim - x:dim() and x:size(i - ndim + x:dim()) or 1 end
  local shape = {}
  for i = 1, ndim do shape[i] = size(a, i) * size(b, i) end
  return naive.build(shape, function(at)
    local p, q = {}, {}
    for i = 1, ndim do
      local n = size(b, i)
      if i > ndim - a:dim() then p[#p + 1] = math.floor((at[i] - 1) / n) + 1 end
      if i > ndim - b:dim() then q[#q + 1] = (at[i] - 1) % n + 1 end
    end
    return naive.at(a, p) * naive.at(b, q)
  end)
end

-- element(at, a, b) of the product, added to what is broadcast.
local function sum_with(shape_of, element)
  return function(input, a, b, o)
    o = o or {}
    return naive.build(shape_of(a, b), function(at)
      local sum = (o.alpha or 1) * element(at, a, b)
      if (o.beta or 1) ~= 0 then sum = sum + (o.beta or 1) * places.broadcast(input, at) end
      return sum
    end)
  end
end

local function fuzz_matrix(draw)
  return { T{ draw(1, 3), draw(1, 5), draw(1, 5) }, draw(-5, 5) }
end

return {
  tril = {
    naive = triangle(function(apart, offset) return apart <= offset end), fuzz = fuzz_matrix,
    cases = {
      { T{ 4, 4 }, torch = "torch.tril(a)" },
      { T{ 2, 3, 5 }, 1, torch = "torch.tril(a, 1)" },
      { T{ 5, 3 }, -2, torch = "torch.tril(a, -2)" },
      { T{ 0, 3 } }, { T{ 2, 3 }, 2 ^ 40 },
    },
  },
  triu = {
    naive = triangle(function(apart, offset) return apart >= offset end), fuzz = fuzz_matrix,
    cases = {
      { T{ 4, 4 }, torch = "torch.triu(a)" },
      { T{ 2, 3, 5 }, 1, torch = "torch.triu(a, 1)" },
      { T{ 5, 3 }, -2, torch = "torch.triu(a, -2)" },
      { T{ 3, 0 } },
    },
  },
  diagonal = {
    naive = naive_diagonal,
    fuzz = function(draw)
      local a = draw(1, 3)
      local shape = { draw(1, 4), draw(1, 4), draw(1, 4) }
      return { T(shape), { offset = draw(-4, 4), dim1 = a, dim2 = a % 3 + 1 } }
    end,
    cases = {
      { T{ 3, 4 }, torch = "torch.diagonal(a)" },
      { T{ 3, 4 }, { offset = 2 }, torch = "torch.diagonal(a, 2)" },
      { T{ 4, 2, 3 }, { offset = -1, dim1 = 1, dim2 = 3 }, torch = "torch.diagonal(a, -1, 0, 2)" },
      { T{ 3, 4 }, { offset = 9 }, torch = "a.sum() * torch.zeros(0, dtype=torch.float64)" },
      { T{ 0, 4 } },
    },
  },
  diag_embed = {
    naive = naive_embed,
    fuzz = function(draw) return { T{ draw(1, 3), draw(1, 4) }, { offset = draw(-2, 2) } } end,
    cases = {
      { T{ 3 }, torch = "torch.diag_embed(a)" },
      { T{ 2, 3 }, { offset = 1 }, torch = "torch.diag_embed(a, 1)" },
      { T{ 2, 3 }, { offset = -1, dim1 = 1, dim2 = 3 }, torch = "torch.diag_embed(a, -1, 0, 2)" },
      { T{ 0, 2 } },
    },
  },
  diag = {
    naive = naive_diag,
    cases = {
      { T{ 3 }, torch = "torch.diag(a)" },
      { T{ 3 }, -1, torch = "torch.diag(a, -1)" },
      { T{ 3, 4 }, 1, torch = "torch.diag(a, 1)" },
    },
  },
  trace = {
    naive = naive_trace,
    cases = {
      { T{ 3, 3 }, torch = "torch.trace(a)" }, { T{ 2, 4 }, torch = "torch.trace(a)" },
      { T{ 0, 4 }, torch = "torch.trace(a)" },
    },
  },
  kron = {
    naive = naive_kron,
    fuzz = function(draw)
      return { T{ draw(1, 3), draw(1, 3) }, draw(0, 1) == 0 and T{ draw(1, 3) }
                                            or T{ draw(1, 3), draw(1, 3) } }
    end,
    cases = {
      { T{ 2, 3 }, T{ 3, 2 }, torch = "torch.kron(a, b)" },
      { T{ 2 }, T{ 2, 3 }, torch = "torch.kron(a, b)" },
      { T{ 2, 1, 2 }, T{ 3 }, torch = "torch.kron(a, b)" },
      { T{}, T{ 3 }, torch = "torch.kron(a, b)" },
      { T{ 0, 2 }, T{ 3, 2 } },
    },
  },
  addmv = {
    naive = sum_with(function(a) return { a:size(1) } end, function(at, a, b)
      local sum = 0
      for k = 1, b:size(1) do sum = sum + a[at[1]][k] * b[k] end
      return sum
    end),
    cases = {
      { T{ 3 }, T{ 3, 4 }, T{ 4 }, torch = "torch.addmv(a, b, c)" },
      { T{ 1 }, T{ 3, 4 }, T{ 4 }, { beta = 0.5, alpha = -2 },
        torch = "torch.addmv(a.expand(3), b, c, beta=0.5, alpha=-2)" },
      { T{ 3 }, T{ 3, 0 }, T{ 0 }, torch = "torch.addmv(a, b, c)" },
    },
  },
  addr = {
    naive = sum_with(function(a, b) return { a:size(1), b:size(1) } end, function(at, a, b)
      return a[at[1]] * b[at[2]]
    end),
    cases = {
      { T{ 3, 4 }, T{ 3 }, T{ 4 }, torch = "torch.addr(a, b, c)" },
      { T{ 4 }, T{ 3 }, T{ 4 }, { beta = 0.5, alpha = -2 },
        torch = "torch.addr(a, b, c, beta=0.5, alpha=-2)" },
    },
  },
  baddbmm = {
    naive = sum_with(function(a, b) return { a:size(1), a:size(2), b:size(3) } end,
      function(at, a, b)
        local sum = 0
        for k = 1, a:size(3) do sum = sum + a[{ at[1], at[2], k }] * b[{ at[1], k, at[3] }] end
        return sum
      end),
    cases = {
      { T{ 2, 3, 4 }, T{ 2, 3, 5 }, T{ 2, 5, 4 }, torch = "torch.baddbmm(a, b, c)" },
      { T{ 3, 1 }, T{ 2, 3, 2 }, T{ 2, 2, 4 }, { beta = 2, alpha = 0.5 },
        torch = "torch.baddbmm(a, b, c, beta=2, alpha=0.5)" },
      { T{ 0, 3, 4 }, T{ 0, 3, 5 }, T{ 0, 5, 4 } },
    },
  },
}
