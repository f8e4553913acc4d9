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

-- Fails unless graph(), which `piece` defines, leaves nothing behind when it is called `count`
-- times (1e5) and what it gives is dropped: resident size and live bytes stay flat. The piece has
-- `moon` and a leaf `x` of 8 elements.
function child.stays_flat(piece, count)
  count = count or 1e5
  local output, well = child.run([[
    local moon = require "moonlet"
    local x = moon.ones(8, { requires_grad = true })
    local held
    ]] .. piece .. [[

    for i = 1, ]] .. count .. [[ do
      graph()
      if i == ]] .. count / 5 .. [[ then held = moon.resident() end
    end
    collectgarbage() collectgarbage()
    print(("%.1f %.0f"):format((moon.resident() - held) / 1e6, moon.memory().live))
  ]])
  local growth, live = (well and output or ""):match("(%S+) (%d+)%s*$")
  if not growth then error("the piece failed: " .. output, 2) end
  if tonumber(growth) >= 12 then error(growth .. " MB more", 2) end
  if tonumber(live) >= 4096 then error(live .. " bytes live", 2) end
end

return child
