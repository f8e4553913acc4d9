-- The convolution engines of csrc/cpu before the shapes that the networks of lua/moonlet/models
-- have: each engine is asked for by name, and its three directions are held against products of
-- columns in float64, which no engine has a part in, and against itself on one, two and three
-- threads.
local moon = require "moonlet"
local sources = require "spec.support.sources"

local M = {}

--- What an engine may be off by, of the largest element: sums in another order, or a transform.
function M.tolerance(name) return name:match "^winograd" and 1e-4 or 1e-5 end

local names

-- symbol -> name of the engines that are written out: `const conv_engine CPU(symbol) = { "name",`
local function written_names()
  local list = {}
  for _, path in ipairs(sources.files("csrc/cpu", ".c", ".h")) do
    for _, line in ipairs(sources.lines(path)) do
      local symbol, name = line:match('^const conv_engine CPU%(([%w_]+)%) = { "([^"]+)"')
      if symbol then list[symbol] = name end
    end
  end
  return list
end

--- The names of all engines in the table of convolution.c, whose lines start with one; "" is what
-- the cost model takes. Those of engines that a macro makes are their symbols without conv_.
function M.names()
  if names then return names end
  names = { "" }
  local written, known = written_names(), {}
  for _, line in ipairs(sources.lines "csrc/cpu/convolution.c") do
    for symbol in (line:match "^  &CPU.*" or ""):gmatch "&CPU%((conv_[%w_]+)%)" do
      local name = written[symbol] or symbol:gsub("^conv_", "")
      if not known[name] then names[#names + 1], known[name] = name, true end
    end
  end
  return names
end

-- -- shapes

local builders = {
  function(models) return models.vgg { config = "D" } end,
  function(models) return models.resnet { form = "imagenet", depth = 50 } end,
  function(models) return models.alexnet() end,
  function(models) return models.alexnet { form = "2012" } end,
  function(models) return models.googlenet() end,
  function(models) return models.densenet() end,
  function(models) return models.mobilenet() end,
  function(models) return models.unet() end,
}

local function pair(value)
  if type(value) == "table" then return value[1], value[2] end
  return value, value
end

-- What decides how a convolution may be calculated: all but its sizes.
local function kind_of(layer)
  local kernel, stride = pair(layer.kernel), pair(layer.stride)
  local groups = layer.groups == 1 and "" or layer.weight:size(2) == 1 and ", a channel a group"
    or (", %d groups"):format(layer.groups)
  return ("%dx%d / %d%s"):format(kernel, kernel, stride, groups), kernel
end

-- An image that is small, odd and no square, but has several tiles of everything.
local function image_of(kernel, weights)
  if kernel > 5 then return 35, 30 end
  if weights > 2 ^ 18 then return 9, 7 end
  return 15, 13
end

local MOST_WEIGHTS = 2 ^ 22   -- larger ones would only take long

local function shape_of(layer)
  local kind, kernel = kind_of(layer)
  local weight = layer.weight:size()
  local height, width = image_of(kernel, layer.weight:numel())
  return {
    kind = kind, weights = layer.weight:numel(), weight = weight,
    x = { 2, weight[2] * layer.groups, height, width },
    options = { stride = layer.stride, padding = layer.padding, groups = layer.groups },
    text = ("%s, %d -> %d channels"):format(kind, weight[2] * layer.groups, weight[1]),
  }
end

-- By kind: every shape once.
local function shapes_by_kind()
  local kinds, known = {}, {}
  for _, build in ipairs(builders) do
    local net = moon.with_device("meta", build, moon.models)
    net:apply(function(layer)
      if not layer:is(moon.nn.Conv2d) then return end
      local shape = shape_of(layer)
      if known[shape.text] or shape.weights > MOST_WEIGHTS then return end
      known[shape.text] = true
      kinds[shape.kind] = kinds[shape.kind] or {}
      table.insert(kinds[shape.kind], shape)
    end)
  end
  return kinds
end

--- Of each kind of convolution in the networks the smallest, unless `few` the middle and the
-- largest too.
function M.shapes(few)
  local list, kinds = {}, {}
  for kind, shapes in pairs(shapes_by_kind()) do
    kinds[#kinds + 1] = kind
    kinds[kind] = shapes
  end
  table.sort(kinds)
  for _, kind in ipairs(kinds) do
    local shapes = kinds[kind]
    table.sort(shapes, function(a, b)
      if a.weights ~= b.weights then return a.weights < b.weights end
      return a.text < b.text
    end)
    for _, i in ipairs(few and { 1 } or { 1, math.ceil(#shapes / 2), #shapes }) do
      if list[#list] ~= shapes[i] then list[#list + 1] = shapes[i] end
    end
  end
  return list
end

-- -- the reference

-- Weight (o, c / groups, kh, kw) times the columns of x, group by group.
local function by_columns(x, weight, options)
  local n, o, groups = x:size(1), weight:size(1), options.groups
  local columns = moon.im2col(x, { weight:size(3), weight:size(4) },
    { stride = options.stride, padding = options.padding })
  local depth, positions = columns:size(2) / groups, columns:size(3)
  return moon.matmul(weight:reshape(1, groups, o / groups, depth),
    columns:reshape(n, groups, depth, positions)):reshape(n, o, positions)
end

local function leaf(values) return values:clone():requires_grad_(true) end

-- The numbers of a shape, and what comes of them in float64: result and both gradients.
local function prepare(shape)
  moon.manual_seed(7)
  local p = {
    x = moon.randn(shape.x):contiguous "channels_last", weight = moon.randn(shape.weight),
    options = shape.options,
  }
  local x, weight = leaf(p.x:double():contiguous()), leaf(p.weight:double())
  local y = by_columns(x, weight, shape.options)
  local like = moon.no_grad(moon.conv2d, p.x, p.weight, nil, shape.options)
  p.gradient = moon.randn(like:size()):contiguous "channels_last"
  y = y:reshape(like:size())
  y:backward(p.gradient:double():contiguous())
  p.expected = { forward = y:detach(), input = x.grad, weight = weight.grad }
  return p
end

-- -- the directions

local directions = { "forward", "input", "weight" }

local calls = {}

function calls.forward(p) return moon.no_grad(moon.conv2d, p.x, p.weight, nil, p.options) end

local function gradient(wanted)
  return function(p)
    local given = { input = p.x, weight = p.weight }
    given[wanted] = leaf(given[wanted])
    local y = moon.conv2d(given.input, given.weight, nil, p.options)
    return function()
      return moon.grad(y, given[wanted], { grad_outputs = p.gradient, retain_graph = true })
    end
  end
end

local gradients = { input = gradient "input", weight = gradient "weight" }

-- The result, and the engine that a profile saw in it.
local function run(p, direction)
  local call = gradients[direction] and gradients[direction](p) or function()
    return calls.forward(p)
  end
  local profile, result = moon.profile(call)
  for _, row in ipairs(profile.operators) do
    if row.algorithm then return result, row.algorithm end
  end
  return result, "none"
end

local function distance(result, expected)
  local largest = expected:abs():max():item()
  return (result:double() - expected):abs():max():item() / largest
end

-- What the engine `name` gave; one that does not fit leaves the shape to the cost model, whose
-- choice is looked at under the name "".
local function check(p, name, direction, problems, label)
  moon.conv_engine(name)
  moon.set_num_threads(1)
  local result, used = run(p, direction)
  if name ~= "" and used ~= name then return nil end
  local off = distance(result, p.expected[direction])
  if off > M.tolerance(used) or off ~= off then
    problems[#problems + 1] = ("%s by %s: off by %.2g"):format(label, used, off)
  end
  local bytes = result:contiguous():tobytes()
  for threads = 2, 3 do
    moon.set_num_threads(threads)
    if run(p, direction):contiguous():tobytes() ~= bytes then
      problems[#problems + 1] = ("%s by %s: other bits on %d threads"):format(label, used, threads)
    end
  end
  return used
end

--- Asks for each engine in turn; gives what was wrong as sentences, and how many convolutions each
-- engine calculated when it was asked.
function M.report(few)
  local problems, used, threads = {}, {}, moon.get_num_threads()
  for _, name in ipairs(M.names()) do used[name] = 0 end
  for _, shape in ipairs(M.shapes(few)) do
    local p = prepare(shape)
    for _, name in ipairs(M.names()) do
      for _, direction in ipairs(directions) do
        local ran = check(p, name, direction, problems, shape.text .. ", " .. direction)
        if ran then used[name] = used[name] + 1 end
      end
    end
    moon.conv_engine ""
  end
  moon.set_num_threads(threads)
  return problems, used
end

--- The engine that a 3x3 convolution of middling size takes when `name` is asked for, and how far
-- off its result is.
function M.try(name)
  local p = prepare {
    x = { 2, 24, 14, 13 }, weight = { 40, 24, 3, 3 },
    options = { stride = 1, padding = 1, groups = 1 },
  }
  moon.conv_engine(name)
  local result, used = run(p, "forward")
  moon.conv_engine ""
  return used, distance(result, p.expected.forward)
end

return M
