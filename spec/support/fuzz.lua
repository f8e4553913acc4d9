-- Operators called with arguments drawn from what their schemas allow and a little beyond: odd
-- shapes, types, numbers and options. Each call gives results or an error with a sentence; nothing
-- crashes, hangs or leaks. Sizes are kept small.
local moon = require "moonlet"
local naive = require "spec.support.naive"

local unpack = table.unpack or unpack
local draw   -- a number between two; set by fuzz.seed

local fuzz = {}

-- Starts the draws of arguments, and the library's own numbers, from a seed.
function fuzz.seed(seed)
  draw = naive.generator(seed)
  moon.manual_seed(seed)
end

local function whole(low, high) return math.floor(draw(low, high + 0.999999)) end
local function pick(list) return list[whole(1, #list)] end
local function chance(part) return draw(0, 1) < part end

local dtypes = { "float32", "float32", "float64", "float16", "bfloat16", "int64", "int32", "uint8",
                 "bool" }
local sizes = { 0, 1, 1, 2, 3, 4, 5 }

local function shape(ndim)
  local list = {}
  for i = 1, ndim do list[i] = pick(sizes) end
  return list
end

local current   -- what most tensors of one call look like, so that many calls get through

local function tensor()
  local dtype = chance(0.8) and current.dtype or pick(dtypes)
  local size = chance(0.8) and current.shape or shape(whole(0, 5))
  local x
  if dtype == "bool" then x = moon.rand(size):gt(0.5)
  elseif dtype:find("int") then x = moon.randint(1, 4, size):to(dtype)
  else x = (moon.randn(size) * 2):to(dtype) end
  if x:dim() >= 2 and chance(0.3) then x = x:transpose(1, 2) end
  if x:dim() >= 1 and chance(0.2) then x = x:narrow(1, 1, 1 % (x:size(1) + 1)):expand(x:size()) end
  if x:dim() >= 1 and x:size(1) > 1 and chance(0.2) then x = x:narrow(1, 2, x:size(1) - 1) end
  if chance(0.3) and (dtype:find("float")) then x = x:detach():requires_grad_() end
  return x
end

local numbers = { 0, 1, 2, 3, -1, 0.5, 1.5, -2.5, 7, 100, 2 ^ 31, 2 ^ 53, -2 ^ 62, 1e300, 0 / 0,
                  math.huge, -math.huge }
local integers = { 0, 1, 1, 1, 2, 2, 3, 4, -1, -2, 5, 9, 1000, 2 ^ 31, 2 ^ 40, -2 ^ 40, 2 ^ 62,
                   -2 ^ 62, -2 ^ 63 }

local function list_of(count, f)
  local list = {}
  for i = 1, count do list[i] = f() end
  return list
end

local function integer() return pick(integers) end

local small = { 0, 0, 1, 1, 2, 3, 5, -1, 2 ^ 31, 2 ^ 40, -2 ^ 63 }

-- Padding of `count` dimensions in every form it takes, sometimes of the wrong length.
local function pads(count)
  if chance(0.3) then return pick { "same", "valid", "full", "fool" } end
  if chance(0.5) then return pick(small) end
  return list_of(chance(0.9) and count or whole(0, 4), function()
    return chance(0.5) and pick(small) or list_of(chance(0.9) and 2 or whole(0, 3), integer)
  end)
end

-- A shape for creation, small unless it is absurd.
local makers = {
  ["Tensor"] = tensor,
  ["Tensor[]"] = function() return list_of(whole(0, 3), tensor) end,
  ["Tensor|Tensor[]"] = function()
    return chance(0.5) and tensor() or list_of(whole(0, 3), tensor)
  end,
  ["Tensor|number"] = function() return chance(0.4) and pick(numbers) or tensor() end,
  ["int"] = integer,
  ["index"] = integer,
  ["dim"] = function() return pick { 1, 1, 2, 3, -1, -2, 0, 5, 9 } end,
  ["number"] = function() return pick(numbers) end,
  ["bool"] = function() return chance(0.5) end,
  ["string"] = function()   -- einsum reads one
    return pick { "", "a", "ab", "ab,bc->ac", "aa->a", "...a,...b->...", "a...->a", "ab,ab", "->" }
  end,
  ["dtype"] = function() return pick(dtypes) end,
  ["device"] = function() return "cpu" end,
  ["int[2]"] = function()
    return chance(0.5) and pick { 1, 2, 3, 0, -1, 2 ^ 40 } or { pick(integers), pick(integers) }
  end,
  ["int[1]"] = function() return chance(0.5) and integer() or { integer() } end,
  ["int[3]"] = function()
    return chance(0.5) and pick { 1, 2, 3, 0, -1, 2 ^ 40 } or list_of(3, integer)
  end,
  ["pads[1]"] = function() return pads(1) end,
  ["pads[2]"] = function() return pads(2) end,
  ["pads[3]"] = function() return pads(3) end,
  ["int[]"] = function()
    return list_of(whole(0, 4), function() return pick { 0, 1, 2, 3, 4, 6, -1, 2 ^ 40, -5 } end)
  end,
  ["dims"] = function()
    return chance(0.5) and pick { 1, 2, -1, 0, 4 } or list_of(whole(0, 3), function()
      return pick { 1, 2, 3, -1, 0 }
    end)
  end,
}

local nonsense = { "text", true, {}, { 1, "a" }, { x = 1 }, print, moon }

local function value(param)
  if chance(0.03) then return pick(nonsense) end
  if param.type == "choice" then return chance(0.9) and pick(param.choices) or "other" end
  return makers[param.type]()
end

-- Arguments by position, then some as options.
local function arguments(op)
  current = { dtype = pick(dtypes), shape = shape(pick { 0, 1, 2, 2, 3, 4, 4 }) }
  local all = {}
  for _, name in ipairs(op.parameters) do all[#all + 1] = name end
  local list, count, options = {}, 0, nil
  for _, param in ipairs(all) do
    if param.optional and chance(0.5) then
      if chance(0.5) then
        options = options or {}
        if chance(0.7) then options[param.name] = value(param) end
      else
        count = count + 1
      end
    elseif options then
      options[param.name] = value(param)
    else
      count = count + 1
      list[count] = value(param)
    end
  end
  if options then
    count = count + 1
    list[count] = options
  end
  return list, count
end

-- The parameters in the order of the schema; moon.operators() lists inputs and attributes apart.
local function in_order(op)
  local by_name, list = {}, {}
  for _, group in ipairs { op.inputs, op.attributes } do
    for _, param in ipairs(group) do by_name[param.name] = param end
  end
  for name in op.schema:match("^%((.*)%) %->"):gmatch("([%a_][%w_]*):") do
    list[#list + 1] = by_name[name]
  end
  assert(#op.inputs + #op.attributes == #list, op.name)
  return list
end

local function show(v)
  if moon.is_tensor(v) then
    return ("%s{%s}%s"):format(v.dtype, table.concat(v:size(), ","), v.requires_grad and "g" or "")
  end
  if type(v) ~= "table" or v == moon then return tostring(v) end
  local parts = {}
  for k, member in pairs(v) do parts[#parts + 1] = tostring(k) .. "=" .. show(member) end
  return "{" .. table.concat(parts, " ") .. "}"
end

-- Where to write each call before it is made, for a call that ends the process; nil: nowhere.
fuzz.trace = nil

local function differentiate(result)
  result:backward(moon.ones(result:size(), { dtype = result.dtype }))
end

-- The gradients that have gradients, by the inputs that have one; x.grad stays out of it.
local function differentiate_twice(result, list)
  local leaves = {}
  for _, x in pairs(list) do
    if moon.is_tensor(x) and x.requires_grad and x.is_leaf then leaves[#leaves + 1] = x end
  end
  if #leaves == 0 then return end
  local function seed_of(y) return moon.ones(y:size(), { dtype = y.dtype }) end
  local first = moon.grad(result, leaves, { grad_outputs = seed_of(result), create_graph = true,
                                            allow_unused = true })
  for i = 1, #leaves do
    local g = first[i]
    if g and (g:dim() ~= leaves[i]:dim() or g.dtype ~= leaves[i].dtype) then
      error({ "a gradient of another shape or type" })
    end
    if g and g.requires_grad then
      moon.grad(g, leaves, { grad_outputs = seed_of(g), allow_unused = true, retain_graph = true })
    end
  end
end

local function attempt(name, f, list, count)
  if fuzz.trace then
    local parts = {}
    for i = 1, count do parts[i] = show(list[i]) end
    fuzz.trace:write(name, "(", table.concat(parts, ", "), ")\n")
  end
  local results = { pcall(f, unpack(list, 1, count)) }
  if not results[1] then
    local message = tostring(results[2])
    if #message <= 10 or #message >= 1200 or not message:find(name .. ": ", 1, true) then
      error("no sentence about " .. name .. ": " .. message, 0)
    end
    return
  end
  local result = results[2]
  if moon.is_tensor(result) and result.requires_grad and result:numel() < 1e6 then
    local ok, message = pcall(chance(0.3) and differentiate_twice or differentiate, result, list)
    if not ok and type(message) ~= "string" then error("backward raised no sentence", 0) end
  end
end

-- The operators that users reach.
function fuzz.operators()
  local list = {}
  for _, op in ipairs(moon.operators()) do
    if not op.hidden then
      op.parameters = in_order(op)
      list[#list + 1] = op
    end
  end
  return list
end

-- Calls an operator, and its in-place form, with `rounds` drawn argument lists.
function fuzz.run(op, rounds)
  local inplace = op.inplace and moon[op.name .. "_"]
  for _ = 1, rounds do
    local list, count = arguments(op)
    if not op.only_inplace and moon[op.name] then attempt(op.name, moon[op.name], list, count) end
    if inplace then attempt(op.name .. "_", inplace, list, count) end
  end
  current = nil
end

-- As run, within 256 MiB; fails when memory is live afterwards that was not before.
function fuzz.run_and_weigh(op, rounds)
  collectgarbage()
  collectgarbage()
  local before, budget = moon.memory().live, moon.memory().budget
  moon.set_memory_budget(before + 2 ^ 28)
  local ok, message = pcall(fuzz.run, op, rounds)
  moon.set_memory_budget(budget)
  if not ok then error(message, 0) end
  collectgarbage()
  collectgarbage()
  local lost = moon.memory().live - before
  if lost ~= 0 then error(("%s keeps %d bytes"):format(op.name, lost), 0) end
end

return fuzz
