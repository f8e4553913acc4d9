-- Triangles, diagonals, Kronecker products, sums with products: sentences, other types, views,
-- failing allocations. Values and gradients are in spec/cases/matrices.lua.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local naive = require "spec.support.naive"

describe("tril and triu", function()
  it("take every type", function()
    naive.close(moon.ones(2, 2, { dtype = "int32" }):tril(), { { 1, 0 }, { 1, 1 } }, 0, "int32")
    naive.close(moon.ones(2, 2, { dtype = "bool" }):triu(1), { { 0, 1 }, { 0, 0 } }, 0, "bool")
  end)

  it("drop even what is no number", function()
    naive.close(moon.full({ 2, 2 }, 0 / 0):tril(-2), { { 0, 0 }, { 0, 0 } })
  end)

  it("take any offset", function()
    naive.close(moon.ones(2, 2):tril(2 ^ 52), { { 1, 1 }, { 1, 1 } })
    naive.close(moon.ones(2, 2):triu(-2 ^ 52), { { 1, 1 }, { 1, 1 } })
    naive.close(moon.ones(2, 2):triu(2 ^ 52), { { 0, 0 }, { 0, 0 } })
  end)

  it("need matrices", function()
    naive.fails("tril: input must have at least 2 dimensions (..., rows, columns), got 3",
      moon.tril, moon.zeros(3))
  end)
end)

describe("diagonals", function()
  it("are views", function()
    local x = moon.zeros(3, 3)
    x:diagonal():fill_(5)
    naive.close(x:trace(), 15)
    x:diagonal(1):fill_(2)
    naive.close(x, { { 5, 2, 0 }, { 0, 5, 2 }, { 0, 0, 5 } })
  end)

  it("are refused where there is none", function()
    naive.fails("diagonal: input must have at least 2 dimensions for a diagonal, got 1",
      moon.diagonal, moon.zeros(3))
    naive.fails("diagonal: dim1 and dim2 must differ, both are dimension 2", moon.diagonal,
      moon.zeros(3, 3), { dim1 = 2, dim2 = -1 })
    naive.fails("diagonal: dimension 4 does not exist", moon.diagonal, moon.zeros(3, 3),
      { dim1 = 4 })
    naive.fails("diag: input must be a vector or a matrix, got 1x2x3", moon.diag,
      moon.zeros(1, 2, 3))
    naive.fails("diag_embed: input must have 1 to 7 dimensions, got 0", moon.diag_embed,
      moon.tensor(1))
    naive.fails("makes a matrix larger than memory", moon.diag, moon.zeros(3), 2 ^ 50)
    naive.fails("trace: input must have 2 dimensions (rows, columns), got 3", moon.trace,
      moon.zeros(3))
  end)
end)

describe("kron", function()
  it("counts in integers", function()
    naive.close(moon.tensor({ 1, 2 }, { dtype = "int64" }):kron(
      moon.tensor({ 3, 4 }, { dtype = "int64" })), { 3, 4, 6, 8 }, 0, "int64")
  end)

  it("refuses what does not fit", function()
    naive.fails("kron: a and b must have at most 4 dimensions, got 5", moon.kron,
      moon.zeros(1, 1, 1, 1, 1), moon.zeros(2))
    naive.fails("kron: a is float32 but b is float64", moon.kron, moon.zeros(2),
      moon.zeros(2):double())
    naive.fails("kron: a and b must be numbers, got bool", moon.kron,
      moon.zeros(2, { dtype = "bool" }), moon.zeros(2, { dtype = "bool" }))
  end)
end)

describe("addmv, addr and baddbmm", function()
  it("do not read the input where beta is 0", function()
    local nans = moon.full({ 2 }, 0 / 0)
    naive.close(nans:addmv(moon.ones(2, 3), moon.ones(3), 0), { 3, 3 })
    naive.close(nans:addr(moon.ones(2), moon.ones(2), { beta = 0, alpha = 2 }),
      { { 2, 2 }, { 2, 2 } })
  end)

  it("say what does not match", function()
    naive.fails("addmv: a 2x3 and b 4 do not match", moon.addmv, moon.zeros(2), moon.zeros(2, 3),
      moon.zeros(4))
    naive.fails("addmv: input 3 does not broadcast to the product 2", moon.addmv, moon.zeros(3),
      moon.zeros(2, 3), moon.zeros(3))
    naive.fails("addr: b must have 1 dimensions (n), got 2x2", moon.addr, moon.zeros(2),
      moon.zeros(2), moon.zeros(2, 2))
    naive.fails("baddbmm: a 2x3x4 and b 3x4x5 do not match", moon.baddbmm, moon.zeros(1),
      moon.zeros(2, 3, 4), moon.zeros(3, 4, 5))
    naive.fails("addr: a must be of a float type, got int64", moon.addr, moon.arange(2),
      moon.arange(2), moon.arange(2))
  end)
end)

describe("parts of matrices", function()
  it("survive every failing allocation, forward and backward", function()
    local x, v = naive.random { 3, 3 }, naive.random { 3 }
    for _, f in ipairs {
      function(a) return a:tril(-1) end,
      function(a) return a:diagonal(1) end,
      function(a, b) return b:diag() + a end,
      function(a, b) return a:kron(b) end,
      function(a, b) return b:addmv(a, b, 0.5, 2) end,
    } do
      faults.every_allocation(function()
        f(x:detach():requires_grad_(true), v:detach():requires_grad_(true)):sum():backward()
      end)
    end
  end)
end)
