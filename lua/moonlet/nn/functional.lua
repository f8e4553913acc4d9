-- nn.functional: every operator under the name PyTorch's users look for. It holds nothing itself;
-- functional.conv2d is moon.conv2d.

local core = require "moonlet.core"

return setmetatable({}, {
  __index = function(functional, name)
    local operator = core[name]
    if operator == nil then
      error(('nn.functional has no "%s"; moon.operators() lists what there is'):format(
        tostring(name)), 2)
    end
    rawset(functional, name, operator)
    return operator
  end,
})
