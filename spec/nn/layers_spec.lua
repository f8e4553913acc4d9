-- Layers one by one: what they calculate, their names and their sentences.
local moon = require "moonlet"
local nn = moon.nn

local function close(a, b, tolerance)
  assert.same(a:size(), b:size())
  assert.is_true(a:sub(b):abs():max():item() <= (tolerance or 1e-5))
end

describe("Sequential", function()
  it("runs modules and functions in order and gives them by number", function()
    local net = nn.Sequential(nn.Linear(2, 3), moon.relu, function(x) return x:mul(2) end)
    assert.equal(3, net:size())
    assert.equal("Linear", net[1].class_name)
    local x = moon.randn(4, 2)
    close(net[1](x):relu():mul(2), net(x))
  end)

  it("takes named children", function()
    local net = nn.Sequential(nn.Linear(2, 2))
    net:add("head", nn.Linear(2, 1))
    assert.equal(1, net.head.outputs)
    assert.is_not_nil(net:state_dict()["head.weight"])
    assert.has_error(function() net:add("head", nn.Linear(2, 1)) end)
  end)

  it("refuses what is neither module nor function", function()
    local _, message = pcall(nn.Sequential, nn.ReLU(), 3)
    assert.matches("Sequential: child 2 must be a module or a function, not 3", message)
  end)
end)

