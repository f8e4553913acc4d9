-- Calls of modules, as profiles see them: each module gets a number when it is first called, and
-- each call is an event of the core. They may be ranges of NVIDIA's profilers as well. While
-- neither is wanted, `hooks` is nil; otherwise those stand in for the hooks that a module has not,
-- so that each call is looked at.

local core = require "moonlet.core"
local unpack = require "moonlet.unpack"
local pack = require("moonlet.values").pack

local M = { depth = 0 }

-- Numbers are never used twice: a node of the tape may remember one for longer than a profile.
local given = 0
local session, range
local none = { pre = {}, forward = {}, backward = {} }

local function set_hooks() M.hooks = (M.depth > 0 or range) and none or nil end

--- Makes each call a range named after the module's class, by range(name, fn, ...); nil: no more.
function M.use_range(with)
  range = with
  set_hooks()
end

--- Begins to number modules, if this is the outermost profile; gives number -> module.
function M.begin()
  if M.depth == 0 then session = { numbers = {}, modules = {}, threads = {} } end
  M.depth = M.depth + 1
  set_hooks()
  return session.modules
end

--- Ends what `begin` began.
function M.finish()
  M.depth = M.depth - 1
  if M.depth == 0 then session = nil end
  set_hooks()
end

local function number_of(module)
  local number = session.numbers[module]
  if not number then
    given = given + 1
    number = given
    session.numbers[module], session.modules[number] = number, module
  end
  return number
end

-- The core asks coroutines that are in a call whether they are suspended; they must live.
local function hold_thread()
  local thread = coroutine.running()
  if thread then session.threads[thread] = true end
end

local function run(call, module, ...)
  if M.depth == 0 then return call(module, ...) end
  hold_thread()
  local event = core.profile_enter(number_of(module))
  local results = pack(pcall(call, module, ...))
  core.profile_leave(event)
  if not results[1] then error(results[2], 0) end
  return unpack(results, 2, results.n)
end

--- Calls call(module, ...), as an event of the profile where one is taken.
function M.run(call, module, ...)
  if not range then return run(call, module, ...) end
  return range(module.class_name, run, call, module, ...)
end

return M
