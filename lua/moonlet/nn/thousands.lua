-- Whole numbers with commas, 1234567 as "1,234,567", for tables.

--- @number number
-- @usage assert(require "moonlet.nn.thousands"(1234567) == "1,234,567")
return function(number)
  local grouped = ("%.0f"):format(number):reverse():gsub("(%d%d%d)", "%1,"):reverse()
  return (grouped:gsub("^,", ""))
end
