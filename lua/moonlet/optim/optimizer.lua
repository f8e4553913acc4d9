-- Optimizer: what every optimiser shares. Parameter groups with options of their own, one state
-- table a parameter, made at the first step that has a gradient, and a flat state dictionary.
--
-- A subclass names its options (`schema`), its state tensors (`slots`) and writes
-- update(parameter, gradient, group, state), with state.step counting from 0. A step is whole
-- towards Ctrl-C: an interrupt that arrives in the middle is heard by the first operator after it.
-- Classes whose update is a fused operator say `sweeps` and get lists there (optim/sweep.lua): one
-- call moves all parameters. Those that write their formula with operators say `temporaries` and
-- get a scope for each parameter, so that at most one parameter's temporaries live at a time.

local core = require "moonlet.core"
local options = require "moonlet.options"
local Class = require "moonlet.class"
local capture = require "moonlet.capture"
local adopt = require "moonlet.optim.adopt"
local sweep = require "moonlet.optim.sweep"

local Optimizer = Class:extend "Optimizer"

Optimizer.schema = { lr = { "from_zero", 0.01 } }
Optimizer.slots = {}            -- state tensors like the parameter, zero at first
Optimizer.wants_closure = false -- does step need a closure, which it may call several times?
Optimizer.temporaries = false   -- does `update` make tensors that it drops?
Optimizer.sweeps = false        -- does `update` take lists, and see to maximize by itself?

--- The options of a subclass: `own`, and over them what every optimiser takes (maximize).
function Optimizer.options(own)
  own.maximize = own.maximize or { "boolean", false }
  return own
