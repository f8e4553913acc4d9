-- EMA: an exponential moving average of the weights, a = decay a + (1 - decay) p, which often tests
-- better than the weights themselves (Polyak and Juditsky 1992; as used by Tarvainen and Valpola
-- 2017). With warmup the decay after n updates is at most (1 + n) / (10 + n), so that the average
-- soon forgets the first weights. It starts at the weights as they are at the first update.
--
-- Buffers are left alone: batch normalisation's statistics are running averages already.

local capture = require "moonlet.capture"
local core = require "moonlet.core"
local options = require "moonlet.options"
local Class = require "moonlet.class"
local adopt = require "moonlet.optim.adopt"

local EMA = Class:extend "EMA"

local function check(self, method) Class.check_self(self, EMA, method, "ema") end

local function parameters_of(given)
  if type(given) == "table" and given.is_moonlet_module then return given:parameters() end
  if type(given) ~= "table" or #given == 0 then
    error("EMA: the first argument is a net or a list of parameters", 4)
  end
  for i, parameter in ipairs(given) do
    options.argument("EMA", "parameter " .. i, parameter, "tensor", 5)
  end
  return given
end

--- Averages the weights of a net.
-- @param net a module, or a list of parameters
-- @tparam ?table given decay = 0.999, warmup = false
-- @usage local moon = require "moonlet"
-- local net = moon.nn.Linear(2, 1)
-- local ema = moon.optim.EMA(net, { decay = 0.9 })
-- ema:update()                      -- after each step of the optimiser
-- ema:with(function() net(moon.ones(1, 2)) end)   -- with the averaged weights
function EMA:init(net, given)
  local o = options.read("EMA", given,
    { decay = { "share", 0.999 }, warmup = { "boolean", false } })
  self.parameters = parameters_of(net)
  self.decay, self.warmup, self.count, self.averages = o.decay, o.warmup, 0, {}
end

--- The decay of the next update.
function EMA:rate()
  check(self, "rate")
  if not self.warmup then return self.decay end
  return math.min(self.decay, (1 + self.count) / (10 + self.count))
end

local function take(self, rate)
  for i, parameter in ipairs(self.parameters) do
    local average = self.averages[i]
    if average then
      average:mul_(rate):add_(parameter * (1 - rate))
    elseif not core.is_lazy(parameter) then
      self.averages[i] = core.keep(parameter:detach():clone())
    end
  end
end

--- Takes the present weights into the average.
function EMA:update()
  check(self, "update")
  if self.held then error("EMA: the averaged weights are in use; call restore first", 2) end
  if self.warmup then capture.refuse "EMA with warmup" end
  core.uninterrupted(core.scope, core.no_grad, take, self, self:rate())
  self.count = self.count + 1
end

local function put(self, values)
  for i, parameter in ipairs(self.parameters) do
    if values[i] then parameter:copy_(values[i]) end
  end
end

local function hold(self)
  self.held = {}
  for i, parameter in ipairs(self.parameters) do
    if self.averages[i] then self.held[i] = core.keep(parameter:detach():clone()) end
  end
  put(self, self.averages)
end

--- Puts the averages in the parameters' place; restore takes them out again.
function EMA:apply()
  check(self, "apply")
  if self.held then error("EMA: the averaged weights are in use already", 2) end
  core.uninterrupted(core.no_grad, hold, self)
end

--- Puts the weights back that `apply` took out.
function EMA:restore()
  check(self, "restore")
  if not self.held then error("EMA: restore comes after apply", 2) end
  core.uninterrupted(core.no_grad, put, self, self.held)
  self.held = nil
end

--- Calls fn(...) with the averages in place, and puts the weights back whatever happens.
-- @return what fn returns
function EMA:with(fn, ...)
  check(self, "with")
  options.argument("EMA", "fn", fn, "callable", 3)
  self:apply()
  local function finish(ok, ...)
    self:restore()
    if not ok then error((...), 0) end
    return ...
  end
  return finish(pcall(fn, ...))
end

--- A flat table: the averages, and the weights held back while the averages are in use.
function EMA:state_dict()
  check(self, "state_dict")
  local dict = { kind = "EMA", count = self.count, decay = self.decay, warmup = self.warmup }
  for i, average in pairs(self.averages) do dict["average." .. i] = average end
  for i, value in pairs(self.held or {}) do dict["held." .. i] = value end
  return dict
end

local function numbered(dict, name, parameters, own)
  local list
  for i, parameter in ipairs(parameters) do
    local tensor = dict[name .. "." .. i]
    if tensor then
      list = list or {}
      list[i] = adopt.tensor(own[i], core.is_lazy(parameter) and tensor or tensor:to(parameter))
    end
  end
  return list
end

--- Goes on where another run was. A state that does not fit changes nothing.
function EMA:load_state_dict(dict)
  check(self, "load_state_dict")
  options.argument("load_state_dict", "state", dict, "table", 3)
  if dict.kind ~= "EMA" then
    error("load_state_dict: this is EMA, the state is of " .. tostring(dict.kind), 2)
  end
  local problem = adopt.misfit(dict, "^%a+%.(%d+)$", function(i) return self.parameters[i] end)
  if problem then error("load_state_dict: " .. problem, 2) end
  self.count, self.decay, self.warmup = dict.count, dict.decay, dict.warmup
  self.averages = numbered(dict, "average", self.parameters, self.averages) or {}
  self.held = numbered(dict, "held", self.parameters, {})
end

return EMA
