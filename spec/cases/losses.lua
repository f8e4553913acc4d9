-- Cases of losses between tensors of one shape, of signs, of vectors and of pictures.
local moon = require "moonlet"
local case = require "spec.support.case"
local naive = require "spec.support.naive"

local T, V = case.float, case.values
local abs, exp, log, max, min, sqrt = math.abs, math.exp, math.log, math.max, math.min, math.sqrt

local function P(shape) return T(shape, { low = 0.05, high = 0.95 }) end   -- probabilities

local function sigmoid(x) return 1 / (1 + exp(-x)) end

-- A tensor of losses under o.reduction.
local function reduced(losses, o)
  local reduction = o and o.reduction or "mean"
  if reduction == "none" then return losses end
  local sum, count = 0, losses:numel()
  for at in naive.positions(losses:size()) do sum = sum + naive.at(losses, at) end
  return reduction == "sum" and sum or sum / count
end

-- naive(x, t, o) of a formula f(x, t, o) of one element
local function elementwise(f)
  return function(x, t, o)
    return reduced(naive.build(x:size(), function(at)
      return f(naive.at(x, at), naive.at(t, at), o or {})
    end), o)
  end
end

-- The element of a weight that broadcasts to like's shape; 1 without a weight.
local function weight_at(weight, like, at)
  return weight and naive.at(weight:expand(like:size()), at) or 1
end

local function shape_of(draw)
  local shape = {}
  for i = 1, draw(0, 3) do shape[i] = draw(1, 4) end
  return shape
end

local reductions = { "mean", "sum", "none" }
local function pick(draw) return reductions[draw(1, 3)] end

local function pair_fuzz(kind, other)
  return function(draw)
    local shape = shape_of(draw)
    return { (kind or T)(shape), (other or kind or T)(shape), { reduction = pick(draw) } }
  end
end

-- -- differences

local mse_loss = {
  naive = elementwise(function(x, t) return (x - t) ^ 2 end),
  cases = {
    { T { 3, 4 }, T { 3, 4 }, torch = "F.mse_loss(a, b)" },
    { T { 2, 3 }, T { 2, 3 }, { reduction = "sum" }, torch = "F.mse_loss(a, b, reduction='sum')" },
    { T {}, T {}, { reduction = "none" }, torch = "F.mse_loss(a, b, reduction='none')" },
    { T { 0, 3 }, T { 0, 3 }, { reduction = "sum" },
      torch = "F.mse_loss(a, b, reduction='sum')" },
  },
  large = { T { 300, 300 }, T { 300, 300 } }, fuzz = pair_fuzz(),
}

local l1_loss = {
  naive = elementwise(function(x, t) return abs(x - t) end),
  cases = {
    { T { 3, 4 }, T { 3, 4 }, torch = "F.l1_loss(a, b)" },
    { T { 2, 3 }, T { 2, 3 }, { reduction = "none" }, torch = "F.l1_loss(a, b, reduction='none')" },
    { T { 0 }, T { 0 }, { reduction = "sum" }, torch = "F.l1_loss(a, b, reduction='sum')" },
  },
  fuzz = pair_fuzz(),
}

local smooth_l1_loss = {
  naive = elementwise(function(x, t, o)
    local d, beta = abs(x - t), o.beta or 1
    return d < beta and d * d / (2 * beta) or d - beta / 2
  end),
  cases = {
    { T { 3, 4 }, T { 3, 4 }, torch = "F.smooth_l1_loss(a, b)" },
    { T { 2, 3 }, T { 2, 3 }, { reduction = "none", beta = 0.3 },
      torch = "F.smooth_l1_loss(a, b, reduction='none', beta=0.3)" },
    { T { 2, 3 }, T { 2, 3 }, { beta = 0 }, torch = "F.smooth_l1_loss(a, b, beta=0)" },
  },
  fuzz = pair_fuzz(),
}

