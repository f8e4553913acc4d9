-- Cases of normalisation: by batch, by sample, by neighbourhood and by norm.
local moon = require "moonlet"
local case = require "spec.support.case"
local naive = require "spec.support.naive"

local T = case.float

-- -- plain loops

-- The elements of x as `rows` lists.
local function rows_of(x, rows)
  if x:numel() == 0 then return {} end
  return x:contiguous():reshape(rows, x:numel() / rows):totable()
end

local function product(sizes, from, to)
  local count = 1
  for i = from, to do count = count * sizes[i] end
  return count
end

local function as_tensor(rows, like)
  if like:numel() == 0 then return moon.zeros(like:size(), { dtype = "float64" }) end
  return moon.tensor(rows, { dtype = "float64" }):reshape(like:size())
end

-- Mean and variance, divided by the count.
local function moments(list)
  local mean, variance = 0, 0
  for _, v in ipairs(list) do mean = mean + v / #list end
  for _, v in ipairs(list) do variance = variance + (v - mean) ^ 2 / #list end
  return mean, variance
end

local function standardized(x, rows, eps)
  local lists = rows_of(x, rows)
  for _, list in ipairs(lists) do
    local mean, variance = moments(list)
    for i, v in ipairs(list) do list[i] = (v - mean) / math.sqrt(variance + eps) end
  end
  return as_tensor(lists, x)
end

-- y * weight[c] + bias[c], c the index in dimension 2
local function by_channel(y, weight, bias)
  return naive.build(y:size(), function(at)
    return naive.at(y, at) * (weight and weight[at[2]] or 1) + (bias and bias[at[2]] or 0)
  end)
end

local function by_shape(y, weight, bias)
  if weight then y = y * weight end
  return bias and y + bias or y
end

