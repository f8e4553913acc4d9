-- Collate: samples to a batch. Tensors are stacked along a new first dimension; numbers become an
-- int64 tensor and must be whole, since a number cannot say whether 1 means 1.0.

local core = require "moonlet.core"

local function stack_numbers(column, position)
  for _, value in ipairs(column) do
    if value ~= math.floor(value) then
      error(("Loader: value %d of a sample is %g; labels are whole numbers, a real value is "
        .. "returned as a tensor: moon.tensor(%g)"):format(position, value, value), 0)
    end
  end
  return core.tensor(column, { dtype = "int64" })
end

local function join(column, position)
  if core.is_tensor(column[1]) then return core.stack(column, 1) end
  if type(column[1]) == "number" then return stack_numbers(column, position) end
  return column
end

--- Joins samples into columns.
-- @tparam table samples list of { n = count, value, value, ... }
-- @treturn table { n = count, batch of first values, ... }
return function(samples)
  local batch = { n = samples[1].n }
  for k = 1, batch.n do
    local column = {}
    for i, sample in ipairs(samples) do column[i] = sample[k] end
    batch[k] = join(column, k)
  end
  return batch
end