local huber_loss = {
  naive = elementwise(function(x, t, o)
    local d, delta = abs(x - t), o.delta or 1
    return d < delta and d * d / 2 or delta * (d - delta / 2)
  end),
  cases = {
    { T { 3, 4 }, T { 3, 4 }, torch = "F.huber_loss(a, b)" },
    { T { 2, 3 }, T { 2, 3 }, { reduction = "none", delta = 0.3 },
      torch = "F.huber_loss(a, b, reduction='none', delta=0.3)" },
  },
  fuzz = pair_fuzz(),
}

-- -- likelihoods

-- Weights have no gradient here, so the case holds them as constants: 1, 2, 3, ... along the last.
local function counting(x)
  return moon.arange(1, x:size(-1), { dtype = "float64" }):to(x.dtype)
end
local COUNTING = "torch.arange(1, %d).double()"

local function weighted(operator, name)
  return function(x, t, o)
    local options = {}
    for key, value in pairs(o or {}) do options[key] = value end
    if options.weighted then options[name] = counting(x) end
    options.weighted = nil
    return moon[operator](x, t, options)
  end
end

local function bce(x, t) return -(t * log(x) + (1 - t) * log(1 - x)) end

local binary_cross_entropy = {
  call = weighted("binary_cross_entropy", "weight"),
  naive = function(x, t, o)
    local weight = o and o.weighted and counting(x)
    return reduced(naive.build(x:size(), function(at)
      return weight_at(weight, x, at) * bce(naive.at(x, at), naive.at(t, at))
    end), o)
  end,
  cases = {
    { P { 3, 4 }, P { 3, 4 }, torch = "F.binary_cross_entropy(a, b)" },
    { P { 2, 3 }, P { 2, 3 }, { weighted = true, reduction = "none" },
      torch = "F.binary_cross_entropy(a, b, " .. COUNTING:format(4) .. ", reduction='none')" },
    { P { 0, 2 }, P { 0, 2 }, { reduction = "sum" },
      torch = "F.binary_cross_entropy(a, b, reduction='sum')" },
  },
  fuzz = pair_fuzz(P),
}

local binary_cross_entropy_with_logits = {
  call = function(x, t, o)
    local pos, weight = o and o.pos and counting(x), o and o.weighted and counting(x) * 0.5
    return moon.binary_cross_entropy_with_logits(x, t,
      { pos_weight = pos or nil, weight = weight or nil, reduction = o and o.reduction })
  end,
  naive = function(x, t, o)
    local pos, weight = o and o.pos and counting(x), o and o.weighted and counting(x) * 0.5
    return reduced(naive.build(x:size(), function(at)
      local s, y = sigmoid(naive.at(x, at)), naive.at(t, at)
      return -weight_at(weight, x, at) * (weight_at(pos, x, at) * y * log(s)
        + (1 - y) * log(1 - s))
    end), o)
  end,
  cases = {
    { T { 3, 4 }, P { 3, 4 }, torch = "F.binary_cross_entropy_with_logits(a, b)" },
    { T { 2, 3 }, P { 2, 3 }, { pos = true, reduction = "none" },
      torch = "F.binary_cross_entropy_with_logits(a, b, pos_weight=" .. COUNTING:format(4)
        .. ", reduction='none')" },
    { T { 2, 3 }, P { 2, 3 }, { pos = true, weighted = true },
      torch = "F.binary_cross_entropy_with_logits(a, b, 0.5 * " .. COUNTING:format(4)
        .. ", pos_weight=" .. COUNTING:format(4) .. ")" },
  },
  fuzz = pair_fuzz(T, P),
}

local function xlogx(x) return x > 0 and x * log(x) or 0 end

local kl_div = {
  naive = function(x, t, o)
    o = o or {}
    local losses = naive.build(x:size(), function(at)
      local a, b = naive.at(x, at), naive.at(t, at)
      if o.log_target then return exp(b) * (b - a) end
      return xlogx(b) - b * a
    end)
    if o.reduction == "batchmean" then return reduced(losses, { reduction = "sum" }) / x:size(1) end
    return reduced(losses, o)
  end,
  cases = {
    { T { 3, 4 }, P { 3, 4 }, { reduction = "batchmean" },
      torch = "F.kl_div(a, b, reduction='batchmean')" },
    { T { 2, 3 }, P { 2, 3 }, torch = "F.kl_div(a, b)" },
    { T { 2, 3 }, T { 2, 3 }, { log_target = true, reduction = "none" },
      torch = "F.kl_div(a, b, reduction='none', log_target=True)" },
    { T { 2, 3 }, T { 2, 3 }, { log_target = true, reduction = "sum" },
      torch = "F.kl_div(a, b, reduction='sum', log_target=True)" },
  },
  fuzz = pair_fuzz(T, P),
}

