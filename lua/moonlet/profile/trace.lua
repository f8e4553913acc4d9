-- A profile as a Chrome trace: JSON of complete events ("ph": "X", microseconds), which
-- chrome://tracing and ui.perfetto.dev draw as nested bars. A coroutine has a track of its own,
-- since what it is suspended in may end after what began later.

local escapes = { ['"'] = '\\"', ["\\"] = "\\\\" }

local function quoted(text)
  return '"' .. text:gsub('[%c"\\\127]', function(c)
    return escapes[c] or ("\\u%04x"):format(c:byte())
  end) .. '"'
end

local function whole(number) return ("%.0f"):format(number) end

local function arguments(event)
  local list = {}
  local function add(key, text) list[#list + 1] = quoted(key) .. ":" .. text end
  if event.path and event.kind ~= "module" then add("module", quoted(event.path)) end
  if event.algorithm then add("algorithm", quoted(event.algorithm)) end
  if event.kind ~= "module" then add("moved bytes", whole(event.moved)) end
  add(event.kind == "module" and "kept bytes" or "memory bytes", whole(event.memory))
  return "{" .. table.concat(list, ",") .. "}"
end

local titles = { walk = "the tape: %s", collection = "garbage", backward = "backward of %s" }

local function title(event)
  if event.kind == "module" then
    return event.path == "" and event.layer or ("%s (%s)"):format(event.layer, event.path)
  end
  return (titles[event.kind] or "%s"):format(event.name)
end

-- The number of the track that each event is drawn in.
local function track_of(events, event, tracks)
  local outer = event
  while outer and not outer.thread do outer = events[outer.outer] end
  if not outer then return 1 end
  if not tracks[outer.thread] then
    tracks.count = tracks.count + 1
    tracks[outer.thread] = tracks.count
  end
  return tracks[outer.thread]
end

--- The text of the trace; `start` is the clock's time of its zero.
return function(events, start, main)
  local lines, tracks = {}, { count = 1, [main or 0] = 1 }
  for _, event in ipairs(events) do
    if event.stop > 0 then
      lines[#lines + 1] = ('{"name":%s,"cat":%s,"ph":"X","ts":%.3f,"dur":%.3f,"pid":1,"tid":%d,'
        .. '"args":%s}'):format(quoted(title(event)), quoted(event.kind),
        (event.start - start) * 1e6, event.time * 1e6, track_of(events, event, tracks),
        arguments(event))
    end
  end
  return '{"displayTimeUnit":"ms","traceEvents":[\n' .. table.concat(lines, ",\n") .. "\n]}\n"
end
