-- Cases of embedding, attention and recurrent networks. The references are loops over one sequence
-- and one step at a time, with the papers' formulas.
local moon = require "moonlet"
local case = require "spec.support.case"
local naive = require "spec.support.naive"
local T, W, B, L = case.float, case.whole, case.bool, case.list

local function at(x, ...) return naive.at(x, { ... }) end
local function sigmoid(x) return 1 / (1 + math.exp(-x)) end
local function tanh(x) return 1 - 2 / (math.exp(2 * x) + 1) end

-- -- tables

local function embedded(weight, index)
  local shape = index:size()
  shape[#shape + 1] = weight:size(2)
  return naive.build(shape, function(position)
    local place = {}
    for i = 1, #position - 1 do place[i] = position[i] end
    return at(weight, naive.at(index, place), position[#position])
  end)
end

-- The members (positions in index) of each bag.
local function bags_of(index, offsets, last)
  local bags = {}
  if not offsets then
    for b = 1, index:size(1) do
      bags[b] = {}
      for k = 1, index:size(2) do bags[b][k] = { b, k } end
    end
    return bags
  end
  local count = offsets:size(1) - (last and 1 or 0)
  for b = 1, count do
    bags[b] = {}
    local stop = b < offsets:size(1) and offsets[b + 1] - 1 or index:size(1)
    for k = offsets[b], stop do table.insert(bags[b], { k }) end
  end
  return bags
end

local folds = {
  sum = function(values)
    local sum = 0
    for _, v in ipairs(values) do sum = sum + v end
    return sum
  end,
  max = function(values)
    if #values == 0 then return 0 end
    return math.max((table.unpack or unpack)(values))
  end,
}
function folds.mean(values) return #values == 0 and 0 or folds.sum(values) / #values end

local function bagged(weight, index, offsets, mode, samples, padding, last)
  local bags = bags_of(index, offsets, last)
  return naive.build({ #bags, weight:size(2) }, function(position)
    local values = {}
    for _, place in ipairs(bags[position[1]]) do
      local row = naive.at(index, place)
      if row ~= padding then
        values[#values + 1] =
          at(weight, row, position[2]) * (samples and naive.at(samples, place) or 1)
      end
    end
    return folds[mode or "mean"](values)
  end)
end

local function renormed(weight, index, most, p)
  local named = {}
  for position in naive.positions(index:size()) do named[naive.at(index, position)] = true end
  return naive.build(weight:size(), function(position)
    local sum = 0
    for k = 1, weight:size(2) do sum = sum + math.abs(at(weight, position[1], k)) ^ (p or 2) end
    local norm = sum ^ (1 / (p or 2))
    local factor = named[position[1]] and norm > most and most / (norm + 1e-7) or 1
    return naive.at(weight, position) * factor
  end)
end

-- -- recurrent networks on plain tables

-- weight x + bias
local function affine(weight, x, bias)
  local y = {}
  for i = 1, weight:size(1) do
    local sum = bias and bias[i] or 0
    for k = 1, weight:size(2) do sum = sum + at(weight, i, k) * x[k] end
    y[i] = sum
  end
  return y
end

local steps = {}

local function plain(fn)
  return function(x, u, state)
    local h = {}
    for i = 1, #state.h do h[i] = fn(x[i] + u[i]) end
    return { h = h }
  end
end
steps.tanh = plain(tanh)
steps.relu = plain(function(v) return math.max(v, 0) end)

function steps.lstm(x, u, state)
  local h, c, n = {}, {}, #state.h
  for k = 1, n do
    local function gate(number) return x[number * n + k] + u[number * n + k] end
    c[k] = sigmoid(gate(1)) * state.c[k] + sigmoid(gate(0)) * tanh(gate(2))
    h[k] = sigmoid(gate(3)) * tanh(c[k])
  end
  return { h = h, c = c }
end

function steps.gru(x, u, state)
  local h, n = {}, #state.h
  for k = 1, n do
    local r, z = sigmoid(x[k] + u[k]), sigmoid(x[n + k] + u[n + k])
    local new = tanh(x[2 * n + k] + r * u[2 * n + k])
    h[k] = (1 - z) * new + z * state.h[k]
  end
  return { h = h }
end

local function take_step(kind, w, x, state)
  return steps[kind](affine(w[1], x, w[3]), affine(w[2], state.h, w[4]), state)
end

-- One sequence (a list of vectors) through one layer and direction.
local function run_direction(kind, w, inputs, state, length, backwards)
  local outputs = {}
  for i = 1, #inputs do
    local t = backwards and #inputs + 1 - i or i
    outputs[t] = {}
    if t <= length then
      state = take_step(kind, w, inputs[t], state)
      outputs[t] = state.h
    else
      for k = 1, #state.h do outputs[t][k] = 0 end
    end
  end
  return outputs, state
end

local function joined(a, b)
  local list = {}
  for _, v in ipairs(a) do list[#list + 1] = v end
  for _, v in ipairs(b) do list[#list + 1] = v end
  return list
end

-- One sequence through all layers: outputs and the last states in order.
local function run_sequence(kind, o, cells, inputs, first, length)
  local finals = {}
  for layer = 1, o.layers do
    local sides = {}
    for d = 1, o.directions do
      local number = (layer - 1) * o.directions + d
      sides[d], finals[number] =
        run_direction(kind, cells[number], inputs, first(number), length, d == 2)
    end
    inputs = sides[1]
    if o.directions == 2 then
      inputs = {}
      for t = 1, #sides[1] do inputs[t] = joined(sides[1][t], sides[2][t]) end
    end
  end
  return inputs, finals
end

local function vector(tensor, size)
  local list = {}
  for k = 1, size do list[k] = tensor and tensor[k] or 0 end
  return list
end

local option_names = {
  "layers", "bias", "dropout", "training", "bidirectional", "batch_first", "lengths",
  "nonlinearity",
}

local function read_options(...)
  local o, first = {}, (...)
  if type(first) == "table" then
    for k, v in pairs(first) do o[k] = v end
  else
    for i, name in ipairs(option_names) do o[name] = (select(i, ...)) end
  end
  o.layers, o.directions = o.layers or 1, o.bidirectional and 2 or 1
  if o.bias == nil then o.bias = true end
  return o
end

local function cells_of(weights, o)
  local cells, each = {}, o.bias and 4 or 2
  for i = 1, o.layers * o.directions do
    cells[i] = {}
    for k = 1, each do cells[i][k] = weights[(i - 1) * each + k] end
  end
  return cells
end

-- Every sequence of a batch by itself; x (steps, n, in).
local function run_batch(kind, o, x, weights, h0, c0)
  local cells, all = cells_of(weights, o), {}
  local hidden = weights[2]:size(2)
  for n = 1, x:size(2) do
    local inputs = {}
    for t = 1, x:size(1) do inputs[t] = vector(x:select(1, t):select(1, n), x:size(3)) end
    local function first(number)
      return { h = vector(h0 and h0:select(1, number):select(1, n), hidden),
               c = vector(c0 and c0:select(1, number):select(1, n), hidden) }
    end
    local outputs, finals =
      run_sequence(kind, o, cells, inputs, first, o.lengths and o.lengths[n] or x:size(1))
    all[n] = { outputs = outputs, finals = finals }
  end
  return all, hidden
end

local function network(kind, x, weights, h0, c0, o)
  local batched = x:dim() == 3
  if not batched then
    x, h0, c0 = x:unsqueeze(2), h0 and h0:unsqueeze(2), c0 and c0:unsqueeze(2)
  elseif o.batch_first then
    x = x:transpose(1, 2)
  end
  local all, hidden = run_batch(kind, o, x, weights, h0, c0)
  local out = naive.build({ x:size(1), x:size(2), hidden * o.directions }, function(p)
    return all[p[2]].outputs[p[1]][p[3]]
  end)
  local function finals(name)
    local y = naive.build({ o.layers * o.directions, x:size(2), hidden }, function(p)
      return all[p[2]].finals[p[1]][name][p[3]]
    end)
    return batched and y or y:squeeze(2)
  end
  if not batched then out = out:squeeze(2)
  elseif o.batch_first then out = out:transpose(1, 2) end
  if kind == "lstm" then return out, finals "h", finals "c" end
  return out, finals "h"
end

local function cell(kind, x, h, c, ...)
  local w, batched = { ... }, x:dim() == 2
  if not batched then x, h, c = x:unsqueeze(1), h:unsqueeze(1), c and c:unsqueeze(1) end
  local states = {}
  for n = 1, x:size(1) do
    states[n] = take_step(kind, w, vector(x:select(1, n), x:size(2)), {
      h = vector(h:select(1, n), h:size(2)), c = c and vector(c:select(1, n), h:size(2)),
    })
  end
  local function result(name)
    local y = naive.build(h:size(), function(p) return states[p[1]][name][p[2]] end)
    return batched and y or y:squeeze(1)
  end
  if kind == "lstm" then return result "h", result "c" end
  return result "h"
end

-- -- attention

-- softmax(q k^T scale + bias) v for matrices; allowed(i, j) and bias(i, j) as functions
local function attend(q, k, v, scale, allowed, bias)
  local l, s, weights = q:size(1), k:size(1), {}
  for i = 1, l do
    local sum, row = 0, {}
    for j = 1, s do
      local score = 0
      for d = 1, q:size(2) do score = score + at(q, i, d) * at(k, j, d) end
      row[j] = allowed(i, j) and math.exp(score * scale + bias(i, j)) or 0
      sum = sum + row[j]
    end
    for j = 1, s do row[j] = sum > 0 and row[j] / sum or 0 end
    weights[i] = row
  end
  local out = naive.build({ l, v:size(2) }, function(p)
    local sum = 0
    for j = 1, s do sum = sum + weights[p[1]][j] * at(v, j, p[2]) end
    return sum
  end)
  return out, weights
end

-- mask(i, j) of a matrix with sizes of 1 stretched
local function looked_up(mask, i, j)
  return at(mask, mask:size(1) == 1 and 1 or i, mask:size(2) == 1 and 1 or j)
end

local function rules_of(mask, causal, forbids)
  local is_bool = mask and mask.dtype == "bool"
  return function(i, j)
    local open = not is_bool or looked_up(mask, i, j) ~= forbids
    return open and not (causal and j > i)
  end, function(i, j)
    return mask and not is_bool and looked_up(mask, i, j) or 0
  end
end

local function scaled_attention(q, k, v, mask, causal, _, scale)
  if q:dim() == 2 then
    return (attend(q, k, v, scale or 1 / math.sqrt(q:size(2)), rules_of(mask, causal, false)))
  end
  local parts = {}
  if q:size(1) == 0 then return moon.zeros(0, q:size(2), v:size(3), { dtype = q.dtype }) end
  for b = 1, q:size(1) do
    local part = mask and mask:dim() == q:dim() and mask:select(1, mask:size(1) == 1 and 1 or b)
    parts[b] = scaled_attention(q:select(1, b), k:select(1, b), v:select(1, b), part or mask,
      causal, nil, scale)
  end
  return moon.stack(parts)
end

local function attention_options(mask, ...)
  if type(mask) == "table" then
    return mask.mask, mask.causal, nil, mask.scale
  end
  return mask, ...
end

-- One head of one batch member of multi_head_attention: out (l, e / heads) and weights.
local function one_head(q, k, v, a, n, head)
  local size = a.width / a.heads
  local function projected(x, third)
    return naive.build({ x:size(1), size }, function(p)
      local row = third * a.width + (head - 1) * size + p[2]
      local sum = a.in_bias and a.in_bias[row] or 0
      for d = 1, a.width do sum = sum + at(a.in_weight, row, d) * at(x, p[1], d) end
      return sum
    end)
  end
  local mask = a.mask
  if mask and mask:dim() == 3 then mask = mask:select(1, (n - 1) * a.heads + head) end
  local allowed, bias = rules_of(mask, a.causal, true)
  local padding = a.key_padding_mask
  return attend(projected(q, 0), projected(k, 1), projected(v, 2), 1 / math.sqrt(size),
    function(i, j)
      return allowed(i, j) and not (padding and padding.dtype == "bool" and at(padding, n, j))
    end,
    function(i, j)
      local more = padding and padding.dtype ~= "bool" and at(padding, n, j) or 0
      return bias(i, j) + more
    end)
end

-- q, k, v (n, steps, e) -> out (n, l, e) and weights[n][head][i][j]
local function all_heads(q, k, v, a)
  local weights, members = {}, {}
  for n = 1, q:size(1) do
    local heads = {}
    weights[n] = {}
    for head = 1, a.heads do
      heads[head], weights[n][head] =
        one_head(q:select(1, n), k:select(1, n), v:select(1, n), a, n, head)
    end
    members[n] = naive.build({ q:size(2), a.width }, function(p)
      local size, sum = a.width / a.heads, a.out_bias and a.out_bias[p[2]] or 0
      for d = 1, a.width do
        local head = math.floor((d - 1) / size) + 1
        sum = sum + at(a.out_weight, p[2], d) * at(heads[head], p[1], d - (head - 1) * size)
      end
      return sum
    end)
  end
  return moon.stack(members), weights
end

local head_names = { "heads", "in_weight", "out_weight", "in_bias", "out_bias", "mask",
                     "key_padding_mask" }

local function multi_head(q, k, v, ...)
  local a = {}
  local last = (select(select("#", ...), ...))
  for i, name in ipairs(head_names) do
    local value = (select(i, ...))
    if type(value) ~= "table" then a[name] = value end
  end
  if type(last) == "table" then for key, value in pairs(last) do a[key] = value end end
  local batched = q:dim() == 3
  if not batched then
    q, k, v = q:unsqueeze(1), k:unsqueeze(1), v:unsqueeze(1)
    a.key_padding_mask = a.key_padding_mask and a.key_padding_mask:unsqueeze(1)
  elseif not a.batch_first then
    q, k, v = q:transpose(1, 2), k:transpose(1, 2), v:transpose(1, 2)
  end
  a.width = q:size(3)
  local out, weights = all_heads(q, k, v, a)
  local shown = naive.build({ q:size(1), q:size(2), k:size(2) }, function(p)
    local sum = 0
    for head = 1, a.heads do sum = sum + weights[p[1]][head][p[2]][p[3]] end
    return sum / a.heads
  end)
  if not batched then out, shown = out:squeeze(1), shown:squeeze(1)
  elseif not a.batch_first then out = out:transpose(1, 2) end
  if a.need_weights then return out, shown end
  return out
end

-- -- the peers' sides

-- Weights of layers and directions: gates times `hidden` rows.
local function weights(gates, inputs, hidden, layers, directions, bias)
  local list = {}
  for layer = 1, layers do
    for _ = 1, directions do
      list[#list + 1] = T { gates * hidden, layer == 1 and inputs or hidden * directions }
      list[#list + 1] = T { gates * hidden, hidden }
      if bias then
        list[#list + 1] = T { gates * hidden }
        list[#list + 1] = T { gates * hidden }
      end
    end
  end
  return L(list)
end

local zeros = "torch.zeros(%s, dtype=torch.float64)"

-- A packed run of torch._VF[name], unpacked again.
local function packed(name, lengths, total, state, rest)
  return ([[(lambda p: (lambda r: (torch.nn.utils.rnn.pad_packed_sequence(
    torch.nn.utils.rnn.PackedSequence(r[0], p.batch_sizes, p.sorted_indices, p.unsorted_indices),
    total_length=%d)[0],) + tuple(s[:, p.unsorted_indices] for s in r[1:]))(
    torch._VF.%s(p.data, p.batch_sizes, %s, l, %s)))(
    torch.nn.utils.rnn.pack_padded_sequence(a, torch.tensor(%s), enforce_sorted=False))]])
    :format(total, name, state, rest, lengths)
end

local entries = {
  embedding = {
    naive = embedded,
    cases = {
      { T { 5, 3 }, W({ 2, 4 }, 1, 5), torch = "F.embedding(b - 1, a)" },
      -- what happens to the padding row, which finite differences deny, is in embedding_spec
      { T { 4, 2 }, W({ 6 }, 3, 4), { padding_index = 2 },
        torch = "F.embedding(b - 1, a, padding_idx=1)" },
      { T { 4, 2 }, W({ 2, 3 }, 1, 3), -1, torch = "F.embedding(b - 1, a, padding_idx=-1)" },
      { T { 3, 2 }, W({}, 1, 3) },
      { T { 3, 2 }, W({ 0 }, 1, 3), torch = "F.embedding(b - 1, a)" },
    },
    fuzz = function(draw)
      local rows = draw(1, 5)
      return { T { rows, draw(0, 3) }, W({ draw(0, 3), draw(1, 3) }, 1, rows) }
    end,
    large = { T { 500, 64 }, W({ 3000 }, 1, 500) },
  },
  embedding_renorm = {
    call = function(weight, ...) return weight:clone():embedding_renorm_(...) end,
    naive = renormed,
    gradient = false, why = "it prepares a table, in place and off the tape",
    cases = {
      { T { 4, 3 }, W({ 3 }, 1, 4), 1,
        torch = "torch.embedding_renorm_(a.clone(), b - 1, 1.0, 2.0)" },
      { T { 4, 3 }, W({ 5 }, 1, 4), 2, 1,
        torch = "torch.embedding_renorm_(a.clone(), b - 1, 2.0, 1.0)" },
      { T { 2, 3 }, W({ 2, 2 }, 1, 2), 100 },
    },
  },
  embedding_bag = {
    naive = function(weight, index, offsets, mode, ...)
      if type(offsets) == "table" then
        local o = offsets
        return bagged(weight, index, nil, o.mode, o.per_sample_weights, o.padding_index)
      end
      return bagged(weight, index, offsets, mode, ...)
    end,
    cases = {
      { T { 5, 3 }, W({ 2, 4 }, 1, 5), torch = "F.embedding_bag(b - 1, a)" },
      { T { 5, 3 }, W({ 6 }, 1, 5), case.values({ 1, 3, 3, 6 }, "int64"), "sum",
        torch = "F.embedding_bag(b - 1, a, c - 1, mode='sum')" },
      { T { 5, 3 }, W({ 6 }, 1, 5), case.values({ 1, 3, 3, 6 }, "int64"), "mean",
        torch = "F.embedding_bag(b - 1, a, c - 1, mode='mean')" },
      { T { 5, 3 }, W({ 6 }, 1, 5), case.values({ 1, 3, 3, 6 }, "int64"), "max",
        torch = "F.embedding_bag(b - 1, a, c - 1, mode='max')" },
      { T { 5, 2 }, W({ 6 }, 1, 5), case.values({ 1, 4, 7 }, "int64"), "sum", T { 6 }, nil, true,
        torch = "F.embedding_bag(b - 1, a, c - 1, mode='sum', per_sample_weights=d, "
          .. "include_last_offset=True)", n = 7 },
      { T { 4, 2 }, W({ 3, 3 }, 1, 4), { mode = "mean", padding_index = 2 },
        torch = "F.embedding_bag(b - 1, a, mode='mean', padding_idx=1)" },
      { T { 4, 2 }, W({ 3, 3 }, 1, 4), { mode = "max", padding_index = 2 },
        torch = "F.embedding_bag(b - 1, a, mode='max', padding_idx=1)" },
      { T { 4, 2 }, W({ 0, 3 }, 1, 4), { mode = "sum" } },
    },
    fuzz = function(draw)
      local rows, modes = draw(1, 5), { "sum", "mean", "max" }
      return { T { rows, draw(1, 3) }, W({ draw(0, 3), draw(1, 3) }, 1, rows),
        { mode = modes[draw(1, 3)] } }
    end,
  },
  scaled_dot_product_attention = {
    naive = function(q, k, v, ...) return scaled_attention(q, k, v, attention_options(...)) end,
    cases = {
      { T { 3, 2 }, T { 4, 2 }, T { 4, 3 }, torch = "F.scaled_dot_product_attention(a, b, c)" },
      { T { 2, 3, 2 }, T { 2, 3, 2 }, T { 2, 3, 2 }, { causal = true },
        torch = "F.scaled_dot_product_attention(a, b, c, is_causal=True)" },
      { T { 2, 2, 3, 2 }, T { 2, 2, 4, 2 }, T { 2, 2, 4, 1 }, { scale = 0.3 },
        torch = "F.scaled_dot_product_attention(a, b, c, scale=0.3)" },
      { T { 2, 3, 2 }, T { 2, 4, 2 }, T { 2, 4, 2 }, T { 3, 4 },
        torch = "F.scaled_dot_product_attention(a, b, c, attn_mask=d)" },
      { T { 3, 2 }, T { 3, 2 }, T { 3, 2 },
        case.values({ { true, false, false }, { false, false, false }, { true, true, false } },
          "bool"), torch = "F.scaled_dot_product_attention(a, b, c, attn_mask=d)" },
      { T { 0, 3, 2 }, T { 0, 3, 2 }, T { 0, 3, 2 }, { causal = true } },
    },
    fuzz = function(draw)
      local e, s, n = draw(1, 3), draw(1, 4), draw(1, 2)
      return { T { n, draw(1, 4), e }, T { n, s, e }, T { n, s, draw(1, 3) },
        { causal = draw(0, 1) == 1 } }
    end,
    large = { T { 8, 64, 16 }, T { 8, 64, 16 }, T { 8, 64, 16 }, { causal = true } },
  },
  multi_head_attention = {
    naive = multi_head,
    cases = {
      { T { 3, 2, 4 }, T { 3, 2, 4 }, T { 3, 2, 4 }, 2, T { 12, 4 }, T { 4, 4 }, T { 12 }, T { 4 },
        { need_weights = true },
        torch = "F.multi_head_attention_forward(a, b, c, 4, 2, d, f, None, None, False, 0.0, e, "
          .. "g)" },
      { T { 2, 3, 4 }, T { 4, 3, 4 }, T { 4, 3, 4 }, 2, T { 12, 4 }, T { 4, 4 }, nil, nil,
        T { 2, 4 }, B { 3, 4 }, n = 10,
        torch = "F.multi_head_attention_forward(a, b, c, 4, 2, d, None, None, None, False, 0.0, "
          .. "e, None, attn_mask=f, key_padding_mask=torch.zeros(3, 4, dtype=torch.float64)"
          .. ".masked_fill(g, -math.inf), need_weights=False)[0]" },
      { T { 3, 4 }, T { 3, 4 }, T { 3, 4 }, 1, T { 12, 4 }, T { 4, 4 }, T { 12 }, T { 4 },
        case.values({ { false, true, true }, { false, false, true }, { false, false, false } },
          "bool"), { need_weights = true },
        torch = "F.multi_head_attention_forward(a, b, c, 4, 1, d, f, None, None, False, 0.0, e, "
          .. "g, attn_mask=h)" },
      { T { 2, 3, 4 }, T { 2, 3, 4 }, T { 2, 3, 4 }, 4, T { 12, 4 }, T { 4, 4 }, T { 12 }, T { 4 },
        T { 8, 3, 3 }, { causal = true, batch_first = true },
        torch = "F.multi_head_attention_forward(a.transpose(0, 1), b.transpose(0, 1), "
          .. "c.transpose(0, 1), 4, 4, d, f, None, None, False, 0.0, e, g, attn_mask=h + "
          .. "torch.full((3, 3), -math.inf, dtype=torch.float64).triu(1), need_weights=False)[0]"
          .. ".transpose(0, 1)" },
    },
  },
  positional_encoding = {
    naive = function(length, width, base)
      return naive.build({ length, width }, function(p)
        local i = math.floor((p[2] - 1) / 2)
        local angle = (p[1] - 1) * (base or 10000) ^ (-2 * i / width)
        return p[2] % 2 == 1 and math.sin(angle) or math.cos(angle)
      end)
    end,
    call = function(length, width, base)
      return moon.positional_encoding(length, width, { base = base, dtype = "float64" })
    end,
    gradient = false, why = "there is no tensor to differentiate by",
    layouts = false, dtypes = { "float64" },
    peer = "no such function in PyTorch",
    cases = { { 5, 6 }, { 3, 4, 100 }, { 0, 2 }, { 4, 0 } },
    fuzz = function(draw) return { draw(0, 9), 2 * draw(0, 4) } end,
  },
}

entries.rnn_cell = {
  naive = function(x, h, w_ih, w_hh, b_ih, b_hh, options)
    if type(b_ih) == "table" then b_ih, options = nil, b_ih end
    local kind = options and options.nonlinearity or "tanh"
    return cell(kind, x, h, nil, w_ih, w_hh, b_ih, b_hh)
  end,
  cases = {
    { T { 2, 3 }, T { 2, 4 }, T { 4, 3 }, T { 4, 4 }, T { 4 }, T { 4 },
      torch = "torch.rnn_tanh_cell(a, b, c, d, e, f)" },
    { T { 2, 3 }, T { 2, 4 }, T { 4, 3 }, T { 4, 4 }, T { 4 }, T { 4 }, { nonlinearity = "relu" },
      torch = "torch.rnn_relu_cell(a, b, c, d, e, f)" },
    { T { 3 }, T { 2 }, T { 2, 3 }, T { 2, 2 } },
    { T { 0, 3 }, T { 0, 2 }, T { 2, 3 }, T { 2, 2 } },
  },
}

entries.lstm_cell = {
  naive = function(x, h, c, ...) return cell("lstm", x, h, c, ...) end,
  cases = {
    { T { 2, 3 }, T { 2, 2 }, T { 2, 2 }, T { 8, 3 }, T { 8, 2 }, T { 8 }, T { 8 },
      torch = "torch.lstm_cell(a, (b, c), d, e, f, g)" },
    { T { 3 }, T { 2 }, T { 2 }, T { 8, 3 }, T { 8, 2 } },
    { T { 1, 3 }, T { 1, 2 }, T { 1, 2 }, T { 8, 3 }, T { 8, 2 },
      torch = "torch.lstm_cell(a, (b, c), d, e)" },
  },
}

entries.gru_cell = {
  naive = function(x, h, ...) return cell("gru", x, h, nil, ...) end,
  cases = {
    { T { 2, 3 }, T { 2, 2 }, T { 6, 3 }, T { 6, 2 }, T { 6 }, T { 6 },
      torch = "torch.gru_cell(a, b, c, d, e, f)" },
    { T { 3 }, T { 2 }, T { 6, 3 }, T { 6, 2 } },
    { T { 1, 3 }, T { 1, 2 }, T { 6, 3 }, T { 6, 2 }, torch = "torch.gru_cell(a, b, c, d)" },
  },
}

local lengths = case.values({ 2, 4, 1 }, "int64")

-- rnn and gru take (x, weights, h0, options...)
local function plain_network(kind, name, gates)
  return {
    naive = function(x, list, h0, ...)
      if type(h0) == "table" then return network(kind, x, list, nil, nil, read_options(h0)) end
      return network(kind, x, list, h0, nil, read_options(...))
    end,
    cases = {
      { T { 4, 2, 3 }, weights(gates, 3, 2, 1, 1, true), T { 1, 2, 2 },
        torch = ("torch._VF.%s(a, f, l, True, 1, 0.0, False, False, False)"):format(name) },
      { T { 3, 1, 3 }, weights(gates, 3, 2, 2, 2, false),
        { layers = 2, bidirectional = true, bias = false }, torch = ("torch._VF.%s(a, %s, l, "
          .. "False, 2, 0.0, False, True, False)"):format(name, zeros:format "4, 1, 2") },
      { T { 4, 3, 2 }, weights(gates, 2, 1, 1, 2, true), nil, 1, true, 0, false, true, false,
        lengths, n = 10, torch = packed(name, "[2, 4, 1]", 4, zeros:format "2, 3, 1",
          "True, 1, 0.0, False, True") },
      { T { 2, 3, 2 }, weights(gates, 2, 3, 1, 1, true), { batch_first = true },
        torch = ("torch._VF.%s(a, %s, l, True, 1, 0.0, False, False, True)"):format(name,
          zeros:format "1, 2, 3") },
      { T { 3, 2 }, weights(gates, 2, 3, 1, 1, false), T { 1, 3 }, { bias = false } },
      { T { 2, 0, 3 }, weights(gates, 3, 2, 1, 1, true) },
    },
    fuzz = function(draw)
      local inputs, hidden, layers = draw(1, 3), draw(1, 3), draw(1, 2)
      local two, bias = draw(1, 2), draw(0, 1) == 1
      return { T { draw(1, 4), draw(1, 3), inputs },
        weights(gates, inputs, hidden, layers, two, bias),
        { layers = layers, bidirectional = two == 2, bias = bias } }
    end,
  }
end

entries.gru = plain_network("gru", "gru", 3)
entries.rnn = plain_network("tanh", "rnn_tanh", 1)
table.insert(entries.rnn.cases, {
  T({ 3, 2, 3 }, { low = -0.5, high = 0.5 }), weights(1, 3, 2, 1, 1, true), T { 1, 2, 2 },
  1, true, 0, false, false, false, nil, "relu", n = 11,
  torch = "torch._VF.rnn_relu(a, f, l, True, 1, 0.0, False, False, False)",
})
local run_tanh = entries.rnn.naive
function entries.rnn.naive(x, list, h0, ...)
  if (select(8, ...)) == "relu" then
    return network("relu", x, list, h0, nil, read_options(...))
  end
  return run_tanh(x, list, h0, ...)
end

entries.lstm = {
  naive = function(x, list, h0, c0, ...)
    if type(h0) == "table" then return network("lstm", x, list, nil, nil, read_options(h0)) end
    return network("lstm", x, list, h0, c0, read_options(...))
  end,
  cases = {
    { T { 4, 2, 3 }, weights(4, 3, 2, 1, 1, true), T { 1, 2, 2 }, T { 1, 2, 2 },
      torch = "torch._VF.lstm(a, (f, g), l, True, 1, 0.0, False, False, False)" },
    { T { 3, 1, 2 }, weights(4, 2, 2, 2, 2, false),
      { layers = 2, bidirectional = true, bias = false },
      torch = "torch._VF.lstm(a, (" .. zeros:format "4, 1, 2" .. ", " .. zeros:format "4, 1, 2"
        .. "), l, False, 2, 0.0, False, True, False)" },
    { T { 4, 3, 2 }, weights(4, 2, 1, 1, 2, true), T { 2, 3, 1 }, T { 2, 3, 1 }, 1, true, 0, false,
      true, false, lengths, n = 11, torch = packed("lstm", "[2, 4, 1]", 4,
        "(j[:, p.sorted_indices], k[:, p.sorted_indices])", "True, 1, 0.0, False, True") },
    { T { 2, 3, 2 }, weights(4, 2, 3, 1, 1, true), { batch_first = true },
      torch = "torch._VF.lstm(a, (" .. zeros:format "1, 2, 3" .. ", " .. zeros:format "1, 2, 3"
        .. "), l, True, 1, 0.0, False, False, True)" },
    { T { 3, 2 }, weights(4, 2, 3, 1, 1, false), T { 1, 3 }, T { 1, 3 }, { bias = false } },
    { T { 1, 1, 3 }, weights(4, 3, 2, 1, 1, true) },
  },
  fuzz = function(draw)
    local inputs, hidden, layers = draw(1, 3), draw(1, 3), draw(1, 2)
    local two, bias = draw(1, 2), draw(0, 1) == 1
    return { T { draw(1, 4), draw(1, 3), inputs }, weights(4, inputs, hidden, layers, two, bias),
      { layers = layers, bidirectional = two == 2, bias = bias } }
  end,

  large = { T { 6, 32, 48 }, weights(4, 48, 64, 1, 2, true), { bidirectional = true } },
}

return entries