local poisson_nll_loss = {
  naive = elementwise(function(x, t, o)
    local loss
    if o.log_input == false then loss = x - t * log(x + (o.eps or 1e-8))
    else loss = exp(x) - t * x end
    if o.full and t > 1 then loss = loss + t * log(t) - t + log(2 * math.pi * t) / 2 end
    return loss
  end),
  cases = {
    { T { 3, 4 }, T { 3, 4 }, torch = "F.poisson_nll_loss(a, b)" },
    { T({ 2, 3 }, { low = 0.2 }), T({ 2, 3 }, { low = 1.1, high = 4 }),
      { log_input = false, full = true, eps = 0.1, reduction = "none" },
      torch = "F.poisson_nll_loss(a, b, False, True, eps=0.1, reduction='none')" },
    { T { 2, 3 }, T({ 2, 3 }, { low = 0.1, high = 3 }), { full = true, reduction = "sum" },
      torch = "F.poisson_nll_loss(a, b, full=True, reduction='sum')" },
  },
  fuzz = pair_fuzz(T, P),
}

local gaussian_nll_loss = {
  naive = function(x, t, var, o)
    o = o or {}
    return reduced(naive.build(x:size(), function(at)
      local v = max(weight_at(var, x, at), o.eps or 1e-6)
      local loss = (log(v) + (naive.at(x, at) - naive.at(t, at)) ^ 2 / v) / 2
      return o.full and loss + log(2 * math.pi) / 2 or loss
    end), o)
  end,
  cases = {
    { T { 3, 4 }, T { 3, 4 }, T({ 3, 4 }, { low = 0.2 }),
      torch = "F.gaussian_nll_loss(a, b, c)" },
    { T { 2, 3 }, T { 2, 3 }, T({ 2, 1 }, { low = 0.2 }), { full = true, reduction = "none" },
      torch = "F.gaussian_nll_loss(a, b, c, full=True, reduction='none')" },
    { T { 2, 3 }, T { 2, 3 }, T({ 2, 3 }, { low = 0.6 }), { eps = 0.5, reduction = "sum" },
      torch = "F.gaussian_nll_loss(a, b, c, eps=0.5, reduction='sum')" },
  },
  fuzz = function(draw)
    local shape = shape_of(draw)
    return { T(shape), T(shape), T(shape, { low = 0.2 }), { reduction = pick(draw) } }
  end,
}

local FOCAL = "(lambda p, l, m: (%s * l * (1 - (p * b + (1 - p) * (1 - b))) ** m))"
  .. "(a.sigmoid(), F.binary_cross_entropy_with_logits(a, b, reduction='none'), %s)"

local focal_loss = {
  naive = elementwise(function(x, t, o)
    local alpha, p = o.alpha or 0.25, sigmoid(x)
    local right = p * t + (1 - p) * (1 - t)
    local weight = alpha < 0 and 1 or alpha * t + (1 - alpha) * (1 - t)
    return weight * (1 - right) ^ (o.gamma or 2) * bce(p, t)
  end),
  cases = {
    { T { 3, 4 }, V { { 1, 0, 1, 1 }, { 0, 0, 1, 0 }, { 1, 0, 0, 1 } },
      torch = FOCAL:format("(0.25 * b + 0.75 * (1 - b))", 2) .. ".mean()" },
    { T { 2, 3 }, P { 2, 3 }, { alpha = -1, gamma = 1.5, reduction = "none" },
      torch = FOCAL:format("1", "1.5") },
    { T { 2, 3 }, P { 2, 3 }, { alpha = 0.6, gamma = 0, reduction = "sum" },
      torch = FOCAL:format("(0.6 * b + 0.4 * (1 - b))", 0) .. ".sum()" },
  },
  fuzz = pair_fuzz(T, P),
}

