-- BatchNorm2d: batch normalisation of pictures. x (n, c, h, w); see batchnorm.lua.

--- A layer that normalises each channel over the batch. Called as layer(x, { add = shortcut,
-- activation = "relu" }) it adds a tensor of x's shape and applies "relu" or "relu6" in the same
-- pass over memory.
-- @function nn.BatchNorm2d(channels, given)
-- @int channels of x
-- @tparam ?table given eps = 1e-5, momentum = 0.1, affine = true, track_running_stats = true,
-- dtype = "float32"
-- @usage assert(moon.nn.BatchNorm2d(3)(moon.randn(2, 3, 4, 4)):mean():abs():item() < 1e-4)
-- local y = moon.nn.BatchNorm2d(3)(moon.randn(2, 3, 4, 4), { activation = "relu" })
-- assert(y:min():item() == 0)
return require "moonlet.nn.batchnorm"("BatchNorm2d", { [4] = true },
  "(n, channels, height, width)")
