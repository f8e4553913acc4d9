-- The workloads of bench/networks.lua: a network, the shape of a picture, how many in a batch, and
-- the classes that it tells apart. A training step is forward, cross entropy, backward, and a step
-- of SGD with momentum.

local moon = require "moonlet"
local models = moon.models

local M = {}

-- In the order of the table. `alone`: forward with a batch of one is measured too.
M.rows = {
  { name = "mlp", batch = 128, shape = { 1, 28, 28 }, classes = 10, build = models.mlp },
  { name = "lenet", batch = 128, shape = { 1, 32, 32 }, classes = 10, build = models.lenet },
  {
    name = "mnist_cnn", batch = 128, shape = { 1, 28, 28 }, classes = 10,
    build = models.mnist_cnn,
  },
  {
    name = "alexnet", batch = 16, shape = { 3, 227, 227 }, classes = 1000, build = models.alexnet,
  },
  {
    name = "alexnet2012", batch = 16, shape = { 3, 227, 227 }, classes = 1000,
    build = function() return models.alexnet { form = "2012" } end,
  },
  {
    name = "vgg16", batch = 4, shape = { 3, 224, 224 }, classes = 1000, alone = true,
    build = function() return models.vgg { config = "D" } end,
  },
  {
    name = "googlenet", batch = 8, shape = { 3, 224, 224 }, classes = 1000,
    build = models.googlenet,
  },
  {
    name = "resnet18", batch = 8, shape = { 3, 224, 224 }, classes = 1000,
    build = function() return models.resnet { form = "imagenet", depth = 18 } end,
  },
  {
    name = "resnet50", batch = 8, shape = { 3, 224, 224 }, classes = 1000, alone = true,
    build = function() return models.resnet { form = "imagenet", depth = 50 } end,
  },
  {
    name = "densenet121", batch = 4, shape = { 3, 224, 224 }, classes = 1000,
    build = models.densenet,
  },
  {
    name = "mobilenet_v2", batch = 8, shape = { 3, 224, 224 }, classes = 1000, alone = true,
    build = models.mobilenet,
  },
  {
    name = "unet", batch = 2, shape = { 3, 256, 256 }, classes = 2, pixels = true,
    build = models.unet,
  },
}

--- The row of a name, or nil and a sentence.
function M.find(name)
  local names = {}
  for i, row in ipairs(M.rows) do
    if row.name == name then return row end
    names[i] = row.name
  end
  return nil, ("there is no workload %s; there are %s"):format(name, table.concat(names, ", "))
end

--- Pictures of noise and their labels; one a pixel where the network tells pixels apart.
function M.input(row, batch)
  local c, h, w = row.shape[1], row.shape[2], row.shape[3]
  local labels = row.pixels and { batch, h, w } or { batch }
  return moon.randn(batch, c, h, w), moon.randint(1, row.classes, labels)
end

return M
