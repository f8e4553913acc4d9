-- Cases of convolution in one to three dimensions, and of windows as columns.
local moon = require "moonlet"
local case = require "spec.support.case"
local naive = require "spec.support.naive"
local sliding = require "spec.support.sliding"
local T = case.float

-- -- drawn arguments

-- The same number or list of numbers a dimension.
local function per_dimension(draw, ndim, low, high)
  if draw(0, 1) == 0 then return draw(low, high) end
  local list = {}
  for i = 1, ndim do list[i] = draw(low, high) end
  return list
end

local function drawn_padding(draw, ndim, stride)
  local form = draw(1, 5)
  if form == 1 then return draw(0, 2) end
  if form == 2 then return "full" end
  if form == 3 then
    for _, s in ipairs(sliding.numbers(stride, ndim, 1)) do
      if s ~= 1 then return "valid" end
    end
    return "same"
  end
  local list = {}
  for i = 1, ndim do list[i] = form == 4 and draw(0, 2) or { draw(0, 2), draw(0, 2) } end
  return list
end

local function drawn_options(draw, ndim)
  local stride = per_dimension(draw, ndim, 1, 3)
  return { stride = stride, padding = drawn_padding(draw, ndim, stride),
           dilation = per_dimension(draw, ndim, 1, 2) }
end

-- Kernel sizes, and input sizes that are at least `room` larger than the kernel reaches.
local function drawn_sizes(draw, ndim, o, room)
  local kernel, sizes = {}, {}
  local dilation = sliding.numbers(o.dilation, ndim, 1)
  for i = 1, ndim do
    kernel[i] = draw(1, ndim == 3 and 2 or 3)
    sizes[i] = dilation[i] * (kernel[i] - 1) + 1 + draw(0, room)
  end
  return kernel, sizes
end

