-- CosineSimilarity: y = x1 . x2 / (|x1| |x2|) along one dimension, each length at least eps.

local core = require "moonlet.core"
local options = require "moonlet.options"
local Module = require "moonlet.nn.module"

local CosineSimilarity = Module:extend "CosineSimilarity"

--- The cosine of the angle between vectors.
-- @tparam ?table given dim = 2, along which the vectors lie; eps = 1e-8
-- @usage local cos = moon.nn.CosineSimilarity()(moon.ones(4, 3), moon.ones(4, 3))
-- assert(math.abs(cos[1] - 1) < 1e-6)
function CosineSimilarity:init(given)
  local o = options.read("CosineSimilarity", given,
    { dim = { "integer", 2 }, eps = { "number", 1e-8 } })
  self.along, self.eps = o.dim, o.eps
end

function CosineSimilarity:forward(x1, x2)
  return core.cosine_similarity(x1, x2, self.along, self.eps)
end

function CosineSimilarity:describe()
  return ("dim = %d"):format(self.along)
end

return CosineSimilarity
