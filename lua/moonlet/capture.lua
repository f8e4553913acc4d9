-- What a CUDA graph that is being recorded has to do again on the host before each of its runs:
-- optimisers and schedules enter their steps here (moonlet.cuda.graph reads them), and what decides
-- on the host in a way that cannot be done again refuses.
local capture = { steps = nil }   -- a list while a graph is recorded

-- Notes that object:step() was called, where a graph is recorded.
-- @tparam table object an optimiser or a schedule
function capture.step(object)
  local steps = capture.steps
  if steps then steps[#steps + 1] = object end
end

-- Fails where a graph is recorded.
-- @string what "Lookahead"
function capture.refuse(what)
  if not capture.steps then return end
  error(what .. " cannot be part of a CUDA graph: its steps differ in what the host makes of them",
    0)
end

return capture
