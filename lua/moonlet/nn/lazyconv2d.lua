-- LazyConv2d: a Conv2d that learns its number of input channels from the first batch.

local lazy = require "moonlet.nn.lazyconvolution"
local Conv2d = require "moonlet.nn.conv2d"

--- A layer whose input channels are counted at the first forward.
-- @function LazyConv2d(outputs, kernel, given)
-- @int outputs channels of y
-- @param kernel a whole number or {height, width}
-- @tparam ?table given as for Conv2d
-- @usage local moon = require "moonlet"
-- local layer = moon.nn.LazyConv2d(8, 3)
-- layer(moon.zeros(1, 3, 5, 5))
-- assert(layer.weight:size(2) == 3)
return lazy.new_class("LazyConv2d", Conv2d)
