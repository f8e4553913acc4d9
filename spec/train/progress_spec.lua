-- The line that shows progress, on a terminal and elsewhere.
local Progress = require("moonlet").train.Progress

-- A progress line with a clock of its own; returns it, what it wrote and the clock.
local function make(given)
  local lines, time = {}, { now = 0 }
  given.write = function(text) lines[#lines + 1] = text end
  given.clock = function() return time.now end
  return Progress(given), lines, time
end

describe("Progress", function()
  it("draws a bar, values, rate and time left on a terminal", function()
    local bar, lines, time = make { total = 10, label = "epoch 1/2", terminal = true,
      columns = 100, more = 1 }
    time.now = 5
    bar:update(5, 320, { "loss 0.5000" })
    assert.equal(1, #lines)
    assert.matches("^\repoch 1/2 %[=+> *%]  50 %%  loss 0.5000  64 images/s  0:15 left\27%[K$",
      lines[1])
    bar:finish()
    assert.equal("\n", lines[2])
  end)

  it("stays within a narrow terminal", function()
    local bar, lines = make { total = 10, label = "epoch 1/2", terminal = true, columns = 40 }
    bar:update(5, 320, { "loss 0.5000", "accuracy 50 %" })
    assert.is_true(#lines[1]:gsub("[\r\27]%[?K?", "") < 40)
  end)

  it("draws at most ten times a second, and at the end", function()
    local bar, lines, time = make { total = 100, terminal = true, columns = 80 }
    for i = 1, 100 do
      time.now = i * 0.01
      bar:update(i, 1, {})
    end
    assert.is_true(#lines >= 9 and #lines <= 12)
    assert.matches("100 %%", lines[#lines])
  end)

  it("writes a plain line at each quarter elsewhere", function()
    local bar, lines = make { total = 8, label = "epoch 1", terminal = false }
    for i = 1, 8 do bar:update(i, 1, { "loss 1" }) end
    bar:finish()
    assert.equal(4, #lines)
    assert.matches("^epoch 1   25 %%  loss 1 .*left\n$", lines[1])
    assert.not_matches("[\r\27]", table.concat(lines))
  end)

  it("counts only its own steps after a resume", function()
    local bar, lines, time = make { total = 10, start = 5, terminal = false }
    time.now = 2
    bar:update(7, 20, {})
    bar:update(8, 0, {})
    assert.matches("10 images/s", lines[1])
  end)

  it("writes times as people do", function()
    assert.equal("0:05", Progress.time_text(5))
    assert.equal("1:15", Progress.time_text(75))
    assert.equal("1:01:40", Progress.time_text(3700))
    assert.equal("-:--", Progress.time_text(0 / 0))
  end)
end)
