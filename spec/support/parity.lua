-- Networks, weights and batches of the training parity spec; make_training.py's other side, where
-- the same four networks are written for PyTorch. Everything random comes from spec.support.stream.
local moon = require "moonlet"
local stream = require "spec.support.stream"
local unpack = require "moonlet.unpack"
local nn = moon.nn

-- Images a batch, different batches, steps: a few under a sanitizer, which wants the code to run,
-- not the curve's end.
local sanitized = os.getenv("MOONLET_SANITIZER") ~= nil
local parity = { batch = 8, pool = 4, steps = sanitized and 8 or 200, whole = not sanitized }

-- A residual block with the activation of a name, "relu" or "silu".
local Block = nn.Module:extend "Block"

function Block:init(inputs, outputs, stride, activation)
  self.activation = activation
  self.conv1 = nn.Conv2d(inputs, outputs, 3, { stride = stride, padding = 1, bias = false })
  self.norm1 = nn.BatchNorm2d(outputs)
  self.conv2 = nn.Conv2d(outputs, outputs, 3, { padding = 1, bias = false })
  self.norm2 = nn.BatchNorm2d(outputs)
  if stride > 1 then
    self.short = nn.Sequential(
      nn.Conv2d(inputs, outputs, 1, { stride = stride, bias = false }), nn.BatchNorm2d(outputs))
  end
end

function Block:forward(x)
  local inner = moon[self.activation](self.norm1(self.conv1(x)))
  local y = self.norm2(self.conv2(inner))
  return moon[self.activation](y + (self.short and self.short(x) or x))
end

-- Two LSTM layers over the rows of a picture; the last state is read by a linear layer.
local Reader = nn.Module:extend "Reader"

function Reader:init()
  self.lstm = nn.LSTM(8, 24, { layers = 2, batch_first = true })
  self.head = nn.Linear(24, 10)
end

function Reader:forward(x)
  local states = self.lstm(x)
  return self.head(states:select(2, -1))
end

-- 9 convolutions in a row, 3 on shortcuts, one linear layer.
local function resnet(activation)
  local function block(inputs, outputs, stride)
    return Block(inputs, outputs, stride, activation)
  end
  return nn.Sequential(
    nn.Conv2d(3, 4, 3, { padding = 1, bias = false }), nn.BatchNorm2d(4),
    activation == "relu" and nn.ReLU() or nn.SiLU(),
    block(4, 4, 1), block(4, 8, 2), block(8, 16, 2), block(16, 32, 2),
    nn.AvgPool2d(4), nn.Flatten(), nn.Linear(32, 10))
end

-- VGG's configuration A, a sixteenth as wide, with SiLU for ReLU and means for maxima.
local function smooth_vgg()
  local layers, channels = {}, 3
  for _, width in ipairs { 4, "M", 8, "M", 16, 16, "M", 32, 32, "M", 32, 32, "M" } do
    if width == "M" then
      layers[#layers + 1] = nn.AvgPool2d(2)
    else
      layers[#layers + 1] = nn.Conv2d(channels, width, 3, { padding = 1, bias = false })
      layers[#layers + 1] = nn.BatchNorm2d(width)
      layers[#layers + 1] = nn.SiLU()
      channels = width
    end
  end
  layers[#layers + 1] = nn.Flatten()
  for _, sizes in ipairs { { 32, 32 }, { 32, 32 } } do
    layers[#layers + 1] = nn.Linear(sizes[1], sizes[2])
    layers[#layers + 1] = nn.SiLU()
  end
  layers[#layers + 1] = nn.Linear(32, 10)
  return nn.Sequential(unpack(layers))
end

local rates = { SGD = 0.003, Adam = 3e-4, RMSprop = 1e-4, AdamW = 3e-4 }
local resnet_rates = { SGD = 0.005, Adam = 3e-4, RMSprop = 1e-4, AdamW = 3e-4 }

-- Maker, first seed and shape of a picture; the learning rates are make_training.py's RATES.
parity.nets = {
  lenet = {
    function() return moon.models.lenet() end, 100, { 1, 32, 32 },
    rates = { SGD = 0.005, Adam = 3e-4, RMSprop = 1e-4, AdamW = 3e-4 },
  },
  vgg = {   -- configuration A, a sixteenth as wide: 8 convolutions, 3 linear layers
    function()
      return moon.models.vgg {
        config = "A", width = 1 / 16, image = 32, batch_norm = true, dropout = 0, hidden = 32,
        classes = 10,
      }
    end, 200, { 3, 32, 32 },
    rates = { SGD = 0.003, Adam = 3e-4, RMSprop = 1e-4, AdamW = 3e-4 },
  },
  resnet = { function() return resnet "relu" end, 300, { 3, 32, 32 }, rates = resnet_rates },
  ["smooth vgg"] = { smooth_vgg, 500, { 3, 32, 32 }, rates = rates },
  ["smooth resnet"] = {
    function() return resnet "silu" end, 600, { 3, 32, 32 }, rates = resnet_rates,
  },
  lstm = {
    function() return Reader() end, 400, { 8, 8 },
    rates = { SGD = 0.03, Adam = 1e-3, RMSprop = 1e-3, AdamW = 1e-3 },
  },
}

parity.options = {
  SGD = { momentum = 0.9, weight_decay = 5e-4 }, Adam = {}, RMSprop = {},
  AdamW = { weight_decay = 0.05 },
}

-- Matrices and kernels from the stream, scaled by their fan-in; biases 0, other vectors 1.
local function fill(net, seed)
  local i = 0
  for name, p in net:named_parameters() do
    if p:dim() == 1 then
      p:fill_(name:find("bias", 1, true) and 0 or 1)
    else
      local bound = math.sqrt(3 / (p:numel() / p:size(1)))
      p:copy_(stream.uniform(seed + i, p.shape, -bound, bound))
    end
    i = i + 1
  end
end

--- The network of a name with its first weights.
function parity.net(name, dtype)
  local make, seed = parity.nets[name][1], parity.nets[name][2]
  local net = make():to(dtype):train()
  moon.no_grad(fill, net, seed)
  return net
end

--- The batches of a network: { x, labels }, a pattern a class under noise as strong as it.
function parity.batches(name, dtype)
  local seed, shape = parity.nets[name][2], parity.nets[name][3]
  local function of(count) return { count, unpack(shape) } end
  local patterns, pool = stream.uniform(seed + 90, of(10), -1, 1), {}
  for k = 0, parity.pool - 1 do
    local labels = stream.whole(seed + 91 + 2 * k, { parity.batch }, 1, 10)
    local noise = stream.uniform(seed + 92 + 2 * k, of(parity.batch), -1, 1)
    pool[k + 1] = { (patterns:index_select(1, labels) + noise):to(dtype), labels }
  end
  return pool
end

--- The losses of a run, one a step.
function parity.curve(name, optimizer, dtype)
  local net, pool = parity.net(name, dtype), parity.batches(name, dtype)
  local o = { lr = parity.nets[name].rates[optimizer] }
  for key, value in pairs(parity.options[optimizer]) do o[key] = value end
  local opt, losses = moon.optim[optimizer](net:parameters(), o), {}
  for step = 1, parity.steps do
    local batch = pool[(step - 1) % parity.pool + 1]
    opt:zero_grad()
    local loss = moon.cross_entropy(net(batch[1]), batch[2])
    loss:backward()
    opt:step()
    losses[step] = loss:item()
  end
  return losses
end

return parity
