-- Cases of the rows of pointwise.def, made from the list of operators: inputs from each row's
-- interval, formulas from spec/support/formulas.lua, broadcasting, single numbers and nothing.
local moon = require "moonlet"
local case = require "spec.support.case"
local formulas = require "spec.support.formulas"
local naive = require "spec.support.naive"

local unpack = table.unpack or unpack

-- PyTorch's expression where it is not torch.<name>(a) or torch.<name>(a, b); attributes follow.
local peers = {
  relu6 = "F.relu6(a)", leaky_relu = "F.leaky_relu(a, %s)", elu = "F.elu(a, %s)",
  celu = "F.celu(a, %s)", gelu = "F.gelu(a)", gelu_tanh = "F.gelu(a, approximate='tanh')",
  silu = "F.silu(a)", mish = "F.mish(a)", softplus = "F.softplus(a, %s, %s)",
  softsign = "F.softsign(a)", hardtanh = "F.hardtanh(a, %s, %s)", hardsigmoid = "F.hardsigmoid(a)",
  hardswish = "F.hardswish(a)", hardshrink = "F.hardshrink(a, %s)",
  softshrink = "F.softshrink(a, %s)", tanhshrink = "F.tanhshrink(a)",
  threshold = "F.threshold(a, %s, %s)", logsigmoid = "F.logsigmoid(a)",
  clamp = "torch.clamp(a, %s, %s)", div_floor = "torch.div(a, b, rounding_mode='floor')",
}

-- PyTorch's slope of hardsigmoid is 1/6 in float32, in float64 too.
local tolerances = { hardsigmoid = { torch = 1e-8 } }

-- Comparisons and questions have no derivative; where it is 0 everywhere there is one.
local function has_gradient(op) return op.derivative ~= nil end

local function python(number)
  if number == math.huge then return "float('inf')" end
  if number == -math.huge then return "-float('inf')" end
  return ("%.17g"):format(number)
end

local function peer_of(op, set)
  if #set == 0 then set = formulas.attributes[op.name] and formulas.attributes[op.name].defaults
    or {} end
  local texts = {}
  for i, value in ipairs(set) do texts[i] = python(value) end
  local text = peers[op.name] or ("torch.%s(%s)"):format(op.name, #op.inputs == 2 and "a, b" or "a")
  return text:format(unpack(texts))
end

local function result_shape(inputs)
  local shape = inputs[1]:size()
  if inputs[2] then shape = (inputs[1]:detach() + inputs[2]:detach()):size() end
  return shape
end

local function naive_of(op)
  return function(...)
    local arguments, inputs, set = { ... }, {}, {}
    for i, value in ipairs(arguments) do
      local list = i <= #op.inputs and inputs or set
      list[#list + 1] = value
    end
    local formula, shape = formulas.of(op, set), result_shape(inputs)
    for i, x in ipairs(inputs) do inputs[i] = x:expand(shape) end
    return naive.build(shape, function(at)
      local y = formula(naive.at(inputs[1], at), inputs[2] and naive.at(inputs[2], at))
      if type(y) == "boolean" then return y and 1 or 0 end
      return y
    end)
  end
end

local function row_of(op, shapes, set)
  local row = {}
  for i = 1, #op.inputs do
    row[i] = case.float(shapes[i], { low = op.low, high = op.high })
  end
  for _, value in ipairs(set) do row[#row + 1] = value end
  return row
end

local function entry_of(op)
  local sets, shapes = formulas.attribute_sets(op), { { 2, 3 }, { 2, 3 } }
  local entry = { naive = naive_of(op), cases = {} }
  entry.tolerance = tolerances[op.name]
  if not has_gradient(op) then entry.gradient, entry.why = false, "the result is true or false" end
  for _, set in ipairs(sets) do
    local row = row_of(op, shapes, set)
    row.torch = peer_of(op, set)
    entry.cases[#entry.cases + 1] = row
  end
  local last = sets[#sets]
  entry.cases[#entry.cases + 1] = row_of(op, { { 2, 1, 3 }, { 2, 1 } }, last)   -- broadcast
  entry.cases[#entry.cases].torch = peer_of(op, last)
  entry.cases[#entry.cases + 1] = row_of(op, { {}, {} }, last)
  entry.cases[#entry.cases + 1] = row_of(op, { { 0, 3 }, { 3 } }, last)
  entry.large = row_of(op, { { 300, 400 }, { 400 } }, last)
  function entry.fuzz(draw)
    local shape = {}
    for i = 1, draw(0, 4) do shape[i] = draw(1, 4) end
    local other = {}
    for i = 1, #shape do other[i] = draw(0, 2) == 0 and 1 or shape[i] end
    return row_of(op, { shape, other }, sets[draw(1, #sets)])
  end
  return entry
end

local entries = {}
for _, op in ipairs(moon.operators()) do
  if op.formula then entries[op.name] = entry_of(op) end
end
return entries
