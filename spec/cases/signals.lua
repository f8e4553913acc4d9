-- Cases of convolution for signals and images, of pyramids and template matching.
local case = require "spec.support.case"
local naive = require "spec.support.naive"
local T = case.float

-- -- convolution of the last dimensions

-- What is added at either end, and the first element of the full result that is given.
local function first_of(mode, kernel)
  if mode == "valid" then return kernel end
  return mode == "same" and math.floor((kernel - 1) / 2) + 1 or 1
end

local function count_of(mode, size, kernel)
  if mode == "valid" then return size - kernel + 1 end
  return mode == "same" and size or size + kernel - 1
end

-- y[i] = sum over j of x[i - j] kernel[j], or of the kernel turned round.
local function reference(turned)
  return function(x, kernel, mode)
    local shape, ks, first = x:size(), kernel:size(), {}
    local ndim, out = #ks, x:size()
    for i = 1, ndim do
      local at = #shape - ndim + i
      first[i], out[at] = first_of(mode, ks[i]), count_of(mode, shape[at], ks[i])
    end
    return naive.build(out, function(at)
      local sum, source, tap = 0, {}, {}
      for i = 1, #at do source[i] = at[i] end
      for j in naive.positions(ks) do
        local inside = true
        for i = 1, ndim do
          local place = #shape - ndim + i
          source[place] = at[place] + first[i] - 1 - (j[i] - 1)
          tap[i] = turned and ks[i] + 1 - j[i] or j[i]
          inside = inside and source[place] >= 1 and source[place] <= shape[place]
        end
        if inside then sum = sum + x[source] * kernel[tap] end
      end
      return sum
    end)
  end
end

local modes = { "full", "same", "valid" }

