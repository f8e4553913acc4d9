-- Softmax and cross entropy on a CUDA device where the cases are too small: teams of every size,
-- along lines and across them, chunks and none, several rounds of a grid, NaN and infinities.
local moon = require "moonlet"
local gpu = require "spec.support.gpu"
local twins = require "spec.support.twins"

local tolerances = { float32 = 2e-6, float64 = 1e-13, bfloat16 = 2e-2 }

describe("softmax on " .. gpu.device .. ":", function()
  local function both(dim)
    return function(x)
      return moon.cat({ moon.softmax(x, dim), moon.log_softmax(x, dim) }, dim)
    end
  end

  for _, row in ipairs {
    { "a line for a thread", { 300, 8 }, 2 },
    { "lines of a few lanes, in chunks", { 45, 40 }, 2 },
    { "lines of a few lanes, without chunks", { 45, 21 }, 2 },
    { "lines of a warp", { 5, 999 }, 2 },
    { "lines of a block, in chunks", { 3, 4104 }, 2 },
    { "lines of a block, without chunks", { 3, 1003 }, 2 },
    { "lines of the largest block, in chunks", { 1, 20000 }, 2 },
    { "lines of the largest block, without chunks", { 2, 9001 }, 2 },
    { "lines across which threads go", { 6, 33, 50 }, 2 },
    { "short lines across which threads go", { 2, 3, 140 }, 2 },
    { "the outermost dimension", { 70, 40 }, 1 },
  } do
    it(row[1], function()
      for dtype, tolerance in pairs(tolerances) do
        twins.agree_backward(tolerance, both(row[3]), moon.randn(row[2]):to(dtype) * 3)
      end
    end)
  end

  it("more lines than a grid has teams, and so many across that each has one thread", function()
    twins.agree(2e-6, function(x) return moon.softmax(x, 2) end, moon.randn(530000, 2))
    twins.agree(2e-6, function(x) return moon.softmax(x, 1) end, moon.randn(2, 272000))
  end)

  it("channels-last, flipped and expanded arrays", function()
    twins.agree_backward(2e-6, function(x)
      local image = x:permute(1, 4, 2, 3)
      return moon.softmax(image, 2) + moon.log_softmax(image, 3) + moon.softmax(image:flip(2), 2)
    end, moon.randn(2, 5, 6, 24))
    twins.agree(2e-6, function(x) return moon.softmax(x:expand(4, 30, 17), 2) end,
      moon.randn(30, 1))
  end)

  it("infinities and NaN, anywhere in a line", function()
    for _, size in ipairs { 7, 24, 1000, 4104 } do
      local x = moon.randn(7, size)
      x[{ 2, 3 }], x[{ 3, size }], x[{ 4, 5 }] = -math.huge, math.huge, 0 / 0
      x[{ { 5 } }] = -math.huge
      x[{ { 6 } }] = -math.huge
      x[{ 6, 2 }], x[{ 7, 1 }], x[{ 7, size }] = 0 / 0, -math.huge, 1e30
      twins.agree(2e-6, function(y)
        return moon.softmax(y, 2), moon.log_softmax(y, 2), moon.softmax(y:t():contiguous(), 1)
      end, x)
    end
  end)
end)

describe("cross entropy on " .. gpu.device .. ":", function()
  local function labels(n, classes) return moon.randint(1, classes, n) end

  for _, row in ipairs {
    { "few classes", 130, 10 }, { "classes in chunks", 20, 1000 }, { "odd classes", 9, 1001 },
    { "a vocabulary", 2, 16640 },
  } do
    it(row[1] .. ", weighted, smoothed and some ignored", function()
      local n, classes = row[2], row[3]
      for dtype, tolerance in pairs(tolerances) do
        local x, y = moon.randn(n, classes):to(dtype), labels({ n }, classes)
        y[2] = 1
        local weight = (moon.rand(classes) + 0.5):to(dtype)
        for _, smoothing in ipairs { 0, 0.1 } do
          twins.agree_backward(tolerance, function(logits)
            return moon.cross_entropy(logits, y:to(logits.device), weight:to(logits.device),
              { label_smoothing = smoothing, ignore_index = 1, reduction = "none" })
          end, x)
        end
        twins.agree_backward(tolerance, function(logits)
          return moon.cross_entropy(logits, y:to(logits.device), { label_smoothing = 0.2 })
        end, x)
      end
    end)
  end

  it("images, as planes and as pixels", function()
    local x, y = moon.randn(2, 6, 7, 19), labels({ 2, 6, 7 }, 19)
    for _, pixels in ipairs { true, false } do
      twins.agree_backward(2e-6, function(logits)
        local image = logits:permute(1, 4, 2, 3)
        if not pixels then image = image:contiguous() end
        return moon.cross_entropy(image, y:to(logits.device), { reduction = "none" })
      end, x)
    end
  end)

  it("without gradients, and of nothing", function()
    local y = labels({ 33 }, 300)
    twins.agree(2e-6, function(x, target) return moon.cross_entropy(x, target) end,
      moon.randn(33, 300), y)
    twins.agree(nil, function(x, target)
      return moon.cross_entropy(x, target, { reduction = "none" })
    end, moon.zeros(0, 3), moon.zeros(0):to "int64")
  end)
end)
