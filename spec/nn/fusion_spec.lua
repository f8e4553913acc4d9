-- Fusion: neighbours in a Sequential give what they give one by one, in fewer passes.
local moon = require "moonlet"
local nn = moon.nn

local function make(dtype)
  moon.manual_seed(3)
  local options = { padding = 1, dtype = dtype }
  local net = nn.Sequential(
    nn.Conv2d(3, 8, 3, options), nn.BatchNorm2d(8, { dtype = dtype }), nn.ReLU(),
    nn.Conv2d(8, 8, 3, { padding = 1, bias = false, dtype = dtype }),
    nn.BatchNorm2d(8, { dtype = dtype, affine = false }), nn.ReLU6(),
    nn.Conv2d(8, 4, 1, { dtype = dtype }), nn.ReLU(), moon.tanh,
    nn.Conv2d(4, 4, 3, { dtype = dtype }), nn.BatchNorm2d(4, { dtype = dtype }))
  for name, buffer in net:named_buffers() do
    if name:find "var" then buffer:uniform_(0.5, 2) else buffer:uniform_(-0.5, 0.5) end
  end
  for name, p in net:named_parameters() do
    if name:find "%.weight" and p:dim() == 1 then p:detach():uniform_(-1, 2) end
  end
  return net
end

local function one_by_one(net, x)
  for i = 1, net:size() do x = net[i](x) end
  return x
end

local function deviation(a, b) return (a - b):abs():max():item() / b:abs():max():item() end

-- How often an operator is called while fn runs.
local function calls(operator, fn)
  for _, row in ipairs(moon.profile(fn).operators) do
    if row.name == operator and row.pass == "forward" then return row.calls end
  end
  return 0
end

local function evaluate(net, x) return moon.no_grad(function() return net(x) end) end

