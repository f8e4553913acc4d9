-- CReLU: relu(x) and relu(-x) side by side, along the channels (dimension 2) unless given (Shang et
-- al. 2016). y has twice x's size there.

--- nn.CReLU(dim = 2).
-- @function nn.CReLU(dim)
-- @usage assert(moon.nn.CReLU()(moon.ones(1, 3, 2, 2)):size(2) == 6)
return require "moonlet.nn.along_dim"("CReLU", "crelu", 2)
