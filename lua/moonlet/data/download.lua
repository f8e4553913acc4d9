-- Fetches files with curl, checks their MD5 and puts them in place atomically. Both programs are
-- asked for by name; what is missing or fails is said in plain words.

local core = require "moonlet.core"

local M = {}

local function quote(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

-- os.execute says true on 5.2 and later, 0 before.
local function runs(command)
  local result = os.execute(command)
  return result == true or result == 0
end

--- Is there a program of this name?
function M.has_program(name)
  return runs("command -v " .. quote(name) .. " >/dev/null 2>&1")
end

--- The MD5 of a file in hexadecimal, nil when no program can tell.
-- @string path
function M.md5(path)
  local pipe = io.popen("md5sum < " .. quote(path) .. " 2>/dev/null")
  local text = pipe and pipe:read("*a") or ""
  if pipe then pipe:close() end
  return text:match("^(%x+)")
end

local function try_mirror(url, partial, md5)
  local pipe = io.popen(("curl --fail --location --silent --show-error --connect-timeout 20 "
    .. "--output %s %s 2>&1"):format(quote(partial), quote(url)))
  local complaint = pipe and pipe:read("*l") or nil
  if pipe then pipe:close() end
  if complaint or not core.file_exists(partial) then
    return nil, ("%s: curl could not fetch it (%s)"):format(url, complaint or "no reason given")
  end
  local found = M.md5(partial)
  if found ~= md5 then
    return nil, ("%s: MD5 %s, expected %s"):format(url, found or "unknown (md5sum missing?)", md5)
  end
  return true
end

--- Fetches one file from the first mirror that has it.
-- @string directory where to put it
-- @string name the file's name, the last part of its address
-- @tparam table mirrors addresses to put before the name
-- @string md5 what the file must hash to
-- @return true, or nil and a sentence
function M.fetch(directory, name, mirrors, md5)
  if not M.has_program("curl") then
    return nil, "curl is not installed; it fetches the files (Debian: apt install curl)"
  end
  core.make_directory(directory)
  local target = directory .. "/" .. name
  local partial = ("%s.%s.part"):format(target, tostring(core.clock()):gsub("%W", ""))
  local reasons = {}
  for _, mirror in ipairs(mirrors) do
    local ok, reason = try_mirror(mirror .. name, partial, md5)
    if ok then
      local moved, problem = os.rename(partial, target)
      if moved then return true end
      reason = tostring(problem)
    end
    os.remove(partial)
    reasons[#reasons + 1] = reason
  end
  return nil, table.concat(reasons, "; ")
end

return M
