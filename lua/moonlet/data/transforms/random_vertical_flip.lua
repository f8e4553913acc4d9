-- random_vertical_flip: each picture is turned upside down, as in a mirror below it, with
-- probability p.

local NAME = ...
local RandomHorizontalFlip = require "moonlet.data.transforms.random_horizontal_flip"

local RandomVerticalFlip = RandomHorizontalFlip:extend "random_vertical_flip"

RandomVerticalFlip.module, RandomVerticalFlip.dim = NAME, 3

--- Mirrors at random.
-- @number[opt=0.5] p the probability
-- @usage local moon = require "moonlet"
-- local x = moon.data.transforms.random_vertical_flip(1)(moon.tensor { { { 1 }, { 2 } } })
-- assert(x[{ 1, 1, 1 }] == 2)
-- @function RandomVerticalFlip:init(p)

return RandomVerticalFlip
