-- BatchNorm2d: batch normalisation of pictures. x (n, c, h, w); see batchnorm.lua.

return require "moonlet.nn.batchnorm"("BatchNorm2d", { [4] = true },
  "(n, channels, height, width)")