-- -- signs

local signs = V({ { 1, -1, 1 }, { -1, -1, 1 } }, "int64")

local function sign_fuzz(draw)
  local n, list = draw(1, 5), {}
  for i = 1, n do list[i] = draw(0, 1) * 2 - 1 end
  return { T { n }, V(list), { reduction = pick(draw) } }
end

local hinge_loss = {
  peer = "PyTorch has hinge_embedding_loss only",
  naive = elementwise(function(x, t, o)
    local loss = max(0, (o.margin or 1) - t * x)
    return o.squared and loss ^ 2 or loss
  end),
  cases = {
    { T { 2, 3 }, signs },
    { T { 2, 3 }, signs, { margin = 0.3, squared = true, reduction = "none" } },
    { T { 0 }, T { 0 }, { reduction = "sum" } },
  },
  fuzz = sign_fuzz,
}

local soft_margin_loss = {
  naive = elementwise(function(x, t) return log(1 + exp(-t * x)) end),
  cases = {
    { T { 2, 3 }, signs, torch = "F.soft_margin_loss(a, b.double())" },
    { T { 2, 3 }, signs, { reduction = "none" },
      torch = "F.soft_margin_loss(a, b.double(), reduction='none')" },
  },
  fuzz = sign_fuzz,
}

local hinge_embedding_loss = {
  call = function(x, o) return moon.hinge_embedding_loss(x, moon.tensor { { 1, -1, 1 },
    { -1, -1, 1 } }:to(x.dtype), o) end,
  naive = function(x, o)
    local t = moon.tensor { { 1, -1, 1 }, { -1, -1, 1 } }
    return reduced(naive.build(x:size(), function(at)
      local v = naive.at(x, at)
      return naive.at(t, at) == 1 and v or max(0, (o and o.margin or 1) - v)
    end), o)
  end,
  cases = {
    { T { 2, 3 }, torch = "F.hinge_embedding_loss(a, torch.tensor([[1, -1, 1], [-1, -1, 1]]))" },
    { T { 2, 3 }, { margin = 0.3, reduction = "none" },
      torch = "F.hinge_embedding_loss(a, torch.tensor([[1, -1, 1], [-1, -1, 1]]), 0.3, "
        .. "reduction='none')" },
  },
}

local margin_ranking_loss = {
  naive = function(a, b, t, o)
    return reduced(naive.build(a:size(), function(at)
      return max(0, (o and o.margin or 0)
        - naive.at(t, at) * (naive.at(a, at) - naive.at(b, at)))
    end), o)
  end,
  cases = {
    { T { 2, 3 }, T { 2, 3 }, signs, torch = "F.margin_ranking_loss(a, b, c)" },
    { T { 2, 3 }, T { 2, 3 }, signs, { margin = 0.5, reduction = "none" },
      torch = "F.margin_ranking_loss(a, b, c, 0.5, reduction='none')" },
  },
  fuzz = function(draw)
    local row = sign_fuzz(draw)
    return { row[1], T(row[1].shape), row[2], row[3] }
  end,
}

-- -- vectors

-- f(row of a, row of b, row number) for the vectors along the last dimension
local function rowwise(a, b, f)
  local shape = a:size()
  local d = table.remove(shape)
  if a:numel() == 0 then return moon.zeros(shape, { dtype = "float64" }) end
  local x, y = a:contiguous():reshape(-1, d):totable(), b:contiguous():reshape(-1, d):totable()
  local list = {}
  for i = 1, #x do list[i] = f(x[i], y[i], i) end
  return moon.tensor(list, { dtype = "float64" }):reshape(shape)
end

local function distance(x, y, p, eps)
  local sum, most = 0, 0
  for i = 1, #x do
    local d = abs(x[i] - y[i] + eps)
    sum, most = sum + d ^ p, max(most, d)
  end
  return p == math.huge and most or sum ^ (1 / p)
end

