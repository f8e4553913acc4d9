-- Running sums, extremes and recurrences on a CUDA device where the cases are too small: lines of
-- several tiles and segments, lines of a warp and of a lane, lines across memory.
local moon = require "moonlet"
local gpu = require "spec.support.gpu"
local twins = require "spec.support.twins"

local shapes = {
  { "a line of segments", { 20011 }, 1 },
  { "lines of segments", { 3, 5000 }, 2 },
  { "lines for a lane each", { 70, 5 }, 2 },
  { "lines for a few lanes", { 30, 77 }, 2 },
  { "lines for a warp", { 9, 500 }, 2 },
  { "lines across memory", { 60, 70 }, 1 },
  { "few lines across memory, in segments", { 3000, 3 }, 1 },
  { "lines between other dimensions", { 3, 200, 5 }, 2 },
}

local function extremes(dim)
  return function(x)
    local high, at = x:cummax(dim)
    local low, where = x:cummin(dim)
    return high, at, low, where
  end
end

describe("scans on " .. gpu.device .. ":", function()
  for _, row in ipairs(shapes) do
    local name, shape, dim = row[1], row[2], row[3]
    it("running sums: " .. name, function()
      local x = moon.randn(shape)
      local function sums(y) return y:cumsum(dim) end
      twins.agree(1e-6, sums, x)
      twins.agree(1e-12, sums, x:to "float64")
      twins.agree(8e-3, sums, x:to "bfloat16")
      twins.agree(nil, sums, (x * 1e9):to "int64")
      twins.agree(nil, sums, x:gt(0))
    end)

    it("running extremes: " .. name, function()
      local x = (moon.randn(shape) * 4):round()
      twins.agree(nil, extremes(dim), x)
      twins.agree(nil, extremes(dim), x:to "int32")
      local flat = x:view(-1)
      flat[math.floor(flat:numel() / 2)] = 0 / 0
      flat[flat:numel() - 1] = 0 / 0
      twins.agree(nil, extremes(dim), x:to "float64")
    end)

    it("running products: " .. name, function()
      local x = 1 + moon.randn(shape) * 0.02
      local function products(y)
        y = y:clone():requires_grad_()
        local z = y:cumprod(dim)
        z:sum():backward()
        return z:detach(), y.grad
      end
      twins.agree(1e-5, products, x)
      twins.agree(nil, function(y) return y:cumprod(dim) end, (x * 3):to "int64")
    end)
  end

  it("a zero forgets what overflowed before it", function()
    local x = moon.full({ 2000 }, 1e30, { dtype = "float64" })
    x[1500] = 0
    twins.agree(nil, function(y) return y:cumprod(1), y:view(2, 1000):cumprod(2) end, x)
  end)

  it("the gradient of a running sum goes backwards", function()
    twins.agree(1e-5, function(x)
      x = x:clone():requires_grad_()
      x:cumsum(1):mul(x:detach()):sum():backward()
      return x.grad
    end, moon.randn(6000))
  end)

  it("nothing at all", function()
    twins.agree(nil, function(x)
      return x:cumsum(1), x:cumsum(2), x:cummax(2), x:cumprod(1)
    end, moon.zeros(0, 3))
  end)
end)
