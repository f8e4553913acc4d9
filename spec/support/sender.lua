-- Runs in a worker: sends a tensor that was touched for each message it gets.
local moon = require "moonlet"

local sender = {}

function sender.send(receive, send, options)
  for i = 1, options.count do
    receive()
    send(moon.full({ options.size }, i))
  end
end

return sender