end

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
  self.groups, self.entries, self.defaults = {}, {}, given or {}
  for _, group in ipairs(as_groups(self, params, 4)) do
    self.groups[#self.groups + 1] = read_group(self, group, self.defaults, 4)
  end
  number_parameters(self, 4)
end

--- Adds a group of parameters in the middle of a run: what was frozen and now trains.
-- @tparam table group { params = {...}, option = value, ... }; options left out take the defaults
-- that the optimiser was made with
-- @usage local moon = require "moonlet"
-- local body, head = moon.nn.Linear(2, 2), moon.nn.Linear(2, 1)
-- local opt = moon.optim.SGD(head:parameters(), { lr = 0.1 })
-- opt:add_group { params = body:parameters(), lr = 0.01 }
-- assert(opt.groups[2].lr == 0.01)
function Optimizer:add_group(group)
  check(self, "add_group")
  if type(group) ~= "table" or type(group.params) ~= "table" then
    error(("%s: a group is a table with params"):format(self.class_name), 2)
  end
  local made = read_group(self, group, self.defaults, 3)
  local seen = {}
  for _, entry in ipairs(self.entries) do seen[entry.parameter] = true end
  for _, parameter in ipairs(made.params) do
    if seen[parameter] then
      error(("%s: a parameter of the new group is trained already"):format(self.class_name), 2)
    end
    seen[parameter] = true
  end
  self.groups[#self.groups + 1] = made
  for _, parameter in ipairs(made.params) do
    self.entries[#self.entries + 1] = { parameter = parameter, group = made }
  end
end

--- Drops every gradient.
function Optimizer:zero_grad()
  check(self, "zero_grad")
  for _, entry in ipairs(self.entries) do drop_gradient(entry.parameter) end
end

--- A state tensor: zeros like the parameter, kept alive across scopes.
function Optimizer.zeros(parameter)
  return core.keep(core.zeros_like(parameter))
end

--- The gradient with the weight decay added, as the coupled optimisers have it.
function Optimizer.decayed(parameter, gradient, group)
  if group.weight_decay == 0 then return gradient end
  return gradient + parameter * group.weight_decay
end

--- State tensors that the group's options ask for besides `slots`; zero at first too.
function Optimizer.optional_slots() return {} end

--- Replaced by classes that need more than zeroed slots.
function Optimizer:fresh_state(parameter)
  local state = { step = 0 }
  for _, slot in ipairs(self.slots) do state[slot] = self.zeros(parameter) end
  return state
end

local function update_one(self, entry, gradient)
  if entry.group.maximize then gradient = -gradient end
  self:update(entry.parameter, gradient, entry.group, entry.state)
end

local function update_each(self)
  for _, entry in ipairs(self.entries) do
    local gradient = not core.is_lazy(entry.parameter) and entry.parameter.grad
    if gradient then
      entry.state = entry.state or self:fresh_state(entry.parameter, entry.group)
      if self.temporaries or entry.group.maximize then
        core.scope(update_one, self, entry, gradient)
      else
        update_one(self, entry, gradient)
      end
      entry.state.step = entry.state.step + 1
    end
  end
end

--- Moves every parameter that has a gradient.
-- @tparam ?function closure drops the gradients, calculates the loss, calls backward, returns the
-- loss; run first where it is given
-- @return the closure's loss
function Optimizer:step(closure)
  check(self, "step")
  if not self.sweeps then capture.refuse(self.class_name) end
  local loss = closure and self:evaluate(closure)
  core.uninterrupted(core.no_grad, self.sweeps and sweep or update_each, self)
  capture.step(self)
  return loss
end

--- Runs a closure with the tape on; for subclasses.
function Optimizer:evaluate(closure)
  options.argument(self.class_name, "closure", closure, "callable", 4)
  return core.enable_grad(function() return closure() end)
end

--- The learning rate of the first group.
function Optimizer:lr()
  check(self, "lr")
  return self.groups[1].lr
end

local function is_plain(value)
  return type(value) == "number" or type(value) == "boolean" or type(value) == "string"
end

-- What the states hold besides tensors (counts, products), a table for each parameter; for those
-- who learn only after a step that it was not made.
function Optimizer:plain_state()
  local list = {}
  for i, entry in ipairs(self.entries) do
    list[i] = {}
    for name, value in pairs(entry.state or {}) do
      if is_plain(value) then list[i][name] = value end
    end
  end
  return list
end

-- Puts back what plain_state gave.
function Optimizer:restore_plain_state(list)
  for i, entry in ipairs(self.entries) do
    for name, value in pairs(entry.state or {}) do
      if is_plain(value) then entry.state[name] = list[i][name] end
    end
  end
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

local function misfit_groups(self, dict)
  local count = #self.groups
  local function is_there(g) return dict[("groups.%d.lr"):format(g)] ~= nil end
  if not is_there(count) or is_there(count + 1) then
    return ("this %s has %d groups of parameters, the state has %s"):format(
      self.class_name, count, is_there(count + 1) and "more" or "fewer")
  end
end

--- Whether load_state_dict can take a state; for it and its like in subclasses.
-- @treturn ?string the sentence that says why not
function Optimizer:misfit(dict)
  if dict.kind ~= self.class_name or dict.parameters ~= #self.entries then
    return ("this is %s with %d parameters, the state is of %s with %s"):format(
      self.class_name, #self.entries, tostring(dict.kind), tostring(dict.parameters))
  end
  return misfit_groups(self, dict) or adopt.misfit(dict, "^state%.(%d+)%.", function(i)
    return self.entries[i] and self.entries[i].parameter
  end)
end

-- The state of each entry that there is one of: { name = value }, the dict's own values.
local function read_states(self, dict)
  local states = {}
  for key, value in pairs(dict) do
    local number, name = key:match("^state%.(%d+)%.(.+)$")
    local i = tonumber(number)
    if i and self.entries[i] then
      states[i] = states[i] or {}
      states[i][name] = value
    end
  end
  return states
end

-- Tensors of another run's state, in the type and on the device that the parameter has now.
local function adopt_state(entry, state)
  for name, value in pairs(state) do
    if core.is_tensor(value) then
      if not core.is_lazy(entry.parameter) then value = value:to(entry.parameter) end
      state[name] = adopt.tensor(entry.state and entry.state[name], value)
    end
  end
end

local function load_groups(self, dict)
  for g, group in ipairs(self.groups) do
    for name in pairs(self.schema) do
      local value = dict[("groups.%d.%s"):format(g, name)]
      if value ~= nil then group[name] = value end
    end
    group.initial_lr = dict[("groups.%d.initial_lr"):format(g)] or group.initial_lr
  end
end

--- Takes what a state holds that `misfit` has nothing against; for load_state_dict.
function Optimizer:take_state(dict)
  local states = read_states(self, dict)
  load_groups(self, dict)
  for i, entry in ipairs(self.entries) do
    if states[i] then adopt_state(entry, states[i]) end
    entry.state = states[i]
  end
end

--- Takes the state of another run; tensors are copied. One that does not fit changes nothing.
function Optimizer:load_state_dict(dict)
  check(self, "load_state_dict")
  options.argument("load_state_dict", "state", dict, "table", 3)
  local problem = self:misfit(dict)
  if problem then error("load_state_dict: " .. problem, 2) end
  self:take_state(dict)
end

return Optimizer
