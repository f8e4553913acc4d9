-- Inside a network nothing leaves the layout that convolutions write: from its first convolution to
-- its head, every layer's result and every gradient has its channels last, with no word in the
-- model.
local moon = require "moonlet"

-- By the order of strides; a slice of channels is as good as a whole.
local function channels_last(x)
  local size, stride = x:size(), x:stride()
  local extent = size[2] * stride[2]
  for _, dim in ipairs { 4, 3, 1 } do
    if size[dim] > 1 and stride[dim] < extent then return false end
    if size[dim] > 1 then extent = size[dim] * stride[dim] end
  end
  return true
end

-- Whether there is more than one layout for x.
local function has_layout(x)
  return moon.is_tensor(x) and x:dim() == 4 and x:size(2) > 1 and x:size(3) * x:size(4) > 1
end

-- Names of the layers whose results, or whose gradients, are not, and how many were looked at.
local function strays(net, picture)
  local results, gradients, seen = {}, {}, 0
  for name, module in net:named_modules() do
    module:register_forward_hook(function(_, _, y)
      if not has_layout(y) then return end
      seen = seen + 1
      if not channels_last(y) then results[#results + 1] = name end
      y:register_hook(function(g)
        if not channels_last(g) then gradients[#gradients + 1] = name end
      end)
    end)
  end
  net(picture):sum():backward()
  return table.concat(results, " "), table.concat(gradients, " "), seen
end

describe("from the first convolution to the head, channels stay last in", function()
  local networks = {
    resnet = { depth = 20, classes = 3 }, densenet = { growth = 4, classes = 3 },
    googlenet = { classes = 3 }, mobilenet = { classes = 3 }, unet = { width = 4 },
  }
  for name, given in pairs(networks) do
    it(name, function()
      moon.manual_seed(1)
      local results, gradients, seen = strays(moon.models[name](given), moon.randn(2, 3, 64, 64))
      assert.equal("", results)
      assert.equal("", gradients)
      assert.is_true(seen > 30)
    end)
  end
end)
