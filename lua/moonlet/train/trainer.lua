-- Trainer: the usual loop for classifiers, with progress, metrics.csv, checkpoints, a clean stop.
--
-- State between two steps is whole: an interrupt (Ctrl-C) in the middle of a step takes the step
-- back before the checkpoint is written, so a resumed run gives the weights of an uninterrupted one
-- bit for bit. A loss that is NaN or infinite stops the run before anything is changed or saved.
-- The explicit loop does as well; nothing in moonlet needs the trainer.

local core = require "moonlet.core"
local options = require "moonlet.options"
local Class = require "moonlet.class"
local checkpoint = require "moonlet.train.checkpoint"
local Csv = require "moonlet.train.csv"
local Progress = require "moonlet.train.progress"
local Snapshot = require "moonlet.train.snapshot"
local evaluate = require "moonlet.train.evaluate"

local Trainer = Class:extend "Trainer"

local schema = {
  net = { "table", required = true }, optimizer = { "table", required = true },
  train = { "table", required = true }, test = { "table" }, loss = { "callable" },
  epochs = { "positive", 1 }, limit = { "positive" }, schedule = { "table" },
  average = { "table" }, autocast = { "boolean", false },
  directory = { "string" }, callbacks = { "table" }, classes = { "positive" },
  notes = { "table" }, log = { "function" }, quiet = { "boolean", false },
}

local columns = {
  "epoch", "step", "lr", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "seconds",
  "images_per_second",
}

local function say(text)
  io.stdout:write(text, "\n")
  io.stdout:flush()
end

--- Prepares a run; fit starts it.
-- @tparam table given net, optimizer, train (a loader); test (a loader), loss = cross entropy,
-- epochs = 1, limit (steps, then stop), schedule, average (an optim.EMA of the net, updated each
-- step, in the weights' place during tests), autocast = false (mixed precision: weights and
-- optimiser stay float32), directory (for checkpoint and metrics), callbacks (a list of tables with
-- on_start, on_step, on_epoch, on_finish), classes (for the confusion matrix), notes (plain values
-- kept in the checkpoint), log (takes each line), quiet = false
-- @usage local moon = require "moonlet"
-- local set = moon.data.TensorDataset(moon.randn(8, 2), moon.randint(1, 2, { 8 }))
-- local net = moon.nn.Linear(2, 2)
-- local trainer = moon.train.Trainer {
--   net = net, optimizer = moon.optim.SGD(net:parameters()), quiet = true,
--   train = moon.data.Loader(set, { batch = 4 }),
-- }
-- assert(trainer:fit() == "finished")
function Trainer:init(given)
  local o = options.read("Trainer", given, schema)
  for name in pairs(schema) do self[name] = o[name] end
  self.loss = o.loss or core.cross_entropy
  self.log = o.log or (o.quiet and function() end) or say
  self.callbacks, self.notes = o.callbacks or {}, o.notes or {}
  self.epoch, self.step = 0, 0    -- epochs completed, steps done
  self.best, self.seconds = 0, 0
  self.trained = false            -- the next epoch's steps are done, its test is not
  self:reset_sums()
  if o.directory then core.make_directory(o.directory) end
end

function Trainer:reset_sums()
  self.sums = { loss = 0, correct = 0, seen = 0, seconds = 0 }
end

--- Where the checkpoint lies; nil without a directory.
function Trainer:checkpoint_path()
  return self.directory and self.directory .. "/checkpoint.safetensors"
end

local function parts(self)
  return {
    model = self.net, optimizer = self.optimizer, loader = self.train, schedule = self.schedule,
    average = self.average,
  }
end

--- Writes the checkpoint; returns its path, or nil without a directory.
function Trainer:save()
  Class.check_self(self, Trainer, "save", "trainer")
  local path = self:checkpoint_path()
  if not path then return nil end
  local values = {
    epoch = self.epoch, step = self.step, best = self.best, seconds = self.seconds,
    trained = self.trained,
  }
  for name, value in pairs(self.sums) do values["sum_" .. name] = value end
  for name, value in pairs(self.notes) do values["note_" .. name] = value end
  checkpoint.save(path, parts(self), values)
  self.saved_step = self.step
  return path
end

--- Goes on from a checkpoint of the same run.
-- @string[opt] path the directory's own checkpoint unless given
function Trainer:resume(path)
  Class.check_self(self, Trainer, "resume", "trainer")
  path = path or self:checkpoint_path()
  if not path then error("Trainer: resume needs a path or a directory", 2) end
  local values = checkpoint.load(path, parts(self))
  for _, name in ipairs { "epoch", "step", "best", "seconds", "trained" } do
    self[name] = values[name]
  end
  for name in pairs(self.sums) do self.sums[name] = values["sum_" .. name] end
  self.resumed, self.saved_step = true, self.step
  return self
