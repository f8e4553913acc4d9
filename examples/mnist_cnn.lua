-- The classic two-convolution network on MNIST, trained until it is right on 99 % of the test set;
-- prints the seconds that took. The timed part is training and testing, without reading the files.
-- Two epochs are enough: pictures of mean 0 and deviation 1, half of the usual dropout, and a
-- learning rate that goes up and down once over the run.
--
--   luajit examples/mnist_cnn.lua --until 99.0

local here = (arg and arg[0] or ""):match("^(.*)[/\\]") or "."
package.path = here .. "/../?.lua;" .. package.path

local moon = require "moonlet"
local flags = require "moonlet.flags"
local optim, data, train = moon.optim, moon.data, moon.train

local o = flags.read({
  { "until", "number", 99.0, "stop at this test accuracy, in percent" },
  { "epochs", "integer", 2, "times through the training set, at most" },
  { "batch", "integer", 128, "pictures in a step" },
  { "lr", "number", 3e-3, "highest learning rate of the cycle" },
  { "dropout", "number", 0.25, "before the last layer; half of it after the pooling" },
  { "workers", "integer", 0, "threads that prepare batches" },
  { "root", "string", nil, "folder of the IDX files" },
  { "download", "switch", false, "fetch MNIST when it is missing" },
  { "seed", "integer", 1, "for weights, order and dropout" },
  { "device", "string", "cpu", "cpu, or cuda for the first GPU" },
  { "threads", "integer", nil, "most threads to calculate with" },
}, arg, "usage: luajit examples/mnist_cnn.lua [flags]")

local function main()
  moon.manual_seed(o.seed)
  if o.threads then moon.set_num_threads(o.threads) end
  local function open(split)
    return data.MNIST {
      root = o.root, split = split, download = o.download, normalize = true,
    }
  end
  local net = moon.models.mnist_cnn { dropout = o.dropout }:to(o.device)
  local optimizer = optim.Adam(net:parameters(), { lr = o.lr })
  local loader = data.Loader(open "train",
    { batch = o.batch, shuffle = true, workers = o.workers })
  local test = data.Loader(open "test", { batch = 250 })
  local began, reached = moon.clock(), nil
  local goal = {
    on_epoch = function(_, trainer, row)
      if row.test_accuracy * 100 < o["until"] then return end
      reached = moon.clock() - began
      trainer:stop()
    end,
  }
  train.Trainer {
    net = net, optimizer = optimizer, train = loader, test = test, epochs = o.epochs,
    schedule = optim.WarmupCosineLR(optimizer, o.epochs * loader:size()), callbacks = { goal },
  }:fit()
  if reached then
    print(("%.1f %% of the test set after %.1f seconds"):format(o["until"], reached))
  else
    print(("%.1f %% was not reached in %.1f seconds"):format(o["until"], moon.clock() - began))
  end
end

local ok, message = pcall(main)
if not ok then
  io.stderr:write("mnist_cnn: ", tostring(message), "\n")
  os.exit(1)
end
