-- Convolution by its definition, for any number of dimensions: the reference for cases and specs.
-- Sizes and offsets are worked out here once more, from the options that a user writes.
local moon = require "moonlet"
local naive = require "spec.support.naive"

local sliding = {}

-- An option as one number a dimension.
function sliding.numbers(value, ndim, default)
  local list = {}
  for i = 1, ndim do
    list[i] = type(value) == "table" and (value[i] or value[1]) or value or default
  end
  return list
end

-- Padding in any of its forms as lists of what stands before and after each dimension.
function sliding.pads(padding, kernel, dilation)
  local before, after = {}, {}
  for i = 1, #kernel do
    local reach = dilation[i] * (kernel[i] - 1)
    local side = padding or 0
    if type(side) == "table" then side = side[i] or side[1] end
    if side == "same" then
      before[i], after[i] = math.floor(reach / 2), math.ceil(reach / 2)
    elseif side == "full" then
      before[i], after[i] = reach, reach
    elseif side == "valid" then
      before[i], after[i] = 0, 0
    elseif type(side) == "table" then
      before[i], after[i] = side[1], side[2]
    else
      before[i], after[i] = side, side
    end
  end
  return before, after
end

-- What a call says about a kernel of these sizes: stride, dilation, before, after, groups.
function sliding.geometry(kernel, o)
  o = o or {}
  local ndim = #kernel
  local g = { kernel = kernel, stride = sliding.numbers(o.stride, ndim, 1),
              dilation = sliding.numbers(o.dilation, ndim, 1), groups = o.groups or 1 }
  g.before, g.after = sliding.pads(o.padding, kernel, g.dilation)
  g.extra = sliding.numbers(o.output_padding, ndim, 0)
  return g
end

-- floor((size + padding - dilation * (kernel - 1) - 1) / stride) + 1 for each dimension
function sliding.sizes(sizes, g)
  local out = {}
  for i = 1, #g.kernel do
    local room = sizes[i] + g.before[i] + g.after[i] - g.dilation[i] * (g.kernel[i] - 1) - 1
    out[i] = math.floor(room / g.stride[i]) + 1
  end
  return out
end

-- Calls fn(tap, place) for every element of the kernel that meets the input at a position: both are
-- lists of indices from 1, used again for the next.
function sliding.each_tap(position, sizes, g, fn)
  local place, ndim = {}, #g.kernel
  for tap in naive.positions(g.kernel) do
    local inside = true
    for i = 1, ndim do
      place[i] = (position[i] - 1) * g.stride[i] - g.before[i] + (tap[i] - 1) * g.dilation[i] + 1
      inside = inside and place[i] >= 1 and place[i] <= sizes[i]
    end
    if inside then fn(tap, place) end
  end
end

-- The row-major offset, from 0, of a position with leading indices (lists from 1).
local function offset(shape, a, b, rest)
  local at = (a - 1) * shape[2] + b - 1
  for i = 3, #shape do at = at * shape[i] + rest[i - 2] - 1 end
  return at
end

local function flat(tensor)
  if tensor:numel() == 0 then return {} end
  return tensor:double():contiguous():view(-1):totable()
end

local function from_third(shape)
  local rest = {}
  for i = 3, #shape do rest[i - 2] = shape[i] end
  return rest
end

local function with_front(n, c, sizes)
  local shape = { n, c }
  for i, size in ipairs(sizes) do shape[2 + i] = size end
  return shape
end

local function shaped(list, shape)
  if #list == 0 then return moon.zeros(shape, { dtype = "float64" }) end
  return moon.tensor(list, { dtype = "float64" }):reshape(shape)
end

-- conv1d, conv2d, conv3d
function sliding.convolve(x, w, bias, o)
  local xs, ws = x:size(), w:size()
  local sizes, g = from_third(xs), sliding.geometry(from_third(ws), o)
  local shape = with_front(xs[1], ws[1], sliding.sizes(sizes, g))
  local xv, wv, bv, list = flat(x), flat(w), bias and flat(bias), {}
  for at in naive.positions(shape) do
    local group = math.floor((at[2] - 1) / (ws[1] / g.groups))
    local sum, position = bv and bv[at[2]] or 0, { at[3], at[4], at[5] }
    for c = 1, ws[2] do
      sliding.each_tap(position, sizes, g, function(tap, place)
        sum = sum + xv[offset(xs, at[1], group * ws[2] + c, place) + 1]
          * wv[offset(ws, at[2], c, tap) + 1]
      end)
    end
    list[#list + 1] = sum
  end
  return shaped(list, shape)
end

-- conv_transpose1d, 2d, 3d: every input element adds a multiple of the kernel to the result.
function sliding.transpose(x, w, bias, o)
  local xs, ws = x:size(), w:size()
  local inputs, g = from_third(xs), sliding.geometry(from_third(ws), o)
  local sizes = {}
  for i = 1, #inputs do
    sizes[i] = (inputs[i] - 1) * g.stride[i] - g.before[i] - g.after[i]
      + g.dilation[i] * (g.kernel[i] - 1) + g.extra[i] + 1
  end
  local shape = with_front(xs[1], ws[2] * g.groups, sizes)
  local xv, wv, list = flat(x), flat(w), {}
  for at in naive.positions(shape) do list[#list + 1] = bias and bias[at[2]] or 0 end
  for at in naive.positions(xs) do
    local value, position = xv[offset(xs, at[1], at[2], from_third(at)) + 1], from_third(at)
    local group = math.floor((at[2] - 1) / (xs[2] / g.groups))
    for c = 1, ws[2] do
      sliding.each_tap(position, sizes, g, function(tap, place)
        local target = offset(shape, at[1], group * ws[2] + c, place) + 1
        list[target] = list[target] + value * wv[offset(ws, at[2], c, tap) + 1]
      end)
    end
  end
  return shaped(list, shape)
end

return sliding
