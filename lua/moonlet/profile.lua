-- Profiles: where the time of a piece of program goes, by operator and by module.
--
--   local p = moon.profile(function() loss_of(net, x):backward() end)
--   print(p)                          both tables, the most expensive rows first
--   p:save "trace.json"               for chrome://tracing or ui.perfetto.dev
--
-- The core writes down what runs in the calling state (csrc/autograd/profile.h), this file and
-- profile/ turn it into rows and texts. Other states, such as a loader's workers, are not seen.

local core = require "moonlet.core"
local Class = require "moonlet.class"
local calls = require "moonlet.profile.calls"
local options = require "moonlet.options"
local rows = require "moonlet.profile.rows"
local text = require "moonlet.profile.text"
local trace = require "moonlet.profile.trace"
local unpack = require "moonlet.unpack"
local pack = require("moonlet.values").pack

local Profile = Class:extend "Profile"

local function check(self, method) Class.check_self(self, Profile, method, "p") end

function Profile:init(events, modules, start, seconds, thread)
  self.events, self.dropped, self.seconds = events, events.dropped, seconds
  self.start, self.thread = start, thread
  rows.complete(events)
  self.operators = rows.operators(events, seconds)
  self.modules = rows.modules(events, modules)
end

local table_options = {
  by = { { "operators", "modules" }, "operators" },
  sort = { { "self", "time", "calls", "moved" }, "self" },
  limit = { "positive", 40 },
}

--- One of the two tables as text: a row for each operator, pass (forward or backward) and algorithm
-- that its kernel chose, or a row for each module. *Time* is all that passed from beginning to end,
-- *self* is without the calls inside; *moved* are the bytes of inputs and results by their shapes
-- (nothing for views and for what calls other operators), and GB/s what they are of the self
-- time; *memory* is the most that one call held beyond what there was before it, and *kept* what a
-- module's calls left behind. The backward of a call belongs to the module that made the call. What
-- ran outside of all operators is the row (Lua), the walk's own work (the tape).
-- @tparam ?table given by = "operators" or "modules"; sort = "self", "time", "calls" or "moved"
-- (kept, for modules); limit = 40 rows at most
-- @usage local p = moon.profile(function() return moon.ones(8) + 1 end)
-- assert(p:table({ sort = "calls" }):find("add", 1, true))
-- @function p:table(given)
function Profile:table(given)
  check(self, "table")
  local o = options.read("table", given, table_options, 3)
  return text.draw(self, o.by, o.sort, o.limit)
end

function Profile:__tostring()
  local parts = { ("%.3f ms"):format(self.seconds * 1e3), self:table() }
  if #self.modules > 0 then parts[#parts + 1] = "\n" .. self:table { by = "modules" } end
  if self.dropped > 0 then
    parts[#parts + 1] = ("(%d more events found no room)"):format(self.dropped)
  end
  return table.concat(parts, "\n")
end

local function write(path, content)
  local file, problem = io.open(path, "wb")
  if not file then return nil, problem end
  local written
  written, problem = file:write(content)
  local closed, late = file:close()
  if written and closed then return true end
  os.remove(path)
  return nil, problem or late
end

--- Writes the profile as a Chrome trace, which chrome://tracing and ui.perfetto.dev show as nested
-- bars with bytes, module and algorithm of each.
-- @string path the file; it is replaced
-- @usage local path = os.tmpname()
-- moon.profile(function() return moon.ones(8):exp() end):save(path)
-- os.remove(path)
-- @function p:save(path)
function Profile:save(path)
  check(self, "save")
  options.argument("save", "path", path, "string", 3)
  local ok, problem = write(path, trace(self.events, self.start, self.thread))
  if not ok then error(("save: %s"):format(problem), 2) end
  return self
end

--- Calls fn and writes down what runs in it, forward and backward: calls, time, bytes and the
-- algorithm that kernels chose, by operator and by module. An error in fn passes on. Profiles may
-- be taken inside of each other. While none is taken, nothing is written down or paid.
-- @param fn what to call, with what follows; it cannot yield to a coroutine outside
-- @return an object with operators and modules (lists of rows), seconds, :table, :save; it can be
-- printed. After it the results of fn
-- @usage local net, x = moon.nn.Linear(3, 2), moon.ones(4, 3)
-- local p = moon.profile(function() net(x):sum():backward() end)
-- assert(p.modules[1].layer == "Linear" and p.modules[1].calls == 1)
-- assert(tostring(p):find("linear", 1, true))
-- @function moon.profile(fn, ...)
return function(fn, ...)
  options.argument("profile", "fn", fn, "callable", 3)
  local first, thread = core.profile_begin()
  local modules = calls.begin()
  local start = core.clock()
  local results = pack(pcall(core.profile_call, fn, ...))
  local seconds = core.clock() - start
  calls.finish()
  local events = core.profile_end(first)
  if not results[1] then error(results[2], 0) end
  return Profile(events, modules, start, seconds, thread), unpack(results, 2, results.n)
end
