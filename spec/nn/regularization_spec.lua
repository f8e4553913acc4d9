-- Regularisation as layers and helpers: noise in training only, penalties on the tape, max-norm.
local moon = require "moonlet"
local naive = require "spec.support.naive"
local nn, optim = moon.nn, moon.optim

describe("layers that drop", function()
  local inputs = {
    Dropout = { 4, 3 }, Dropout1d = { 40, 3, 2 }, Dropout2d = { 40, 3, 2, 2 },
    Dropout3d = { 40, 3, 1, 2, 2 }, AlphaDropout = { 40, 3 }, FeatureAlphaDropout = { 40, 3, 2 },
    DropPath = { 40, 3 },
  }

  it("are all here", function()
    for name in pairs(require "moonlet.nn.dropouts") do assert.is_table(inputs[name], name) end
  end)

  for name, shape in pairs(inputs) do
    it(name .. " drops in training only", function()
      moon.manual_seed(2)
      local layer, x = nn[name](0.5), moon.ones(shape)
      assert.is_true((layer(x) - x):abs():max():item() > 0)
      naive.close(layer:eval()(x), x)
      naive.close(nn[name](0)(x), x)
      assert.equal(name .. "(0.5)", tostring(layer))
      naive.fails(name .. ": p must be from 0 up to but not including 1, not 1", nn[name], 1)
    end)
  end

  it("keep the mean", function()
    moon.manual_seed(3)
    local y = nn.Dropout(0.5)(moon.ones(10000))
    assert.near(1, y:mean():item(), 0.05)
    assert.equal(2, y:max():item())
  end)
end)

describe("GaussianNoise", function()
  it("adds noise in training only", function()
    moon.manual_seed(2)
    local layer, x = nn.GaussianNoise(0.5), moon.zeros(10000)
    assert.near(0.5, layer(x):std():item(), 0.02)
    naive.close(layer:eval()(x), x)
    naive.fails("GaussianNoise: std must be a number from 0, not -1", nn.GaussianNoise, -1)
  end)
end)

describe("penalties", function()
  it("sum over all parameters, with gradients", function()
    local net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    local l1, l2 = 0, 0
    for _, p in ipairs(net:parameters()) do
      l1, l2 = l1 + p:abs():sum():item(), l2 + p:square():sum():item()
    end
    assert.near(l1 * 0.5, nn.l1_penalty(net, 0.5):item(), 1e-5)
    assert.near(l2, nn.l2_penalty(net):item(), 1e-5)
    assert.near(0.1 * l1 + 0.2 * l2, nn.elastic_net_penalty(net, 0.1, 0.2):item(), 1e-5)
    nn.elastic_net_penalty(net, 0.1, 0.2):backward()
    local w = net[1].weight
    naive.close(w.grad, w:detach():sign() * 0.1 + w:detach() * 0.4, 1e-6)
  end)

  it("take lists of tensors, such as the weights alone", function()
    local layer = nn.Linear(2, 3)
    naive.close(nn.l2_penalty { layer.weight }, layer.weight:square():sum():item(), 1e-6)
  end)

  it("say what does not fit", function()
    naive.fails("nn.l1_penalty: the first argument is a module or a list of parameters, not 3",
      nn.l1_penalty, 3)
    naive.fails("not one without any", nn.l2_penalty, nn.ReLU())
    naive.fails("nn.l2_penalty: parameter 2 must be a tensor, not 3", nn.l2_penalty,
      { moon.ones(2), 3 })
    naive.fails("nn.l1_penalty: factor must be a number", nn.l1_penalty, { moon.ones(2) }, "a")
  end)

  it("of squares is weight decay", function()
    local function step(decay, penalty)
      moon.manual_seed(5)
      local layer, x = nn.Linear(3, 2), moon.randn(4, 3)
      local opt = optim.SGD(layer:parameters(), { lr = 0.1, weight_decay = decay })
      local loss = layer(x):square():mean()
      if penalty then loss = loss + nn.l2_penalty(layer, penalty) end
      loss:backward()
      opt:step()
      return layer.weight
    end
    naive.close(step(0.3), step(0, 0.15), 1e-6)
  end)
end)

describe("optim.max_norm", function()
  it("shortens each unit's weights to the limit, in place", function()
    local layer = nn.Linear(3, 2)
    moon.no_grad(function()
      layer.weight:copy_(moon.tensor { { 3, 0, 4 }, { 0.3, 0, 0.4 } })
      layer.bias:fill_(100)
    end)
    local weight = layer.weight
    optim.max_norm(layer:parameters(), 1)
    assert.equal(weight, layer.weight)
    naive.close(weight, { { 0.6, 0, 0.8 }, { 0.3, 0, 0.4 } }, 1e-6)
    assert.equal(100, layer.bias[1])
    optim.max_norm(layer:parameters(), 0.5, { dim = 2, p = 1 })
    assert.near(0.5, weight:abs():sum(1)[1], 1e-6)
  end)

  it("says what does not fit", function()
    local layer = nn.Linear(3, 2)
    naive.fails("max_norm: limit must be a number from 0, not -1", optim.max_norm,
      layer:parameters(), -1)
    naive.fails('there is no option "dims", did you mean "dim"', optim.max_norm,
      layer:parameters(), 1, { dims = 2 })
  end)
end)
