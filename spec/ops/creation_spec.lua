-- Making tensors: values, options, types, bad sizes.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local naive = require "spec.support.naive"

describe("zeros, ones, full, empty", function()
  it("take sizes one by one or in a list", function()
    naive.close(moon.zeros(2, 3), { { 0, 0, 0 }, { 0, 0, 0 } }, 0, "float32")
    naive.close(moon.ones { 2, 2 }, { { 1, 1 }, { 1, 1 } }, 0, "float32")
    naive.close(moon.full({ 2 }, 0.5), { 0.5, 0.5 }, 0, "float32")
    assert.same({ 4, 0 }, moon.empty(4, 0):size())
    naive.close(moon.ones {}, 1)
  end)

  it("take dtype, device and requires_grad", function()
    local x = moon.zeros(2, { dtype = "float64", device = "cpu", requires_grad = true })
    assert.are.equal("float64", x.dtype)
    assert.are.equal("cpu", x.device)
    assert.is_true(x.requires_grad and x.is_leaf)
    assert.is_false(moon.zeros(2).requires_grad)
    naive.close(moon.full({ 2 }, 3, { dtype = "uint8" }), { 3, 3 }, 0, "uint8")
    naive.close(moon.ones(2, { dtype = "bool" }), { 1, 1 }, 0, "bool")
  end)

  it("refuse bad sizes, types and options", function()
    naive.fails("zeros: a shape must not be negative, got 2x-1", moon.zeros, 2, -1)
    naive.fails("zeros: a tensor of 4000000000x4000000000 has more elements than memory can hold",
      moon.zeros, 4e9, 4e9)
    naive.fails("full: value 0.5 is no whole number, which int64 needs", moon.full, { 2 }, 0.5,
      { dtype = "int64" })
    naive.fails("only tensors of a float type can require a gradient, this one is int64", moon.ones,
      2, { dtype = "int64", requires_grad = true })
    naive.fails('there is no dtype "float31"', moon.ones, 2, { dtype = "float31" })
    naive.fails('ones: there is no option "dtpye"; the options are', moon.ones, 2,
      { dtpye = "float32" })
    naive.fails("zeros: shape is missing", moon.zeros)
  end)

  it("refuse more memory than there is, and go on", function()
    naive.fails("memory", moon.zeros, 2 ^ 40)
    naive.close(moon.zeros(2), { 0, 0 })
  end)
end)

describe("the *_like forms", function()
  local model = moon.ones(2, 3, { dtype = "float64", requires_grad = true })

  it("copy shape, type and device, not history", function()
    local made = {
      model:zeros_like(), moon.ones_like(model), model:full_like(7), model:empty_like(),
      model:rand_like(), model:randn_like(), (model * 2):zeros_like(),
    }
    for _, tensor in ipairs(made) do
      assert.same({ 2, 3 }, tensor:size())
      assert.are.equal("float64", tensor.dtype)
      assert.is_false(tensor.requires_grad)
      assert.is_true(tensor.is_leaf and tensor:is_contiguous())
    end
    naive.close(made[1], moon.zeros(2, 3), 0)
    naive.close(made[2], moon.ones(2, 3), 0)
    naive.close(made[3], moon.full({ 2, 3 }, 7), 0)
    assert.same({ 3, 2 }, model:t():zeros_like():size())
  end)

  it("take the options too", function()
    naive.close(model:zeros_like { dtype = "int64" }, moon.zeros(2, 3), 0, "int64")
    assert.is_true(model:ones_like({ requires_grad = true }).requires_grad)
    naive.fails("rand_like: dtype must be a float type, got int64; randint gives whole numbers",
      moon.rand_like, moon.arange(3))
    naive.fails("full_like: value 0.5 is no whole number, which int64 needs", moon.full_like,
      moon.arange(3), 0.5)
  end)
end)

describe("arange", function()
  it("counts as a loop does, the end included", function()
    naive.close(moon.arange(4), { 1, 2, 3, 4 }, 0, "int64")
    naive.close(moon.arange(3, 5), { 3, 4, 5 }, 0, "int64")
    naive.close(moon.arange(0, 10, 4), { 0, 4, 8 }, 0, "int64")
    naive.close(moon.arange(5, 1, -2), { 5, 3, 1 }, 0, "int64")
    naive.close(moon.arange(0, 1, 0.25), { 0, 0.25, 0.5, 0.75, 1 }, 0, "float32")
    naive.close(moon.arange(2, 3, { dtype = "float64" }), { 2, 3 }, 0, "float64")
  end)

  it("keeps the last number where the step is no binary fraction", function()
    for _, steps in ipairs { 3, 7, 10, 30, 1000 } do
      assert.are.equal(steps + 1, moon.arange(0, steps * 0.1, 0.1):size(1))
      assert.are.equal(steps + 1, moon.arange(0, 1, 1 / steps):size(1))
    end
  end)

  it("is empty where a loop would not run", function()
    assert.same({ 0 }, moon.arange(0):size())
    assert.same({ 0 }, moon.arange(5, 4):size())
    assert.same({ 0 }, moon.arange(1, 5, -1):size())
  end)

  it("refuses what has no end", function()
    naive.fails("arange: step must not be 0", moon.arange, 1, 2, 0)
    naive.fails("arange: from, to and step must be finite", moon.arange, 1, math.huge)
    naive.fails("arange: from, to and step must be finite", moon.arange, 0 / 0)
    naive.fails("more numbers than memory can hold", moon.arange, 0, 1e300, 1e-10)
    naive.fails("arange: from, to and step must be whole numbers for int64, got 0, 1, 0.5",
      moon.arange, 0, 1, 0.5, { dtype = "int64" })
  end)
end)

