-- Wrapper: an optimiser round another one, whose groups and parameters it shares; schedules and the
-- trainer take it in the other's place. Its state dictionary holds the other's under "base.".

local Class = require "moonlet.class"
local Optimizer = require "moonlet.optim.optimizer"
local adopt = require "moonlet.optim.adopt"

local Wrapper = Optimizer:extend "Wrapper"

--- Wraps an optimiser; called by subclasses' init.
function Wrapper:wrap(base)
  if not Class.is_instance(base, Optimizer) then
    error(self.class_name .. ": the first argument is an optimiser, such as optim.SGD(...)", 4)
  end
  self.base, self.groups, self.entries = base, base.groups, base.entries
end

--- Adds a group to the wrapped optimiser.
function Wrapper:add_group(group)
  Class.check_self(self, Wrapper, "add_group", "optimizer")
  self.base:add_group(group)
end

--- The wrapped optimiser's state and what `own_state` gives.
function Wrapper:state_dict()
  Class.check_self(self, Wrapper, "state_dict", "optimizer")
  local dict = self:own_state()
  dict.kind = self.class_name
  for name, value in pairs(self.base:state_dict()) do dict["base." .. name] = value end
  return dict
end

-- The part of a state that is the wrapped optimiser's.
local function base_of(dict)
  local base = {}
  for name, value in pairs(dict) do
    local inner = name:match("^base%.(.*)$")
    if inner then base[inner] = value end
  end
  return base
end

--- Whether load_state_dict can take a state: its parts, and tensors such as "slow.3".
function Wrapper:misfit(dict)
  if dict.kind ~= self.class_name then
    return ("this is %s, the state is of %s"):format(self.class_name, tostring(dict.kind))
  end
  return self.base:misfit(base_of(dict)) or adopt.misfit(dict, "^%a+%.(%d+)$", function(i)
    return self.entries[i] and self.entries[i].parameter
  end)
end

--- Takes both back.
function Wrapper:take_state(dict)
  self.base:take_state(base_of(dict))
  self:load_own_state(dict)
end

return Wrapper
