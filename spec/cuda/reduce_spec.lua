-- Reductions and extremes on a CUDA device where the cases are too small: rows that take a block,
-- segments, chunks and their tails, columns of eight, lanes without work.
local moon = require "moonlet"
local gpu = require "spec.support.gpu"
local twins = require "spec.support.twins"

local function rand(...) return moon.randn(...) end

-- Every kind at once; sums of floats are those of the CPU but for the last bit.
local function every_kind(dims)
  return function(x)
    return x:sum(dims), x:mean(dims), x:amax(dims), x:amin(dims), x:norm(2, dims),
           x:gt(2):any(dims), x:gt(-4):all(dims)
  end
end

local shapes = {
  { "a whole array in segments, with a tail", { 40003 }, nil },
  { "a short array", { 7 }, nil },
  { "rows of a lane's share", { 700, 3 }, 2 },
  { "rows of chunks for a few lanes", { 70, 48 }, 2 },
  { "rows for a block, of chunks", { 3, 2560 }, 2 },
  { "rows for a block, unaligned, in segments", { 2, 20011 }, 2 },
  { "columns side by side, in chunks and segments", { 2100, 64 }, 1 },
  { "columns, few and in segments", { 20011, 3 }, 1 },
  { "columns that fill no tile of chunks", { 40, 24 }, 1 },
  { "columns between other dimensions", { 3, 50, 33 }, 2 },
  { "dimensions round a kept one", { 4, 5, 6, 8 }, { 1, 3, 4 } },
  { "kept dimensions round one", { 4, 5, 6, 8 }, { 2, 3 } },
}

describe("reductions on " .. gpu.device .. ":", function()
  for _, row in ipairs(shapes) do
    it(row[1], function()
      for _, dtype in ipairs { "float32", "bfloat16" } do
        local tolerance = dtype == "float32" and 1e-6 or 8e-3
        twins.agree(tolerance, every_kind(row[3]), rand(row[2]):to(dtype))
      end
      twins.agree(1e-13, every_kind(row[3]), rand(row[2]):to "float64")
    end)
  end

  it("channels-last arrays, over images and within them", function()
    local x = rand(3, 9, 7, 16)
    twins.agree(1e-6, function(y)
      local image = y:permute(1, 4, 2, 3)
      return image:sum { 1, 3, 4 }, image:mean { 3, 4 }, image:amax(2), image:sum()
    end, x)
  end)

  it("views with strides of 2, backwards and of 0", function()
    twins.agree(1e-6, function(x)
      local odd = x:t():unfold(1, 1, 2):squeeze(3)
      return odd:sum(1), odd:sum(2), odd:sum(), x:expand(5, 60, 81):sum(1), x:flip(2):sum(2),
             x:unsqueeze(3):expand(60, 81, 300):sum(3)
    end, rand(60, 81))
  end)

  it("more outputs than one round of the grid holds", function()
    twins.agree(1e-6, function(x) return x:sum(2) end, rand(525000, 2))
  end)

  it("integers wrap, whatever the order", function()
    local x = (rand(30011) * 1e9):to "int64"
    twins.agree(nil, function(y)
      return y:sum(), y:amax(), y:amin(), y:prod(), y:to("uint8"):sum(), y:to("int32"):amin(),
             y:gt(0):sum()
    end, x)
  end)

  it("products, of a few segments", function()
    twins.agree(1e-6, function(x) return x:prod(), x:view(201, 100):prod(1), x:prod() end,
      1 + rand(20100) * 0.01)
  end)

  it("NaN and infinities", function()
    local x = rand(20000)
    x[11111], x[3] = 0 / 0, math.huge
    twins.agree(1e-6, function(y)
      local square = y:view(100, 200)
      return y:amax(), y:amin(), y:sum(), square:amax(1), square:amin(2), square:sum(1)
    end, x)
  end)

  it("nothing to reduce, and nothing to keep", function()
    twins.agree(nil, function(x)
      return x:sum(2), x:prod(2), x:to("bool"):all(2), x:sum(1), x:mean(2)
    end, moon.zeros(3, 0))
    assert.has_error(function() return moon.zeros(3, 0, { device = gpu.device }):amax(2) end)
  end)
end)

describe("extremes with their places on " .. gpu.device .. ":", function()
  local function both(dim)
    return function(x)
      local high, at = x:max(dim)
      local low, where = x:min(dim)
      return high, at, low, where
    end
  end

  it("the first of equals, in rows, columns and segments", function()
    local x = (rand(30000) * 3):round()
    for _, view in ipairs { { 30000 }, { 2, 15000 }, { 15000, 2 }, { 300, 100 }, { 30, 40, 25 } } do
      for dim = 1, #view do
        twins.agree(nil, function(y) return both(dim)(y:view(view)) end, x)
        twins.agree(nil, function(y) return both(dim)(y:view(view):to "int32") end, x)
      end
    end
  end)

  it("the first NaN, and infinities", function()
    local x = rand(20000)
    x[15000], x[17000], x[500] = 0 / 0, 0 / 0, -math.huge
    twins.agree(nil, both(1), x)
    twins.agree(nil, function(y) return both(1)(y:view(100, 200)) end, x)
    twins.agree(nil, both(1), moon.full({ 9000 }, -math.huge))
    twins.agree(nil, both(1), moon.full({ 9000 }, math.huge):to "float16")
  end)
end)
