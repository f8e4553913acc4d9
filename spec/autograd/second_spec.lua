-- The gradient's gradient of every operator whose backward was written by hand, against differences
-- of the gradient; rows of pointwise.def are in spec/ops/pointwise_spec.lua, and what has cases in
-- spec/cases meets the same witness there.
local moon = require "moonlet"
local case = require "spec.support.case"
local faults = require "spec.support.faults"
local gradcheck = require "spec.support.gradcheck"
local naive = require "spec.support.naive"

local unpack = table.unpack or unpack

local seed = 0
local function r(...)
  seed = seed + 1
  return naive.random({ ... }, { seed = seed })
end

local function values(list) return moon.tensor(list, { dtype = "float64" }) end

local function long(...) return moon.tensor({ ... }, { dtype = "int64" }) end

local labels = long(2, 3, 1, 2)
local mask = moon.tensor { { 1, 0, 1 }, { 0, 0, 1 } }:gt(0)

local function classes(x) return x:view(2, 3, 2) end

-- name, function, inputs
local rows = {
  -- views
  { "view", function(x) return x:view(3, 2) end, { r(2, 3) } },
  { "reshape of what is not laid out so", function(x) return x:t():reshape(6) end, { r(2, 3) } },
  { "flatten", function(x) return x:flatten(2) end, { r(2, 3, 2) } },
  { "narrow", function(x) return x:narrow(2, 2, 2) end, { r(2, 4) } },
  { "narrow from the end", function(x) return x:narrow(-1, -2, 2) end, { r(2, 4) } },
  { "select", function(x) return x:select(1, -1) end, { r(3, 2) } },
  { "unfold", function(x) return x:unfold(1, 3, 2) end, { r(8) } },
  { "transpose", function(x) return x:transpose(1, 3) end, { r(2, 3, 2) } },
  { "t", function(x) return x:t() end, { r(2, 3) } },
  { "permute", function(x) return x:permute(3, 1, 2) end, { r(2, 3, 2) } },
  { "expand", function(x) return x:expand(3, 2, 4) end, { r(2, 1) } },
  { "squeeze", function(x) return x:squeeze() end, { r(1, 3) } },
  { "unsqueeze", function(x) return x:unsqueeze(2) end, { r(3) } },
  { "clone", function(x) return x:t():clone() end, { r(2, 3) } },
  { "contiguous", function(x) return x:t():contiguous() end, { r(2, 3) } },
  { "copy_", function(x) return moon.zeros_like(x):copy_(x) end, { r(2, 3) } },
  { "fill_", function(x) return moon.zeros(3, { dtype = "float64" }):fill_(x) end, { r() } },
  { "assignment", function(x, y)
    local a = x * 1
    a[{ 1, {} }] = y
    a[{ {}, 2 }] = 5
    return a * a
  end, { r(3, 3), r(3) } },
  { "in-place addition", function(x, y) return (x * 2):add_(y):exp_() end, { r(2, 3), r(3) } },
  -- joining
  { "cat", function(x, y) return moon.cat({ x, y, x }, 2) end, { r(2, 2), r(2, 3) } },
  { "stack", function(x, y) return moon.stack({ x, y }, 2) end, { r(3), r(3) } },
  { "split", function(x) return unpack(x:split(2)) end, { r(5) } },
  { "flip", function(x) return x:flip(1, 2) end, { r(2, 3) } },
  -- reductions
  { "sum", function(x) return x:sum() end, { r(2, 3) } },
  { "sum along", function(x) return x:sum({ 1, 3 }, true) end, { r(2, 3, 2) } },
  { "mean", function(x) return x:mean(2) end, { r(2, 3) } },
  { "prod", function(x) return x:prod() end, { r(5) } },
  { "prod along", function(x) return x:prod({ 1, 3 }, true) end, { r(3, 2, 2) } },
  { "prod with a zero", function(x) return x:prod() end, { values { 0, 2, -1.5, 3 } } },
  { "prod with several zeros", function(x) return x:prod(2) end,
    { values { { 0, 2, 0 }, { 1, 2, 3 }, { 0, 0, 0 } } } },
  { "amax", function(x) return x:amax(1) end, { r(3, 2) } },
  { "amin", function(x) return x:amin() end, { r(3, 2) } },
  { "cumsum", function(x) return x:cumsum(1) end, { r(4, 2) } },
  { "max", function(x) return (x:max(2)) end, { r(3, 4) } },
  { "min", function(x) return (x:min(1, true)) end, { r(3, 4) } },
  { "var", function(x) return x:var(2) end, { r(2, 4) } },
  { "std", function(x) return x:std() end, { r(2, 4) } },
  { "norm", function(x) return x:norm() end, { r(2, 4) } },
  { "norm 1", function(x) return x:norm(1, 2) end, { r(2, 4) } },
  { "norm 3", function(x) return x:norm(3, 2, true) end, { r(2, 4) } },
  { "norm of the largest", function(x) return x:norm(math.huge) end, { r(2, 4) } },
  -- order and indexing
  { "sort", function(x) return (x:sort(2, true)) end, { r(2, 4) } },
  { "topk", function(x) return (x:topk(2, 1)) end, { r(4, 2) } },
  { "index_select", function(x) return x:index_select(2, long(3, 1, 3)) end, { r(2, 3) } },
  { "index_add", function(x, y) return x:index_add(1, long(2, 2), y) end, { r(3, 2), r(2, 2) } },
  { "index_copy", function(x, y) return x:index_copy(1, long(3, 1), y) end, { r(3, 2), r(2, 2) } },
  { "gather", function(x) return x:gather(2, moon.tensor({ { 1, 3 }, { 2, 2 } },
    { dtype = "int64" })) end, { r(2, 3) } },
  { "scatter", function(x, y) return x:scatter(2, moon.tensor({ { 1, 3 }, { 2, 1 } },
    { dtype = "int64" }), y) end, { r(2, 3), r(3, 2) } },
  { "scatter of one value", function(x, y) return x:scatter(1, long(2, 4), y) end, { r(4), r() } },
  { "scatter_add", function(x, y) return x:scatter_add(1, long(2, 2, 1), y) end,
    { r(3), r(3) } },
  -- masks
  { "masked_select", function(x) return x:masked_select(mask) end, { r(2, 3) } },
  { "masked_fill", function(x, y) return x:masked_fill(mask, y) end, { r(2, 3), r() } },
  { "masked_scatter", function(x, y) return x:masked_scatter(mask, y) end, { r(2, 3), r(4) } },
  { "where", function(x, y) return moon.where(mask, x, y) end, { r(2, 3), r(1, 3) } },
  -- products
  { "matmul", function(a, b) return a:matmul(b) end, { r(2, 2, 3), r(3, 2) } },
  { "matmul of a stack and a vector", function(a, b) return a:matmul(b) end,
    { r(2, 2, 3), r(3) } },
  { "mm", function(a, b) return a:mm(b) end, { r(2, 3), r(3, 2) } },
  { "bmm", function(a, b) return a:bmm(b) end, { r(2, 2, 3), r(2, 3, 2) } },
  { "mv", function(a, b) return a:mv(b) end, { r(2, 3), r(3) } },
  { "dot", function(a, b) return a:dot(b) end, { r(3), r(3) } },
  { "outer", function(a, b) return a:outer(b) end, { r(3), r(2) } },
  { "addmm", function(m, a, b) return m:addmm(a, b, { beta = 0.5, alpha = 2 }) end,
    { r(2), r(2, 3), r(3, 2) } },
  { "linear", function(x, w, b) return moon.linear(x, w, b) end, { r(2, 2, 3), r(2, 3), r(2) } },
  -- images
  { "conv2d", function(x, w, b)
    return moon.conv2d(x, w, b, { stride = { 2, 1 }, padding = { 1, 2 }, dilation = { 1, 2 },
                                  groups = 2 })
  end, { r(2, 4, 5, 4), r(4, 2, 3, 2), r(4) } },
  { "conv2d, same", function(x, w) return moon.conv2d(x, w, { padding = "same" }) end,
    { r(1, 2, 3, 4), r(2, 2, 3, 2) } },
  { "max_pool2d", function(x) return (x:max_pool2d(2, { padding = 1 })) end, { r(1, 2, 4, 4) } },
  { "avg_pool2d", function(x)
    return x:avg_pool2d({ 3, 2 }, { stride = 2, padding = 1, ceil_mode = true,
                                    count_include_pad = false })
  end, { r(1, 2, 4, 5) } },
  { "adaptive_avg_pool2d", function(x) return x:adaptive_avg_pool2d { 2, 3 } end,
    { r(1, 2, 4, 5) } },
  { "adaptive_avg_pool2d that divides", function(x) return x:adaptive_avg_pool2d(2) end,
    { r(1, 2, 4, 4) } },
  { "batch_norm in training", function(x, w, b)
    return moon.batch_norm(x, w, b, { training = true })
  end, { r(3, 2, 2), r(2), r(2) } },
  { "batch_norm without weights", function(x) return moon.batch_norm(x, { training = true }) end,
    { r(4, 2) } },
  { "batch_norm in evaluation", function(x, w, b)
    local mean, var = moon.tensor({ 0.5, -1 }, { dtype = "float64" }),
      moon.tensor({ 2, 0.5 }, { dtype = "float64" })
    return moon.batch_norm(x, w, b, mean, var)
  end, { r(3, 2, 2), r(2), r(2) } },
  { "local_response_norm", function(x)
    return moon.local_response_norm(x, 3, { alpha = 0.5, beta = 0.6, k = 2 })
  end, { r(2, 4, 2) } },
  { "local_response_norm of an even size", function(x)
    return moon.local_response_norm(x, 4, { alpha = 0.5, k = 2 })
  end, { r(2, 5) } },
  { "local_response_norm of more than all channels", function(x)
    return moon.local_response_norm(x, 9, { alpha = 0.5, k = 2 })
  end, { r(1, 3) } },
  { "dropout", function(x)
    moon.manual_seed(3)
    return x:dropout(0.4)
  end, { r(4, 3) } },
  -- classes and losses
  { "softmax", function(x) return x:softmax(1) end, { r(3, 2) } },
  { "log_softmax", function(x) return x:log_softmax() end, { r(3, 2) } },
  { "cross_entropy", function(x) return moon.cross_entropy(x, labels) end, { r(4, 3) } },
  { "cross_entropy with all options", function(x)
    return moon.cross_entropy(x, labels, { weight = moon.tensor({ 1, 2, 0.5 },
      { dtype = "float64" }), ignore_index = 3, label_smoothing = 0.2 })
  end, { r(4, 3) } },
  { "cross_entropy a place", function(x)
    return moon.cross_entropy(classes(x), labels:view(2, 2), { reduction = "none",
      label_smoothing = 0.1 })
  end, { r(12) } },
  { "cross_entropy, summed", function(x)
    return moon.cross_entropy(x, labels, { reduction = "sum", ignore_index = 2 })
  end, { r(4, 3) } },
  { "cross_entropy against probabilities", function(x, p) return moon.cross_entropy(x, p) end,
    { r(4, 3), r(4, 3) } },
  { "nll_loss", function(x) return moon.nll_loss(x * x, labels) end, { r(4, 3) } },
  { "nll_loss with all options", function(x)
    return moon.nll_loss(classes(x), labels:view(2, 2), { weight = moon.tensor({ 1, 2, 0.5 },
      { dtype = "float64" }), ignore_index = 3, reduction = "none" })
  end, { r(12) } },
  { "mse_loss", function(x, y) return moon.mse_loss(x, y) end, { r(3), r(3) } },
  { "l1_loss", function(x, y) return moon.l1_loss(x, y) end, { r(3), r(3) } },
  { "smooth_l1_loss", function(x, y) return moon.smooth_l1_loss(x, y, { beta = 0.7 }) end,
    { r(5), r(5) } },
  { "huber_loss", function(x, y) return moon.huber_loss(x, y) end, { r(5), r(5) } },
  { "binary_cross_entropy", function(x, y)
    return moon.binary_cross_entropy(x:sigmoid(), y, { weight = moon.tensor({ 1, 2, 3 },
      { dtype = "float64" }) })
  end, { r(3), r(3):abs() } },
  { "binary_cross_entropy_with_logits", function(x, y)
    return moon.binary_cross_entropy_with_logits(x, y)
  end, { r(3), r(3) } },
}

