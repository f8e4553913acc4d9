-- LocallyConnected2d: as Conv2d, but with a kernel of its own at every position.
-- x (n, in, h, w), weight (rows, columns, out, in, kh, kw), bias (out, rows, columns), y (n, out,
-- rows, columns)

local LocallyConnected = require "moonlet.nn.locallyconnected"

--- A locally connected layer; weights start uniform in +-1/sqrt(in * kh * kw).
-- @function LocallyConnected2d(inputs, outputs, size, kernel, given)
-- @int inputs channels of x
-- @int outputs channels of y
-- @param size of x, a whole number or {height, width}
-- @param kernel a whole number or {height, width}
-- @tparam ?table given stride = 1, padding = 0 (as for Conv2d), dilation = 1, bias = true,
-- dtype = "float32"
-- @usage local moon = require "moonlet"
-- local layer = moon.nn.LocallyConnected2d(1, 4, { 8, 6 }, 3)
-- assert(layer(moon.zeros(1, 1, 8, 6)):size(4) == 4)
return LocallyConnected.new_class("LocallyConnected2d", 2)
