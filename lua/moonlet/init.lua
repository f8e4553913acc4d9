-- moonlet: everything the C module offers, and the library in Lua, found by name when first used.
--
--   moon.nn      layers, losses, initialisers      moon.data    datasets, transforms, the loader
--   moon.optim   optimisers and schedules          moon.models  networks ready to build
--   moon.train   trainer, checkpoints, progress    moon.viz     pictures of what was learnt
--   moon.metrics accuracy, confusion matrix        moon.image   pictures to tensors and back
--   moon.cuda    GPUs: what there is, memory, time moon.amp     mixed precision, scaled losses

local core = require "moonlet.core"
core.set_library((debug.getinfo(1, "S").source:gsub("init%.lua$", "")))

-- The CUDA plug-in lies beside the binary, or in the next place of cpath in a checkout.
for pattern in package.cpath:gmatch("[^;]*%?[^;]*") do
  core.cuda_look_at((pattern:gsub("%?", "moonlet/cuda")), "last")
end

require "moonlet.tensor"(core)
require "moonlet.tape"
require "moonlet.derivatives"

local moon = {}
for name, value in pairs(core) do moon[name] = value end

local parts = {
  nn = true, optim = true, data = true, models = true, train = true, viz = true,
  metrics = true, image = true, cuda = true, amp = true,
}

-- Members that live in files of their own beside this one.
local members = {
  Function = "function", checkpoint = "checkpoint",
  checkpoint_sequential = "checkpoint_sequential", gradcheck = "gradcheck",
  graph = "graph", profile = "profile", conv_engines = "conv_engines",
}

return setmetatable(moon, {
  __index = function(_, name)
    if not parts[name] and not members[name] then return core[name] end
    local part = require("moonlet." .. (members[name] or name))
    moon[name] = part
    return part
  end,
  __tostring = function() return "moonlet" end,
})
