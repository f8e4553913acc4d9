-- Hooks of modules: functions that see what goes into a module, what comes out of it, and the
-- gradients on their way back. A module without hooks pays one table lookup a call.
--
-- The gradients are seen by two functions of the tape that pass everything through: one on the
-- results, which notes their gradients, and one on the arguments, which has those of the arguments
-- and calls the hooks. Hooks run outside of moon.scope, and the tensors they are given are kept, so
-- that what a hook stores stays.

local core = require "moonlet.core"
local Class = require "moonlet.class"
local Function = require "moonlet.function"
local profile_calls = require "moonlet.profile.calls"
local unpack = require "moonlet.unpack"

local M = { methods = {} }

local pack = require("moonlet.values").pack

local function keep_all(values)
  for i = 1, values.n do
    if core.is_tensor(values[i]) then core.keep(values[i]) end
  end
end

-- The hooks of one kind as they are now; those called may remove themselves.
local function current(list)
  local now = {}
  for i, registration in ipairs(list) do now[i] = registration end
  return now
end

-- -- gradients

local function call_backward_hooks(watch, gradients)
  local input, output = gradients, watch.grad_output or { n = 0 }
  watch.grad_output = nil
  for _, registration in ipairs(current(watch.hooks)) do
    if registration.fn then
      local new = core.unscoped(registration.fn, watch.module, input, output)
      if core.is_tensor(new) then new = { new } end
      if new ~= nil and type(new) ~= "table" then
        error(("a backward hook of %s returned a %s; it must be a list of gradients or nil"):format(
          watch.module.class_name, type(new)), 0)
      end
      if new then
        input = { n = gradients.n }
        for i = 1, gradients.n do input[i] = new[i] end
      end
    end
  end
  return input
end

local Before = Function:extend "ModuleInput"

function Before.forward(ctx, watch, ...)
  ctx.watch = watch
  for i = 1, select("#", ...) do
    local value = select(i, ...)
    if core.is_tensor(value) and not ctx.needs[i + 1] then ctx:mark_non_differentiable(value) end
  end
  return ...
end

function Before.backward(ctx, ...)
  local gradients = pack(...)
  for i = 1, gradients.n do
    if not ctx.needs[i + 1] then gradients[i] = nil end
  end
  local input = call_backward_hooks(ctx.watch, gradients)
  return nil, unpack(input, 1, gradients.n)
end

local After = Function:extend "ModuleOutput"

function After.forward(ctx, watch, ...)
  ctx.watch = watch
  return ...
end

function After.backward(ctx, ...)
  ctx.watch.grad_output = pack(...)
  if not ctx.watch.taped then call_backward_hooks(ctx.watch, { n = 0 }) end
  return nil, ...
end

-- -- the call

local function call_pre_hooks(module, list, inputs)
  for _, registration in ipairs(current(list)) do
    if registration.fn then
      local new = pack(core.unscoped(registration.fn, module, inputs))
      if new[1] ~= nil then inputs = new end
    end
  end
  return inputs
end

local function call_forward_hooks(module, list, inputs, outputs)
  for _, registration in ipairs(current(list)) do
    if registration.fn then
      local new = pack(core.unscoped(registration.fn, module, inputs,
        unpack(outputs, 1, outputs.n)))
      if new[1] ~= nil then outputs = new end
    end
  end
  return outputs
end

local function call(module, hooks, ...)
  local inputs, watch = pack(...), nil
  if #hooks.pre > 0 or #hooks.forward > 0 then keep_all(inputs) end
  inputs = call_pre_hooks(module, hooks.pre, inputs)
  if #hooks.backward > 0 then
    watch = { module = module, hooks = hooks.backward }
    watch.taped = core.function_needs(unpack(inputs, 1, inputs.n)) ~= nil
    inputs = pack(Before(watch, unpack(inputs, 1, inputs.n)))
  end
  local outputs = pack(module:forward(unpack(inputs, 1, inputs.n)))
  if #hooks.forward > 0 then
    keep_all(outputs)
    outputs = call_forward_hooks(module, hooks.forward, inputs, outputs)
  end
  if watch then return After(watch, unpack(outputs, 1, outputs.n)) end
  return unpack(outputs, 1, outputs.n)
end

--- A module's call where it has hooks, or a profile is taken.
function M.call(module, hooks, ...)
  return profile_calls.run(call, module, hooks, ...)
end

-- -- registering

local function register(module, kind, method, fn)
  local meta = type(fn) == "table" and getmetatable(fn)
  if type(fn) ~= "function" and not (type(meta) == "table" and meta.__call) then
    error(("%s: expected a function, got %s"):format(method, type(fn)), 3)
  end
  local hooks = rawget(module, "_hooks")
  if not hooks then
    hooks = { pre = {}, forward = {}, backward = {} }
    rawset(module, "_hooks", hooks)
  end
  return core.Registration(hooks[kind], fn)
end

local function check(module, method)
  Class.check_self(module, require "moonlet.nn.module", method, "net")
end

--- Calls fn(module, inputs) before each forward; inputs is a list. Values that fn returns take the
-- place of all arguments. Gives an object with :remove().
-- @usage local layer = moon.nn.Linear(2, 1)
-- layer:register_forward_pre_hook(function(_, inputs) return inputs[1] * 0 end)
-- assert(layer(moon.ones(1, 2)):item() == layer.bias:item())
-- @function net:register_forward_pre_hook(fn)
function M.methods:register_forward_pre_hook(fn)
  check(self, "register_forward_pre_hook")
  return register(self, "pre", "register_forward_pre_hook", fn)
end

--- Calls fn(module, inputs, output, ...) after each forward, with all its results. Values that fn
-- returns take the place of all results. Gives an object with :remove().
-- @usage local layer, seen = moon.nn.Linear(2, 3), nil
-- local hook = layer:register_forward_hook(function(_, _, output) seen = output:size(2) end)
-- layer(moon.ones(1, 2))
-- hook:remove()
-- assert(seen == 3)
-- @function net:register_forward_hook(fn)
function M.methods:register_forward_hook(fn)
  check(self, "register_forward_hook")
  return register(self, "forward", "register_forward_hook", fn)
end

--- Calls fn(module, grad_input, grad_output) when the gradients of the arguments are there: lists
-- of gradients by argument and by result. A list that fn returns takes the place of grad_input.
-- Where no argument needs a gradient, fn is called with an empty grad_input. Gives an object with
-- :remove().
-- @usage local layer, seen = moon.nn.Linear(2, 3), nil
-- layer:register_full_backward_hook(function(_, grad_input, grad_output)
--   seen = { grad_input[1]:size(2), grad_output[1]:size(2) }
-- end)
-- layer(moon.ones(1, 2, { requires_grad = true })):sum():backward()
-- assert(seen[1] == 2 and seen[2] == 3)
-- @function net:register_full_backward_hook(fn)
function M.methods:register_full_backward_hook(fn)
  check(self, "register_full_backward_hook")
  return register(self, "backward", "register_full_backward_hook", fn)
end

return M