local pairwise_distance = {
  naive = function(a, b, p, eps, keepdim)
    local d = rowwise(a, b, function(x, y) return distance(x, y, p or 2, eps or 1e-6) end)
    return keepdim and d:unsqueeze(-1) or d
  end,
  cases = {
    { T { 3, 4 }, T { 3, 4 }, torch = "F.pairwise_distance(a, b)" },
    { T { 2, 2, 3 }, T { 2, 2, 3 }, 1, 0.1, true,
      torch = "F.pairwise_distance(a, b, 1, 0.1, True)" },
    { T { 4 }, T { 4 }, 3, torch = "F.pairwise_distance(a, b, 3)" },
    { T { 3, 4 }, T { 3, 4 }, math.huge, torch = "F.pairwise_distance(a, b, float('inf'))" },
    { T { 0, 4 }, T { 0, 4 }, torch = "F.pairwise_distance(a, b)" },
  },
  fuzz = function(draw)
    local shape = { draw(1, 4), draw(1, 5) }
    return { T(shape), T(shape), draw(1, 3) }
  end,
}

local triplet_margin_loss = {
  naive = function(a, near, far, o)
    o = o or {}
    local p, eps = o.p or 2, o.eps or 1e-6
    local function between(x, y) return distance(x, y, p, eps) end
    local to_near, to_far = rowwise(a, near, between), rowwise(a, far, between)
    local swapped = rowwise(near, far, between)
    return reduced(naive.build(to_near:size(), function(at)
      local d = naive.at(to_far, at)
      if o.swap then d = min(d, naive.at(swapped, at)) end
      return max(0, naive.at(to_near, at) - d + (o.margin or 1))
    end), o)
  end,
  cases = {
    { T { 3, 4 }, T { 3, 4 }, T { 3, 4 }, torch = "F.triplet_margin_loss(a, b, c)" },
    { T { 4, 3 }, T { 4, 3 }, T { 4, 3 },
      { margin = 0.5, p = 1, swap = true, reduction = "none" },
      torch = "F.triplet_margin_loss(a, b, c, 0.5, 1, swap=True, reduction='none')" },
    { T { 3 }, T { 3 }, T { 3 }, { margin = 3, eps = 0.1 },
      torch = "F.triplet_margin_loss(a, b, c, 3, eps=0.1)" },
  },
  fuzz = function(draw)
    local shape = { draw(1, 4), draw(1, 5) }
    return { T(shape), T(shape), T(shape), { swap = draw(0, 1) == 1, reduction = pick(draw) } }
  end,
}

local function cosine(x, y)
  local xy, xx, yy = 0, 1e-12, 1e-12
  for i = 1, #x do xy, xx, yy = xy + x[i] * y[i], xx + x[i] ^ 2, yy + y[i] ^ 2 end
  return xy / sqrt(xx * yy)
end

local cosine_embedding_loss = {
  naive = function(a, b, t, o)
    local list = t:dim() == 0 and { t:item() } or t:totable()
    return reduced(rowwise(a, b, function(x, y, i)
      local cos = cosine(x, y)
      return list[i] == 1 and 1 - cos or max(0, cos - (o and o.margin or 0))
    end), o)
  end,
  cases = {
    { T { 4, 3 }, T { 4, 3 }, V({ 1, -1, 1, -1 }, "int64"),
      torch = "F.cosine_embedding_loss(a, b, c)" },
    { T { 4, 3 }, T { 4, 3 }, V({ 1, -1, 1, -1 }, "int64"), { margin = -0.5, reduction = "none" },
      torch = "F.cosine_embedding_loss(a, b, c, -0.5, reduction='none')" },
    { T { 3 }, T { 3 }, V(1, "int64"), torch = "F.cosine_embedding_loss(a, b, c)" },
  },
  fuzz = function(draw)
    local row = sign_fuzz(draw)
    local n, d = row[1].shape[1], draw(1, 4)
    return { T { n, d }, T { n, d }, V(row[2].values, "int64"), row[3] }
  end,
}

-- -- pictures

