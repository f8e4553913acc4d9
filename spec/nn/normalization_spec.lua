-- Layers of normalisation: parameters, buffers, modes, and that they calculate what their operators
-- do (which the cases compare with PyTorch).
local moon = require "moonlet"
local naive = require "spec.support.naive"
local nn = moon.nn

local function names_of(state)
  local list = {}
  for name in pairs(state) do list[#list + 1] = name end
  table.sort(list)
  return table.concat(list, " ")
end

describe("LayerNorm and RMSNorm", function()
  it("have weights of the given shape", function()
    local x = moon.randn(2, 3, 4)
    local layer = nn.LayerNorm { 3, 4 }
    assert.same({ 3, 4 }, layer.weight:size())
    naive.close(layer(x), moon.layer_norm(x, { 3, 4 }), 1e-6)
    moon.no_grad(function() layer.weight:fill_(2) layer.bias:fill_(1) end)
    naive.close(layer(x), moon.layer_norm(x, { 3, 4 }) * 2 + 1, 1e-5)
    naive.close(nn.RMSNorm(4, { eps = 0.1 })(x), moon.rms_norm(x, { 4 }, nil, 0.1), 1e-6)
    assert.equal("bias weight", names_of(layer:state_dict()))
    assert.equal("weight", names_of(nn.RMSNorm(4):state_dict()))
    assert.equal("weight", names_of(nn.LayerNorm(4, { bias = false }):state_dict()))
    assert.equal("", names_of(nn.LayerNorm(4, { affine = false }):state_dict()))
    assert.equal("LayerNorm({3, 4})", tostring(layer))
  end)

  it("refuse shapes that are none", function()
    naive.fails("LayerNorm: shape must be a whole number from 1 or a list of them, not 0",
      nn.LayerNorm, 0)
    naive.fails("LayerNorm: shape must be a whole number from 1 or a list of them, not a table",
      nn.LayerNorm, { 3, 1.5 })
    naive.fails("RMSNorm: shape must be a whole number from 1", nn.RMSNorm, {})
    naive.fails("RMSNorm: shape must be a whole number from 1", nn.RMSNorm, { 3, x = 2, "a" })
  end)
end)

describe("GroupNorm and InstanceNorm", function()
  it("calculate what their operators do", function()
    local x = moon.randn(2, 6, 4)
    naive.close(nn.GroupNorm(3, 6)(x), moon.group_norm(x, 3), 1e-6)
    naive.close(nn.InstanceNorm1d(6, { affine = true })(x), moon.instance_norm(x), 1e-6)
    naive.close(nn.InstanceNorm2d(6)(x:unsqueeze(4)), moon.instance_norm(x:unsqueeze(4)), 1e-6)
    naive.close(nn.InstanceNorm3d(6)(x:reshape(2, 6, 2, 1, 2)),
      moon.instance_norm(x:reshape(2, 6, 2, 1, 2)), 1e-6)
  end)

  it("take running statistics in evaluation", function()
    local layer = nn.InstanceNorm1d(2, { track_running_stats = true, momentum = 1 })
    local x = moon.randn(3, 2, 50) * 2 + 1
    layer(x)
    assert.equal("running_mean running_var", names_of(layer:state_dict()))
    local y = layer:eval()(x)
    naive.close(y, moon.batch_norm(x, nil, nil, layer.running_mean, layer.running_var), 1e-5)
  end)

  it("refuse what does not fit", function()
    naive.fails("GroupNorm: groups = 4 must divide the 6 channels", nn.GroupNorm, 4, 6)
    naive.fails("InstanceNorm2d: input must be (n, channels, height, width) with 3 channels, " ..
      "not 2x3x4", nn.InstanceNorm2d(3), moon.zeros(2, 3, 4))
    naive.fails('there is no option "afine", did you mean "affine"', nn.InstanceNorm1d, 3,
      { afine = true })
  end)
end)

describe("BatchNorm3d", function()
  it("normalises volumes", function()
    local x = moon.randn(3, 2, 2, 3, 4)
    naive.close(nn.BatchNorm3d(2)(x):mean({ 1, 3, 4, 5 }), moon.zeros(2), 1e-5)
    naive.fails("BatchNorm3d: input must be (n, channels, depth, height, width), not 3x2",
      nn.BatchNorm3d(2), moon.zeros(3, 2))
  end)
end)

describe("LazyBatchNorm", function()
  it("counts its channels at the first forward", function()
    local layer = nn.LazyBatchNorm2d { eps = 0.1 }
    local weight = layer:parameters()[1]
    assert.equal("LazyBatchNorm2d(?)", tostring(layer))
    local x = moon.randn(4, 3, 2, 2)
    naive.close(layer(x), moon.batch_norm(x, nil, nil, nil, nil, { training = true, eps = 0.1 }),
      1e-5)
    assert.equal("BatchNorm2d(3)", tostring(layer))
    assert.is_true(layer:is(nn.BatchNorm2d))
    assert.equal(weight, layer.weight)
    assert.equal("bias running_mean running_var weight", names_of(layer:state_dict()))
    naive.close(nn.LazyBatchNorm1d()(moon.ones(2, 3)), moon.zeros(2, 3))
    assert.same({ 2, 3, 1, 2, 2 }, nn.LazyBatchNorm3d()(moon.randn(2, 3, 1, 2, 2)):size())
  end)

  it("takes its shape from a dictionary", function()
    local trained = nn.BatchNorm1d(5)
    trained(moon.randn(7, 5))
    local layer = nn.LazyBatchNorm1d()
    layer:load_state_dict(trained:state_dict())
    naive.close(layer.running_mean, trained.running_mean)
  end)

  it("checks the input before it takes a shape", function()
    local layer = nn.LazyBatchNorm2d()
    naive.fails("LazyBatchNorm2d: input must be (n, channels, height, width), not 2x3", layer,
      moon.zeros(2, 3))
    assert.is_true(moon.is_lazy(layer.weight))
    assert.equal(0, #nn.LazyBatchNorm2d({ affine = false }):parameters())
  end)

  it("takes float64 from its input", function()
    local layer = nn.LazyBatchNorm1d()
    layer(moon.randn(4, 3, { dtype = "float64" }))
    assert.equal("float64", layer.weight.dtype)
    assert.equal("float64", layer.running_mean.dtype)
  end)
end)

describe("LocalContrastNorm", function()
  it("keeps its kernel as a buffer", function()
    local kernel = moon.ones(3, 5)
    local layer = nn.LocalContrastNorm(nil, { kernel = kernel })
    local x = moon.rand(1, 2, 6, 6)
    naive.close(layer(x), moon.local_contrast_norm(x, kernel))
    assert.equal("kernel", names_of(layer:state_dict()))
    naive.close(nn.LocalContrastNorm(3)(x), moon.local_contrast_norm(x, nil, 3))
    naive.fails("LocalContrastNorm: size must be odd, not 4", nn.LocalContrastNorm, 4)
  end)
end)

describe("nn.weight_norm", function()
  it("learns length and direction in the weight's place", function()
    local layer = nn.Linear(3, 2)
    local x = moon.randn(4, 3)
    local before = layer(x)
    assert.equal(layer, nn.weight_norm(layer))
    naive.close(layer(x), before, 1e-5)
    assert.equal("bias weight_g weight_v", names_of(layer:state_dict()))
    assert.equal(3, #layer:parameters())
    assert.equal("Linear(3, 2, weight_norm)", tostring(layer))
    assert.is_true(layer:is(nn.Linear))
    layer(x):square():sum():backward()
    -- the length's gradient is along the direction, the direction's across it
    naive.close((layer.weight_v.grad * layer.weight_v):sum(2), moon.zeros(2), 1e-4)
    assert.is_true(layer.weight_g.grad:abs():sum():item() > 0)
  end)

  it("serves convolutions, other dimensions and names", function()
    local conv = nn.weight_norm(nn.Conv2d(2, 3, 3), { dim = 2 })
    assert.same({ 1, 2, 1, 1 }, conv.weight_g:size())
    assert.same({ 1, 3, 2, 2 }, conv(moon.randn(1, 2, 4, 4)):size())
    local linear = nn.weight_norm(nn.Linear(3, 2), { name = "bias" })
    assert.same({ 2 }, linear.bias_g:size())
    assert.same({ 1, 2 }, linear(moon.ones(1, 3)):size())
  end)

  it("trains, saves and loads as part of a net", function()
    local function make() return nn.Sequential(nn.weight_norm(nn.Linear(3, 4)), nn.Linear(4, 1)) end
    local net, other = make(), make()
    local opt = moon.optim.SGD(net:parameters(), { lr = 0.1 })
    local x = moon.randn(5, 3)
    local first
    for _ = 1, 20 do
      local loss = net(x):square():mean()
      first = first or loss:item()
      opt:zero_grad()
      loss:backward()
      opt:step()
    end
    assert.is_true(net(x):square():mean():item() < first)
    other:load_state_dict(net:state_dict())
    naive.close(other(x), net(x))
    net:to "float64"
    assert.equal("float64", net(x:double()).dtype)
  end)

  it("leaves its weight to be read after a scope, and is copied with it", function()
    local layer, x = nn.weight_norm(nn.Linear(3, 2)), moon.randn(4, 3)
    moon.scope(function() layer(x) end)
    assert.same({ 2, 3 }, layer.weight:size())
    local copy = nn.copy(layer)
    naive.close(copy(x), layer(x))
    moon.no_grad(function() layer.weight_g:mul_(2) end)
    assert.is_true((copy(x) - layer(x)):abs():max():item() > 1e-3)
  end)

  it("comes off again, leaving the weight", function()
    local layer, x = nn.weight_norm(nn.Linear(3, 2)), moon.randn(4, 3)
    moon.no_grad(function() layer.weight_g:mul_(3) end)
    local before = layer(x)
    nn.remove_weight_norm(layer)
    naive.close(layer(x), before, 1e-5)
    assert.equal("bias weight", names_of(layer:state_dict()))
    assert.equal("Linear(3, 2)", tostring(layer))
    naive.fails("nn.remove_weight_norm: this layer has no weight_norm", nn.remove_weight_norm,
      layer)
  end)

  it("says what does not fit", function()
    naive.fails("nn.weight_norm: the first argument is a layer, not 3", nn.weight_norm, 3)
    naive.fails("nn.weight_norm: ReLU has no parameter weight", nn.weight_norm, nn.ReLU())
    naive.fails("nn.weight_norm: LazyLinear has no shape yet", nn.weight_norm, nn.LazyLinear(3))
    naive.fails("nn.weight_norm: dim must lie in 1..2, not 3", nn.weight_norm, nn.Linear(2, 2),
      { dim = 3 })
  end)
end)

describe("nn.spectral_norm", function()
  it("brings the largest singular value to 1", function()
    local layer = nn.spectral_norm(nn.Linear(6, 4))
    for _ = 1, 100 do layer(moon.ones(1, 6)) end
    local u = moon.randn(4)
    local w = layer.weight:detach()
    for _ = 1, 200 do
      u = w:mm(w:t():mm(u:unsqueeze(2))):squeeze(2)
      u = u / u:norm()
    end
    assert.near(1, w:t():mm(u:unsqueeze(2)):norm():item(), 1e-3)
    assert.equal("bias weight_orig weight_u weight_v", names_of(layer:state_dict()))
    assert.equal(2, #layer:parameters())
  end)

  it("leaves its vectors alone in evaluation", function()
    local layer = nn.spectral_norm(nn.Conv2d(2, 3, 2)):eval()
    local u, x = layer.weight_u:clone(), moon.randn(1, 2, 4, 4)
    local y = layer(x)
    naive.close(layer.weight_u, u)
    naive.close(layer(x), y)
    layer:train()(x)
    layer(x):sum():backward()
    assert.is_true(moon.isfinite(layer.weight_orig.grad):all():item())
  end)

  it("comes off again", function()
    local layer, x = nn.spectral_norm(nn.Linear(3, 2)):eval(), moon.randn(4, 3)
    local before = layer(x)
    naive.close(nn.remove_spectral_norm(layer)(x), before, 1e-5)
    assert.equal("bias weight", names_of(layer:state_dict()))
  end)
end)
