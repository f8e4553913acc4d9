-- Cases of matrix decompositions. What LAPACK leaves open (signs, rotations) is taken out by the
-- calls: triangles with a positive diagonal, and functions of the matrix that every choice gives.
local moon = require "moonlet"
local case = require "spec.support.case"
local dense = require "spec.support.dense"
local T = case.float

local wide = { "float64", "float32" }
local lapack = "LAPACK has float32 and float64 only"

local function identity(x, n) return moon.eye(n, { dtype = x.dtype }) end

-- Symmetric, and positive definite.
local function positive(x)
  return x:matmul(x:transpose(-2, -1)) + identity(x, x:size(-2)) * 2
end

local function naive_cholesky(x)
  local n = x:size(-2)
  return (dense.each(function(rows)
    local a, l = dense.add(dense.mul(rows, dense.t(rows)),
      dense.build(n, n, function(i, j) return i == j and 2 or 0 end)), {}
    for i = 1, n do
      l[i] = {}
      for j = 1, n do
        local sum = a[i][j]
        for k = 1, math.min(i, j) - 1 do sum = sum - l[i][k] * (l[j] and l[j][k] or 0) end
        l[i][j] = j > i and 0 or j == i and math.sqrt(sum) or sum / l[j][j]
      end
    end
    return l
  end, { { n, n } }, x))
end

-- q r with a positive diagonal in r.
local function positive_qr(x)
  local q, r = x:qr()
  local sign = r:diagonal(0, -2, -1):detach():sign()
  return q * sign:unsqueeze(-2), r * sign:unsqueeze(-1)
end

-- Gram and Schmidt, on the columns of a tall matrix or the first ones of a wide one.
local function naive_qr(x)
  local m, n = x:size(-2), x:size(-1)
  local k = math.min(m, n)
  return dense.each(function(a)
    local q, columns = dense.build(m, k, function() return 0 end), dense.t(a)
    for j = 1, k do
      local v = {}
      for i = 1, m do v[i] = columns[j][i] end
      for _ = 1, 2 do
        for p = 1, j - 1 do
          local dot = 0
          for i = 1, m do dot = dot + q[i][p] * v[i] end
          for i = 1, m do v[i] = v[i] - dot * q[i][p] end
        end
      end
      local size = 0
      for i = 1, m do size = size + v[i] * v[i] end
      for i = 1, m do q[i][j] = v[i] / math.sqrt(size) end
    end
    local r = dense.mul(dense.t(q), a)
    return q, dense.build(k, n, function(i, j) return j < i and 0 or r[i][j] end)
  end, { { m, k }, { k, n } }, x)
end

-- The singular values, and u diag(s^2) vh = a (a^T a)^(1/2).
local function squared_svd(x)
  local u, s, vh = x:svd()
  return s, (u * (s * s):unsqueeze(-2)):matmul(vh)
end

local function svd_of(rows)
  local tall = #rows >= #rows[1]
  local a = tall and rows or dense.t(rows)
  local w, v = dense.eigh(dense.mul(dense.t(a), a))
  local s, roots = {}, {}
  for i = 1, #w do roots[i] = math.sqrt(math.max(0, w[i])) end
  for i = 1, #w do s[i] = roots[#w + 1 - i] end
  local root = dense.mul(dense.scale(v, roots), dense.t(v))
  local squared = dense.mul(a, root)
  return s, tall and squared or dense.t(squared)
end

local function naive_svd(x)
  local m, n = x:size(-2), x:size(-1)
  return dense.each(svd_of, { { math.min(m, n) }, { m, n } }, x)
end

-- The eigenvalues, and the exponential of the matrix.
local function exponential(x)
  local w, v = (x + x:transpose(-2, -1)):eigh()
  return w, (v * w:exp():unsqueeze(-2)):matmul(v:transpose(-2, -1))
end

local function naive_eigh(x)
  local n = x:size(-1)
  return dense.each(function(rows)
    local w, v = dense.eigh(dense.add(rows, dense.t(rows)))
    local e = {}
    for i = 1, n do e[i] = math.exp(w[i]) end
    return w, dense.mul(dense.scale(v, e), dense.t(v))
  end, { { n }, { n, n } }, x)
end

local function fuzz_square(draw)
  local n = draw(1, 5)
  return { draw(0, 1) == 0 and T{ n, n } or T{ draw(1, 3), n, n } }
