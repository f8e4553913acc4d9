-- Identity: y = x. A placeholder.

local Module = require "moonlet.nn.module"

local Identity = Module:extend "Identity"

function Identity:forward(x) return x end -- luacheck: ignore 212

return Identity