-- Operators with a backward written by hand are among the rows or have cases, which have a witness.
local function missing()
  local seen, names = {}, {}
  for _, row in ipairs(rows) do seen[row[1]:match("^[%w_]+")] = true end
  for _, family in ipairs(case.families()) do
    for _, entry in ipairs(case.family(family)) do seen[entry.operator] = true end
  end
  for _, op in ipairs(moon.operators()) do
    local name = op.only_inplace and op.name .. "_" or op.name
    if op.gradient and not (op.composite or op.hidden or op.derivative or seen[name]) then
      names[#names + 1] = name
    end
  end
  return table.concat(names, " ")
end

-- The function's gradient as a function.
local function gradient_of(fn)
  return function(...)
    local leaves = { ... }
    for i, x in ipairs(leaves) do
      if not x.requires_grad then leaves[i] = x:detach():requires_grad_() end
    end
    local results, loss = { fn(unpack(leaves)) }, 0
    for k, y in ipairs(results) do loss = loss + ((y + y * y * 0.3) * (0.5 + k)):sum() end
    local grads = moon.grad(loss, leaves, { create_graph = true, allow_unused = true })
    for i, x in ipairs(leaves) do grads[i] = grads[i] or moon.zeros_like(x) end
    return unpack(grads, 1, #leaves)
  end
end

describe("moon.operators()", function()
  it("says which operators have a gradient without a gradient, as their cases do", function()
    local orders = {}
    for _, op in ipairs(moon.operators()) do orders[op.name] = op.order end
    for _, family in ipairs(case.families()) do
      for _, entry in ipairs(case.family(family)) do
        local once = entry.gradient ~= false and entry.second == false
        assert.equal(once, orders[entry.operator] == "first", entry.operator)
      end
    end
  end)
end)

describe("the gradient of the gradient of", function()
  it("every operator with a backward of its own is looked at", function()
    assert.equal("", missing())
  end)


  for _, row in ipairs(rows) do
    it(row[1] .. " agrees with differences", function()
      gradcheck.check(row[2], row[3])
      gradcheck.second(row[2], row[3], { tolerance = 1e-5 })
    end)

    it(row[1] .. " agrees with differences one order on", function()
      gradcheck.second(gradient_of(row[2]), row[3], { tolerance = 1e-4 })
    end)

    it(row[1] .. " leaves nothing behind when any allocation fails", function()
      local gradient = gradient_of(row[2])
      faults.every_allocation(function()
        local leaves = {}
        for i, x in ipairs(row[3]) do leaves[i] = x:detach():requires_grad_() end
        local first, loss = { gradient(unpack(leaves)) }, 0
        for _, g in ipairs(first) do loss = loss + (g * g):sum() end
        if loss.requires_grad then moon.grad(loss, leaves, { allow_unused = true }) end
      end)
    end)
  end
end)
