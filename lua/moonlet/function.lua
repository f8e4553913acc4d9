-- Functions with a backward of their own, written in Lua.
--
--   local Exp = moon.Function:extend "Exp"
--   function Exp.forward(ctx, x)
--     local y = x:exp()
--     ctx:save(y)
--     return y
--   end
--   function Exp.backward(ctx, gy)
--     local y = ctx:saved()
--     return gy * y
--   end
--   local y = Exp(x)
--
-- The class is called. `forward` runs with the tape off; it gets the call's arguments, tensors and
-- anything else, and returns one or more values. `backward` gets a gradient for each of them (zeros
-- where none arrived, nil for what is no tensor of floats) and returns one for each argument, nil
-- for those without. Under create_graph it is recorded, and what was saved has its history.
-- Tensors that backward reads are saved with ctx:save: they lie in C beside the node, are checked
-- for writes and freed by the walk. Other values are fields of ctx. Nothing in C holds ctx: it
-- lives on the results (csrc/lua/carry.c), so a graph that is dropped is garbage like any other,
-- whatever its functions refer to.

local core = require "moonlet.core"
local Class = require "moonlet.class"
local options = require "moonlet.options"
local unpack = require "moonlet.unpack"
local values = require "moonlet.values"

local Function = Class:extend "Function"

-- A context is a front: what it knows is in a table of its own, the payload of the node, under this
-- key; fields that a user sets are in the payload's .fields, so that each assignment is seen.
local HIDDEN = {}

local is_tensor = core.is_tensor
local pack, tensors_of = values.pack, values.tensors

-- -- contexts. Readers of the reference find the methods here; the functions are below.

--- In forward: saves tensors (or nil) for backward, where ctx:saved() gives them in the same order.
-- @usage local Square = moon.Function:extend "Square"
-- function Square.forward(ctx, x)
--   ctx:save(x)
--   return x * x
-- end
-- function Square.backward(ctx, gradient) return gradient * ctx:saved() * 2 end
-- assert(moon.gradcheck(Square, moon.ones(2, { dtype = "float64" }), { second = true }))
-- @function ctx:save(...)

--- In backward: what was saved.
-- @function ctx:saved()

--- In forward: results that no gradient comes from. Those that are of no float type need no mark.
-- @function ctx:mark_non_differentiable(...)

local methods, readers, Context = {}, {}, {}

local function own(ctx, method)
  local hidden = type(ctx) == "table" and rawget(ctx, HIDDEN)
  if not hidden then error(("%s: call it with a colon, ctx:%s(...)"):format(method, method), 3) end
  return hidden
end

-- ctx:save(...): tensors (or nil) for ctx:saved() to give back in the same order.
function methods.save(ctx, ...)
  local hidden = own(ctx, "save")
  if hidden.recorded then error("save: tensors are saved in forward; backward reads them", 2) end
  local saved = hidden.saved
  for i = 1, select("#", ...) do
    local value = select(i, ...)
    if value ~= nil and not is_tensor(value) then
      error(("save: value %d is a %s; tensors are saved, other values are fields of ctx"):format(
        i, type(value)), 2)
    end
    saved.n = saved.n + 1
    saved[saved.n] = value
  end
end

-- ctx:saved() -> what was saved.
function methods.saved(ctx)
  local hidden = own(ctx, "saved")
  if not hidden.values then error("saved: it is for backward; forward has the values", 2) end
  return unpack(hidden.values, 1, hidden.saved.n)
end

-- ctx:mark_non_differentiable(...): results that no gradient comes from.
function methods.mark_non_differentiable(ctx, ...)
  local hidden = own(ctx, "mark_non_differentiable")
  for i = 1, select("#", ...) do
    local value = select(i, ...)
    if not is_tensor(value) then
      error(("mark_non_differentiable: value %d must be a tensor, got %s"):format(
        i, type(value)), 2)
    end
    hidden.constant[value] = true
  end
end

-- ctx.needs[i]: whether a gradient of argument i is wanted.
function readers.needs(hidden)
  if not hidden.needs then
    hidden.needs = {}
    for i = 1, hidden.arguments do hidden.needs[i] = false end
  end
  return hidden.needs
end

function Context.__index(ctx, key)
  local hidden = rawget(ctx, HIDDEN)
  if readers[key] then return readers[key](hidden) end
  if methods[key] then return methods[key] end
  return hidden.fields[key]
end

local function holds_tensor(value)
  if is_tensor(value) then return "is a tensor" end
  if type(value) ~= "table" or getmetatable(value) then return nil end
  for _, member in pairs(value) do
    if is_tensor(member) then return "has a tensor in it" end
  end
