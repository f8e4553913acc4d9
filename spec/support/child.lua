-- Runs a piece of Lua in a process of its own with the same Lua, so that figures of the process
-- (resident size) are that piece's alone.
local sources = require "spec.support.sources"

local child = {}

child.lua = rawget(_G, "jit") and "luajit" or _VERSION:lower():gsub(" ", "")

-- What the piece printed (also its errors), and whether it ended well. The piece starts in the
-- repository's root; `environment` names variables to be set for it.
function child.run(piece, environment)
  local name = os.tmpname()
  local file = assert(io.open(name, "w"))
  file:write(piece)
  file:close()
  local settings = {}
  for key, value in pairs(environment or {}) do
    settings[#settings + 1] = ("%s='%s'"):format(key, value)
  end
  local pipe = assert(io.popen(("cd '%s' && env %s %s '%s' 2>&1; echo \"status $?\"")
    :format(sources.root, table.concat(settings, " "), child.lua, name)))
  local text = pipe:read("*a")
  pipe:close()
  os.remove(name)
  local output, status = text:match("^(.*)status (%d+)\n$")
  return output, status == "0"
end

return child
