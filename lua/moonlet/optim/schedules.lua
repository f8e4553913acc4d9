-- Schedules: what SequentialLR and ChainedScheduler share, schedules made of others. All belong to
-- one optimiser; the parts' states lie under "1.", "2.", ... in the whole's.

local Class = require "moonlet.class"
local Schedule = require "moonlet.optim.schedule"

local Schedules = Schedule:extend "Schedules"

--- Takes the parts; called by an init.
function Schedules:take(parts)
  local name = self.class_name
  if type(parts) ~= "table" or #parts == 0 then
    error(name .. ": the first argument is a list of schedules", 4)
  end
  for i, part in ipairs(parts) do
    if not Class.is_instance(part, Schedule) then
      error(("%s: part %d is no schedule"):format(name, i), 4)
    end
    if part.wants_metric then
      error(("%s: %s wants a metric and must be stepped by itself"):format(
        name, part.class_name), 4)
    end
    if part.optimizer ~= parts[1].optimizer then
      error(("%s: part %d belongs to another optimiser than part 1"):format(name, i), 4)
    end
  end
  self.parts, self.per_batch = parts, parts[1].per_batch
end

function Schedules:state_dict()
  local dict = Schedule.state_dict(self)
  for i, part in ipairs(self.parts) do
    for name, value in pairs(part:state_dict()) do dict[("%d.%s"):format(i, name)] = value end
  end
  return dict
end

function Schedules:load_state_dict(dict)
  Schedule.load_state_dict(self, dict)
  for i, part in ipairs(self.parts) do
    local own, prefix = {}, i .. "."
    for name, value in pairs(dict) do
      if name:sub(1, #prefix) == prefix then own[name:sub(#prefix + 1)] = value end
    end
    part:load_state_dict(own)
  end
end

return Schedules
