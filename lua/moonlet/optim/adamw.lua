-- AdamW (Loshchilov and Hutter 2019): Adam with p = p - lr weight_decay p apart from the gradient.

local Adam = require "moonlet.optim.adam"

local AdamW = Adam:extend "AdamW"

AdamW.schema = {}
for name, rule in pairs(Adam.schema) do AdamW.schema[name] = rule end
AdamW.schema.weight_decay = { "from_zero", 0.01 }
AdamW.decoupled = true

return AdamW
