-- Trains a VGG on Fashion-MNIST (28 x 28, padded to 32 x 32 so that all five poolings stand) and
-- leaves checkpoint, metrics and pictures in runs/<name>/. Ctrl-C stops cleanly; --resume goes on.
--
--   luajit examples/train_vgg.lua --help

local here = (arg and arg[0] or ""):match("^(.*)[/\\]") or "."
package.path = here .. "/../?.lua;" .. package.path

local moon = require "moonlet"
local flags = require "moonlet.flags"
local nn, optim, data, train, viz = moon.nn, moon.optim, moon.data, moon.train, moon.viz

local rows = {
  { "config", { "A", "A-LRN", "B", "C", "D", "E" }, "A", "configuration of the paper" },
  { "width", "number", 0.1875, "factor on the number of channels" },
  { "epochs", "integer", 3, "times through the training set" },
  { "batch", "integer", 64, "pictures in a step" },
  { "lr", "number", 0.004, "highest learning rate of the cycle" },
  { "plain", "switch", false, "no batch normalisation, as in the paper: half a percent less" },
  { "dropout", "number", 0.2, "dropout between the fully connected layers" },
  { "flip", "switch", false, "mirror pictures at random, which pays in long runs" },
  { "workers", "integer", 1, "threads that prepare batches" },
  { "name", "string", "vgg", "the run's folder is runs/NAME" },
  { "resume", "switch", false, "go on from the run's checkpoint" },
  { "root", "string", nil, "folder of the IDX files (Debian's package unless given)" },
  { "data", { "fashion-mnist", "mnist" }, "fashion-mnist", "which pictures" },
  { "download", "switch", false, "fetch the pictures when they are missing" },
  { "seed", "integer", 1, "for weights, order and dropout" },
  { "device", "string", "cpu", "cpu, or cuda for the first GPU, cuda:1 for the second" },
  { "threads", "integer", nil, "most threads to calculate with (all cores unless given)" },
  { "limit", "integer", nil, "stop after so many steps" },
}

local PAD = 2
local IMAGE = 28 + 2 * PAD
local CLASSES = 10
local TEST_BATCH = 250

-- What a resumed run takes from its checkpoint unless the flag is given.
local remembered =
  { "config", "width", "epochs", "batch", "lr", "plain", "dropout", "flip", "data", "seed" }

local function read_flags()
  local o = flags.read(rows, arg, "usage: luajit examples/train_vgg.lua [flags]")
  o.directory = "runs/" .. o.name
  o.checkpoint = o.directory .. "/checkpoint.safetensors"
  if o.resume then train.runflags.resume(o, remembered, o.checkpoint) end
  return o
end

local function open_data(o, split)
  local Pictures = o.data == "mnist" and data.MNIST or data.FashionMNIST
  local t = data.transforms
  local steps = { t.pad(PAD), t.normalize(Pictures.mean, Pictures.deviation) }
  if split == "train" and o.flip then steps[#steps + 1] = t.random_horizontal_flip() end
  return Pictures {
    split = split, root = o.root, download = o.download, transform = t.compose(steps),
  }
end

local function make_trainer(o, net, training, test)
  local loader = data.Loader(training,
    { batch = o.batch, shuffle = true, drop_last = true, workers = o.workers })
  local optimizer = optim.AdamW(net:parameters(), { lr = o.lr, weight_decay = 0.01 })
  return train.Trainer {
    net = net, optimizer = optimizer, train = loader,
    test = data.Loader(test, { batch = TEST_BATCH }),
    schedule = optim.WarmupCosineLR(optimizer, o.epochs * loader:size()),
    epochs = o.epochs, limit = o.limit, classes = CLASSES, directory = o.directory,
    notes = train.runflags.notes(o, remembered),
  }
end

local function draw(o, trainer, outcome, names)
  local function tell(name, ok, why)
    if not ok then print(("%s: %s"):format(name, why)) end
  end
  tell("curves.png", viz.curves(o.directory .. "/metrics.csv", o.directory .. "/curves.png"))
  tell("filters.png", viz.filters(trainer.net, o.directory .. "/filters.png"))
  if outcome == "limit" then   -- not tested as it is
    local result = train.evaluate(trainer.net, trainer.test, { classes = CLASSES })
    trainer.confusion = result.confusion
    print(("test accuracy %.2f %%"):format(100 * result.accuracy))
  end
  tell("confusion.png",
    viz.confusion(trainer.confusion, o.directory .. "/confusion.png", names))
end

local function main()
  local o = read_flags()
  moon.manual_seed(o.seed)
  if o.threads then moon.set_num_threads(o.threads) end
  local net = moon.models.vgg {
    config = o.config, width = o.width, classes = CLASSES, in_channels = 1, image = IMAGE,
    batch_norm = not o.plain, dropout = o.dropout,
  }
  print(nn.summary(net, { 1, IMAGE, IMAGE }))
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
    print("go on with: luajit examples/train_vgg.lua --name " .. o.name .. " --resume")
    os.exit(130)
  end
  draw(o, trainer, outcome, training.names)
  print(("%s/ holds checkpoint.safetensors, metrics.csv, curves.png, filters.png, confusion.png")
    :format(o.directory))
end

local ok, message = xpcall(main, function(problem)
  return os.getenv("MOONLET_TRACE") and debug.traceback(problem) or tostring(problem)
end)
if not ok then
  io.stderr:write("train_vgg: ", message, "\n")
  os.exit(1)
end
