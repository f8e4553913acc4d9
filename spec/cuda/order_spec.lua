-- Sorting, searching and counting on a CUDA device where the cases are too small: several tiles and
-- rounds of merging, an odd run over, lines across memory, ties and NaN, the first few only.
local moon = require "moonlet"
local gpu = require "spec.support.gpu"
local twins = require "spec.support.twins"

local function sorted(dim, descending)
  return function(x) return x:sort(dim, descending) end
end

-- Many ties, NaN of either sign, both zeros, infinities.
local function awkward(count)
  local x = (moon.randn(count) * 20):round() / 4
  for i, value in ipairs { 0 / 0, -(0 / 0), math.huge, -math.huge, -0.0, 0.0, 0 / 0 } do
    x[1 + (i * 7919) % count] = value
  end
  return x
end

describe("sorting on " .. gpu.device .. ":", function()
  for _, count in ipairs { 1, 2, 9, 255, 2048, 2049, 10007 } do
    it(count .. " elements, with ties and NaN", function()
      local x = count > 8 and awkward(count) or moon.randn(count)
      for _, dtype in ipairs { "float32", "float64", "float16", "bfloat16" } do
        twins.agree(nil, sorted(1, false), x:to(dtype))
        twins.agree(nil, sorted(1, true), x:to(dtype))
      end
    end)
  end

  it("integers of every width", function()
    local x = moon.randn(5000) * 1e9
    for _, dtype in ipairs { "int64", "int32", "uint8", "bool" } do
      twins.agree(nil, sorted(1, false), (x * 3):to "int64":to(dtype))
      twins.agree(nil, sorted(1, true), (x * 3):to "int64":to(dtype))
    end
  end)

  it("many lines, along and across memory", function()
    local x = awkward(12000)
    for _, view in ipairs { { 1000, 12 }, { 40, 300 }, { 20, 30, 20 }, { 4, 3000 } } do
      for dim = 1, #view do
        twins.agree(nil, function(y) return y:view(view):sort(dim, dim == 2) end, x)
      end
    end
  end)

  it("views that are turned, spread out and backwards", function()
    twins.agree(nil, function(x)
      local a, b = x:t():sort(1)
      local c, d = x:unsqueeze(2):expand(70, 2, 90):sort(3)
      local e, f = x:flip(1):sort(1)
      return a, b, c, d, e, f
    end, awkward(6300):view(70, 90))
  end)

  it("the first few of long lines", function()
    local x = awkward(15000)
    for _, k in ipairs { 1, 5, 100, 2500, 9000 } do
      twins.agree(nil, function(y) return y:topk(k) end, x)
    end
    twins.agree(nil, function(y)
      local a, b = y:view(3, 5000):topk(7, 2, false)
      local c, d = y:view(5000, 3):topk(2100, 1)
      return a, b, c, d
    end, x)
  end)

  it("nothing at all", function()
    twins.agree(nil, function(x)
      local a, b = x:sort(1)
      local c, d = x:sort(2)
      return a, b, c, d
    end, moon.zeros(0, 3))
  end)
end)

describe("searching and counting on " .. gpu.device .. ":", function()
  it("finds places among equals and NaN", function()
    local line, values = awkward(3000):sort(), awkward(500)
    for _, dtype in ipairs { "float32", "float64", "float16" } do
      twins.agree(nil, function(x, y)
        return x:searchsorted(y), x:searchsorted(y, true)
      end, line:to(dtype), values:to(dtype))
    end
    twins.agree(nil, function(x, y)
      local lines = x:view(30, 100):sort(2)
      return lines:searchsorted(y:view(30, 10)), lines:searchsorted(y:view(30, 10), true)
    end, awkward(3000), awkward(300))
  end)

  it("counts few bins and many", function()
    for _, bins in ipairs { 3, 2048, 2049, 20000 } do
      local x = (moon.rand(9000) * bins):to "int64":clamp(0, bins - 1) + 1
      twins.agree(nil, function(y) return y:bincount(), y:view(4500, 2):t()[2]:bincount() end, x)
    end
    twins.agree(nil, function(y) return y:bincount() end, moon.ones(20000, { dtype = "int64" }))
  end)
end)
