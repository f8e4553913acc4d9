-- LazyConvTranspose1d: a ConvTranspose1d that learns its number of input channels from the first
-- batch.

local lazy = require "moonlet.nn.lazyconvolution"
local ConvTranspose1d = require "moonlet.nn.convtranspose1d"

--- A layer whose input channels are counted at the first forward.
-- @function LazyConvTranspose1d(outputs, kernel, given)
-- @int outputs channels of y
-- @param kernel a whole number
-- @tparam ?table given as for ConvTranspose1d
-- @usage local moon = require "moonlet"
-- local layer = moon.nn.LazyConvTranspose1d(8, 3)
-- layer(moon.zeros(1, 3, 5))
-- assert(layer.weight:size(1) == 3)
return lazy.new_class("LazyConvTranspose1d", ConvTranspose1d)
