-- Regions and labellings on a CUDA device: suppression over many groups of boxes and several rounds
-- of them, boxes of any place and size, pixels and planes; labellings longer than a warp.
local moon = require "moonlet"
local gpu = require "spec.support.gpu"
local pixels = require "spec.support.pixels"
local twins = require "spec.support.twins"

-- n boxes in a square of `side`, whose own sides are up to `most`.
local function boxes_in(n, side, most)
  local corners = moon.rand(n, 2) * side
  return moon.cat({ corners, corners + moon.rand(n, 2) * most + 0.1 }, 2)
end

describe("suppression on " .. gpu.device .. ":", function()
  local function kept(threshold)
    return function(boxes, scores, classes)
      if classes then return moon.batched_nms(boxes, scores, classes, threshold) end
      return moon.nms(boxes, scores, threshold)
    end
  end

  it("few boxes, whole and half groups, and crowds", function()
    for _, n in ipairs { 1, 31, 32, 33, 64, 500 } do
      for _, side in ipairs { 2, 30 } do
        for _, threshold in ipairs { 0, 0.3, 0.7, 1 } do
          twins.agree(nil, kept(threshold), boxes_in(n, side, 4), moon.rand(n))
        end
      end
    end
  end)

  it("of classes, in every float type", function()
    local boxes, scores = (boxes_in(300, 12, 5) * 4):round() / 4, moon.rand(300)
    local classes = moon.randint(1, 5, { 300 })
    for _, dtype in ipairs { "float32", "float64", "float16", "bfloat16" } do
      twins.agree(nil, kept(0.4), boxes:to(dtype), scores:to(dtype), classes)
    end
  end)

  it("many boxes, in one round of groups and in several", function()
    local boxes, scores, limit = boxes_in(1200, 20, 6), moon.rand(1200), moon.workspace_limit()
    twins.agree(nil, kept(0.5), boxes, scores)
    moon.workspace_limit(50000)
    twins.agree(nil, kept(0.5), boxes, scores)
    moon.workspace_limit(limit)
  end)

  it("boxes turned round, empty, infinite and NaN", function()
    local boxes = boxes_in(100, 6, 3)
    boxes[{ 3, 1 }], boxes[{ 4, 3 }], boxes[{ 5, 2 }] = 0 / 0, math.huge, -math.huge
    boxes[{ 6, 1 }], boxes[{ 6, 3 }] = 5, 1
    boxes[{ { 7 } }] = 2
    twins.agree(nil, kept(0.2), boxes, moon.rand(100))
    twins.agree(nil, kept(0.2), moon.zeros(0, 4), moon.zeros(0))
  end)
end)

describe("boxes of images on " .. gpu.device .. ":", function()
  -- (k, 5): an image of two, and corners about an image of 20 pixels; some boxes are odd.
  local function rois()
    local boxes = boxes_in(14, 18, 12) - 3
    boxes[{ 2, 1 }], boxes[{ 2, 3 }] = 15, 4
    boxes[{ 3, 4 }], boxes[{ 4, 1 }] = 1e9, -1e9
    boxes[{ 5, 2 }] = 0 / 0
    boxes[{ { 6 } }] = 40
    boxes[{ { 7 } }] = 5
    boxes[{ 8, 3 }] = math.huge
    return moon.cat({ moon.randint(1, 2, { 14, 1 }):float(), boxes }, 2)
  end

  it("pooled", function()
    pixels.each({ { 2, 17, 20, 8 }, { 2, 9, 9, 3 } }, { float32 = 1e-6, float64 = 1e-13,
                float16 = 8e-3 }, function(layout, shape, dtype, tolerance)
      local x = (moon.randn(shape) * 4):round():to(dtype)
      local where = rois():to(dtype)
      for _, size in ipairs { { 3, 2 }, { 1, 7 } } do
        twins.agree_backward(tolerance, function(image)
          return moon.roi_pool(layout(image), where:to(image.device), size, 0.7)
        end, x)
      end
    end)
  end)

  it("aligned", function()
    pixels.each({ { 2, 17, 20, 8 }, { 2, 9, 9, 3 } }, { float32 = 1e-5, float64 = 1e-12,
                bfloat16 = 4e-2 }, function(layout, shape, dtype, tolerance)
      local x, where = moon.randn(shape):to(dtype), rois():to(dtype)
      for _, o in ipairs { {}, { sampling_ratio = 2 }, { aligned = true },
                           { sampling_ratio = 3, aligned = true, spatial_scale = 0.5 } } do
        twins.agree_backward(tolerance, function(image)
          return moon.roi_align(layout(image), where:to(image.device), { 3, 4 }, o)
        end, x)
      end
    end)
  end)

  it("none", function()
    twins.agree_backward(nil, function(x)
      return moon.roi_align(x, moon.zeros(0, 5, { device = x.device }), 2)
    end, moon.randn(1, 2, 4, 4))
  end)
end)

describe("labellings on " .. gpu.device .. ":", function()
  -- of n samples with up to `longest` labels each, over `times` times and `classes` classes
  local function check(n, times, longest, classes, dtype, tolerance, options)
    local targets = moon.randint(2, classes - 1, { n, longest })
    local lengths = moon.randint(0, longest, { n })
    local given = moon.randint(math.floor(times / 2), times, { n })
    lengths[1], given[1] = longest, times
    twins.agree_backward(tolerance, function(x)
      local function there(y) return y:to(x.device) end
      return moon.ctc_loss(moon.log_softmax(x, 3), there(targets), there(given), there(lengths),
        options)
    end, moon.randn(times, n, classes):to(dtype))
  end

  it("of a few states, and of more than a warp and a block have threads", function()
    for dtype, tolerance in pairs { float32 = 2e-5, float64 = 1e-11, bfloat16 = 4e-2 } do
      check(3, 12, 4, 5, dtype, tolerance, { reduction = "sum", zero_infinity = true })
    end
    check(2, 90, 40, 6, "float32", 2e-5, { zero_infinity = true })
    check(2, 290, 140, 50, "float32", 2e-5, { zero_infinity = true })
  end)

  it("that cannot be, and another blank", function()
    check(4, 5, 9, 3, "float32", 2e-5, { reduction = "none" })
    check(3, 12, 4, 5, "float32", 2e-5, { blank = 5, reduction = "none", zero_infinity = true })
  end)
end)