local function joined(a, b, rest)
  local list = { a, b }
  for _, size in ipairs(rest) do list[#list + 1] = size end
  return list
end

local function fuzz_convolution(ndim)
  return function(draw)
    local o = drawn_options(draw, ndim)
    local kernel, sizes = drawn_sizes(draw, ndim, o, ndim == 3 and 2 or 4)
    local inside, outside = draw(1, 2), draw(1, 2)
    o.groups = draw(1, 3)
    local x = T(joined(draw(0, 2), inside * o.groups, sizes))
    local w = T(joined(outside * o.groups, inside, kernel))
    return { x, w, draw(0, 1) == 0 and T { outside * o.groups } or nil, o, n = 4 }
  end
end

local LIMITS = { none = { -math.huge, math.huge }, relu = { 0, math.huge }, relu6 = { 0, 6 } }

-- activation(conv2d(x, w) * scale + bias + add)
local function fused(x, w, bias, stride, padding, dilation, groups, scale, add, activation)
  local y = sliding.convolve(x, w, nil,
    { stride = stride, padding = padding, dilation = dilation, groups = groups })
  local limits = LIMITS[activation or "none"]
  return naive.build(y:size(), function(at)
    local sum = y[at] * (scale and scale[at[2]] or 1) + (bias and bias[at[2]] or 0)
    sum = sum + (add and add[at] or 0)
    return math.min(limits[2], math.max(limits[1], sum))
  end)
end

local function chained(x, weights, scales, biases, strides, paddings, groups, activation, last, add)
  for i, w in ipairs(weights) do
    local final = i == #weights
    x = fused(x, w, biases[i], strides[i], paddings[i], 1, groups[i], scales[i],
      final and add or nil, final and last or activation)
  end
  return x
end

-- The tensors of a chain over `channels`, the first of them the image's; every convolution from
-- the second on has a group a channel where the numbers of channels allow.
local function chain_lists(channels, kernels)
  local weights, scales, biases, groups = {}, {}, {}, {}
  for i = 2, #channels do
    local inputs, outputs = channels[i - 1], channels[i]
    groups[i - 1] = i > 2 and inputs == outputs and outputs or 1
    weights[i - 1] = T { outputs, inputs / groups[i - 1], kernels[i - 1], kernels[i - 1] }
    scales[i - 1], biases[i - 1] = T { outputs }, T { outputs }
  end
  return case.list(weights), case.list(scales), case.list(biases), groups
end

local function fuzz_chain(draw)
  local count, middle = draw(1, 3), draw(1, 4)
  local channels, kernels, strides, paddings = { draw(1, 3) }, {}, {}, {}
  for i = 1, count do
    channels[i + 1] = i == 3 and draw(1, 4) or middle
    kernels[i], strides[i] = draw(1, 3), draw(1, 2)
    paddings[i] = draw(0, kernels[i] - 1)
  end
  local weights, scales, biases, groups = chain_lists(channels, kernels)
  local known = { "none", "relu", "relu6" }
  return { T { draw(1, 2), channels[1], draw(12, 15), draw(12, 14) }, weights, scales, biases,
           strides, paddings, groups, known[draw(1, 3)], known[draw(1, 3)], n = 9 }
end

local function fuzz_fused(draw)
  local drawn = fuzz_convolution(2)(draw)
  local x, w, bias, o = drawn[1], drawn[2], drawn[3], drawn[4]
  return { x, w, bias, o.stride, o.padding, o.dilation, o.groups,
           draw(0, 1) == 0 and T { w.shape[1] } or nil, nil,
           ({ "none", "relu", "relu6" })[draw(1, 3)], n = 10 }
end

local function fuzz_transposed(ndim)
  return function(draw)
    local o = { stride = per_dimension(draw, ndim, 1, 3),
                dilation = per_dimension(draw, ndim, 1, 2) }
    local kernel, sizes, extra = {}, {}, {}
    local stride = sliding.numbers(o.stride, ndim, 1)
    local dilation = sliding.numbers(o.dilation, ndim, 1)
    local before, after = {}, {}
    for i = 1, ndim do
      kernel[i], sizes[i] = draw(1, 3), draw(1, 3)
      extra[i] = draw(0, math.max(stride[i], dilation[i]) - 1)
      local full = (sizes[i] - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + extra[i] + 1
      before[i] = draw(0, math.min(3, full - 1))
      after[i] = draw(0, math.min(3, full - 1 - before[i]))
    end
    o.output_padding = extra
    o.padding = {}
    for i = 1, ndim do o.padding[i] = { before[i], after[i] } end
    local inside, outside = draw(1, 2), draw(1, 2)
    o.groups = draw(1, 3)
    local x = T(joined(draw(0, 2), inside * o.groups, sizes))
    local w = T(joined(inside * o.groups, outside, kernel))
    return { x, w, draw(0, 1) == 0 and T { outside * o.groups } or nil, o, n = 4 }
  end
end

-- -- columns

local function columns(x, kernel, o)
  local shape = x:size()
  local g = sliding.geometry(sliding.numbers(kernel, 2), o)
  local sizes = { shape[3], shape[4] }
  local out = sliding.sizes(sizes, g)
  local taps = g.kernel[1] * g.kernel[2]
  local y = moon.zeros(shape[1], shape[2] * taps, out[1] * out[2], { dtype = "float64" })
  for at in naive.positions { shape[1], shape[2], out[1], out[2] } do
    sliding.each_tap({ at[3], at[4] }, sizes, g, function(tap, place)
      local row = (at[2] - 1) * taps + (tap[1] - 1) * g.kernel[2] + tap[2]
      y[{ at[1], row, (at[3] - 1) * out[2] + at[4] }] = x[{ at[1], at[2], place[1], place[2] }]
    end)
  end
  return y
end

local function pictures(x, size, kernel, o)
  local shape = x:size()
  local g = sliding.geometry(sliding.numbers(kernel, 2), o)
  local sizes = sliding.numbers(size, 2)
  local out = sliding.sizes(sizes, g)
  local taps = g.kernel[1] * g.kernel[2]
  local y = moon.zeros(shape[1], shape[2] / taps, sizes[1], sizes[2], { dtype = "float64" })
  for at in naive.positions { shape[1], shape[2] / taps, out[1], out[2] } do
    sliding.each_tap({ at[3], at[4] }, sizes, g, function(tap, place)
      local row = (at[2] - 1) * taps + (tap[1] - 1) * g.kernel[2] + tap[2]
      local where = { at[1], at[2], place[1], place[2] }
      y[where] = y[where] + x[{ at[1], row, (at[3] - 1) * out[2] + at[4] }]
    end)
  end
  return y
end

local function fuzz_columns(draw)
  local o = drawn_options(draw, 2)
  local kernel, sizes = drawn_sizes(draw, 2, o, 3)
  return { T { draw(0, 2), draw(1, 2), sizes[1], sizes[2] }, kernel, o }
end

local function fuzz_pictures(draw)
  local o = drawn_options(draw, 2)
  local kernel, sizes = drawn_sizes(draw, 2, o, 3)
  local out = sliding.sizes(sizes, sliding.geometry(kernel, o))
  local rows = draw(1, 2) * kernel[1] * kernel[2]
  return { T { draw(0, 2), rows, out[1] * out[2] }, sizes, kernel, o }
end

-- -- a kernel for each position

-- weight (positions ..., out, c, kernel ...), bias (out, positions ...)
local function local_connected(x, w, bias, o)
  local xs, ws = x:size(), w:size()
  local ndim = #xs - 2
  local sizes, kernel = {}, {}
  for i = 1, ndim do
    sizes[i], kernel[i] = xs[2 + i], ws[ndim + 2 + i]
  end
  local g = sliding.geometry(kernel, o)
  local out = sliding.sizes(sizes, g)
  return naive.build(joined(xs[1], ws[ndim + 1], out), function(at)
    local position, place_in_bias = { at[3], at[4] }, { at[2], at[3], at[4] }
    local sum = bias and bias[place_in_bias] or 0
    for c = 1, xs[2] do
      sliding.each_tap(position, sizes, g, function(tap, place)
        local in_weight, in_input = { at[3], at[4] }, { at[1], c }
        in_weight[ndim + 1], in_weight[ndim + 2] = at[2], c
        for i = 1, ndim do
          in_weight[ndim + 2 + i], in_input[2 + i] = tap[i], place[i]
        end
        sum = sum + x[in_input] * w[in_weight]
      end)
    end
    return sum
  end)
end

local function fuzz_local(ndim)
  return function(draw)
    local o = drawn_options(draw, ndim)
    local kernel, sizes = drawn_sizes(draw, ndim, o, 2)
    local out = sliding.sizes(sizes, sliding.geometry(kernel, o))
    local channels, results = draw(1, 2), draw(1, 2)
    local weight, bias = {}, { results }
    for i = 1, ndim do
      weight[i], weight[ndim + 2 + i], bias[1 + i] = out[i], kernel[i], out[i]
    end
    weight[ndim + 1], weight[ndim + 2] = results, channels
    return { T(joined(draw(0, 2), channels, sizes)), T(weight),
             draw(0, 1) == 0 and T(bias) or nil, o, n = 4 }
  end
end

return {
  conv1d = {
    naive = sliding.convolve, fuzz = fuzz_convolution(1),
    large = { T { 8, 16, 200 }, T { 32, 16, 5 }, T { 32 }, { padding = 2 } },
    cases = {
      { T { 2, 3, 8 }, T { 4, 3, 3 }, T { 4 }, torch = "F.conv1d(a, b, c)" },
      { T { 1, 4, 9 }, T { 6, 2, 3 }, T { 6 },
        { stride = 2, padding = 3, dilation = 2, groups = 2 },
        torch = "F.conv1d(a, b, c, stride=2, padding=3, dilation=2, groups=2)" },
      { T { 2, 2, 6 }, T { 2, 2, 4 }, nil, { padding = "same" }, n = 4,
        torch = "F.conv1d(a, b, padding='same')" },
      { T { 1, 1, 4 }, T { 1, 1, 3 }, nil, { padding = { { 2, 1 } } }, n = 4,
        torch = "F.conv1d(F.pad(a, (2, 1)), b)" },
      { T { 0, 3, 8 }, T { 4, 3, 3 }, T { 4 }, torch = "F.conv1d(a, b, c)" },
    },
  },
  conv2d = {
    naive = sliding.convolve, fuzz = fuzz_convolution(2),
    large = { T { 8, 16, 20, 20 }, T { 32, 16, 3, 3 }, T { 32 }, { padding = 1 } },
    cases = {
      { T { 2, 3, 5, 4 }, T { 4, 3, 3, 2 }, T { 4 }, torch = "F.conv2d(a, b, c)" },
      { T { 1, 4, 6, 5 }, T { 6, 2, 3, 2 }, T { 6 },
        { stride = { 2, 1 }, padding = { 1, 2 }, dilation = { 1, 2 }, groups = 2 },
        torch = "F.conv2d(a, b, c, stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2)" },
      { T { 2, 3, 4, 4 }, T { 3, 1, 3, 3 }, nil, { padding = 1, groups = 3 }, n = 4,
        torch = "F.conv2d(a, b, padding=1, groups=3)" },
      { T { 1, 2, 4, 5 }, T { 2, 2, 2, 4 }, T { 2 }, { padding = "same", dilation = { 3, 1 } },
        torch = "F.conv2d(a, b, c, padding='same', dilation=(3, 1))" },
      { T { 1, 1, 3, 4 }, T { 2, 1, 2, 3 }, nil, { padding = "full" }, n = 4,
        torch = "F.conv2d(a, b, padding=(1, 2))" },
      { T { 1, 1, 3, 4 }, T { 2, 1, 2, 3 }, nil, { padding = { { 1, 0 }, { 0, 2 } } }, n = 4,
        torch = "F.conv2d(F.pad(a, (0, 2, 1, 0)), b)" },
      { T { 0, 3, 5, 5 }, T { 4, 3, 3, 3 }, nil, {}, n = 4, torch = "F.conv2d(a, b)" },
    },
  },
  conv2d_fused = {
    naive = fused, fuzz = fuzz_fused,
    cases = {
      { T { 2, 3, 5, 4 }, T { 4, 3, 3, 2 }, T { 4 }, 1, 0, 1, 1, T { 4 }, T { 2, 4, 3, 3 }, "relu",
        torch = "F.relu(F.conv2d(a, b) * d[:, None, None] + c[:, None, None] + e)" },
      { T { 1, 4, 6, 5 }, T { 40, 2, 3, 2 }, nil, { 2, 1 }, 1, 1, 2, T { 40 }, nil, "relu6", n = 10,
        torch = "F.relu6(F.conv2d(a, b, stride=(2, 1), padding=1, groups=2) * c[:, None, None])" },
      { T { 1, 2, 3, 3 }, T { 2, 2, 1, 1 }, nil, 1, 0, 1, 1, nil, T { 1, 2, 3, 3 }, n = 9,
        torch = "F.conv2d(a, b) + c" },
      { T { 0, 3, 5, 5 }, T { 4, 3, 3, 3 }, torch = "F.conv2d(a, b)" },
    },
  },
  conv2d_chain = {
    naive = chained, fuzz = fuzz_chain,
    gradient = false, why = "it is for inference alone",
    cases = {
      { T { 2, 2, 5, 6 }, case.list { T { 4, 2, 1, 1 }, T { 4, 1, 3, 3 }, T { 2, 4, 1, 1 } },
        case.list { T { 4 }, T { 4 }, T { 2 } }, case.list { T { 4 }, T { 4 }, T { 2 } },
        { 1, 1, 1 }, { 0, 1, 0 }, { 1, 4, 1 }, "relu6", "none", T { 2, 2, 5, 6 },
        torch = "F.conv2d(F.relu6(F.conv2d(F.relu6(F.conv2d(a, b) * e[:, None, None] + " ..
          "h[:, None, None]), c, padding=1, groups=4) * f[:, None, None] + i[:, None, None]), " ..
          "d) * g[:, None, None] + j[:, None, None] + k" },
      { T { 1, 3, 9, 7 }, case.list { T { 4, 3, 3, 3 }, T { 2, 4, 2, 2 } },
        case.list { T { 4 }, T { 2 } }, case.list { T { 4 }, T { 2 } }, { 2, 1 }, { 1, 0 },
        { 1, 1 }, "none", "relu", n = 9,
        torch = "F.relu(F.conv2d(F.conv2d(a, b, stride=2, padding=1) * d[:, None, None] + " ..
          "f[:, None, None], c) * e[:, None, None] + g[:, None, None])" },
      { T { 0, 3, 5, 5 }, case.list { T { 4, 3, 3, 3 } }, case.list { T { 4 } },
        case.list { T { 4 } }, { 1 }, { 0 }, { 1 } },
    },
  },
  conv3d = {
    naive = sliding.convolve, fuzz = fuzz_convolution(3),
    large = { T { 2, 4, 8, 12, 12 }, T { 8, 4, 3, 3, 3 }, T { 8 }, { padding = 1 } },
    cases = {
      { T { 2, 2, 3, 4, 3 }, T { 3, 2, 2, 3, 2 }, T { 3 }, torch = "F.conv3d(a, b, c)" },
      { T { 1, 4, 4, 3, 4 }, T { 4, 2, 2, 2, 1 }, T { 4 },
        { stride = { 1, 2, 2 }, padding = { 1, 0, 1 }, dilation = { 2, 1, 1 }, groups = 2 },
        torch = "F.conv3d(a, b, c, stride=(1, 2, 2), padding=(1, 0, 1), dilation=(2, 1, 1), "
          .. "groups=2)" },
      { T { 1, 2, 3, 2, 3 }, T { 2, 1, 3, 2, 1 }, nil, { padding = "same", groups = 2 }, n = 4,
        torch = "F.conv3d(a, b, padding='same', groups=2)" },
      { T { 1, 1, 3, 3, 3 }, T { 1, 1, 2, 2, 2 }, nil,
        { padding = { { 0, 1 }, 0, { 2, 1 } }, stride = 2 }, n = 4,
        torch = "F.conv3d(F.pad(a, (2, 1, 0, 0, 0, 1)), b, stride=2)" },
      { T { 0, 2, 3, 3, 3 }, T { 3, 2, 2, 2, 2 }, T { 3 }, torch = "F.conv3d(a, b, c)" },
    },
  },
  conv_transpose1d = {
    naive = sliding.transpose, fuzz = fuzz_transposed(1),
    large = { T { 4, 16, 300 }, T { 16, 16, 5 }, T { 16 }, { stride = 2 } },
    cases = {
      { T { 2, 3, 5 }, T { 3, 2, 3 }, T { 2 }, torch = "F.conv_transpose1d(a, b, c)" },
      { T { 1, 4, 4 }, T { 4, 3, 3 }, T { 6 },
        { stride = 3, padding = 2, output_padding = 2, groups = 2, dilation = 2 },
        torch = "F.conv_transpose1d(a, b, c, stride=3, padding=2, output_padding=2, groups=2, "
          .. "dilation=2)" },
      { T { 1, 1, 3 }, T { 1, 1, 2 }, nil, { stride = 2, output_padding = 1 }, n = 4,
        torch = "F.conv_transpose1d(a, b, stride=2, output_padding=1)" },
      { T { 1, 1, 1 }, T { 1, 1, 1 }, nil, { padding = { { 2, 0 } }, output_padding = 4,
        dilation = 5 }, n = 4, torch = "a * b * 0 + torch.zeros(1, 1, 3)" },
      { T { 0, 3, 5 }, T { 3, 2, 3 }, T { 2 }, torch = "F.conv_transpose1d(a, b, c)" },
    },
  },
  conv_transpose2d = {
    naive = sliding.transpose, fuzz = fuzz_transposed(2),
    large = { T { 4, 16, 10, 10 }, T { 16, 8, 4, 4 }, T { 8 }, { stride = 2, padding = 1 } },
    cases = {
      { T { 2, 3, 3, 4 }, T { 3, 2, 3, 2 }, T { 2 }, torch = "F.conv_transpose2d(a, b, c)" },
      { T { 1, 4, 3, 2 }, T { 4, 3, 3, 2 }, T { 6 },
        { stride = { 2, 3 }, padding = { 1, 2 }, output_padding = { 1, 2 }, groups = 2,
          dilation = { 2, 1 } },
        torch = "F.conv_transpose2d(a, b, c, stride=(2, 3), padding=(1, 2), "
          .. "output_padding=(1, 2), groups=2, dilation=(2, 1))" },
      { T { 1, 2, 3, 3 }, T { 2, 1, 4, 4 }, nil, { stride = 2, padding = 1, groups = 2 }, n = 4,
        torch = "F.conv_transpose2d(a, b, stride=2, padding=1, groups=2)" },
      { T { 1, 1, 3, 3 }, T { 1, 1, 2, 3 }, nil, { padding = "full" }, n = 4,
        torch = "F.conv_transpose2d(a, b, padding=(1, 2))" },
      { T { 1, 1, 3, 3 }, T { 1, 2, 2, 3 }, nil, { padding = { { 1, 0 }, { 0, 2 } } }, n = 4,
        torch = "F.conv_transpose2d(a, b)[:, :, 1:, :-2]" },
      { T { 0, 3, 3, 4 }, T { 3, 2, 3, 2 }, nil, n = 2, torch = "F.conv_transpose2d(a, b)" },
    },
  },
  conv_transpose3d = {
    naive = sliding.transpose, fuzz = fuzz_transposed(3),
    large = { T { 2, 8, 5, 9, 9 }, T { 8, 8, 3, 3, 3 }, T { 8 }, { stride = 2, padding = 1 } },
    cases = {
      { T { 2, 2, 2, 3, 2 }, T { 2, 2, 2, 1, 3 }, T { 2 }, torch = "F.conv_transpose3d(a, b, c)" },
      { T { 1, 4, 2, 2, 1 }, T { 4, 1, 3, 2, 2 }, T { 2 },
        { stride = { 2, 1, 3 }, padding = { 1, 0, 1 }, output_padding = { 1, 1, 2 }, groups = 2,
          dilation = { 1, 2, 1 } },
        torch = "F.conv_transpose3d(a, b, c, stride=(2, 1, 3), padding=(1, 0, 1), "
          .. "output_padding=(1, 1, 2), groups=2, dilation=(1, 2, 1))" },
      { T { 1, 1, 2, 2, 2 }, T { 1, 1, 2, 2, 2 }, nil, { padding = { { 0, 1 }, 0, { 1, 0 } },
        dilation = { 3, 1, 1 } }, n = 4,
        torch = "F.conv_transpose3d(a, b, dilation=(3, 1, 1))[:, :, :-1, :, 1:]" },
      { T { 0, 2, 2, 3, 2 }, T { 2, 2, 2, 1, 3 }, nil, n = 2,
        torch = "F.conv_transpose3d(a, b)" },
    },
  },
  im2col = {
    naive = columns, fuzz = fuzz_columns,
    large = { T { 4, 16, 30, 30 }, 3, { padding = 1 } },
    cases = {
      { T { 2, 2, 4, 5 }, { 2, 3 }, torch = "F.unfold(a, (2, 3))" },
      { T { 1, 2, 5, 6 }, { 3, 2 }, { stride = { 2, 1 }, padding = { 1, 2 }, dilation = { 1, 3 } },
        torch = "F.unfold(a, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 3))" },
      { T { 1, 1, 3, 3 }, 1, { padding = { { 1, 0 }, { 0, 2 } } },
        torch = "F.unfold(F.pad(a, (0, 2, 1, 0)), 1)" },
      { T { 0, 2, 4, 5 }, 2, torch = "F.unfold(a, 2)" },
    },
  },
  col2im = {
    naive = pictures, fuzz = fuzz_pictures,
    large = { T { 4, 144, 900 }, 30, 3, { padding = 1 } },
    cases = {
      { T { 2, 12, 9 }, { 4, 5 }, { 2, 3 }, torch = "F.fold(a, (4, 5), (2, 3))" },
      { T { 1, 12, 21 }, { 5, 6 }, { 3, 2 },
        { stride = { 2, 1 }, padding = { 1, 2 }, dilation = { 1, 3 } },
        torch = "F.fold(a, (5, 6), (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 3))" },
      { T { 1, 4, 4 }, { 3, 3 }, 2, { stride = 2, padding = { { 1, 0 }, { 1, 0 } } },
        torch = "F.fold(a, (4, 4), 2, stride=2)[:, :, 1:, 1:]" },
      { T { 0, 4, 9 }, { 4, 4 }, 2, torch = "F.fold(a, (4, 4), 2)" },
    },
  },
  locally_connected1d = {
    naive = local_connected, fuzz = fuzz_local(1),
    large = { T { 8, 16, 60 }, T { 56, 16, 16, 5 }, T { 16, 56 } },
    cases = {
      { T { 2, 3, 5 }, T { 4, 2, 3, 2 }, T { 2, 4 },
        torch = "torch.einsum('ncok,ofck->nfo', a.unfold(2, 2, 1), b) + c" },
      { T { 1, 2, 5 }, T { 3, 1, 2, 3 }, nil, { stride = 2, padding = 1 }, n = 4,
        torch = "torch.einsum('ncok,ofck->nfo', F.pad(a, (1, 1)).unfold(2, 3, 2), b)" },
      { T { 0, 2, 3 }, T { 3, 1, 2, 1 }, nil, n = 3,
        torch = "torch.einsum('ncok,ofck->nfo', a.unfold(2, 1, 1), b)" },
    },
  },
  locally_connected2d = {
    naive = local_connected, fuzz = fuzz_local(2),
    large = { T { 8, 8, 14, 14 }, T { 12, 12, 8, 8, 3, 3 }, T { 8, 12, 12 } },
    cases = {
      { T { 2, 2, 3, 4 }, T { 2, 3, 3, 2, 2, 2 }, T { 3, 2, 3 },
        torch = "torch.einsum('ncopkl,opfckl->nfop', a.unfold(2, 2, 1).unfold(3, 2, 1), b) + c" },
      { T { 1, 1, 4, 4 }, T { 3, 2, 1, 1, 2, 2 }, nil, { stride = { 2, 3 }, padding = 1,
        dilation = { 1, 2 } }, n = 4,
        torch = "torch.einsum('ncopkl,opfckl->nfop', F.pad(a, (1, 1, 1, 1)).unfold(2, 2, 2)"
          .. ".unfold(3, 3, 3)[..., ::2], b)" },
      { T { 0, 2, 2, 2 }, T { 1, 1, 3, 2, 2, 2 }, T { 3, 1, 1 },
        torch = "torch.einsum('ncopkl,opfckl->nfop', a.unfold(2, 2, 1).unfold(3, 2, 1), b) + c" },
    },
  },
}
