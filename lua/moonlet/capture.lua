-- What a CUDA graph that is being recorded has to do again on the host around each of its runs:
-- optimisers and schedules enter their steps here, objects whose values change from run to run
-- their counterparts, and what decides on the host in a way that cannot be done again refuses.
-- moonlet.cuda.graph begins recordings and runs them. A recording is a table:
--
--   graph         what core.cuda_graph_begin gave
--   steps         optimisers and schedules in the order of their steps, which are made again
--   counterparts  what stands for an object in this recording, by the object; and in a list, in the
--                 order in which they were made. Each has before_run(again), where `again` says
--                 that the steps are yet to be made, and after_run()
local capture = {
  recording = nil,   -- the one that is made
  left_out = 0,      -- steps that were not made for their gradients' sake, ever
}

-- Begins a recording.
function capture.begin(graph)
  capture.recording = { graph = graph, steps = {}, counterparts = {} }
  return capture.recording
end

-- Notes that object:step() was called, where a graph is recorded.
-- @tparam table object an optimiser or a schedule
function capture.step(object)
  local recording = capture.recording
  if recording then recording.steps[#recording.steps + 1] = object end
end

-- What stands for an object while a graph is recorded, made at first need; nil otherwise.
-- @tparam table object
-- @func make gives the counterpart of (object, graph)
function capture.counterpart(object, make)
  local recording = capture.recording
  if not recording then return nil end
  local counterparts = recording.counterparts
  if not counterparts[object] then
    counterparts[object] = make(object, recording.graph)
    counterparts[#counterparts + 1] = counterparts[object]
  end
  return counterparts[object]
end

-- Notes that an optimiser's step was left out. A graph is not recorded yet then, since the
-- optimiser's state may not be there.
function capture.leave_out() capture.left_out = capture.left_out + 1 end

-- Fails where a graph is recorded.
-- @string what "Lookahead"
function capture.refuse(what)
  if not capture.recording then return end
  error(what .. " cannot be part of a CUDA graph: its steps differ in what the host makes of them",
    0)
end

return capture
