-- The layers of pooling and resizing: each is its operator with the options it was made with.
local moon = require "moonlet"
local naive = require "spec.support.naive"
local nn = moon.nn

local images = { moon.randn(2, 4, 9), moon.randn(2, 4, 8, 9), moon.randn(1, 4, 5, 6, 7) }

local function same(expected, actual) naive.close(actual, expected, 0) end

describe("pooling layers", function()
  for dims = 1, 3 do
    local x, suffix = images[dims], dims .. "d"
    it("calculate what their operators do in " .. suffix, function()
      local options = { stride = 1, padding = 1, ceil_mode = true }
      same((moon["max_pool" .. suffix](x, 3, options)), (nn["MaxPool" .. suffix](3, options)(x)))
      same(moon["avg_pool" .. suffix](x, 3, options), nn["AvgPool" .. suffix](3, options)(x))
      local positive = x:abs() + 0.1
      same(moon["lp_pool" .. suffix](positive, 3, 2, { stride = 1 }),
        nn["LPPool" .. suffix](3, 2, { stride = 1 })(positive))
      same(moon["adaptive_avg_pool" .. suffix](x, 4), nn["AdaptiveAvgPool" .. suffix](4)(x))
      same((moon["adaptive_max_pool" .. suffix](x, 4)), (nn["AdaptiveMaxPool" .. suffix](4)(x)))
    end)

    it("take every element in the global ones, " .. suffix, function()
      local flat = x:flatten(3)
      same(flat:amax(3), nn["GlobalMaxPool" .. suffix]()(x):flatten(2))
      naive.close(nn["GlobalAvgPool" .. suffix]()(x):flatten(2), flat:mean(3), 1e-6)
    end)

    it("come back by positions, " .. suffix, function()
      local y, indices = nn["MaxPool" .. suffix](2, { return_indices = true })(x)
      local back = nn["MaxUnpool" .. suffix](2)(y, indices, x:size())
      assert.same(x:size(), back:size())
      same(y:flatten(3), back:flatten(3):gather(3, indices:flatten(3)))
      assert.equal(y:numel(), back:ne(0):sum():item())
      local top, where = nn["AdaptiveMaxPool" .. suffix](1, { return_indices = true })(x)
      same(top:flatten(3), x:flatten(3):gather(3, where:flatten(3)))
    end)
  end

  it("print their options", function()
    assert.equal("MaxPool2d(2)", tostring(nn.MaxPool2d(2)))
    assert.equal("MaxPool2d({3, 2}, stride = 2, ceil_mode = true)",
      tostring(nn.MaxPool2d({ 3, 2 }, { stride = 2, ceil_mode = true })))
    assert.equal("LPPool1d(2, {3})", tostring(nn.LPPool1d(2, { 3 })))
    assert.equal("AdaptiveAvgPool3d({1, 2, 3})", tostring(nn.AdaptiveAvgPool3d { 1, 2, 3 }))
    assert.equal("GlobalAvgPool2d()", tostring(nn.GlobalAvgPool2d()))
    assert.equal("MaxUnpool2d(2, stride = 3)", tostring(nn.MaxUnpool2d(2, { stride = 3 })))
    assert.equal("Maxout(2, dim = 1)", tostring(nn.Maxout(2, { dim = 1 })))
    assert.equal("FractionalMaxPool2d(2, output_ratio = 0.5)",
      tostring(nn.FractionalMaxPool2d(2, { output_ratio = 0.5 })))
  end)

  it("refuse what does not fit, in the caller's line", function()
    local function fails(text, f)
      local ok, message = pcall(f)
      assert.is_false(ok)
      assert.matches("spec/nn/pooling_spec.lua", message, 1, true)
      naive.fails(text, error, message)
    end
    fails("MaxPool2d: kernel must be a whole number or a list of two, not nil",
      function() nn.MaxPool2d() end)
    fails("AvgPool3d: kernel must be a whole number or a list of three, not a table",
      function() nn.AvgPool3d { 2, 2 } end)
    fails('MaxPool1d: there is no option "stirde", did you mean "stride"?',
      function() nn.MaxPool1d(2, { stirde = 1 }) end)
    fails('AvgPool1d: there is no option "divisor_override"',
      function() nn.AvgPool1d(2, { divisor_override = 1 }) end)
    fails("FractionalMaxPool2d: give either output_size or output_ratio",
      function() nn.FractionalMaxPool2d(2, {}) end)
    fails("Maxout: group must be a whole number from 1, not 0", function() nn.Maxout(0) end)
  end)

  it("draw new windows at every call, the same ones after a seed", function()
    local layer = nn.FractionalMaxPool2d(2, { output_size = 7 })
    local x = moon.randn(1, 8, 16, 16)
    moon.manual_seed(3)
    local first, second = layer(x), layer(x)
    moon.manual_seed(3)
    same(first, layer(x))
    assert.is_true(first:ne(second):any():item())
  end)
end)

describe("layers that resize", function()
  local x = images[2]

  it("calculate what their operators do", function()
    same(x:interpolate({ scale_factor = 2, mode = "bicubic" }),
      nn.Upsample({ scale_factor = 2, mode = "bicubic" })(x))
    same(x:interpolate({ 5, 3 }), nn.Upsample({ size = { 5, 3 } })(x))
    same(x:pixel_shuffle(2), nn.PixelShuffle(2)(x))
    same(x:narrow(4, 1, 8):pixel_unshuffle(2), nn.PixelUnshuffle(2)(x:narrow(4, 1, 8)))
  end)

  it("print their options and refuse what does not fit", function()
    assert.equal('Upsample(scale_factor = 2, mode = "bilinear")',
      tostring(nn.Upsample { scale_factor = 2, mode = "bilinear" }))
    assert.equal("PixelShuffle(3)", tostring(nn.PixelShuffle(3)))
    naive.fails("Upsample: give either size or scale_factor", nn.Upsample, {})
    naive.fails('Upsample: mode must be one of "nearest"', nn.Upsample,
      { size = 2, mode = "linaer" })
    naive.fails("PixelShuffle: factor must be a whole number from 1", nn.PixelShuffle, 1.5)
  end)
end)
