-- One step of an optimiser whose update is a fused operator: it gets lists of parameters, gradients
-- and state tensors, and moves them all in one pass. Parameters of one group go together whose
-- states agree in everything but tensors, which is all of them as long as none was left out of a
-- step. Costs a look at each parameter's gradient and state.

local core = require "moonlet.core"

local function is_tensor(value) return type(value) == "userdata" end

-- Whether two states have the same plain values, such as `step`, under the same names.
local function agree(a, b)
  for name, value in pairs(a) do
    if not is_tensor(value) and b[name] ~= value then return false end
  end
  for name, value in pairs(b) do
    if not is_tensor(value) and a[name] ~= value then return false end
  end
  return true
end

-- Makes the state tensors that are missing; true if there were such.
local function complete(self, entry, slots)
  local fresh = false
  for _, slot in ipairs(slots) do
    if entry.state[slot] == nil then
      entry.state[slot], fresh = self.zeros(entry.parameter), true
    end
  end
  return fresh
end

-- The batch that an entry belongs to, a new one if need be.
local function batch_of(batches, entry, fresh)
  for _, batch in ipairs(batches) do
    if batch.group == entry.group and batch.fresh == fresh
      and agree(batch.entries[1].state, entry.state) then return batch end
  end
  local batch = { group = entry.group, fresh = fresh, entries = {}, parameters = {},
    gradients = {} }
  batches[#batches + 1] = batch
  return batch
end

local function collect(self)
  local batches, optional = {}, {}
  for _, group in ipairs(self.groups) do optional[group] = self.optional_slots(group) end
  for _, entry in ipairs(self.entries) do
    local gradient = not core.is_lazy(entry.parameter) and entry.parameter.grad
    if gradient then
      entry.state = entry.state or self:fresh_state(entry.parameter, entry.group)
      local batch = batch_of(batches, entry, complete(self, entry, optional[entry.group]))
      local n = #batch.entries + 1
      batch.entries[n], batch.parameters[n], batch.gradients[n] = entry, entry.parameter, gradient
    end
  end
  return batches
end

-- The states of a batch as one: lists in place of tensors.
local function joined(batch)
  local state = {}
  for name, value in pairs(batch.entries[1].state) do
    state[name] = value
    if is_tensor(value) then
      state[name] = {}
      for i, entry in ipairs(batch.entries) do state[name][i] = entry.state[name] end
    end
  end
  state.fresh = batch.fresh
  return state
end

-- Gives the plain values back that the update has changed.
local function part(batch, state)
  state.fresh = nil
  state.step = state.step + 1
  for _, entry in ipairs(batch.entries) do
    for name, value in pairs(state) do
      if type(value) ~= "table" then entry.state[name] = value end
    end
  end
end

return function(self)
  for _, batch in ipairs(collect(self)) do
    local state = joined(batch)
    self:update(batch.parameters, batch.gradients, batch.group, state)
    part(batch, state)
  end
end