end

function Context.__newindex(ctx, key, value)
  local hidden = rawget(ctx, HIDDEN)
  if methods[key] or readers[key] then
    error(("ctx.%s is taken; choose another name"):format(key), 2)
  end
  local found = holds_tensor(value)
  if found then
    error(("%s: ctx.%s %s; keep tensors with ctx:save(...), and get them with ctx:saved()"):format(
      hidden.class.class_name, tostring(key), found), 2)
  end
  hidden.fields[key] = value
end

function Context.__tostring(ctx) return "context of " .. rawget(ctx, HIDDEN).class.class_name end

-- -- the call

local function record(hidden, arguments, results)
  local inputs, input_places = tensors_of(arguments)
  local outputs, output_places = tensors_of(results)
  local saved, slots = tensors_of(hidden.saved)
  if #outputs == 0 then return end
  hidden.inputs, hidden.outputs, hidden.slots = input_places, output_places, slots
  hidden.results = results.n
  local constant = {}
  for k, tensor in ipairs(outputs) do constant[k] = hidden.constant[tensor] or false end
  local taped = core.function_record(
    hidden, hidden.class.class_name, inputs, outputs, saved, constant)
  for k, place in ipairs(hidden.outputs) do results[place] = taped[k] end
end

local function apply(class, ...)
  if class == Function or not class.forward then
    error(("%s: there is no forward; write function %s.forward(ctx, x)"):format(
      class.class_name, class.class_name), 2)
  end
  options.argument(class.class_name, "forward", class.forward, "callable", 3)
  local needs = core.function_needs(...)
  local hidden = {
    class = class, needs = needs, arguments = select("#", ...), fields = {}, saved = { n = 0 },
    constant = {}, run = class.run,
  }
  hidden.context = setmetatable({ [HIDDEN] = hidden }, Context)
  local results = pack(core.no_grad(class.forward, hidden.context, ...))
  if needs then record(hidden, pack(...), results) end
  hidden.recorded, hidden.constant = true, nil
  for i = 1, hidden.saved.n do hidden.saved[i] = nil end   -- they lie in C now
  return unpack(results, 1, results.n)
end

-- -- the backward

local function check(hidden, gradients)
  local last = 0
  for i = 1, hidden.arguments do
    if hidden.needs[i] then last = i end
  end
  if gradients.n < last or gradients.n > hidden.arguments then
    error(("backward returned %d gradient%s for %d argument%s of forward"):format(
      gradients.n, gradients.n == 1 and "" or "s", hidden.arguments,
      hidden.arguments == 1 and "" or "s"), 0)
  end
  for i = 1, gradients.n do
    if gradients[i] ~= nil and not is_tensor(gradients[i]) then
      error(("backward returned a %s as gradient %d; it must be a tensor or nil"):format(
        type(gradients[i]), i), 0)
    end
  end
end

-- Gradients by argument -> by tensor.
local function chosen(hidden, gradients)
  check(hidden, gradients)
  local list = {}
  for k, place in ipairs(hidden.inputs) do
    list[k] = gradients[place] or false
    gradients[place] = nil
  end
  for i = 1, gradients.n do
    if gradients[i] ~= nil then
      error(("backward returned a gradient for argument %d, which was no tensor; return nil there")
        :format(i), 0)
    end
  end
  return list
end

-- What the tape calls: gradients of the tensors that came out -> of those that went in.
function Function.run(hidden, saved, grads)
  if not hidden.class.backward then
    error(("there is no backward; write function %s.backward(ctx, gradient)"):format(
      hidden.class.class_name), 0)
  end
  local read, arrived = {}, {}
  for k, place in ipairs(hidden.slots) do read[place] = saved[k] end
  for k, place in ipairs(hidden.outputs) do arrived[place] = grads[k] or nil end
  hidden.values = read
  local gradients = pack(hidden.class.backward(hidden.context, unpack(arrived, 1, hidden.results)))
  hidden.values = nil
  return chosen(hidden, gradients)
end

--- Makes a class of functions below this one; give it `forward` and `backward`, and call it.
-- @string name what it is called in messages and pictures of the tape
-- @usage local Double = moon.Function:extend "Double"
-- function Double.forward(_, x) return x * 2 end
-- function Double.backward(_, g) return g * 2 end
-- local x = moon.ones(3, { requires_grad = true })
-- Double(x):sum():backward()
-- assert(x.grad[1] == 2)
function Function:extend(name)
  local class = Class.extend(self, name)
  local meta = getmetatable(class)
  meta.__call = apply
  return class
end

getmetatable(Function).__call = apply

return Function