describe("fusion in a Sequential", function()
  it("gives the modules' results in evaluation, a convolution at a time", function()
    for dtype, tolerance in pairs { float32 = 2e-6, float64 = 1e-14 } do
      local net, x = make(dtype):eval(), moon.randn(2, 3, 9, 7, { dtype = dtype })
      local expected = moon.no_grad(one_by_one, net, x)
      assert.is_true(deviation(evaluate(net, x), expected) < tolerance)
      assert.equal(4, calls("conv2d_fused", function() evaluate(net, x) end))
      assert.equal(0, calls("batch_norm", function() evaluate(net, x) end))
    end
  end)

  it("lets convolutions and linear layers activate on the tape, too", function()
    for _, activation in ipairs { nn.ReLU, nn.ReLU6 } do
      local net = nn.Sequential(nn.Conv2d(2, 20, 3, { dtype = "float64" }), activation(),
        nn.Flatten(), nn.Linear(180, 3, { dtype = "float64" }), activation())
      local x = (moon.randn(4, 2, 5, 5, { dtype = "float64" }) * 4):requires_grad_()
      local sources, gradients = { x, (table.unpack or unpack)(net:parameters()) }, {}
      for i, forward in ipairs { net, function(...) return one_by_one(net, ...) end } do
        gradients[i] = moon.grad(forward(x):square():sum(), sources)
      end
      for i, gradient in ipairs(gradients[1]) do
        assert.is_true(deviation(gradient, gradients[2][i]) < 1e-12)
      end
      assert.equal(1, calls("conv2d_fused", function() net(x) end))
      assert.equal(1, calls("linear_fused", function() net(x) end))
      assert.equal(0, calls("relu", function() net(x) end) + calls("relu6", function() net(x) end))
    end
  end)

  it("lets a linear layer activate its rows in evaluation", function()
    local net = nn.Sequential(nn.Linear(7, 40), nn.ReLU(), nn.Linear(40, 30, { bias = false }),
      nn.ReLU6(), nn.Linear(30, 3), nn.Tanh())
    for _, rows in ipairs { 2, 50 } do
      local x = moon.randn(rows, 7)
      local expected = moon.no_grad(one_by_one, net, x)
      assert.is_true(deviation(evaluate(net, x), expected) < 2e-6)
      assert.equal(2, calls("linear_fused", function() evaluate(net, x) end))
    end
  end)

  it("follows the weights and statistics as they are at each call", function()
    local net, x = make "float64":eval(), moon.randn(1, 3, 5, 5, { dtype = "float64" })
    evaluate(net, x)
    net[2].running_mean:add_(1)
    net[2].weight:detach():mul_(-2)
    net[4].weight:detach():add_(0.5)
    assert.is_true(deviation(evaluate(net, x), moon.no_grad(one_by_one, net, x)) < 1e-14)
  end)

  it("makes a normalisation's factors once, and again for other arrays or writes", function()
    local net, x = make "float64":eval(), moon.randn(2, 3, 5, 5, { dtype = "float64" })
    local function made() return calls("rsqrt_", function() evaluate(net, x) end) end
    local function is_right()
      local expected = moon.no_grad(one_by_one, net, x)
      return deviation(evaluate(net, x), expected) < 1e-14
    end
    assert.equal(3, made())
    assert.equal(0, made())
    net(x)                               -- evaluation on the tape writes nothing
    assert.equal(0, made())
    net:train()(x)                       -- new statistics
    net:eval()
    assert.equal(3, made())
    assert.is_true(is_right())
    net[2].eps = 0.5
    net[5].running_var = net[5].running_var + 1
    net[1].bias = moon.nn.parameter(net[1].bias:detach() + 1)
    assert.equal(2, made())
    assert.is_true(is_right())
    local other = make "float64"
    for _, p in ipairs(other:parameters()) do p:detach():mul_(2) end
    net:load_state_dict(other:state_dict())
    assert.is_true(is_right())
    assert.equal(0, made())
  end)

  it("keeps factors made in a scope, and none of memory that is written unseen", function()
    local net, x = make "float64":eval(), moon.randn(2, 3, 5, 5, { dtype = "float64" })
    local expected = moon.no_grad(one_by_one, net, x)
    moon.scope(function() evaluate(net, x) end)
    assert.is_true(deviation(evaluate(net, x), expected) < 1e-14)
    net[2].running_mean:address()
    for _ = 1, 2 do
      assert.equal(1, calls("rsqrt_", function() evaluate(net, x) end))
      assert.is_true(deviation(evaluate(net, x), expected) < 1e-14)
    end
  end)

  it("gives the modules' bits, gradients and statistics in training", function()
    local fused, plain = make "float32", make "float32"
    local x = moon.randn(2, 3, 9, 7)
    local y, expected = fused(x), one_by_one(plain, x)
    assert.equal(0, (y - expected):abs():max():item())
    y:square():sum():backward()
    expected:square():sum():backward()
    local parameters = plain:parameters()
    for i, p in ipairs(fused:parameters()) do
      assert.is_true((p.grad - parameters[i].grad):abs():max():item()
        <= 1e-5 * parameters[i].grad:abs():max():item() + 1e-5)
    end
    assert.equal(0, (fused[2].running_var - plain[2].running_var):abs():max():item())
    assert.equal(0, calls("relu6", function() fused(x) end))
  end)

  it("leaves modules with hooks or a forward of their own alone", function()
    local net, x = make "float32":eval(), moon.randn(1, 3, 5, 5)
    local seen = {}
    net[2]:register_forward_hook(function(_, _, y) seen[#seen + 1] = y:clone() end)
    local expected = moon.no_grad(one_by_one, net, x)
    evaluate(net, x)
    assert.equal(2, #seen)
    assert.is_true(deviation(seen[2], seen[1]) == 0)
    local asked = 0
    rawset(net[3], "forward", function(_, y)
      asked = asked + 1
      return y:relu()
    end)
    assert.is_true(deviation(evaluate(net, x), expected) < 2e-6)
    assert.equal(1, asked)
  end)

  it("takes half types, padding modes and normalisations on the tape one by one", function()
    local x = moon.randn(1, 3, 6, 6)
    local half = make("float32"):eval():to "bfloat16"
    local y = evaluate(half, x:to "bfloat16")
    assert.equal(0, (y - moon.no_grad(one_by_one, half, x:to "bfloat16")):abs():max():item())
    local mirrored = nn.Sequential(
      nn.Conv2d(3, 4, 3, { padding = 1, padding_mode = "reflect" }), nn.ReLU()):eval()
    assert.equal(0, calls("conv2d_fused", function() evaluate(mirrored, x) end))
    local net = make "float32":eval()
    assert.equal(1, calls("conv2d_fused", function() net(x) end))   -- one has no normalisation
    net(x):sum():backward()
    assert.is_truthy(net[1].weight.grad)
  end)

  it("hands further arguments to the first module only", function()
    local net = nn.Sequential(function(a, b) return a + b end, nn.BatchNorm2d(1), nn.ReLU())
    assert.same({ 1, 1, 2, 2 }, net(moon.ones(1, 1, 2, 2), moon.ones(1, 1, 2, 2)):size())
  end)
end)

describe("conv_norm", function()
  it("adds and activates after the normalisation, on the tape and off it", function()
    local conv, norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4):eval()
    norm.running_mean:uniform_(-1, 1)
    local x, add = moon.randn(2, 3, 6, 6), moon.randn(2, 4, 4, 4)
    local given = { add = add, activation = "relu" }
    local expected = norm(conv(x)):add(add):relu()
    assert.is_true(deviation(nn.conv_norm(conv, norm, x, given), expected) < 1e-6)
    local quick = moon.no_grad(function() return nn.conv_norm(conv, norm, x, given) end)
    assert.is_true(deviation(quick, expected) < 2e-6)
  end)
end)
