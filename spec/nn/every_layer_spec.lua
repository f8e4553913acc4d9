-- Every layer that nn has, made and used once: its forward runs, its output has the expected shape,
-- gradients reach its input and its parameters, it prints, its state goes through a file, and it
-- follows to("float64"). A new layer is tested by a row here; without one this spec fails.
local moon = require "moonlet"
local sources = require "spec.support.sources"

local nn = moon.nn
local unpack = table.unpack or unpack

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

-- Not layers: what others extend, and lists that have no forward.
local bases = { Module = true, ModuleList = true, ModuleDict = true, Convolution = true,
                LocallyConnected = true }

-- name -> class of everything in lua/moonlet/nn.
local function classes()
  local found = {}
  for _, path in ipairs(sources.files("lua/moonlet/nn", ".lua")) do
    local name = path:match "^lua/moonlet/nn/([%w_]+)%.lua$"
    local layer = name and name ~= "functional" and name ~= "init"
    local value = layer and require("moonlet.nn." .. name)
    if type(value) == "table" then
      for key, class in pairs(rawget(value, "class_name") and { value } or value) do
        if type(class) == "table" and rawget(class, "class_name") then
          found[type(key) == "string" and key or class.class_name] = class
        end
      end
    end
  end
  return found
end

local function first_of(...) return (...) end

local function inputs_of(inputs)
  if type(inputs) == "function" then return { inputs() } end
  local made = {}
  for i, make in ipairs(inputs) do made[i] = make() end
  return made
end

local function float_inputs(list)
  local floats = {}
  for _, x in ipairs(list) do
    if x.requires_grad and x.is_leaf then floats[#floats + 1] = x end
  end
  return floats
end

local function check_state(layer, make, class)
  local path = os.tmpname()
  layer:save(path)
  local other = make(class)
  if #other:parameters() > 0 and moon.is_lazy(other:parameters()[1]) then
    os.remove(path)
    return
  end
  other:load(path)
  os.remove(path)
  local theirs = other:state_dict()
  for name, tensor in pairs(layer:state_dict()) do
    assert.is_true(tensor:eq(theirs[name]):all():item() ~= 0, name)
  end
end

describe("every layer of nn", function()
  local all = classes()

  it("has a row in this spec, and every row a layer", function()
    for name in pairs(all) do assert.is_truthy(rows[name] or bases[name], name) end
    for name in pairs(rows) do assert.is_table(all[name], name) end
  end)

  for name, each in pairs(rows) do
    describe(name, function()
      local make, inputs, shape = each[1], each[2], each[3]

      it("gives its shape, and gradients to what it was given", function()
        local layer, list = make(nn[name]), inputs_of(inputs)
        local y = first_of(layer(unpack(list)))
        assert.same(shape, y:size())
        y:square():sum():backward()
        for _, x in ipairs(float_inputs(list)) do
          assert.is_truthy(x.grad, "an input without gradient")
          assert.same(x:size(), x.grad:size())
        end
        for key, parameter in layer:named_parameters() do assert.is_truthy(parameter.grad, key) end
      end)

      it("is checked on shapes alone, or says that it reads elements", function()
        local shapes = {}
        for i, x in ipairs(inputs_of(inputs)) do
          shapes[i] = x:size()
          shapes[i].dtype = x.dtype
        end
        local report = make(nn[name]):check(unpack(shapes))
        if report.ok then
          assert.same(shape, report.output)
        else
          assert.is_truthy(report.problems[1].message:find("no elements", 1, true),
            report.problems[1].text)
        end
      end)

      it("says in words what it wants instead of what is no tensor", function()
        local integers = moon.zeros(0, { dtype = "int64" })
        for _, given in ipairs { 5, "x", true, {}, moon.tensor(1), integers, false } do
          local ok, message = pcall(make(nn[name]), given or nil)
          message = tostring(message)
          local internal = message:find "attempt to" or message:find "bad argument"
          assert.is_truthy(ok or not internal, message)
        end
      end)

      it("prints, is saved and loaded, and takes double precision", function()
        local layer = make(nn[name])
        layer(unpack(inputs_of(inputs)))
        assert.is_truthy(tostring(layer):find(layer.class_name, 1, true))
        check_state(layer, make, nn[name])
        layer:to("float64")
        local wide = inputs_of(inputs)
        for i, x in ipairs(wide) do
          if x.dtype == "float32" then wide[i] = x:to("float64") end
        end
        assert.equal("float64", first_of(layer(unpack(wide))).dtype)
      end)
    end)
  end
end)
