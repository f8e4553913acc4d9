-- Layers of convolution and padding: that each calls its operator with its parameters and options,
-- that padding modes pad, that lazy ones become the real ones, and their sentences.
local moon = require "moonlet"
local naive = require "spec.support.naive"
local nn = moon.nn

local shapes = { { 2, 4, 7 }, { 2, 4, 7, 6 }, { 2, 4, 5, 4, 6 } }

describe("convolution layers", function()
  for dims = 1, 3 do
    it(("calculate what their operators do, in %d dimensions"):format(dims), function()
      local x = naive.random(shapes[dims]):float()
      local o = { stride = 2, padding = 1, dilation = 2, groups = 2 }
      local conv = nn[("Conv%dd"):format(dims)](4, 6, 2, o)
      naive.close(conv(x), moon[("conv%dd"):format(dims)](x, conv.weight, conv.bias, o))
      local up = { stride = 3, padding = 1, output_padding = 2, groups = 2 }
      local transposed = nn[("ConvTranspose%dd"):format(dims)](4, 6, 2, up)
      naive.close(transposed(x), moon[("conv_transpose%dd"):format(dims)](x, transposed.weight,
        transposed.bias, up))
      local plain = nn[("Conv%dd"):format(dims)](4, 3, 2, { bias = false, dtype = "float64" })
      assert.is_nil(plain.bias)
      assert.equal("float64", plain.weight.dtype)
    end)

    it(("have parameters of PyTorch's shapes, in %d dimensions"):format(dims), function()
      local conv = nn[("Conv%dd"):format(dims)](4, 6, 3, { groups = 2 })
      local transposed = nn[("ConvTranspose%dd"):format(dims)](4, 6, 3, { groups = 2 })
      local kernel = { 3, 3, 3 }
      local function shape(a, b) return { a, b, (table.unpack or unpack)(kernel, 1, dims) } end
      assert.same(shape(6, 2), conv.weight:size())
      assert.same(shape(4, 3), transposed.weight:size())
      assert.same({ 6 }, transposed.bias:size())
      local bound = 1 / math.sqrt(2 * 3 ^ dims)
      assert.is_true(conv.weight:abs():max():item() <= bound)
      assert.is_true(conv.weight:abs():max():item() > bound / 2)
    end)

    it(("learn their input channels, in %d dimensions"):format(dims), function()
      local x = naive.random(shapes[dims]):float()
      for _, kind in ipairs { "Conv", "ConvTranspose" } do
        local lazy = nn[("Lazy%s%dd"):format(kind, dims)](6, 2, { groups = 2 })
        local parameters = lazy:parameters()
        assert.equal(2, #parameters)
        local y = lazy(x)
        assert.equal(("%s%dd"):format(kind, dims), lazy.class_name)
        assert.is_true(rawequal(lazy.weight, parameters[1]))
        assert.equal(6, y:size(2))
        local fresh = nn[("Lazy%s%dd"):format(kind, dims)](6, 2, { groups = 2 })
        fresh:load_state_dict(lazy:state_dict())
        naive.close(fresh(x), y)
      end
    end)
  end

  it("take padding of each side and in words", function()
    local x = naive.random { 1, 2, 5, 6 }:float()
    for _, padding in ipairs { "same", "valid", "full", { { 1, 2 }, { 0, 3 } }, { 2, 1 } } do
      local conv = nn.Conv2d(2, 3, { 2, 3 }, { padding = padding })
      naive.close(conv(x), moon.conv2d(x, conv.weight, conv.bias, { padding = padding }))
    end
  end)

  it("pad by reflection, by replication and in circles", function()
    local x = naive.random { 2, 2, 5, 6 }:float()
    local modes = { reflect = "reflect", replicate = "replicate", circular = "circular" }
    for mode in pairs(modes) do
      local conv = nn.Conv2d(2, 3, 3, { padding = { { 1, 2 }, { 0, 1 } }, padding_mode = mode })
      local padded = moon.pad(x, { 0, 1, 1, 2 }, mode)
      naive.close(conv(x), moon.conv2d(padded, conv.weight, conv.bias))
      local same = nn.Conv2d(2, 3, { 4, 3 }, { padding = "same", dilation = { 1, 2 },
        padding_mode = mode })
      padded = moon.pad(x, { 2, 2, 1, 2 }, mode)
      naive.close(same(x), moon.conv2d(padded, same.weight, same.bias, { dilation = { 1, 2 } }))
    end
    local line = nn.Conv1d(1, 1, 3, { padding = 1, padding_mode = "circular", bias = false })
    line.weight:detach():copy_(moon.ones(1, 1, 3))
    naive.close(line(moon.tensor { { { 1, 2, 4, 8 } } }), { { { 11, 7, 14, 13 } } })
    local volume = nn.Conv3d(1, 1, 3, { padding = 1, padding_mode = "replicate", bias = false })
    volume.weight:detach():copy_(moon.ones(1, 1, 3, 3, 3))
    naive.close(volume(moon.ones(1, 1, 2, 2, 2)), moon.full({ 1, 1, 2, 2, 2 }, 27))
  end)

  it("show their options", function()
    assert.equal('Conv1d(2, 3, 3, padding = "same", padding_mode = "circular")',
      tostring(nn.Conv1d(2, 3, 3, { padding = "same", padding_mode = "circular" })))
    assert.equal("ConvTranspose2d(2, 4, {3, 2}, stride = 2, output_padding = 1, bias = false)",
      tostring(nn.ConvTranspose2d(2, 4, { 3, 2 },
        { stride = 2, output_padding = 1, bias = false })))
    assert.equal("LazyConv3d(?, 4, 2, padding = {{1, 2}, {0, 0}, {1, 1}})",
      tostring(nn.LazyConv3d(4, 2, { padding = { { 1, 2 }, { 0, 0 }, { 1, 1 } } })))
  end)

  it("refuse what they cannot do, blaming the caller", function()
    for text, f in pairs {
      ["Conv1d: kernel must be a whole number or a list of one, not a table"] =
        function() nn.Conv1d(1, 1, { 2, 2 }) end,
      ["Conv3d: stride must be a whole number or a list of three, not a table"] =
        function() nn.Conv3d(1, 1, 2, { stride = { 1, 2 } }) end,
      ['Conv2d: padding must be a whole number, a list such as {1, 2} or {{1, 2}, {0, 0}}, or ' ..
        'one of "same", "valid", "full", not "fool"'] =
        function() nn.Conv2d(1, 1, 2, { padding = "fool" }) end,
      ['Conv2d: padding "same" needs a stride of 1, not {1, 2}'] =
        function() nn.Conv2d(1, 1, 2, { padding = "same", stride = { 1, 2 } }) end,
      ["Conv2d: padding_mode must be one of"] =
        function() nn.Conv2d(1, 1, 2, { padding_mode = "mirror" }) end,
      ['ConvTranspose2d: there is no option "padding_mode"'] =
        function() nn.ConvTranspose2d(1, 1, 2, { padding_mode = "reflect" }) end,
      ["LazyConvTranspose1d: groups = 2 must divide outputs (3)"] =
        function() nn.LazyConvTranspose1d(3, 2, { groups = 2 }) end,
    } do
      naive.fails(text, f)
      naive.fails("convolution_spec.lua", f)
    end
    naive.fails("LazyConv1d: input must be (n, channels, length), not 2x3x4x5", function()
      nn.LazyConv1d(3, 2)(moon.zeros(2, 3, 4, 5))
    end)
    naive.fails("LazyConv1d: groups = 2 must divide the input's 3 channels", function()
      nn.LazyConv1d(4, 2, { groups = 2 })(moon.zeros(2, 3, 4))
    end)
  end)
end)

describe("DepthwiseSeparableConv2d", function()
  it("is a kernel for each channel, then one for each pixel", function()
    local x = naive.random { 2, 3, 6, 5 }:float()
    local layer = nn.DepthwiseSeparableConv2d(3, 4, { 3, 2 },
      { multiplier = 2, stride = 2, padding = 1 })
    assert.same({ 6, 1, 3, 2 }, layer.depthwise.weight:size())
    assert.same({ 4, 6, 1, 1 }, layer.pointwise.weight:size())
    assert.is_nil(layer.depthwise.bias)
    local y = moon.conv2d(x, layer.depthwise.weight, nil, { stride = 2, padding = 1, groups = 3 })
    naive.close(layer(x), moon.conv2d(y, layer.pointwise.weight, layer.pointwise.bias))
  end)
end)

describe("locally connected layers", function()
  it("calculate what their operators do", function()
    local x = naive.random { 2, 3, 6, 5 }:float()
    local o = { stride = { 2, 1 }, padding = { { 1, 0 }, { 0, 2 } }, dilation = { 1, 2 } }
    local layer = nn.LocallyConnected2d(3, 4, { 6, 5 }, { 3, 2 }, o)
    assert.same({ 3, 5, 4, 3, 3, 2 }, layer.weight:size())
    assert.same({ 4, 3, 5 }, layer.bias:size())
    naive.close(layer(x), moon.locally_connected2d(x, layer.weight, layer.bias, o))
    local line = nn.LocallyConnected1d(3, 2, 6, 3, { padding = "same", bias = false })
    local signal = naive.random { 2, 3, 6 }:float()
    naive.close(line(signal), moon.locally_connected1d(signal, line.weight, nil,
      { padding = "same" }))
    assert.is_true(line.weight:abs():max():item() <= 1 / 3)
  end)

  it("say when a kernel does not fit", function()
    naive.fails("LocallyConnected1d: a kernel of 5 does not fit into inputs of 4", function()
      nn.LocallyConnected1d(1, 1, 4, 5)
    end)
  end)
end)

describe("Unfold and Fold", function()
  it("are im2col and col2im", function()
    local x = naive.random { 2, 3, 6, 5 }:float()
    local o = { stride = 2, padding = 1, dilation = { 1, 2 } }
    naive.close(nn.Unfold(2, o)(x), moon.im2col(x, 2, o))
    local columns = nn.Unfold(2, o)(x)
    naive.close(nn.Fold({ 6, 5 }, 2, o)(columns), moon.col2im(columns, { 6, 5 }, 2, o))
    assert.equal("Fold({6, 5}, 2, stride = 2)", tostring(nn.Fold({ 6, 5 }, 2, { stride = 2 })))
  end)

  it("give back windows that do not overlap", function()
    local x = naive.random { 2, 3, 6, 4 }
    local o = { stride = 2 }
    naive.close(nn.Fold({ 6, 4 }, 2, o)(nn.Unfold(2, o)(x)), x)
  end)
end)

describe("padding layers", function()
  local modes = { ZeroPad = "constant", ConstantPad = "constant", ReflectionPad = "reflect",
                  ReplicationPad = "replicate", CircularPad = "circular" }
  it("pad one to three dimensions", function()
    local pads = { { 2, 1 }, { 2, 1, 0, 3 }, { 1, 0, 2, 1, 0, 1 } }
    for kind, mode in pairs(modes) do
      for dims = 1, 3 do
        local x, value = naive.random(shapes[dims]), kind == "ConstantPad" and 2.5 or nil
        local layer = nn[("%s%dd"):format(kind, dims)]
        naive.close(layer(pads[dims], value)(x), moon.pad(x, pads[dims], mode, value or 0))
        local ones = {}
        for i = 1, 2 * dims do ones[i] = 1 end
        naive.close(layer(1, value)(x), moon.pad(x, ones, mode, value or 0))
      end
    end
  end)

  it("show and check what they were given", function()
    assert.equal("ConstantPad2d({1, 2, 3, 4}, -1)", tostring(nn.ConstantPad2d({ 1, 2, 3, 4 }, -1)))
    naive.fails("ReflectionPad2d: padding must be a whole number or a list " ..
      "{left, right, top, bottom}, not a table", function() nn.ReflectionPad2d { 1, 2 } end)
    naive.fails("ZeroPad1d: takes only padding, but got 3 too",
      function() nn.ZeroPad1d(1, 3) end)
    naive.fails("ConstantPad1d: value must be a number, not nil",
      function() nn.ConstantPad1d(1) end)
  end)
end)
