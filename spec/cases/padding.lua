-- Cases of padding: what stands at a place of the result, dimension by dimension.
local case = require "spec.support.case"
local naive = require "spec.support.naive"
local T = case.float

-- The place in a dimension of `size` that place `at` of the padded one shows; nil: the constant.
local places = {
  constant = function(at, size) return at >= 1 and at <= size and at or nil end,
  reflect = function(at, size)
    if at < 1 then return 2 - at end
    return at > size and 2 * size - at or at
  end,
  replicate = function(at, size) return math.max(1, math.min(size, at)) end,
}

-- A circle closes over what is left after cutting, so cutting comes first.
local function circular(at, size, before, after)
  local first, last = 1 + math.max(0, -before), size - math.max(0, -after)
  local length = last - first + 1
  return first + (at - first) % length
end

local function pad(x, pads, mode, value)
  if type(mode) == "table" then mode, value = mode.mode, mode.value end
  local shape, out, before, after = x:size(), {}, {}, {}
  for i = 1, #shape do
    local pair = #shape - i
    before[i], after[i] = pads[2 * pair + 1] or 0, pads[2 * pair + 2] or 0
    out[i] = shape[i] + before[i] + after[i]
  end
  return naive.build(out, function(at)
    local source = {}
    for i = 1, #shape do
      local place = mode == "circular" and circular or places[mode or "constant"]
      source[i] = place(at[i] - before[i], shape[i], before[i], after[i])
      if not source[i] then return value or 0 end
    end
    return naive.at(x, source)
  end)
end

local modes = { "constant", "reflect", "replicate", "circular" }

-- At most `most` on each side, sometimes less than nothing, but never all of the dimension.
local function drawn_sides(draw, size, most)
  local before, after = draw(-1, most), draw(-1, most)
  if size + math.min(before, 0) + math.min(after, 0) < 1 then return 0, 0 end
  return before, after
end

return {
  pad = {
    naive = pad,
    large = { T { 8, 16, 40, 40 }, { 3, 2, 1, 4 }, "reflect" },
    cases = {
      { T { 2, 3 }, { 1, 2 }, torch = "F.pad(a, (1, 2))" },
      { T { 2, 3, 4 }, { 1, -2, 0, 3 }, { value = 0.5 },
        torch = "F.pad(a, (1, -2, 0, 3), value=0.5)" },
      { T { 2, 2, 2, 2 }, { 1, 0, 0, 1, 2, 0, 0, 1 }, "constant", -1,
        torch = "F.pad(a, (1, 0, 0, 1, 2, 0, 0, 1), value=-1)" },
      { T { 1, 2, 4 }, { 3, 1 }, "reflect", torch = "F.pad(a, (3, 1), mode='reflect')" },
      { T { 1, 2, 3, 4 }, { 2, 3, 1, 2 }, "reflect",
        torch = "F.pad(a, (2, 3, 1, 2), mode='reflect')" },
      { T { 1, 2, 3, 4 }, { 2, -1, 0, 5 }, "replicate",
        torch = "F.pad(a, (2, -1, 0, 5), mode='replicate')" },
      { T { 1, 1, 2, 3, 2 }, { 1, 1, 2, 0, 1, 1 }, "reflect",
        torch = "F.pad(a, (1, 1, 2, 0, 1, 1), mode='reflect')" },
      { T { 1, 1, 2, 3, 2 }, { 2, 1, 0, 3, 1, 0 }, "replicate",
        torch = "F.pad(a, (2, 1, 0, 3, 1, 0), mode='replicate')" },
      { T { 2, 1, 4 }, { 2, -1 }, "circular", torch = "F.pad(a, (2, -1), mode='circular')" },
      { T { 1, 2, 3, 4 }, { 4, 1, 1, 3 }, "circular",
        torch = "F.pad(a, (4, 1, 1, 3), mode='circular')" },
      { T { 0, 3 }, { 1, 1 }, torch = "F.pad(a, (1, 1))" },
      { T { 3, 0 }, { 2, 1 }, torch = "F.pad(a, (2, 1))" },
      { T {}, {}, torch = "a + 0" },
    },
    fuzz = function(draw)
      local ndim, mode, shape, pads = draw(1, 4), modes[draw(1, 4)], {}, {}
      for i = 1, ndim do shape[i] = draw(1, 4) end
      for pair = 1, draw(1, ndim) do
        local size = shape[ndim + 1 - pair]
        local most = mode == "reflect" and size - 1 or mode == "circular" and size or 3
        pads[2 * pair - 1], pads[2 * pair] = drawn_sides(draw, size, most)
        -- a circle can go round what is left once
        if mode == "circular" then
          local left = size + math.min(0, pads[2 * pair - 1]) + math.min(0, pads[2 * pair])
          pads[2 * pair - 1] = math.min(left, pads[2 * pair - 1])
          pads[2 * pair] = math.min(left, pads[2 * pair])
        end
      end
      return { T(shape), pads, mode, draw(-2, 2) }
    end,
  },
}
