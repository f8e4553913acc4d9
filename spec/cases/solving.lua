-- Cases of linear equations. The matrices are moved away from singular ones, on both sides alike.
local moon = require "moonlet"
local case = require "spec.support.case"
local dense = require "spec.support.dense"
local T, W = case.float, case.whole

local wide = { "float64", "float32" }
local lapack = "LAPACK has float32 and float64 only"

-- x + 4 on the diagonal.
local function firm(x) return x + moon.eye(x:size(-1), { dtype = x.dtype }) * 4 end

local function firm_rows(rows)
  return dense.build(#rows, #rows, function(i, j) return rows[i][j] + (i == j and 4 or 0) end)
end

-- Whether b is a vector for a, or has one for each of its matrices.
local function is_vector(a, b)
  if b:dim() == 1 then return true end
  if b:dim() ~= a:dim() - 1 then return false end
  for i = 1, b:dim() do if b:size(i) ~= a:size(i) then return false end end
  return true
end

-- b as columns and with a's batch dimensions; how to bring the result back.
local function spread(a, b, only_line)
  local vector = b:dim() == 1 or (not only_line and is_vector(a, b))
  if vector then b = b:unsqueeze(-1) end
  local batch = {}
  local n = math.max(a:dim(), b:dim()) - 2
  for i = 1, n do
    local p, q = i - n + a:dim() - 2, i - n + b:dim() - 2
    local x, y = p > 0 and a:size(p) or 1, q > 0 and b:size(q) or 1
    batch[i] = x == 1 and y or x
  end
  local function full(x)
    local shape = {}
    for i = 1, n do shape[i] = batch[i] end
    shape[n + 1], shape[n + 2] = x:size(-2), x:size(-1)
    return x:expand(shape):contiguous()
  end
  return full(a), full(b), function(x) return vector and x:squeeze(-1) or x end
end

local function naive_solve(prepare, only_line)
  return function(a, b, ...)
    local x, y, back = spread(a, b, only_line)
    local options = { ... }
    return back((dense.each(function(p, q)
      return (dense.solve(prepare(p, (table.unpack or unpack)(options)), q))
    end, { { x:size(-1), y:size(-1) } }, x, y)))
  end
end

local function triangle(rows, upper, o)
  local firmed = firm_rows(rows)
  return dense.build(#rows, #rows, function(i, j)
    if i == j then return o and o.unitriangular and 1 or firmed[i][i] end
    return (j > i) == upper and firmed[i][j] or 0
  end)
end

local function naive_triangular(a, b, upper, o)
  if o and o.left == false then
    local x = naive_solve(triangle, true)(a:transpose(-2, -1), b:transpose(-2, -1), not upper, o)
    return x:transpose(-2, -1)
  end
  return naive_solve(triangle, true)(a, b, upper, o)
end

local function det_of(rows)
  if #rows == 0 then return 1 end
  local _, det = dense.solve(rows, dense.eye(#rows))
  return det
end

local function naive_det(x) return (dense.each(det_of, { {} }, x)) end

local function pseudo_inverse(a)
  local t = dense.t(a)
  if #a >= #a[1] then return (dense.solve(dense.mul(t, a), t)) end
  return dense.t((dense.solve(dense.mul(a, t), a)))
end

local function naive_pinv(x)
  return (dense.each(pseudo_inverse, { { x:size(-1), x:size(-2) } }, x))
end

local function naive_lstsq(a, b)
  local x, y, back = spread(a, b)
  return back((dense.each(function(p, q) return dense.mul(pseudo_inverse(p), q) end,
    { { x:size(-1), y:size(-1) } }, x, y)))
end

local function rank_of(a)
  local rank, m, n = 0, #a, #a[1]
  for c = 1, n do
    local best = rank + 1
    for i = best, m do if math.abs(a[i][c]) > math.abs(a[best][c]) then best = i end end
    if best <= m and math.abs(a[best][c]) > 1e-9 then
      rank = rank + 1
      a[rank], a[best] = a[best], a[rank]
      for i = rank + 1, m do
        local part = a[i][c] / a[rank][c]
        for j = 1, n do a[i][j] = a[i][j] - part * a[rank][j] end
      end
    end
  end
  return rank
end

local function naive_power(x, n)
  local size = x:size(-1)
  return (dense.each(function(rows)
    local a = firm_rows(rows)
    if n < 0 then a = dense.solve(a, dense.eye(size)) end
    local power = dense.eye(size)
    for _ = 1, math.abs(n) do power = dense.mul(power, a) end
    return power
  end, { { size, size } }, x))
end

local function fuzz_pair(draw)
  local n = draw(1, 4)
  local a = draw(0, 1) == 0 and T{ n, n } or T{ draw(1, 3), n, n }
  return { a, draw(0, 1) == 0 and T{ n } or T{ n, draw(1, 3) } }
end

local function eye(n) return ("4 * torch.eye(%d)"):format(n) end

return {
  solve = {
    naive = naive_solve(firm_rows), call = function(a, b) return moon.solve(firm(a), b) end,
    dtypes = wide, why = lapack, fuzz = fuzz_pair, large = { T{ 50, 20, 20 }, T{ 50, 20, 5 } },
    cases = {
      { T{ 3, 3 }, T{ 3, 2 }, torch = ("linalg.solve(a + %s, b)"):format(eye(3)) },
      { T{ 3, 3 }, T{ 3 }, torch = ("linalg.solve(a + %s, b)"):format(eye(3)) },
      { T{ 2, 3, 3 }, T{ 2, 3 }, torch = ("linalg.solve(a + %s, b)"):format(eye(3)) },
      { T{ 2, 1, 2, 2 }, T{ 3, 2, 3 }, torch = ("linalg.solve(a + %s, b)"):format(eye(2)) },
      { T{ 0, 3, 3 }, T{ 0, 3, 2 } }, { T{ 3, 3 }, T{ 3, 0 } },
    },
  },
  solve_triangular = {
    naive = naive_triangular,
    call = function(a, b, upper, o) return moon.solve_triangular(firm(a), b, upper, o) end,
    dtypes = wide, why = lapack,
    fuzz = function(draw)
      local n = draw(1, 4)
      return { T{ draw(1, 3), n, n }, T{ n, draw(1, 3) }, draw(0, 1) == 1 }
    end,
    cases = {
      { T{ 3, 3 }, T{ 3, 2 }, true,
        torch = ("linalg.solve_triangular(a + %s, b, upper=True)"):format(eye(3)) },
      { T{ 2, 3, 3 }, T{ 2, 3, 2 }, false, { unitriangular = true },
        torch = ("linalg.solve_triangular(a + %s, b, upper=False, unitriangular=True)")
          :format(eye(3)) },
      { T{ 3, 3 }, T{ 2, 3 }, true, { left = false },
        torch = ("linalg.solve_triangular(a + %s, b, upper=True, left=False)"):format(eye(3)) },
      { T{ 0, 3, 3 }, T{ 0, 3, 2 }, true },
    },
  },
  inverse = {
    naive = function(x)
      local n = x:size(-1)
      return (dense.each(function(rows)
        return (dense.solve(firm_rows(rows), dense.eye(n)))
      end, { { n, n } }, x))
    end,
    call = function(x) return moon.inverse(firm(x)) end,
    dtypes = wide, why = lapack,
    cases = {
      { T{ 3, 3 }, torch = ("linalg.inv(a + %s)"):format(eye(3)) },
      { T{ 2, 2, 2 }, torch = ("linalg.inv(a + %s)"):format(eye(2)) },
      { T{ 0, 3, 3 } }, { T{ 0, 0 } },
    },
  },
  det = {
    naive = naive_det, dtypes = wide, why = lapack,
    fuzz = function(draw)
      local n = draw(1, 5)
      return { T{ draw(1, 3), n, n } }
    end,
    cases = {
      { T{ 3, 3 }, torch = "linalg.det(a)" }, { T{ 2, 4, 4 }, torch = "linalg.det(a)" },
      { T{ 1, 1 }, torch = "linalg.det(a)" }, { T{ 0, 3, 3 } }, { T{ 2, 0, 0 } },
    },
  },
  slogdet = {
    naive = function(x)
      local function of(f) return (dense.each(f, { {} }, x)) end
      return of(function(rows) return det_of(rows) < 0 and -1 or 1 end),
        of(function(rows) return math.log(math.abs(det_of(rows))) end)
    end,
    dtypes = wide, why = lapack,
    cases = {
      { T{ 3, 3 }, torch = "tuple(linalg.slogdet(a))" },
      { T{ 2, 4, 4 }, torch = "tuple(linalg.slogdet(a))" },
    },
  },
  lstsq = {
    naive = naive_lstsq, dtypes = wide, why = lapack,
    cases = {
      { T{ 5, 3 }, T{ 5, 2 }, torch = "linalg.lstsq(a, b, driver='gels').solution" },
      { T{ 2, 3, 4 }, T{ 2, 3, 2 }, torch = "linalg.lstsq(a, b, driver='gels').solution" },
      { T{ 4, 2 }, T{ 4 }, torch = "linalg.lstsq(a, b[:, None]).solution[:, 0]" },
      { T{ 0, 3, 2 }, T{ 0, 3, 1 } },
    },
  },
  pinv = {
    naive = naive_pinv, dtypes = wide, why = lapack,
    cases = {
      { T{ 4, 3 }, torch = "linalg.pinv(a)" }, { T{ 2, 2, 4 }, torch = "linalg.pinv(a)" },
      { T{ 0, 3, 2 } },
    },
  },
  matrix_rank = {
    naive = function(x) return (dense.each(rank_of, { {} }, x)) end,
    call = function(x) return moon.matrix_rank(x:double()) end,
    dtypes = wide, why = lapack, gradient = false,
    fuzz = function(draw) return { W({ draw(1, 3), draw(1, 4), draw(1, 4) }, -1, 1) } end,
    cases = {
      { W({ 4, 3 }, -1, 1), torch = "linalg.matrix_rank(a.double())" },
      { W({ 3, 2, 4 }, 0, 1), torch = "linalg.matrix_rank(a.double())" },
      { W({ 2, 2 }, 0, 0), torch = "linalg.matrix_rank(a.double())" },
    },
  },
  matrix_power = {
    naive = naive_power, call = function(x, n) return moon.matrix_power(firm(x), n) end,
    dtypes = wide, why = "inverses are by LAPACK",
    tolerance = { gradient = 1e-5, float32 = 1e-4 },   -- results of some hundreds
    cases = {
      { T{ 3, 3 }, 3, torch = ("linalg.matrix_power(a + %s, 3)"):format(eye(3)) },
      { T{ 2, 2, 2 }, -2, torch = ("linalg.matrix_power(a + %s, -2)"):format(eye(2)) },
      { T{ 3, 3 }, 1, torch = ("linalg.matrix_power(a + %s, 1)"):format(eye(3)) },
    },
  },
}
