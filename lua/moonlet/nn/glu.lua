-- GLU: the first half along a dimension, gated by the sigmoid of the second; the last dimension
-- unless given (Dauphin et al. 2017). y has half of x's size there.

--- nn.GLU(dim = -1).
-- @function nn.GLU(dim)
-- @usage assert(moon.nn.GLU()(moon.ones(2, 6)):size(2) == 3)
return require "moonlet.nn.along_dim"("GLU", "glu", -1)
