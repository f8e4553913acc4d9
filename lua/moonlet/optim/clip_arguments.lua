-- What clip_grad_norm, clip_grad_value and max_norm take: a list of parameters, where a net would
-- be a list of none and go by in silence, and a limit from 0, which may be infinite.

local core = require "moonlet.core"
local options = require "moonlet.options"

--- Fails with a sentence unless the arguments are such.
-- @string owner who asks, the first word of the message
-- @param params what was passed
-- @param limit likewise
-- @usage local params = require "moonlet".nn.Linear(1, 1):parameters()
-- require "moonlet.optim.clip_arguments"("clip", params, math.huge)
return function(owner, params, limit)
  if type(params) ~= "table" or getmetatable(params) ~= nil then
    error(("%s: the first argument is a list of parameters, as net:parameters() gives, not %s")
      :format(owner, options.show(params)), 3)
  end
  for i, parameter in ipairs(params) do
    if not core.is_tensor(parameter) then
      error(("%s: parameter %d must be a tensor, not %s"):format(
        owner, i, options.show(parameter)), 3)
    end
  end
  if type(limit) ~= "number" or limit < 0 or limit ~= limit then
    error(("%s: limit must be a number from 0, not %s"):format(owner, options.show(limit)), 3)
  end
end
