-- The source files of the repository, for specs that read the code. The root is found from this
-- file's own path, so specs run from any working directory.
local sources = {}

local here = debug.getinfo(1, "S").source:match("^@(.*)$")
sources.root = here:match("^(.*)/spec/support/[^/]*$") or "."

-- All files below a folder of the repository whose names end in one of the given endings.
function sources.files(folder, ...)
  local found, endings = {}, { ... }
  local list = io.popen('find "' .. sources.root .. "/" .. folder .. '" -type f 2>/dev/null | sort')
  for path in list:lines() do
    for _, ending in ipairs(endings) do
      if path:sub(-#ending) == ending then found[#found + 1] = path:sub(#sources.root + 2) end
    end
  end
  list:close()
  return found
end

function sources.lines(path)
  local lines = {}
  for line in io.lines(sources.root .. "/" .. path) do lines[#lines + 1] = line end
  return lines
end

return sources
