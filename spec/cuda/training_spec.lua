-- Whole training runs on a CUDA device: the CPU's weights, checkpoints, a run that goes on, memory
-- that stays flat, and two Lua states on one device.
local moon = require "moonlet"
local gpu = require "spec.support.gpu"
local nn, optim, data, train = moon.nn, moon.optim, moon.data, moon.train

local function small_net()
  return nn.Sequential(
    nn.Conv2d(1, 4, 3, { padding = 1 }), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(24, 3))
end

local function make_trainer(device, given)
  moon.manual_seed(3)
  local pictures, labels = moon.randn(24, 1, 8, 8), moon.randint(1, 3, { 24 })
  local net = small_net():to(device)
  local optimizer = optim.SGD(net:parameters(), { lr = 0.05, momentum = 0.9 })
  local function loader(shuffle)
    return data.Loader(data.TensorDataset(pictures, labels),
      { batch = 8, shuffle = shuffle, seed = 7, device = given.loader_device })
  end
  return train.Trainer {
    net = net, optimizer = optimizer, train = loader(true), test = loader(false), quiet = true,
    epochs = given.epochs or 2, limit = given.limit, classes = 3, directory = given.directory,
    autocast = given.autocast,
  }
end

local function assert_near(a, b, tolerance)
  local mine, theirs = a:state_dict(), b:state_dict()
  for name, tensor in pairs(mine) do
    local apart = (tensor:cpu():double() - theirs[name]:cpu():double()):abs():max():item()
    assert.is_true(apart <= tolerance, ("%s is %g apart"):format(name, apart))
  end
end

describe("training on " .. gpu.device, function()
  it("gives the CPU's weights and accuracy", function()
    local there = make_trainer(gpu.device, {})
    assert.equal("finished", there:fit())
    local here = make_trainer("cpu", {})
    here:fit()
    assert_near(there.net, here.net, 1e-4)
    assert.equal(here.row.test_accuracy, there.row.test_accuracy)
    assert.equal(gpu.device, there.net:device())
  end)

  it("takes batches that are there already, and mixed precision", function()
    local trainer = make_trainer(gpu.device, { loader_device = gpu.device, autocast = true })
    assert.equal("finished", trainer:fit())
    assert.is_true(trainer.row.train_loss < 2)
  end)

  it("goes on from a checkpoint, whichever device wrote it", function()
    local folder = os.tmpname()
    os.remove(folder)
    local whole = make_trainer("cpu", {})
    whole:fit()
    for _, devices in ipairs { { gpu.device, "cpu" }, { "cpu", gpu.device } } do
      make_trainer(devices[1], { directory = folder, limit = 3 }):fit()
      local resumed = make_trainer(devices[2], { directory = folder })
      resumed:resume()
      assert.equal("finished", resumed:fit())
      assert_near(resumed.net, whole.net, 1e-4)
    end
    os.execute(("rm -rf '%s'"):format(folder))
  end)

  it("holds no more memory after many steps than after a few", function()
    local net = small_net():cuda()
    local optimizer = optim.Adam(net:parameters(), { lr = 1e-3 })
    local x = moon.randn(4, 1, 8, 8):cuda()
    local y = moon.ones(4, { dtype = "int64" }):cuda()
    local function steps(count)
      for _ = 1, count do
        optimizer:zero_grad()
        moon.cross_entropy(net(x), y):backward()
        optimizer:step()
      end
      moon.cuda.empty_cache()
      return moon.cuda.memory().live
    end
    local few = steps(5)
    assert.is_true(steps(60) <= few)
  end)

  it("survives running out of memory in the middle of a step", function()
    local net = small_net():cuda()
    local x, y = moon.randn(64, 1, 8, 8):cuda(), moon.ones(64, { dtype = "int64" }):cuda()
    local function loss() return moon.cross_entropy(net(x), y) end
    local expected = loss():item()
    moon.cuda.empty_cache()
    local held = moon.cuda.memory()
    moon.cuda.memory_limit(held.live + held.cached)
    local big = { device = gpu.device }
    local ok, message = pcall(moon.zeros, 4096, 4096, big)
    assert.is_false(ok)
    assert.matches("out of memory", message)
    moon.cuda.memory_limit(0)
    assert.is_true(math.abs(loss():item() - expected) < 1)
  end)

  it("goes on in two Lua states at once, each as if it were alone", function()
    local function train_in(seed)
      return moon.worker_new("spec.support.workers", "train_on_device", { seed = seed, steps = 40 })
    end
    local alone = { train_in(1):receive(), train_in(2):receive() }
    local first, second = train_in(1), train_in(2)
    assert.is_true(first:receive():equal(alone[1]))
    assert.is_true(second:receive():equal(alone[2]))
  end)
end)
