-- Cases of activations with slopes of their own, or that work on channels.
local case = require "spec.support.case"
local naive = require "spec.support.naive"

local T = case.float
local unpack = table.unpack or unpack

local function leak(x, slope_at)
  return naive.build(x:size(), function(at)
    local v = naive.at(x, at)
    return v > 0 and v or slope_at(at) * v
  end)
end

local function random_shape(draw, ndim)
  local shape = {}
  for i = 1, ndim do shape[i] = draw(1, 4) end
  return shape
end

local prelu = {
  naive = function(x, weight)
    return leak(x, function(at)
      if weight:numel() == 1 then return weight:reshape(1)[1] end
      return weight[at[2]]
    end)
  end,
  cases = {
    { T { 2, 3, 2 }, T { 3 }, torch = "F.prelu(a, b)" },
    { T { 2, 3 }, T { 1 }, torch = "F.prelu(a, b)" },
    { T { 4 }, T {}, torch = "F.prelu(a, b)" },
    { T {}, T { 1 } },
    { T { 0, 3 }, T { 3 } },
  },
  large = { T { 8, 16, 20, 20 }, T { 16 } },
  fuzz = function(draw)
    local shape = random_shape(draw, draw(2, 4))
    return { T(shape), T { draw(0, 1) == 0 and 1 or shape[2] } }
  end,
}

local rrelu = {
  naive = function(x, lower, upper)
    return leak(x, function() return ((lower or 1 / 8) + (upper or 1 / 3)) / 2 end)
  end,
  cases = {
    { T { 2, 3 }, torch = "F.rrelu(a)" },
    { T { 2, 3 }, 0.25, 0.75, torch = "F.rrelu(a, 0.25, 0.75)" },
    { T { 2, 3 }, 0.5, 0.5, true, torch = "F.rrelu(a, 0.5, 0.5, True)" },
    { T { 0, 3 } },
  },
  large = { T { 300, 300 }, 0.1, 0.9, true },
  fuzz = function(draw) return { T(random_shape(draw, draw(0, 4))), 0.1, 0.3 } end,
}

local function half(x, dim)
  dim = dim or -1
  return dim < 0 and x:dim() + 1 + dim or dim
end

local glu = {
  naive = function(x, dim)
    local d, shape = half(x, dim), x:size()
    shape[d] = shape[d] / 2
    return naive.build(shape, function(at)
      local gate = { unpack(at) }
      gate[d] = at[d] + shape[d]
      return naive.at(x, at) / (1 + math.exp(-naive.at(x, gate)))
    end)
  end,
  cases = {
    { T { 3, 4 }, torch = "F.glu(a)" },
    { T { 2, 4, 3 }, 2, torch = "F.glu(a, 1)" },
    { T { 2 }, 1, torch = "F.glu(a, 0)" },
    { T { 0, 4 }, 2, torch = "F.glu(a, 1)" },
  },
  fuzz = function(draw)
    local shape = random_shape(draw, draw(1, 4))
    local dim = draw(1, #shape)
    shape[dim] = 2 * shape[dim]
    return { T(shape), dim }
  end,
}

local crelu = {
  naive = function(x, dim)
    local d, shape = half(x, dim or 2), x:size()
    local size = shape[d]
    shape[d] = 2 * size
    return naive.build(shape, function(at)
      local place = { unpack(at) }
      if at[d] <= size then return math.max(0, naive.at(x, at)) end
      place[d] = at[d] - size
      return math.max(0, -naive.at(x, place))
    end)
  end,
  cases = {
    { T { 2, 3 }, torch = "torch.cat((a.relu(), (-a).relu()), 1)" },
    { T { 2, 3, 2 }, -1, torch = "torch.cat((a.relu(), (-a).relu()), -1)" },
    { T { 0, 3 }, torch = "torch.cat((a.relu(), (-a).relu()), 1)" },
  },
  fuzz = function(draw)
    local shape = random_shape(draw, draw(1, 4))
    return { T(shape), draw(1, #shape) }
  end,
}

return { prelu = prelu, rrelu = rrelu, glu = glu, crelu = crelu }
