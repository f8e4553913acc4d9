-- gnuplot as a separate program: runs a script that writes one PNG. It is optional; who calls says
-- in one sentence that a picture is missing and goes on.

local M = {}

local MISSING = "gnuplot is not installed (Debian: apt install gnuplot-nox)"

local function runs(command)
  local result = os.execute(command)
  return result == true or result == 0
end

--- A string as gnuplot's double-quoted literal.
function M.quote(text)
  return '"' .. tostring(text):gsub('[\\"]', "\\%0"):gsub("\n", "\\n") .. '"'
end

local function read_all(path)
  local file = io.open(path, "r")
  if not file then return "" end
  local text = file:read("*a")
  file:close()
  return text
end

--- Draws a picture.
-- @string path the PNG to write
-- @string script gnuplot commands after `set terminal` and `set output`
-- @tparam ?table size { width, height } in pixels
-- @return true, or nil and a sentence
function M.run(path, script, size)
  if not runs("command -v gnuplot >/dev/null 2>&1") then return nil, MISSING end
  local name = os.tmpname()
  local file = assert(io.open(name, "w"))
  size = size or { 1000, 450 }
  file:write(("set terminal pngcairo size %d,%d font \"sans,10\"\n"):format(size[1], size[2]))
  file:write("set output ", M.quote(path), "\n", script, "\n")
  file:close()
  local complaint = name .. ".err"
  local ok = runs(("gnuplot '%s' 2>'%s'"):format(name, complaint))
  local text = read_all(complaint)
  os.remove(name)
  os.remove(complaint)
  if ok then return true end
  return nil, "gnuplot failed: " .. (text:match("[^\n]*%S[^\n]*\n?$") or "no reason given")
end

return M
