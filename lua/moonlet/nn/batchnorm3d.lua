-- BatchNorm3d: batch normalisation of volumes. x (n, c, d, h, w); see batchnorm.lua.

return require "moonlet.nn.batchnorm"("BatchNorm3d", { [5] = true },
  "(n, channels, depth, height, width)")
