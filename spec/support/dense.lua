-- Linear algebra on plain Lua lists of rows, for naive references: the textbook's way.
local moon = require "moonlet"

local dense = {}

function dense.rows(x)
  local rows = {}
  for i = 1, x:size(1) do
    rows[i] = {}
    for j = 1, x:size(2) do rows[i][j] = x[i][j] end
  end
  return rows
end

function dense.build(m, n, f)
  local rows = {}
  for i = 1, m do
    rows[i] = {}
    for j = 1, n do rows[i][j] = f(i, j) end
  end
  return rows
end

function dense.mul(a, b)
  return dense.build(#a, #b[1], function(i, j)
    local sum = 0
    for k = 1, #b do sum = sum + a[i][k] * b[k][j] end
    return sum
  end)
end

function dense.t(a) return dense.build(#a[1], #a, function(i, j) return a[j][i] end) end

function dense.eye(n) return dense.build(n, n, function(i, j) return i == j and 1 or 0 end) end

function dense.add(a, b)
  return dense.build(#a, #a[1], function(i, j) return a[i][j] + b[i][j] end)
end

-- Columns scaled by a list.
function dense.scale(a, list)
  return dense.build(#a, #a[1], function(i, j) return a[i][j] * list[j] end)
end

-- Gauss's elimination with the largest pivot: x with a x = b, and the determinant of a.
function dense.solve(a, b)
  local n, k, det = #a, #b[1], 1
  a, b = dense.build(n, n, function(i, j) return a[i][j] end),
    dense.build(n, k, function(i, j) return b[i][j] end)
  for c = 1, n do
    local best = c
    for i = c + 1, n do if math.abs(a[i][c]) > math.abs(a[best][c]) then best = i end end
    if best ~= c then a[c], a[best], b[c], b[best], det = a[best], a[c], b[best], b[c], -det end
    det = det * a[c][c]
    if a[c][c] == 0 then return nil, 0 end
    for i = 1, n do
      local part = i == c and 0 or a[i][c] / a[c][c]
      for j = 1, n do a[i][j] = a[i][j] - part * a[c][j] end
      for j = 1, k do b[i][j] = b[i][j] - part * b[c][j] end
    end
  end
  return dense.build(n, k, function(i, j) return b[i][j] / a[i][i] end), det
end

-- Jacobi's rotations for a symmetric matrix: eigenvalues ascending and eigenvectors in columns.
function dense.eigh(a)
  local n = #a
  local v = dense.eye(n)
  for _ = 1, 60 do
    for p = 1, n do
      for q = p + 1, n do
        if math.abs(a[p][q]) > 1e-300 then
          local theta = (a[q][q] - a[p][p]) / (2 * a[p][q])
          local t = (theta >= 0 and 1 or -1) / (math.abs(theta) + math.sqrt(theta * theta + 1))
          local c = 1 / math.sqrt(t * t + 1)
          local s = t * c
          local turn = dense.build(n, n, function(i, j)
            if i == p and j == p or i == q and j == q then return c end
            if i == p and j == q then return s end
            if i == q and j == p then return -s end
            return i == j and 1 or 0
          end)
          a, v = dense.mul(dense.t(turn), dense.mul(a, turn)), dense.mul(v, turn)
        end
      end
    end
  end
  local order, values = {}, {}
  for i = 1, n do order[i] = i end
  table.sort(order, function(i, j) return a[i][i] < a[j][j] end)
  for i = 1, n do values[i] = a[order[i]][order[i]] end
  return values, dense.build(n, n, function(i, j) return v[i][order[j]] end)
end

-- Whether all results are empty.
function dense.nothing(shapes)
  for _, tail in ipairs(shapes) do
    local size = 1
    for i = 1, #tail do size = size * tail[i] end
    if size > 0 then return false end
  end
  return true
end

-- f(rows of each input's matrix...) for each matrix of stacks with the same leading dimensions.
-- Its results (rows, lists or numbers) become tensors; `shapes` says what f gives for no matrix.
function dense.each(f, shapes, ...)
  local inputs, count = { ... }, select("#", ...)
  local first = inputs[1]
  local batch, stacks, n = {}, {}, 1
  for i = 1, first:dim() - 2 do
    batch[i] = first:size(i)
    n = n * batch[i]
  end
  for k = 1, count do
    local x = inputs[k]
    stacks[k] = x:reshape(n, x:size(-2), x:size(-1))
  end
  local results = {}
  for k = 1, #shapes do results[k] = {} end
  for i = 1, n do
    if dense.nothing(shapes) then break end
    local rows = {}
    for k = 1, count do rows[k] = dense.rows(stacks[k][i]) end
    local values = { f((table.unpack or unpack)(rows)) }
    for k = 1, #shapes do results[k][i] = values[k] end
  end
  for k, tail in ipairs(shapes) do
    local shape = {}
    for i = 1, #batch do shape[i] = batch[i] end
    for i = 1, #tail do shape[#shape + 1] = tail[i] end
    local size = 1
    for i = 1, #shape do size = size * shape[i] end
    results[k] = size == 0 and moon.zeros(shape, { dtype = "float64" })
      or moon.tensor(results[k], { dtype = "float64" }):reshape(shape)
  end
  return (table.unpack or unpack)(results)
end

return dense
