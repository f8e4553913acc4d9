-- Programs drawn at random, of operators, functions, hooks and checkpoints in each other, with
-- collections in between: with checkpoints the gradients are the same bits as without, errors come
-- out and leave all in order, and nothing stays live. The draw is the same in every run. (Second
-- derivatives are added up in another order where the first walk put checkpointed calls on the tape
-- again: there they agree to rounding.)
local moon = require "moonlet"
local naive = require "spec.support.naive"

local draw = naive.generator(11)
local function whole(low, high) return math.floor(draw(low, high + 0.999999)) end

local Mixed = moon.Function:extend "Mixed"

function Mixed.forward(ctx, a, scale, b)
  local product = a * b * scale
  ctx:save(a, b, product)
  ctx.scale = scale
  ctx.all = function() return product, a, b end   -- a circle through the results
  return product, a + b
end

function Mixed.backward(ctx, product, sum)
  local a, b = ctx:saved()
  return product * b * ctx.scale + sum, nil, product * a * ctx.scale + sum
end

-- What a step calculates from two tensors; `run` is moon.checkpoint or a plain call.
local steps = {
  function(a, b) return a + b end,
  function(a, b) return (Mixed(a, 0.5, b)) end,
  function(a, b) return (select(2, Mixed(a, 2, b))) end,
  function(a, b) return moon.cat({ a[{ { 1, 2 } }], b[{ { 3, 4 } }] }, 1) end,
  function(a, b) return a:split(2, 1)[2]:sum() * b end,
  function(a, b)
    local y = a * 0
    y:add_(b)
    return y
  end,
  function(a, b)
    local y = a * b
    if y.requires_grad then y:register_hook(function(g) return y and g * 0.5 end) end
    return y
  end,
  function(a, b) return a + moon.dropout(b, 0.5, true) end,
}

-- A list of steps: { step, first, second } by place, or { program, first } for a checkpoint.
local function draw_program(depth)
  local program, places = {}, 3
  for i = 1, whole(1, 7) do
    if depth > 0 and whole(1, 4) == 1 then
      program[i] = { draw_program(depth - 1), whole(1, places) }
    else
      program[i] = { steps[whole(1, #steps)], whole(1, places), whole(1, places) }
    end
    places = places + 1
  end
  return program
end

-- The program's last tensor. A checkpoint's program starts from its argument in place of the first
-- leaf, and reads the others as upvalues.
local function interpret(program, leaves, run, collects)
  local pool = { leaves[1], leaves[2], leaves[3] }
  for _, step in ipairs(program) do
    local a = pool[step[2]]
    local y
    if step[3] then
      y = step[1](a, pool[step[3]])
    else
      local others = { false, pool[2], pool[#pool] }
      y = run(function(x)
        if collects then collectgarbage() end
        return interpret(step[1], { x, others[2], others[3] }, run, collects)
      end, a)
    end
    pool[#pool + 1] = y:clamp { min = -4, max = 4 }:tanh()
  end
  return pool[#pool]
end

local function make_leaves()
  local leaves = {}
  for i = 1, 3 do leaves[i] = naive.random({ 4 }, { seed = i }):requires_grad_() end
  return leaves
end

local function gradients(program, run, walk, collects)
  local leaves = make_leaves()
  moon.manual_seed(3)
  local loss = interpret(program, leaves, run, collects):sum()
  if collects then collectgarbage() end
  return walk(loss, leaves), leaves
end

local function straight(fn, ...) return fn(...) end

local walks = {
  backward = function(loss, leaves)
    loss:backward()
    return { leaves[1].grad, leaves[2].grad, leaves[3].grad }
  end,
  grad = function(loss, leaves) return moon.grad(loss, leaves, { allow_unused = true }) end,
  second = function(loss, leaves)
    local first = moon.grad(loss, leaves, { allow_unused = true, create_graph = true })
    local sum
    for i = 1, 3 do
      local g = first[i] and first[i].requires_grad and first[i]:square():sum()
      if g then sum = sum and sum + g or g end
    end
    first = nil   -- luacheck: ignore
    collectgarbage()
    return sum and moon.grad(sum, leaves, { allow_unused = true }) or {}
  end,
}

describe("a program drawn at random", function()
  local before

  setup(function()
    collectgarbage()
    collectgarbage()
    before = moon.memory().live
  end)

  for name, walk in pairs(walks) do
    it("has the same gradients with checkpoints, by " .. name, function()
      for round = 1, name == "second" and 25 or 60 do
        local program = draw_program(2)
        local expected = gradients(program, straight, walk, false)
        local actual = gradients(program, moon.checkpoint, walk, round % 3 == 0)
        for i = 1, 3 do
          local a, b = actual[i], expected[i]
          assert.equal(b == nil, a == nil, ("round %d, leaf %d"):format(round, i))
          local near = name == "second" and 1e-12 * (1 + (a and b:abs():max():item() or 0)) or 0
          assert.is_true(a == nil or (a - b):abs():max():item() <= near,
            ("round %d, leaf %d"):format(round, i))
        end
      end
    end)
  end

  it("that fails anywhere leaves all in order", function()
    local failures = 0
    for _ = 1, 60 do
      local program = draw_program(2)
      local countdown = whole(1, 12)
      local function failing(fn, ...)
        return moon.checkpoint(function(...)
          countdown = countdown - 1
          if countdown == 0 then error "drawn" end
          return fn(...)
        end, ...)
      end
      local ok, message = pcall(gradients, program, failing, walks.backward, false)
      if not ok then
        failures = failures + 1
        assert.matches("drawn", tostring(message), 1, true)
      end
      assert.is_true(moon.is_grad_enabled())
      assert.is_false(moon.is_recomputing())
    end
    assert.is_true(failures > 5, failures .. " failures")
  end)

  teardown(function()
    local jit = rawget(_G, "jit")
    if jit then jit.flush() end   -- compiled code holds what it found constant
    collectgarbage()
    collectgarbage()
    assert(moon.memory().live == before, moon.memory().live .. " bytes live, before " .. before)
  end)
end)