-- Elements of x in lists by the index in one dimension.
local function slices(x, dim)
  local lists = {}
  for i = 1, x:size(dim) do lists[i] = {} end
  for at in naive.positions(x:size()) do
    local list = lists[at[dim]]
    list[#list + 1] = naive.at(x, at)
  end
  return lists
end

local function norm_of(list, p)
  local sum, most = 0, 0
  for _, v in ipairs(list) do
    sum = sum + math.abs(v) ^ p
    most = math.max(most, math.abs(v))
  end
  return p == math.huge and most or sum ^ (1 / p)
end

-- -- batch_norm: running statistics are constants in these cases; specs look at how they move

local function running(channels)
  local count = moon.arange(1, channels, { dtype = "float64" })
  return count * 0.1, count * 0.5 + 0.25
end

local function torch_running(c)
  return ("torch.arange(1, %d).double() * 0.1, torch.arange(1, %d).double() * 0.5 + 0.25"):format(
    c + 1, c + 1)
end

local batch_norm = {
  call = function(x, weight, bias, o)
    local mean, var = running(x:size(2))
    mean, var = mean:to(x.dtype), var:to(x.dtype)
    return moon.batch_norm(x, weight, bias, mean, var, o)
  end,
  naive = function(x, weight, bias, o)
    local lists = slices(x, 2)
    local mean, var = running(x:size(2))
    return naive.build(x:size(), function(at)
      local c = at[2]
      local m, v = mean[c], var[c]
      if o.training then m, v = moments(lists[c]) end
      return (naive.at(x, at) - m) / math.sqrt(v + (o.eps or 1e-5)) * (weight and weight[c] or 1)
        + (bias and bias[c] or 0)
    end)
  end,
  cases = {
    { T { 4, 3 }, T { 3 }, T { 3 }, { training = true },
      torch = "F.batch_norm(a, " .. torch_running(3) .. ", b, c, True)" },
    { T { 2, 3, 4 }, T { 3 }, T { 3 }, { training = true, eps = 0.1, momentum = 0.3 },
      torch = "F.batch_norm(a, " .. torch_running(3) .. ", b, c, True, 0.3, 0.1)" },
    { T { 2, 2, 2, 3 }, nil, nil, { training = true }, n = 4,
      torch = "F.batch_norm(a, " .. torch_running(2) .. ", None, None, True)" },
    { T { 1, 2, 2, 1, 3 }, T { 2 }, T { 2 }, { training = true },
      torch = "F.batch_norm(a, " .. torch_running(2) .. ", b, c, True)" },
    { T { 2, 3, 2, 2 }, T { 3 }, T { 3 }, {},
      torch = "F.batch_norm(a, " .. torch_running(3) .. ", b, c)" },
    { T { 1, 3 }, T { 3 }, nil, { eps = 0.5 }, n = 4,
      torch = "F.batch_norm(a, " .. torch_running(3) .. ", b, None, False, 0.1, 0.5)" },
    { T { 0, 3, 2 }, T { 3 }, T { 3 }, {},
      torch = "F.batch_norm(a, " .. torch_running(3) .. ", b, c)" },
  },
  large = { T { 8, 16, 24, 24 }, T { 16 }, T { 16 }, { training = true } },
  fuzz = function(draw)
    local c, shape = draw(1, 4), { draw(2, 4) }
    shape[2] = c
    for i = 3, draw(2, 5) do shape[i] = draw(1, 3) end
    return { T(shape), T { c }, T { c }, { training = draw(0, 1) == 1 } }
  end,
}

local local_response_norm = {
  naive = function(x, size, o)
    local alpha, beta, k = o.alpha or 1e-4, o.beta or 0.75, o.k or 1
    return naive.build(x:size(), function(at)
      local near, sum = { (table.unpack or unpack)(at) }, 0
      local first = at[2] - math.floor(size / 2)
      for c = math.max(first, 1), math.min(first + size - 1, x:size(2)) do
        near[2] = c
        sum = sum + naive.at(x, near) ^ 2
      end
      return naive.at(x, at) * (k + alpha / size * sum) ^ -beta
    end)
  end,
  cases = {
    { T { 2, 5, 3 }, 3, { alpha = 0.9, beta = 0.6, k = 1.5 },
      torch = "F.local_response_norm(a, 3, 0.9, 0.6, 1.5)" },
    { T { 1, 6, 2, 2 }, 5, {}, torch = "F.local_response_norm(a, 5)" },
    { T { 2, 2, 2, 1, 2 }, 4, { alpha = 2 }, torch = "F.local_response_norm(a, 4, 2)" },
    { T { 0, 3, 2, 2 }, 3, {} },
  },
  large = { T { 4, 16, 20, 20 }, 5, { alpha = 1 } },
  fuzz = function(draw)
    return { T { draw(1, 3), draw(1, 6), draw(1, 4) }, draw(1, 7), { alpha = draw(1, 4) / 2 } }
  end,
}

local layer_norm = {
  naive = function(x, shape, weight, bias, o)
    local rows = product(x:size(), 1, x:dim() - #shape)
    return by_shape(standardized(x, rows, o and o.eps or 1e-5), weight, bias)
  end,
  cases = {
    { T { 2, 3, 4 }, { 4 }, T { 4 }, T { 4 }, torch = "F.layer_norm(a, (4,), b, c)" },
    { T { 2, 3, 4 }, { 3, 4 }, T { 3, 4 }, T { 3, 4 }, { eps = 0.1 },
      torch = "F.layer_norm(a, (3, 4), b, c, 0.1)" },
    { T { 5 }, { 5 }, nil, T { 5 }, n = 4, torch = "F.layer_norm(a, (5,), None, b)" },
    { T { 3, 1 }, { 1 }, T { 1 }, T { 1 }, torch = "F.layer_norm(a, (1,), b, c)" },
    { T { 1, 6 }, { 6 }, T { 6 }, torch = "F.layer_norm(a, (6,), b)" },
    { T { 0, 3 }, { 3 }, T { 3 }, T { 3 }, torch = "F.layer_norm(a, (3,), b, c)" },
  },
  large = { T { 64, 600 }, { 600 }, T { 600 }, T { 600 } },
  fuzz = function(draw)
    local shape, last = {}, {}
    for i = 1, draw(1, 4) do shape[i] = draw(1, 4) end
    local from = draw(1, #shape)
    for i = from, #shape do last[#last + 1] = shape[i] end
    return { T(shape), last, T(last), T(last) }
  end,
}

local rms_norm = {
  naive = function(x, shape, weight, o)
    local rows = product(x:size(), 1, x:dim() - #shape)
    local eps, lists = o and o.eps or 2 ^ -52, rows_of(x, rows)
    for _, list in ipairs(lists) do
      local mean = 0
      for _, v in ipairs(list) do mean = mean + v * v / #list end
      for i, v in ipairs(list) do list[i] = v / math.sqrt(mean + eps) end
    end
    return by_shape(as_tensor(lists, x), weight)
  end,
  cases = {
    { T { 2, 3, 4 }, { 4 }, T { 4 }, torch = "F.rms_norm(a, (4,), b)" },
    { T { 2, 3, 4 }, { 3, 4 }, T { 3, 4 }, { eps = 0.1 },
      torch = "F.rms_norm(a, (3, 4), b, 0.1)" },
    { T { 5 }, { 5 }, torch = "F.rms_norm(a, (5,))" },
    { T { 0, 3 }, { 3 }, T { 3 }, torch = "F.rms_norm(a, (3,), b)" },
  },
  large = { T { 64, 600 }, { 600 }, T { 600 } },
  fuzz = function(draw)
    local shape, last = {}, {}
    for i = 1, draw(1, 4) do shape[i] = draw(1, 4) end
    for i = draw(1, #shape), #shape do last[#last + 1] = shape[i] end
    return { T(shape), last, T(last), { eps = 0.01 } }
  end,
}

local group_norm = {
  naive = function(x, groups, weight, bias, o)
    return by_channel(standardized(x, x:size(1) * groups, o and o.eps or 1e-5), weight, bias)
  end,
  cases = {
    { T { 2, 4, 3 }, 2, T { 4 }, T { 4 }, torch = "F.group_norm(a, 2, b, c)" },
    { T { 1, 3, 2, 2 }, 3, T { 3 }, T { 3 }, { eps = 0.1 },
      torch = "F.group_norm(a, 3, b, c, 0.1)" },
    { T { 3, 6 }, 2, nil, T { 6 }, n = 4, torch = "F.group_norm(a, 2, None, b)" },
    { T { 2, 4, 2, 1, 2 }, 1, torch = "F.group_norm(a, 1)" },
    { T { 0, 4, 2 }, 2, T { 4 }, T { 4 }, torch = "F.group_norm(a, 2, b, c)" },
  },
  large = { T { 8, 16, 24, 24 }, 4, T { 16 }, T { 16 } },
  fuzz = function(draw)
    local groups = draw(1, 3)
    local c, shape = groups * draw(1, 3), { draw(1, 3) }
    shape[2] = c
    for i = 3, draw(2, 4) do shape[i] = draw(1, 3) end
    return { T(shape), groups, T { c }, T { c } }
  end,
}

local instance_norm = {
  naive = function(x, _, _, weight, bias, o)
    return by_channel(standardized(x, x:size(1) * x:size(2), o and o.eps or 1e-5), weight, bias)
  end,
  cases = {
    { T { 2, 3, 4 }, nil, nil, T { 3 }, T { 3 },
      torch = "F.instance_norm(a, weight=b, bias=c)" },
    { T { 1, 2, 3, 2 }, nil, nil, nil, nil, { eps = 0.1 }, n = 6,
      torch = "F.instance_norm(a, eps=0.1)" },
    { T { 2, 2, 2, 2, 2 }, nil, nil, T { 2 }, n = 4, torch = "F.instance_norm(a, weight=b)" },
    { T { 0, 3, 2 }, nil, nil, T { 3 }, T { 3 } },
  },
  large = { T { 8, 16, 24, 24 }, nil, nil, T { 16 }, T { 16 } },
  fuzz = function(draw)
    local c, shape = draw(1, 3), { draw(1, 3) }
    shape[2], shape[3] = c, draw(2, 4)
    for i = 4, draw(3, 5) do shape[i] = draw(1, 3) end
    return { T(shape), nil, nil, T { c }, T { c }, n = 5 }
  end,
}

local local_contrast_norm = {
  peer = "Torch7's SpatialContrastiveNormalization has no peer in PyTorch",
  naive = function(x, kernel, size, threshold)
    local kh, kw = size, size
    if kernel then kh, kw = kernel:size(1), kernel:size(2) end
    local function weight(i, j) return kernel and kernel[{ i, j }] or 1 end
    -- the weighted mean of f(n, c, row, column) round a place
    local function mean(n, row, column, f)
      local sum, weights = 0, 0
      for i = 1, kh do
        for j = 1, kw do
          local r, c = row + i - (kh + 1) / 2, column + j - (kw + 1) / 2
          if r >= 1 and r <= x:size(3) and c >= 1 and c <= x:size(4) then
            for channel = 1, x:size(2) do
              sum = sum + weight(i, j) * f(n, channel, r, c)
              weights = weights + weight(i, j)
            end
          end
        end
      end
      return sum / weights
    end
    local function pixel(n, c, row, column) return x[{ n, c, row, column }] end
    local rest = naive.build(x:size(), function(at)
      return naive.at(x, at) - mean(at[1], at[3], at[4], pixel)
    end)
    local function square(n, c, row, column) return rest[{ n, c, row, column }] ^ 2 end
    return naive.build(x:size(), function(at)
      local deviation = math.sqrt(mean(at[1], at[3], at[4], square))
      return naive.at(rest, at) / math.max(deviation, threshold or 1e-4)
    end)
  end,
  cases = {
    { T { 1, 2, 4, 3 }, nil, 3, n = 3 },
    { T { 2, 1, 3, 4 }, T({ 3, 1 }, { low = 0.5, high = 1 }) },
    { T { 1, 1, 3, 3 }, nil, 5, 0.7, n = 4 },
    { T { 0, 2, 3, 3 }, nil, 3, n = 3 },
  },
  tolerance = { gradient = 1e-5, values = 1e-9 },   -- divides by small deviations
  large = { T { 2, 4, 40, 40 }, nil, 5, n = 3 },
  fuzz = function(draw)
    return { T { draw(1, 2), draw(1, 2), draw(1, 4), draw(2, 4) }, nil, 2 * draw(0, 2) + 1, 0.5 }
  end,
}

-- -- by norm

local normalize = {
  naive = function(x, p, dim, eps)
    dim = dim or 2
    local lists = {}
    local function key(at)
      local others = {}
      for i, k in ipairs(at) do if i ~= dim then others[#others + 1] = k end end
      return table.concat(others, ",")
    end
    for at in naive.positions(x:size()) do
      local k = key(at)
      lists[k] = lists[k] or {}
      table.insert(lists[k], naive.at(x, at))
    end
    return naive.build(x:size(), function(at)
      return naive.at(x, at) / math.max(norm_of(lists[key(at)], p or 2), eps or 1e-12)
    end)
  end,
  cases = {
    { T { 3, 4 }, torch = "F.normalize(a)" },
    { T { 2, 3, 2 }, 1, 3, torch = "F.normalize(a, 1, 2)" },
    { T { 4 }, 3, 1, torch = "F.normalize(a, 3, 0)" },
    { T { 2, 3 }, 2, 1, 5, torch = "F.normalize(a, 2, 0, 5)" },
    { T { 3, 4 }, math.huge, 2, torch = "F.normalize(a, float('inf'))" },
    { T { 0, 3 }, torch = "F.normalize(a)" },
  },
  fuzz = function(draw)
    local shape = { draw(1, 4), draw(1, 4), draw(1, 3) }
    return { T(shape), draw(1, 3), draw(1, 3) }
  end,
}

local renorm = {
  naive = function(x, p, dim, limit)
    local lists = slices(x, dim)
    return naive.build(x:size(), function(at)
      local norm = norm_of(lists[at[dim]], p)
      return naive.at(x, at) * (norm > limit and limit / (norm + 1e-7) or 1)
    end)
  end,
  cases = {
    { T { 3, 4 }, 2, 1, 2, torch = "a.renorm(2, 0, 2)" },
    { T { 2, 3, 2 }, 1, 2, 3, torch = "a.renorm(1, 1, 3)" },
    { T { 3, 2 }, 2, 2, 100, torch = "a.renorm(2, 1, 100)" },
    { T { 0, 3 }, 2, 1, 2 },
  },
  fuzz = function(draw)
    return { T { draw(1, 4), draw(1, 4), draw(1, 3) }, draw(1, 3), draw(1, 3), draw(1, 4) }
  end,
}

local weight_norm = {
  naive = function(v, g, dim)
    local all = {}
    for at in naive.positions(v:size()) do all[#all + 1] = naive.at(v, at) end
    local lists = dim and slices(v, dim)
    return naive.build(v:size(), function(at)
      if not dim then return naive.at(v, at) * g:item() / norm_of(all, 2) end
      local place = {}
      for i = 1, v:dim() do place[i] = i == dim and at[i] or 1 end
      return naive.at(v, at) * naive.at(g, place) / norm_of(lists[at[dim]], 2)
    end)
  end,
  cases = {
    { T { 3, 4 }, T { 3, 1 }, 1, torch = "torch._weight_norm(a, b, 0)" },
    { T { 2, 3, 2, 2 }, T { 1, 3, 1, 1 }, 2, torch = "a * (b / a.norm(2, (0, 2, 3), True))" },
    { T { 3, 4 }, T {}, torch = "a * (b / a.norm())" },
    { T { 4 }, T { 4 }, 1, torch = "a * (b / a.abs())" },
  },
  fuzz = function(draw)
    local shape, g = { draw(1, 4), draw(1, 4), draw(1, 3) }, { 1, 1, 1 }
    local dim = draw(1, 3)
    g[dim] = shape[dim]
    return { T(shape), T(g), dim }
  end,
}

-- u and v are drawn in the call: they move in place and have no gradient.
local function vectors(weight, dim)
  local rows = weight:size(dim)
  local u = moon.arange(1, rows, { dtype = "float64" })
  local v = moon.arange(1, weight:numel() / rows, { dtype = "float64" }) - 0.5
  return u / u:norm(), v / v:norm()
end

local function plain_step(matrix, x)
  local y, sum = {}, 0
  for i, row in ipairs(matrix) do
    y[i] = 0
    for j, m in ipairs(row) do y[i] = y[i] + m * x[j] end
    sum = sum + y[i] ^ 2
  end
  for i = 1, #y do y[i] = y[i] / math.sqrt(sum) end
  return y, math.sqrt(sum)
end

local spectral_norm = {
  call = function(weight, dim, iterations)
    local u, v = vectors(weight, dim)
    return moon.spectral_norm(weight, u:to(weight.dtype), v:to(weight.dtype),
      { dim = dim, iterations = iterations })
  end,
  -- with iterations the vectors depend on the weight, and no gradient goes that way: differences
  -- see it, so the cases whose gradient is checked have none
  naive = function(weight, dim, iterations)
    local u, v = vectors(weight, dim)
    u, v = u:totable(), v:totable()
    local matrix = weight:transpose(1, dim)
    if dim == 3 then matrix = weight:permute(3, 1, 2) end
    matrix = matrix:reshape(#u, #v)
    local rows, columns = matrix:totable(), matrix:t():contiguous():totable()
    for _ = 1, iterations do
      v = plain_step(columns, u)
      u = plain_step(rows, v)
    end
    local sigma = 0
    for i, row in ipairs(rows) do
      for j, m in ipairs(row) do sigma = sigma + u[i] * m * v[j] end
    end
    return weight / sigma
  end,
  cases = {
    { T({ 3, 4 }, { low = 0.1 }), 1, 0,
      torch = "a / (lambda u, v: (u / u.norm()) @ a @ (v / v.norm()))"
        .. "(torch.arange(1, 4).double(), torch.arange(1, 5).double() - 0.5)" },
    { T({ 2, 3, 2 }, { low = 0.1 }), 2, 0 },
    { T({ 2, 2, 3 }, { low = 0.1 }), 3, 0 },
  },
  fuzz = function(draw)
    return { T({ draw(1, 3), draw(1, 3), draw(1, 3) }, { low = 0.1 }), draw(1, 3), draw(0, 3) }
  end,
}

return {
  batch_norm = batch_norm, local_response_norm = local_response_norm, layer_norm = layer_norm,
  rms_norm = rms_norm, group_norm = group_norm, instance_norm = instance_norm,
  local_contrast_norm = local_contrast_norm, normalize = normalize, renorm = renorm,
  weight_norm = weight_norm, spectral_norm = spectral_norm,
}
