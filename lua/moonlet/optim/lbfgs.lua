-- L-BFGS: a quasi-Newton method whose inverse Hessian is remembered as the last `history_size`
-- pairs of moves s and changes of gradient y (two-loop recursion). All parameters are one long
-- vector, in one group. step(closure) runs up to max_iter iterations on one closure, so the loss
-- must not be drawn anew at each call: whole data, or one large batch a step.
--
-- Costs history_size + 3 copies of the parameters twice over. A step that fails in the closure
-- (or by Ctrl-C) puts the parameters back and remembers nothing of it.

local core = require "moonlet.core"
local Class = require "moonlet.class"
local Optimizer = require "moonlet.optim.optimizer"
local strong_wolfe = require "moonlet.optim.strongwolfe"

local LBFGS = Optimizer:extend "LBFGS"

LBFGS.wants_closure = true

LBFGS.schema = Optimizer.options {
  lr = { "from_zero", 1 }, max_iter = { "positive", 20 }, max_eval = { "positive" },
  tolerance_grad = { "from_zero", 1e-7 }, tolerance_change = { "from_zero", 1e-9 },
  history_size = { "positive", 100 }, line_search_fn = { { "none", "strong_wolfe" }, "none" },
}

--- L-BFGS (Nocedal 1980; Liu and Nocedal 1989).
-- @tparam table params a list of parameters
-- @tparam ?table given lr = 1, max_iter = 20, max_eval = 5/4 max_iter, tolerance_grad = 1e-7,
-- tolerance_change = 1e-9, history_size = 100, line_search_fn = "none" or "strong_wolfe",
-- maximize = false
-- @usage local moon = require "moonlet"
-- local x = moon.nn.parameter(moon.tensor { -1.5, 2 })
-- local opt = moon.optim.LBFGS({ x }, { line_search_fn = "strong_wolfe" })
-- opt:step(function()
--   opt:zero_grad()
--   local loss = ((1 - x:select(1, 1)):square() + (x:select(1, 2) - 1):square() * 10):sum()
--   loss:backward()
--   return loss
-- end)
-- assert((x - 1):abs():max():item() < 1e-3)
function LBFGS:init(params, given)
  Optimizer.init(self, params, given)
  if #self.groups > 1 then error("LBFGS: all parameters go in one group", 3) end
  self.memory = { iterations = 0, evaluations = 0, y = {}, s = {}, ro = {} }
end

function LBFGS.add_group()
  error("LBFGS: all parameters go in one group, given at the start", 2)
end

local function flat_gradient(self)
  local parts = {}
  for i, entry in ipairs(self.entries) do
    local gradient = entry.parameter.grad or core.zeros_like(entry.parameter)
    parts[i] = gradient:reshape(-1)
  end
  local flat = core.cat(parts, 1)
  return self.groups[1].maximize and -flat or flat
end

local function add(self, t, direction)
  local at = 1
  for _, entry in ipairs(self.entries) do
    local p = entry.parameter
    local count = p:numel()
    p:add_((direction:narrow(1, at, count) * t):view(p.shape))
    at = at + count
  end
end

local function copies(self)
  local list = {}
  for i, entry in ipairs(self.entries) do list[i] = entry.parameter:detach():clone() end
  return list
end

local function put_back(self, values)
  for i, entry in ipairs(self.entries) do entry.parameter:copy_(values[i]) end
end

-- The closure's loss as it is, as a number to make small, and the gradient.
local function measure(self, closure)
  local loss = self:evaluate(closure)
  local number = core.is_tensor(loss) and loss:item() or loss
  if type(number) ~= "number" then
    error("LBFGS: the closure returns the loss, a number or a tensor of one element", 0)
  end
  return loss, self.groups[1].maximize and -number or number, flat_gradient(self)
end

local function largest(x) return x:abs():max():item() end

