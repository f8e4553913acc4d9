-- A row for every layer of nn: how it is made, what it is given, the shape of its first output.
local moon = require "moonlet"
local unpack = require "moonlet.unpack"

local nn = moon.nn
local function randn(...)
  local shape = { ... }
  return function() return moon.randn(shape, { requires_grad = true }) end
end

local function labels(high, ...)
  local shape = { ... }
  return function() return moon.randint(1, high, shape) end
end

-- Numbers between 0 and 1, away from both.
local function probabilities(...)
  local shape = { ... }
  return function() return (moon.rand(shape) * 0.8 + 0.1):requires_grad_() end
end

local function signs(...)
  local shape = { ... }
  return function() return moon.randint(0, 1, shape):to("float32") * 2 - 1 end
end

-- name = { constructor, inputs, shape of the (first) output }
local rows = {}

local function row(name, make, inputs, shape) rows[name] = { make, inputs, shape } end

local image, sequence, volume = randn(2, 4, 6, 6), randn(2, 4, 6), randn(2, 4, 6, 6, 6)
local spaces = { sequence, image, volume }
local tails = { { 6 }, { 6, 6 }, { 6, 6, 6 } }

-- (2, channels, size, ...) with d sizes
local function shape_of(channels, d, size)
  local shape = { 2, channels }
  for _ = 1, d do shape[#shape + 1] = size end
  return shape
end

for d = 1, 3 do
  local x, suffix = spaces[d], d .. "d"
  local function add(name, make, channels, size)
    row(name .. suffix, make, { x }, shape_of(channels, d, size))
  end
  add("Conv", function(L) return L(4, 3, 3) end, 3, 4)
  add("LazyConv", function(L) return L(3, 3) end, 3, 4)
  add("ConvTranspose", function(L) return L(4, 3, 3) end, 3, 8)
  add("LazyConvTranspose", function(L) return L(3, 3) end, 3, 8)
  add("MaxPool", function(L) return L(2) end, 4, 3)
  add("AvgPool", function(L) return L(2) end, 4, 3)
  add("LPPool", function(L) return L(2, 2) end, 4, 3)
  add("AdaptiveAvgPool", function(L) return L(4) end, 4, 4)
  add("AdaptiveMaxPool", function(L) return L(4) end, 4, 4)
  add("BatchNorm", function(L) return L(4) end, 4, 6)
  add("LazyBatchNorm", function(L) return L() end, 4, 6)
  add("InstanceNorm", function(L) return L(4, { affine = true }) end, 4, 6)
  add("Dropout", function(L) return L(0.5) end, 4, 6)
  for _, kind in ipairs { "ZeroPad", "ReflectionPad", "ReplicationPad", "CircularPad" } do
    add(kind, function(L) return L(1) end, 4, 8)
  end
  add("ConstantPad", function(L) return L(1, 7) end, 4, 8)
  row("GlobalAvgPool" .. suffix, function(L) return L() end, { x }, shape_of(4, d, 1))
  row("GlobalMaxPool" .. suffix, function(L) return L() end, { x }, shape_of(4, d, 1))
  row("MaxUnpool" .. suffix, function(L) return L(2) end, function()
    local values, indices = nn["MaxPool" .. suffix](2, { return_indices = true })(x())
    return values:detach():requires_grad_(), indices
  end, { 2, 4, unpack(tails[d]) })
end

-- like their input
for _, name in ipairs { "ReLU", "ReLU6", "LeakyReLU", "ELU", "SELU", "CELU", "GELU", "SiLU", "Mish",
    "Softplus", "Softsign", "Sigmoid", "Tanh", "Hardtanh", "Hardsigmoid", "Hardswish", "Hardshrink",
    "Softshrink", "Tanhshrink", "LogSigmoid", "RReLU", "PReLU", "Softmax", "Softmin", "LogSoftmax",
    "Identity", "Dropout", "AlphaDropout", "FeatureAlphaDropout", "DropPath", "GaussianNoise" } do
  row(name, function(L) return L() end, { image }, { 2, 4, 6, 6 })
end
row("Threshold", function(L) return L(0.1, 20) end, { image }, { 2, 4, 6, 6 })
row("GLU", function(L) return L(2) end, { image }, { 2, 2, 6, 6 })
row("CReLU", function(L) return L() end, { image }, { 2, 8, 6, 6 })
row("Maxout", function(L) return L(2) end, { image }, { 2, 2, 6, 6 })

-- normalisation
row("LayerNorm", function(L) return L { 6, 6 } end, { image }, { 2, 4, 6, 6 })
row("RMSNorm", function(L) return L { 6 } end, { image }, { 2, 4, 6, 6 })
row("GroupNorm", function(L) return L(2, 4) end, { image }, { 2, 4, 6, 6 })
row("LocalResponseNorm", function(L) return L(3) end, { image }, { 2, 4, 6, 6 })
row("LocalContrastNorm", function(L) return L() end, { randn(2, 3, 12, 12) }, { 2, 3, 12, 12 })

-- linear maps and shapes
row("Linear", function(L) return L(6, 5) end, { sequence }, { 2, 4, 5 })
row("LazyLinear", function(L) return L(5) end, { sequence }, { 2, 4, 5 })
row("DepthwiseSeparableConv2d", function(L) return L(4, 3, 3) end, { image }, { 2, 3, 4, 4 })
row("LocallyConnected1d", function(L) return L(4, 3, 6, 3) end, { sequence }, { 2, 3, 4 })
row("LocallyConnected2d", function(L) return L(4, 3, { 6, 6 }, 3) end, { image }, { 2, 3, 4, 4 })
row("Unfold", function(L) return L(3) end, { image }, { 2, 36, 16 })
row("Fold", function(L) return L({ 6, 6 }, 3) end, { randn(2, 36, 16) }, { 2, 4, 6, 6 })
row("Flatten", function(L) return L() end, { image }, { 2, 144 })
row("Unflatten", function(L) return L(2, { 2, 2 }) end, { image }, { 2, 2, 2, 6, 6 })
row("PixelShuffle", function(L) return L(2) end, { image }, { 2, 1, 12, 12 })
row("PixelUnshuffle", function(L) return L(2) end, { image }, { 2, 16, 3, 3 })
row("Upsample", function(L) return L { scale_factor = 2 } end, { image }, { 2, 4, 12, 12 })
row("FractionalMaxPool2d", function(L) return L(2, { output_size = 3 }) end, { image },
  { 2, 4, 3, 3 })
row("FractionalMaxPool3d", function(L) return L(2, { output_size = 3 }) end, { volume },
  { 2, 4, 3, 3, 3 })

-- containers
local function linear() return nn.Linear(6, 6) end
row("Sequential", function(L) return L(linear(), nn.ReLU()) end, { sequence }, { 2, 4, 6 })
row("Residual", function(L) return L(linear()) end, { sequence }, { 2, 4, 6 })
row("Parallel", function(L) return L { linear(), linear() } end, { sequence }, { 2, 8, 6 })
row("Concat", function(L) return L(2, linear(), linear()) end, { sequence }, { 2, 8, 6 })
row("Lambda", function(L) return L(moon.tanh) end, { sequence }, { 2, 4, 6 })

-- sequences
row("Embedding", function(L) return L(9, 5) end, { labels(9, 2, 3) }, { 2, 3, 5 })
row("EmbeddingBag", function(L) return L(9, 5) end, { labels(9, 2, 3) }, { 2, 5 })
for _, name in ipairs { "RNN", "LSTM", "GRU" } do
  row(name, function(L) return L(6, 5) end, { sequence }, { 2, 4, 5 })
end
for _, name in ipairs { "RNNCell", "LSTMCell", "GRUCell" } do
  row(name, function(L) return L(6, 5) end, { randn(3, 6) }, { 3, 5 })
end
row("MultiheadAttention", function(L) return L(6, 2) end, { sequence, sequence, sequence },
  { 2, 4, 6 })
row("PositionalEncoding", function(L) return L(6) end, { sequence }, { 2, 4, 6 })
row("TransformerEncoderLayer", function(L) return L(6, 2) end, { sequence }, { 2, 4, 6 })
row("TransformerEncoder", function(L)
  return L(nn.TransformerEncoderLayer(6, 2), 2)
end, { sequence }, { 2, 4, 6 })

-- distances and losses
row("CosineSimilarity", function(L) return L() end, { image, image }, { 2, 6, 6 })
row("PairwiseDistance", function(L) return L() end, { randn(3, 4), randn(3, 4) }, { 3 })
local function loss(name, ...) row(name, function(L) return L() end, { ... }, {}) end
local scores = randn(3, 5)
for _, name in ipairs { "MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss", "PoissonNLLLoss" } do
  loss(name, scores, randn(3, 5))
end
loss("BCELoss", probabilities(3, 5), probabilities(3, 5))
loss("BCEWithLogitsLoss", scores, probabilities(3, 5))
loss("KLDivLoss", scores, probabilities(3, 5))
loss("GaussianNLLLoss", scores, randn(3, 5), probabilities(3, 5))
loss("FocalLoss", scores, probabilities(3, 5))
loss("DiceLoss", probabilities(3, 5), probabilities(3, 5))
loss("CrossEntropyLoss", scores, labels(5, 3))
loss("NLLLoss", scores, labels(5, 3))
loss("MultiMarginLoss", scores, labels(5, 3))
loss("MultiLabelMarginLoss", scores, labels(5, 3, 5))
loss("MultiLabelSoftMarginLoss", scores, probabilities(3, 5))
loss("HingeLoss", scores, signs(3, 5))
loss("SoftMarginLoss", scores, signs(3, 5))
loss("HingeEmbeddingLoss", scores, signs(3, 5))
loss("MarginRankingLoss", randn(4), randn(4), signs(4))
loss("CosineEmbeddingLoss", scores, randn(3, 5), signs(3))
loss("TripletMarginLoss", scores, randn(3, 5), randn(3, 5))
loss("TotalVariationLoss", image)
row("CTCLoss", function(L) return L() end, function()
  local x = moon.randn({ 8, 2, 5 }, { requires_grad = true })
  local lengths = moon.tensor({ 3, 2 }, { dtype = "int64" })
  return x:log_softmax(3), moon.randint(2, 5, { 2, 3 }),
    moon.tensor({ 8, 8 }, { dtype = "int64" }), lengths
end, {})

local layers = { rows = rows }

-- The tensors that a row's layer is given, fresh.
function layers.inputs_of(inputs)
  if type(inputs) == "function" then return { inputs() } end
  local made = {}
  for i, make in ipairs(inputs) do made[i] = make() end
  return made
end

return layers
