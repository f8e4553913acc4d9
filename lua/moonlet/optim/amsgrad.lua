-- AMSGrad (Reddi, Kale and Kumar 2018): Adam with the largest second moment so far in its place.

local Adam = require "moonlet.optim.adam"

local AMSGrad = Adam:extend "AMSGrad"

AMSGrad.schema = {}
for name, rule in pairs(Adam.schema) do AMSGrad.schema[name] = rule end
AMSGrad.schema.amsgrad = { "boolean", true }

return AMSGrad
