-- Trains a residual network on CIFAR-10 and leaves checkpoint, metrics and a confusion matrix in
-- runs/<name>/: random crops and mirrored pictures, SGD with Nesterov's momentum, a learning rate
-- that goes up and down once. Ctrl-C stops cleanly; --resume goes on.
--
--   luajit examples/train_cifar.lua --download --epochs 10 --dtype bfloat16

local here = (arg and arg[0] or ""):match("^(.*)[/\\]") or "."
package.path = here .. "/../?.lua;" .. package.path

local moon = require "moonlet"
local flags = require "moonlet.flags"
local nn, optim, data, train, viz = moon.nn, moon.optim, moon.data, moon.train, moon.viz

local rows = {
  { "depth", "integer", 8, "layers of the network: 8, 14, 20 and so on (20 in the paper)" },
  { "width", "integer", 32, "channels of its first stage (16 in the paper)" },
  { "epochs", "integer", 1, "times through the training set" },
  { "batch", "integer", 128, "pictures in a step" },
  { "lr", "number", 0.1, "highest learning rate of the cycle" },
  { "dtype", { "float32", "bfloat16" }, "float32", "bfloat16: mixed precision, float32 weights" },
  { "workers", "integer", 1, "threads that prepare batches" },
  { "name", "string", "cifar", "the run's folder is runs/NAME" },
  { "resume", "switch", false, "go on from the run's checkpoint" },
  { "data", "string", nil, "folder of the binary version or its archive" },
  { "batches", "string", "1,2,3,4,5", "which files of the training set" },
  { "download", "switch", false, "fetch the archive (170 MB) when it is missing" },
  { "seed", "integer", 1, "for weights, order, crops and mirrors" },
  { "threads", "integer", nil, "most threads to calculate with (all cores unless given)" },
  { "limit", "integer", nil, "stop after so many steps" },
}

local IMAGE, PAD, CLASSES = 32, 4, 10
local TEST_BATCH = 250
local MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4

-- What a resumed run takes from its checkpoint unless the flag is given.
local remembered = { "depth", "width", "epochs", "batch", "lr", "dtype", "batches", "seed" }

local function read_flags()
  local o = flags.read(rows, arg, "usage: luajit examples/train_cifar.lua [flags]")
  o.directory = "runs/" .. o.name
  o.checkpoint = o.directory .. "/checkpoint.safetensors"
  if o.resume then train.runflags.resume(o, remembered, o.checkpoint) end
  return o
end

-- "1,2,3" as numbers; what is none stays text, which the data set refuses.
local function read_list(text)
  local list = {}
  for word in text:gmatch "[^,]+" do list[#list + 1] = tonumber(word) or word end
  return list
end

local function open_data(o, split)
  local t = data.transforms
  local training = split == "train"
  return data.CIFAR10 {
    split = split, root = o.data, download = o.download, normalize = true,
    batches = training and read_list(o.batches) or nil,
    transform = training
      and t.compose { t.random_crop(IMAGE, PAD), t.random_horizontal_flip() } or nil,
  }
end

local function make_trainer(o, net, training, test)
  local loader = data.Loader(training,
    { batch = o.batch, shuffle = true, drop_last = true, workers = o.workers })
  local optimizer = optim.SGD(net:parameters(),
    { lr = o.lr, momentum = MOMENTUM, nesterov = true, weight_decay = WEIGHT_DECAY })
  return train.Trainer {
    net = net, optimizer = optimizer, train = loader,
    test = data.Loader(test, { batch = TEST_BATCH }),
    schedule = optim.WarmupCosineLR(optimizer, o.epochs * loader:size()),
    epochs = o.epochs, limit = o.limit, autocast = o.dtype == "bfloat16", classes = CLASSES,
    directory = o.directory, notes = train.runflags.notes(o, remembered),
  }
end

-- A run that stopped at its limit has not been tested as it is.
local function report(o, trainer, outcome, names)
  if outcome == "limit" then
    local result = train.evaluate(trainer.net, trainer.test,
      { classes = CLASSES, autocast = trainer.autocast })
    trainer.confusion = result.confusion
    print(("test accuracy %.2f %%"):format(100 * result.accuracy))
  end
  local drawn, why =
    viz.confusion(trainer.confusion, o.directory .. "/confusion.png", names)
  if not drawn then print("confusion.png: " .. why) end
end

local function main()
  local o = read_flags()
  moon.manual_seed(o.seed)
  if o.threads then moon.set_num_threads(o.threads) end
  local net = moon.models.resnet { depth = o.depth, width = o.width, classes = CLASSES }
  print(nn.summary(net, { 3, IMAGE, IMAGE }))
  local training, test = open_data(o, "train"), open_data(o, "test")
  local trainer = make_trainer(o, net, training, test)
  if o.resume then
    trainer:resume()
    print(("going on after step %d of %s"):format(trainer.step, o.checkpoint))
  end
  local outcome = trainer:fit()
  trainer.train:close()
  if outcome == "interrupted" then
    print("go on with: luajit examples/train_cifar.lua --name " .. o.name .. " --resume")
    os.exit(130)
  end
  report(o, trainer, outcome, training.names)
  print(("%s/ holds checkpoint.safetensors, metrics.csv, confusion.png"):format(o.directory))
end

local ok, message = xpcall(main, function(problem)
  return os.getenv("MOONLET_TRACE") and debug.traceback(problem) or tostring(problem)
end)
if not ok then
  io.stderr:write("train_cifar: ", message, "\n")
  os.exit(1)
end
