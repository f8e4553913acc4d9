-- Checkpoints: memory against time for deep networks.
--
-- moon.checkpoint(fn, ...) gives fn(...) and stores nothing of how it was calculated. In backward
-- fn runs again, on the tape, and the walk goes on through what that recorded, so that gradients
-- reach the arguments, the parameters and whatever else fn reads, added up in the order they have
-- without a checkpoint: the same bits. n layers in sqrt(n) checkpoints need memory for about
-- 2 sqrt(n) layers and one forward more. (Chen et al. 2016, Training deep nets with sublinear
-- memory cost.)

local core = require "moonlet.core"
local unpack = require "moonlet.unpack"
local values = require "moonlet.values"

local pack, tensors_of, same_shape = values.pack, values.tensors, values.same_shape

-- What the tape calls: the tensors that went in and the gradients of those that came out -> what
-- comes out now, and the same gradients.
local function run(payload, saved, grads)
  local arguments, outputs, list = {}, {}, {}
  for i = 1, payload.arguments.n do arguments[i] = payload.arguments[i] end
  for k, place in ipairs(payload.inputs) do arguments[place] = saved[k] end
  local results = pack(core.recompute(
    payload.fn, payload.stream, unpack(arguments, 1, payload.arguments.n)))
  for k, place in ipairs(payload.outputs) do
    local result, gradient = results[place], grads[k] or false
    if not core.is_tensor(result) or gradient and not same_shape(result, gradient) then
      error(("the function gave another result %d when it was run again"):format(place), 0)
    end
    outputs[k], list[k] = result, gradient
  end
  core.collect_spent()
  return outputs, list
end

local function any_requires_grad(tensors)
  for _, tensor in ipairs(tensors) do
    if tensor.requires_grad then return true end
  end
  return false
end

local function record(fn, stream, arguments, results)
  local inputs, places = tensors_of(arguments)
  local outputs, output_places = tensors_of(results)
  for _, place in ipairs(places) do arguments[place] = nil end
  local payload = {
    run = run, fn = fn, stream = core.keep(stream), arguments = arguments, inputs = places,
    outputs = output_places,
  }
  local taped = core.function_record(payload, "checkpoint", inputs, outputs, inputs, {}, true)
  for k, place in ipairs(output_places) do results[place] = taped[k] end
  return results
end

local function split(first, ...) return first, pack(...) end

--- Runs fn(...) without storing what its backward needs; backward runs it again, with the same
-- random numbers. fn must calculate the same from the same arguments; running statistics do not
-- move a second time. Where fn is a module, its forward hooks run twice.
-- @tparam function fn a function or a module
-- @usage local layer = moon.nn.Linear(3, 3)
-- local x = moon.randn(2, 3)
-- moon.checkpoint(layer, x):sum():backward()
-- assert(layer.weight.grad ~= nil)
-- @function moon.checkpoint(fn, ...)
local function checkpoint(fn, ...)
  local meta = type(fn) == "table" and getmetatable(fn)
  if type(fn) ~= "function" and not (type(meta) == "table" and meta.__call) then
    error(("checkpoint: expected a function or a module, got %s"):format(type(fn)), 2)
  end
  if not core.is_grad_enabled() then return fn(...) end
  local stream = core.get_rng_state()
  if type(fn) ~= "function" then
    local object = fn
    fn = function(...) return object(...) end
  end
  local touched, results = split(core.untaped(fn, ...))
  core.collect_spent()
  if touched or any_requires_grad((tensors_of(results))) then
    record(fn, stream, pack(...), results)
  end
  return unpack(results, 1, results.n)
end

return checkpoint
