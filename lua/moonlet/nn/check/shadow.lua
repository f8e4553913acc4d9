-- Runs a function while every tensor that a network holds is one without elements (device "meta"),
-- and puts the network back as it was: parameters, modes, fields that forward set, and the classes
-- of lazy layers that found their shape.

local core = require "moonlet.core"

local M = {}

local skipped = { _fields = true, _kinds = true, _hooks = true }

-- A tensor's stand-in; the same one for the same tensor.
local function twin_of(tensor, twins)
  local twin = twins[tensor]
  if twin then return twin end
  if core.is_lazy(tensor) then
    twin = core.lazy_tensor()
  else
    twin = core.empty(tensor:size(), { dtype = tensor.dtype, device = "meta" })
    if tensor.requires_grad then twin:requires_grad_(true) end
  end
  twins[tensor] = twin
  return twin
end

local function copy_of(list)
  local copy = {}
  for key, value in pairs(list or {}) do copy[key] = value end
  return copy
end

local function refill(target, saved)
  for key in pairs(copy_of(target)) do rawset(target, key, nil) end
  for key, value in pairs(saved) do rawset(target, key, value) end
end

-- Remembers a table and replaces the tensors in it and in plain tables below.
local function swap(list, memory, twins)
  if memory.seen[list] then return end
  memory.seen[list] = true
  memory[#memory + 1] = { list, copy_of(list) }
  for key, value in pairs(copy_of(list)) do
    if type(value) == "userdata" and core.is_tensor(value) then
      rawset(list, key, twin_of(value, twins))
    elseif type(value) == "table" and getmetatable(value) == nil and not skipped[key] then
      swap(value, memory, twins)
    end
  end
end

local function take_apart(net, memory)
  local twins = {}
  for _, module in net:named_modules() do memory.modules[#memory.modules + 1] = module end
  for _, module in ipairs(memory.modules) do
    memory.classes[module] = getmetatable(module)
    for _, key in ipairs { "_fields", "_kinds" } do
      local list = rawget(module, key)
      if list then memory[#memory + 1] = { list, copy_of(list) } end
    end
    swap(module, memory, twins)
    rawset(module, "_hooks", nil)
  end
end

local function put_back(memory)
  for _, saved in ipairs(memory) do refill(saved[1], saved[2]) end
  for module, class in pairs(memory.classes) do setmetatable(module, class) end
end

--- Calls fn() with the network's tensors taken away and new tensors made on "meta", off the tape.
-- The random stream is left where it was.
function M.run(net, fn)
  local memory = { seen = {}, modules = {}, classes = {} }
  local stream = core.get_rng_state()
  local ok, message = pcall(take_apart, net, memory)
  if ok then ok, message = pcall(core.no_grad, core.with_device, "meta", fn) end
  put_back(memory)
  core.set_rng_state(stream)
  if not ok then error(message, 0) end
end

return M
