-- Cases of operators that draw random numbers, where nothing is left to chance: all or none is
-- dropped, a distribution has one value. What they draw otherwise is for spec/ops/random_spec.lua
-- and spec/ops/noise_spec.lua; `large` draws, and must not depend on the number of threads.
local moon = require "moonlet"
local case = require "spec.support.case"

local T = case.float

local function filled(method, value, ...)
  local arguments = { ... }
  local unpack = table.unpack or unpack
  return {
    peer = "random", gradient = false, why = "what is drawn depends on no input",
    call = function(x) return x:clone()[method](x:clone(), unpack(arguments)) end,
    naive = function(x) return moon.full(x:size(), value, { dtype = "float64" }) end,
    cases = { { T { 2, 3 } }, { T {} }, { T { 0, 3 } } },
  }
end

-- -- dropout and its kin

local function same(x) return x end

local function dropping(shapes, large, gone)
  local entry = { peer = "random", cases = {}, large = { T(large), 0.4 } }
  entry.naive = function(x, p, training)
    if p == 1 and training ~= false then return gone(x) end
    return same(x)
  end
  for _, shape in ipairs(shapes) do
    entry.cases[#entry.cases + 1] = { T(shape), 0 }
    entry.cases[#entry.cases + 1] = { T(shape), 0.5, false }
    entry.cases[#entry.cases + 1] = { T(shape), 1, true }
  end
  return entry
end

local function zero(x) return moon.zeros(x:size(), { dtype = "float64" }) end

local any = { { 2, 3 }, { 4 }, { 0, 3 } }

return {
  uniform = filled("uniform_", 2, 2, 2),
  normal = filled("normal_", 1.5, 1.5, 0),
  bernoulli = filled("bernoulli_", 1, 1),
  random = filled("random_", 3, 3, 3),
  dropout = dropping(any, { 300, 300 }, zero),
  dropout1d = dropping({ { 2, 3, 2 }, { 0, 3, 2 } }, { 50, 60, 20 }, zero),
  dropout2d = dropping({ { 2, 3, 2, 2 }, { 1, 2, 1, 3 } }, { 8, 16, 20, 20 }, zero),
  dropout3d = dropping({ { 2, 3, 2, 1, 2 } }, { 8, 16, 6, 6, 6 }, zero),
  alpha_dropout = dropping(any, { 300, 300 }, zero),
  feature_alpha_dropout = dropping({ { 2, 3, 2 }, { 2, 3 } }, { 40, 50, 30 }, zero),
  drop_path = dropping(any, { 300, 300 }, zero),
  gaussian_noise = {
    peer = "random",
    naive = same,
    cases = { { T { 2, 3 }, 0 }, { T { 2, 3 }, 0.5, false }, { T {}, 0 } },
    large = { T { 300, 300 }, 0.5 },
  },
}
