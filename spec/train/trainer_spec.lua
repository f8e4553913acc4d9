-- The trainer: learning, stopping, resuming with the same bits, and what it says.
local moon = require "moonlet"
local nn, optim, data, train = moon.nn, moon.optim, moon.data, moon.train
local pictures = require "spec.support.pictures"

-- A run with everything that has a state: dropout, running statistics, momentum, a schedule, random
-- crops, shuffling.
local function make(folder, directory, given)
  given = given or {}
  moon.manual_seed(given.seed or 3)
  local t = data.transforms
  local set = data.MNIST { root = folder, transform = t.random_crop(28, 1) }
  local net = nn.Sequential(
    nn.Conv2d(1, 4, 5, { stride = 4 }), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
    nn.Dropout(0.25), nn.LazyLinear(10))
  net(moon.zeros(2, 1, 28, 28))
  local loader = data.Loader(set, { batch = 8, shuffle = true, workers = given.workers or 0 })
  local optimizer = optim.SGD(net:parameters(), { lr = 0.05, momentum = 0.9 })
  local trainer = train.Trainer {
    net = net, optimizer = optimizer, train = loader,
    test = data.Loader(data.MNIST { root = folder, split = "test" }, { batch = 16 }),
    schedule = optim.WarmupCosineLR(optimizer, 3 * loader:size()), epochs = given.epochs or 3,
    classes = 10, directory = directory, quiet = true, callbacks = given.callbacks,
    limit = given.limit, loss = given.loss, log = given.log, autocast = given.autocast,
  }
  return trainer
end

local function same_weights(a, b)
  local expected, found = a:state_dict(), b:state_dict()
  for name, tensor in pairs(expected) do
    local difference = tensor:sub(found[name]):abs():max():item()
    assert(difference == 0, ("%s differs by %g"):format(name, difference))
  end
end

-- A callback that presses Ctrl-C after step n.
local function interrupt_after(n)
  return { on_step = function(_, trainer)
    if trainer.step == n then moon.interrupt() end
  end }
end

