-- accuracy: the part of samples whose highest score is at their label.

local core = require "moonlet.core"

local function measure(scores, labels)
  local count = labels:numel()
  if count == 0 then return 0 end
  return scores:argmax(2):eq(labels):sum():item() / count
end

--- Part of samples that are right, 0 to 1.
-- @tparam tensor scores (n, classes)
-- @tparam tensor labels (n) int64 from 1
-- @usage local moon = require "moonlet"
-- assert(moon.metrics.accuracy(moon.tensor { { 0, 1 }, { 2, 0 } },
--   moon.tensor({ 2, 2 }, { dtype = "int64" })) == 0.5)
return function(scores, labels)
  return core.scope(core.no_grad, measure, scores, labels)
end
