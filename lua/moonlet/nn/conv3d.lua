-- Conv3d: cross-correlation over depth, height and width.
-- x (n, in, d, h, w), weight (out, in / groups, kd, kh, kw), bias (out),
-- y (n, out, (d + 2 padding - dilation (kd - 1) - 1) / stride + 1, ...)

local Convolution = require "moonlet.nn.convolution"

--- A convolution layer; weights start uniform in +-1/sqrt(fan in).
-- @function Conv3d(inputs, outputs, kernel, given)
-- @int inputs channels of x
-- @int outputs channels of y
-- @param kernel a whole number or {depth, height, width}
-- @tparam ?table given stride = 1, padding = 0 (a number, one or {before, after} a dimension,
-- "same", "valid" or "full"), dilation = 1, groups = 1, bias = true, padding_mode = "zeros"
-- ("reflect", "replicate", "circular"), dtype = "float32"
-- @usage local moon = require "moonlet"
-- local y = moon.nn.Conv3d(1, 8, 3, { padding = 1 })(moon.zeros(2, 1, 5, 5, 5))
-- assert(y:size(2) == 8 and y:size(3) == 5)
return Convolution.new_class("Conv3d", 3, false)
