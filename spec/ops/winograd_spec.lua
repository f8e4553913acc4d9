-- Winograd's forms, each asked for by name: all the ways in which they cut their work, sizes that
-- tiles do not divide, the end of a convolution in their last pass, and when they stay away.
local moon = require "moonlet"
local faults = require "spec.support.faults"

-- What single precision may be off by, of the largest element. The issue allows ten times that.
local LIMIT = 1e-5

local forms = { winograd_4x3 = 3, winograd_2x3 = 3, winograd_2x5 = 5 }

-- n, channels, height, width, output channels, options; the kernel is the form's
local shapes = {
  one_output = { 1, 3, 5, 5, 2, {} },
  odd_sizes = { 2, 5, 13, 11, 7, { padding = 1 } },
  narrow_and_high = { 1, 4, 67, 5, 33, { padding = { 2, 0 } } },
  uneven_padding = { 2, 6, 9, 8, 5, { padding = { { 3, 0 }, { 1, 2 } } } },
  much_padding = { 1, 3, 6, 6, 4, { padding = 7 } },
  groups = { 2, 34, 12, 10, 51, { padding = 1, groups = 17 } },
  many_tiles = { 3, 18, 61, 47, 21, { padding = 2 } },
  parts_of_channels = { 1, 150, 18, 17, 140, { padding = 1 } },
  few_tiles_and_many_weights = { 1, 200, 10, 9, 230, { padding = 1 } },
  many_tiles_and_many_weights = { 1, 170, 41, 33, 165, { padding = 1 } },
  no_image = { 0, 3, 9, 9, 4, { padding = 1 } },
}

local function with_form(name, f, ...)
  moon.conv_engine(name)
  local results = { pcall(f, ...) }
  moon.conv_engine ""
  assert(results[1], results[2])
  return results[2]
end

local function drawn(shape, kernel)
  local n, c, h, w, o, options = (table.unpack or unpack)(shape)
  return moon.randn(n, c, h, w), moon.randn(o, c / (options.groups or 1), kernel, kernel), options
end

-- Result and both gradients.
local function passes(x, w, options)
  x, w = x:detach():requires_grad_(), w:detach():requires_grad_()
  local y = moon.conv2d(x, w, nil, options)
  y:backward(y:detach():mul(0.5))
  return { result = y:detach(), input = x.grad, weight = w.grad }
end

local function deviation(actual, expected)
  if expected:numel() == 0 then return 0 end
  local largest = math.max(expected:abs():max():item(), 1e-30)
  return (actual:double() - expected):abs():max():item() / largest
end

local function check(actual, expected)
  for what, values in pairs(expected) do
    local off = deviation(actual[what], values)
    assert(off <= LIMIT, ("%s is off by %g"):format(what, off))
  end
end

local function chosen(f)
  for _, row in ipairs(moon.profile(f).operators) do
    if row.algorithm then return row.algorithm end
  end
end

for form, kernel in pairs(forms) do
  describe(form, function()
    for name, shape in pairs(shapes) do
      it("is right with " .. name:gsub("_", " "), function()
        local x, w, options = drawn(shape, kernel)
        check(with_form(form, passes, x, w, options), passes(x:double(), w:double(), options))
      end)
    end

    it("is right with weights and channels that do not lie side by side", function()
      local x, w, options = drawn(shapes.odd_sizes, kernel)
      local expected = passes(x:double(), w:double(), options)
      local turned = w:permute(3, 4, 2, 1):contiguous():permute(4, 3, 1, 2)
      local slice = moon.cat({ x, x, x }, 2):contiguous("channels_last"):narrow(2, 6, 5)
      check(with_form(form, passes, slice, turned, options), expected)
    end)

    it("scales, shifts, adds and clamps in its last pass", function()
      for _, name in ipairs { "odd_sizes", "few_tiles_and_many_weights" } do
        local x, w, options = drawn(shapes[name], kernel)
        local o, like = w:size(1), moon.conv2d(x, w, nil, options)
        local scale, shift, add = moon.randn(o), moon.randn(o), moon.randn(like:size())
        local function fused()
          return moon.conv2d_fused(x, w, shift, { padding = options.padding, scale = scale,
            add = add, activation = "relu" })
        end
        local expected = moon.conv2d(x:double(), w:double(), nil, options)
          * scale:double():view(o, 1, 1) + shift:double():view(o, 1, 1) + add:double()
        assert.equal(form, with_form(form, chosen, fused))
        assert.is_true(deviation(with_form(form, fused), expected:relu()) <= LIMIT)
      end
    end)

    it("cuts its work where workspaces are limited, to the same precision", function()
      local x, w, options = drawn(shapes.parts_of_channels, kernel)
      local expected, before = passes(x:double(), w:double(), options), moon.workspace_limit()
      for _, limit in ipairs { 0, 1000000 } do
        moon.workspace_limit(limit)
        local actual = with_form(form, passes, x, w, options)
        moon.workspace_limit(before)
        check(actual, expected)
      end
    end)

    it("gives the same bits with any number of threads, however work is cut", function()
      local threads = moon.get_num_threads()
      for _, name in ipairs { "many_tiles", "parts_of_channels", "few_tiles_and_many_weights" } do
        local x, w, options = drawn(shapes[name], kernel)
        moon.set_num_threads(1)
        local expected = with_form(form, passes, x, w, options)
        for count = 2, 3 do
          moon.set_num_threads(count)
          local actual = with_form(form, passes, x, w, options)
          for what, values in pairs(expected) do
            assert.equal(0, (actual[what] - values):abs():max():item(), what)
          end
        end
      end
      moon.set_num_threads(threads)
    end)

    it("fails cleanly wherever memory runs out", function()
      local x, w, options = drawn(shapes.odd_sizes, kernel)
      x:requires_grad_()
      w:requires_grad_()
      with_form(form, faults.every_allocation, function()
        moon.conv2d(x, w, nil, options):sum():backward()
        x.grad, w.grad = nil, nil
      end)
    end)

    it("is not taken where precision is asked for, nor in double, strides or dilations", function()
      local x, w, options = drawn(shapes.odd_sizes, kernel)
      local function used(input, weight, how)
        return with_form(form, chosen, function() moon.conv2d(input, weight, nil, how) end)
      end
      assert.equal(form, used(x, w, options))
      moon.precise(true)
      local precise = used(x, w, options)
      moon.precise(false)
      assert.not_equal(form, precise)
      assert.not_equal(form, used(x:double(), w:double(), options))
      assert.not_equal(form, used(x, w, { stride = 2 }))
      assert.not_equal(form, used(x, w, { dilation = 2, padding = 4 }))
    end)
  end)
end

describe("Winograd's forms", function()
  it("are chosen for the layers that have many channels and tiles", function()
    local x, w = moon.randn(1, 64, 56, 56), moon.randn(64, 64, 3, 3)
    assert.equal("winograd_4x3", chosen(function() moon.conv2d(x, w, nil, { padding = 1 }) end))
  end)
end)
