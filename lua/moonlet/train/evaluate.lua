-- evaluate: mean loss, accuracy and, where asked, the confusion matrix of a net over a loader, in
-- evaluation mode and off the tape. The net's mode is put back, also after a failure.

local core = require "moonlet.core"
local options = require "moonlet.options"
local ConfusionMatrix = require "moonlet.metrics.confusionmatrix"

local schema = {
  loss = { "callable" }, classes = { "positive" }, autocast = { "boolean", false },
}

local function measure(net, loss, x, y)
  local logits = net(x)
  local predicted = logits:argmax(2)
  return loss(logits, y):item(), predicted:eq(y):sum():item(), predicted
end

local function measure_cast(...) return core.autocast(measure, ...) end

-- `score` measures one batch.
local function run(score, net, loader, loss, confusion)
  local sums = { loss = 0, correct = 0, seen = 0 }
  local device = net:device()
  for x, y in loader:iter() do
    x, y = x:to(device), y:to(device)
    local value, correct, predicted = score(net, loss, x, y)
    local count = x:size(1)
    sums.loss = sums.loss + value * count
    sums.correct, sums.seen = sums.correct + correct, sums.seen + count
    if confusion then confusion:add(predicted, y) end
  end
  return sums
end

--- Measures a classifier.
-- @tparam Module net
-- @tparam Loader loader
-- @tparam ?table given loss = cross entropy, classes (for a confusion matrix),
-- autocast = false (mixed precision in bfloat16)
-- @treturn table { loss, accuracy, count, confusion }
-- @usage local moon = require "moonlet"
-- local set = moon.data.TensorDataset(moon.randn(6, 2), moon.randint(1, 3, { 6 }))
-- local result = moon.train.evaluate(moon.nn.Linear(2, 3), moon.data.Loader(set, { batch = 4 }))
-- assert(result.count == 6)
return function(net, loader, given)
  local o = options.read("evaluate", given, schema, 3)
  local confusion = o.classes and ConfusionMatrix(o.classes)
  local training = net.training
  net:eval()
  local score = o.autocast and measure_cast or measure
  local ok, sums = pcall(
    core.no_grad, run, score, net, loader, o.loss or core.cross_entropy, confusion)
  net:train(training)
  if not ok then error(sums, 0) end
  local count = math.max(sums.seen, 1)
  return {
    loss = sums.loss / count, accuracy = sums.correct / count, count = sums.seen,
    confusion = confusion,
  }
end
