-- What the tape calls in Lua: the backward of functions and checkpoints, and hooks on gradients,
-- which are registered here.
--
-- csrc/lua/function.c calls both in the middle of a walk. A payload is what a node stands for; it
-- lives on the tensors from which a backward can reach the node (csrc/lua/carry.c). All of it is
-- added to the core module when init.lua loads this file.

local core = require "moonlet.core"
local Class = require "moonlet.class"

-- payload: what core.function_record was given; it brings its own `run`.
local function run_function(payload, saved, grads)
  return payload.run(payload, saved, grads)
end

-- payload: a list of registrations, in order. Hooks may be removed or added meanwhile.
local function run_hooks(payload, gradient)
  local now, replaced = {}, nil
  for i, registration in ipairs(payload) do now[i] = registration end
  for _, registration in ipairs(now) do
    if registration.fn then
      local new = registration.fn(gradient)
      if new ~= nil then gradient, replaced = new, new end
    end
  end
  return replaced
end

local Registration = Class:extend "Hook"

function Registration:init(list, fn)
  self.list, self.fn = list, fn
  list[#list + 1] = self
end

--- Ends what `register_hook` and its like began; a second time does nothing.
function Registration:remove()
  if not self.list then return end
  for i, registration in ipairs(self.list) do
    if registration == self then
      table.remove(self.list, i)
      break
    end
  end
  self.list, self.fn = nil, nil
end

--- Anomaly mode: while it is on, the results of every call and every gradient are looked through,
-- and the first NaN or infinity is an error that names the operator and the line of its call (for a
-- gradient, the line of the forward call). Infinities that a call was given may pass. Without an
-- argument it says whether the mode is on; with a function, it is on for that call.
-- @param on true, false, or a function, which is called with what follows
-- @usage local x = moon.tensor({ 0 }, { requires_grad = true })
-- local ok, message = pcall(moon.anomaly, function()
--   local y = x:sqrt()
--   y:sum():backward()
-- end)
-- assert(not ok and message:find("backward of sqrt", 1, true))
-- @function moon.anomaly(on, ...)

--- The same as moon.anomaly with a function.
-- @usage assert(moon.detect_anomaly(function(x) return x:sum():item() end, moon.ones(3)) == 3)
-- @function moon.detect_anomaly(fn, ...)

--- Whether a checkpoint is running its function again. What a layer counts or gathers in forward
-- was counted the first time.
-- @usage assert(not moon.is_recomputing())
-- @function moon.is_recomputing()

--- Calls fn(gradient) whenever a backward has all of x's gradient, before it goes on; what fn
-- returns, if anything, goes on in its place. Gives an object with :remove(). Register before x is
-- used: the hook lives as long as x does, or anything calculated from x since, or that object.
-- @usage local x = moon.ones(2, { requires_grad = true })
-- local hook = x:register_hook(function(gradient) return gradient * 3 end)
-- local y = (x * 2):sum()
-- y:backward()
-- assert(x.grad[1] == 6)
-- hook:remove()
-- @function x:register_hook(fn)
function core.methods.register_hook(x, fn)
  local meta = type(fn) == "table" and getmetatable(fn)
  if type(fn) ~= "function" and not (type(meta) == "table" and meta.__call) then
    error(("register_hook: expected a function, got %s"):format(type(fn)), 2)
  end
  local list = core.hook_payload(x)
  if not list then
    list = {}
    core.hook_attach(x, list)
  end
  return Registration(list, fn)
end

core.set_runners(run_function, run_hooks)
core.Registration = Registration

return core
