-- A lecture's worked examples of convolution, numbers as they stand on its slides. Rows and columns
-- count from 1.
local moon = require "moonlet"
local naive = require "spec.support.naive"
local pictures = require "spec.support.pictures"
local nn = moon.nn

-- A picture, (1, 1, h, w), from rows of numbers or strings of digits.
local function picture(rows)
  local list = {}
  for i, row in ipairs(rows) do
    if type(row) == "string" then
      list[i] = {}
      for digit in row:gmatch "%d" do list[i][#list[i] + 1] = tonumber(digit) end
    else
      list[i] = row
    end
  end
  return moon.tensor(list, { dtype = "float64" }):unsqueeze(1):unsqueeze(1)
end

local function plane(x) return x:select(1, 1):select(1, 1) end

describe("a 3 x 3 box blur", function()
  it("smooths a square with a hole and a lonely dot", function()
    local image = naive.build({ 10, 10 }, function(at)
      local i, j = at[1], at[2]
      if i == 6 and j == 5 then return 0 end
      if i == 9 and j == 3 then return 90 end
      return i >= 3 and i <= 7 and j >= 4 and j <= 8 and 90 or 0
    end)
    local box = moon.full({ 3, 3 }, 1 / 9, { dtype = "float64" })
    local blurred = moon.correlate(image, box, "valid")
    naive.close(blurred, {
      { 0, 10, 20, 30, 30, 30, 20, 10 },
      { 0, 20, 40, 60, 60, 60, 40, 20 },
      { 0, 30, 60, 90, 90, 90, 60, 30 },
      { 0, 30, 50, 80, 80, 90, 60, 30 },
      { 0, 30, 50, 80, 80, 90, 60, 30 },
      { 0, 20, 30, 50, 50, 60, 40, 20 },
      { 10, 20, 30, 30, 30, 30, 20, 10 },
      { 10, 10, 10, 0, 0, 0, 0, 0 },
    }, 1e-12)
  end)
end)

describe("the 9 x 9 X", function()
  local x = naive.build({ 1, 1, 9, 9 }, function(at)
    local i, j = at[3], at[4]
    return i >= 2 and i <= 8 and (i == j or i + j == 10) and 1 or -1
  end)
  local diagonal = picture { { 1, -1, -1 }, { -1, 1, -1 }, { -1, -1, 1 } }
  local ninths = moon.conv2d(x, diagonal)

  it("answers to a diagonal, in ninths", function()
    naive.close(plane(ninths), {
      { 7, -1, 1, 3, 5, -1, 3 },
      { -1, 9, -1, 3, -1, 1, -1 },
      { 1, -1, 9, -3, 1, -1, 5 },
      { 3, 3, -3, 5, -3, 3, 3 },
      { 5, -1, 1, -3, 9, -1, 1 },
      { -1, 1, -1, 3, -1, 9, -1 },
      { 3, -1, 5, 3, 1, -1, 7 },
    })
  end)

  it("keeps what is positive", function()
    naive.close(plane(ninths:relu()), {
      { 7, 0, 1, 3, 5, 0, 3 },
      { 0, 9, 0, 3, 0, 1, 0 },
      { 1, 0, 9, 0, 1, 0, 5 },
      { 3, 3, 0, 5, 0, 3, 3 },
      { 5, 0, 1, 0, 9, 0, 1 },
      { 0, 1, 0, 3, 0, 9, 0 },
      { 3, 0, 5, 3, 1, 0, 7 },
    })
  end)

  it("is pooled 2 x 2, with and without the half windows at the end", function()
    naive.close(plane(moon.max_pool2d(ninths:relu(), 2)), { { 9, 3, 5 }, { 3, 9, 3 }, { 5, 3, 9 } })
    naive.close(plane(moon.max_pool2d(ninths:relu(), 2, { ceil_mode = true })),
      { { 9, 3, 5, 3 }, { 3, 9, 3, 5 }, { 5, 3, 9, 1 }, { 3, 5, 1, 7 } })
  end)

  it("runs through the layers of a network alike", function()
    local conv = nn.Conv2d(1, 1, 3, { bias = false, dtype = "float64" })
    conv.weight:detach():copy_(diagonal / 9)
    local net = nn.Sequential(conv, nn.ReLU(), nn.MaxPool2d(2))
    naive.close(plane(net(x)) * 9, { { 9, 3, 5 }, { 3, 9, 3 }, { 5, 3, 9 } })
  end)
end)

describe("small pictures by hand", function()
  it("with a stride of 2", function()
    local x = picture { "2374629", "6698743", "3483897", "7836634", "4218346", "3241983",
                        "0139214" }
    local w = picture { { 3, 4, 4 }, { 1, 0, 2 }, { -1, 0, 3 } }
    naive.close(plane(moon.conv2d(x, w, nil, { stride = 2 })),
      { { 91, 100, 88 }, { 69, 91, 117 }, { 44, 72, 74 } })
  end)

  it("pooled to the largest of 2 x 2", function()
    naive.close(plane(moon.max_pool2d(picture { "1321", "2911", "1323", "5612" }, 2)),
      { { 9, 2 }, { 6, 3 } })
  end)

  it("of zeros and ones", function()
    local x = picture { "11100", "01110", "00111", "00110", "01100" }
    naive.close(plane(moon.conv2d(x, picture { "101", "010", "101" })),
      { { 4, 3, 4 }, { 2, 4, 3 }, { 2, 3, 4 } })
  end)
end)

describe("the size of the result", function()
  it("is floor((n + 2 p - f) / s) + 1 for every n, f, p, s, or an error", function()
    local counted, refused = 0, 0
    for n = 1, 20 do
      local line, square = moon.zeros(1, 1, n), moon.zeros(1, 1, n, n)
      for f = 1, 7 do
        local w, ww = moon.zeros(1, 1, f), moon.zeros(1, 1, f, f)
        for p = 0, 3 do
          for s = 1, 3 do
            local options = { stride = s, padding = p }
            if f > n + 2 * p then
              refused = refused + 1
              naive.fails("is larger than the padded input's", moon.conv1d, line, w, options)
              naive.fails("is larger than the padded input's", moon.conv2d, square, ww, options)
            else
              counted = counted + 1
              local size = math.floor((n + 2 * p - f) / s) + 1
              assert.same({ 1, 1, size }, moon.conv1d(line, w, options):size())
              assert.same({ 1, 1, size, size }, moon.conv2d(square, ww, options):size())
            end
          end
        end
      end
    end
    assert.equal(20 * 7 * 4 * 3, counted + refused)
    assert.is_true(refused > 0)
  end)

  it("shrinks 16 to 11, 6 and 1 under kernels of width 6, and no further", function()
    local x, sizes = moon.zeros(1, 1, 16), {}
    for i = 1, 3 do
      x = moon.conv1d(x, moon.zeros(1, 1, 6))
      sizes[i] = x:size(3)
    end
    assert.same({ 11, 6, 1 }, sizes)
    naive.fails("the kernel's length 6 (dilation 1) is larger than the padded input's 1",
      moon.conv1d, x, moon.zeros(1, 1, 6))
  end)

  it("stays 16 at any depth under \"same\"", function()
    local x = moon.zeros(1, 2, 16)
    for layer = 1, 60 do
      local options = { padding = "same", dilation = layer % 3 + 1 }
      x = moon.conv1d(x, moon.zeros(2, 2, layer % 7 + 1), options)
      assert.equal(16, x:size(3))
    end
  end)

  it("of 28 x 28 x 192 under sixteen 1 x 1 filters is 28 x 28 x 16", function()
    local layer = nn.Conv2d(192, 16, 1)
    assert.same({ 1, 16, 28, 28 }, layer(moon.zeros(1, 192, 28, 28)):size())
  end)

  it("of [-1 1] on 280 rows of 320 is 280 x 319, with two weights for 8,003,072,000", function()
    local edge = nn.Conv2d(1, 1, { 1, 2 }, { bias = false })
    edge.weight:detach():copy_(moon.tensor { { { { -1, 1 } } } })
    local x = naive.random({ 1, 1, 280, 320 }):float()
    local y = edge(x)
    assert.same({ 1, 1, 280, 319 }, y:size())
    assert.equal(2, edge.weight:numel())
    assert.equal(8003072000, x:numel() * y:numel())
    naive.close(y, x:narrow(4, 2, 319) - x:narrow(4, 1, 319), 0)
  end)
end)

describe("a stride of s", function()
  it("is a stride of 1 of which every s-th is kept, at about 1 / s^2 of the work", function()
    local x, w = naive.random({ 1, 2, 24, 25 }, { seed = 1 }), naive.random({ 3, 2, 3, 3 },
      { seed = 2 })
    local whole = moon.conv2d(x, w)
    for s = 2, 4 do
      local strided = moon.conv2d(x, w, nil, { stride = s })
      local rows, columns = strided:size(3), strided:size(4)
      local kept = naive.build({ 1, 3, rows, columns }, function(at)
        return whole[{ 1, at[2], (at[3] - 1) * s + 1, (at[4] - 1) * s + 1 }]
      end)
      naive.close(strided, kept, 1e-12)
      local part = strided:numel() / whole:numel() * s * s
      assert.is_true(part > 0.9 and part < 1.15, part)
    end
  end)
end)

describe("kernels on a photograph", function()
  local photograph, reason = pictures.photograph()
  local function example(name, fn)
    it(name, function()
      if not photograph then return pending(reason) end
      fn(photograph)
    end)
  end

  local function kernel(rows) return moon.tensor(rows, { dtype = "float64" }) end

  -- Compares with plain loops at places all over the picture.
  local function agrees(x, w, y)
    local height, width, draw = y:size(1), y:size(2), naive.generator(11)
    for _ = 1, 50 do
      local i, j = math.floor(draw(1, height)), math.floor(draw(1, width))
      local sum = 0
      for a = 1, 3 do
        for b = 1, 3 do sum = sum + x[{ i + a - 1, j + b - 1 }] * w[{ a, b }] end
      end
      assert.is_true(math.abs(sum - y[{ i, j }]) < 1e-12)
    end
  end

  example("leave it as it is", function(x)
    local identity = kernel { { 0, 0, 0 }, { 0, 1, 0 }, { 0, 0, 0 } }
    naive.close(moon.correlate(x, identity, "same"):view(-1):narrow(1, 1, 2000),
      x:view(-1):narrow(1, 1, 2000), 0)
    assert.equal(0, (moon.correlate(x, identity, "same") - x):abs():max():item())
  end)

  example("blur it", function(x)
    local box = kernel { { 1, 1, 1 }, { 1, 1, 1 }, { 1, 1, 1 } } / 9
    local y = moon.correlate(x, box, "valid")
    agrees(x, box, y)
    local function roughness(p)
      return (p:narrow(2, 2, p:size(2) - 1) - p:narrow(2, 1, p:size(2) - 1)):abs():mean():item()
    end
    assert.is_true(roughness(y) < 0.7 * roughness(x))
    assert.is_true(math.abs(y:mean():item() - x:mean():item()) < 0.01)
  end)

  example("find its edges", function(x)
    local upright = kernel { { -1, 0, 1 }, { -2, 0, 2 }, { -1, 0, 1 } }
    for _, w in ipairs { upright, upright:t():contiguous() } do
      local y = moon.correlate(x, w, "valid")
      agrees(x, w, y)
      -- what is flat has no edges, and the negative picture has the negative edges
      assert.is_true(moon.correlate(x * 0 + 0.5, w, "valid"):abs():max():item() < 1e-12)
      assert.is_true((moon.correlate(1 - x, w, "valid") + y):abs():max():item() < 1e-12)
    end
    local mirrored = moon.correlate(x:flip(2), upright, "valid")
    local edges = moon.correlate(x, upright, "valid")
    assert.is_true((mirrored:flip(2) + edges):abs():max():item() < 1e-12)
  end)

  example("find a part of it at 1, 1/2 and 1/4 of the size", function(x)
    local row, column, height, width = 97, 201, 64, 80
    local templates = moon.pyramid(x:narrow(1, row, height):narrow(2, column, width), 3)
    for level, scaled in ipairs(moon.pyramid(x, 3)) do
      local scores, scale = moon.match_template(scaled, templates[level]), 2 ^ (level - 1)
      local best = scores:view(-1):argmax():item() - 1
      assert.equal((row - 1) / scale + 1, math.floor(best / scores:size(2)) + 1)
      assert.equal((column - 1) / scale + 1, best % scores:size(2) + 1)
      assert.is_true(scores:max():item() > 0.95)
    end
  end)

  example("do not find what is only bright", function(x)
    -- without normalisation the brightest corner wins over the part looked for
    local template = x:narrow(1, 150, 24):narrow(2, 230, 24)
    local plain = moon.correlate(x, template, "valid")
    local scores = moon.match_template(x, template)
    local width = scores:size(2)
    assert.equal((150 - 1) * width + 230, scores:view(-1):argmax():item())
    assert.not_equal((150 - 1) * width + 230, plain:view(-1):argmax():item())
  end)
end)

describe("averages along a signal", function()
  it("bring a quantised sine nearer to the sine", function()
    local sine = naive.build({ 400 }, function(at) return math.sin(at[1] / 20) end)
    local quantised = (sine * 4):round() / 4
    local function error_of(y)   -- away from the ends
      return (y - sine):narrow(1, 21, 360):square():mean():item()
    end
    local before = error_of(quantised)
    local box = moon.full({ 9 }, 1 / 9, { dtype = "float64" })
    local bell = naive.build({ 13 }, function(at) return math.exp(-((at[1] - 7) / 3) ^ 2 / 2) end)
    bell = bell / bell:sum()
    local moving = error_of(moon.convolve(quantised, box, "same"))
    local weighted = error_of(moon.convolve(quantised, bell, "same"))
    assert.is_true(moving < 0.5 * before, moving)
    assert.is_true(weighted < 0.5 * before, weighted)
  end)

  it("can be had by Fourier: conv = ifft(fft x * fft w)", function()
    local x, w = naive.random({ 300 }, { seed = 1 }), naive.random({ 45 }, { seed = 2 })
    naive.close(moon.fft_convolve(x, w), moon.convolve(x, w), 1e-10)
  end)
end)

describe("shifting", function()
  it("and convolving may change places, away from borders", function()
    local x, w = naive.random({ 1, 2, 12, 14 }, { seed = 3 }), naive.random({ 3, 2, 3, 3 },
      { seed = 4 })
    local down, right = 2, 3
    local shifted = moon.pad(x, { right, -right, down, -down })
    local y, z = moon.conv2d(x, w), moon.conv2d(shifted, w)
    local rows, columns = y:size(3) - down, y:size(4) - right
    naive.close(z:narrow(3, 1 + down, rows):narrow(4, 1 + right, columns),
      y:narrow(3, 1, rows):narrow(4, 1, columns), 0)
  end)

  it("by one changes every input and half of what is pooled (four units)", function()
    local before = moon.tensor({ 0.1, 1, 0.2, 0.1 }, { dtype = "float64" })
    local after = moon.tensor({ 0.3, 0.1, 1, 0.2 }, { dtype = "float64" })
    local function pooled(x)
      return moon.max_pool2d(x:reshape(1, 1, 1, 4), { 1, 3 }, { stride = 1, padding = { 0, 1 } })
        :view(-1)
    end
    naive.close(pooled(before), { 1, 1, 1, 0.2 })
    naive.close(pooled(after), { 0.3, 1, 1, 1 })
    assert.equal(4, before:ne(after):sum():item())
    assert.equal(2, pooled(before):ne(pooled(after)):sum():item())
  end)
end)

describe("maxout over three templates turned by quarters", function()
  -- an F, which looks different from every side
  local upright = picture { "11111", "10000", "11110", "10000", "10000" }
  local function turn(x) return x:transpose(3, 4):flip(4) end
  local faces = { upright, turn(upright), turn(turn(upright)) }
  local templates = moon.cat(faces, 1) * 2 - 1   -- right pixels count, wrong ones count against

  it("answers alike to the three orientations, where one template does not", function()
    local answers, alone = {}, {}
    for i, face in ipairs(faces) do
      local responses = moon.conv2d(face, templates)   -- (1, 3, 1, 1)
      alone[i] = responses[{ 1, 1, 1, 1 }]
      answers[i] = moon.maxout(responses, 3):item()
    end
    local pixels = upright:sum():item()
    assert.same({ pixels, pixels, pixels }, answers)
    assert.equal(pixels, alone[1])
    assert.is_true(alone[2] < pixels and alone[3] < pixels)
  end)
end)

describe("leaky ReLU", function()
  it("lets a tenth through below zero at slope 0.1, a hundredth by default", function()
    local x = moon.tensor({ -10, -1, 0, 2 }, { dtype = "float64" })
    naive.close(moon.leaky_relu(x, 0.1), { -1, -0.1, 0, 2 })
    naive.close(moon.leaky_relu(x), { -0.1, -0.01, 0, 2 })
    naive.close(nn.LeakyReLU()(x), { -0.1, -0.01, 0, 2 })
  end)
end)
