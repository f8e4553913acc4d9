-- Conv2d: cross-correlation over height and width.
-- x (n, in, h, w), weight (out, in / groups, kh, kw), bias (out),
-- y (n, out, (h + 2 padding - dilation (kh - 1) - 1) / stride + 1, ...)

local Convolution = require "moonlet.nn.convolution"

--- A convolution layer; weights start uniform in +-1/sqrt(fan in).
-- @function Conv2d(inputs, outputs, kernel, given)
-- @int inputs channels of x
-- @int outputs channels of y
-- @param kernel a whole number or {height, width}
-- @tparam ?table given stride = 1, padding = 0 (a number, one or {before, after} a dimension,
-- "same", "valid" or "full"), dilation = 1, groups = 1, bias = true, padding_mode = "zeros"
-- ("reflect", "replicate", "circular"), dtype = "float32"
-- @usage local moon = require "moonlet"
-- local y = moon.nn.Conv2d(1, 8, 3, { padding = 1 })(moon.zeros(2, 1, 5, 5))
-- assert(y:size(2) == 8 and y:size(3) == 5)
return Convolution.new_class("Conv2d", 2, false)
