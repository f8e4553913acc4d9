-- The flags of a run, kept as notes in its checkpoint, so that a resumed run goes on with them and
-- a flag that says otherwise is a mistake. The learning rate may change.

local core = require "moonlet.core"
local checkpoint = require "moonlet.train.checkpoint"

local M = {}

--- What the trainer's `notes` keep: the values of some flags.
-- @tparam table o what flags.read gave
-- @tparam table names of the flags
function M.notes(o, names)
  local notes = {}
  for _, name in ipairs(names) do notes[name] = o[name] end
  return notes
end

--- Gives flags that were not given the values that they had; fails where others differ.
-- @tparam table o what flags.read gave
-- @tparam table names of the flags
-- @string path the checkpoint
-- @usage local moon = require "moonlet"
-- local path, names = os.tmpname(), { "depth", "lr" }
-- local before = moon.train.runflags.notes({ depth = 8, lr = 0.1 }, names)
-- moon.train.checkpoint.save(path, {}, { note_depth = before.depth, note_lr = before.lr })
-- local o = { depth = 20, lr = 0.5, given = { lr = true } }
-- moon.train.runflags.resume(o, names, path)
-- os.remove(path)
-- assert(o.depth == 8 and o.lr == 0.5)
function M.resume(o, names, path)
  if not core.file_exists(path) then
    error(("--resume: there is no %s; start the run without it first"):format(path), 0)
  end
  local values = checkpoint.values(path)
  for _, name in ipairs(names) do
    local before = values["note_" .. name]
    if not o.given[name] then
      o[name] = before
    elseif name ~= "lr" and before ~= nil and o[name] ~= before then
      error(("--resume: the checkpoint was made with --%s %s, not %s"):format(
        name, tostring(before), tostring(o[name])), 0)
    end
  end
end

return M
