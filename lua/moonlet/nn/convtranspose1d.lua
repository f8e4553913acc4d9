-- ConvTranspose1d: transposed convolution along a signal, which enlarges.
-- x (n, in, length), weight (in, out / groups, kernel), bias (out),
-- y (n, out, (length - 1) stride - 2 padding + dilation (kernel - 1) + output padding + 1)

local Convolution = require "moonlet.nn.convolution"

--- A transposed convolution layer; weights start uniform in +-1/sqrt(out / groups * kernel).
-- @function ConvTranspose1d(inputs, outputs, kernel, given)
-- @int inputs channels of x
-- @int outputs channels of y
-- @param kernel a whole number
-- @tparam ?table given stride = 1, padding = 0 (as for Conv1d, but not "same"), output_padding = 0,
-- dilation = 1, groups = 1, bias = true, dtype = "float32"
-- @usage local moon = require "moonlet"
-- local up = moon.nn.ConvTranspose1d(1, 8, 4, { stride = 2, padding = 1 })
-- assert(up(moon.zeros(2, 1, 5)):size(3) == 10)
return Convolution.new_class("ConvTranspose1d", 1, true)