end

local function fuzz_any(draw) return { T{ draw(1, 3), draw(1, 5), draw(1, 5) } } end

local qr_torch = "(lambda q, r: (q * r.diagonal(0, -2, -1).detach().sign().unsqueeze(-2), "
  .. "r * r.diagonal(0, -2, -1).detach().sign().unsqueeze(-1)))(*linalg.qr(a))"
local svd_torch = "(lambda u, s, vh: (s, (u * (s * s).unsqueeze(-2)) @ vh))"
  .. "(*linalg.svd(a, full_matrices=False))"
local eigh_torch = "(lambda w, v: (w, (v * w.exp().unsqueeze(-2)) @ v.mT))(*linalg.eigh(a + a.mT))"

return {
  cholesky = {
    naive = naive_cholesky, call = function(x) return moon.cholesky(positive(x)) end,
    dtypes = wide, why = lapack, fuzz = fuzz_square, large = { T{ 40, 30, 30 } },
    cases = {
      { T{ 3, 3 }, torch = "linalg.cholesky(a @ a.mT + 2 * torch.eye(3))" },
      { T{ 2, 4, 4 }, torch = "linalg.cholesky(a @ a.mT + 2 * torch.eye(4))" },
      { T{ 1, 1 }, torch = "linalg.cholesky(a @ a.mT + 2 * torch.eye(1))" },
      { T{ 0, 3, 3 } }, { T{ 2, 0, 0 } },
    },
  },
  qr = {
    naive = naive_qr, call = positive_qr, dtypes = wide, why = lapack, fuzz = fuzz_any,
    large = { T{ 40, 40, 20 } },
    tolerance = { values = 1e-8, layouts = 1e-10, float32 = 1e-3 },   -- drawn matrices near rank 1
    cases = {
      { T{ 3, 3 }, torch = qr_torch },
      { T{ 2, 5, 3 }, torch = qr_torch },
      { T{ 2, 3, 5 }, torch = qr_torch },
      { T{ 4, 1 }, torch = qr_torch },
      { T{ 0, 3, 2 } }, { T{ 3, 0 } },
    },
  },
  svd = {
    naive = naive_svd, call = squared_svd, dtypes = wide, why = lapack, fuzz = fuzz_any,
    large = { T{ 30, 20, 25 } },
    tolerance = { values = 1e-7 },   -- the reference takes roots of eigenvalues of a^T a
    cases = {
      { T{ 3, 3 }, torch = svd_torch },
      { T{ 2, 5, 3 }, torch = svd_torch },
      { T{ 2, 3, 4 }, torch = svd_torch },
      { T{ 1, 4 }, torch = svd_torch },
      { T{ 0, 3, 2 } }, { T{ 3, 0 } },
    },
  },
  svdvals = {
    naive = function(x) return (naive_svd(x)) end, dtypes = wide, why = lapack, fuzz = fuzz_any,
    tolerance = { values = 1e-7 },   -- the reference takes roots of eigenvalues of a^T a
    cases = {
      { T{ 3, 3 }, torch = "linalg.svdvals(a)" }, { T{ 2, 4, 3 }, torch = "linalg.svdvals(a)" },
      { T{ 0, 3, 2 } },
    },
  },
  eigh = {
    naive = naive_eigh, call = exponential, dtypes = wide, why = lapack, fuzz = fuzz_square,
    large = { T{ 30, 25, 25 } },
    tolerance = { float32 = 1e-4 },   -- exponentials
    cases = {
      { T{ 3, 3 }, torch = eigh_torch },
      { T{ 2, 4, 4 }, torch = eigh_torch },
      { T{ 1, 1 }, torch = eigh_torch },
      { T{ 0, 3, 3 } }, { T{ 2, 0, 0 } },
    },
  },
  eigvalsh = {
    naive = function(x) return (naive_eigh(x)) end,
    call = function(x) return moon.eigvalsh(x + x:transpose(-2, -1)) end,
    dtypes = wide, why = lapack, fuzz = fuzz_square,
    cases = {
      { T{ 3, 3 }, torch = "linalg.eigvalsh(a + a.mT)" },
      { T{ 2, 4, 4 }, torch = "linalg.eigvalsh(a + a.mT)" },
    },
  },
}
