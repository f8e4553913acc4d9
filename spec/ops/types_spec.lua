-- What a descriptor says of element types, and the reference with it, is true: the cases of each
-- operator run in the types it lists and are refused in all others.
local moon = require "moonlet"
local case = require "spec.support.case"

local unpack = table.unpack or unpack   -- luacheck: ignore

local dtypes = { "float32", "float64", "float16", "bfloat16", "int64", "int32", "uint8", "bool" }

local descriptors = {}
for _, op in ipairs(moon.operators()) do descriptors[op.name] = op end

-- The arguments with every float64 tensor in another type, and whether there was one.
local function converted(arguments, count, dtype)
  local had = false
  local function convert(value)
    if not moon.is_tensor(value) or value.dtype ~= "float64" then return value end
    had = true
    return value:to(dtype)
  end
  local list = {}
  for i = 1, count do
    local argument = arguments[i]
    if type(argument) == "table" and moon.is_tensor(argument[1]) then
      list[i] = {}
      for k, member in ipairs(argument) do list[i][k] = convert(member) end
    else
      list[i] = convert(argument)
    end
  end
  return list, had
end

-- Whether a case of the entry runs in a type; nil where none has a float64 tensor to convert.
local function runs(entry, dtype)
  local tried
  for number, row in ipairs(entry.cases) do
    local arguments, count = case.arguments(entry.operator, number, row)
    local list, had = converted(arguments, count, dtype)
    if had then
      tried = true
      if pcall(entry.call or moon[entry.operator], unpack(list, 1, count)) then return true end
    end
  end
  if tried then return false end
end

-- A cast takes anything, but its cases name a type; random_ takes bool, but not up to three.
local left_out = { cast = true, random = true }

for _, family in ipairs(case.families()) do
  describe("types of " .. family, function()
    for _, entry in ipairs(case.family(family)) do
      local op = descriptors[entry.operator]
      if not op.hidden and not left_out[op.name] then
        it("are those that " .. op.name .. " says", function()
          local says = {}
          for _, dtype in ipairs(op.dtypes) do says[dtype] = true end
          for _, dtype in ipairs(dtypes) do
            local does = runs(entry, dtype)
            if does ~= nil then assert.equal(says[dtype] == true, does, dtype) end
          end
        end)
      end
    end
  end)
end
