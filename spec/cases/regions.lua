-- Cases of regions, against the definitions in plain Lua. Boxes that have no gradient are constants
-- of a call, with corners that all float types hold.
local case = require "spec.support.case"
local naive = require "spec.support.naive"
local T = case.float

-- -- boxes from corners (n, 2) and sides (n, 2)

local function boxes_of(corners, sides)
  return require "moonlet".cat({ corners, corners + sides }, 2)
end

local function box(corners, sides, i)
  local x, y = corners[{ i, 1 }], corners[{ i, 2 }]
  return { x, y, x + sides[{ i, 1 }], y + sides[{ i, 2 }] }
end

local function area(b) return (b[3] - b[1]) * (b[4] - b[2]) end

local function iou(a, b)
  local width = math.max(0, math.min(a[3], b[3]) - math.max(a[1], b[1]))
  local height = math.max(0, math.min(a[4], b[4]) - math.max(a[2], b[2]))
  return width * height / (area(a) + area(b) - width * height)
end

local function naive_iou(corners, sides, other, other_sides)
  return naive.build({ corners:size(1), other:size(1) }, function(at)
    return iou(box(corners, sides, at[1]), box(other, other_sides, at[2]))
  end)
end

local function naive_nms(corners, sides, scores, threshold, classes)
  local moon = require "moonlet"
  local order, kept = {}, {}
  for i = 1, scores:size(1) do order[i] = i end
  table.sort(order, function(i, j) return scores[i] > scores[j] end)
  for _, i in ipairs(order) do
    local stays = true
    for _, j in ipairs(kept) do
      local same = not classes or classes[i] == classes[j]
      if same and iou(box(corners, sides, i), box(corners, sides, j)) > threshold then
        stays = false
      end
    end
    if stays then kept[#kept + 1] = i end
  end
  return #kept == 0 and moon.empty(0, { dtype = "int64" }) or moon.tensor(kept, { dtype = "int64" })
end

local sides = { low = 0.5, high = 3 }
local boxes_text = "torch.cat([a, a + b], 1)"

local function encoded(corners, given, anchors, anchor_sides, w)
  return naive.build({ corners:size(1), 4 }, function(at)
    local axis = (at[2] - 1) % 2 + 1
    local side, anchor_side = given[{ at[1], axis }], anchor_sides[{ at[1], axis }]
    local weight = w and w[at[2]] or 1
    if at[2] > 2 then return weight * math.log(side / anchor_side) end
    local distance = corners[{ at[1], axis }] + side / 2 - anchors[{ at[1], axis }]
      - anchor_side / 2
    return weight * distance / anchor_side
  end)
end

local function decoded(deltas, anchors, anchor_sides, w)
  return naive.build({ deltas:size(1), 4 }, function(at)
    local axis, sign = (at[2] - 1) % 2 + 1, at[2] > 2 and 1 or -1
    local function delta(k) return deltas[{ at[1], k }] / (w and w[k] or 1) end
    local side = anchor_sides[{ at[1], axis }]
    local centre = anchors[{ at[1], axis }] + side / 2 + delta(axis) * side
    local growth = math.min(delta(axis + 2), math.log(1000 / 16))
    return centre + sign * math.exp(growth) * side / 2
  end)
end

local coder = "__import__('torchvision.models.detection._utils', fromlist=['x'])" ..
  ".BoxCoder((%s))"

-- -- pooling: a call has its boxes among the options

local function round(x) return x < 0 and -math.floor(-x + 0.5) or math.floor(x + 0.5) end

local function pair(size)
  if type(size) == "table" then return size end
  return { size, size }
end

local function naive_roi_pool(x, rois, size, scale)
  size, scale = pair(size), scale or 1
  return naive.build({ #rois, x:size(2), size[1], size[2] }, function(at)
    local roi = rois[at[1]]
    local function bin(low, high, i, count, limit)
      local start, stop = round(low * scale), round(high * scale)
      local length = math.max(stop - start + 1, 1) / count
      local first = start + math.floor((i - 1) * length)
      return math.max(first, 0), math.min(start + math.ceil(i * length), limit) - 1
    end
    local top, bottom = bin(roi[3], roi[5], at[3], size[1], x:size(3))
    local left, right = bin(roi[2], roi[4], at[4], size[2], x:size(4))
    local best
    for i = top, bottom do
      for j = left, right do
        local value = x[{ roi[1], at[2], i + 1, j + 1 }]
        if not best or value > best then best = value end
      end
    end
    return best or 0
  end)
end

local function bilinear(x, n, c, row, column)
  local height, width = x:size(3), x:size(4)
  if row < -1 or row > height or column < -1 or column > width then return 0 end
  row, column = math.max(row, 0), math.max(column, 0)
  local sum = 0
  for i = 0, height - 1 do
    for j = 0, width - 1 do
      local weight = math.max(0, 1 - math.abs(math.min(row, height - 1) - i))
        * math.max(0, 1 - math.abs(math.min(column, width - 1) - j))
      sum = sum + weight * x[{ n, c, i + 1, j + 1 }]
    end
  end
  return sum
end

local function naive_roi_align(x, rois, size, scale, sampling, aligned)
  size, scale, sampling = pair(size), scale or 1, sampling or -1
  local offset = aligned and 0.5 or 0
  return naive.build({ #rois, x:size(2), size[1], size[2] }, function(at)
    local roi = rois[at[1]]
    local function direction(low, high, count)
      local start, length = low * scale - offset, (high - low) * scale
      if not aligned then length = math.max(length, 1) end
      local bin = length / count
      return start, bin, sampling > 0 and sampling or math.ceil(bin)
    end
    local y0, height, rows = direction(roi[3], roi[5], size[1])
    local x0, width, columns = direction(roi[2], roi[4], size[2])
    local sum = 0
    for k = 1, rows do
      for l = 1, columns do
        sum = sum + bilinear(x, roi[1], at[2],
          y0 + (at[3] - 1) * height + (k - 0.5) * height / rows,
          x0 + (at[4] - 1) * width + (l - 0.5) * width / columns)
      end
    end
    return sum / math.max(rows * columns, 1)
  end)
end

local function call_with(operator)
  return function(x, rois, ...)
    local moon = require "moonlet"
    local boxes = #rois == 0 and moon.empty(0, 5, { dtype = x.dtype })
      or moon.tensor(rois, { dtype = x.dtype })
    return moon[operator](x, boxes, ...)
  end
end

local function rois_text(rois)
  local rows = {}
  for i, roi in ipairs(rois) do
    rows[i] = ("[%g, %g, %g, %g, %g]"):format(roi[1] - 1, roi[2], roi[3], roi[4], roi[5])
  end
  return "torch.tensor([" .. table.concat(rows, ", ") .. "], dtype=a.dtype)"
end

local some = { { 1, 0, 0, 3.5, 4 }, { 2, 1.25, 0.5, 4.75, 2.5 }, { 1, -2, 2, 1.5, 7.5 },
               { 2, 6.5, 6, 9, 8 }, { 1, 2, 2, 2, 2 }, { 2, 3, 4, 1, 1 } }

local function draw_rois(draw)
  local rois = {}
  for i = 1, draw(0, 4) do
    local left, top = draw(-8, 16) / 4, draw(-8, 16) / 4
    rois[i] = { draw(1, 2), left, top, left + draw(0, 24) / 4, top + draw(0, 24) / 4 }
  end
  return rois
end

return {
  box_iou = {
    call = function(a, b, c, d)
      return require "moonlet".box_iou(boxes_of(a, b), boxes_of(c, d))
    end,
    naive = naive_iou,
    fuzz = function(draw)
      local n, m = draw(0, 4), draw(1, 4)
      return { T { n, 2 }, T({ n, 2 }, sides), T { m, 2 }, T({ m, 2 }, sides) }
    end,
    cases = {
      { T { 3, 2 }, T({ 3, 2 }, sides), T { 4, 2 }, T({ 4, 2 }, sides),
        torch = "tv.box_iou(" .. boxes_text .. ", torch.cat([c, c + d], 1))" },
      { T { 0, 2 }, T({ 0, 2 }, sides), T { 2, 2 }, T({ 2, 2 }, sides) },
    },
  },
  nms = {
    call = function(a, b, scores, ...)
      return require "moonlet".nms(boxes_of(a, b), scores, ...)
    end,
    naive = naive_nms, gradient = false, why = "row numbers are no smooth function of boxes",
    fuzz = function(draw)
      local n = draw(1, 8)
      return { T { n, 2 }, T({ n, 2 }, sides), T { n }, draw(1, 9) / 10 }
    end,
    cases = {
      { T { 12, 2 }, T({ 12, 2 }, sides), T { 12 }, 0.3,
        torch = "tv.nms(" .. boxes_text .. ", c, 0.3) + 1" },
      { T { 12, 2 }, T({ 12, 2 }, sides), T { 12 }, 0.1,
        torch = "tv.nms(" .. boxes_text .. ", c, 0.1) + 1" },
      { T { 0, 2 }, T({ 0, 2 }, sides), T { 0 }, 0.5 },
    },
  },
  batched_nms = {
    call = function(a, b, scores, classes, threshold)
      return require "moonlet".batched_nms(boxes_of(a, b), scores, classes, threshold)
    end,
    naive = function(a, b, scores, classes, threshold)
      return naive_nms(a, b, scores, threshold, classes)
    end,
    gradient = false, why = "row numbers are no smooth function of boxes",
    fuzz = function(draw)
      local n = draw(1, 8)
      return { T { n, 2 }, T({ n, 2 }, sides), T { n }, case.whole({ n }, 1, 3), draw(1, 9) / 10 }
    end,
    cases = {
      { T { 12, 2 }, T({ 12, 2 }, sides), T { 12 }, case.whole({ 12 }, 1, 3), 0.2,
        torch = "tv.batched_nms(" .. boxes_text .. ", c, d, 0.2) + 1" },
    },
  },
  box_encode = {
    call = function(a, b, c, d, w)
      return require "moonlet".box_encode(boxes_of(a, b), boxes_of(c, d), w)
    end,
    naive = encoded,
    fuzz = function(draw)
      local n = draw(0, 4)
      return { T { n, 2 }, T({ n, 2 }, sides), T { n, 2 }, T({ n, 2 }, sides),
               T({ 4 }, { low = 1, high = 9 }) }
    end,
    cases = {
      { T { 3, 2 }, T({ 3, 2 }, sides), T { 3, 2 }, T({ 3, 2 }, sides),
        torch = coder:format("1., 1., 1., 1.") .. ".encode_single(" .. boxes_text ..
          ", torch.cat([c, c + d], 1))" },
      { T { 2, 2 }, T({ 2, 2 }, sides), T { 2, 2 }, T({ 2, 2 }, sides),
        T({ 4 }, { low = 1, high = 9 }) },
    },
  },
  box_decode = {
    call = function(a, b, c, w)
      return require "moonlet".box_decode(a, boxes_of(b, c), w)
    end,
    naive = decoded,
    fuzz = function(draw)
      local n = draw(1, 4)
      return { T({ n, 4 }, { low = -6, high = 6 }), T { n, 2 }, T({ n, 2 }, sides),
               T({ 4 }, { low = 1, high = 9 }) }
    end,
    cases = {
      { T { 3, 4 }, T { 3, 2 }, T({ 3, 2 }, sides),
        torch = coder:format("1., 1., 1., 1.") .. ".decode_single(a, torch.cat([b, b + c], 1))" },
      { T { 2, 4 }, T { 2, 2 }, T({ 2, 2 }, sides), T({ 4 }, { low = 1, high = 9 }) },
      { T { 0, 4 }, T { 0, 2 }, T { 0, 2 } },
    },
  },
  roi_pool = {
    call = call_with "roi_pool", naive = naive_roi_pool,
    fuzz = function(draw)
      return { T { 2, draw(1, 2), draw(1, 6), draw(1, 6) }, draw_rois(draw),
               { draw(1, 3), draw(1, 3) }, ({ 1, 0.5, 2 })[draw(1, 3)] }
    end,
    cases = {
      { T { 2, 3, 6, 5 }, some, 2, torch = ("tv.roi_pool(a, %s, 2)"):format(rois_text(some)) },
      { T { 2, 2, 7, 6 }, some, { 3, 1 }, 0.5,
        torch = ("tv.roi_pool(a, %s, (3, 1), 0.5)"):format(rois_text(some)) },
      { T { 2, 2, 3, 3 }, {}, 2 },
    },
    large = { T { 2, 32, 48, 40 }, some, 7, 4 },
  },
  roi_align = {
    call = call_with "roi_align", naive = naive_roi_align,
    fuzz = function(draw)
      return { T { 2, draw(1, 2), draw(1, 6), draw(1, 6) }, draw_rois(draw),
               { draw(1, 3), draw(1, 3) }, ({ 1, 0.5, 2 })[draw(1, 3)], draw(-1, 3),
               draw(0, 1) == 1 }
    end,
    cases = {
      { T { 2, 2, 6, 5 }, some, 2, torch = ("tv.roi_align(a, %s, 2)"):format(rois_text(some)) },
      { T { 2, 2, 7, 6 }, some, { 3, 1 }, 0.5, 2, true,
        torch = ("tv.roi_align(a, %s, (3, 1), 0.5, 2, True)"):format(rois_text(some)) },
      { T { 2, 2, 5, 5 }, some, 1, 2, -1, true,
        torch = ("tv.roi_align(a, %s, 1, 2., -1, True)"):format(rois_text(some)) },
      { T { 2, 2, 3, 3 }, {}, 2 },
    },
    large = { T { 2, 32, 48, 40 }, some, 7, 4 },
  },
}
