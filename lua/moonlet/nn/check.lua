-- net:check{ n, c, h, w }: takes shapes through a whole network without calculating anything, lists
-- every mismatch by the layer's name, and writes the bill: parameters, activations, multiply-adds,
-- receptive field and stride of each layer.
--
-- The network runs as it is written, on tensors without elements (device "meta"), so every
-- operator's own checks speak, there is no second description of a layer, and a forward may be any
-- Lua that does not look at elements. A layer that refuses its input is noted, and the check goes
-- on with the output it would have given for the input it wants; where that is not known, with the
-- last output inside of the module that failed; where there is none, it ends there.

local core = require "moonlet.core"
local options = require "moonlet.options"
local Class = require "moonlet.class"
local Report = require "moonlet.nn.check.report"
local field = require "moonlet.nn.check.field"
local fit = require "moonlet.nn.check.fit"
local shadow = require "moonlet.nn.check.shadow"
local unpack = require "moonlet.unpack"
local walk = require "moonlet.nn.walk"

local M = {}

local unknown = setmetatable({}, { __tostring = function() return "the shape is unknown" end })

local pack = require("moonlet.values").pack

local function first_tensor(values)
  for i = 1, values.n or #values do
    if core.is_tensor(values[i]) then return values[i], i end
  end
end

local function elements(values)
  local count = 0
  for i = 1, values.n do
    if core.is_tensor(values[i]) then count = count + values[i]:numel() end
  end
  return count
end

-- "lua/net.lua:12: conv2d: ..." keeps only what is wrong
local function sentence(message)
  return (tostring(message):gsub("^[^\n:]+:%d+: ", ""):gsub("\nstack traceback.*", ""))
end

-- -- one visit of a module

-- Parameters that no row has counted yet.
local function new_parameters(state, module, only_own)
  local count = 0
  local function add(tensor)
    if state.counted[tensor] or core.is_lazy(tensor) then return end
    state.counted[tensor] = true
    count = count + tensor:numel()
  end
  if not only_own then
    for _, tensor in ipairs(module:parameters()) do add(tensor) end
    return count
  end
  for _, entry in ipairs(walk.entries(module)) do
    if entry.kind == "parameter" then add(entry.value) end
  end
  return count
end

local function product(list, from)
  local result = 1
  for i = from, #list do result = result * list[i] end
  return result
end

-- Weights of a window, and what a fully connected layer between the same shapes would have.
local function convolution_figures(row, module, before)
  local dims = fit.dims(module)
  if not dims or not core.is_tensor(module.weight) then return end
  local size = module.weight:size()
  if #size ~= dims + 2 or #before ~= dims + 2 then return end
  if not module.transposed then row.weights = product(size, 3) end
  row.dense = product(before, 2) * product(row.output, 2)
end

local function note_field(row, info)
  if info.all then row.sees_all = true
  elseif info.windows then row.field, row.stride = info.field, info.stride end
end

local function add_row(state, visit, results)
  local y, module = first_tensor(results), visit.module
  local own_work = core.multiply_adds() - visit.start - visit.inner_work
  local parameters = new_parameters(state, module, visit.inner > 0)
  if visit.inner > 0 and own_work == 0 and parameters == 0 then return end
  local row = {
    name = visit.name, layer = module.class_name, output = y and y:size() or {},
    parameters = parameters, activations = elements(results), multiply_adds = own_work,
    problem = visit.problem,
  }
  if visit.inner == 0 and y and visit.before then
    convolution_figures(row, module, visit.before)
  end
  if y and state.info[y] then note_field(row, state.info[y]) end
  row.pools = row.weights == nil and row.field ~= nil and visit.info ~= state.info[y] or nil
  state.report:add_row(row)
end

local function see(state, visit, results)
  local y = first_tensor(results)
  if not y then return end
  local info = state.info[y]
  if visit.inner == 0 then
    info = visit.info
    if visit.before then info = field.behind(info, visit.module, visit.before, y:size()) end
  elseif not info then
    info = visit.largest or visit.info
  end
  state.info[y], state.current = info, info
end

-- The refused input as the layer wants it, or nil.
local function wanted_input(visit, x)
  local module = visit.module
  local size = fit.sizes(module, x:size()) or x:size()
  local dtype = fit.dtype(module)
  local same = dtype == nil or dtype == x.dtype
  if same and table.concat(size, "x") == table.concat(x:size(), "x") then return nil end
  return core.empty(size, { dtype = dtype or x.dtype })
end

-- After a refusal: the results the layer would give, or the nearest there is.
local function go_on(visit, arguments)
  local x, position = first_tensor(arguments)
  if visit.inner == 0 and x then
    local wanted = wanted_input(visit, x)
    if wanted then
      arguments[position] = wanted
      local again = pack(pcall(visit.forward, visit.module, unpack(arguments, 1, arguments.n)))
      if again[1] then
        visit.before = wanted:size()
        return pack(unpack(again, 2, again.n))
      end
    end
  end
  if visit.last then return visit.last end
  error(unknown, 0)
end

local function run_module(state, visit, arguments)
  local results = pack(pcall(visit.forward, visit.module, unpack(arguments, 1, arguments.n)))
  if results[1] then return pack(unpack(results, 2, results.n)) end
  local message = results[2]
  if message == unknown or tostring(message):find("interrupted", 1, true) then error(message, 0) end
  visit.problem = state.report:add_problem(visit.name, visit.module.class_name, sentence(message))
  return go_on(visit, arguments)
