-- Layouts: a tensor (n, c, ...) with its channels last in memory keeps them there through every
-- operator that keeps positions, and gives the values that a row-major one gives.
local moon = require "moonlet"
local naive = require "spec.support.naive"
local F = moon.nn.functional

local function last(x) return x:contiguous "channels_last" end

local function is_last(x) return x:is_contiguous "channels_last" and not x:is_contiguous() end

-- Both about equal, relative to the largest; for more elements than Lua should go through.
local function near(actual, expected, tolerance)
  local scale = math.max(1, expected:abs():max():item())
  assert.same(expected:size(), actual:size())
  assert.is_true((actual - expected):abs():max():item() <= tolerance * scale)
end

local function drawn(...) return moon.randn(...):double() end

-- Every operator that keeps its input's layout, as a function of x (2, 6, 4, 4).
local keeping = {
  unary = function(x) return x:tanh() end,
  in_place = function(x) return x:clone():relu_() end,
  number = function(x) return x * 2 + 1 end,
  binary = function(x) return x + x:exp() end,
  vector = function(x) return x * drawn(6, 1, 1) end,
  vector_first = function(x) return drawn(6, 1, 1) - x end,
  scales = function(x) return x * moon.arange(1, 12):double():view(2, 6, 1, 1) end,
  row_major_first = function(x) return drawn(2, 6, 4, 4) * x end,
  where = function(x) return moon.where(x:gt(0), x, drawn(2, 6, 4, 4)) end,
  masked_fill = function(x) return x:masked_fill(x:gt(0), 0) end,
  comparison = function(x) return x:gt(0) end,
  predicate = function(x) return x:isnan() end,
  clone = function(x) return x:clone() end,
  cast = function(x) return x:to "float32" end,
  zeros_like = function(x) return moon.zeros_like(x) end,
  randn_like = function(x) return moon.randn_like(x) end,
  slice = function(x) return x:narrow(2, 2, 3) * 2 end,
  window = function(x) return x[{ {}, {}, { 2, 4 }, { 1, 3 } }] * 2 end,
  part_of_batch = function(x) return x:narrow(1, 2, 1) * 2 end,
  picked = function(x) return x:index_select(1, moon.tensor({ 2, 1 }, { dtype = "int64" })) end,
  cat_channels = function(x) return moon.cat({ x, drawn(2, 3, 4, 4) }, 2) end,
  cat_batch = function(x) return moon.cat({ x, x }, 1) end,
  stack = function(x) return moon.stack({ x[1], x[2] }, 1) end,
  flip = function(x) return x:flip(4) end,
  roll = function(x) return x:roll({ 1 }, { 3 }) end,
  pad = function(x) return moon.pad(x, { 1, 1, 2, 0 }) end,
  reflect = function(x) return moon.pad(x, { 1, 1, 2, 0 }, "reflect") end,
  max_pool = function(x) return moon.max_pool2d(x, 2) end,
  avg_pool = function(x) return moon.avg_pool2d(x, 2) end,
  batch_norm = function(x) return moon.batch_norm(x, nil, nil, nil, nil, { training = true }) end,
  local_response_norm = function(x) return moon.local_response_norm(x, 3) end,
  softmax = function(x) return x:softmax(2) end,
  log_softmax = function(x) return x:log_softmax(2) end,
  cumsum = function(x) return x:cumsum(3) end,
  bilinear = function(x) return moon.interpolate(x, { size = { 6, 7 }, mode = "bilinear" }) end,
  nearest = function(x) return moon.interpolate(x, { size = { 8, 8 } }) end,
  pixel_shuffle = function(x) return moon.pixel_shuffle(moon.cat({ x, x }, 2), 2) end,
  pixel_unshuffle = function(x) return moon.pixel_unshuffle(x, 2) end,
  max_unpool = function(x)
    local y, indices = moon.max_pool2d(x, 2, { return_indices = true })
    return moon.max_unpool2d(y, indices, 2)
  end,
  grid_sample = function(x) return moon.grid_sample(x, drawn(2, 3, 5, 2):tanh()) end,
  conv2d = function(x) return moon.conv2d(x, drawn(5, 6, 3, 3)) end,
  transposed = function(x) return moon.conv_transpose2d(x, drawn(6, 5, 3, 3)) end,
}

