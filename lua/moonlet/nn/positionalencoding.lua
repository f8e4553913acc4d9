-- PositionalEncoding: y = dropout(x + e), where e[p] holds sin(p w) and cos(p w) at frequencies
-- w = 10000^(-2 i / width), so that a position can be told from its neighbours.
-- x and y (steps, n, width), with batch_first (n, steps, width), for one sequence (steps, width)
-- (Vaswani et al. 2017)

local core = require "moonlet.core"
local options = require "moonlet.options"
local Module = require "moonlet.nn.module"

local PositionalEncoding = Module:extend "PositionalEncoding"

local schema = {
  dropout = { "number", 0 }, batch_first = { "boolean", false }, base = { "number", 10000 },
}

--- Adds sinusoids to a sequence. It holds no parameters and no longest length.
-- @int width features of x, even
-- @tparam ?table given dropout = 0, batch_first = false, base = 10000
-- @usage local moon = require "moonlet"
-- local y = moon.nn.PositionalEncoding(4)(moon.zeros(6, 2, 4))
-- assert(y[{ 1, 2, 2 }] == 1)
function PositionalEncoding:init(width, given)
  options.argument("PositionalEncoding", "width", width, "positive")
  if width % 2 ~= 0 then
    error(("PositionalEncoding: width must be even, not %d"):format(width), 3)
  end
  local o = options.read("PositionalEncoding", given, schema)
  self.width, self.dropout, self.batch_first, self.base = width, o.dropout, o.batch_first, o.base
end

function PositionalEncoding:forward(x)
  self:need_tensor(x)
  local batched = x:dim() == 3
  local steps = x:size(batched and self.batch_first and 2 or 1)
  local encoding = core.positional_encoding(steps, self.width, {
    base = self.base, dtype = x.dtype, device = x.device })
  if batched and not self.batch_first then encoding = encoding:unsqueeze(2) end
  local y = x:add(encoding)
  if self.dropout > 0 and self.training then return core.dropout(y, self.dropout, true) end
  return y
end

function PositionalEncoding:describe()
  return ("%d%s"):format(self.width, self.batch_first and ", batch_first" or "")
end

return PositionalEncoding
