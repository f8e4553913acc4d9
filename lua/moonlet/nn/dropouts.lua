-- Dropout and its kin, one row each: the layer's name and its operator. In training, elements are
-- dropped with probability p: single ones (Dropout), whole channels (Dropout1d to 3d), whole
-- samples (DropPath), or to the value that selu saturates at (AlphaDropout, and
-- FeatureAlphaDropout for channels). The rest is scaled so that the mean stays; in evaluation
-- y = x.

local core = require "moonlet.core"
local options = require "moonlet.options"
local Module = require "moonlet.nn.module"

local rows = {
  Dropout = "dropout",
  Dropout1d = "dropout1d",
  Dropout2d = "dropout2d",
  Dropout3d = "dropout3d",
  AlphaDropout = "alpha_dropout",
  FeatureAlphaDropout = "feature_alpha_dropout",
  DropPath = "drop_path",
}

--- nn.Dropout(p) and the others drop at random while training.
-- @function nn.Dropout(p)
-- @number[opt=0.5] p the probability of being dropped
-- @usage local x = moon.ones(1, 2, 2, 2)
-- assert(moon.nn.Dropout(0.5):eval()(x):sum():item() == 8)
-- assert(moon.nn.Dropout2d(0.5):eval()(x):sum():item() == 8)
local function make(name, operator)
  local Layer = Module:extend(name)

  function Layer:init(p)
    p = p == nil and 0.5 or options.argument(name, "p", p, "number")
    if not (p >= 0 and p < 1) then
      error(("%s: p must be from 0 up to but not including 1, not %g"):format(name, p), 3)
    end
    self.p = p
  end

  function Layer:forward(x)
    if not self.training or self.p == 0 then return x end
    return core[operator](x, self.p, true)
  end

  function Layer:describe()
    return ("%g"):format(self.p)
  end

  return Layer
end

local M = {}
for name, operator in pairs(rows) do M[name] = make(name, operator) end
return M
