-- The models: sizes as their papers give them.
local moon = require "moonlet"
local nn, models = moon.nn, moon.models

local function count(net)
  local total = 0
  for _, parameter in ipairs(net:parameters()) do total = total + parameter:numel() end
  return total
end

-- Weights of the convolutions and of three dense layers, from the paper's table alone.
local function expected(o)
  local total, channels = 0, 3
  for _, row in ipairs(models.vgg.configurations[o.config]) do
    if type(row) == "table" then
      total = total + channels * row.channels * row.kernel ^ 2 + row.channels
      channels = row.channels
    end
  end
  return total + (channels * 49 + 1) * 4096 + 4097 * 4096 + 4097 * 1000
end

describe("VGG", function()
  it("has as many weights as the paper says, in millions", function()
    local published = { A = 133, ["A-LRN"] = 133, B = 133, C = 134, D = 138, E = 144 }
    for config, millions in pairs(published) do
      assert.equal(millions, math.floor(expected({ config = config }) / 1e6 + 0.5))
    end
    assert.equal(132863336, expected { config = "A" })
    assert.equal(138357544, expected { config = "D" })
    assert.equal(143667240, expected { config = "E" })
  end)

  it("has as many weight layers as the paper says", function()
    local layers = { A = 11, ["A-LRN"] = 11, B = 13, C = 16, D = 16, E = 19 }
    for config, number in pairs(layers) do
      local net = models.vgg { config = config, width = 1 / 16, classes = 10, image = 32 }
      local found = 0
      net:apply(function(m)
        if m:is(nn.Conv2d) or m:is(nn.Linear) then found = found + 1 end
      end)
      assert.equal(number, found)
      assert.same({ 2, 10 }, net(moon.zeros(2, 3, 32, 32)):size())
    end
  end)

  it("has its five poolings stand at every size that is a multiple of 32", function()
    local net = models.vgg { width = 1 / 32, classes = 5, image = 64, in_channels = 1 }
    assert.same({ 1, 5 }, net(moon.zeros(1, 1, 64, 64)):size())
    local _, message = pcall(models.vgg, { image = 28 })
    assert.matches("image = 28 must be a multiple of 32", message)
  end)

  it("normalises batches on request", function()
    local net = models.vgg { width = 1 / 32, classes = 5, image = 32, batch_norm = true }
    assert.matches("BatchNorm2d", tostring(net))
    assert.is_nil(net.features[1].bias)
  end)

  it("names the configurations there are", function()
    local _, message = pcall(models.vgg, { config = "F" })
    assert.matches('config must be one of "A", "A%-LRN", "B", "C", "D", "E", not "F"', message)
  end)
end)

describe("small networks", function()
  it("have the sizes that are published", function()
    assert.equal(61706, count(models.lenet()))
    assert.same({ 2, 10 }, models.lenet()(moon.zeros(2, 1, 32, 32)):size())
    assert.equal(320 + 9248 + 4608 * 128 + 128 + 1290, count(models.mnist_cnn()))
    assert.same({ 2, 10 }, models.mnist_cnn()(moon.zeros(2, 1, 28, 28)):size())
    assert.equal(785 * 512 + 513 * 512 + 513 * 10, count(models.mlp()))
    assert.same({ 2, 3 }, models.mlp { sizes = { 16, 3 } }(moon.zeros(2, 4, 4)):size())
    local _, message = pcall(models.mlp, { sizes = { 7 } })
    assert.matches("models.mlp: sizes must list the inputs and the outputs at least", message)
  end)
end)

describe("large networks", function()
  -- torchvision 0.29's, but for the forms that it does not have: Krizhevsky et al. 2012 say 60
  -- million for AlexNet, Ronneberger et al. 2015 nothing.
  local published = {
    [61100840] = { "alexnet", {} }, [60965224] = { "alexnet", { form = "2012" } },
    [6624904] = { "googlenet", {} }, [13004888] = { "googlenet", { auxiliary = true } },
    [11689512] = { "resnet", { form = "imagenet", depth = 18 } },
    [21797672] = { "resnet", { form = "imagenet", depth = 34 } },
    [25557032] = { "resnet", { form = "imagenet" } },
    [44549160] = { "resnet", { form = "imagenet", depth = 101 } },
    [7978856] = { "densenet", {} }, [14149480] = { "densenet", { depth = 169 } },
    [20013928] = { "densenet", { depth = 201 } },
    [3504872] = { "mobilenet", {} }, [2636424] = { "mobilenet", { width = 0.75 } },
    [31037698] = { "unet", {} },
  }

  it("have as many weights as is published", function()
    for weights, row in pairs(published) do
      assert.equal(weights, count(models[row[1]](row[2])), row[1])
    end
  end)

  it("refuse forms that there are not", function()
    local function refused(message, ...)
      local _, found = pcall(...)
      assert.matches(message, found)
    end
    refused('models.alexnet: form must be one of "2012", "2014", not "2013"',
      models.alexnet, { form = "2013" })
    refused("models.densenet: depth must be 121, 169 or 201, not 100",
      models.densenet, { depth = 100 })
    refused("models.resnet: depth must be 18, 34, 50, 101 or 152 in this form, not 20",
      models.resnet, { form = "imagenet", depth = 20 })
  end)
end)

describe("ResNet", function()
  it("has as many weights and multiply-adds as is known of 20 layers", function()
    local report = models.resnet():check { 1, 3, 32, 32 }
    assert.is_true(report.ok)
    assert.equal(272474, report.parameters)
    assert.equal(40813184, report.multiply_adds)
    assert.same({ 1, 10 }, report.output)
  end)

  it("runs, learns and names its layers", function()
    local net = models.resnet { depth = 8, width = 4, classes = 3, in_channels = 1 }
    local layers = 0
    net:apply(function(m)
      if m:is(nn.Conv2d) and m.kernel == 3 or m:is(nn.Linear) then layers = layers + 1 end
    end)
    assert.equal(8, layers)
    local y = net(moon.randn(2, 1, 16, 16))
    assert.same({ 2, 3 }, y:size())
    y:square():sum():backward()
    for name, parameter in net:named_parameters() do assert.is_truthy(parameter.grad, name) end
  end)

  it("refuses depths that there are not", function()
    local _, message = pcall(models.resnet, { depth = 18 })
    assert.matches("models.resnet: depth must be 6 n %+ 2, such as 8, 20 or 32, not 18", message)
  end)
end)
