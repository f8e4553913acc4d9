-- Cases of Einstein's notation, against the sum over all values of all letters.
local case = require "spec.support.case"
local naive = require "spec.support.naive"
local places = require "spec.support.places"
local T, L = case.float, case.list

-- Letters of an operand, with a digit for each dimension under "...", counted from the end.
local function letters_of(text, ndim)
  local letters = {}
  local before, behind = text:match "^(.-)%.%.%.(.*)$"
  if not before then before, behind = text, "" end
  local hidden = ndim - #before - #behind
  for c in before:gmatch "." do letters[#letters + 1] = c end
  for i = hidden, 1, -1 do letters[#letters + 1] = tostring(i) end
  for c in behind:gmatch "." do letters[#letters + 1] = c end
  return letters
end

local function output_of(text, labels, size)
  local dots = 0
  while size[tostring(dots + 1)] do dots = dots + 1 end
  if text then
    local behind = text:gsub("%.%.%.", "")
    return letters_of(text, #behind + (text:find("...", 1, true) and dots or 0))
  end
  local count, out = {}, {}
  for _, own in ipairs(labels) do
    for _, l in ipairs(own) do count[l] = (count[l] or 0) + 1 end
  end
  for l, n in pairs(count) do if n == 1 and l:match "%a" then out[#out + 1] = l end end
  table.sort(out)
  for i = 1, dots do table.insert(out, 1, tostring(i)) end
  return out
end

local function naive_einsum(equation, list)
  equation = equation:gsub(" ", "")
  local inputs, result = equation:match "^(.-)%->(.*)$"
  local labels, size, k = {}, {}, 0
  for text in ((inputs or equation) .. ","):gmatch "(.-)," do
    k = k + 1
    labels[k] = letters_of(text, list[k]:dim())
    for i, l in ipairs(labels[k]) do
      local n = list[k]:size(i)
      if not size[l] or size[l] == 1 then size[l] = n end
    end
  end
  local out = output_of(result, labels, size)
  local inner, taken, shape, inner_shape = {}, {}, {}, {}
  for i, l in ipairs(out) do taken[l], shape[i] = true, size[l] end
  for l, n in pairs(size) do
    if not taken[l] then
      inner[#inner + 1] = l
      inner_shape[#inner] = n
    end
  end
  return naive.build(shape, function(at)
    local value, sum = {}, 0
    for i, l in ipairs(out) do value[l] = at[i] end
    for inside in naive.positions(inner_shape) do
      for i, l in ipairs(inner) do value[l] = inside[i] end
      local product = 1
      for o, own in ipairs(labels) do
        local place = {}
        for i, l in ipairs(own) do place[i] = value[l] end
        product = product * places.broadcast(list[o], place)
      end
      sum = sum + product
    end
    return sum
  end)
end

local function row(equation, ...)
  local shapes = {}
  for i = 1, select("#", ...) do shapes[i] = T((select(i, ...))) end
  return { equation, L(shapes), torch = ("torch.einsum('%s', *l)"):format(equation) }
end

return {
  einsum = {
    naive = naive_einsum,
    tolerance = { float16 = 5e-2, bfloat16 = 4e-1 },   -- results of products of two products
    fuzz = function(draw)
      local letters, size, text, shapes = { "a", "b", "c", "d" }, {}, {}, {}
      for _, l in ipairs(letters) do size[l] = draw(1, 3) end
      for k = 1, draw(1, 3) do
        local own, shape = "", {}
        for i = 1, draw(0, 3) do
          local l = letters[draw(1, 4)]
          own = own .. l
          shape[i] = size[l]
        end
        text[k], shapes[k] = own, T(shape)
      end
      local out, joined = "", table.concat(text)
      for _, l in ipairs(letters) do
        if joined:find(l) and draw(0, 1) == 1 then out = l .. out end
      end
      return { table.concat(text, ",") .. "->" .. out, L(shapes) }
    end,
    cases = {
      row("ij,jk->ik", { 2, 3 }, { 3, 4 }),
      row("ij->ji", { 2, 3 }),
      row("ij->", { 2, 3 }),
      row("ii->i", { 3, 3 }),
      row("ii", { 3, 3 }),
      row("iij,j->i", { 2, 2, 3 }, { 3 }),
      row("bij,bjk->bik", { 2, 2, 3 }, { 2, 3, 2 }),
      row("i,j", { 2 }, { 3 }),
      row("...ij,...jk->...ik", { 2, 2, 3 }, { 3, 2 }),
      row("b...,b...->...", { 2, 3, 1 }, { 2, 1, 2 }),
      row("ab,bc,cd->ad", { 2, 3 }, { 3, 2 }, { 2, 2 }),
      row("bn,anm,bm->ba", { 2, 3 }, { 4, 3, 2 }, { 2, 2 }),
      row("Ab,bA", { 2, 3 }, { 3, 2 }),
      row("ij,ij->ij", { 2, 1 }, { 2, 3 }),
      row("i,->i", { 3 }, {}),
      row("...", { 2, 3 }),
      row("ij,jk->ik", { 2, 0 }, { 0, 3 }),
    },
  },
}
