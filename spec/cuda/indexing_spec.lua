-- Indexing on a CUDA device where the cases are too small: several blocks, runs of 16 bytes, places
-- that meet, masks of several stretches.
local moon = require "moonlet"
local gpu = require "spec.support.gpu"
local twins = require "spec.support.twins"

-- Whole numbers from 1 to `most`.
local function places(most, ...)
  return (moon.rand(...) * most):floor():clamp(0, most - 1):to "int64" + 1
end

local dtypes = { "float32", "float64", "bfloat16", "int64", "int32", "uint8", "bool" }

describe("reading by index on " .. gpu.device .. ":", function()
  it("rows, columns and what lies between, of every width", function()
    local x, index = moon.randn(40 * 36 * 16) * 50, places(36, 90)
    for _, dtype in ipairs(dtypes) do
      twins.agree(nil, function(y, i)
        y = y:view(40, 36, 16)
        return y:index_select(2, i), y:permute(2, 1, 3):index_select(1, i),
               y:permute(1, 3, 2):index_select(3, i), y:narrow(3, 2, 12):index_select(2, i),
               y[{ {}, {}, 3 }]:index_select(2, i), y:reshape(-1):index_select(1, i)
      end, x:to "int64":to(dtype), index)
    end
  end)

  it("more elements than one round of the grid holds", function()
    twins.agree(nil, function(x, i)
      return x:index_select(1, i), x:narrow(2, 2, 2100):index_select(1, i)
    end, moon.randn(30, 2101):to "uint8", places(30, 2003))
  end)

  it("gathers along each dimension, in turned arrays too", function()
    local x = moon.randn(30, 20, 11)
    for dim = 1, 3 do
      local index = places(x:size(dim), 25, 17, 9)
      twins.agree(nil, function(y, i) return y:gather(dim, i) end, x, index)
      twins.agree(nil, function(y, i)
        return y:permute(3, 1, 2):gather(dim % 3 + 1, i:permute(3, 1, 2))
      end, x, index)
    end
  end)
end)

describe("writing by index on " .. gpu.device .. ":", function()
  it("the last of those that meet stays", function()
    local x, source, index = moon.randn(7, 40), moon.randn(900, 40), places(7, 900)
    for _, dtype in ipairs { "float32", "float64", "bfloat16", "uint8" } do
      twins.agree(nil, function(y, s, i)
        return y:index_copy(1, i, s), y:t():index_copy(2, i, s:t()),
               y[{ {}, 1 }]:index_copy(1, i, s[{ {}, 2 }])
      end, x:to(dtype), source:to(dtype), index)
    end
    for dim = 1, 2 do
      local at = places(dim == 1 and 7 or 40, 7, 40)
      twins.agree(nil, function(y, s, i) return y:scatter(dim, i, s) end, x,
        moon.randn(7, 40), at)
    end
    local wide = places(5, 60, 300)
    twins.agree(nil, function(y, s, i) return y:scatter(2, i, s) end, moon.randn(60, 5),
      moon.randn(60, 300), wide)
  end)

  it("those that meet add up in order", function()
    local x, source, index = moon.randn(7, 40), moon.randn(900, 40), places(7, 900)
    local function add(y, s, i)
      return y:index_add(1, i, s), y:t():index_add(2, i, s:t()),
             y[{ {}, 1 }]:index_add(1, i, s[{ {}, 2 }])
    end
    twins.agree(0, add, x, source, index)
    twins.agree(0, add, x:to "float64", source:to "float64", index)
    twins.agree(nil, add, (x * 1e9):to "int64", (source * 1e9):to "int64", index)
    twins.agree(nil, add, x:to "uint8", source:abs():to "uint8", index)
    for dim = 1, 2 do
      local at = places(dim == 1 and 7 or 40, 7, 40)
      twins.agree(0, function(y, s, i) return y:scatter_add(dim, i, s) end, x,
        moon.randn(7, 40), at)
    end
    twins.agree(0, function(y, s, i) return y:scatter_add(2, i, s) end, moon.randn(60, 5),
      moon.randn(60, 300), places(5, 60, 300))
  end)

  it("halves add up in float32, rounded once", function()
    local x = moon.zeros({ 2 }, { dtype = "bfloat16", device = gpu.device })
    local index = moon.ones({ 4096 }, { dtype = "int64", device = gpu.device })
    local sum = x:index_add(1, index, moon.ones({ 4096 }, { dtype = "bfloat16" }):to(gpu.device))
    assert.are.equal(4096, sum[1])
  end)

  it("the gradient of rows that are read again and again", function()
    twins.agree(1e-6, function(x, i)
      x = x:clone():requires_grad_()
      local y = moon.embedding(x, i)
      y:mul(y:detach()):sum():backward()
      return y:detach(), x.grad
    end, moon.randn(50, 64), places(50, 30, 20))
  end)

  it("nothing at all", function()
    local none = moon.zeros({ 0 }, { dtype = "int64" })
    twins.agree(nil, function(x, s, i)
      return x:index_copy(1, i, s), x:index_add(1, i, s), x:index_select(1, i)
    end, moon.randn(3, 4), moon.zeros(0, 4), none)
  end)
end)

describe("masks on " .. gpu.device .. ":", function()
  it("positions in several stretches, of views too", function()
    local x = moon.randn(90, 101)
    twins.agree(nil, function(y)
      return y:gt(0.5):nonzero(), y:t():gt(1):nonzero(), y:masked_select(y:gt(1.5)),
             y:masked_select(y:gt(100)), y:gt(-100):nonzero(), y:narrow(2, 1, 0):gt(0):nonzero()
    end, x)
  end)

  it("of more stretches than there are blocks", function()
    for _ = 1, 7 do   -- in another order of threads each time, where the device is emulated
      twins.agree(nil, function(x) return x:gt(0.3):nonzero() end, moon.randn(30000))
    end
  end)

  it("elements that are put where a mask is true, and unique ones", function()
    twins.agree(nil, function(x)
      local mask = x:gt(0.3)
      return x:masked_scatter(mask, moon.arange(1, 9090, { dtype = x.dtype })),
             (x * 10):round():unique()
    end, moon.randn(90, 101))
  end)

  it("an index beyond the array is refused", function()
    local x = moon.randn(5, 3):to(gpu.device)
    local index = moon.tensor({ 1, 6 }, { dtype = "int64" }):to(gpu.device)
    assert.has_error(function() return x:index_select(1, index) end)
  end)
end)
