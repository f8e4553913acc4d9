-- Derivatives of functions: products of vectors with Jacobians and Hessians, and those in full, all
-- made of moon.grad. A function takes one tensor for each input and gives one or several tensors;
-- the inputs are a tensor or a list of them, and what comes back has the same form.
--
-- They are added to the core module when init.lua loads this file. All take {create_graph = true}:
-- then what they return can be differentiated again, by the inputs too; without, the inputs are cut
-- off from their history and the results have none.
local core = require "moonlet.core"
local same_shape = require("moonlet.values").same_shape
local unpack = require "moonlet.unpack"

local zeros_like, grad = core.zeros_like, core.grad

local function list_of(name, what, value)
  if core.is_tensor(value) then return { value }, false end
  if type(value) ~= "table" or #value == 0 then
    error(("%s: %s must be a tensor or a list of tensors, got %s"):format(name, what,
      type(value) == "table" and "an empty table" or type(value)), 0)
  end
  for i, member in ipairs(value) do
    if not core.is_tensor(member) then
      error(("%s: member %d of %s must be a tensor, got %s"):format(name, i, what,
        type(member)), 0)
    end
  end
  return value, true
end

local function text(x) return x:dim() == 0 and "0-d" or table.concat(x:size(), "x") end

local function check_vectors(name, vectors, of, like)
  if #vectors ~= #like then
    error(("%s: there are %d vectors for %d %s"):format(name, #vectors, #like, of), 0)
  end
  for i, vector in ipairs(vectors) do
    if vector.dtype ~= like[i].dtype or not same_shape(vector, like[i]) then
      error(("%s: vector %d must be a %s tensor of %s like the %s, got %s of %s"):format(name, i,
        like[i].dtype, text(like[i]), of, vector.dtype, text(vector)), 0)
    end
  end
end

local known = { create_graph = true }

-- What every function here starts with: the inputs ready to be differentiated by.
local function enter(name, fn, inputs, options)
  if type(fn) ~= "function" and type(fn) ~= "table" then
    error(("%s: the first argument must be a function, got %s"):format(name, type(fn)), 0)
  end
  for option in pairs(options or {}) do
    if not known[option] then
      error(('%s: there is no option "%s"; the options are create_graph'):format(name,
        tostring(option)), 0)
    end
  end
  local call = { fn = fn, name = name, create_graph = options and options.create_graph or false }
  local given
  given, call.listed = list_of(name, "inputs", inputs)
  call.inputs = {}
  for i, x in ipairs(given) do
    local keep = call.create_graph and x.requires_grad
    call.inputs[i] = keep and x or x:detach():requires_grad_()
  end
  return call
end

local function run(call)
  local outputs = { call.fn(unpack(call.inputs, 1, #call.inputs)) }
  list_of(call.name, "what the function returns", outputs)
  return outputs
end

local function finished(call, list, listed)
  for i, x in ipairs(list) do
    if not call.create_graph then list[i] = x:detach() end
  end
  if listed then return list end
  return list[1]
end

-- moon.grad of those outputs that require a gradient, with zeros where nothing arrives.
local function gradients(outputs, inputs, seeds, create_graph, retain_graph)
  local from, weights, grads = {}, {}, {}
  for i, y in ipairs(outputs) do
    if y.requires_grad then from[#from + 1], weights[#weights + 1] = y, seeds[i] end
  end
  if #from > 0 then
    grads = grad(from, inputs, { grad_outputs = weights, create_graph = create_graph,
                                 retain_graph = retain_graph or create_graph,
                                 allow_unused = true })
  end
  for i, x in ipairs(inputs) do grads[i] = grads[i] or zeros_like(x) end
  return grads
end

local function vjp(fn, inputs, vectors, options)
  local call = enter("vjp", fn, inputs, options)
  local outputs = run(call)
  local seeds
  if vectors == nil then
    seeds = {}
    for i, y in ipairs(outputs) do
      if y:numel() ~= 1 then
        error(("vjp: output %d has %s elements, so vectors of the outputs' shapes are needed")
          :format(i, text(y)), 0)
      end
      seeds[i] = core.ones_like(y)
    end
  else
    seeds = list_of("vjp", "vectors", vectors)
    check_vectors("vjp", seeds, "outputs", outputs)
  end
  local products = gradients(outputs, call.inputs, seeds, call.create_graph)
  return finished(call, outputs, #outputs > 1), finished(call, products, call.listed)
end

-- The product of the Jacobian's transpose with a vector is linear in the vector, and its gradient
-- by the vector is the Jacobian: two walks back make one forward.
local function jvp(fn, inputs, vectors, options)
  local call = enter("jvp", fn, inputs, options)
  local seeds = list_of("jvp", "vectors", vectors)
  check_vectors("jvp", seeds, "inputs", call.inputs)
  local outputs, dummies = run(call), {}
  for i, y in ipairs(outputs) do dummies[i] = zeros_like(y):requires_grad_() end
  local back = gradients(outputs, call.inputs, dummies, true)
  local products = gradients(back, dummies, seeds, call.create_graph)
  return finished(call, outputs, #outputs > 1), finished(call, products, #outputs > 1)
end

local function single(call, outputs)
  if #outputs ~= 1 then
    error(("%s: the function must return one tensor, got %d"):format(call.name, #outputs), 0)
  end
  return outputs[1]
end

local function scalar(call, outputs)
  local y = single(call, outputs)
  if y:numel() ~= 1 then
    error(("%s: the function must return a single number, got a tensor of %s"):format(call.name,
      text(y)), 0)
  end
  return y
end

local function hvp(fn, inputs, vectors, options)
  local call = enter("hvp", fn, inputs, options)
  local seeds = list_of("hvp", "vectors", vectors)
  check_vectors("hvp", seeds, "inputs", call.inputs)
  local y = scalar(call, run(call))
  local first = gradients({ y }, call.inputs, { core.ones_like(y) }, true)
  local products = gradients(first, call.inputs, seeds, call.create_graph)
  return finished(call, { y }), finished(call, products, call.listed)
end

-- One row for each element of y: a list of tensors of y's shape and then the input's.
local function rows_of(y, inputs, create_graph)
  local rows, count = {}, y:numel()
  for i = 1, #inputs do rows[i] = {} end
  for k = 1, count do
    local seed = core.zeros(count, { dtype = y.dtype })
    seed[k] = 1
    local grads = gradients({ y }, inputs, { seed:to(y.device):reshape(y:size()) }, create_graph,
      true)
    for i, g in ipairs(grads) do rows[i][k] = g end
  end
  local full = {}
  for i, x in ipairs(inputs) do
    local shape = y:size()
    for _, size in ipairs(x:size()) do shape[#shape + 1] = size end
    full[i] = count > 0 and core.stack(rows[i]):reshape(shape)
      or core.zeros(shape, { dtype = x.dtype, device = x.device })
  end
  return full
end

local function jacobian(fn, inputs, options)
  local call = enter("jacobian", fn, inputs, options)
  local y = single(call, run(call))
  return finished(call, rows_of(y, call.inputs, call.create_graph), call.listed)
end

local function hessian(fn, inputs, options)
  local call = enter("hessian", fn, inputs, options)
  local y = scalar(call, run(call))
  local first, blocks = gradients({ y }, call.inputs, { core.ones_like(y) }, true), {}
  for i, g in ipairs(first) do
    blocks[i] = finished(call, rows_of(g, call.inputs, call.create_graph), call.listed)
  end
  if call.listed then return blocks end
  return blocks[1]
end

--- The gradient of one or several outputs with respect to chosen inputs: leaves, or anything on the
-- way. Nothing is added to any `.grad`, and only what leads from the outputs to the inputs is run.
-- A list of inputs gives a list, one tensor a tensor. An input that the outputs do not depend on is
-- an error, or nil under allow_unused.
-- @param options grad_outputs: a gradient for each output, which a single number does not need
-- (false among them: none); create_graph: the gradients can be differentiated again; retain_graph:
-- keeps what the tape saved for another time (default: create_graph); allow_unused
-- @usage local x = moon.tensor({ 1, 2, 3 }, { requires_grad = true })
-- local slope = moon.grad((x ^ 3):sum(), x, { create_graph = true })
-- local bend = moon.grad(slope:sum(), x)
-- assert(slope[2] == 12 and bend[2] == 12)
-- @function moon.grad(outputs, inputs, options)

--- Gradients of a single number (or, with a gradient of its shape, of any tensor) into the `.grad`
-- of every leaf it depends on, added to what is there.
-- @param options retain_graph, create_graph: as in moon.grad. Under create_graph a leaf's `.grad`
-- may hold on to the leaf: set it to nil when done, or use moon.grad.
-- @usage local x = moon.tensor({ 1, 2 }, { requires_grad = true })
-- x:square():sum():backward()
-- assert(x.grad[2] == 4)
-- @function x:backward(gradient, options)

--- Lets a result of operators keep its gradient in `.grad`, as leaves do. Gives the tensor back.
-- @usage local x = moon.ones(2, { requires_grad = true })
-- local y = (x * 3):retain_grad()
-- y:square():sum():backward()
-- assert(y.grad[1] == 6)
-- @function x:retain_grad()

--- The outputs, and for each input the sum over outputs of its vector times the Jacobian, in one
-- walk back. Vectors have the outputs' shapes; they may be left out for single numbers.
-- @usage local y, g = moon.vjp(function(x) return x * x end, moon.ones(3), moon.ones(3))
-- @function moon.vjp(fn, inputs, vectors, options)
function core.vjp(...) return core.enable_grad(vjp, ...) end

--- The outputs, and for each output the sum over inputs of the Jacobian times its vector: the slope
-- along the vectors, which have the inputs' shapes.
-- @usage local y, slope = moon.jvp(function(x) return x * x end, moon.ones(3), moon.ones(3))
-- @function moon.jvp(fn, inputs, vectors, options)
function core.jvp(...) return core.enable_grad(jvp, ...) end

--- The number that fn gives, and for each input the Hessian's rows times the vectors, without
-- making the Hessian.
-- @usage local y, h = moon.hvp(function(x) return (x ^ 3):sum() end, moon.ones(3), moon.ones(3))
-- @function moon.hvp(fn, inputs, vectors, options)
function core.hvp(...) return core.enable_grad(hvp, ...) end

--- All derivatives of one output: for each input a tensor of the output's shape and then the
-- input's.
-- @usage local j = moon.jacobian(function(x) return x:cumsum(1) end, moon.ones(3))
-- @function moon.jacobian(fn, inputs, options)
function core.jacobian(...) return core.enable_grad(jacobian, ...) end

--- All second derivatives of a single number; for a list of inputs a list of lists, whose [i][j]
-- has the shape of input i and then that of input j.
-- @usage local h = moon.hessian(function(x) return (x ^ 3):sum() end, moon.ones(3))
-- @function moon.hessian(fn, inputs, options)
function core.hessian(...) return core.enable_grad(hessian, ...) end
