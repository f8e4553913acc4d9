-- Calls of modules, as profiles see them: each module gets a number when it is first called, and
-- each call is an event of the core. While no profile is taken, `depth` is 0 and `hooks` is nil;
-- otherwise those stand in for the hooks that a module has not, so that each call is looked at.

local core = require "moonlet.core"
local unpack = require "moonlet.unpack"
local pack = require("moonlet.values").pack

local M = { depth = 0 }

-- Numbers are never used twice: a node of the tape may remember one for longer than a profile.
local given = 0
local session
local none = { pre = {}, forward = {}, backward = {} }

--- Begins to number modules, if this is the outermost profile; gives number -> module.
function M.begin()
  if M.depth == 0 then session = { numbers = {}, modules = {}, threads = {} } end
  M.depth, M.hooks = M.depth + 1, none
  return session.modules
end

--- Ends what `begin` began.
function M.finish()
  M.depth = M.depth - 1
  if M.depth == 0 then session, M.hooks = nil, nil end
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

--- Calls call(module, ...), as an event of the profile where one is taken.
function M.run(call, module, ...)
  if M.depth == 0 then return call(module, ...) end
  hold_thread()
  local event = core.profile_enter(number_of(module))
  local results = pack(pcall(call, module, ...))
  core.profile_leave(event)
  if not results[1] then error(results[2], 0) end
  return unpack(results, 2, results.n)
end

return M
