-- Optimizer: what every optimiser shares. Parameter groups with options of their own, one state
-- table a parameter, made at the first step that has a gradient, and a flat state dictionary.
--
-- A subclass names its options (`schema`), its state tensors (`slots`) and writes
-- update(parameter, gradient, group, state). A step is whole towards Ctrl-C: an interrupt that
-- arrives in the middle is heard by the first operator after it. The fused updates make no
-- temporary tensors, so a step opens no scope.

local core = require "moonlet.core"
local options = require "moonlet.options"
local Class = require "moonlet.class"

local Optimizer = Class:extend "Optimizer"

Optimizer.schema = { lr = { "number", 0.01 } }
Optimizer.slots = {}            -- state tensors like the parameter, zero at first
Optimizer.optional_slots = {}   -- state tensors that `update` makes when it needs them

local function check(self, method) Class.check_self(self, Optimizer, method, "optimizer") end

-- A lazy layer's parameter has no shape before its first forward; until then it has no gradient.
local function is_parameter(value)
  return core.is_tensor(value) and (core.is_lazy(value) or value.is_leaf)
end

local function drop_gradient(parameter)
  if not core.is_lazy(parameter) then parameter.grad = nil end
end

-- Reads one group: { params = {...}, option = value, ... } over the optimiser's own options.
local function read_group(self, group, shared, level)
  local given = {}
  for name, value in pairs(shared) do given[name] = value end
  for name, value in pairs(group) do
    if name ~= "params" then given[name] = value end
  end
  local result = options.read(self.class_name, given, self.schema, level + 1)
  local problem = self.check_group and self.check_group(result)
  if problem then error(("%s: %s"):format(self.class_name, problem), level) end
  result.params = {}
  for i, parameter in ipairs(group.params) do
    if not is_parameter(parameter) then
      error(("%s: parameter %d is %s; only leaf tensors can be trained"):format(
        self.class_name, i, options.show(parameter)), level)
    end
    result.params[i] = parameter
  end
  return result
end

local function as_groups(self, params, level)
  if type(params) ~= "table" or getmetatable(params) ~= nil then
    error(("%s: the first argument is a list of parameters, as net:parameters() gives"):format(
      self.class_name), level)
  end
  if type(params[1]) == "table" then
    for i, group in ipairs(params) do
      if type(group) ~= "table" or type(group.params) ~= "table" then
        error(("%s: group %d has no params"):format(self.class_name, i), level)
      end
    end
    return params
  end
  if #params == 0 then
    error(("%s: there are no parameters to train"):format(self.class_name), level)
  end
  return { { params = params } }
end

-- Numbers the parameters over all groups; the same tensor twice is an error.
local function number_parameters(self, level)
  local seen = {}
  for g, group in ipairs(self.groups) do
    for _, parameter in ipairs(group.params) do
      if seen[parameter] then
        error(("%s: a parameter is given twice (groups %d and %d)"):format(
          self.class_name, seen[parameter], g), level)
      end
      seen[parameter] = g
      self.entries[#self.entries + 1] = { parameter = parameter, group = group }
    end
  end
end

--- Makes an optimiser.
-- @tparam table params a list of parameters, or of groups { params = {...}, lr = ..., ... }
-- @tparam ?table given options for all groups
function Optimizer:init(params, given)
  if given ~= nil then options.read(self.class_name, given, self.schema) end
  self.groups, self.entries = {}, {}
  for _, group in ipairs(as_groups(self, params, 4)) do
    self.groups[#self.groups + 1] = read_group(self, group, given or {}, 4)
  end
  number_parameters(self, 4)
end

--- Drops every gradient.
function Optimizer:zero_grad()
  check(self, "zero_grad")
  for _, entry in ipairs(self.entries) do drop_gradient(entry.parameter) end
end

local function fresh_state(self, parameter)
  local state = { step = 0 }
  for _, slot in ipairs(self.slots) do state[slot] = core.keep(core.zeros_like(parameter)) end
  return state
end

local function update_all(self)
  for _, entry in ipairs(self.entries) do
    local gradient = entry.parameter.grad
    if gradient then
      entry.state = entry.state or fresh_state(self, entry.parameter)
      self:update(entry.parameter, gradient, entry.group, entry.state)
      entry.state.step = entry.state.step + 1
    end
  end
end

--- Moves every parameter that has a gradient.
function Optimizer:step()
  check(self, "step")
  core.uninterrupted(core.no_grad, update_all, self)
end

--- The learning rate of the first group.
function Optimizer:lr()
  check(self, "lr")
  return self.groups[1].lr
end

local function is_plain(value)
  return type(value) == "number" or type(value) == "boolean" or type(value) == "string"
end

--- A flat table of named tensors and plain values: "groups.1.lr", "state.3.momentum".
function Optimizer:state_dict()
  check(self, "state_dict")
  local dict = { kind = self.class_name, parameters = #self.entries }
  for g, group in ipairs(self.groups) do
    for name, value in pairs(group) do
      if is_plain(value) then dict[("groups.%d.%s"):format(g, name)] = value end
    end
  end
  for i, entry in ipairs(self.entries) do
    for name, value in pairs(entry.state or {}) do
      dict[("state.%d.%s"):format(i, name)] = value
    end
  end
  return dict
end

local function check_dict(self, dict)
  if dict.kind ~= self.class_name or dict.parameters ~= #self.entries then
    error(("load_state_dict: this is %s with %d parameters, the state is of %s with %s"):format(
      self.class_name, #self.entries, tostring(dict.kind), tostring(dict.parameters)), 3)
  end
end

local function take_slots(state, slots, dict, prefix)
  for _, slot in ipairs(slots) do
    local tensor = dict[prefix .. slot]
    if tensor then state[slot] = core.keep(tensor:clone()) end
  end
end

--- Takes the state of another run; tensors are copied.
function Optimizer:load_state_dict(dict)
  check(self, "load_state_dict")
  check_dict(self, dict)
  for g, group in ipairs(self.groups) do
    for name in pairs(self.schema) do
      local value = dict[("groups.%d.%s"):format(g, name)]
      if value ~= nil then group[name] = value end
    end
  end
  for i, entry in ipairs(self.entries) do
    local prefix = ("state.%d."):format(i)
    entry.state = nil
    if dict[prefix .. "step"] then
      entry.state = { step = dict[prefix .. "step"] }
      take_slots(entry.state, self.slots, dict, prefix)
      take_slots(entry.state, self.optional_slots, dict, prefix)
    end
  end
end

return Optimizer
