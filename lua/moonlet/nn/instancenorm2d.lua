-- InstanceNorm2d: instance normalisation. x (n, c, height, width); see instancenorm.lua.

--- nn.InstanceNorm2d(channels, options).
-- @function nn.InstanceNorm2d(channels, given)
-- @int channels of x
-- @tparam ?table given eps = 1e-5, momentum = 0.1, affine = false, track_running_stats = false,
-- dtype = "float32"
-- @usage assert(moon.nn.InstanceNorm2d(3)(moon.randn(2, 3, 4, 4)):mean():abs():item() < 1e-4)
return require "moonlet.nn.instancenorm"("InstanceNorm2d", 4,
  "(n, channels, height, width)")