local names = {}
for name in pairs(keeping) do names[#names + 1] = name end
table.sort(names)

describe("channels last", function()
  before_each(function() moon.manual_seed(7) end)

  for _, name in ipairs(names) do
    it("is kept by " .. name .. ", with the same values", function()
      local x = drawn(2, 6, 4, 4)
      moon.manual_seed(1)
      local expected = keeping[name](x)
      moon.manual_seed(1)
      local y = keeping[name](last(x))
      naive.close(y:double(), expected:double(), 1e-12)
      assert.is_true(is_last(y))
    end)
  end

  it("is kept by dropout, whose draws follow memory", function()
    local x = last(drawn(2, 6, 4, 4))
    local y = moon.dropout(x, 0.5, true)
    assert.is_true(is_last(y))
    local kept = y:ne(0):double()
    naive.close(y:double(), (x:double() * 2 * kept), 1e-12)
    assert.is_true(kept:sum():item() > 48 and kept:sum():item() < 144)
  end)

  it("is kept by gradients", function()
    for _, name in ipairs { "unary", "binary", "vector", "where", "slice", "cat_channels", "pad",
        "max_pool", "avg_pool", "batch_norm", "local_response_norm", "softmax", "bilinear",
        "conv2d", "transposed" } do
      local grads = {}
      for i, change in ipairs { function(x) return x end, last } do
        moon.manual_seed(3)
        local x = change(drawn(2, 6, 4, 4)):detach():requires_grad_()
        moon.manual_seed(1)
        local y = keeping[name](x)
        y:backward(last(moon.randn_like(y)))
        grads[i] = x.grad
      end
      naive.close(grads[2], grads[1], 1e-12)
      assert.is_true(is_last(grads[2]), name)
    end
  end)

  it("is copied to and from, for every width of elements", function()
    for _, dtype in ipairs { "uint8", "float16", "float32", "float64" } do
      for _, size in ipairs { { 2, 3, 9, 31 }, { 1, 17, 5, 5 }, { 2, 70, 13, 11 },
                              { 3, 128, 1, 65 }, { 1, 2, 200, 7 } } do
        local x = moon.randint(0, 255, size):to(dtype)
        local y = last(x)
        assert.equal(x:tobytes(), y:contiguous():tobytes())
        assert.equal(x:permute(1, 3, 4, 2):tobytes(), y:permute(1, 3, 4, 2):tobytes())
        local wide = last(moon.zeros(size[1], size[2] + 3, size[3], size[4], { dtype = dtype }))
        wide:narrow(2, 3, size[2]):copy_(x)
        assert.equal(x:tobytes(), wide:narrow(2, 3, size[2]):tobytes())
      end
    end
  end)

  it("gives the same sums and broadcasts for few channels and many", function()
    for _, channels in ipairs { 2, 3, 7, 33, 64, 70, 300 } do
      local x = drawn(2, channels, 23, 31)
      local y, vector, scales = last(x), drawn(channels, 1, 1), drawn(2, channels, 1, 1)
      for _, dims in ipairs { { 1, 3, 4 }, { 3, 4 }, { 2 }, { 1 } } do
        near(y:sum(dims), x:sum(dims), 1e-12)
        near(y:max(dims[1]), x:max(dims[1]), 0)
        near(y:float():mean(dims):double(), x:mean(dims), 1e-5)
      end
      near(y + vector, x + vector, 0)
      near(y * scales + vector, x * scales + vector, 0)
      local two = scales:narrow(2, 1, 2)
      near(two - y:narrow(2, 1, 2), two - x:narrow(2, 1, 2), 0)
      near(y:half() + vector:half(), x:half() + vector:half(), 0)
      local z, part = y:clone(), scales:narrow(2, 2, 1)
      z:narrow(2, 2, 1):add_(part)
      near(z:narrow(2, 2, 1), x:narrow(2, 2, 1) + part, 0)
    end
  end)

  it("is joined from any number of parts, slices and row-major ones among them", function()
    local rows, parts = {}, {}
    for i, channels in ipairs { 1, 3, 2, 7, 1, 4, 0, 5, 6, 2, 1, 3 } do
      local x = drawn(2, channels + 2, 5, 3)
      rows[i] = x:narrow(2, 2, channels):contiguous()
      parts[i] = i % 4 == 0 and rows[i] or last(x):narrow(2, 2, channels)
      if i % 3 == 0 then parts[i] = parts[i]:clone() end
    end
    local joined = moon.cat(parts, 2)
    assert.is_true(is_last(joined))
    near(joined, moon.cat(rows, 2), 0)
    local wide = last(drawn(2, 6, 5, 300))
    near(moon.cat({ wide, wide:flip(4) }, 2), moon.cat({ wide:contiguous(), wide:flip(4) }, 2), 0)
  end)

  it("is what convolutions give, whatever they are given", function()
    local y = moon.conv2d(drawn(2, 3, 5, 5), drawn(4, 3, 3, 3))
    assert.same({ 36, 1, 12, 4 }, y:stride())
    assert.same({ 12, 1, 4 }, moon.conv1d(drawn(2, 3, 5), drawn(4, 3, 3)):stride())
    assert.same({ 108, 1, 36, 12, 4 },
      moon.conv3d(drawn(2, 3, 5, 5, 5), drawn(4, 3, 3, 3, 3)):stride())
  end)

  it("leaves gradients of weights in row-major order", function()
    local w = drawn(4, 3, 3, 3):requires_grad_()
    moon.conv2d(last(drawn(2, 3, 5, 5)), w):sum():backward()
    assert.is_true(w.grad:is_contiguous())
  end)

  it("is asked for and taken back by contiguous", function()
    local x = moon.arange(1, 24):view(1, 2, 3, 4)
    local y = last(x)
    assert.same({ 24, 1, 8, 2 }, y:stride())
    assert.is_true(y:is_contiguous "channels_last")
    assert.is_false(y:is_contiguous())
    assert.is_false(x:is_contiguous "channels_last")
    assert.is_true(last(y):shares_memory(y))
    assert.same(x:totable(), y:totable())
    assert.same({ 24, 12, 4, 1 }, y:contiguous():stride())
    assert.is_true(moon.zeros(2, 3, 1, 1):is_contiguous "channels_last")
    assert.has_error(function() last(moon.zeros(2, 3)) end,
      "contiguous: input must have 3 to 5 dimensions (n, c, ...) to put its channels last, got 2x3")
    assert.error_matches(function() x:is_contiguous "blocked" end, "memory_format must be")
    assert.error_matches(function() x:contiguous "blocked" end, "memory_format must be")
  end)

  it("makes view copy, and nothing else", function()
    local x = drawn(2, 3, 4, 5)
    local flat = last(x):view(2, -1)
    naive.close(flat, x:view(2, -1))
    assert.is_true(flat:is_contiguous())
    local y = last(x)
    assert.is_true(y:view(2, 3, 20):shares_memory(y))
    assert.is_false(y:view(2, -1):shares_memory(y))
    assert.error_matches(function() x:transpose(3, 4):view(2, 60) end, "without copying")
    local leaf = last(x):detach():requires_grad_()
    leaf:view(2, -1):square():sum():backward()
    naive.close(leaf.grad, x * 2)
  end)

  it("is seen by nothing that gives elements away in order", function()
    local x = moon.randn(2, 3, 4, 5)
    local y = last(x)
    assert.same(x:totable(), y:totable())
    assert.equal(x:tobytes(), y:tobytes())
    assert.equal(tostring(x), tostring(y))
    local path = os.tmpname()
    moon.save(path, { x = y })
    assert.equal(x:tobytes(), moon.load(path).x:tobytes())
    os.remove(path)
    naive.close(y:mean(), x:mean())
    assert.equal(x[2][3][4][5], y[2][3][4][5])
    naive.close(F.linear(y:flatten(2), moon.ones(1, 60)), F.linear(x:flatten(2), moon.ones(1, 60)))
  end)

  it("is not taken from other orders of dimensions", function()
    local x = drawn(2, 3, 4, 5)
    for _, turned in ipairs { x:transpose(3, 4), x:transpose(1, 2), x:permute(4, 3, 2, 1),
                              x:expand(2, 3, 4, 5), x:transpose(2, 3) } do
      assert.is_true((turned + 1):is_contiguous())
    end
    assert.is_true((drawn(3, 4):t() * 2):is_contiguous())
    assert.is_true((drawn(1, 3, 1, 1):expand(2, 3, 4, 4) * 2):is_contiguous())
  end)
end)
