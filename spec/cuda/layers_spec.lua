-- Every layer of nn on a CUDA device: the CPU's results and gradients, in float32.
local moon = require "moonlet"
local gpu = require "spec.support.gpu"
local layers = require "spec.support.layers"
local naive = require "spec.support.naive"

local nn = moon.nn
local unpack = table.unpack or unpack

local function first_of(...) return (...) end

local function leaves_on(device, list)
  local there = {}
  for i, x in ipairs(list) do
    there[i] = x
    if moon.is_tensor(x) then
      there[i] = x:detach():to(device)
      if x.requires_grad then there[i]:requires_grad_() end
    end
  end
  return there
end

-- The output, and the gradients of inputs and parameters by name, on the CPU.
local function results_of(layer, list, seed)
  moon.manual_seed(seed)
  local y = first_of(layer(unpack(list)))
  local found = { output = y:cpu() }
  y:square():sum():backward()
  for i, x in ipairs(list) do
    if moon.is_tensor(x) and x.grad then found["input " .. i] = x.grad:cpu() end
  end
  for name, parameter in layer:named_parameters() do
    if parameter.grad then found[name] = parameter.grad:cpu() end
  end
  return found
end

local function close(there, here)
  for name, expected in pairs(here) do
    assert.is_truthy(there[name], name)
    local scale = expected:numel() > 0 and math.max(1, expected:abs():max():item()) or 1
    naive.close(there[name], expected, 1e-4 * scale)
  end
end

local function materialised(make, name, list)
  moon.manual_seed(4)
  local layer = make(nn[name])
  layer(unpack(list))   -- lazy layers take their shapes
  moon.manual_seed(4)
  return layer
end

describe("every layer on " .. gpu.device, function()
  local names = {}
  for name in pairs(layers.rows) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    it(name, function()
      local make, inputs = layers.rows[name][1], layers.rows[name][2]
      moon.manual_seed(11)
      local list = layers.inputs_of(inputs)
      local layer = materialised(make, name, list)
      local state = {}
      for key, tensor in pairs(layer:state_dict()) do state[key] = tensor:clone() end
      local here = results_of(layer, leaves_on("cpu", list), 21)
      local other = materialised(make, name, list):cuda()
      other:load_state_dict(state)
      close(results_of(other, leaves_on(gpu.device, list), 21), here)
    end)
  end
end)