local function fuzz_signal(draw)
  local ndim, mode = draw(1, 2), modes[draw(1, 3)]
  local shape, kernel = {}, {}
  for i = 1, draw(0, 2) do shape[i] = draw(0, 2) end
  for i = 1, ndim do
    kernel[i] = draw(1, 5)
    shape[#shape + 1] = mode == "valid" and kernel[i] + draw(0, 4) or draw(1, 6)
  end
  return { T(shape), T(kernel), mode }
end

-- -- pyramid

local function clamped(at, size) return math.max(1, math.min(size, at)) end

local function halve(x)
  local weights, shape = { 1, 4, 6, 4, 1 }, x:size()
  local n = #shape
  local height, width, out = shape[n - 1], shape[n], x:size()
  out[n - 1], out[n] = math.ceil(height / 2), math.ceil(width / 2)
  return naive.build(out, function(at)
    local sum, source = 0, {}
    for i = 1, n do source[i] = at[i] end
    for i = 1, 5 do
      for j = 1, 5 do
        source[n - 1] = clamped(2 * at[n - 1] - 1 + i - 3, height)
        source[n] = clamped(2 * at[n] - 1 + j - 3, width)
        sum = sum + x[source] * weights[i] * weights[j] / 256
      end
    end
    return sum
  end)
end

local function pyramid(x, levels)
  local list = { x }
  for level = 2, levels or 3 do list[level] = halve(list[level - 1]) end
  return list
end

-- -- match_template

-- One score: the correlation coefficient of two lists.
local function coefficient(a, b)
  local mean_a, mean_b, ab, aa, bb = 0, 0, 0, 0, 0
  for i = 1, #a do mean_a, mean_b = mean_a + a[i] / #a, mean_b + b[i] / #a end
  for i = 1, #a do
    ab = ab + (a[i] - mean_a) * (b[i] - mean_b)
    aa, bb = aa + (a[i] - mean_a) ^ 2, bb + (b[i] - mean_b) ^ 2
  end
  if aa < 1e-12 or bb < 1e-12 then return 0 end
  return ab / math.sqrt(aa * bb)
end

local function elements(x)
  return x:contiguous():view(-1):totable()
end

local function match(x, t)
  local flat = t:dim() == 2
  local image = flat and x:unsqueeze(-3) or x
  local batched = image:dim() == 4
  if not batched then image = image:unsqueeze(1) end
  local ts = t:size()
  local height, width = ts[#ts - 1], ts[#ts]
  local rows, columns = image:size(3) - height + 1, image:size(4) - width + 1
  local scores = naive.build({ image:size(1), rows, columns }, function(at)
    local window = image[at[1]]:narrow(2, at[2], height):narrow(3, at[3], width)
    return coefficient(elements(window), elements(t))
  end)
  return batched and scores or scores[1]
end

-- y for a kernel in PyTorch's words: turned round, with the padding of the mode.
local function torch_1d(kernel, padding)
  return ("F.conv1d(F.pad(a, %s)[:, None], %s[None, None])[:, 0]"):format(padding, kernel)
end

-- An image blurred and halved, in PyTorch's words.
local torch_half = "lambda x: F.conv2d(F.pad(x[None, None], (2, 2, 2, 2), mode='replicate'), "
  .. "(lambda k: torch.outer(k, k))(torch.tensor([1., 4, 6, 4, 1], dtype=a.dtype) / 16)"
  .. "[None, None], stride=2)[0, 0]"

local wide = { "float64", "float32" }
local fft_only = "the Fourier transform takes float32 and float64"

return {
  convolve = {
    naive = reference(false), fuzz = fuzz_signal,
    large = { T { 4, 96, 96 }, T { 9, 9 }, "same" },
    cases = {
      { T { 2, 6 }, T { 3 }, torch = torch_1d("b.flip(0)", "(2, 2)") },
      { T { 2, 6 }, T { 4 }, "same", torch = torch_1d("b.flip(0)", "(2, 1)") },
      { T { 2, 6 }, T { 4 }, "valid", torch = torch_1d("b.flip(0)", "(0, 0)") },
      { T { 3 }, T { 5 },
        torch = "F.conv1d(a[None, None], b.flip(0)[None, None], padding=4)[0, 0]" },
      { T { 2, 4, 5 }, T { 2, 3 }, "same",
        torch = "F.conv2d(F.pad(a, (1, 1, 1, 0))[:, None], b.flip(0, 1)[None, None])[:, 0]" },
      { T { 0, 5 }, T { 3 }, torch = torch_1d("b.flip(0)", "(2, 2)") },
    },
  },
  correlate = {
    naive = reference(true), fuzz = fuzz_signal,
    cases = {
      { T { 2, 6 }, T { 3 }, torch = torch_1d("b", "(2, 2)") },
      { T { 2, 6 }, T { 4 }, "same", torch = torch_1d("b", "(2, 1)") },
      { T { 2, 4, 5 }, T { 2, 3 }, "valid",
        torch = "F.conv2d(a[:, None], b[None, None])[:, 0]" },
    },
  },
  fft_convolve = {
    naive = reference(false), fuzz = fuzz_signal, dtypes = wide, why = fft_only,
    large = { T { 4, 96, 96 }, T { 9, 9 }, "same" },
    cases = {
      { T { 2, 6 }, T { 3 }, torch = torch_1d("b.flip(0)", "(2, 2)") },
      { T { 2, 7 }, T { 4 }, "same", torch = torch_1d("b.flip(0)", "(2, 1)") },
      { T { 2, 4, 5 }, T { 2, 3 }, "valid",
        torch = "F.conv2d(a[:, None], b.flip(0, 1)[None, None])[:, 0]" },
      { T { 3, 4 }, T { 4, 2 },
        torch = "fft.irfft2(fft.rfft2(a, (6, 5)) * fft.rfft2(b, (6, 5)), (6, 5))" },
      { T { 0, 5 }, T { 3 }, torch = torch_1d("b.flip(0)", "(2, 2)") },
    },
  },
  pyramid = {
    naive = pyramid, large = { T { 3, 120, 130 }, 3 },
    cases = {
      { T { 5, 8 }, 3, torch = "(lambda h: (a, h(a), h(h(a))))(" .. torch_half .. ")" },
      { T { 2, 2, 3, 1 }, 2 },
      { T { 0, 4, 4 }, 2 },
      { T { 2, 2 }, 1 },
    },
    fuzz = function(draw)
      local shape = {}
      for i = 1, draw(0, 2) do shape[i] = draw(1, 2) end
      shape[#shape + 1], shape[#shape + 2] = draw(1, 7), draw(1, 7)
      return { T(shape), draw(1, 4) }
    end,
  },
  match_template = {
    naive = match, large = { T { 3, 90, 100 }, T { 3, 12, 11 } }, dtypes = wide,
    why = "variances need the digits of float32",
    tolerance = { float32 = 2e-4 },   -- a variance is the difference of two sums
    cases = {
      { T { 5, 6 }, T { 2, 3 },
        torch = "(lambda u, t: (u @ t) / (u.norm(dim=-1) * t.norm()))((lambda w: w - w.mean(-1, "
          .. "keepdim=True))(a.unfold(0, 2, 1).unfold(1, 3, 1).reshape(4, 4, 6)), "
          .. "(b - b.mean()).reshape(-1))" },
      { T { 2, 4, 5 }, T { 2, 3, 2 } },
      { T { 2, 2, 4, 3 }, T { 2, 2, 2 },
        torch = "(lambda u, t: (u @ t) / (u.norm(dim=-1) * t.norm()))((lambda w: w - w.mean(-1, "
          .. "keepdim=True))(a.unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5)"
          .. ".reshape(2, 3, 2, 8)), (b - b.mean()).reshape(-1))" },
      { T { 2, 3, 4 }, T { 3, 2 } },
      { T { 0, 4, 4 }, T { 2, 2 } },
    },
    fuzz = function(draw)
      local channels = draw(0, 1) == 0 and {} or { draw(1, 2) }
      local shape, template = {}, {}
      if draw(0, 1) == 0 then shape[1] = draw(1, 2) end
      for _, c in ipairs(channels) do shape[#shape + 1], template[#template + 1] = c, c end
      for _ = 1, 2 do
        local size = draw(2, 4)
        template[#template + 1], shape[#shape + 1] = size, size + draw(0, 3)
      end
      return { T(shape), T(template) }
    end,
  },
}
