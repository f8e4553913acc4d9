-- Maxout: the largest of every `group` neighbouring channels (Goodfellow et al. 2013).
-- x (n, c, ...), y (n, c / group, ...)

local core = require "moonlet.core"
local options = require "moonlet.options"
local Module = require "moonlet.nn.module"

local Maxout = Module:extend "Maxout"

--- Takes maxima over groups of channels.
-- @int group channels that compete
-- @tparam ?table given dim = 2
-- @usage local moon = require "moonlet"
-- assert(moon.nn.Maxout(3)(moon.zeros(2, 6, 4, 4)):size(2) == 2)
function Maxout:init(group, given)
  self.group = options.argument("Maxout", "group", group, "positive")
  self.dim = options.read("Maxout", given, { dim = { "integer", 2 } }).dim
end

function Maxout:forward(x)
  return core.maxout(x, self.group, self.dim)
end

function Maxout:describe()
  return self.dim == 2 and tostring(self.group) or ("%d, dim = %d"):format(self.group, self.dim)
end

return Maxout
