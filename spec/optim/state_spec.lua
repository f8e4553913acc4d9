-- State: a run that is stopped after five steps, saved as checkpoints are, and taken up by a fresh
-- optimiser round fresh parameters ends bit for bit where an uninterrupted run ends.
local moon = require "moonlet"
local optim, nn = moon.optim, moon.nn
local checkpoint = moon.train.checkpoint

local function plain(class, given)
  return function(params) return optim[class](params, given) end
end

-- Options under which every optional state tensor exists.
local makers = {
  SGD = plain("SGD", { lr = 0.1, momentum = 0.9, dampening = 0.1 }),
  ["SGD with an average"] = plain("SGD", { lr = 0.1, momentum = 0.9, average = true }),
  ["SGD without momentum"] = plain("SGD", { lr = 0.1 }),
  Adagrad = plain("Adagrad", { lr = 0.1, lr_decay = 0.1 }),
  Adadelta = plain("Adadelta"),
  RMSprop = plain("RMSprop", { centered = true, momentum = 0.5 }),
  Adam = plain("Adam", { lr = 0.1, weight_decay = 0.1 }),
  AMSGrad = plain("Adam", { lr = 0.1, amsgrad = true }),
  AdamW = plain("AdamW", { lr = 0.1 }),
  Adamax = plain("Adamax"), NAdam = plain("NAdam"),
  RAdam = plain("RAdam", { lr = 0.1, beta2 = 0.95 }),
  Rprop = plain("Rprop"), ASGD = plain("ASGD", { t0 = 3, lambd = 0.1 }),
  LAMB = plain("LAMB", { weight_decay = 0.1 }), LARS = plain("LARS", { trust = 0.1 }),
  Muon = function(params) return optim.Muon({ params[1] }, { lr = 0.1 }) end,
  LBFGS = plain("LBFGS", { max_iter = 2, history_size = 3, lr = 0.1 }),
  ["LBFGS with a search"] = plain("LBFGS", { max_iter = 2, line_search_fn = "strong_wolfe" }),
  Lookahead = function(params)
    return optim.Lookahead(optim.Adam(params, { lr = 0.1 }), { k = 3 })
  end,
  SAM = function(params)
    return optim.SAM(optim.SGD(params, { lr = 0.1, momentum = 0.9 }), { rho = 0.2 })
  end,
  ["SAM round Lookahead"] = function(params)
    return optim.SAM(optim.Lookahead(optim.RMSprop(params), { k = 2 }), { adaptive = true })
  end,
}

local x = moon.rand(6, 4)
local target = moon.rand(6, 3)
local first = { moon.rand(4, 3), moon.rand(3) }

local function fresh()
  return { nn.parameter(first[1]:clone()), nn.parameter(first[2]:clone()) }
end

local function advance(opt, params, steps)
  for _ = 1, steps do
    opt:step(function()
      for _, p in ipairs(params) do p.grad = nil end
      local loss = moon.mse_loss((x:mm(params[1]) + params[2]):sigmoid(), target)
      loss:backward()
      return loss
    end)
  end
end

-- What checkpoints keep of a list of parameters.
local function weights(params)
  return {
    state_dict = function() return { w = params[1]:detach(), b = params[2]:detach() } end,
    load_state_dict = function(_, dict)
      moon.no_grad(function()
        params[1]:copy_(dict.w)
        params[2]:copy_(dict.b)
      end)
    end,
  }
end

local function bytes(params) return params[1]:detach():tobytes() .. params[2]:detach():tobytes() end

describe("saved and taken up again,", function()
  local path
  before_each(function() path = os.tmpname() end)
  after_each(function() os.remove(path) end)

  for name, make in pairs(makers) do
    it(name .. " goes on as if never stopped", function()
      local whole = fresh()
      advance(make(whole), whole, 10)
      local stopped = fresh()
      local opt = make(stopped)
      advance(opt, stopped, 5)
      checkpoint.save(path, { weights = weights(stopped), optimizer = opt })
      local resumed = fresh()
      local other = make(resumed)
      checkpoint.load(path, { weights = weights(resumed), optimizer = other })
      assert.equal(bytes(stopped), bytes(resumed))
      advance(other, resumed, 5)
      assert.not_equal(bytes(stopped), bytes(whole))
      assert.equal(bytes(whole), bytes(resumed))
    end)

    it(name .. " would not without its state, or has none", function()
      local whole, stopped = fresh(), fresh()
      advance(make(whole), whole, 10)
      advance(make(stopped), stopped, 5)
      advance(make(stopped), stopped, 5)
      local stateless = name == "SGD without momentum"
      assert.equal(stateless, bytes(whole) == bytes(stopped))
    end)
  end

  it("a moving average of weights goes on", function()
    local params = fresh()
    local opt, ema = optim.SGD(params, { lr = 0.5 }), optim.EMA(params, { warmup = true })
    local function go(averages, steps)
      for _ = 1, steps do
        advance(opt, params, 1)
        averages:update()
      end
    end
    go(ema, 3)
    checkpoint.save(path, { ema = ema })
    local other = optim.EMA(params, { decay = 0.1 })
    checkpoint.load(path, { ema = other })
    for _ = 1, 3 do
      advance(opt, params, 1)
      ema:update()
      other:update()
    end
    assert.equal(bytes(ema.averages), bytes(other.averages))
  end)

  it("averaged weights in use are put back by the one who takes the state up", function()
    local params = fresh()
    local ema = optim.EMA(params, { decay = 0.5 })
    ema:update()
    advance(optim.SGD(params, { lr = 1 }), params, 2)
    local before = bytes(params)
    ema:apply()
    checkpoint.save(path, { weights = weights(params), ema = ema })
    local others = fresh()
    local taken = optim.EMA(others)
    checkpoint.load(path, { weights = weights(others), ema = taken })
    taken:restore()
    assert.equal(before, bytes(others))
  end)

  it("SAM between its two steps comes back", function()
    local params = fresh()
    local opt = makers.SAM(params)
    params[1].grad, params[2].grad = moon.ones(4, 3), moon.ones(3)
    local before = bytes(params)
    opt:first_step()
    assert.not_equal(before, bytes(params))
    checkpoint.save(path, { weights = weights(params), optimizer = opt })
    local others = fresh()
    local other = makers.SAM(others)
    checkpoint.load(path, { weights = weights(others), optimizer = other })
    others[1].grad, others[2].grad = moon.zeros(4, 3), moon.zeros(3)
    other:second_step()
    assert.equal(before, bytes(others))
  end)
end)

