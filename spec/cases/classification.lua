-- Cases of losses against class labels: one a place, sets of them, and labellings of sequences.
local moon = require "moonlet"
local case = require "spec.support.case"
local naive = require "spec.support.naive"

local T, W, V = case.float, case.whole, case.values
local exp, log, max = math.exp, math.log, math.max
local unpack = table.unpack or unpack

local reductions = { "mean", "sum", "none" }
local function pick(draw) return reductions[draw(1, 3)] end

-- Class weights have no gradient, so they are constants of the call: 0.5, 1, 1.5, ...
local function class_weight(classes)
  return moon.arange(1, classes, { dtype = "float64" }) * 0.5
end
local function torch_weight(classes)
  return ("torch.arange(1, %d).double() * 0.5"):format(classes + 1)
end

local function with_weight(operator)
  return function(x, t, o)
    local options = {}
    for key, value in pairs(o or {}) do options[key] = value end
    if options.weighted then
      options.weight = class_weight(x:size(x:dim() == 1 and 1 or 2)):to(x.dtype)
    end
    options.weighted = nil
    return moon[operator](x, t, options)
  end
end

-- The list of elements of x along dimension 2 at a place that is without it.
local function along_classes(x, place)
  local at, list = { place[1], 1, unpack(place, 2) }, {}
  for c = 1, x:size(2) do
    at[2] = c
    list[c] = naive.at(x, at)
  end
  return list
end

local function log_softmax(list)
  local most, sum = -math.huge, 0
  for _, v in ipairs(list) do most = max(most, v) end
  for _, v in ipairs(list) do sum = sum + exp(v - most) end
  local logs = {}
  for i, v in ipairs(list) do logs[i] = v - most - log(sum) end
  return logs
end

local function places(x)
  local shape = x:size()
  table.remove(shape, 2)
  return shape
end

-- -- one label, or probabilities, a place

-- Losses of logs (a list of log-probabilities) at each place, and what the mean divides by.
local function against_labels(x, target, o, logs_of)
  local weight, s, total = o.weighted and class_weight(x:size(2)), o.label_smoothing or 0, 0
  local losses = naive.build(target:size(), function(at)
    local label = naive.at(target, at)
    if label == o.ignore_index then return 0 end
    local logs, w = logs_of(along_classes(x, at)), weight and weight[label] or 1
    total = total + w
    local smooth = 0
    for c, l in ipairs(logs) do smooth = smooth - (weight and weight[c] or 1) * l end
    return -(1 - s) * w * logs[label] + s / #logs * smooth
  end)
  return losses, total
end

