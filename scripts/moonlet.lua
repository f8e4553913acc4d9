-- What `require "moonlet"` loads in a checkout: finds the sources in lua/ and the binary for the
-- running Lua in build/, both beside this file, and hands over to lua/moonlet/init.lua. `make`
-- copies it from scripts/ to the top, because LuaJIT looks for ./?.lua but not for ./?/init.lua;
-- an installed rock has no use for it.
--
-- MOONLET_BUILD names another build folder (a sanitizer's); nobody else needs it.

-- The folder this file lies in, with its slash at the end.
local function own_folder(path)
  if not path and debug and debug.getinfo then
    path = debug.getinfo(1, "S").source:match("^@(.*)$")
  end
  return path and path:match("^(.*[/\\])") or "./"
end

local function put_in_front(list, first)
  if list:sub(1, #first) == first then return list end
  return first .. ";" .. list
end

local root = own_folder(select(2, ...))
local lua = rawget(_G, "jit") and "luajit" or _VERSION:lower():gsub(" ", "")
local build = os.getenv("MOONLET_BUILD") or root .. "build"
local binary = build .. "/" .. lua .. "/moonlet/core.so"

local file = io.open(binary, "rb")
if not file then
  error("moonlet: there is no binary for " .. lua .. " (" .. binary .. "); run make in " ..
    (root == "./" and "this folder" or root), 0)
end
file:close()

-- The path last: it hides this file, which must be found again should memory run out in between.
-- The CUDA plug-in is the same for every Lua.
package.cpath = put_in_front(package.cpath, build .. "/?.so")
package.cpath = put_in_front(package.cpath, build .. "/" .. lua .. "/?.so")
package.path = put_in_front(package.path, root .. "lua/?.lua;" .. root .. "lua/?/init.lua")

-- Not by require: this very file is being loaded under the name "moonlet".
local init = root .. "lua/moonlet/init.lua"
return assert(loadfile(init))("moonlet", init)
