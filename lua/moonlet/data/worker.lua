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

local function answer(pipeline, job, send)
  local ok, result = pcall(source.batch, pipeline.dataset, pipeline.transform, job.indices,
    job.seed)
  if ok then
    send { job = job.job, batch = result }
  else
    send { job = job.job, problem = tostring(result) }
  end
end

-- Takes one job and answers it; false once there are no more. In a scope where that is allowed:
-- what was sent belongs to the loader's state, and nothing of it here waits for a collection.
local function serve_one(receive, send, pipeline)
  local job = receive()
  if not job then return false end
  answer(pipeline, job, send)
  return true
end

--- Runs until told to end; core.worker calls it.
-- @func receive takes the next job; nil once the loader has closed the worker
-- @func send gives an answer
-- @tparam table plain { pipeline = encoded { dataset, transform } }
function M.serve(receive, send, plain)
  core.set_num_threads(1)
  local ok, pipeline = pcall(origin.decode, plain.pipeline)
  if not ok then
    for job in receive do send { job = job.job, problem = tostring(pipeline) } end
    return
  end
  local scoped = source.keeps_nothing(pipeline.dataset, pipeline.transform)
  repeat
    local more
    if scoped then
      more = core.scope(serve_one, receive, send, pipeline)
    else
      more = serve_one(receive, send, pipeline)
    end
  until not more
end

return M
