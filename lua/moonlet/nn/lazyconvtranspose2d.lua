-- LazyConvTranspose2d: a ConvTranspose2d that learns its number of input channels from the first
-- batch.

local lazy = require "moonlet.nn.lazyconvolution"
local ConvTranspose2d = require "moonlet.nn.convtranspose2d"

--- A layer whose input channels are counted at the first forward.
-- @function LazyConvTranspose2d(outputs, kernel, given)
-- @int outputs channels of y
-- @param kernel a whole number or {height, width}
-- @tparam ?table given as for ConvTranspose2d
-- @usage local moon = require "moonlet"
-- local layer = moon.nn.LazyConvTranspose2d(8, 3)
-- layer(moon.zeros(1, 3, 5, 5))
-- assert(layer.weight:size(1) == 3)
return lazy.new_class("LazyConvTranspose2d", ConvTranspose2d)
