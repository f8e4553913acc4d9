-- PairwiseDistance: y = |x1 - x2 + eps|_p along the last dimension. x1 and x2 (..., d), y (...)

local core = require "moonlet.core"
local options = require "moonlet.options"
local Module = require "moonlet.nn.module"

local PairwiseDistance = Module:extend "PairwiseDistance"

local schema = { p = { "number", 2 }, eps = { "number", 1e-6 }, keepdim = { "boolean", false } }

--- The distance of vectors.
-- @tparam ?table given p = 2, eps = 1e-6, keepdim = false
-- @usage local d = moon.nn.PairwiseDistance { p = 1 } (moon.ones(4, 3), moon.zeros(4, 3))
-- assert(math.abs(d[1] - 3) < 1e-4)
function PairwiseDistance:init(given)
  local o = options.read("PairwiseDistance", given, schema)
  self.p, self.eps, self.keepdim = o.p, o.eps, o.keepdim
end

function PairwiseDistance:forward(x1, x2)
  return core.pairwise_distance(x1, x2, self.p, self.eps, self.keepdim)
end

function PairwiseDistance:describe()
  return ("p = %g"):format(self.p)
end

return PairwiseDistance
