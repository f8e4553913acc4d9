-- Lazy layers, which learn their sizes from the first input or from a state.
local moon = require "moonlet"
local nn, optim = moon.nn, moon.optim

local function lazy_net()
  return nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
end

describe("lazy layers", function()
  it("have parameters from construction that an optimiser goes on holding", function()
    local net = lazy_net()
    local weight, before = net[4].weight, net:parameters()
    local opt = optim.SGD(before, { lr = 1 })
    opt:zero_grad()
    net(moon.ones(2, 1, 6, 6)):sum():backward()
    assert.equal(weight, net[4].weight)
    assert.equal(before[1], net:parameters()[1])
    local value = net[4].bias:clone()
    opt:step()
    assert.near(-2, net[4].bias:sub(value)[1], 1e-5)
  end)

  it("become the plain layer at the first forward", function()
    local net = lazy_net()
    assert.matches("LazyLinear%(%?, 2%)", tostring(net))
    net(moon.ones(1, 3, 5, 5))
    assert.matches("Linear%(36, 2%)", tostring(net))
    assert.same({ 4, 3, 3, 3 }, net[1].weight:size())
    assert.is_true(net[1]:is(nn.Conv2d))
  end)

  it("say so when saved, loaded or summed up before", function()
    local net = lazy_net()
    for _, action in ipairs { "state_dict", "save", "to", "requires_grad_" } do
      local _, message = pcall(net[action], net, "x")
      assert.matches("LazyConv2d %(1%) has no shape yet; pass one batch", message)
    end
    local _, message = pcall(nn.summary, net, { 1, 6, 6 })
    assert.matches("has no shape yet", message)
  end)

  it("take their shapes from a state that is loaded", function()
    local trained, fresh = lazy_net(), lazy_net()
    local x = moon.randn(2, 1, 6, 6)
    local y = trained(x)
    fresh:load_state_dict(trained:state_dict())
    assert.equal(0, fresh(x):sub(y):abs():max():item())
  end)

  it("follow the type of their first input", function()
    local layer = nn.LazyLinear(2)
    layer(moon.ones(1, 3, { dtype = "float64" }))
    assert.equal("float64", layer.weight.dtype)
  end)
end)
