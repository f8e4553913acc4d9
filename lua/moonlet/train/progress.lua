-- Progress: how far a loop is. On a terminal one line that is written over (bar, values, rate, time
-- left), at most ten times a second; elsewhere a plain line at each quarter.

local core = require "moonlet.core"
local options = require "moonlet.options"
local Class = require "moonlet.class"

local Progress = Class:extend "Progress"

local REDRAW_SECONDS = 0.1
local PLAIN_PARTS = 4
local BAR_LONGEST, BAR_SHORTEST = 30, 4
local STANDARD_OUTPUT = 1

local schema = {
  total = { "positive", required = true }, label = { "string", "" }, start = { "integer", 0 },
  unit = { "string", "images/s" }, more = { "number", 0 }, terminal = { "boolean" },
  columns = { "positive" }, write = { "function" }, clock = { "function" },
}

local function to_standard_output(text)
  io.stdout:write(text)
  io.stdout:flush()
end

--- Makes a progress line.
-- @tparam table given total (steps), label, start = 0 (steps done before), more = 0 (loops of the
-- same length to come, for the time left), unit = "images/s", terminal, columns, write, clock
-- @usage local moon = require "moonlet"
-- local lines = {}
-- local bar = moon.train.Progress {
--   total = 2, terminal = false, write = function(text) lines[#lines + 1] = text end,
-- }
-- bar:update(1, 64, { "loss 0.5" })
-- bar:update(2, 64, { "loss 0.4" })
-- assert(lines[1]:find "loss 0.5")
function Progress:init(given)
  local o = options.read("Progress", given, schema)
  self.total, self.label, self.unit, self.more = o.total, o.label, o.unit, o.more
  self.start, self.done, self.items = o.start, o.start, 0
  self.write, self.clock = o.write or to_standard_output, o.clock or core.clock
  self.terminal = o.terminal
  if self.terminal == nil then self.terminal = core.is_terminal(STANDARD_OUTPUT) end
  self.columns = o.columns
  self.began, self.drawn = self.clock(), -math.huge
  self.part = math.floor(self.done * PLAIN_PARTS / self.total)
end

--- 75 -> "1:15", 3700 -> "1:01:40".
function Progress.time_text(seconds)
  if seconds ~= seconds or seconds > 359999 then return "-:--" end
  local whole = math.floor(seconds + 0.5)
  local hours, minutes = math.floor(whole / 3600), math.floor(whole / 60) % 60
  if hours > 0 then return ("%d:%02d:%02d"):format(hours, minutes, whole % 60) end
  return ("%d:%02d"):format(minutes, whole % 60)
end

-- Items a second so far and seconds until the last loop ends.
local function measure(self)
  local elapsed = math.max(self.clock() - self.began, 1e-9)
  local steps = self.done - self.start
  local each = steps > 0 and elapsed / steps or 0 / 0
  return self.items / elapsed, each * (self.total - self.done + self.more * self.total)
end

local function words(self, values)
  local rate, left = measure(self)
  local list = {}
  for i, value in ipairs(values) do list[i] = value end
  list[#list + 1] = ("%.0f %s"):format(rate, self.unit)
  list[#list + 1] = Progress.time_text(left) .. " left"
  return table.concat(list, "  ")
end

local function draw_bar(self, values)
  local fraction = self.done / self.total
  local tail = (" %3d %%  %s"):format(math.floor(fraction * 100), words(self, values))
  local columns = self.columns or core.terminal_columns() or 80
  local room = math.min(columns - #self.label - #tail - 5, BAR_LONGEST)
  if room < BAR_SHORTEST then
    local line = self.label .. tail
    return "\r" .. line:sub(1, columns - 1) .. "\27[K"
  end
  local full = math.floor(fraction * room)
  local head = full < room and ">" or ""
  local bar = ("="):rep(full) .. head .. (" "):rep(room - full - #head)
  return ("\r%s [%s]%s\27[K"):format(self.label, bar, tail)
end

local function draw_line(self, values)
  local percent = math.floor(100 * self.done / self.total)
  return ("%s  %3d %%  %s\n"):format(self.label, percent, words(self, values))
end

--- Tells how far the loop is.
-- @int done steps done, of total
-- @int items items handled since the last call, for the rate
-- @tparam table values texts to show
function Progress:update(done, items, values)
  Class.check_self(self, Progress, "update", "progress")
  self.done, self.items = done, self.items + items
  if self.terminal then
    local now = self.clock()
    if now - self.drawn < REDRAW_SECONDS and done < self.total then return end
    self.drawn = now
    self.write(draw_bar(self, values))
  else
    local part = math.floor(done * PLAIN_PARTS / self.total)
    if part > self.part then
      self.part = part
      self.write(draw_line(self, values))
    end
  end
end

--- Ends the line on a terminal, so that what follows starts on a new one.
function Progress:finish()
  Class.check_self(self, Progress, "finish", "progress")
  if self.terminal and self.drawn > -math.huge then self.write("\n") end
end

return Progress
