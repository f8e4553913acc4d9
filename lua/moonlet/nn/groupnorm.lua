-- GroupNorm: each group of channels of each sample brought to mean 0 and variance 1, then scaled
-- and shifted by channel (Wu and He 2018). x and y (n, c, ...), weight and bias (c)

local core = require "moonlet.core"
local options = require "moonlet.options"
local Module = require "moonlet.nn.module"
local parameter = require "moonlet.nn.parameter"

local GroupNorm = Module:extend "GroupNorm"

local schema = {
  eps = { "number", 1e-5 }, affine = { "boolean", true }, dtype = { "string", "float32" },
}

--- Normalises groups of channels.
-- @int groups how many; they divide the channels
-- @int channels of x
-- @tparam ?table given eps = 1e-5, affine = true, dtype = "float32"
-- @usage assert(moon.nn.GroupNorm(2, 6)(moon.randn(3, 6, 4, 4)):size(2) == 6)
function GroupNorm:init(groups, channels, given)
  options.argument("GroupNorm", "groups", groups, "positive")
  options.argument("GroupNorm", "channels", channels, "positive")
  if channels % groups ~= 0 then
    error(("GroupNorm: groups = %d must divide the %d channels"):format(groups, channels), 3)
  end
  local o = options.read("GroupNorm", given, schema)
  self.groups, self.channels, self.eps = groups, channels, o.eps
  if o.affine then
    self.weight = parameter(core.ones(channels, { dtype = o.dtype }))
    self.bias = parameter(core.zeros(channels, { dtype = o.dtype }))
  end
end

function GroupNorm:forward(x)
  return core.group_norm(x, self.groups, self.weight, self.bias, self.eps)
end

function GroupNorm:describe()
  return ("%d, %d"):format(self.groups, self.channels)
end

return GroupNorm
