-- Cases of the layers built on attention: nn.TransformerEncoderLayer and a stack of two, with their
-- parameters as arguments, beside PyTorch's layer of that name. They stand under the operator that
-- the layer is about.
local moon = require "moonlet"
local case = require "spec.support.case"
local T = case.float

local names = {
  "self_attn.in_proj_weight", "self_attn.in_proj_bias", "self_attn.out_proj.weight",
  "self_attn.out_proj.bias", "linear1.weight", "linear1.bias", "linear2.weight", "linear2.bias",
  "norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias",
}
local width, heads, inner = 4, 2, 3
local shapes = {
  { 12, 4 }, { 12 }, { 4, 4 }, { 4 }, { 3, 4 }, { 3 }, { 4, 3 }, { 4 }, { 4 }, { 4 }, { 4 }, { 4 },
}

local function set(module, path, tensor)
  local first, rest = path:match "^([^.]+)%.(.+)$"
  if first then return set(module[first], rest, tensor) end
  module[path] = tensor
end

local function layer(x, parameters, norm_first, activation, causal)
  local net = moon.nn.TransformerEncoderLayer(width, heads, {
    feedforward = inner, dropout = 0, norm_first = norm_first, activation = activation })
  for i, name in ipairs(names) do set(net, name, parameters[i]) end
  return net(x, { causal = causal })
end

-- (l, n, width): the formulas, with other operators than the layer uses
local function reference(x, p, norm_first, activation, causal)
  local size = width / heads
  local function norm(y, weight, bias)
    local d = y - y:mean(-1, true)
    return d / ((d * d):mean(-1, true) + 1e-5):sqrt() * weight + bias
  end
  local function attention(y)
    local members = {}
    for n = 1, y:size(2) do
      local rows, side = y:select(2, n):matmul(p[1]:t()) + p[2], {}
      for head = 1, heads do
        local function part(third)
          return rows:narrow(2, third * width + (head - 1) * size + 1, size)
        end
        local scores = part(0):matmul(part(1):t()) / math.sqrt(size)
        if causal then
          for i = 1, scores:size(1) do
            for j = i + 1, scores:size(2) do scores[{ i, j }] = -math.huge end
          end
        end
        local e = scores:exp()
        side[head] = (e / e:sum(2, true)):matmul(part(2))
      end
      members[n] = moon.cat(side, 2):matmul(p[3]:t()) + p[4]
    end
    return moon.stack(members, 2)
  end
  local function forward(y)
    local hidden = y:matmul(p[5]:t()) + p[6]
    return moon[activation](hidden):matmul(p[7]:t()) + p[8]
  end
  if norm_first then
    x = x + attention(norm(x, p[9], p[10]))
    return x + forward(norm(x, p[11], p[12]))
  end
  x = norm(x + attention(x), p[9], p[10])
  return norm(x + forward(x), p[11], p[12])
end

local function peer(norm_first, activation, causal)
  local pairs_of = {}
  for i, name in ipairs(names) do pairs_of[i] = ("'%s': l[%d]"):format(name, i - 1) end
  return ("torch.func.functional_call(torch.nn.TransformerEncoderLayer(4, 2, 3, dropout=0.0, "
    .. "norm_first=%s, activation='%s').double(), {%s}, (a,), dict(src_mask=%s, is_causal=%s))")
    :format(norm_first and "True" or "False", activation, table.concat(pairs_of, ", "),
      causal and "torch.nn.Transformer.generate_square_subsequent_mask(3).double()" or "None",
      causal and "True" or "False")
end

local function row(norm_first, activation, causal)
  local parameters = {}
  for i, shape in ipairs(shapes) do parameters[i] = T(shape) end
  return { T { 3, 2, width }, case.list(parameters), norm_first, activation, causal,
           torch = peer(norm_first, activation, causal) }
end

return {
  multi_head_attention = {
    call = layer, naive = reference,
    cases = { row(false, "relu", false), row(true, "gelu", true) },
  },
}
