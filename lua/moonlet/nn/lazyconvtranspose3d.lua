-- LazyConvTranspose3d: a ConvTranspose3d that learns its number of input channels from the first
-- batch.

local lazy = require "moonlet.nn.lazyconvolution"
local ConvTranspose3d = require "moonlet.nn.convtranspose3d"

--- A layer whose input channels are counted at the first forward.
-- @function LazyConvTranspose3d(outputs, kernel, given)
-- @int outputs channels of y
-- @param kernel a whole number or {depth, height, width}
-- @tparam ?table given as for ConvTranspose3d
-- @usage local moon = require "moonlet"
-- local layer = moon.nn.LazyConvTranspose3d(8, 3)
-- layer(moon.zeros(1, 3, 5, 5, 5))
-- assert(layer.weight:size(1) == 3)
return lazy.new_class("LazyConvTranspose3d", ConvTranspose3d)
