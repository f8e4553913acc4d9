-- Module: the base of every layer and network.
--
--   local Net = nn.Module:extend "Net"
--   function Net:init() self.fc = nn.Linear(4, 2) end
--   function Net:forward(x) return self.fc(x):relu() end
--   local net = Net()      net(x)
--
-- Assigning a field is all it takes to register it: leaf tensors that require a gradient are
-- parameters, modules are children, plain tables of either are looked into. Names and order follow
-- the order of first assignment. No state is kept of a forward pass.

local core = require "moonlet.core"
local Class = require "moonlet.class"
local options = require "moonlet.options"
local profile_calls = require "moonlet.profile.calls"
local hooks = require "moonlet.nn.hooks"
local walk = require "moonlet.nn.walk"
local state_of = require "moonlet.nn.state"
local copy = require "moonlet.nn.copy"

local Module = Class:extend "Module"

Module.training = true
Module.is_moonlet_module = true

local function check(self, method) Class.check_self(self, Module, method, "net") end

-- First assignment of a field: remembers the order, and that a parameter is one even when frozen.
function Module:__newindex(key, value)
  if value == nil then return end
  local fields = rawget(self, "_fields")
  if not fields then
    fields = {}
    rawset(self, "_fields", fields)
    rawset(self, "_kinds", {})
  end
  local kinds = self._kinds
  if kinds[key] == nil then
    fields[#fields + 1] = key
    local kind = walk.kind_of(value)
    kinds[key] = kind == "parameter" and kind or "value"
  end
  rawset(self, key, value)
end

function Module:__call(...)
  local hooked = rawget(self, "_hooks") or profile_calls.hooks
  if hooked then return hooks.call(self, hooked, ...) end
  return self:forward(...)
end

for name, method in pairs(hooks.methods) do Module[name] = method end

--- What the module calculates; classes replace it.
function Module:forward()
  error(("%s: has no forward yet; write function %s:forward(x)"):format(
    self.class_name, self.class_name), 2)
end

--- Refuses an input that is no tensor; for layers that look at it before any operator does.
function Module:need_tensor(x)
  if core.is_tensor(x) then return end
  error(("%s: input must be a tensor, not %s"):format(self.class_name, options.show(x)), 0)
end

--- Registers a parameter by name; assigning `self.name = tensor` does the same.
function Module:register_parameter(name, tensor)
  check(self, "register_parameter")
  if not tensor.requires_grad then tensor:requires_grad_(true) end
  self[name] = core.keep(tensor)
  self._kinds[name] = "parameter"
end

--- Registers a tensor that is saved and moved with the module but not trained.
function Module:register_buffer(name, tensor)
  check(self, "register_buffer")
  self[name] = core.keep(tensor)
  self._kinds[name] = "buffer"
end

local function iterate(list)
  local i = 0
  return function()
    i = i + 1
    local item = list[i]
    if item then return item.name, item.value end
  end
end

--- Iterates over name, parameter of this module and all below, each parameter once.
-- @usage local nn = require "moonlet".nn
-- for name, p in nn.Linear(3, 2):named_parameters() do assert(p.requires_grad, name) end
function Module:named_parameters()
  check(self, "named_parameters")
  return iterate(walk.collect(self, "parameter"))
end

--- Iterates over name, buffer.
function Module:named_buffers()
  check(self, "named_buffers")
  return iterate(walk.collect(self, "buffer"))
end

--- Iterates over name, module; this module first, under the name "".
function Module:named_modules()
  check(self, "named_modules")
  local list = walk.collect(self, "module")
  table.insert(list, 1, { name = "", value = self })
  return iterate(list)
end

--- All parameters as a list, the order that optimisers number them in.
-- @usage local nn = require "moonlet".nn
-- assert(#nn.Linear(3, 2):parameters() == 2)
function Module:parameters()
  check(self, "parameters")
  local list = {}
  for _, item in ipairs(walk.collect(self, "parameter")) do list[#list + 1] = item.value end
  return list
end

--- The modules held directly, as a list.
function Module:children()
  check(self, "children")
  local list = {}
  for _, entry in ipairs(walk.entries(self)) do
    if entry.kind == "module" then list[#list + 1] = entry.value end
  end
  return list
end

--- Calls fn(module) for every module below, then for this one; returns this one.
-- @usage local nn = require "moonlet".nn
-- nn.Sequential(nn.Linear(2, 2)):apply(function(m) assert(nn.Module.is(m, nn.Module)) end)
function Module:apply(fn)
  check(self, "apply")
  options.argument("apply", "fn", fn, "callable", 3)
  for _, child in ipairs(self:children()) do child:apply(fn) end
  fn(self)
  return self
end

--- Sets training mode (dropout on, batch statistics) here and below.
-- @bool[opt=true] on
function Module:train(on)
  check(self, "train")
  if on == nil then on = true end
  return self:apply(function(module) rawset(module, "training", on and true or false) end)
end

--- Sets evaluation mode here and below.
function Module:eval()
  check(self, "eval")
  return self:train(false)
end

--- Turns the gradient of every parameter on or off.
function Module:requires_grad_(on)
  check(self, "requires_grad_")
  state_of.require_shapes(self, "requires_grad_")
  for _, parameter in ipairs(self:parameters()) do parameter:requires_grad_(on ~= false) end
  return self
end

--- Freezes every parameter here and below: none gets a gradient, and what needs only them is left
-- off the tape. They stay parameters, with their names.
-- @usage local nn = require "moonlet".nn
-- local net = nn.Linear(3, 2)
-- net:freeze()
-- assert(#net:parameters() == 2 and not net.weight.requires_grad)
-- net:unfreeze()
function Module:freeze()
  check(self, "freeze")
  return self:requires_grad_(false)
end

--- Lets every parameter here and below have a gradient again.
function Module:unfreeze()
  check(self, "unfreeze")
  return self:requires_grad_(true)
end

--- Drops every parameter's gradient.
function Module:zero_grad()
  check(self, "zero_grad")
  for _, parameter in ipairs(self:parameters()) do
    if not core.is_lazy(parameter) then parameter.grad = nil end
  end
  return self
end

local integer_dtypes = { int64 = true, int32 = true, uint8 = true, bool = true }

-- The tensor in its new type, nil where nothing changes.
-- Whole numbers change their device, not their type.
local function move(tensor, target)
  if integer_dtypes[tensor.dtype] then
    if core.is_tensor(target) then target = target.device end
    if core.is_dtype(target) then return nil end
  end
  local moved = tensor:detach():to(target)
  if moved.dtype == tensor.dtype and moved.device == tensor.device then return nil end
  moved:requires_grad_(tensor.requires_grad)
  if tensor.requires_grad then
    local list = core.hook_payload(tensor)
    if list then core.hook_attach(moved, list) end
  end
  return core.keep(moved)
end

--- Changes the type of all parameters and float buffers, or the device of all parameters and
-- buffers. They become new tensors (shared
-- ones stay shared), so make optimisers afterwards.
-- @param target a dtype, a device or a tensor to be like
-- @usage local nn = require "moonlet".nn
-- assert(nn.Linear(2, 2):to("float64").weight.dtype == "float64")
function Module:to(target)
  check(self, "to")
  state_of.require_shapes(self, "to")
  local moved = {}
  for _, kind in ipairs { "parameter", "buffer" } do
    for _, item in ipairs(walk.collect(self, kind, true)) do
      moved[item.value] = moved[item.value] or core.no_grad(move, item.value, target)
      if moved[item.value] then item.holder[item.key] = moved[item.value] end
    end
  end
  return self
end

--- As to("cpu").
function Module:cpu() check(self, "cpu") return self:to("cpu") end
--- As to("cuda"), or to("cuda:1") for number 1.
-- @number[opt=0] device
function Module:cuda(device)
  check(self, "cuda")
  return self:to(("cuda:%d"):format(device or 0))
end
--- As to("float32").
function Module:float() check(self, "float") return self:to("float32") end
--- As to("float64").
function Module:double() check(self, "double") return self:to("float64") end

--- Where the network is: the device of its first parameter or buffer, "cpu" if it has none.
-- @treturn string
function Module:device()
  check(self, "device")
  for _, kind in ipairs { "parameter", "buffer" } do
    local first = walk.collect(self, kind, true)[1]
    if first then return core.is_lazy(first.value) and "cpu" or first.value.device end
  end
  return "cpu"
end

--- name -> tensor of all parameters and buffers, sharing their storage.
function Module:state_dict()
  check(self, "state_dict")
  return state_of.get(self)
end

--- Copies values in by name; names and shapes that do not fit are listed in one error.
-- @tparam table state name -> tensor
-- @bool[opt=true] strict whether missing and unexpected names are errors
function Module:load_state_dict(state, strict)
  check(self, "load_state_dict")
  options.argument("load_state_dict", "state", state, "table", 3)
  state_of.set(self, state, strict ~= false)
  return self
end

--- Writes parameters and buffers as safetensors: no class, no device, no code.
-- @string path the file, written atomically
-- @tparam ?table metadata strings to keep beside them
-- @usage local nn = require "moonlet".nn
-- local net = nn.Linear(3, 2)
-- local path = os.tmpname()
-- net:save(path)
-- net:load(path)
-- os.remove(path)
function Module:save(path, metadata)
  check(self, "save")
  state_of.require_shapes(self, "save")
  core.save(path, self:state_dict(), metadata)
  return self
end

--- Reads what `save` wrote; returns this module and the file's metadata.
function Module:load(path, strict)
  check(self, "load")
  local tensors, metadata = core.load(path)
  state_of.set(self, tensors, strict ~= false)
  return self, metadata
end

--- A copy with parameters and buffers of its own; what is shared inside stays shared.
-- @usage local nn = require "moonlet".nn
-- local a = nn.Linear(2, 2)
-- local b = a:clone()
-- assert(b.weight ~= a.weight and b.weight:sub(a.weight):abs():sum():item() == 0)
function Module:clone()
  check(self, "clone")
  return copy(self)
end

--- Takes shapes through the network without calculating: a report of every mismatch and of what
-- each layer costs; print it. Hooks are not called.
-- @param ... a list of sizes for each input, with dtype = "int64" in it where it is no float
-- @return an object with ok, problems, rows, parameters, activations, multiply_adds, field, stride
-- @usage local nn = require "moonlet".nn
-- local report = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Conv2d(4, 8, 3)):check { 1, 1, 9, 9 }
-- assert(not report.ok and report.problems[1].name == "2")
function Module:check(...)
  check(self, "check")
  return require("moonlet.nn.check").run(self, ...)
end

--- The arguments as shown between the brackets of tostring; layers replace it.
function Module:describe() return "" end -- luacheck: ignore 212

local function tree(module, indent)
  local lines = {}
  for _, entry in ipairs(walk.entries(module)) do
    if entry.kind == "module" then
      lines[#lines + 1] = ("%s  (%s): %s"):format(
        indent, entry.name, tree(entry.value, indent .. "  "))
    elseif entry.kind == "function" then
      lines[#lines + 1] = ("%s  (%s): function"):format(indent, entry.name)
    end
  end
  if #lines == 0 then return ("%s(%s)"):format(module.class_name, module:describe()) end
  return ("%s(%s\n%s\n%s)"):format(
    module.class_name, module:describe(), table.concat(lines, "\n"), indent)
end

function Module:__tostring()
  return tree(self, "")
end

return Module
