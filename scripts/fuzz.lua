-- Calls operators with drawn arguments until the time is over (spec/support/fuzz.lua says how), all
-- of them in turn, and prints the seed, which draws the same calls again. Ends with "N passed, N
-- failed", counted in operators.
--
--   luajit scripts/fuzz.lua [--seconds 60] [--seed N] [--lists N] [--only name,name] [--trace FILE]
package.path = "./?.lua;" .. package.path
local moon = require "moonlet"
local flags = require "moonlet.flags"
local fuzz = require "spec.support.fuzz"

local TURN = 20   -- argument lists before the next operator has its turn

local o = flags.read({
  { "seconds", "number", 60, "how long to go on" },
  { "lists", "integer", 0, "argument lists for each operator, however long that takes" },
  { "seed", "integer", 0, "of the draws; 0 takes one from the clock" },
  { "only", "string", "", "names of operators, with commas between" },
  { "trace", "string", "", "a file that gets each call before it is made" },
}, arg, "usage: luajit scripts/fuzz.lua [flags]")

local function chosen()
  if o.only == "" then return fuzz.operators() end
  local list = {}
  for _, op in ipairs(fuzz.operators()) do
    if ("," .. o.only .. ","):find("," .. op.name .. ",", 1, true) then list[#list + 1] = op end
  end
  return list
end

-- One turn of every operator; the operators that fail are taken out.
local function turn(operators, seed, lists, failed, over)
  for _, op in ipairs(operators) do
    if not failed[op.name] and not over() then
      fuzz.seed(seed)
      local ok, message = pcall(fuzz.run_and_weigh, op, lists)
      if not ok then
        failed[op.name] = true
        print(("%s (--only %s --seed %d --lists %d): %s"):format(
          op.name, op.name, seed, lists, tostring(message)))
      end
    end
  end
end

local seed = o.seed ~= 0 and o.seed or os.time() % 1000000 * 1000
local operators, failed = chosen(), {}
if o.trace ~= "" then
  fuzz.trace = assert(io.open(o.trace, "w"))
  fuzz.trace:setvbuf("line")
end

print(("%d operators from seed %d"):format(#operators, seed))
local start, turns, made = moon.clock(), 0, 0
local function over() return o.lists == 0 and moon.clock() - start >= o.seconds end
repeat
  local lists = o.lists > 0 and o.lists or TURN
  turn(operators, seed + turns, lists, failed, over)
  turns, made = turns + 1, made + lists
until o.lists > 0 or over()

local lost = 0
for _ in pairs(failed) do lost = lost + 1 end
print(("at most %d argument lists an operator in %.0f s"):format(made, moon.clock() - start))
print(("%d passed, %d failed"):format(#operators - lost, lost))
os.exit(lost == 0 and 0 or 1)
