-- What tensors and the module have beyond operators: names of the element types, short casts, the
-- raw pointer for LuaJIT's FFI, and help.
--
-- Called once by init.lua with the core module, whose method table it completes.

local same_shape = require("moonlet.values").same_shape

local dtypes = { "float32", "float64", "float16", "bfloat16", "int64", "int32", "uint8", "bool" }

-- x:float() and so on, Torch's names for casts
local casts = {
  float = "float32", double = "float64", half = "float16", bfloat16 = "bfloat16",
  long = "int64", int = "int32", byte = "uint8", bool = "bool", cpu = "cpu",
}

local pointers = {
  float32 = "float *", float64 = "double *", float16 = "uint16_t *", bfloat16 = "uint16_t *",
  int64 = "int64_t *", int32 = "int32_t *", uint8 = "uint8_t *", bool = "uint8_t *",
}

--- x:data(): a typed FFI pointer to the first element, for raw loops under LuaJIT. It keeps the
-- tensor alive, and asking for it counts as a write. Only a contiguous tensor is walked in order;
-- what comes from a convolution has its channels last, and x:contiguous() puts it in order.
-- @usage local p = moon.zeros(3):data(); p[0] = 1
local function data(x)
  local has_ffi, ffi = pcall(require, "ffi")
  if not has_ffi then
    error("data: raw pointers need LuaJIT's ffi, which this Lua has not; use totable or tobytes", 2)
  end
  local pointer = ffi.cast(pointers[x.dtype], x:address())
  return ffi.gc(pointer, function() return x end)   -- the closure holds x
end

local function describe(op)
  local lines = { op.name .. op.schema, "", op.doc }
  if op.formula then lines[#lines + 1] = "formula: " .. op.formula end
  if op.derivative then lines[#lines + 1] = "derivative: " .. op.derivative end
  if op.derivative_y then lines[#lines + 1] = "derivative of y: " .. op.derivative_y end
  for _, attribute in ipairs(op.attributes) do
    if attribute.choices then
      lines[#lines + 1] = attribute.name .. ": one of " .. table.concat(attribute.choices, ", ")
    end
  end
  if op.inplace then lines[#lines + 1] = "in place: " .. op.name .. "_" end
  if op.order == "none" then lines[#lines + 1] = "has no gradient" end
  if op.order == "first" then lines[#lines + 1] = "its gradient has no gradient" end
  return table.concat(lines, "\n")
end

local function needs_tensor(core, name, position, value)
  if core.is_tensor(value) then return end
  error(("%s: argument %d must be a tensor, got %s"):format(name, position, type(value)), 3)
end

return function(core)
  local methods = core.methods
  local is_dtype = {}
  for _, name in ipairs(dtypes) do
    core[name] = name
    is_dtype[name] = true
  end
  -- Whether a value names an element type.
  function core.is_dtype(value) return is_dtype[value] == true end
  -- x:cuda(), x:cuda(1)
  function methods.cuda(x, device) return methods.to(x, ("cuda:%d"):format(device or 0)) end
  for method, target in pairs(casts) do
    methods[method] = function(x) return methods.to(x, target) end
  end
  methods.data = data

  --- moon.help(what): what an operator does, as text; `what` is its name or the function itself.
  -- @usage local text = moon.help("conv2d")
  function core.help(what)
    for _, op in ipairs(core.operators()) do
      if op.name == what or core[op.name] == what or op.name .. "_" == what then
        return describe(op)
      end
    end
    error("help: there is no operator " .. tostring(what) .. "; moon.operators() lists them", 2)
  end

  --- moon.equal(x, y): whether two tensors have the same shape, type and elements, as a boolean.
  -- @usage assert(moon.equal(moon.ones(2), moon.ones(2)))
  function core.equal(x, y)
    needs_tensor(core, "equal", 1, x)
    needs_tensor(core, "equal", 2, y)
    return x.dtype == y.dtype and same_shape(x, y) and x:eq(y):all():item() == true
  end

  --- moon.allclose(x, y, {rtol, atol, equal_nan}): whether isclose holds for all elements, as a
  -- boolean.
  -- @usage assert(moon.allclose(moon.ones(2), moon.ones(2) + 1e-7))
  function core.allclose(x, y, options)
    needs_tensor(core, "allclose", 1, x)
    needs_tensor(core, "allclose", 2, y)
    return core.isclose(x, y, options or {}):all():item() == true
  end
  methods.equal, methods.allclose = core.equal, core.allclose
end
