-- What layers, optimisers' helpers and schedules refuse when they are made, before anything is
-- calculated: sentences that name the layer, the argument and what was found. Options that only the
-- operator can judge are refused by it (spec/ops).
local moon = require "moonlet"
local nn, optim = moon.nn, moon.optim

local nan, inf = 0 / 0, math.huge

local function fails(text, fn, ...)
  local ok, message = pcall(fn, ...)
  if ok then error("nothing was refused: " .. text, 2) end
  if not tostring(message):find(text, 1, true) then
    error(("expected '%s', got '%s'"):format(text, tostring(message)), 2)
  end
end

local function weight() return nn.parameter(moon.ones(2, 2)) end
local function sgd() return optim.SGD({ weight() }) end

describe("a size out of range", function()
  it("is refused when a convolution is made", function()
    fails("Conv2d: kernel must be at least 1, not 0", nn.Conv2d, 3, 4, 0)
    fails("Conv1d: kernel must be at least 1, not -1", nn.Conv1d, 3, 4, -1)
    fails("Conv2d: kernel must be at least 1, not -1", nn.Conv2d, 3, 4, { 3, -1 })
    fails("Conv2d: stride must be at least 1, not 0", nn.Conv2d, 3, 4, 3, { stride = 0 })
    fails("LazyConv2d: dilation must be at least 1", nn.LazyConv2d, 4, 3, { dilation = 0 })
    fails("Conv3d: padding must be at least 0, not -1", nn.Conv3d, 3, 4, 3, { padding = -1 })
    fails("Conv2d: padding must be at least 0, not -1", nn.Conv2d, 3, 4, 3,
      { padding = { { 1, -1 }, { 0, 0 } } })
    fails("ConvTranspose2d: output_padding must be at least 0", nn.ConvTranspose2d, 3, 4, 3,
      { output_padding = -1 })
  end)

  it("is refused when a pooling is made", function()
    fails("MaxPool2d: kernel must be at least 1, not -2", nn.MaxPool2d, -2)
    fails("AvgPool1d: stride must be at least 1, not 0", nn.AvgPool1d, 2, { stride = 0 })
    fails("MaxPool3d: dilation must be at least 1, not 0", nn.MaxPool3d, 2, { dilation = 0 })
    fails("AdaptiveAvgPool2d: output_size must be at least 1, not 0", nn.AdaptiveAvgPool2d,
      { 3, 0 })
  end)
end)

describe("a number that an activation cannot use", function()
  local x = moon.ones(3)

  it("is refused with its name", function()
    fails("softplus: beta must not be 0", moon.softplus, x, 0)
    fails("celu: alpha must not be 0", moon.celu, x, 0)
    fails("hardtanh: min must not be above max, got 2 and 1", moon.hardtanh, x, 2, 1)
    fails("hardshrink: lambda must not be negative, got -1", moon.hardshrink, x, -1)
    fails("softshrink: lambda must not be negative, got -1", moon.softshrink, x, -1)
    fails("leaky_relu: negative_slope must be a number, got NaN", moon.leaky_relu, x, nan)
    fails("clamp: max must be a number, got NaN", moon.clamp, x, 0, nan)
  end)

  it("is refused by normalisations", function()
    local images = moon.ones(2, 3, 2, 2)
    fails("batch_norm: momentum must lie in 0..1, got 2", nn.BatchNorm2d(3, { momentum = 2 }),
      images)
    fails("batch_norm: momentum must lie in 0..1", nn.BatchNorm2d(3, { momentum = nan }), images)
    fails("local_response_norm: alpha, beta and k must be finite",
      moon.local_response_norm, images, 3, { beta = inf })
  end)
end)

describe("what is no tensor, net or list", function()
  it("is refused by layers that look at their input first", function()
    fails("LazyLinear: input must be a tensor, not 5", nn.LazyLinear(3), 5)
    fails("LazyLinear: input must have at least 1 dimension", nn.LazyLinear(3), moon.tensor(1))
    fails('LazyConv2d: input must be a tensor, not "x"', nn.LazyConv2d(3, 3), "x")
    fails("BatchNorm1d: input must be a tensor, not nil", nn.BatchNorm1d(3))
    fails("GRUCell: input must be a tensor, not a table", nn.GRUCell(3, 2), {})
  end)

  it("is refused by modules", function()
    fails("ModuleList: modules must be a table, not 5", nn.ModuleList, 5)
    local net = nn.Linear(2, 2)
    fails("load_state_dict: state must be a table, not nil", net.load_state_dict, net)
    fails("apply: fn must be a function or a callable object, not 5", net.apply, net, 5)
  end)

  it("is refused by clipping, which took a net for an empty list", function()
    local net = nn.Linear(2, 2)
    for _, name in ipairs { "clip_grad_norm", "clip_grad_value", "max_norm" } do
      local clip = optim[name]
      fails(name .. ": the first argument is a list of parameters", clip, net, 1)
      fails(name .. ": parameter 1 must be a tensor, not 5", clip, { 5 }, 1)
      fails(name .. ": limit must be a number from 0, not -1", clip, net:parameters(), -1)
      fails(name .. ": limit must be a number from 0, not", clip, net:parameters(), nan)
    end
    assert.equal(0, optim.clip_grad_norm(net:parameters(), inf))
  end)

  it("is refused by schedules and optimisers", function()
    fails("MultiStepLR: milestones must be a list of epochs", optim.MultiStepLR, sgd(),
      { milestones = { 3 } })
    fails("ReduceLROnPlateau: patience must be a whole number from 0, not -1",
      optim.ReduceLROnPlateau, sgd(), { patience = -1 })
    fails("OneCycleLR: max_lr must be a number, or a list of one for each of the 1 groups",
      optim.OneCycleLR, sgd(), { max_lr = 1 }, 5)
    local opt = sgd()
    fails("load_state_dict: state must be a table, not nil", opt.load_state_dict, opt)
    local schedule = optim.StepLR(opt, 5)
    fails("load_state_dict: state must be a table, not 5", schedule.load_state_dict, schedule, 5)
  end)

  it("is refused as a function's forward", function()
    local F = moon.Function:extend "F"
    F.forward = 5
    fails("F: forward must be a function or a callable object, not 5", F, moon.ones(1))
  end)
end)

describe("optim.RMSProp", function()
  it("is RMSprop", function() assert.equal(optim.RMSprop, optim.RMSProp) end)
end)
