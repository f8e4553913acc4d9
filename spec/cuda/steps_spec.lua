-- Optimiser steps on a CUDA device over lists of parameters: several segments of one, many small
-- ones, none and empty ones, such as do not begin at a chunk, all float types, absent states.
local moon = require "moonlet"
local gpu = require "spec.support.gpu"
local twins = require "spec.support.twins"

local unpack = table.unpack or unpack

local sizes = { 1, 7, 8, 0, 4095, 4096, 4097, 20005, 33, 0 }

-- Lists of tensors of those sizes, cut out of the vectors given; each begins where the last ended,
-- at odd addresses therefore, or at a chunk where `aligned`.
local function cut(vectors, aligned)
  local lists = {}
  for k, vector in ipairs(vectors) do
    local at = 1
    lists[k] = {}
    for i, size in ipairs(sizes) do
      lists[k][i] = vector:narrow(1, at, size)
      at = at + (aligned and math.ceil(size / 8) * 8 or size)
    end
  end
  return lists
end

-- Runs step(lists) on copies of the vectors; these are the results.
local function check(dtype, tolerance, count, step)
  for _, aligned in ipairs { true, false } do
    local vectors = {}
    for k = 1, count do vectors[k] = (moon.rand(33000) * 0.2 + 0.3):to(dtype) end
    twins.agree(tolerance, function(...)
      local own = {}
      for k = 1, count do own[k] = (select(k, ...)):clone() end
      step(cut(own, aligned))
      return unpack(own)
    end, unpack(vectors))
  end
end

describe("steps on " .. gpu.device .. ":", function()
  local tolerances = { float32 = 1e-6, float64 = 1e-14, float16 = 1e-3, bfloat16 = 8e-3 }
  for dtype, tolerance in pairs(tolerances) do
    it("of every element of a list, in " .. dtype, function()
      check(dtype, tolerance, 4, function(l)
        moon.adam_step_(l[1], l[2], l[3], l[4], { lr = 0.1, step = 3, weight_decay = 0.01 })
      end)
      check(dtype, tolerance, 3, function(l)
        moon.sgd_step_(l[1], l[2], l[3], { lr = 0.1, momentum = 0.9, nesterov = true })
      end)
      check(dtype, tolerance, 2, function(l) moon.sgd_step_(l[1], l[2], nil, { lr = 0.1 }) end)
    end)
  end

  it("with three states, and some of them absent", function()
    check("float32", 1e-6, 5, function(l)
      moon.rmsprop_step_(l[1], l[2], l[3], l[4], l[5], { lr = 0.01, momentum = 0.5 })
    end)
    check("float32", 1e-6, 3, function(l)
      moon.rmsprop_step_(l[1], l[2], l[3], nil, nil, { lr = 0.01 })
    end)
    check("float32", 1e-6, 4, function(l)
      moon.rprop_step_(l[1], l[2], l[3], l[4])
    end)
  end)

  it("of parameters of several types at once, and of none", function()
    twins.agree(8e-3, function(x, y, z)
      local list = { x:clone(), y:clone(), z:clone() }
      moon.sgd_step_(list, { x, y, z }, nil, { lr = 0.5 })
      moon.sgd_step_({ x:narrow(1, 1, 0) }, { x:narrow(1, 1, 0) }, nil, { lr = 0.5 })
      return list[1], list[2], list[3]
    end, moon.randn(100), moon.randn(50):bfloat16(), moon.randn(20):double())
  end)
end)
