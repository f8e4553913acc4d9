-- LazyConv1d: a Conv1d that learns its number of input channels from the first batch.

local lazy = require "moonlet.nn.lazyconvolution"
local Conv1d = require "moonlet.nn.conv1d"

--- A layer whose input channels are counted at the first forward.
-- @function LazyConv1d(outputs, kernel, given)
-- @int outputs channels of y
-- @param kernel a whole number
-- @tparam ?table given as for Conv1d
-- @usage local moon = require "moonlet"
-- local layer = moon.nn.LazyConv1d(8, 3)
-- layer(moon.zeros(1, 3, 5))
-- assert(layer.weight:size(2) == 3)
return lazy.new_class("LazyConv1d", Conv1d)
