-- folded: a batch normalisation with given statistics as a factor and a term for each channel,
-- which a convolution before it applies as it writes: norm(sums + bias) = sums * factor + term.
--
-- Making the pair takes half a dozen calls, as long as a small convolution. So it is kept beside
-- the normalisation and made again once a tensor behind it is another one or was written to.

local core = require "moonlet.core"

local SOURCES = 5   -- tensors that the pair is made of

local function sources_of(norm, bias)
  return { norm.running_mean, norm.running_var, norm.weight or false, norm.bias or false,
    bias or false }
end

local function make(norm, bias)
  local factor = norm.running_var:add(norm.eps):rsqrt_()
  if norm.weight then factor:mul_(norm.weight) end
  local mean = bias and norm.running_mean:sub(bias) or norm.running_mean
  local term = mean:mul(factor)
  if norm.bias then return factor, norm.bias:sub(term) end
  return factor, term:neg_()
end

local kept = setmetatable({}, { __mode = "k" })   -- normalisation -> entry

-- A tensor whose writes are not all counted has no version, and equals none.
local function same(entry, i, tensor)
  return entry.sources[i] == (tensor or false)
    and (not tensor or entry.versions[i] == core.write_count(tensor))
end

local function is_current(entry, norm, bias)
  return entry.eps == norm.eps and same(entry, 1, norm.running_mean)
    and same(entry, 2, norm.running_var) and same(entry, 3, norm.weight)
    and same(entry, 4, norm.bias) and same(entry, 5, bias)
end

-- What the pair is made of, as it is now; nil where a later write might not show.
local function look(norm, bias)
  local entry = { eps = norm.eps, sources = sources_of(norm, bias), versions = {} }
  for i = 1, SOURCES do
    local source = entry.sources[i]
    if source then
      entry.versions[i] = core.write_count(source)
      if not entry.versions[i] then return nil end
    end
  end
  return entry
end

-- The factor and the term of a normalisation behind a convolution with that bias, or none. They
-- may be kept: not to be written to.
return function(norm, bias)
  local entry = kept[norm]
  if entry and is_current(entry, norm, bias) then return entry.factor, entry.term end
  entry = look(norm, bias)
  local factor, term = make(norm, bias)
  kept[norm] = entry
  if entry then entry.factor, entry.term = core.keep(factor), core.keep(term) end
  return factor, term
end
