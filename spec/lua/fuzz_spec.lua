-- Every operator with arguments drawn from what its schema allows and a little beyond, the same in
-- every run; scripts/fuzz.lua goes on from other seeds.
local fuzz = require "spec.support.fuzz"

describe("odd arguments", function()
  for _, op in ipairs(fuzz.operators()) do
    it("do no harm to " .. op.name, function()
      fuzz.seed(7)
      fuzz.run_and_weigh(op, 40)
    end)
  end
end)
