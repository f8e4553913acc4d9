-- Loader: batches of a dataset, in order or shuffled, built here or by worker threads.
--
-- The order of an epoch is a permutation drawn from (seed, epoch); what is random in building batch
-- b is drawn from (seed, epoch, b). So the batches are the same for any number of workers, and
-- (seed, epoch, position) is all that a resumed run needs. Worker w builds batches w, w + N, ...;
-- each has at most AHEAD jobs waiting, so memory is bounded by N * AHEAD batches.

local core = require "moonlet.core"
local options = require "moonlet.options"
local Class = require "moonlet.class"
local Dataset = require "moonlet.data.dataset"
local origin = require "moonlet.data.origin"
local source = require "moonlet.data.source"
local unpack = require "moonlet.unpack"

local Loader = Class:extend "Loader"

local AHEAD = 2   -- jobs waiting at each worker
local HIGHEST_SEED = 2147483646

local schema = {
  batch = { "positive", 1 }, shuffle = { "boolean", false }, workers = { "integer", 0 },
  drop_last = { "boolean", false }, seed = { "integer" }, transform = { "callable" },
  device = { "string" },
}

local function check(self, method) Class.check_self(self, Loader, method, "loader") end

--- Makes a loader.
-- @param dataset a dataset, or a plain array of samples
-- @tparam ?table given batch = 1, shuffle = false, workers = 0, drop_last = false, seed (drawn
-- from moonlet's random stream unless given), transform (of each batch's first value), device (to
-- which the batches' tensors go)
-- @usage local moon = require "moonlet"
-- local set = moon.data.TensorDataset(moon.arange(1, 10), moon.arange(1, 10))
-- local seen = 0
-- for x in moon.data.Loader(set, { batch = 4, shuffle = true }) do seen = seen + x:numel() end
-- assert(seen == 10)
function Loader:init(dataset, given)
  local o = options.read("Loader", given, schema)
  self.dataset = Dataset.wrap(dataset, "Loader")
  self.batch, self.shuffle, self.drop_last = o.batch, o.shuffle, o.drop_last
  self.transform, self.workers, self.device = o.transform, o.workers, o.device
  self.seed = o.seed or core.randint(1, HIGHEST_SEED, { 1 })[1]
  self.epoch, self.position = 0, 0
  if o.workers > 0 then self.plain = self:encode_pipeline(4) end
end

-- The dataset and transform in plain form; a sentence when they cannot leave this state.
function Loader:encode_pipeline(level)
  local plain, problem = origin.encode(
    { dataset = self.dataset, transform = self.transform }, "the loader")
  if plain then return plain end
  error(("Loader: workers = %d runs the dataset in other Lua states, but %s. Use workers = 0, or "
    .. "a module: data.named(\"my.module\", arguments)"):format(self.workers, problem), level)
end

--- Batches in an epoch.
function Loader:size()
  check(self, "size")
  local samples = self.dataset:size()
  if self.drop_last then return math.floor(samples / self.batch) end
  return math.ceil(samples / self.batch)
end

local function permutation(seed, count)
  local stream = core.get_rng_state()
  core.manual_seed(seed)
  local order = core.randperm(count)
  core.set_rng_state(stream)
  return order
end

local function order_of(self)
  local count = self.dataset:size()
  if count == 0 then return core.zeros(0, { dtype = "int64" }) end
  if self.shuffle then
    return core.no_grad(permutation, source.mix(self.seed, self.epoch), count)
  end
  return core.arange(1, count, 1, { dtype = "int64" })
end

local function positions(self, epoch, number)
  local first = (number - 1) * self.batch + 1
  return epoch.order:narrow(1, first, math.min(self.batch, epoch.samples - first + 1))
end

local function start_epoch(self)
  if self.resuming then
    self.resuming = nil
  else
    self.epoch, self.position = self.epoch + 1, 0
  end
  self.running = {
    order = core.keep(order_of(self)), samples = self.dataset:size(), size = self:size(),
    asked = self.position,
  }
end

-- -- without workers

local function build_here(self, epoch, number)
  local seed = source.mix(self.seed, self.epoch, number)
  return source.batch(self.dataset, self.transform, positions(self, epoch, number), seed)
end

-- -- with workers

local function start_workers(self)
  self.team, self.jobs = {}, 0
  for i = 1, self.workers do
    self.team[i] = core.worker_new("moonlet.data.worker", "serve", { pipeline = self.plain })
  end
end

-- Hands out jobs until every worker has AHEAD of them or the epoch is all asked for.
local function ask_ahead(self, epoch)
  local last = math.min(epoch.size, self.position + self.workers * AHEAD)
  while epoch.asked < last do
    local number = epoch.asked + 1
    epoch.asked = number
    self.team[(number - 1) % self.workers + 1]:send {
      job = self.epoch * 2 ^ 24 + number,
      indices = positions(self, epoch, number),
      seed = source.mix(self.seed, self.epoch, number),
    }
  end
end

local function build_elsewhere(self, epoch, number)
  if not self.team then start_workers(self) end
  ask_ahead(self, epoch)
  local worker = self.team[(number - 1) % self.workers + 1]
  local job = self.epoch * 2 ^ 24 + number
  while true do
    local result = worker:receive()   -- raises when Ctrl-C was pressed
    if result.job == job then   -- others are left from an epoch that was given up
      if result.problem then error(result.problem, 0) end
      return result.batch
    end
  end
end

-- The batch with its tensors on the loader's device, or as it is without one. What is copied to a
-- GPU is ordered before whatever uses it, and nothing here waits for it.
local function carried(self, batch)
  for i = 1, self.device and batch.n or 0 do
    if core.is_tensor(batch[i]) then batch[i] = core.keep(batch[i]:to(self.device)) end
  end
  return batch
end

-- The next batch's values, nothing at the end of the epoch.
local function next_batch(self)
  local epoch = self.running
  if not epoch or self.position >= epoch.size then
    self.running = nil
    return nil
  end
  local number = self.position + 1
  local build = self.workers > 0 and build_elsewhere or build_here
  local batch = carried(self, build(self, epoch, number))
  self.position = number
  return unpack(batch, 1, batch.n)
end

--- Iterates over one epoch: for x, y in loader:iter() do. After load_state_dict the first call goes
-- on in the middle of the epoch that was saved.
function Loader:iter()
  check(self, "iter")
  start_epoch(self)
  return function() return next_batch(self) end
end

-- for x, y in loader do: the control value is nil at the first step of every loop.
function Loader:__call(_, control)
  if control == nil then start_epoch(self) end
  return next_batch(self)
end

--- Takes back the last batch: it counts as not given, and a state saved now gives it again. The
-- present iteration ends.
function Loader:give_back()
  check(self, "give_back")
  if self.position > 0 then self.position = self.position - 1 end
  self:hold()
end

--- Ends the present iteration; the next one goes on where it was. Workers are ended too: what
-- they have ready may be the error of an interrupt, or belong to another seed.
function Loader:hold()
  check(self, "hold")
  self:close()
  self.running = nil
  self.resuming = self.epoch > 0 and self.position < self:size() or nil
end

--- Ends the worker threads; the loader starts new ones when it is used again.
function Loader:close()
  check(self, "close")
  for _, worker in ipairs(self.team or {}) do worker:close() end
  self.team = nil
end

--- Where the loader is: seed, epoch, batches given in it.
function Loader:state_dict()
  check(self, "state_dict")
  return {
    seed = self.seed, epoch = self.epoch, position = self.position,
    batch = self.batch, samples = self.dataset:size(),
  }
end

--- Goes on where another run was. Batch size and dataset must be the same.
function Loader:load_state_dict(dict)
  check(self, "load_state_dict")
  for _, name in ipairs { "batch", "samples" } do
    local mine = name == "batch" and self.batch or self.dataset:size()
    if dict[name] ~= mine then
      error(("load_state_dict: this loader has %s = %d, the state has %s"):format(
        name, mine, tostring(dict[name])), 2)
    end
  end
  self.seed, self.epoch, self.position = dict.seed, dict.epoch, dict.position
  self:hold()
end

return Loader
