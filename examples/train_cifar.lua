-- Trains a residual network on CIFAR-10 and leaves checkpoint, metrics and a confusion matrix in
-- runs/<name>/: random crops and mirrored pictures, SGD with Nesterov's momentum, a learning rate
-- that goes up and down once. Ctrl-C stops cleanly; --resume goes on.
--
-- The network is the one of nine layers with which David Page won DAWNBench in 2018, half as wide:
-- it pools early and has few, wide layers, so that an epoch teaches it more than it does ResNet-20.
--
--   luajit examples/train_cifar.lua --download --epochs 10 --dtype bfloat16

local here = (arg and arg[0] or ""):match("^(.*)[/\\]") or "."
package.path = here .. "/../?.lua;" .. package.path

local moon = require "moonlet"
local flags = require "moonlet.flags"
local nn, optim, data, train, viz = moon.nn, moon.optim, moon.data, moon.train, moon.viz

local rows = {
  { "width", "integer", 32, "channels of the first layer; the last has eight times as many" },
  { "epochs", "integer", 1, "times through the training set" },
  { "batch", "integer", 128, "pictures in a step" },
  { "lr", "number", 0.2, "highest learning rate of the cycle" },
  { "dtype", { "float32", "bfloat16" }, "float32", "bfloat16: mixed precision, float32 weights" },
  { "workers", "integer", 1, "threads that prepare batches" },
  { "name", "string", "cifar", "the run's folder is runs/NAME" },
  { "resume", "switch", false, "go on from the run's checkpoint" },
  { "data", "string", nil, "folder of the binary version or its archive" },
  { "batches", "string", "1,2,3,4,5", "which files of the training set" },
  { "download", "switch", false, "fetch the archive (170 MB) when it is missing" },
  { "seed", "integer", 1, "for weights, order, crops and mirrors" },
  { "device", "string", "cpu", "cpu, or cuda for the first GPU, cuda:1 for the second" },
  { "threads", "integer", nil, "most threads to calculate with (all cores unless given)" },
  { "limit", "integer", nil, "stop after so many steps" },
}

local IMAGE, PAD, CLASSES = 32, 4, 10
local TEST_BATCH = 250
local MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4
local SCORE_SCALE = 1 / 8   -- small scores at first: the loss starts soft

-- What a resumed run takes from its checkpoint unless the flag is given.
local remembered = { "width", "epochs", "batch", "lr", "dtype", "batches", "seed" }

local function read_flags()
  local o = flags.read(rows, arg, "usage: luajit examples/train_cifar.lua [flags]")
  o.directory = "runs/" .. o.name
  o.checkpoint = o.directory .. "/checkpoint.safetensors"
  if o.resume then train.runflags.resume(o, remembered, o.checkpoint) end
  return o
end

local function convolution(inputs, outputs)
  return nn.Conv2d(inputs, outputs, 3, { padding = 1, bias = false }), nn.BatchNorm2d(outputs),
    nn.ReLU()
end

local Residual = nn.Module:extend "Residual"

function Residual:init(width)
  self.first, self.second =
    nn.Sequential(convolution(width, width)), nn.Sequential(convolution(width, width))
end

function Residual:forward(x) return x + self.second(self.first(x)) end

local Network = nn.Module:extend "Network"

function Network:init(width)
  local function stage(inputs, outputs)
    return nn.Sequential(convolution(inputs, outputs)):add(nn.MaxPool2d(2))
  end
  self.features = nn.Sequential(
    nn.Sequential(convolution(3, width)),
    stage(width, 2 * width), Residual(2 * width),
    stage(2 * width, 4 * width),
    stage(4 * width, 8 * width), Residual(8 * width),
    nn.MaxPool2d(4), nn.Flatten())
  self.classifier = nn.Linear(8 * width, CLASSES, { bias = false })
end

function Network:forward(x) return self.classifier(self.features(x)) * SCORE_SCALE end

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
  local net = Network(o.width)
  print(nn.summary(net, { 3, IMAGE, IMAGE }))
  net:to(o.device)
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
