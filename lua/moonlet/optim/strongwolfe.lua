-- A line search that ends at a point which satisfies the strong Wolfe conditions (Nocedal and
-- Wright 2006, algorithms 3.5 and 3.6), with cubic interpolation: first a bracket, then a zoom.
--
-- A point is { t, f, g, slope }: how far along the direction, the loss there, its gradient, and the
-- derivative along the direction. The rules follow Torch7's lswolfe, as PyTorch's do.

local DECREASE, CURVATURE = 1e-4, 0.9

-- Where the cubic through two points (values and slopes) is lowest, limited to low .. high.
local function interpolate(p, q, low, high)
  local d1 = p.slope + q.slope - 3 * (p.f - q.f) / (p.t - q.t)
  local square = d1 * d1 - p.slope * q.slope
  if square < 0 or square ~= square then return (low + high) / 2 end
  local d2 = math.sqrt(square)
  if p.t > q.t then p, q = q, p end
  local least = q.t - (q.t - p.t) * ((q.slope + d2 - d1) / (q.slope - p.slope + 2 * d2))
  return math.min(math.max(least, low), high)
end

local function too_high(point, start)
  return point.f > start.f + DECREASE * point.t * start.slope
end

local function is_flat(point, start)
  return math.abs(point.slope) <= -CURVATURE * start.slope
end

-- Steps outward until a bracket is found: two points; or one point that will do.
local function bracket(try, start, t, limit)
  local previous, point, tries = start, try(t), 0
  while tries < limit do
    if too_high(point, start) or (tries > 1 and point.f >= previous.f) then
      return { previous, point }, tries
    end
    if is_flat(point, start) then return { point }, tries end
    if point.slope >= 0 then return { previous, point }, tries end
    local least = point.t + 0.01 * (point.t - previous.t)
    local next_t = interpolate(previous, point, least, point.t * 10)
    previous, point, tries = point, try(next_t), tries + 1
  end
  return { start, point }, tries
end

-- A trial point that is not too near an end of the bracket twice running.
local function trial(ends, stuck)
  local low = math.min(ends[1].t, ends[2].t)
  local high = math.max(ends[1].t, ends[2].t)
  local t, margin = interpolate(ends[1], ends[2], low, high), 0.1 * (high - low)
  if math.min(high - t, t - low) >= margin then return t, false end
  if not (stuck or t >= high or t <= low) then return t, true end
  return math.abs(t - high) < math.abs(t - low) and high - margin or low + margin, false
end

local function order(ends)
  if ends[1].f <= ends[2].f then return 1, 2 end
  return 2, 1
end

local function zoom(try, start, ends, tries, limit, tolerance)
  local low, high = order(ends)
  local stuck = false
  while tries < limit and math.abs(ends[2].t - ends[1].t) >= tolerance do
    local t
    t, stuck = trial(ends, stuck)
    local point = try(t)
    tries = tries + 1
    if too_high(point, start) or point.f >= ends[low].f then
      ends[high] = point
      low, high = order(ends)
    else
      if is_flat(point, start) then return point end
      if point.slope * (ends[high].t - ends[low].t) >= 0 then ends[high] = ends[low] end
      ends[low] = point
    end
  end
  return ends[low]
end

--- Searches along a direction.
-- @tparam function try t -> point
-- @tparam table start the point at t = 0
-- @number t the first step to try
-- @int limit most steps after the first
-- @number tolerance a bracket narrower than this is not searched further
-- @treturn table the point found
-- @usage local search = require "moonlet.optim.strongwolfe"
-- local function parabola(t) return { t = t, f = (t - 3) ^ 2, slope = 2 * (t - 3) } end
-- assert(search(parabola, parabola(0), 0.1, 25, 1e-9).f < 6)
return function(try, start, t, limit, tolerance)
  local ends, tries = bracket(try, start, t, limit)
  if #ends == 1 then return ends[1] end
  return zoom(try, start, ends, tries, limit, tolerance)
end
