-- A batch from a dataset: what the loader runs in its own state when it has no workers, and what
-- each worker runs. Everything random in it depends on the seed given, so both give the same bits.

local core = require "moonlet.core"
local collate = require "moonlet.data.collate"
local pack = require("moonlet.values").pack

local M = {}

local function gather(dataset, indices)
  if dataset.batch then return pack(dataset:batch(indices)) end
  local samples = {}
  for i, position in ipairs(indices:totable()) do samples[i] = pack(dataset:get(position)) end
  return collate(samples)
end

local function build(dataset, transform, indices)
  local batch = gather(dataset, indices)
  if transform then batch[1] = transform(batch[1]) end
  return batch
end

--- May a scope be put round the building of batches? Only where all of it is known to keep nothing.
function M.keeps_nothing(dataset, transform)
  if not dataset.keeps_nothing then return false end
  return transform == nil or type(transform) == "table" and transform.keeps_nothing or false
end

local function build_scoped(...) return core.scope(build, ...) end

--- Builds one batch: { n = count, values... }.
-- @param dataset
-- @param transform of the batch's first value, or nil
-- @tparam tensor indices int64 positions
-- @int seed of this batch's random draws; the state's own stream is put back afterwards
function M.batch(dataset, transform, indices, seed)
  local stream = core.get_rng_state()
  core.manual_seed(seed)
  local maker = M.keeps_nothing(dataset, transform) and build_scoped or build
  local ok, batch = pcall(core.no_grad, maker, dataset, transform, indices)
  core.set_rng_state(stream)
  if not ok then error(batch, 0) end
  return batch
end

-- Multiplier and modulus of a Lehmer generator: products stay under 2^53, exact in every Lua.
local MULTIPLIER, MODULUS = 48271, 2147483647

--- Mixes whole numbers into a seed below 2^31.
function M.mix(...)
  local hash = 1
  for i = 1, select("#", ...) do
    local value = select(i, ...) % MODULUS
    hash = (hash * MULTIPLIER + value + 1) % MODULUS
    hash = (hash * MULTIPLIER + 11) % MODULUS
  end
  return math.floor(hash)
end

return M