end

local function notify(self, event, ...)
  for _, callback in ipairs(self.callbacks) do
    if callback[event] then callback[event](callback, self, ...) end
  end
end

local function open_csv(self)
  if not self.directory then return nil end
  local keep
  if self.resumed then
    keep = function(row) return type(row.epoch) == "number" and row.epoch <= self.epoch end
  end
  return Csv(self.directory .. "/metrics.csv", columns, keep)
end

local function is_finite(value) return value - value == 0 end

local function last_good(self)
  local path = self:checkpoint_path()
  if path and self.saved_step then
    return ("the last good checkpoint, of step %d, is %s"):format(self.saved_step, path)
  end
  return "no checkpoint had been written yet"
end

local function fail_not_finite(self, what)
  error(("Trainer: %s at step %d (epoch %d, batch %d); %s"):format(
    what, self.step + 1, self.epoch + 1, self.train.position, last_good(self)), 0)
end

local function count_correct(logits, labels)
  return logits:detach():argmax(2):eq(labels):sum():item()
end

local function on_device(device, value)
  return core.is_tensor(value) and value:to(device) or value
end

local function forward(self, x, y)
  local logits = self.net(x)
  return logits, self.loss(logits, y)
end

local function forward_cast(...) return core.autocast(forward, ...) end

-- Forward and backward of one batch; the update comes after.
local function forward_backward(self, x, y)
  self.optimizer:zero_grad()
  local logits, loss = (self.autocast and forward_cast or forward)(self, x, y)
  local value = loss:item()
  if not is_finite(value) then fail_not_finite(self, ("the loss is %s"):format(value)) end
  loss:backward()
  local correct = core.scope(core.no_grad, count_correct, logits, y)
  return value, correct, x:size(1)
end

local function account(self, loss, correct, count)
  local sums = self.sums
  sums.loss = sums.loss + loss * count
  sums.correct = sums.correct + correct
  sums.seen = sums.seen + count
  self.step = self.step + 1
  if self.average then self.average:update() end
  if self.schedule and self.schedule.per_batch then self.schedule:step() end
end

-- For optimisers that calculate the loss more than once a step; the first counts.
local function step_by_closure(self, x, y)
  local loss, correct, count
  self.optimizer:step(function()
    local value, right, size = forward_backward(self, x, y)
    if not loss then loss, correct, count = value, right, size end
    return value
  end)
  return loss, correct, count
end

-- One step. Errors pass through; `self.in_step` tells whether there is something to take back.
local function train_step(self, x, y)
  self.in_step = true
  self.snapshot:take()
  local loss, correct, count
  if self.optimizer.wants_closure then
    loss, correct, count = step_by_closure(self, x, y)
  else
    loss, correct, count = forward_backward(self, x, y)
    self.optimizer:step()   -- whole, whenever Ctrl-C is pressed
  end
  account(self, loss, correct, count)
  self.in_step = false
  return count
end

local function show_values(sums)
  return {
    ("loss %.3f"):format(sums.loss / math.max(sums.seen, 1)),
    ("accuracy %.1f %%"):format(100 * sums.correct / math.max(sums.seen, 1)),
  }
end

local function new_progress(self)
  if self.quiet then return nil end
  local size = self.train:size()
  return Progress {
    total = size, start = self.train.resuming and self.train.position or 0,
    label = ("epoch %d/%d"):format(self.epoch + 1, self.epochs),
    more = self.epochs - self.epoch - 1,
    write = self.log ~= say and function(text) self.log((text:gsub("[\r\n]", ""))) end or nil,
    terminal = self.log ~= say and false or nil,
  }
end

-- The steps of one epoch; true when all of them are done. Batches follow the net to its device.
local function train_epoch(self)
  self.net:train()
  local device = self.net:device()   -- looks through all of it
  local progress = new_progress(self)
  local began, before = core.clock(), self.sums.seconds
  for x, y in self.train:iter() do
    local count = train_step(self, on_device(device, x), on_device(device, y))
    self.sums.seconds = before + core.clock() - began
    if progress then progress:update(self.train.position, count, show_values(self.sums)) end
    notify(self, "on_step")
    if core.interrupted() or self.step == self.limit then break end
  end
  if progress then progress:finish() end
  return self.train.position == self.train:size()
