-- Einstein's notation: what it is in other words, sentences, failing allocations. Values and
-- gradients are in spec/cases/einsum.lua.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local naive = require "spec.support.naive"

local function einsum(...) return moon.einsum(...) end

describe("einsum", function()
  it("says other operators in its own words", function()
    local a, b = naive.random({ 3, 4 }, { seed = 1 }), naive.random({ 4, 3 }, { seed = 2 })
    naive.close(einsum("ij,jk->ik", { a, b }), a:mm(b), 1e-14)
    naive.close(einsum("ij->ji", { a }), a:t(), 0)
    naive.close(einsum("ij,ji->", { a, b }), a:mm(b):trace(), 1e-13)
    naive.close(einsum(" i j , i j -> i ", { a, a }), a:square():sum(2), 1e-14)
  end)

  it("gives a tensor of its own", function()
    local a = moon.ones(2, 2)
    einsum("ij->ij", { a }):zero_()
    einsum("ij->ji", { a }):zero_()
    einsum("ii->i", { a }):zero_()
    naive.close(a, { { 1, 1 }, { 1, 1 } })
  end)

  it("takes capitals, halves and many operands", function()
    naive.close(einsum("aB,Bc->ac", { moon.ones(2, 3):half(), moon.ones(3, 1):half() }),
      { { 3 }, { 3 } }, 0, "float16")
    local list, text = {}, {}
    for i = 1, 20 do list[i], text[i] = moon.full({ 2 }, 2), "i" end
    naive.close(einsum(table.concat(text, ",") .. "->i", list), { 2 ^ 20, 2 ^ 20 })
  end)

  it("says what is wrong with an equation", function()
    local a = moon.zeros(2, 3)
    naive.fails("einsum: equation names 3 dimensions for operand 1, which is 2x3", einsum,
      "ijk->i", { a })
    naive.fails("einsum: 'j' is 3 before and 2 in operand 2", einsum, "ij,jk->ik", { a, a })
    naive.fails("einsum: 'i' is both 2 and 3 in operand 1", einsum, "ii", { a })
    naive.fails("einsum: 'i' is both 3 and 1 in operand 1", einsum, "ii", { moon.zeros(3, 1) })
    naive.fails("einsum: equation has 1 operands, but 2 tensors are given", einsum, "ij->i",
      { a, a })
    naive.fails("einsum: equation has more operands than the 1 given", einsum, "ij,jk->i", { a })
    naive.fails("einsum: equation: 'z' of the result is in no operand", einsum, "ij->z", { a })
    naive.fails("einsum: equation: the result names 'i' twice", einsum, "ij->ii", { a })
    naive.fails("einsum: equation: expected letters, \",\" and \"->\", found '1'", einsum, "i1->i",
      { a })
    naive.fails("einsum: equation: dots come as \"...\", once", einsum, "i..->i", { a })
    naive.fails("einsum: equation: dots come as \"...\", once", einsum, "......->", { a })
    naive.fails("einsum: equation: the result ends at ','", einsum, "ij->i,j", { a })
    naive.fails("einsum: equation: expected letters", einsum, "ij-i", { a })
    naive.fails("einsum: dimensions under \"...\" do not broadcast: 3 before and 2 in operand 2",
      einsum, "...,...", { moon.zeros(3), moon.zeros(2) })
    naive.fails("einsum: tensors must have 1 to 32 members, got 0", einsum, "->", {})
    naive.fails("einsum: equation: more than 8 letters for one operand", einsum, "abcdefghi", { a })
    naive.fails("einsum: every operand must be of a float type, got int64", einsum, "i",
      { moon.arange(3) })
    naive.fails("einsum: a product on the way has more than 8 dimensions", einsum,
      "abcde,fghij,abcdefgh->ij", { moon.zeros(1, 1, 1, 1, 1), moon.zeros(1, 1, 1, 1, 1),
      moon.zeros(1, 1, 1, 1, 1, 1, 1, 1) })
  end)

  it("survives every failing allocation, forward and backward", function()
    local a, b = naive.random({ 2, 3 }, { seed = 1 }), naive.random({ 3, 2, 2 }, { seed = 2 })
    faults.every_allocation(function()
      einsum("ij,jkk->ik", { a:detach():requires_grad_(true), b:detach():requires_grad_(true) })
        :sum():backward()
    end)
  end)
end)
