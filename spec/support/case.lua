-- Cases: one table for each operator, from which every witness follows (witnesses.lua).
--
-- spec/cases/<family>.lua returns operator name -> entry:
--   naive = function(...)     the same call by plain loops or the simplest independent formula; it
--                             gets float64 tensors and gives tensors, nested tables or numbers
--   call = function(...)      what is called; moon[operator] unless said
--   cases = { { arguments..., n = count where some are nil, torch = "a PyTorch expression" }, ... }
--   fuzz = function(draw)     arguments of odd shapes; draw(low, high) gives a whole number
--   large = { arguments... }  enough work for several threads, to be equal bit for bit
--   peer, gradient, second, dtypes, layouts, why, tolerance: see the witnesses
--
-- Arguments that describe tensors are drawn from a Philox stream (spec/support/stream.lua) seeded
-- by operator, case and position, which spec/fixtures/make_fixtures.py computes as well.
local sources = require "spec.support.sources"

local case = {}

local Input = {}
Input.__index = Input

local function input(kind, fields)
  fields.kind = kind
  return setmetatable(fields, Input)
end

function case.is_input(value) return getmetatable(value) == Input end

-- A float64 tensor of numbers from low to high (-2 to 2).
function case.float(shape, options)
  options = options or {}
  return input("float", { shape = shape, low = options.low or -2, high = options.high or 2 })
end

-- An int64 tensor of whole numbers from low to high, both included.
function case.whole(shape, low, high)
  return input("whole", { shape = shape, low = low, high = high })
end

-- A bool tensor.
function case.bool(shape) return input("bool", { shape = shape }) end

-- A tensor of these values, float64 unless dtype says else.
function case.values(values, dtype)
  return input("values", { values = values, dtype = dtype or "float64" })
end

-- A Tensor[] argument of such inputs.
function case.list(members) return input("list", { members = members }) end

-- A number that belongs to operator, case and position, below 2^31.
function case.seed(...)
  local hash = 17
  for byte in table.concat({ ... }, ":"):gmatch "." do
    hash = (hash * 131 + byte:byte()) % 2147483647
  end
  return hash
end

-- The tensor that an input describes.
function case.make(described, seed)
  local moon, stream = require "moonlet", require "spec.support.stream"
  local d = described
  if d.kind == "float" then return stream.uniform(seed, d.shape, d.low, d.high) end
  if d.kind == "whole" then return stream.whole(seed, d.shape, d.low, d.high) end
  if d.kind == "bool" then return stream.bool(seed, d.shape) end
  return moon.tensor(d.values, { dtype = d.dtype })
end

-- Calls fn(described, seed, position) for every tensor among a row's arguments in order, members of
-- lists one by one.
function case.each_input(operator, number, row, fn)
  local position = 0
  for i = 1, row.n or #row do
    local argument = row[i]
    local members = {}
    if case.is_input(argument) then
      members = argument.kind == "list" and argument.members or { argument }
    end
    for _, member in ipairs(members) do
      position = position + 1
      fn(member, case.seed(operator, number, position), position)
    end
  end
end

-- The arguments of a row with tensors made, and their count.
function case.arguments(operator, number, row)
  local made = {}
  case.each_input(operator, number, row, function(described, seed)
    made[#made + 1] = case.make(described, seed)
  end)
  local arguments, taken, count = {}, 0, row.n or #row
  local function take()
    taken = taken + 1
    return made[taken]
  end
  for i = 1, count do
    local argument = row[i]
    if not case.is_input(argument) then arguments[i] = argument
    elseif argument.kind == "list" then
      arguments[i] = {}
      for k = 1, #argument.members do arguments[i][k] = take() end
    else
      arguments[i] = take()
    end
  end
  return arguments, count
end

-- Names of the families, sorted: the files of spec/cases.
function case.families()
  local names = {}
  for _, path in ipairs(sources.files("spec/cases", ".lua")) do
    names[#names + 1] = path:match("([%w_]+)%.lua$")
  end
  return names
end

-- A family's entries as a list sorted by name, each with its operator's name.
function case.family(name)
  local list = {}
  for operator, entry in pairs(require("spec.cases." .. name)) do
    entry.operator = operator
    list[#list + 1] = entry
  end
  table.sort(list, function(a, b) return a.operator < b.operator end)
  return list
end

return case
