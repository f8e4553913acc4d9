-- LazyConv3d: a Conv3d that learns its number of input channels from the first batch.

local lazy = require "moonlet.nn.lazyconvolution"
local Conv3d = require "moonlet.nn.conv3d"

--- A layer whose input channels are counted at the first forward.
-- @function LazyConv3d(outputs, kernel, given)
-- @int outputs channels of y
-- @param kernel a whole number or {depth, height, width}
-- @tparam ?table given as for Conv3d
-- @usage local moon = require "moonlet"
-- local layer = moon.nn.LazyConv3d(8, 3)
-- layer(moon.zeros(1, 3, 5, 5, 5))
-- assert(layer.weight:size(2) == 3)
return lazy.new_class("LazyConv3d", Conv3d)
