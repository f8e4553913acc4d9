-- State dictionaries: a module's parameters and buffers by name, as plain tensors. They hold no
-- class and no device, so a file of them is data alone.

local core = require "moonlet.core"
local same_shape = require("moonlet.values").same_shape
local walk = require "moonlet.nn.walk"

local M = {}

local function each_tensor(module, visit)
  walk.each(module, function(name, entry)
    if entry.kind == "parameter" or entry.kind == "buffer" then visit(name, entry.value, entry) end
  end)
end

local function shape_text(tensor)
  local sizes = tensor:size()
  if #sizes == 0 then return "a single number" end
  return table.concat(sizes, "x")
end

--- Fails with a sentence when a lazy layer at or below `module` has no shape yet.
function M.require_shapes(module, action)
  local function check(name, layer)
    if rawget(layer, "lazy") then
      error(("%s: %s (%s) has no shape yet; pass one batch through the net first"):format(
        action, layer.class_name, name == "" and "the net itself" or name), 4)
    end
  end
  check("", module)
  walk.each(module, function(name, entry)
    if entry.kind == "module" then check(name, entry.value) end
  end)
end

--- name -> tensor, sharing storage with the module, off the tape.
function M.get(module)
  M.require_shapes(module, "state_dict")
  local state = {}
  each_tensor(module, function(name, tensor) state[name] = tensor:detach() end)
  return state
end

-- Lazy layers take their shapes from the dictionary, so that a net need not run before loading.
local function materialize(module, state)
  local function try(name, layer)
    if rawget(layer, "lazy") then layer:materialize_from(state, name) end
  end
  try("", module)
  walk.each(module, function(name, entry)
    if entry.kind == "module" then try(name .. ".", entry.value) end
  end)
end

-- Pairs each tensor of the module with its source; lists what does not fit.
local function match(module, state)
  local pairs_found, missing, unexpected, unlike, known = {}, {}, {}, {}, {}
  each_tensor(module, function(name, tensor)
    known[name] = true
    local source = state[name]
    if source == nil then
      missing[#missing + 1] = name
    elseif not core.is_tensor(source) then
      unlike[#unlike + 1] = ("%s (a tensor here, a %s there)"):format(name, type(source))
    elseif not same_shape(tensor, source) then
      unlike[#unlike + 1] = ("%s (%s here, %s there)"):format(
        name, shape_text(tensor), shape_text(source))
    else
      pairs_found[#pairs_found + 1] = { tensor, source }
    end
  end)
  for name in pairs(state) do
    if not known[name] then unexpected[#unexpected + 1] = tostring(name) end
  end
  table.sort(unexpected)
  return pairs_found, missing, unexpected, unlike
end

local function complain(problems, label, names)
  if #names > 0 then problems[#problems + 1] = label .. ": " .. table.concat(names, ", ") end
end

local function copy_all(matched)
  for _, pair in ipairs(matched) do
    local target, source = pair[1], pair[2]
    target:copy_(source:to(target))
  end
end

--- Copies the dictionary's values into the module, in place; nothing changes when it does not fit.
-- @tparam table module
-- @tparam table state name -> tensor
-- @bool strict also fail on missing and unexpected names
function M.set(module, state, strict)
  materialize(module, state)
  local matched, missing, unexpected, unlike = match(module, state)
  local problems = {}
  if strict then
    complain(problems, "missing", missing)
    complain(problems, "unexpected", unexpected)
  end
  complain(problems, "of another shape", unlike)
  if #problems > 0 then
    error("load_state_dict: the names or shapes do not fit this " .. module.class_name .. "; "
      .. table.concat(problems, "; "), 3)
  end
  core.no_grad(copy_all, matched)
end

return M