describe("linspace and eye", function()
  it("reach both ends exactly", function()
    for _, count in ipairs { 2, 3, 7, 50 } do
      local x = moon.linspace(-0.1, 0.7, count, { dtype = "float64" })
      assert.are.equal(count, x:size(1))
      assert.are.equal(-0.1, x[1])
      assert.are.equal(0.7, x[count])
      naive.close(x, naive.build({ count }, function(p)
        return -0.1 + 0.8 * (p[1] - 1) / (count - 1)
      end))
    end
    naive.close(moon.linspace(2, 5, 1), { 2 })
    assert.same({ 0 }, moon.linspace(0, 1, 0):size())
  end)

  it("puts ones on the diagonal", function()
    naive.close(moon.eye(2), { { 1, 0 }, { 0, 1 } }, 0, "float32")
    naive.close(moon.eye(2, 3), { { 1, 0, 0 }, { 0, 1, 0 } })
    naive.close(moon.eye(3, 2, { dtype = "int64" }), { { 1, 0 }, { 0, 1 }, { 0, 0 } }, 0, "int64")
    assert.same({ 0, 3 }, moon.eye(0, 3):size())
  end)

  it("refuse bad numbers", function()
    naive.fails("linspace: count must not be negative, got -1", moon.linspace, 0, 1, -1)
    naive.fails("linspace: dtype must be a float type, got int64; arange gives whole numbers",
      moon.linspace, 0, 1, 3, { dtype = "int64" })
    naive.fails("linspace: from and to must be finite", moon.linspace, 0, math.huge, 3)
    naive.fails("eye: n and m must not be negative, got 2 and -1", moon.eye, 2, -1)
  end)
end)

describe("rand, randn, randint, randperm", function()
  it("have the shapes and types they should", function()
    assert.same({ 2, 3 }, moon.rand(2, 3):size())
    assert.are.equal("float64", moon.randn(2, { dtype = "float64" }).dtype)
    local whole = moon.randint(1, 6, { 2, 3 })
    assert.same({ 2, 3 }, whole:size())
    assert.are.equal("int64", whole.dtype)
    assert.are.equal("uint8", moon.randint(0, 255, 4, { dtype = "uint8" }).dtype)
    assert.is_true(moon.rand(2, { requires_grad = true }).requires_grad)
    assert.same({ 0 }, moon.rand(0):size())
  end)

  it("permute 1..n", function()
    for _, n in ipairs { 0, 1, 2, 100 } do
      naive.close((moon.randperm(n):sort(1)), moon.arange(n), 0, "int64")
    end
    naive.close((moon.randperm(5, { dtype = "float32" }):sort()), { 1, 2, 3, 4, 5 }, 0, "float32")
  end)

  it("permute evenly", function()
    moon.manual_seed(1)
    local counts = moon.zeros(3, 3)
    for _ = 1, 600 do
      local order = moon.randperm(3)
      for i = 1, 3 do counts[{ i, order[i] }] = counts[{ i, order[i] }] + 1 end
    end
    assert.is_true((counts - 200):abs():max():item() < 60)
  end)

  it("refuse bad numbers", function()
    naive.fails("randint: low must not be above high, got 3 and 2", moon.randint, 3, 2, 4)
    naive.fails("randint: uint8 holds whole numbers from 0 to 255", moon.randint, -1, 2, 4,
      { dtype = "uint8" })
    naive.fails("randperm: n must not be negative, got -1", moon.randperm, -1)
    naive.fails("rand: dtype must be a float type, got bool", moon.rand, 2, { dtype = "bool" })
  end)
end)

it("creation survives every failing allocation", function()
  faults.every_allocation(function()
    local x = moon.zeros(3, { requires_grad = true })
    moon.ones_like(x, { requires_grad = true })
    moon.full({ 2 }, 1)
    moon.arange(3)
    moon.linspace(0, 1, 3)
    moon.eye(2)
    moon.rand(2)
    moon.randn(2)
    moon.randint(1, 2, 3)
    moon.randperm(4)
  end)
end)

describe("fftfreq and rfftfreq", function()
  it("want a length, a distance and a float type", function()
    naive.fails("fftfreq: n must be at least 1, got 0", moon.fftfreq, 0)
    naive.fails("rfftfreq: d must be finite and not 0, got 0", moon.rfftfreq, 4, 0)
    naive.fails("fftfreq: dtype must be a float type, got int64", moon.fftfreq, 4,
      { dtype = "int64" })
  end)
end)