describe("a state that does not fit", function()
  it("is refused with both shapes", function()
    local dict = optim.Adam { nn.parameter(moon.ones(2)) }:state_dict()
    dict["state.1.step"], dict["state.1.first"] = 1, moon.zeros(3)
    local opt = optim.Adam { nn.parameter(moon.ones(2)) }
    local _, message = pcall(opt.load_state_dict, opt, dict)
    assert.matches("state.1.first is 3 but its parameter is 2", message)
  end)

  -- Whatever tensor of a state has another shape: a refusal, and all as before.
  local function refuses_each(owner)
    local function bits()
      local list = {}
      for key, value in pairs(owner:state_dict()) do
        if moon.is_tensor(value) then value = value:tobytes() end
        list[#list + 1] = key .. " " .. tostring(value)
      end
      table.sort(list)
      return list
    end
    local before, other, tensors = bits(), {}, 0
    for key, value in pairs(owner:state_dict()) do
      other[key] = moon.is_tensor(value) and moon.zeros(value.shape) or value
    end
    for key, value in pairs(other) do
      if moon.is_tensor(value) then
        other[key], tensors = moon.zeros(7), tensors + 1
        assert.has_error(function() owner:load_state_dict(other) end)
        other[key] = value
      end
    end
    assert.are.same(before, bits())
    return tensors, other, before, bits
  end

  for name, make in pairs(makers) do
    it("changes nothing of the one there is: " .. name, function()
      local params = fresh()
      local opt = make(params)
      advance(opt, params, 2)
      local tensors, other, before, bits = refuses_each(opt)
      assert.equal(name == "SGD without momentum", tensors == 0)
      other[other["base.base.kind"] and "base.base.groups.2.lr" or
        other["base.kind"] and "base.groups.2.lr" or "groups.2.lr"] = 1
      assert.has_error(function() opt:load_state_dict(other) end)
      assert.are.same(before, bits())
    end)
  end

  it("changes nothing of moving averages", function()
    local params = fresh()
    local ema = optim.EMA(params)
    ema:update()
    assert.equal(2, (refuses_each(ema)))
    local dict = optim.EMA(fresh()):state_dict()
    dict["average.3"] = moon.zeros(2)
    local _, message = pcall(ema.load_state_dict, ema, dict)
    assert.matches("load_state_dict: average.3 belongs to no parameter here", message)
    _, message = pcall(ema.load_state_dict, ema, 3)
    assert.matches("state must be a table", message)
  end)

  it("is refused by kind, wrapped or not", function()
    local params = fresh()
    local sgd = optim.SGD(params)
    local ahead = optim.Lookahead(optim.SGD(params))
    local _, message = pcall(ahead.load_state_dict, ahead, sgd:state_dict())
    assert.matches("this is Lookahead, the state is of SGD", message)
    local ema = optim.EMA(params)
    _, message = pcall(ema.load_state_dict, ema, sgd:state_dict())
    assert.matches("this is EMA, the state is of SGD", message)
    local lbfgs = optim.LBFGS(params)
    _, message = pcall(lbfgs.load_state_dict, lbfgs, sgd:state_dict())
    assert.matches("this is LBFGS with 2 parameters, the state is of SGD", message)
  end)

  it("is refused by its number of groups", function()
    local function two()
      local params = fresh()
      return { { params = { params[1] } }, { params = { params[2] } } }
    end
    local one, apart = optim.SGD(fresh()), optim.SGD(two())
    local _, message = pcall(one.load_state_dict, one, apart:state_dict())
    assert.matches("this SGD has 1 groups of parameters, the state has more", message)
    _, message = pcall(apart.load_state_dict, apart, one:state_dict())
    assert.matches("this SGD has 2 groups of parameters, the state has fewer", message)
  end)

  it("is refused by LBFGS with both sizes", function()
    local params = fresh()
    local opt = optim.LBFGS(params, { max_iter = 2 })
    advance(opt, params, 2)
    local other = optim.LBFGS { params[2] }
    local dict = opt:state_dict()
    dict.parameters = 1
    local _, message = pcall(other.load_state_dict, other, dict)
    assert.matches("memory.%S+ is 15 but the parameters have 3 elements", message)
  end)

  it("of another type takes the parameter's", function()
    local params = { nn.parameter(moon.ones(2)) }
    local opt = optim.Adam(params)
    params[1].grad = moon.ones(2)
    opt:step()
    local double = { nn.parameter(moon.ones(2, { dtype = "float64" })) }
    local other = optim.Adam(double)
    other:load_state_dict(opt:state_dict())
    assert.equal("float64", other:state_dict()["state.1.first"].dtype)
  end)
end)