local function against_probabilities(x, target, o)
  local weight, s = o.weighted and class_weight(x:size(2)), o.label_smoothing or 0
  local losses = naive.build(places(x), function(at)
    local logs, p, sum = log_softmax(along_classes(x, at)), along_classes(target, at), 0
    for c, l in ipairs(logs) do
      sum = sum - (weight and weight[c] or 1) * ((1 - s) * p[c] + s / #logs) * l
    end
    return sum
  end)
  return losses, losses:numel()
end

local function reduce(losses, total, o)
  local reduction = o.reduction or "mean"
  if reduction == "none" then return losses end
  local sum = 0
  for at in naive.positions(losses:size()) do sum = sum + naive.at(losses, at) end
  return reduction == "sum" and sum or sum / total
end

local function label_fuzz(extra)
  return function(draw)
    local shape, labels = { draw(1, 3), draw(1, 4) }, {}
    for i = 3, draw(2, 4) do shape[i] = draw(1, 3) end
    for i, size in ipairs(shape) do if i ~= 2 then labels[#labels + 1] = size end end
    local o = { reduction = pick(draw), weighted = draw(0, 1) == 1 }
    if draw(0, 2) == 0 then o.ignore_index = 1 o.reduction = "sum" end
    for key, value in pairs(extra or {}) do o[key] = value end
    return { T(shape), W(labels, 1, shape[2]), o }
  end
end

local function probabilities(shape) return T(shape, { low = 0, high = 1 }) end

local cross_entropy = {
  call = with_weight "cross_entropy",
  naive = function(x, target, o)
    o = o or {}
    if target.dtype == "float64" then
      local losses, total = against_probabilities(x, target, o)
      return reduce(losses, total, o)
    end
    local losses, total = against_labels(x, target, o, log_softmax)
    return reduce(losses, total, o)
  end,
  cases = {
    { T { 4, 3 }, W({ 4 }, 1, 3), torch = "F.cross_entropy(a, b - 1)" },
    { T { 2, 3, 2, 2 }, W({ 2, 2, 2 }, 1, 3), { weighted = true, ignore_index = 2 },
      torch = "F.cross_entropy(a, b - 1, " .. torch_weight(3) .. ", ignore_index=1)" },
    { T { 3, 4 }, W({ 3 }, 1, 4), { weighted = true, label_smoothing = 0.3, reduction = "none" },
      torch = "F.cross_entropy(a, b - 1, " .. torch_weight(4)
        .. ", label_smoothing=0.3, reduction='none')" },
    { T { 3, 4 }, probabilities { 3, 4 }, torch = "F.cross_entropy(a, b)" },
    { T { 2, 3, 2 }, probabilities { 2, 3, 2 },
      { weighted = true, label_smoothing = 0.2, reduction = "none" },
      torch = "F.cross_entropy(a, b, " .. torch_weight(3)
        .. ", label_smoothing=0.2, reduction='none')" },
    { T { 2, 3, 2 }, probabilities { 2, 3, 2 }, { weighted = true },
      torch = "F.cross_entropy(a, b, " .. torch_weight(3) .. ")" },
    { T { 0, 3 }, W({ 0 }, 1, 3), { reduction = "sum" },
      torch = "F.cross_entropy(a, b, reduction='sum')" },
  },
  large = { T { 16, 20, 30, 30 }, W({ 16, 30, 30 }, 1, 20) },
  fuzz = label_fuzz { label_smoothing = 0.25 },
}

local nll_loss = {
  call = with_weight "nll_loss",
  naive = function(x, target, o)
    o = o or {}
    local losses, total = against_labels(x, target, o, function(logs) return logs end)
    return reduce(losses, total, o)
  end,
  cases = {
    { T { 4, 3 }, W({ 4 }, 1, 3), torch = "F.nll_loss(a, b - 1)" },
    { T { 2, 3, 2, 2 }, W({ 2, 2, 2 }, 1, 3), { weighted = true, ignore_index = 2 },
      torch = "F.nll_loss(a, b - 1, " .. torch_weight(3) .. ", ignore_index=1)" },
    { T { 2, 3, 2 }, W({ 2, 2 }, 1, 3), { weighted = true, reduction = "none" },
      torch = "F.nll_loss(a, b - 1, " .. torch_weight(3) .. ", reduction='none')" },
    { T { 0, 3 }, W({ 0 }, 1, 3), { reduction = "sum" },
      torch = "F.nll_loss(a, b, reduction='sum')" },
  },
  large = { T { 16, 20, 30, 30 }, W({ 16, 30, 30 }, 1, 20) },
  fuzz = label_fuzz(),
}

-- -- margins: rows are samples, a single list counts as one

local function rows_of(x)
  if x:dim() == 1 then return { x:totable() } end
  return x:totable()
end

-- f(row of x, row of t) for each sample, reduced
local function by_row(x, t, o, f)
  if x:numel() == 0 then
    return reduce(moon.zeros(x:size(1), { dtype = "float64" }), x:size(1), o)
  end
  local a, b = rows_of(x), t:dim() == 0 and { t:item() } or x:dim() == 1 and { t:totable() }
    or t:totable()
  local losses = {}
  for i = 1, #a do losses[i] = f(a[i], b[i]) end
  if x:dim() == 1 then return losses[1] end
  return reduce(moon.tensor(losses, { dtype = "float64" }), #losses, o)
end

local multi_margin_loss = {
  call = with_weight "multi_margin_loss",
  naive = function(x, target, o)
    o = o or {}
    local weight = o.weighted and class_weight(x:size(-1))
    return by_row(x, target, o, function(row, label)
      local sum = 0
      for i, v in ipairs(row) do
        local lag = max(0, (o.margin or 1) - row[label] + v) ^ (o.p or 1)
        if i ~= label then sum = sum + (weight and weight[label] or 1) * lag end
      end
      return sum / #row
    end)
  end,
  cases = {
    { T { 4, 3 }, W({ 4 }, 1, 3), torch = "F.multi_margin_loss(a, b - 1)" },
    { T { 3, 4 }, W({ 3 }, 1, 4), { p = 2, margin = 0.7, weighted = true, reduction = "none" },
      torch = "F.multi_margin_loss(a, b - 1, 2, 0.7, " .. torch_weight(4)
        .. ", reduction='none')" },
    { T { 5 }, V(2, "int64"), torch = "F.multi_margin_loss(a, b - 1)" },
    { T { 0, 3 }, W({ 0 }, 1, 3), { reduction = "sum" } },
  },
  fuzz = function(draw)
    local n, c = draw(1, 4), draw(1, 5)
    return { T { n, c }, W({ n }, 1, c),
             { p = draw(1, 2), weighted = draw(0, 1) == 1, reduction = pick(draw) } }
  end,
}

local function set_of(row)
  local list, is_in = {}, {}
  for _, label in ipairs(row) do
    if label == 0 then break end
    list[#list + 1] = label
    is_in[label] = true
  end
  return list, is_in
end

local multilabel_margin_loss = {
  naive = function(x, target, o)
    return by_row(x, target, o or {}, function(row, labels)
      local list, is_in = set_of(labels)
      local sum = 0
      for _, label in ipairs(list) do
        for i, v in ipairs(row) do
          if not is_in[i] then sum = sum + max(0, 1 - row[label] + v) end
        end
      end
      return sum / #row
    end)
  end,
  cases = {
    { T { 2, 4 }, V({ { 2, 4, 0, 1 }, { 3, 0, 0, 0 } }, "int64"),
      torch = "F.multilabel_margin_loss(a, b - 1)" },
    { T { 3, 3 }, V({ { 0, 1, 2 }, { 1, 2, 3 }, { 3, 1, 0 } }, "int64"), { reduction = "none" },
      torch = "F.multilabel_margin_loss(a, b - 1, reduction='none')" },
    { T { 3 }, V({ 2, 0, 1 }, "int64"), torch = "F.multilabel_margin_loss(a, b - 1)" },
  },
  fuzz = function(draw)
    local n, c = draw(1, 4), draw(1, 5)
    local rows = {}
    for i = 1, n do
      local free, row = {}, {}
      for k = 1, c do free[k] = k end
      for k = 1, c do row[k] = table.remove(free, draw(1, #free)) end
      for k = draw(1, c + 1), c do row[k] = 0 end
      rows[i] = row
    end
    return { T { n, c }, V(rows, "int64"), { reduction = pick(draw) } }
  end,
}

local multilabel_soft_margin_loss = {
  call = with_weight "multilabel_soft_margin_loss",
  naive = function(x, target, o)
    o = o or {}
    local weight = o.weighted and class_weight(x:size(-1))
    return by_row(x, target, o, function(row, t)
      local sum = 0
      for i, v in ipairs(row) do
        local p = 1 / (1 + exp(-v))
        sum = sum - (weight and weight[i] or 1) * (t[i] * log(p) + (1 - t[i]) * log(1 - p))
      end
      return sum / #row
    end)
  end,
  cases = {
    { T { 3, 4 }, probabilities { 3, 4 },
      torch = "F.multilabel_soft_margin_loss(a, b)" },
    { T { 2, 3 }, probabilities { 2, 3 }, { weighted = true, reduction = "none" },
      torch = "F.multilabel_soft_margin_loss(a, b, " .. torch_weight(3)
        .. ", reduction='none')" },
    { T { 3 }, probabilities { 3 }, torch = "F.multilabel_soft_margin_loss(a, b)" },
  },
  fuzz = function(draw)
    local shape = { draw(1, 4), draw(1, 4) }
    return { T(shape), probabilities(shape),
             { weighted = draw(0, 1) == 1, reduction = pick(draw) } }
  end,
}

-- -- ctc_loss: the reference goes through every path

-- What a path says: repeats merged, blanks dropped.
local function spoken(path, blank)
  local words, before = {}, nil
  for _, class in ipairs(path) do
    if class ~= before and class ~= blank then words[#words + 1] = class end
    before = class
  end
  return table.concat(words, " ")
end

-- The sum over all paths of `times` steps that say `wanted`, of the product of probabilities.
local function likelihood(logs, sample, times, wanted, blank)
  local classes, path, total = logs:size(3), {}, 0
  local function go(t, logp)
    if t > times then
      if spoken(path, blank) == wanted then total = total + exp(logp) end
      return
    end
    for class = 1, classes do
      path[t] = class
      go(t + 1, logp + logs[{ t, sample, class }])
    end
    path[t] = nil
  end
  go(1, 0)
  return total
end

local function labelling(targets, lengths, sample)
  local first, words = 1, {}
  if targets:dim() == 1 then
    for i = 1, sample - 1 do first = first + lengths[i] end
  end
  for k = 1, lengths[sample] do
    words[k] = ("%d"):format(targets:dim() == 1 and targets[first + k - 1]
      or targets[{ sample, k }])
  end
  return table.concat(words, " ")
end

local ctc_loss = {
  call = function(x, ...) return moon.ctc_loss(x:log_softmax(-1), ...) end,
  second = false,
  naive = function(x, targets, input_lengths, target_lengths, o)
    o = o or {}
    if x:dim() == 2 then
      x, input_lengths, target_lengths = x:unsqueeze(2), input_lengths:reshape(1),
        target_lengths:reshape(1)
    end
    local logs = x:log_softmax(3)
    local losses = {}
    for n = 1, x:size(2) do
      local p = likelihood(logs, n, input_lengths[n], labelling(targets, target_lengths, n),
        o.blank or 1)
      local loss = -log(p)
      if o.zero_infinity and p == 0 then loss = 0 end
      if (o.reduction or "mean") == "mean" then loss = loss / max(1, target_lengths[n]) end
      losses[n] = loss
    end
    return reduce(moon.tensor(losses, { dtype = "float64" }), #losses, o)
  end,
  cases = {
    { T { 4, 2, 3 }, V({ { 2, 3 }, { 3, 0 } }, "int64"), V({ 4, 3 }, "int64"),
      V({ 2, 1 }, "int64"), torch = "F.ctc_loss(a.log_softmax(2), b - 1, c, d)" },
    { T { 5, 2, 3 }, V({ 1, 1, 2, 1, 2 }, "int64"), V({ 5, 4 }, "int64"), V({ 3, 2 }, "int64"),
      { blank = 3, reduction = "none" },
      torch = "F.ctc_loss(a.log_softmax(2), b - 1, c, d, 2, 'none')" },
    { T { 3, 2, 3 }, V({ { 2, 2, 2 }, { 2, 3, 2 } }, "int64"), V({ 3, 3 }, "int64"),
      V({ 3, 1 }, "int64"), { zero_infinity = true, reduction = "sum" },
      torch = "F.ctc_loss(a.log_softmax(2), b - 1, c, d, 0, 'sum', True)" },
    { T { 3, 1, 2 }, V({ { 2 } }, "int64"), V({ 3 }, "int64"), V({ 0 }, "int64"),
      torch = "F.ctc_loss(a.log_softmax(2), b - 1, c, d)" },
    { T { 4, 3 }, V({ 2, 3 }, "int64"), V(4, "int64"), V(2, "int64"),
      torch = "F.ctc_loss(a.log_softmax(1), b - 1, c, d)" },
  },
  large = { T { 60, 16, 12 }, W({ 16, 20 }, 2, 12), W({ 16 }, 50, 60), W({ 16 }, 5, 20) },
  fuzz = function(draw)
    local times, n, classes, most = draw(1, 5), draw(1, 2), draw(2, 3), draw(1, 3)
    return { T { times, n, classes }, W({ n, most }, 2, classes), W({ n }, 1, times),
             W({ n }, 0, most), { zero_infinity = true, reduction = pick(draw) } }
  end,
}

return {
  cross_entropy = cross_entropy, nll_loss = nll_loss, multi_margin_loss = multi_margin_loss,
  multilabel_margin_loss = multilabel_margin_loss,
  multilabel_soft_margin_loss = multilabel_soft_margin_loss, ctc_loss = ctc_loss,
}
