-- The worker thread's half of the loader: a Lua state of its own that builds the dataset and the
-- transform from their origins, then answers one job after the other.
--
--   to the worker     { indices = tensor, seed = number, job = number }
--   from the worker   { job = number, batch = { n, values... } } or { job, problem = text }
-- Tensors go by reference; nothing is copied.

local core = require "moonlet.core"
local origin = require "moonlet.data.origin"
local source = require "moonlet.data.source"

local M = {}

local function answer(pipeline, job)
  local ok, result = pcall(source.batch, pipeline.dataset, pipeline.transform, job.indices,
    job.seed)
  if ok then return { job = job.job, batch = result } end
  return { job = job.job, problem = tostring(result) }
end

--- Runs until told to end; core.worker calls it.
-- @func receive takes the next job; nil once the loader has closed the worker
-- @func send gives an answer
-- @tparam table plain { pipeline = encoded { dataset, transform } }
function M.serve(receive, send, plain)
  core.set_num_threads(1)
  local ok, pipeline = pcall(origin.decode, plain.pipeline)
  for job in receive do
    if ok then
      send(answer(pipeline, job))
    else
      send { job = job.job, problem = tostring(pipeline) }
    end
  end
end

return M
