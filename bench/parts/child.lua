-- Measurements in processes of their own: the program prints lines of a name and a value.

local M = {}

-- The interpreter that runs this script.
local first = 0
while arg[first - 1] do first = first - 1 end
M.interpreter = arg[first]

-- What a program that failed said last, the best reason there is.
local function reason(text, status, seconds)
  if status == 124 then return ("given up after %d seconds"):format(seconds) end
  local last
  text = text:gsub("\nstack traceback:.*", "\n")
  for line in text:gmatch("[^\n]+") do
    if line:match("%S") then last = line end
  end
  if status == 137 or not last then return ("ended with status %d"):format(status) end
  return last:match("^%s*(.-)%s*$")
end

--- Runs a command for so many seconds at most: a table of what it printed, or nil and a sentence.
function M.run(command, seconds)
  local errors = os.tmpname()
  local pipe = io.popen(("timeout %d env %s 2> %s; echo status $?"):format(
    seconds, command, errors))
  local text = pipe:read "*a"
  pipe:close()
  local file = io.open(errors)
  local said = file:read "*a"
  file:close()
  os.remove(errors)
  local status = tonumber(text:match("status (%d+)%s*$"))
  if status ~= 0 then return nil, reason(said, status, seconds) end
  local found = {}
  for name, value in text:gmatch("([%w_]+) (%S+)\n") do found[name] = tonumber(value) or value end
  return found
end

return M
