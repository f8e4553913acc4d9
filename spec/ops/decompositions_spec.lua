-- Decompositions and linear equations: what ties results together, degenerate matrices, sentences,
-- a system without LAPACK, failing allocations. Values and gradients are in
-- spec/cases/decompositions.lua and spec/cases/solving.lua.
local moon = require "moonlet"
local child = require "spec.support.child"
local faults = require "spec.support.faults"
local gradcheck = require "spec.support.gradcheck"
local naive = require "spec.support.naive"

local nan, huge = 0 / 0, math.huge
local f64 = { dtype = "float64" }

local function mt(x) return x:transpose(-2, -1) end
local function eye(n) return moon.eye(n, f64) end

describe("qr, svd and eigh", function()
  it("give the matrix back from factors that are what they should be", function()
    for _, shape in ipairs { { 40, 40 }, { 2, 50, 30 }, { 2, 30, 50 } } do
      local x, k = naive.random(shape), math.min(shape[#shape], shape[#shape - 1])
      local q, r = x:qr()
      naive.close(q:matmul(r), x, 1e-12)
      naive.close(mt(q):matmul(q), eye(k):expand(mt(q):matmul(q):size()), 1e-12)
      naive.close(r:tril(-1):abs():amax(), 0, 0)
      local u, s, vh = x:svd()
      naive.close((u * s:unsqueeze(-2)):matmul(vh), x, 1e-12)
      naive.close(mt(u):matmul(u), eye(k):expand(mt(u):matmul(u):size()), 1e-12)
      naive.close(s:diff():le(0):all(), 1)
      naive.close(x:svdvals(), s, 1e-12)
    end
    local a = naive.random { 3, 40, 40 }
    a = a + mt(a)
    local w, v = a:eigh()
    naive.close(a:matmul(v), v * w:unsqueeze(-2), 1e-11)
    naive.close(w:diff():ge(0):all(), 1)
    naive.close(a:eigvalsh(), w, 1e-12)
  end)

  it("read any strides", function()
    local x = naive.random { 4, 3, 5 }
    local view = x:permute(3, 2, 1):narrow(3, 2, 3)
    local u, s, vh = view:svd()
    naive.close((u * s:unsqueeze(-2)):matmul(vh), view, 1e-12)
  end)

  it("of NaN or infinities are refused, of nothing are nothing", function()
    local x = moon.zeros(3, 2, 2)
    x[{ 2, 1, 1 }] = nan
    naive.fails("svd: matrix 2 of the stack contains NaN or infinities", moon.svd, x)
    naive.fails("eigh: the matrix contains NaN or infinities", moon.eigh, moon.full({ 2, 2 }, huge))
    local u, s, vh = moon.zeros(0, 3):svd()
    assert.same({ { 0, 0 }, { 0 }, { 0, 3 } }, { u:size(), s:size(), vh:size() })
    local q, r = moon.zeros(2, 3, 0):qr()
    assert.same({ { 2, 3, 0 }, { 2, 0, 0 } }, { q:size(), r:size() })
  end)

  it("of matrices of low rank still hold together", function()
    local x = moon.outer(moon.arange(4):double(), moon.arange(3):double())
    local u, s, vh = x:svd()
    naive.close((u * s):mm(vh), x, 1e-12)
    naive.close(x:matrix_rank(), 1)
    naive.close((moon.zeros(3, 3):eigh()), { 0, 0, 0 })
  end)

  it("have no gradient through vectors of equal values, but one through the values", function()
    local x = eye(2):requires_grad_(true)
    x:svdvals():sum():backward()
    naive.close(x.grad, eye(2), 1e-12)
    local y = eye(2):requires_grad_(true)
    local vectors = select(2, y:eigh())
    moon.mul(vectors, moon.tensor({ { 1, 2 }, { 3, 4 } }, f64)):sum():backward()
    naive.close(y.grad:isfinite():all(), 0)
  end)
end)

describe("cholesky", function()
  it("says which matrix is not positive definite, and from where", function()
    local x = moon.stack { moon.eye(3), moon.eye(3) }
    x[{ 2, 2, 2 }] = -1
    naive.fails("cholesky: matrix 2 of the stack is not positive definite: its leading 2x2 part is "
      .. "not", moon.cholesky, x)
    naive.fails("cholesky: the matrix is not positive definite: its leading 1x1 part is not",
      moon.cholesky, moon.full({ 2, 2 }, nan))
  end)

  it("reads the lower triangle only", function()
    naive.close(moon.tensor { { 4, 99 }, { 2, 5 } }:cholesky(), { { 2, 0 }, { 1, 2 } })
  end)
end)

describe("solve and inverse", function()
  it("undo products", function()
    local a, b = naive.random({ 3, 30, 30 }, { seed = 1 }), naive.random({ 3, 30, 2 }, { seed = 2 })
    naive.close(a:matmul(a:solve(b)), b, 1e-9)
    naive.close(a:matmul(a:inverse()), eye(30):expand(3, 30, 30), 1e-9)
    naive.close(a:matrix_power(-1), a:inverse(), 0)
    naive.close(a:matrix_power(0), eye(30):expand(3, 30, 30), 0)
  end)

  it("say which matrix is singular", function()
    naive.fails("solve: the matrix is singular: pivot 2 is 0", moon.solve,
      moon.tensor { { 1, 2 }, { 2, 4 } }, moon.ones(2))
    local x = moon.eye(2):expand(3, 2, 2):clone()
    x[{ 3, 1, 1 }] = 0
    naive.fails("inverse: matrix 3 of the stack is singular: pivot 1 is 0", moon.inverse, x)
    naive.fails("solve_triangular: the matrix is singular: pivot 1 is 0", moon.solve_triangular,
      moon.zeros(2, 2), moon.ones(2), true)
    naive.fails("is singular", moon.lstsq, moon.zeros(3, 2), moon.ones(3))
  end)

  it("name what does not match", function()
    naive.fails("solve: a must be square in its last two dimensions, got 2x3", moon.solve,
      moon.zeros(2, 3), moon.zeros(2))
    naive.fails("solve: a 2x2 and b 3 do not match: b must have 2 rows", moon.solve, moon.eye(2),
      moon.zeros(3))
    naive.fails("solve: a is float32 but b is float64", moon.solve, moon.eye(2),
      moon.zeros(2):double())
    naive.fails("solve: the batch dimensions of a 2x2x2 and b 3x2x1 do not broadcast", moon.solve,
      moon.zeros(2, 2, 2), moon.zeros(3, 2, 1))
    naive.fails("inverse: input must have at least 2 dimensions (..., rows, columns), got 3",
      moon.inverse, moon.zeros(3))
    naive.fails("inverse: input must be float32 or float64, got float16", moon.inverse,
      moon.zeros(2, 2):half())
    naive.fails("qr: input must be float32 or float64, got int64", moon.qr,
      moon.zeros(2, 2):long())
    naive.fails("solve_triangular: b must have 2 columns, got 3", moon.solve_triangular,
      moon.eye(2), moon.zeros(3), true, { left = false })
    naive.fails("lstsq: a 3x2 and b 2 do not match: b must have 3 rows", moon.lstsq,
      moon.zeros(3, 2), moon.zeros(2))
    naive.fails("pinv: rtol must not be negative, got -1", moon.pinv, moon.zeros(2, 2), -1)
    naive.fails("matrix_power: input must be square", moon.matrix_power, moon.zeros(2, 3), 2)
  end)

  it("solve_triangular does not read the other triangle", function()
    local a = moon.tensor { { 2, nan }, { 1, 4 } }
    naive.close(a:solve_triangular(moon.tensor { 2, 5 }, false), { 1, 1 })
    naive.close(moon.tensor { { nan, nan }, { 1, nan } }:solve_triangular(moon.tensor { 2, 5 },
      false, { unitriangular = true }), { 2, 3 })
  end)
end)

describe("determinants", function()
  it("of singular matrices are 0 and have a gradient", function()
    local low = moon.tensor({ { 1, 2, 3 }, { 4, 5, 6 }, { 7, 8, 9.5 } }, f64)
    low[3] = low[1] * 2 - low[2]
    local zero_row = moon.tensor({ { 1, 2, 0 }, { 4, 5, 0 }, { 7, 8, 0 } }, f64)
    naive.close(zero_row:det(), 0)
    gradcheck.check(function(x) return x:det() end, { zero_row })
    gradcheck.check(function(x) return x:det() end, { moon.stack { zero_row, low + eye(3) } })
    naive.close(moon.zeros(0, 0):det(), 1)
  end)

  it("slogdet neither overflows nor vanishes", function()
    local sign, log = (moon.eye(400, f64) * -10):slogdet()
    naive.close(sign, 1)
    naive.close(log, 400 * math.log(10), 1e-10)
    sign, log = moon.zeros(2, 2):slogdet()
    naive.close(sign, 0)
    naive.close(log, -huge)
  end)
end)

describe("pinv", function()
  it("keeps Penrose's four laws, whatever the rank", function()
    local x = moon.outer(moon.arange(4):double(), moon.arange(3):double())
    x[{ 1, 1 }] = 7
    local p = x:pinv()
    naive.close(x:mm(p):mm(x), x, 1e-11)
    naive.close(p:mm(x):mm(p), p, 1e-11)
    naive.close(x:mm(p):t(), x:mm(p), 1e-11)
    naive.close(p:mm(x):t(), p:mm(x), 1e-11)
  end)
end)

describe("without LAPACK", function()
  it("the sentence names the package, and the rest works", function()
    local folder = os.tmpname()
    os.remove(folder)
    moon.make_directory(folder)
    local file = assert(io.open(folder .. "/liblapacke.so.3", "w"))
    file:write "no library"
    file:close()
    local output = child.run([[
      local moon = require "moonlet"
      print(select(2, pcall(moon.inverse, moon.eye(2))))
      print(moon.eye(2):mm(moon.eye(2)):sum():item())
    ]], { LD_LIBRARY_PATH = folder })
    os.remove(folder .. "/liblapacke.so.3")
    os.remove(folder)
    assert.is_truthy(output:find("install the Debian package liblapacke", 1, true), output)
    assert.is_truthy(output:find("\n2", 1, true), output)
  end)
end)

describe("linear algebra by LAPACK", function()
  it("survives every failing allocation, forward and backward", function()
    local x = naive.random { 3, 3 } + eye(3) * 4
    for _, f in ipairs {
      function(a) return a:solve(moon.ones(3, f64)) end,
      function(a) return a:det() end,
      function(a) return (a:mm(a:t())):cholesky() end,
      function(a) return select(2, a:qr()) end,
      function(a) local u, s, vh = a:svd() return (u * (s * s)):mm(vh) end,
      function(a) return (a + a:t()):eigvalsh() end,
      function(a) return a:pinv() end,
      function(a) return a:lstsq(moon.ones(3, f64)) end,
    } do
      faults.every_allocation(function() f(x:detach():requires_grad_(true)):sum():backward() end)
    end
  end)
end)