end

local function test(self)
  local given = { loss = self.loss, classes = self.classes, autocast = self.autocast }
  if self.average then return self.average:with(evaluate, self.net, self.test, given) end
  return evaluate(self.net, self.test, given)
end

local function test_epoch(self, row)
  if not self.test then return end
  local result = test(self)
  row.test_loss, row.test_accuracy = result.loss, result.accuracy
  self.confusion = result.confusion
  if not is_finite(result.loss) then
    fail_not_finite(self, ("the test loss is %s"):format(result.loss))
  end
  self.best = math.max(self.best, result.accuracy)
end

local function step_schedule(self, row)
  local schedule = self.schedule
  if not schedule or schedule.per_batch then return end
  if schedule.wants_metric then
    schedule:step(row.test_loss or row.train_loss)
  else
    schedule:step()
  end
end

local function row_text(row, epochs)
  local text = ("epoch %d/%d: train loss %.4f, accuracy %.2f %%"):format(
    row.epoch, epochs, row.train_loss, 100 * row.train_accuracy)
  if row.test_loss then
    text = text .. ("; test loss %.4f, accuracy %.2f %%"):format(
      row.test_loss, 100 * row.test_accuracy)
  end
  return text .. ("; %.1f s, %.0f images/s"):format(row.seconds, row.images_per_second)
end

local function check_weights(self)
  local function sum()
    local total = 0
    for _, parameter in ipairs(self.net:parameters()) do total = total + parameter:sum():item() end
    return total
  end
  if not is_finite(core.scope(core.no_grad, sum)) then
    fail_not_finite(self, "the weights are no longer finite")
  end
end

-- Test, metrics, schedule and checkpoint at the end of an epoch.
local function close_epoch(self, csv)
  self.trained = true
  local sums = self.sums
  local row = {
    epoch = self.epoch + 1, step = self.step, lr = self.optimizer:lr(),
    train_loss = sums.loss / sums.seen, train_accuracy = sums.correct / sums.seen,
    seconds = sums.seconds, images_per_second = sums.seen / math.max(sums.seconds, 1e-9),
  }
  check_weights(self)
  test_epoch(self, row)
  step_schedule(self, row)
  self.trained = false
  self.epoch, self.seconds = self.epoch + 1, self.seconds + sums.seconds
  self:reset_sums()
  if csv then csv:add(row) end
  self.log(row_text(row, self.epochs))
  self.row = row
  notify(self, "on_epoch", row)
  self:save()
end

local function run(self)
  notify(self, "on_start")
  local csv = open_csv(self)
  self.snapshot = Snapshot(self.net)
  while self.epoch < self.epochs and not self.stopped do
    if not self.trained and not train_epoch(self) then return end
    if core.interrupted() then
      self.trained = true
      return
    end
    close_epoch(self, csv)
    if self.step == self.limit then return end
  end
end

-- Takes back a step that was cut off, and the batch with it.
local function take_back(self)
  if not self.in_step then return self.train:hold() end
  self.snapshot:restore()
  self.train:give_back()
  self.in_step = false
end

local function stop_cleanly(self)
  core.clear_interrupt()
  take_back(self)
  local path = self:save()
  self.net:train()
  self.log(path and ("stopped after step %d; the checkpoint is %s"):format(self.step, path)
    or ("stopped after step %d; no directory was given, so there is no checkpoint"):format(
      self.step))
  return "interrupted"
end

--- Asks the run to end after the present step, from a callback.
function Trainer:stop()
  Class.check_self(self, Trainer, "stop", "trainer")
  self.stopped, self.limit = true, self.step
end

--- Runs until the last epoch, the limit or an interrupt.
-- @treturn string "finished", "limit" or "interrupted"; NaN and other failures are errors
function Trainer:fit()
  Class.check_self(self, Trainer, "fit", "trainer")
  self.in_step, self.stopped = false, false
  core.catch_interrupt()
  local ok, message = pcall(run, self)
  local interrupted = core.interrupted()
  local outcome = "finished"
  local saved, problem = true, nil
  if interrupted then
    saved, problem = pcall(stop_cleanly, self)
    outcome = problem
  end
  core.release_interrupt()
  if not saved then error(problem, 0) end
  if not ok and not interrupted then error(message, 0) end
  if not interrupted and self.epoch < self.epochs then
    outcome = "limit"
    self.train:hold()
    self:save()
  end
  notify(self, "on_finish", outcome)
  return outcome
end

return Trainer
