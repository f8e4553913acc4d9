-- What stands for a GradScaler in a CUDA graph: the factor lies on the device, where it is written
-- before a run if it has moved; gradients are searched in the run, and the kernels of the
-- optimiser's step do nothing where one is infinite or NaN. The host makes the step's counts before
-- the run, reads after it (and so waits for it) whether it was made, and takes them back if not.
--
-- The factor's place on the device is made by the calls of `scaled` before one is recorded: memory
-- that is taken while recording may serve for something else earlier in the run.

local core = require "moonlet.core"
local Class = require "moonlet.class"
local unscale = require "moonlet.amp.unscale"

local RecordedScaler = Class:extend "RecordedScaler"

function RecordedScaler:init(scaler, graph)
  self.scaler, self.graph = scaler, graph
  self.unscaled = {}   -- optimiser -> what `divide` gave, until its step
  self.steps = {}      -- { optimizer, found, before: its plain state before the last run's step }
end

-- Makes the places of the factor and its inverse on a device; float64, as numbers are.
function RecordedScaler.make_place(scaler, device)
  if scaler.places[device] or not device:find "^cuda" then return end
  local given = { dtype = "float64", device = device }
  scaler.places[device] = {
    scale = core.keep(core.zeros({}, given)), inverse = core.keep(core.zeros({}, given)),
  }
end

local function factor_for(self, name, tensor)
  self.place = self.scaler.places[tensor.device]
  if not self.place then
    error("GradScaler: call scaled once on " .. tensor.device .. " before it is part of a graph", 0)
  end
  return self.place[name]:to(tensor.dtype)
end

function RecordedScaler:factor(loss) return factor_for(self, "scale", loss) end

-- The tensor that tells each run whether a gradient is infinite or NaN; true without gradients.
function RecordedScaler:divide(optimizer)
  local inverses = {}
  local function inverse_for(gradient)
    local dtype = gradient.dtype
    inverses[dtype] = inverses[dtype] or factor_for(self, "inverse", gradient)
    return inverses[dtype]
  end
  local found = unscale(optimizer, inverse_for)
  return found and core.keep(found) or true
end

function RecordedScaler:step_if(found, optimizer)
  local before = optimizer:plain_state()
  local function step() optimizer:step() end
  if found == true then step() else core.cuda_graph_unless(self.graph, found, step) end
  self.steps[#self.steps + 1] = { optimizer = optimizer, found = found, before = before }
  return true
end

function RecordedScaler:before_run(again)
  local scale, place = self.scaler.scale, self.place
  if place and place.written ~= scale then
    place.scale:fill_(scale)
    place.inverse:fill_(1 / scale)
    place.written = scale
  end
  if not again then return end
  for _, step in ipairs(self.steps) do step.before = step.optimizer:plain_state() end
end

function RecordedScaler:after_run()
  for _, step in ipairs(self.steps) do
    local made = step.found == true or step.found:item() == 0
    if not made then step.optimizer:restore_plain_state(step.before) end
    self.scaler:move(made)
  end
end

return RecordedScaler
