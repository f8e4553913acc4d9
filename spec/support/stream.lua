-- Numbers that a script of another language computes too: element i of a draw is word i % 4 of
-- block i / 4 of Philox4x32-10 under key `seed`, its upper 24 bits as a fraction
-- (spec/fixtures/philox.py is the other side). Fixtures therefore store results only.
local moon = require "moonlet"

local stream = {}

-- A float64 tensor of numbers from low up to below high, fraction * (high - low) + low. The state
-- of the library's generator is left as it was.
function stream.uniform(seed, shape, low, high)
  low, high = low or 0, high or 1
  local state = moon.get_rng_state()
  moon.manual_seed(seed)
  local drawn = moon.rand(shape, { dtype = "float64" })
  moon.set_rng_state(state)
  return drawn * (high - low) + low
end

-- An int64 tensor of whole numbers from low to high, both included.
function stream.whole(seed, shape, low, high)
  return stream.uniform(seed, shape, low, high + 1):floor():to("int64")
end

-- A bool tensor, true for half of the elements or so.
function stream.bool(seed, shape)
  return stream.uniform(seed, shape):lt(0.5)
end

return stream
