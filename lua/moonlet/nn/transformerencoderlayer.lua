-- TransformerEncoderLayer: self-attention and a network of two layers, each with dropout, a path
-- around it and layer normalisation:
--   x = norm1(x + attention(x)), y = norm2(x + linear2(activation(linear1(x))))
-- or, with norm_first, x + attention(norm1(x)) and so on.
-- x and y (steps, n, width), with batch_first (n, steps, width) (Vaswani et al. 2017)

local core = require "moonlet.core"
local options = require "moonlet.options"
local Module = require "moonlet.nn.module"
local Linear = require "moonlet.nn.linear"
local dropouts = require "moonlet.nn.dropouts"
local LayerNorm = require "moonlet.nn.layernorm"
local MultiheadAttention = require "moonlet.nn.multiheadattention"

local TransformerEncoderLayer = Module:extend "TransformerEncoderLayer"

local schema = {
  feedforward = { "positive", 2048 }, dropout = { "number", 0.1 },
  activation = { "any", "relu" }, eps = { "number", 1e-5 }, batch_first = { "boolean", false },
  norm_first = { "boolean", false }, bias = { "boolean", true }, dtype = { "string", "float32" },
}
local call_schema = {
  mask = { "tensor" }, key_padding_mask = { "tensor" }, causal = { "boolean", false },
}

local function read_activation(activation)
  if activation == "relu" or activation == "gelu" then return core[activation] end
  if type(activation) == "function" or Module.is_instance(activation, Module) then
    return activation
  end
  error('TransformerEncoderLayer: activation must be "relu", "gelu" or a function, not '
    .. options.show(activation), 4)
end

--- One layer of a transformer's encoder. net(x, { mask, key_padding_mask, causal = false })
-- @int width features of x
-- @int heads of the attention, divides width
-- @tparam ?table given feedforward = 2048, dropout = 0.1, activation = "relu" ("gelu", a function),
-- eps = 1e-5, batch_first = false, norm_first = false, bias = true, dtype = "float32"
-- @usage local moon = require "moonlet"
-- local layer = moon.nn.TransformerEncoderLayer(8, 2, { feedforward = 16 })
-- assert(layer(moon.zeros(5, 2, 8)):size(3) == 8)
function TransformerEncoderLayer:init(width, heads, given)
  options.argument("TransformerEncoderLayer", "width", width, "positive")
  options.argument("TransformerEncoderLayer", "heads", heads, "positive")
  local o = options.read("TransformerEncoderLayer", given, schema)
  local affine = { bias = o.bias, dtype = o.dtype }
  local norm = { eps = o.eps, bias = o.bias, dtype = o.dtype }
  rawset(self, "activation", read_activation(o.activation))
  self.norm_first = o.norm_first
  self.self_attn = MultiheadAttention(width, heads, {
    dropout = o.dropout, bias = o.bias, batch_first = o.batch_first, dtype = o.dtype })
  self.linear1 = Linear(width, o.feedforward, affine)
  self.linear2 = Linear(o.feedforward, width, affine)
  self.norm1, self.norm2 = LayerNorm(width, norm), LayerNorm(width, norm)
  self.dropout = dropouts.Dropout(o.dropout)
end

local function attend(self, x, o)
  return self.dropout((self.self_attn(x, x, x, o)))
end

local function feed_forward(self, x)
  local hidden = self.dropout(self.activation(self.linear1(x)))
  return self.dropout(self.linear2(hidden))
end

function TransformerEncoderLayer:forward(x, given)
  self:need_tensor(x)
  local o = options.read("TransformerEncoderLayer", given, call_schema)
  if self.norm_first then
    x = x:add(attend(self, self.norm1(x), o))
    return x:add(feed_forward(self, self.norm2(x)))
  end
  x = self.norm1(x:add(attend(self, x, o)))
  return self.norm2(x:add(feed_forward(self, x)))
end

function TransformerEncoderLayer:describe()
  return self.norm_first and "norm_first" or ""
end

return TransformerEncoderLayer
