-- MultiheadAttention: attention in several subspaces at once; each head is
-- softmax(q k^T / sqrt(d)) v of its own projections; side by side they are projected again.
-- query (l, n, width), key and value (s, n, width), with batch_first n comes first; y as query
-- (Vaswani et al. 2017)

local core = require "moonlet.core"
local options = require "moonlet.options"
local Module = require "moonlet.nn.module"
local Linear = require "moonlet.nn.linear"
local parameter = require "moonlet.nn.parameter"
local initialisers = require "moonlet.nn.initialisers"

local MultiheadAttention = Module:extend "MultiheadAttention"

local schema = {
  dropout = { "number", 0 }, bias = { "boolean", true }, batch_first = { "boolean", false },
  dtype = { "string", "float32" },
}
local call_schema = {
  mask = { "tensor" }, key_padding_mask = { "tensor" }, causal = { "boolean", false },
  need_weights = { "boolean", false }, average_weights = { "boolean", true },
}

--- An attention layer. net(q, k, v, { mask, key_padding_mask, causal = false,
-- need_weights = false, average_weights = true }); with need_weights the weights come second.
-- @int width features of query, key, value and y
-- @int heads divides width
-- @tparam ?table given dropout = 0 (of weights), bias = true, batch_first = false,
-- dtype = "float32"
-- @usage local moon = require "moonlet"
-- local x = moon.zeros(5, 2, 8)
-- local y, weights = moon.nn.MultiheadAttention(8, 2)(x, x, x, { need_weights = true })
-- assert(y:size(3) == 8 and weights:size(3) == 5)
function MultiheadAttention:init(width, heads, given)
  options.argument("MultiheadAttention", "width", width, "positive")
  options.argument("MultiheadAttention", "heads", heads, "positive")
  local o = options.read("MultiheadAttention", given, schema)
  if width % heads ~= 0 then
    error(("MultiheadAttention: heads = %d must divide the width %d"):format(heads, width), 3)
  end
  self.width, self.heads, self.dropout, self.batch_first = width, heads, o.dropout, o.batch_first
  self.in_proj_weight = parameter(core.empty(3 * width, width, { dtype = o.dtype }))
  initialisers.xavier_uniform(self.in_proj_weight)
  self.out_proj = Linear(width, width, { bias = o.bias, dtype = o.dtype })
  if o.bias then
    self.in_proj_bias = parameter(core.zeros(3 * width, { dtype = o.dtype }))
    initialisers.zeros(self.out_proj.bias)
  end
end

function MultiheadAttention:forward(query, key, value, given)
  local o = options.read("MultiheadAttention", given, call_schema)
  o.in_bias, o.out_bias = self.in_proj_bias, self.out_proj.bias
  o.dropout, o.training, o.batch_first = self.dropout, self.training, self.batch_first
  return core.multi_head_attention(query, key, value, self.heads, self.in_proj_weight,
    self.out_proj.weight, o)
end

function MultiheadAttention:describe()
  return ("%d, %d%s"):format(self.width, self.heads, self.batch_first and ", batch_first" or "")
end

return MultiheadAttention
