-- Philox4x32-10 (Salmon et al. 2011) in plain Lua, and the numbers that the library promises to
-- make of its words.
local philox = {}

-- Exclusive or of two numbers below 2^32, in arithmetic that every Lua has.
local function xor(a, b)
  local result, bit = 0, 1
  for _ = 1, 32 do
    if a % 2 ~= b % 2 then result = result + bit end
    a, b, bit = math.floor(a / 2), math.floor(b / 2), bit * 2
  end
  return result
end

-- High and low 32 bits of a product of two numbers below 2^32.
local function multiply(a, b)
  local a1, a0 = math.floor(a / 65536), a % 65536
  local b1, b0 = math.floor(b / 65536), b % 65536
  local middle = a1 * b0 + a0 * b1 + math.floor(a0 * b0 / 65536)
  return a1 * b1 + math.floor(middle / 65536), middle % 65536 * 65536 + a0 * b0 % 65536
end

-- Philox4x32-10 of Salmon et al. 2011: four words for a counter and a key below 2^32.
function philox.words(key, counter)
  local k0, k1, c0, c1, c2, c3 = key, 0, counter, 0, 0, 0
  for _ = 1, 10 do
    local h0, l0 = multiply(0xD2511F53, c0)
    local h1, l1 = multiply(0xCD9E8D57, c2)
    c0, c1, c2, c3 = xor(xor(h1, c1), k0), l1, xor(xor(h0, c3), k1), l0
    k0, k1 = (k0 + 0x9E3779B9) % 2 ^ 32, (k1 + 0xBB67AE85) % 2 ^ 32
  end
  return { c0, c1, c2, c3 }
end

-- Element i (from 0) of a tensor drawn from block `first`: 24 bits of a word, in 0..1.
function philox.unit(seed, first, i)
  return math.floor(philox.words(seed, first + math.floor(i / 4))[i % 4 + 1] / 256) / 2 ^ 24
end

-- Element i of a normal draw: Box and Muller (1958) on words 2k and 2k + 1.
function philox.normal(seed, first, i)
  local words, at = philox.words(seed, first + math.floor(i / 4)), i % 4
  local pair = at - at % 2
  local radius = math.sqrt(-2 * math.log((math.floor(words[pair + 1] / 256) + 1) / 2 ^ 24))
  local angle = 2 * math.pi * words[pair + 2] / 2 ^ 32
  return radius * (at % 2 == 0 and math.cos(angle) or math.sin(angle))
end

-- A whole number below a small range, from the first 64 bits of a block.
function philox.below(seed, block, range)
  local words = philox.words(seed, block)
  return math.floor((words[2] / 2 ^ 32 + words[1] / 2 ^ 64) * range)
end

return philox
