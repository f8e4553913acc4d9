-- The networks against PyTorch's and torchvision's: with the same weights the same scores, in
-- training and in evaluation, and the same gradients. The other side is
-- spec/fixtures/make_models.py; weights and inputs come from spec.support.stream.
local moon = require "moonlet"
local stream = require "spec.support.stream"
local models = moon.models

local BATCH, CLASSES = 2, 10
local INPUT, LABELS = 7000, 7001   -- seeds
local TOLERANCE = 1e-9

-- Each network and the height and width of its input.
local nets = {
  alexnet = { models.alexnet { classes = CLASSES, hidden = 32 }, 67 },
  alexnet2012 = { models.alexnet { form = "2012", classes = CLASSES, hidden = 32 }, 67 },
  googlenet = { models.googlenet { auxiliary = true, classes = CLASSES }, 64 },
  resnet18 = { models.resnet { form = "imagenet", depth = 18, classes = CLASSES }, 64 },
  resnet50 = { models.resnet { form = "imagenet", depth = 50, classes = CLASSES }, 64 },
  densenet121 = { models.densenet { growth = 8, classes = CLASSES }, 64 },
  mobilenet_v2 = { models.mobilenet { width = 0.25, classes = CLASSES }, 64 },
  unet = { models.unet { width = 4, classes = CLASSES }, 32 },
}
if os.getenv "MOONLET_SANITIZER" then   -- the others' layers once, not as often as they have them
  nets.resnet50, nets.densenet121 = nil, nil
end

local function seed_of(name)
  local seed = 0
  for i = 1, #name do seed = (seed * 31 + name:byte(i)) % 2 ^ 31 end
  return seed
end

-- Matrices and kernels from the stream of their name, scaled by their fan-in; biases 0, other
-- vectors 1. Gives { name, parameter } sorted by name.
local function fill(net)
  local named = {}
  for name, p in net:named_parameters() do
    named[#named + 1] = { name, p }
    if p:dim() == 1 then
      p:detach():fill_(name:find "bias" and 0 or 1)
    else
      local bound = math.sqrt(3 / (p:numel() / p:size(1)))
      p:detach():copy_(stream.uniform(seed_of(name), p:size(), -bound, bound))
    end
  end
  table.sort(named, function(a, b) return a[1] < b[1] end)
  return named
end

-- The norm, and the sum of g_i cos(i).
local function sums(tensor)
  local g = tensor:detach():reshape(-1)
  local wave = moon.arange(0, g:numel() - 1, 1, { dtype = "float64" }):cos()
  return { g:norm():item(), (g * wave):sum():item() }
end

local function loss_of(labels, scores, early, late)
  local loss = moon.cross_entropy(scores, labels)
  if not early then return loss end
  return loss + (moon.cross_entropy(early, labels) + moon.cross_entropy(late, labels)) * 0.3
end

-- Largest difference as a share of the largest number expected.
local function deviation(expected, found)
  return (expected - found):abs():max():item() / expected:abs():max():item()
end

-- U-Net gives scores for every pixel, of which the sums are kept.
local function comparable(name, scores)
  return name == "unet" and moon.tensor(sums(scores), { dtype = "float64" }) or scores:detach()
end

local function check(name, expected)
  local net, size = nets[name][1], nets[name][2]
  net:double()
  net:apply(function(module) if module:is(moon.nn.Dropout) then module.p = 0 end end)
  local named = fill(net)
  local x = stream.uniform(INPUT, { BATCH, 3, size, size }, -1, 1)
  local shape = name == "unet" and { BATCH, size, size } or { BATCH }
  local labels = stream.whole(LABELS, shape, 1, CLASSES)
  local outputs = { net(x) }
  loss_of(labels, outputs[1], outputs[2], outputs[3]):backward()
  assert.is_true(deviation(expected.train, comparable(name, outputs[1])) < TOLERANCE)
  local scores = moon.no_grad(function() return net:eval()(x) end)
  assert.is_true(deviation(expected.eval, comparable(name, scores)) < TOLERANCE)
  assert.equal(#named, expected.gradients:size(1))
  for i, entry in ipairs(named) do
    local found, norm = sums(entry[2].grad), expected.gradients[{ i, 1 }]
    for k = 1, 2 do
      local off = math.abs(found[k] - expected.gradients[{ i, k }])
      assert.is_true(off <= TOLERANCE * (norm + 1), ("%s: off by %g of %g"):format(
        entry[1], off, norm))
    end
  end
end

describe("networks", function()
  local stored = moon.load "spec/fixtures/models.safetensors"
  for name in pairs(nets) do
    it("give PyTorch's scores and gradients: " .. name, function()
      check(name, {
        train = stored[name .. "/train"], eval = stored[name .. "/eval"],
        gradients = stored[name .. "/gradients"],
      })
    end)
  end
end)
