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
      { 2, 40, 12, 9, 36, 3, 1, 2, 2, 1 }, { 2, 3, 17, 17, 8, 7, 2, 3, 1, 1 },
      { 2, 64, 61, 45, 72, 3, 1, 1, 1, 1 }, { 2, 3, 130, 131, 40, 7, 2, 3, 1, 1 },
      { 5, 96, 7, 7, 130, 3, 1, 1, 1, 1 }, { 9, 70, 15, 14, 40, 3, 2, 1, 1, 1 },
      { 3, 64, 33, 31, 100, 1, 1, 0, 1, 1 }, { 2, 64, 12, 12, 64, 5, 3, 0, 1, 2 },
      { 1, 34, 20, 6, 33, 3, 4, 5, 2, 1 } } do
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

  it("sum the gradient of a float32 weight in float32", function()
    local x, weight, g = draw(3, 40, 37, 30), moon.randn(50, 40, 3, 3), draw(3, 50, 37, 30)
    local exact = weight:to "float64"
    for _, w in ipairs { weight, exact } do
      w:requires_grad_()
      moon.conv2d(x:to(w == exact and "float64" or "bfloat16"), w, nil, { padding = 1 })
        :backward(g:to(w == exact and "float64" or "bfloat16"))
    end
    assert.equal("float32", weight.grad.dtype)
    assert.is_true(off(weight.grad, exact.grad) <= 1e-5)
  end)

  it("give the same bits on any number of threads", function()
    for _, case in ipairs { { 3, 40, 13, 11, 50 }, { 2, 3, 90, 80, 33 }, { 1, 64, 60, 61, 70 } } do
      local n, c, h, w, o = unpack(case)
      local x, weight, g = draw(n, c, h, w), moon.randn(o, c, 3, 3), draw(n, o, h, w)
      local threads, results = moon.get_num_threads(), {}
      for count = 1, 3 do
        moon.set_num_threads(count)
        local a, b = x:clone():requires_grad_(), weight:clone():requires_grad_()
        local y = moon.conv2d(a, b, nil, { padding = 1 })
        y:backward(g)
        results[count] = { y, a.grad, b.grad }
      end
      moon.set_num_threads(threads)
      for count = 2, 3 do
        for i = 1, 3 do assert.is_true(moon.equal(results[count][i], results[1][i])) end
      end
    end
  end)
end)

-- Weights and vectors stay float32 in mixed precision.
describe("float32 parameters beside bfloat16", function()
  -- The weights' rounding comes on top of the result's, on processors that round them.
  local function double(t) return t:detach():to "float64" end

  for _, case in ipairs { { 4, 70, 50 }, { 1, 33, 1 }, { 40, 1100, 65 }, { 17, 64, 32 },
                          { 3, 1030, 600 }, { 300, 70, 90 } } do
    local rows, inputs, outputs = unpack(case)
    it(("in a linear layer of %d rows, %d to %d"):format(rows, inputs, outputs), function()
      local x, w, b = draw(rows, inputs), moon.randn(outputs, inputs), moon.randn(outputs)
      local function exact() return moon.linear(double(x), double(w), double(b)) end
      local first = moon.linear(x, w, b)
      assert.equal("bfloat16", first.dtype)
      assert.is_true(off(first, exact()) <= 2 * BFLOAT)
      assert.is_true(moon.equal(moon.linear(x, w, b), first))   -- by what was kept
      w:mul_(2)                                                  -- and no longer is
      assert.is_true(off(moon.linear(x, w, b), exact()) <= 2 * BFLOAT)
      w:requires_grad_()
      x:requires_grad_()
      local g = draw(rows, outputs)
      moon.linear(x, w, b):backward(g)
      assert.equal("float32", w.grad.dtype)
      assert.is_true(off(w.grad, double(g):t():mm(double(x))) <= 1e-5)
      assert.is_true(off(x.grad, double(g):mm(double(w))) <= 2 * BFLOAT)
    end)
  end

  it("in a convolution, whose weights may be changed and lie in any order", function()
    local x, b = draw(2, 32, 6, 5), moon.randn(40)
    local w = moon.randn(3, 40, 3, 32):permute(2, 4, 1, 3)
    local function exact() return moon.conv2d(double(x), double(w), double(b)) end
    for _ = 1, 2 do assert.is_true(off(moon.conv2d(x, w, b), exact()) <= 2 * BFLOAT) end
    w:mul_(-1)
    assert.is_true(off(moon.conv2d(x, w, b), exact()) <= 2 * BFLOAT)
  end)

  it("in batch normalisation", function()
    local x, w, b = draw(3, 5, 4, 4), moon.rand(5), moon.randn(5)
    for _, parameter in ipairs { w, b } do parameter:requires_grad_() end
    local y = moon.batch_norm(x, w, b, nil, nil, { training = true })
    assert.equal("bfloat16", y.dtype)
    local exact = moon.batch_norm(double(x), double(w), double(b), nil, nil, { training = true })
    assert.is_true(off(y, exact) <= BFLOAT)
    y:sum():backward()
    assert.equal("float32", w.grad.dtype)
    assert.is_true((b.grad - 48):abs():max():item() == 0)
  end)

  it("and not the other way round, nor anything but parameters", function()
    local low, high = draw(2, 3), moon.randn(2, 3)
    assert.has_error(function() moon.linear(high, low) end, "linear: input is float32 but weight "
      .. "is bfloat16; cast one, as in weight:to \"float32\"")
    assert.has_error(function() return low + high end)
    assert.has_error(function() moon.linear(low, high:to "float64") end)
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
      assert.equal("bfloat16", moon.where(y:gt(0), y, moon.ones(4, 3)).dtype)   -- not the mask
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

  it("leaves weights as they are, and gives their gradients unrounded", function()
    moon.manual_seed(5)
    local x, w, v = draw(3, 40, 7, 6), moon.randn(36, 40, 3, 3), moon.randn(5, 36)
    w:requires_grad_()
    v:requires_grad_()
    local g = draw(3, 5)
    moon.autocast(function()
      local y = moon.conv2d(x, w, nil, { padding = 1 })
      return moon.linear(y:mean { 3, 4 }, v)
    end):backward(g)
    local W, V = w:detach():to("bfloat16"):to "float64", v:detach():to("bfloat16"):to "float64"
    W:requires_grad_()
    V:requires_grad_()
    local y = moon.conv2d(x:to "float64", W, nil, { padding = 1 })
    moon.linear(y:mean { 3, 4 }, V):backward(g:to "float64")
    assert.equal("float32", w.grad.dtype)
    assert.equal("float32", v.grad.dtype)
    assert.is_true(off(w.grad, W.grad) <= BFLOAT)   -- of gradients that came rounded
    assert.is_true(off(v.grad, V.grad) <= BFLOAT)
  end)

  it("ends with an error and passes it on, and wants a function", function()
    local ok, message = pcall(moon.autocast, function() error("inside", 0) end)
    assert.is_false(ok)
    assert.equal("inside", message)
    assert.equal("float32", moon.mm(moon.eye(2), moon.eye(2)).dtype)
    assert.has_error(function() moon.autocast(3) end)
  end)
end)