-- Remembers the last move and how it changed the gradient, where the curvature is positive.
local function remember(m, gradient, history_size)
  local y, s = gradient - m.gradient, m.direction * m.t
  local curvature = y:dot(s):item()
  if curvature <= 1e-10 then return end
  if #m.y == history_size then
    for _, list in ipairs { m.y, m.s, m.ro } do table.remove(list, 1) end
  end
  m.y[#m.y + 1], m.s[#m.s + 1], m.ro[#m.ro + 1] = y, s, 1 / curvature
  m.scale = curvature / y:dot(y):item()
end

-- Minus the approximate inverse Hessian times the gradient.
local function direction_of(m, gradient)
  local d, share = -gradient, {}
  for i = #m.y, 1, -1 do
    share[i] = m.s[i]:dot(d):item() * m.ro[i]
    d:sub_(m.y[i] * share[i])
  end
  d:mul_(m.scale)
  for i = 1, #m.y do
    d:add_(m.s[i] * (share[i] - m.y[i]:dot(d):item() * m.ro[i]))
  end
  return d
end

local function choose_direction(m, gradient, group)
  m.iterations = m.iterations + 1
  if m.iterations == 1 then
    m.direction, m.y, m.s, m.ro, m.scale = -gradient, {}, {}, {}, 1
    m.t = math.min(1, 1 / gradient:abs():sum():item()) * group.lr
  else
    remember(m, gradient, group.history_size)
    m.direction, m.t = core.scope(direction_of, m, gradient), group.lr
  end
  m.gradient = gradient
end

-- The point that the line search finds; the parameters stay where they are.
local function search(self, closure, start, m, limit, counter)
  local here = copies(self)
  local function try(t)
    add(self, t, m.direction)
    local _, f, g = measure(self, closure)
    put_back(self, here)
    counter.count = counter.count + 1
    return { t = t, f = f, g = g, slope = g:dot(m.direction):item() }
  end
  local norm = largest(m.direction)
  local tolerance = self.groups[1].tolerance_change / norm
  return strong_wolfe(try, start, m.t, limit, tolerance)
end

-- Moves along m.direction; gives the loss and gradient there, nil when they were not calculated.
local function move(self, closure, here, m, limit, last, counter)
  if self.groups[1].line_search_fn == "strong_wolfe" then
    local found = search(self, closure, here, m, limit, counter)
    m.t = found.t
    add(self, m.t, m.direction)
    return found.f, found.g
  end
  add(self, m.t, m.direction)
  if last then return nil end
  counter.count = counter.count + 1
  local _, f, g = measure(self, closure)
  return f, g
end

local function iterate(self, closure, m)
  local group, counter = self.groups[1], { count = 1 }
  local most = group.max_eval or math.floor(group.max_iter * 5 / 4)
  local first_loss, f, g = measure(self, closure)
  if largest(g) <= group.tolerance_grad then return first_loss, counter.count end
  for n = 1, group.max_iter do
    choose_direction(m, g, group)
    local here = { t = 0, f = f, g = g, slope = g:dot(m.direction):item() }
    if here.slope > -group.tolerance_change then break end
    local last = n == group.max_iter
    local next_f, next_g = move(self, closure, here, m, most - counter.count, last, counter)
    if last or counter.count >= most then break end
    f, g = next_f, next_g
    if largest(g) <= group.tolerance_grad then break end
    if largest(m.direction) * m.t <= group.tolerance_change then break end
    if math.abs(f - here.f) < group.tolerance_change then break end
  end
  return first_loss, counter.count
end

local function fork(memory)
  local m = {}
  for name, value in pairs(memory) do m[name] = value end
  for _, name in ipairs { "y", "s", "ro" } do
    m[name] = {}
    for i, value in ipairs(memory[name]) do m[name][i] = value end
  end
  return m
end

--- Runs up to max_iter iterations.
-- @tparam function closure drops the gradients, calculates the loss, calls backward, returns the
-- loss
-- @return the loss before the step
function LBFGS:step(closure)
  Class.check_self(self, Optimizer, "step", "optimizer")
  if closure == nil then
    error("LBFGS: step needs a closure that calculates the loss and calls backward", 2)
  end
  local m = fork(self.memory)
  local before = core.no_grad(copies, self)
  local ok, loss, evaluations = pcall(core.no_grad, iterate, self, closure, m)
  if not ok then
    core.uninterrupted(core.no_grad, put_back, self, before)
    error(loss, 0)
  end
  m.evaluations = m.evaluations + evaluations
  for _, list in ipairs { m.y, m.s, { m.direction, m.gradient } } do
    for _, tensor in ipairs(list) do core.keep(tensor) end
  end
  self.memory = m
  return loss
end

function LBFGS:state_dict()
  local dict = Optimizer.state_dict(self)
  dict.pairs = #self.memory.y
  for name, value in pairs(self.memory) do
    if type(value) == "table" then
      for i, item in ipairs(value) do dict[("memory.%s.%d"):format(name, i)] = item end
    else
      dict["memory." .. name] = value
    end
  end
  return dict
end

local function count_elements(self)
  local count = 0
  for _, entry in ipairs(self.entries) do count = count + entry.parameter:numel() end
  return count
end

function LBFGS:misfit(dict)
  local problem = Optimizer.misfit(self, dict)
  for key, value in pairs(problem and {} or dict) do
    if core.is_tensor(value) and key:find "^memory%." then
      local count = count_elements(self)
      if value:dim() ~= 1 or value:numel() ~= count then
        return ("%s is %s but the parameters have %d elements"):format(
          key, table.concat(value.shape, "x"), count)
      end
    end
  end
  return problem
end

-- A vector of another run, in the type and on the device that the parameters have now.
local function adopt(self, value)
  if not core.is_tensor(value) then return value end
  return core.keep(value:to(self.entries[1].parameter):clone())
end

--- Takes the state of another run; the parameters must have their shapes by now.
function LBFGS:take_state(dict)
  Optimizer.take_state(self, dict)
  local m = { y = {}, s = {}, ro = {} }
  for key, value in pairs(dict) do
    local name, i = key:match("^memory%.(%a+)%.?(%d*)$")
    if name and i == "" then
      m[name] = adopt(self, value)
    elseif name and type(m[name]) == "table" then
      m[name][tonumber(i)] = adopt(self, value)
    end
  end
  self.memory = m
end

return LBFGS
