-- Backpropagation by hand, as a lecture derives it for the two-layer perceptron with sigmoid units:
--
--   z1 = W1 x + b1, a1 = s(z1), z2 = W2 a1 + b2, p = s(z2),      s(z) = 1 / (1 + exp(-z))
--
-- for the squared error 1/2 sum (t - p)^2 and for binary cross entropy. Columns are examples. The
-- analytic gradients below, written with nothing but products and sums, equal autograd's, and one
-- step along them lowers the loss.
local moon = require "moonlet"
local naive = require "spec.support.naive"

local INPUTS, HIDDEN, OUTPUTS, EXAMPLES = 3, 4, 2, 5

local function problem()
  local net = {
    w1 = naive.random({ HIDDEN, INPUTS }, { seed = 1 }),
    b1 = naive.random({ HIDDEN, 1 }, { seed = 2 }),
    w2 = naive.random({ OUTPUTS, HIDDEN }, { seed = 3 }),
    b2 = naive.random({ OUTPUTS, 1 }, { seed = 4 }),
  }
  for _, tensor in pairs(net) do tensor.requires_grad = true end
  local x = naive.random({ INPUTS, EXAMPLES }, { seed = 5 })
  local t = naive.random({ OUTPUTS, EXAMPLES }, { seed = 6, low = 0, high = 1, whole = true })
  return net, x, t
end

local function forward(net, x)
  local a1 = (net.w1:mm(x) + net.b1):sigmoid()
  local z2 = net.w2:mm(a1) + net.b2
  return a1, z2, z2:sigmoid()
end

-- The chain rule from dz2 on: dW2 = dz2 a1', db2 = dz2 summed over examples, da1 = W2' dz2,
-- dz1 = da1 * s'(z1) with s' = a1 (1 - a1), dW1 = dz1 x'.
local function backward(net, x, a1, dz2)
  local dz1 = net.w2:t():mm(dz2) * (a1 * (1 - a1))
  return {
    w2 = dz2:mm(a1:t()), b2 = dz2:sum(2, true), w1 = dz1:mm(x:t()), b1 = dz1:sum(2, true),
  }
end

-- Compares by hand with autograd, and looks that a small step downhill lowers the loss.
local function check(loss_of, dz2_of)
  local net, x, t = problem()
  local a1, z2, p = forward(net, x)
  local loss = loss_of(p, z2, t)
  loss:backward()
  moon.no_grad(function()
    local by_hand = backward(net, x, a1, dz2_of(p, t))
    for name, gradient in pairs(by_hand) do naive.close(net[name].grad, gradient, 1e-12) end
    for name, gradient in pairs(by_hand) do net[name]:sub_(gradient * 0.01) end
    local _, z2_after, p_after = forward(net, x)
    assert.is_true(loss_of(p_after, z2_after, t):item() < loss:item())
  end)
end

describe("backpropagation by hand", function()
  it("equals autograd's for the squared error", function()
    check(function(p, _, t) return ((t - p):square()):sum() * 0.5 end,
      function(p, t) return (p - t) * p * (1 - p) end)
  end)

  it("equals autograd's for mse_loss, which is 2 / count of it", function()
    check(function(p, _, t) return moon.mse_loss(p, t) end,
      function(p, t) return (p - t) * p * (1 - p) * (2 / (OUTPUTS * EXAMPLES)) end)
  end)

  it("equals autograd's for binary cross entropy, where dz2 is p - t", function()
    check(function(p, _, t) return -(t * p:log() + (1 - t) * (1 - p):log()):sum() end,
      function(p, t) return p - t end)
  end)

  it("is the same through the operators for it", function()
    check(function(p, _, t) return moon.binary_cross_entropy(p, t, { reduction = "sum" }) end,
      function(p, t) return p - t end)
    check(function(_, z2, t)
      return moon.binary_cross_entropy_with_logits(z2, t, { reduction = "sum" })
    end, function(p, t) return p - t end)
  end)

  it("is the same through layers, whose examples are rows", function()
    local net, x, t = problem()
    local a1, _, p = forward(net, x)
    local nn = moon.nn
    local layers = nn.Sequential(nn.Linear(INPUTS, HIDDEN, { dtype = "float64" }), nn.Sigmoid(),
      nn.Linear(HIDDEN, OUTPUTS, { dtype = "float64" }))
    moon.no_grad(function()
      layers[1].weight:copy_(net.w1)
      layers[1].bias:copy_(net.b1:reshape(HIDDEN))
      layers[3].weight:copy_(net.w2)
      layers[3].bias:copy_(net.b2:reshape(OUTPUTS))
    end)
    nn.BCEWithLogitsLoss { reduction = "sum" } (layers(x:t()), t:t()):backward()
    local by_hand = moon.no_grad(backward, net, x, a1, p - t)
    naive.close(layers[1].weight.grad, by_hand.w1, 1e-12)
    naive.close(layers[3].weight.grad, by_hand.w2, 1e-12)
    naive.close(layers[1].bias.grad, by_hand.b1:reshape(HIDDEN), 1e-12)
    naive.close(layers[3].bias.grad, by_hand.b2:reshape(OUTPUTS), 1e-12)
  end)
end)
