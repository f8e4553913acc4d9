-- Every elementwise operator once more, written in plain Lua from its definition, for
-- spec/ops/pointwise_spec.lua to compare with. Nothing here is taken from the library's formulas.
--
-- A formula is f(x, ..., attributes in the order of the operator's schema). `integer` holds those
-- that mean something else for whole numbers.
local formulas = { float = {}, integer = {}, attributes = {} }
local f, integer = formulas.float, formulas.integer

local abs, max, min, floor, ceil = math.abs, math.max, math.min, math.floor, math.ceil
local exp, log, sqrt = math.exp, math.log, math.sqrt
local unpack = table.unpack or unpack

local function trunc(x) return x < 0 and ceil(x) or floor(x) end

local function tanh(x)
  local e = exp(-2 * abs(x))
  return (x < 0 and -1 or 1) * (1 - e) / (1 + e)
end

-- 2/sqrt(pi) times the sum of (-1)^n x^(2n+1) / (n! (2n+1)); good to 1e-13 for |x| below 3.
local function erf(x)
  local term, sum = x, x
  for n = 1, 100 do
    term = -term * x * x / n
    sum = sum + term / (2 * n + 1)
  end
  return sum * 2 / sqrt(math.pi)
end

local function sigmoid(x) return 1 / (1 + exp(-x)) end
local function softplus(x) return log(1 + exp(x)) end

-- arithmetic
function f.neg(x) return -x end
f.abs = abs
function f.sign(x) return x > 0 and 1 or x < 0 and -1 or 0 end
function f.square(x) return x * x end
function f.reciprocal(x) return 1 / x end
f.sqrt = sqrt
function f.rsqrt(x) return 1 / sqrt(x) end

-- exponentials and logarithms
f.exp = exp
function f.expm1(x) return exp(x) - 1 end
function f.log(x) return log(x) end
function f.log1p(x) return log(1 + x) end
function f.log2(x) return log(x) / log(2) end
function f.log10(x) return log(x) / log(10) end

-- trigonometry
f.sin, f.cos, f.tan = math.sin, math.cos, math.tan
f.asin, f.acos = math.asin, math.acos
function f.atan(x) return math.atan(x) end
function f.sinh(x) return (exp(x) - exp(-x)) / 2 end
function f.cosh(x) return (exp(x) + exp(-x)) / 2 end
f.tanh = tanh
f.erf = erf
function f.erfc(x) return 1 - erf(x) end

-- rounding
f.floor, f.ceil, f.trunc = floor, ceil, trunc
function f.round(x)
  local down = floor(x)
  local rest = x - down
  if rest == 0.5 then return down % 2 == 0 and down or down + 1 end
  return rest < 0.5 and down or down + 1
end
function f.frac(x) return x - trunc(x) end
function f.clamp(x, low, high) return min(max(x, low), high) end

-- activations
f.sigmoid = sigmoid
function f.logsigmoid(x) return log(sigmoid(x)) end
function f.relu(x) return max(x, 0) end
function f.relu6(x) return min(max(x, 0), 6) end
function f.leaky_relu(x, slope) return x > 0 and x or slope * x end
function f.elu(x, alpha) return x > 0 and x or alpha * (exp(x) - 1) end
function f.selu(x)
  return 1.0507009873554804934 * (x > 0 and x or 1.6732632423543772848 * (exp(x) - 1))
end
function f.celu(x, alpha) return max(x, 0) + min(0, alpha * (exp(x / alpha) - 1)) end
function f.gelu(x) return x * (1 + erf(x / sqrt(2))) / 2 end
function f.gelu_tanh(x) return x / 2 * (1 + tanh(sqrt(2 / math.pi) * (x + 0.044715 * x ^ 3))) end
function f.silu(x) return x * sigmoid(x) end
function f.mish(x) return x * tanh(softplus(x)) end
function f.softplus(x, beta, threshold)
  return beta * x > threshold and x or softplus(beta * x) / beta
end
function f.softsign(x) return x / (1 + abs(x)) end
function f.hardtanh(x, low, high) return min(max(x, low), high) end
function f.hardsigmoid(x) return min(max(x + 3, 0), 6) / 6 end
function f.hardswish(x) return x * min(max(x + 3, 0), 6) / 6 end
function f.hardshrink(x, lambda) return abs(x) > lambda and x or 0 end
function f.softshrink(x, lambda) return f.sign(x) * max(abs(x) - lambda, 0) end
function f.tanhshrink(x) return x - tanh(x) end
function f.threshold(x, limit, value) return x > limit and x or value end

-- two inputs
function f.add(x, y) return x + y end
function f.sub(x, y) return x - y end
function f.mul(x, y) return x * y end
function f.div(x, y) return x / y end
function f.pow(x, y) return x ^ y end
f.maximum, f.minimum = max, min
function f.fmod(x, y) return x - y * trunc(x / y) end
function f.remainder(x, y) return x - y * floor(x / y) end
function f.div_floor(x, y) return floor(x / y) end
function f.atan2(x, y) return (math.atan2 or math.atan)(x, y) end   -- luacheck: ignore
function f.hypot(x, y) return sqrt(x * x + y * y) end

function integer.pow(x, y) return trunc(x ^ y) end

-- comparisons and questions
function f.lt(x, y) return x < y end
function f.le(x, y) return x <= y end
function f.gt(x, y) return x > y end
function f.ge(x, y) return x >= y end
function f.eq(x, y) return x == y end
function f.ne(x, y) return x ~= y end
function f.logical_and(x, y) return x ~= 0 and y ~= 0 end
function f.logical_or(x, y) return x ~= 0 or y ~= 0 end
function f.logical_xor(x, y) return (x ~= 0) ~= (y ~= 0) end
function f.logical_not(x) return x == 0 end
function f.isnan(x) return x ~= x end
function f.isinf(x) return abs(x) == math.huge end
function f.isfinite(x) return abs(x) < math.huge end

-- Attributes to try, in the order of the schema; {} takes the defaults, which are `defaults`.
local a = formulas.attributes
a.clamp = { defaults = { -math.huge, math.huge }, { -1, 2 } }
a.leaky_relu = { defaults = { 0.01 }, { 0.25 } }
a.elu = { defaults = { 1 }, { 0.5 } }
a.celu = { defaults = { 1 }, { 0.5 } }
a.softplus = { defaults = { 1, 20 }, { 2, 3 } }
a.hardtanh = { defaults = { -1, 1 }, { -2, 1.5 } }
a.hardshrink = { defaults = { 0.5 }, { 1.25 } }
a.softshrink = { defaults = { 0.5 }, { 1.25 } }
a.threshold = { { 1, -2 }, { 0, 7 } }

-- Lists of attributes to call an operator with; the first is {} where all have defaults.
function formulas.attribute_sets(op)
  if #op.attributes == 0 then return { {} } end
  local known = a[op.name] or error("no attributes are written down for " .. op.name)
  local sets = known.defaults and { {} } or {}
  for _, set in ipairs(known) do sets[#sets + 1] = set end
  return sets
end

-- f of one element, with the defaults where `set` is empty.
function formulas.of(op, set, whole)
  local formula = whole and integer[op.name] or f[op.name]
  if not formula then error("no formula is written down for " .. op.name) end
  if #set == 0 and a[op.name] then set = a[op.name].defaults end
  if #op.inputs == 2 then return function(x, y) return formula(x, y, unpack(set)) end end
  return function(x) return formula(x, unpack(set)) end
end

return formulas