local dice_loss = {
  naive = function(x, t, o)
    o = o or {}
    local smooth, losses = o.smooth or 1, {}
    for n = 1, x:size(1) do
      local both, sum = 0, 0
      for at in naive.positions(x:size()) do
        if at[1] == n then
          local a, b = naive.at(x, at), naive.at(t, at)
          both, sum = both + a * b, sum + (o.squared and a * a + b * b or a + b)
        end
      end
      losses[n] = 1 - (2 * both + smooth) / (sum + smooth)
    end
    if #losses == 0 then return reduced(moon.zeros(0), o) end
    return reduced(moon.tensor(losses, { dtype = "float64" }), o)
  end,
  cases = {
    { P { 2, 3, 4 }, P { 2, 3, 4 },
      torch = "(1 - (2 * (a * b).sum((1, 2)) + 1) / ((a + b).sum((1, 2)) + 1)).mean()" },
    { P { 2, 5 }, P { 2, 5 }, { squared = true, smooth = 0.5, reduction = "none" },
      torch = "1 - (2 * (a * b).sum(1) + 0.5) / ((a * a + b * b).sum(1) + 0.5)" },
    { P { 3 }, P { 3 }, { reduction = "sum" },
      torch = "(1 - (2 * a * b + 1) / (a + b + 1)).sum()" },
    { P { 0, 3 }, P { 0, 3 }, { reduction = "sum" } },
  },
  fuzz = function(draw)
    local shape = { draw(1, 3), draw(1, 3), draw(1, 3) }
    return { P(shape), P(shape), { squared = draw(0, 1) == 1, reduction = pick(draw) } }
  end,
}

local TV = "((a[..., 1:, :] - a[..., :-1, :])%s.flatten(%d).sum(-1) + "
  .. "(a[..., 1:] - a[..., :-1])%s.flatten(%d).sum(-1))"

local total_variation = {
  naive = function(x, o)
    o = o or {}
    local sums, ndim, p = {}, x:dim(), o.p or 1
    local pictures = ndim == 2 and 1 or x:size(1)
    for n = 1, pictures do sums[n] = 0 end
    for at in naive.positions(x:size()) do
      local here = naive.at(x, at)
      for dim = ndim - 1, ndim do
        if at[dim] < x:size(dim) then
          local next_one = { (table.unpack or unpack)(at) }
          next_one[dim] = at[dim] + 1
          local n = ndim == 2 and 1 or at[1]
          sums[n] = sums[n] + abs(naive.at(x, next_one) - here) ^ p
        end
      end
    end
    if ndim == 2 then return sums[1] end
    return reduced(moon.tensor(sums, { dtype = "float64" }), o)
  end,
  cases = {
    { T { 3, 4 }, torch = TV:format(".abs()", 0, ".abs()", 0) },
    { T { 2, 3, 2, 3 }, torch = TV:format(".abs()", 1, ".abs()", 1) .. ".mean()" },
    { T { 2, 2, 3 }, { p = 2, reduction = "none" },
      torch = TV:format(".square()", 1, ".square()", 1) },
    { T { 2, 1, 1 }, { reduction = "none" } },
  },
  fuzz = function(draw)
    return { T { draw(1, 3), draw(1, 3), draw(1, 4), draw(1, 4) },
             { p = draw(1, 2), reduction = pick(draw) } }
  end,
}

return {
  mse_loss = mse_loss, l1_loss = l1_loss, smooth_l1_loss = smooth_l1_loss, huber_loss = huber_loss,
  binary_cross_entropy = binary_cross_entropy,
  binary_cross_entropy_with_logits = binary_cross_entropy_with_logits, kl_div = kl_div,
  poisson_nll_loss = poisson_nll_loss, gaussian_nll_loss = gaussian_nll_loss,
  focal_loss = focal_loss, hinge_loss = hinge_loss, soft_margin_loss = soft_margin_loss,
  hinge_embedding_loss = hinge_embedding_loss, margin_ranking_loss = margin_ranking_loss,
  pairwise_distance = pairwise_distance, triplet_margin_loss = triplet_margin_loss,
  cosine_embedding_loss = cosine_embedding_loss, dice_loss = dice_loss,
  total_variation = total_variation,
}