end

-- Tells the visit above what happened in this one.
local function tell(state, visit, results)
  local above = visit.above
  local y = first_tensor(results)
  if not above then return end
  above.inner = above.inner + 1
  above.inner_work = above.inner_work + core.multiply_adds() - visit.start
  above.last = results
  above.largest = field.larger(above.largest, y and state.info[y])
end

local function visit_module(state, name, module, forward, ...)
  local arguments = pack(...)
  local x = first_tensor(arguments)
  local visit = {
    name = name, module = module, forward = forward, above = state.visit, inner = 0,
    inner_work = 0, start = core.multiply_adds(), before = x and x:size(),
    info = x and state.info[x] or state.current,
  }
  state.visit = visit
  local ok, results = pcall(run_module, state, visit, arguments)
  state.visit = visit.above
  if not ok then error(results, 0) end
  see(state, visit, results)
  add_row(state, visit, results)
  tell(state, visit, results)
  return unpack(results, 1, results.n)
end

-- A function in the place of a layer: a refusal is told with its place.
local function watch_function(state, name, fn)
  return function(...)
    local results = pack(pcall(fn, ...))
    if results[1] then return unpack(results, 2, results.n) end
    local message = results[2]
    if message == unknown then error(message, 0) end
    state.report:add_problem(name, "function", sentence(message))
    error(unknown, 0)
  end
end

-- Puts a watching forward into every module, and round functions that stand for layers.
local function watch(state, net)
  for name, module in net:named_modules() do
    local own = rawget(module, "forward")
    rawset(module, "forward", function(self, ...)
      -- looked up at each call: a lazy layer becomes another class in its first forward
      return visit_module(state, name, self, own or getmetatable(self).forward, ...)
    end)
    for _, entry in ipairs(walk.entries(module)) do
      if entry.kind == "function" and entry.key ~= "forward" then
        local place = name == "" and entry.name or name .. "." .. entry.name
        rawset(entry.holder, entry.key, watch_function(state, place, entry.value))
      end
    end
  end
end

-- -- arguments

local function first_dtype(net)
  for _, parameter in ipairs(net:parameters()) do
    if not core.is_lazy(parameter) then return parameter.dtype end
  end
  return "float32"
end

local function read_shape(number, shape)
  if type(shape) ~= "table" then
    error(("check: input %d must be a list of sizes such as {1, 3, 32, 32}, not %s"):format(
      number, options.show(shape)), 4)
  end
  for key, value in pairs(shape) do
    local is_size = type(key) == "number" and type(value) == "number" and value >= 0
      and value == math.floor(value)
    if not is_size and not (key == "dtype" and type(value) == "string") then
      error(("check: input %d: sizes must be whole numbers, dtype a name; found %s = %s"):format(
        number, tostring(key), options.show(value)), 4)
    end
  end
end

local function make_inputs(net, shapes)
  local inputs = {}
  for i, shape in ipairs(shapes) do
    local size = {}
    for k, n in ipairs(shape) do size[k] = n end
    inputs[i] = core.empty(size, { dtype = shape.dtype or first_dtype(net) })
  end
  return inputs
end

local function finish(report, results, info)
  local y = results and first_tensor(results)
  if y then report.output = y:size() end
  if info and not info.all and info.windows then
    report.field, report.stride = info.field, info.stride
  end
end

-- The last field that windows gave, also where a flattened one sees all.
local function last_field(report)
  for i = #report.rows, 1, -1 do
    local row = report.rows[i]
    if row.field then return { field = row.field, stride = row.stride, windows = true } end
  end
end

local function run(net, shapes, report)
  local inputs = make_inputs(net, shapes)
  local state = {
    report = report, counted = {}, info = setmetatable({}, { __mode = "k" }),
    current = field.start(inputs[1]:size()),
  }
  for _, x in ipairs(inputs) do state.info[x] = field.start(x:size()) end
  net:eval()
  watch(state, net)
  local results = pack(pcall(net.forward, net, unpack(inputs)))
  if not results[1] and results[2] ~= unknown then error(results[2], 0) end
  if not results[1] then
    report:add_problem("", net.class_name,
      "what follows could not be checked: the shape is unknown")
  end
  finish(report, results[1] and pack(unpack(results, 2, results.n)) or nil, last_field(report))
end

--- Checks a network on shapes alone; Module:check calls it.
-- @tparam Module net
-- @param ... a list of sizes for each input, with dtype = "int64" in it where it is no float
-- @usage local nn = require "moonlet".nn
-- local net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 4, 3))
-- local report = net:check { 1, 3, 32, 32 }
-- assert(report.ok and report.parameters == 224 + 584 + 292)
-- assert(report.field[1] == 7 and report.weights == 27)
function M.run(net, ...)
  local shapes = { ... }
  if #shapes == 0 then
    error("check: give the sizes of the input, as in net:check { 1, 3, 32, 32 }", 3)
  end
  for i, shape in ipairs(shapes) do read_shape(i, shape) end
  local report = Report()
  shadow.run(net, function() run(net, shapes, report) end)
  return report
end

--- nn.check(net, ...): net:check(...) as a function.
return setmetatable(M, {
  __call = function(_, net, ...)
    if not Class.is_instance(net, require "moonlet.nn.module") then
      error("nn.check: the first argument is a module, not " .. options.show(net), 2)
    end
    return M.run(net, ...)
  end,
})
