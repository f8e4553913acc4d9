-- LocallyConnected1d: as Conv1d, but with a kernel of its own at every position.
-- x (n, in, length), weight (positions, out, in, kernel), bias (out, positions), y (n, out,
-- positions)

local LocallyConnected = require "moonlet.nn.locallyconnected"

--- A locally connected layer; weights start uniform in +-1/sqrt(in * kernel).
-- @function LocallyConnected1d(inputs, outputs, size, kernel, given)
-- @int inputs channels of x
-- @int outputs channels of y
-- @int size length of x
-- @int kernel length of the kernels
-- @tparam ?table given stride = 1, padding = 0 (as for Conv1d), dilation = 1, bias = true,
-- dtype = "float32"
-- @usage local moon = require "moonlet"
-- local layer = moon.nn.LocallyConnected1d(2, 4, 10, 3)
-- assert(layer(moon.zeros(1, 2, 10)):size(3) == 8)
return LocallyConnected.new_class("LocallyConnected1d", 1)
