-- topk: the part of samples whose label is among their k highest scores.

local core = require "moonlet.core"

local function measure(scores, labels, k)
  local count = labels:numel()
  if count == 0 then return 0 end
  local _, places = scores:topk(k, 2)
  return places:eq(labels:unsqueeze(2)):sum():item() / count
end

--- Part of samples whose label is among the k highest scores, 0 to 1.
-- @tparam tensor scores (n, classes)
-- @tparam tensor labels (n) int64 from 1
-- @int k how many scores count
-- @usage local moon = require "moonlet"
-- assert(moon.metrics.topk(moon.tensor { { 3, 2, 1 } },
--   moon.tensor({ 2 }, { dtype = "int64" }), 2) == 1)
return function(scores, labels, k)
  return core.scope(core.no_grad, measure, scores, labels, k)
end
