-- What the operators of regions refuse, boxes that lie anywhere, and failing allocations.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local naive = require "spec.support.naive"

local huge, nan = math.huge, 0 / 0

local fails = naive.refuses

describe("boxes", function()
  local boxes = moon.tensor { { 0, 0, 2, 2 }, { 0, 0, 2, 1.5 }, { 5, 5, 6, 6 } }
  local scores = moon.tensor { 0.3, 0.9, 0.5 }

  it("are refused in other shapes and types", function()
    fails("box_iou", "a must be (n, 4), one box (x1, y1, x2, y2) a row, got 3x3",
      moon.zeros(3, 3), boxes)
    fails("box_iou", "b must be (n, 4), one box (x1, y1, x2, y2) a row, got 4", boxes,
      moon.zeros(4))
    fails("box_iou", "a is float32 but b is float64", boxes, boxes:double())
    fails("box_iou", 'a must be of a float type, got int64; cast it with :to "float32"',
      boxes:long(), boxes)
    fails("nms", "scores must have one number for each of the 3 boxes, got 2", boxes,
      moon.zeros(2), 0.5)
    fails("nms", "iou_threshold must lie in 0..1, got 1.5", boxes, scores, 1.5)
    fails("nms", "iou_threshold must lie in 0..1, got ", boxes, scores, nan)
    fails("batched_nms", "classes must have one number for each of the 3 boxes, got 3x1", boxes,
      scores, moon.ones(3, 1):long(), 0.5)
    fails("batched_nms", "classes must be of an integer type, got float32", boxes, scores,
      moon.ones(3), 0.5)
    fails("box_encode", "boxes and anchors must be as many, got 3x4 and 2x4", boxes,
      boxes:narrow(1, 1, 2))
    fails("box_encode", "weights must be 4 numbers, got 3", boxes, boxes, moon.ones(3))
    fails("box_decode", "deltas is float32 but weights is float64", boxes, boxes,
      moon.ones(4):double())
    fails("box_decode", "limit must be a number, got nan", boxes, boxes, { limit = nan })
  end)

  it("are suppressed by the better ones, equal scores in order", function()
    naive.close(moon.nms(boxes, scores, 0.7), { 2, 3 })
    naive.close(moon.nms(boxes, scores, 0.8), { 2, 3, 1 })
    naive.close(moon.nms(boxes, moon.ones(3), 1), { 1, 2, 3 })
    assert.equal("int64", moon.nms(boxes, scores, 0.7).dtype)
    assert.same({ 0 }, moon.nms(moon.zeros(0, 4), moon.zeros(0), 0.5):size())
    naive.close(moon.batched_nms(boxes, scores, moon.tensor({ 1, 2, 2 }, { dtype = "int32" }), 0.1),
      { 2, 3, 1 })
  end)

  it("may be anything at all", function()
    local wild = moon.tensor { { nan, 0, 1, 1 }, { -huge, -huge, huge, huge }, { 3, 3, 1, 1 } }
    assert.is_true(moon.nms(wild, moon.tensor { nan, 1, 2 }, 0.5):numel() >= 1)
    assert.same({ 3, 3 }, moon.box_iou(wild, wild):size())
  end)

  it("come back from their deltas", function()
    local anchors = moon.tensor { { 1, 1, 2, 4 }, { 0, 0, 1, 1 }, { 4, 4, 8, 5 } }
    local weights = moon.tensor { 10, 10, 5, 5 }
    local deltas = moon.box_encode(boxes, anchors, weights)
    naive.close(moon.box_decode(deltas, anchors, weights), boxes, 1e-5)
  end)

  it("survive the failure of any allocation", function()
    faults.every_allocation(function() moon.nms(boxes, scores, 0.5) end)
    faults.every_allocation(function() moon.batched_nms(boxes, scores, scores:long(), 0.5) end)
    faults.every_allocation(function() moon.box_iou(boxes, boxes) end)
    faults.every_allocation(function() moon.box_decode(boxes, boxes) end)
  end)
end)

describe("pooling of regions", function()
  local x = moon.randn(2, 3, 6, 5)
  local rois = moon.tensor { { 1, 0, 0, 3, 3 }, { 2, 1, 1, 4, 2 } }

  for _, name in ipairs { "roi_pool", "roi_align" } do
    it("refuses what does not fit: " .. name, function()
      fails(name, "input must have 4 dimensions (n, c, h, w), got 3x6x5; add the batch with " ..
        "input:unsqueeze(1)", x[1], rois, 2)
      fails(name, "boxes must be (k, 5), one (image, x1, y1, x2, y2) a row, got 2x4", x,
        rois:narrow(2, 1, 4), 2)
      fails(name, "input is float32 but boxes is float64", x, rois:double(), 2)
      fails(name, "the image of each box must lie in 1..2, found 0", x,
        moon.tensor { { 0, 0, 0, 1, 1 } }, 2)
      fails(name, "the image of each box must lie in 1..2, found 3", x,
        moon.tensor { { 3, 0, 0, 1, 1 } }, 2)
      fails(name, "output_size must be at least 1, got 0", x, rois, 0)
      fails(name, "spatial_scale must be a number above 0, got 0", x, rois, 2,
        { spatial_scale = 0 })
      fails(name, "spatial_scale must be a number above 0, got inf", x, rois, 2,
        { spatial_scale = huge })
      fails(name, "input must have a height and a width, got 2x3x0x5", moon.zeros(2, 3, 0, 5),
        rois, 2)
    end)

    it("takes boxes that lie anywhere: " .. name, function()
      local wild = moon.tensor { { 1, -1e30, -1e30, 1e30, 1e30 }, { 1, nan, 0, 2, 2 },
                                 { 1, huge, huge, huge, huge }, { 2, -huge, -huge, huge, huge },
                                 { 1, 1e9, 1e9, 2e9, 2e9 }, { 2, 4, 4, -4, -4 },
                                 { 1, -1e6, -1e6, 1e6, 1e6 } }
      local leaf = x:clone():requires_grad_()
      local y = moon[name](leaf, wild, 3)
      assert.same({ 7, 3, 3, 3 }, y:size())
      y:sum():backward()
      assert.same(x:size(), leaf.grad:size())
      naive.close(y[5], moon.zeros(3, 3, 3))
    end)

    it("gives no gradient to boxes: " .. name, function()
      local leaf = rois:clone():requires_grad_()
      local image = x:clone():requires_grad_()
      moon[name](image, leaf, 2):sum():backward()
      assert.is_true(leaf.grad == nil or leaf.grad:abs():sum():item() == 0)
    end)

    it("survives the failure of any allocation: " .. name, function()
      local leaf = x:clone():requires_grad_()
      faults.every_allocation(function()
        moon[name](leaf, rois, 2):sum():backward()
        leaf.grad = nil
      end)
    end)
  end

  it("limits the samples of a bin", function()
    fails("roi_align", "sampling_ratio must be at most 1024, got 2000", x, rois, 2,
      { sampling_ratio = 2000 })
  end)

  it("is zero for the bins of roi_pool that see nothing", function()
    local away = moon.tensor { { 1, -9, -9, -7, -7 }, { 1, 4, 5, 4, 5 } }
    local y = moon.roi_pool(x, away, 2)
    naive.close(y[1], moon.zeros(3, 2, 2))
    naive.close(y[2]:select(2, 1):select(2, 1), x[1]:select(2, 6):select(2, 5))
  end)
end)