describe("Trainer", function()
  local folder, remove, directory, clean
  setup(function()
    folder, remove = pictures.folder()
    pictures.make_set(folder, 40)
  end)
  teardown(function() remove() end)
  before_each(function() directory, clean = pictures.folder() end)
  after_each(function() clean() end)

  it("learns, and leaves checkpoint and metrics", function()
    local trainer = make(folder, directory, { epochs = 3 })
    assert.equal("finished", trainer:fit())
    assert.equal(15, trainer.step)
    local rows = train.Csv.read(directory .. "/metrics.csv")
    assert.equal(3, #rows)
    assert.is_true(rows[3].train_loss < rows[1].train_loss)
    assert.equal(15, rows[3].step)
    assert.equal(40, trainer.confusion:total())
    assert.is_true(moon.file_exists(directory .. "/checkpoint.safetensors"))
  end)

  it("looks for its network's device once an epoch and once a test", function()
    local trainer, looked = make(folder, nil, { epochs = 2 }), 0
    function trainer.net:device()
      looked = looked + 1
      return nn.Module.device(self)
    end
    trainer:fit()
    assert.equal(4, looked)
  end)

  it("calculates in mixed precision where asked to, in training and in tests", function()
    local seen = {}
    local function loss(logits, y)
      seen[logits.dtype] = (seen[logits.dtype] or 0) + 1
      return moon.cross_entropy(logits, y)
    end
    local trainer = make(folder, nil, { autocast = true, loss = loss, epochs = 1 })
    trainer:fit()
    assert.same({ bfloat16 = 5 + 3 }, seen)
    for name, tensor in pairs(trainer.net:state_dict()) do
      assert.not_equal("bfloat16", tensor.dtype, name)
    end
    local plain = make(folder, nil, { loss = loss, epochs = 1 })
    plain:fit()
    assert.equal(5 + 3, seen.float32)
    assert.is_true(math.abs(plain.row.test_loss - trainer.row.test_loss) < 0.1)
  end)

  it("does the same with worker threads", function()
    local a = make(folder)
    a:fit()
    local b = make(folder, nil, { workers = 2 })
    b:fit()
    b.train:close()
    same_weights(a.net, b.net)
  end)

  it("takes optimisers that calculate the loss several times a step, and resumes them", function()
    local makers = {
      function(params) return optim.SAM(optim.SGD(params, { lr = 0.05, momentum = 0.9 })) end,
      function(params) return optim.LBFGS(params, { lr = 0.1, max_iter = 2 }) end,
    }
    for _, maker in ipairs(makers) do
      local function run(...)
        local trainer = make(folder, ...)
        trainer.optimizer = maker(trainer.net:parameters())
        trainer.schedule = optim.ExponentialLR(trainer.optimizer, 0.9)
        return trainer
      end
      local whole = run()
      whole:fit()
      assert.is_true(whole.row.train_loss < math.log(10))
      local first = run(directory, { limit = 7 })
      assert.equal("limit", first:fit())
      local second = run(directory):resume()
      assert.equal("finished", second:fit())
      same_weights(whole.net, second.net)
    end
  end)

  it("tests with the averaged weights, goes on with its own, and resumes both", function()
    local function run(...)
      local trainer = make(folder, ...)
      trainer.average = optim.EMA(trainer.net, { decay = 0.9 })
      return trainer
    end
    local plain = make(folder)
    plain:fit()
    local whole = run()
    whole:fit()
    same_weights(plain.net, whole.net)
    assert.not_equal(plain.row.test_loss, whole.row.test_loss)
    local tested = whole.average:with(train.evaluate, whole.net, whole.test, { classes = 10 })
    assert.equal(whole.row.test_loss, tested.loss)
    local first = run(directory, { limit = 7 })
    first:fit()
    local second = run(directory):resume()
    second:fit()
    same_weights(whole.net, second.net)
    assert.equal(whole.row.test_loss, second.row.test_loss)
  end)

  it("gives bit for bit the same weights after a stop at a step's end and a resume", function()
    local whole = make(folder)
    whole:fit()
    local first = make(folder, directory, { callbacks = { interrupt_after(7) } })
    assert.equal("interrupted", first:fit())
    assert.equal(7, first.step)
    assert.is_false(moon.interrupted())
    local second = make(folder, directory, { seed = 99 })
    second:resume()
    assert.equal("finished", second:fit())
    assert.equal(whole.step, second.step)
    same_weights(whole.net, second.net)
    assert.equal(3, #train.Csv.read(directory .. "/metrics.csv"))
  end)

  -- Where Ctrl-C may come: each changes a trainer so that it is pressed there.
  local places = {
    forward = function(trainer)
      local inner, count = trainer.net.forward, 0
      rawset(trainer.net, "forward", function(self, x)
        count = count + 1
        local y = inner(self, x)
        if count == 8 then moon.interrupt() end
        return y:add(0)
      end)
    end,
    update = function(trainer)
      local inner, count = trainer.optimizer.update, 0
      trainer.optimizer.update = function(self, ...)
        count = count + 1
        if count == 8 then moon.interrupt() end   -- called once a step
        return inner(self, ...)
      end
    end,
    loader = function(trainer)
      local set, count = trainer.train.dataset, 0
      local inner = set.transform
      set.transform = setmetatable({ takes_batches = true }, { __call = function(_, x)
        count = count + 1
        if count == 7 then moon.interrupt() end
        return inner(x)
      end })
    end,
    test = function(trainer)
      local set, count = trainer.test.dataset, 0
      set.transform = function(x)
        count = count + 1
        if count == 50 then moon.interrupt() end
        return x:add(0)
      end
    end,
  }

  for name, prepare in pairs(places) do
    it("does so when Ctrl-C comes in the middle of " .. name, function()
      local whole = make(folder)
      whole:fit()
      local first = make(folder, directory)
      prepare(first)
      assert.equal("interrupted", first:fit())
      local second = make(folder, directory, { seed = 50 })
      second:resume()
      assert.equal("finished", second:fit())
      same_weights(whole.net, second.net)
    end)
  end

  it("can go on in the same process", function()
    local whole = make(folder)
    whole:fit()
    local trainer = make(folder, nil, { callbacks = { interrupt_after(4) } })
    assert.equal("interrupted", trainer:fit())
    assert.equal("finished", trainer:fit())
    same_weights(whole.net, trainer.net)
  end)

  it("says where the checkpoint is when stopped", function()
    local lines = {}
    make(folder, directory, {
      callbacks = { interrupt_after(2) }, log = function(text) lines[#lines + 1] = text end,
    }):fit()
    assert.matches("stopped after step 2; the checkpoint is " .. directory, lines[#lines], 1, true)
  end)

  it("stops at a limit and goes on from there", function()
    local whole = make(folder)
    whole:fit()
    assert.equal("limit", make(folder, directory, { limit = 6 }):fit())
    local second = make(folder, directory)
    second:resume()
    second:fit()
    same_weights(whole.net, second.net)
  end)

  it("stops before a NaN loss does harm, names the step and keeps the checkpoint", function()
    local count = 0
    local trainer = make(folder, directory, { loss = function(logits, labels)
      count = count + 1
      local loss = moon.cross_entropy(logits, labels)
      return count == 12 and loss:mul(0 / 0) or loss
    end })
    local ok, message = pcall(trainer.fit, trainer)
    assert.is_false(ok)
    assert.matches("the loss is %-?nan at step %d+ %(epoch 2, batch %d%); the last good "
      .. "checkpoint, of step 5, is ", message)
    assert.matches("checkpoint.safetensors", message)
    local resumed = make(folder, directory)
    resumed:resume()
    assert.equal(5, resumed.step)
    for _, parameter in ipairs(resumed.net:parameters()) do
      assert.is_true(parameter:eq(parameter):all():item())
    end
  end)

  it("lets callbacks follow and stop it", function()
    local events = {}
    local callback = {
      on_start = function() events[#events + 1] = "start" end,
      on_epoch = function(_, trainer, row)
        events[#events + 1] = "epoch " .. row.epoch
        if row.epoch == 2 then trainer:stop() end
      end,
      on_finish = function() events[#events + 1] = "finish" end,
    }
    make(folder, nil, { callbacks = { callback } }):fit()
    assert.same({ "start", "epoch 1", "epoch 2", "finish" }, events)
  end)

  it("explains what is wrong", function()
    local trainer = make(folder, directory)
    local ok, message = pcall(trainer.resume, trainer)
    assert.is_false(ok)
    assert.matches("checkpoint.safetensors", message)
    local _
    _, message = pcall(train.Trainer, { nett = 1 })
    assert.matches('did you mean "net"', message)
    _, message = pcall(trainer.fit)
    assert.matches("call it with a colon, trainer:fit", message)
  end)
end)
