-- moon.autocast: products and convolutions in bfloat16, losses in float32, by casts on the tape;
-- and bfloat16 products and convolutions against float64, whatever calculates them.
local moon = require "moonlet"
local unpack = require "moonlet.unpack"

local BFLOAT = 2 ^ -8   -- the spacing of bfloat16 numbers from 1 on

-- The largest difference as a share of the largest expected element.
local function off(actual, expected)
  local a, e = actual:detach():to "float64", expected:detach():to "float64"
  return (a - e):abs():max():item() / e:abs():max():item()
end

local function draw(...) return moon.randn(...):to "bfloat16" end

describe("bfloat16 products", function()
  for _, case in ipairs { { 1, 1, 1 }, { 5, 7, 9 }, { 33, 65, 31 }, { 70, 40, 1100 },
                          { 300, 520, 64 } } do
    local m, n, k = unpack(case)
    it(("of %d x %d x %d, either operand turned"):format(m, n, k), function()
      local x, w, g = draw(m, k), draw(n, k), draw(m, n)
      local X, W, G = x:to "float64", w:to "float64", g:to "float64"
      assert.is_true(off(x:mm(w:t()), X:mm(W:t())) <= BFLOAT)
      assert.is_true(off(g:mm(w), G:mm(W)) <= BFLOAT)
      assert.is_true(off(g:t():mm(x), G:t():mm(X)) <= BFLOAT)
      local odd = draw(m, k, 2):select(3, 2)   -- every other element
      assert.is_true(off(odd:mm(w:t()), odd:to("float64"):mm(W:t())) <= BFLOAT)
    end)
  end
end)

describe("bfloat16 convolutions", function()
  -- n, c, h, w, o, kernel, stride, padding, dilation, groups
  for _, case in ipairs {
      { 2, 3, 9, 8, 5, 3, 1, 1, 1, 1 }, { 2, 6, 9, 8, 4, 3, 2, 1, 1, 2 },
      { 2, 40, 9, 8, 36, 3, 2, 1, 1, 2 },
      { 1, 64, 11, 10, 70, 1, 1, 0, 1, 1 }, { 3, 32, 8, 7, 33, 1, 2, 0, 1, 1 },
      { 2, 40, 12, 9, 36, 3, 1, 2, 2, 1 }, { 2, 3, 17, 17, 8, 7, 2, 3, 1, 1 } } do
    local n, c, h, w, o, kernel, stride, padding, dilation, groups = unpack(case)
    local options = { stride = stride, padding = padding, dilation = dilation, groups = groups }
    local title = "of %dx%dx%dx%d to %d, kernel %d, stride %d, padding %d, dilation %d, groups %d"
    it(title:format(unpack(case)), function()
      local x, weight, bias = draw(n, c, h, w), draw(o, c / groups, kernel, kernel), draw(o)
      local made = {}
      for _, dtype in ipairs { "bfloat16", "float64" } do
        local set = { x:to(dtype):clone(), weight:to(dtype):clone(), bias:to(dtype):clone() }
        for i = 1, 3 do set[i]:requires_grad_() end
        set[4] = moon.conv2d(set[1], set[2], set[3], options)
        made[dtype] = set
      end
      local gradient = draw(unpack(made.float64[4]:size()))
      made.bfloat16[4]:backward(gradient)
      made.float64[4]:backward(gradient:to "float64")
      local low, exact = made.bfloat16, made.float64
      assert.is_true(off(low[4], exact[4]) <= BFLOAT)
      for i = 1, 3 do assert.is_true(off(low[i].grad, exact[i].grad) <= 2 * BFLOAT) end
    end)
  end

  it("give the same bits on any number of threads", function()
    local x, weight = draw(3, 40, 13, 11), draw(50, 40, 3, 3)
    local threads, results = moon.get_num_threads(), {}
    for count = 1, 3 do
      moon.set_num_threads(count)
      results[count] = moon.conv2d(x, weight, nil, { padding = 1 })
    end
    moon.set_num_threads(threads)
    for count = 2, 3 do assert.is_true(moon.equal(results[count], results[1])) end
  end)
end)

describe("autocast", function()
  it("calculates products in bfloat16 and losses in float32", function()
    local x, w = moon.randn(4, 6), moon.randn(3, 6)
    local labels = moon.tensor({ 1, 2, 3, 1 }, { dtype = "int64" })
    moon.autocast(function()
      local y = moon.linear(x, w)
      assert.equal("bfloat16", y.dtype)
      assert.equal("float32", moon.cross_entropy(y, labels).dtype)
      assert.equal("float32", moon.softmax(y, 2).dtype)
      assert.equal("bfloat16", (y + moon.ones(3)).dtype)   -- follows its first tensor
      assert.equal("float64", moon.mm(moon.eye(2, { dtype = "float64" }),
        moon.eye(2, { dtype = "float64" })).dtype)
    end)
    assert.equal("float32", moon.linear(x, w).dtype)
  end)

  it("gives parameters float32 gradients near those of float32", function()
    moon.manual_seed(3)
    local net = moon.nn.Sequential(moon.nn.Conv2d(3, 8, 3), moon.nn.BatchNorm2d(8), moon.nn.ReLU(),
      moon.nn.Flatten(), moon.nn.LazyLinear(5))
    local x, labels = moon.randn(6, 3, 8, 8), moon.tensor({ 1, 2, 3, 4, 5, 1 }, { dtype = "int64" })
    net(x)
    local function gradients(run)
      net:zero_grad()
      run(function() return moon.cross_entropy(net(x), labels) end):backward()
      local list = {}
      for _, parameter in ipairs(net:parameters()) do
        assert.equal("float32", parameter.grad.dtype)
        list[#list + 1] = parameter.grad:clone()
      end
      return list
    end
    local exact = gradients(function(loss) return loss() end)
    local low = gradients(moon.autocast)
    -- not the convolution's bias, whose exact gradient is zero before a normalisation
    for i = 1, #exact do
      local a, b = low[i]:flatten(), exact[i]:flatten()
      local cosine = a:dot(b):item() / (a:norm():item() * b:norm():item())
      if i ~= 2 then assert.is_true(cosine > 0.995, ("%d: %g"):format(i, cosine)) end
    end
  end)

  it("ends with an error and passes it on, and wants a function", function()
    local ok, message = pcall(moon.autocast, function() error("inside", 0) end)
    assert.is_false(ok)
    assert.equal("inside", message)
    assert.equal("float32", moon.mm(moon.eye(2), moon.eye(2)).dtype)
    assert.has_error(function() moon.autocast(3) end)
  end)
end)