describe("ModuleList", function()
  it("holds modules by number", function()
    local list = nn.ModuleList { nn.Linear(2, 3), nn.Linear(3, 1) }
    assert.equal(2, list:size())
    assert.equal(4, #list:parameters())
    assert.has_error(function() list:add(3) end)
  end)
end)

describe("layers", function()
  it("calculate what their operators do", function()
    local x = moon.randn(2, 4, 6, 6)
    local conv = nn.Conv2d(4, 6, 3, { padding = 1, stride = 2, groups = 2 })
    close(moon.conv2d(x, conv.weight, conv.bias, { padding = 1, stride = 2, groups = 2 }), conv(x))
    close(moon.max_pool2d(x, 2, { stride = 1 }), nn.MaxPool2d(2, { stride = 1 })(x))
    close(moon.avg_pool2d(x, 2), nn.AvgPool2d(2)(x))
    close(x:mean({ 3, 4 }, true), nn.AdaptiveAvgPool2d(1)(x))
    close(moon.local_response_norm(x, 3, { alpha = 0.1 }),
      nn.LocalResponseNorm(3, { alpha = 0.1 })(x))
    close(x:flatten(2), nn.Flatten()(x))
    close(x:softmax(2), nn.Softmax(2)(x))
    close(x:log_softmax(-1), nn.LogSoftmax()(x))
    close(x, nn.Identity()(x))
    local linear = nn.Linear(6, 5, { bias = false })
    assert.is_nil(linear.bias)
    close(moon.linear(x, linear.weight), linear(x))
  end)

  it("have every activation under its name", function()
    local x = moon.randn(3, 4)
    local rows = {
      ReLU = "relu", ReLU6 = "relu6", LeakyReLU = "leaky_relu", ELU = "elu", SELU = "selu",
      CELU = "celu", GELU = "gelu", SiLU = "silu", Mish = "mish", Softplus = "softplus",
      Softsign = "softsign", Sigmoid = "sigmoid", LogSigmoid = "logsigmoid", Tanh = "tanh",
      Hardtanh = "hardtanh", Hardsigmoid = "hardsigmoid", Hardswish = "hardswish",
      Hardshrink = "hardshrink", Softshrink = "softshrink", Tanhshrink = "tanhshrink",
      Softmax = "softmax", LogSoftmax = "log_softmax", Softmin = "softmin", GLU = "glu",
      CReLU = "crelu",
    }
    for layer, operator in pairs(rows) do close(moon[operator](x), nn[layer]()(x)) end
    close(moon.leaky_relu(x, 0.3), nn.LeakyReLU({ negative_slope = 0.3 })(x))
    close(moon.hardtanh(x, -0.5, 0.2), nn.Hardtanh({ min = -0.5, max = 0.2 })(x))
    close(moon.softplus(x, 2, 1), nn.Softplus({ beta = 2, threshold = 1 })(x))
    close(moon.gelu_tanh(x), nn.GELU({ approximate = "tanh" })(x))
    close(moon.threshold(x, 0.5, 7), nn.Threshold(0.5, 7)(x))
    close(moon.glu(x, 2), nn.GLU(2)(x))
    close(moon.crelu(x, 1), nn.CReLU(1)(x))
    assert.equal("Hardtanh(min = -1, max = 2)", tostring(nn.Hardtanh { max = 2 }))
    assert.equal('GELU(approximate = "tanh")', tostring(nn.GELU { approximate = "tanh" }))
  end)

  it("learn or draw slopes", function()
    local x = moon.randn(2, 3, 4)
    local prelu = nn.PReLU(3, { init = 0.1 })
    assert.equal(1, #prelu:parameters())
    close(moon.leaky_relu(x, 0.1), prelu(x))
    close(moon.leaky_relu(x, 0.25), nn.PReLU()(x))
    close(moon.rrelu(x), nn.RReLU():eval()(x))
    local y = nn.RReLU({ lower = 0.5, upper = 0.75 })(moon.full({ 100 }, -1))
    assert.is_true(y:max():item() <= -0.5 and y:min():item() >= -0.75)
    assert.is_true(y:std():item() > 0.01)
    assert.has_error(function() nn.RReLU { lower = 1, upper = 0.5 } end)
  end)

  it("are suggested when they are spelled otherwise", function()
    for given, meant in pairs { Relu = "ReLU", MseLoss = "MSELoss", dropout2D = "Dropout2d" } do
      local _, message = pcall(function() return nn[given] end)
      assert.matches('did you mean "' .. meant .. '"', message)
    end
  end)

  it("start with weights within 1/sqrt(fan in)", function()
    local layer = nn.Conv2d(4, 8, 3)
    local bound = 1 / math.sqrt(36)
    assert.is_true(layer.weight:abs():max():item() <= bound)
    assert.is_true(layer.weight:abs():max():item() > bound / 2)
  end)

  it("blame a bad argument on the caller, with a sentence", function()
    local cases = {
      { function() nn.Conv2d(3, 8) end, "Conv2d: kernel must be a whole number or a list of two" },
      { function() nn.Conv2d(3, 8, 3, { pading = 1 }) end, 'did you mean "padding"' },
      { function() nn.Conv2d(3, 8, 3, { groups = 2 }) end, "groups = 2 must divide inputs %(3%)" },
      { function() nn.Linear(0, 3) end, "Linear: inputs must be a whole number from 1, not 0" },
      { function() nn.Dropout(1) end, "Dropout: p must be from 0" },
      { function() nn.BatchNorm2d(4)(moon.zeros(2, 4)) end, "BatchNorm2d: input must be" },
      { function() nn.MSELoss { reduction = "most" } end, "MSELoss: reduction must be one of" },
    }
    for _, case in ipairs(cases) do
      local ok, message = pcall(case[1])
      assert.is_false(ok)
      assert.matches(case[2], message)
      assert.matches("layers_spec.lua", case[2]:find "input must" and "layers_spec.lua" or message)
    end
  end)
end)

describe("Dropout", function()
  it("keeps the mean while training and does nothing in evaluation", function()
    moon.manual_seed(3)
    local layer, x = nn.Dropout(0.5), moon.ones(10000)
    local y = layer(x)
    assert.is_true(math.abs(y:mean():item() - 1) < 0.05)
    assert.equal(2, y:max():item())
    assert.equal(10000, layer:eval()(x):sum():item())
  end)
end)

describe("BatchNorm", function()
  it("normalises a batch and moves the running statistics", function()
    local layer, x = nn.BatchNorm2d(3), moon.randn(8, 3, 5, 5):mul(2):add(4)
    local y = layer(x)
    assert.is_true(y:mean({ 1, 3, 4 }):abs():max():item() < 1e-4)
    close(x:mean({ 1, 3, 4 }):mul(0.1), layer.running_mean, 1e-4)
    assert.is_true(layer.running_var[1] > 1)
  end)

  it("takes the running statistics in evaluation and leaves them", function()
    local layer, x = nn.BatchNorm1d(3):eval(), moon.randn(4, 3)
    close(x, layer(x), 1e-4)
    assert.equal(0, layer.running_mean:abs():max():item())
  end)

  it("saves its statistics as buffers", function()
    local state = nn.BatchNorm2d(3):state_dict()
    assert.is_not_nil(state.running_mean)
    assert.is_not_nil(state.running_var)
  end)
end)
