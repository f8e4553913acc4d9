-- Transforms of pictures, for one (c, h, w) and for a whole batch (n, c, h, w) alike, on any
-- device: transforms.pad is data/transforms/pad.lua.

return require "moonlet.lazy"("moonlet.data.transforms")
