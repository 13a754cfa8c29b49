-- bench.lua - messages between two real processes, timed, in Lua.  bench.c explains the command line.
--     lua5.4 bench.lua BACKEND MODE SIZE [MS]
-- BACKEND  ipcio ADDRESS   this library
--          luasocket       LuaSocket's socket.unix; the receiver knows how long a message is
local gettime = require "socket".gettime -- counts microseconds

local backend = table.remove(arg, 1)
local address = backend == "ipcio" and table.remove(arg, 1)
local mode, size, ms, role = arg[1], math.tointeger(arg[2]), math.tointeger(arg[3] or 200), arg[4]
local pinned = os.getenv "PIN" == "1"

-- A link is a function that sends a string, one that receives one, and what must be kept alive.
local links = {}

function links.ipcio(where)
  local ipcio = require "ipcio"
  local conn, server
  if where then
    conn = assert(ipcio.connect(where, 30))
  else
    server = assert(ipcio.listen(address))
    print(server:address())
    io.stdout:flush()
    conn = assert(server:accept(30))
  end
  return function(data) assert(conn:write(data)) end, function() return assert(conn:read()) end, {conn, server}
end

function links.luasocket(where)
  local unix = require "socket.unix"
  local conn = assert(unix.stream())
  if where then
    assert(conn:connect(where))
  else
    local path = os.tmpname()
    assert(os.remove(path))
    assert(conn:bind(path))
    assert(conn:listen(1))
    print(path)
    io.stdout:flush()
    conn:settimeout(30)
    conn = assert(conn:accept())
    assert(os.remove(path))
  end
  return function(data) assert(conn:send(data)) end, function() return assert(conn:receive(size)) end, {conn}
end

-- Comparing two messages reads every byte of them.
local go, stop = "\0" .. ("x"):rep(size - 1), "\1" .. ("x"):rep(size - 1)

local function serve(send, receive)
  local last
  repeat
    local message = receive()
    last = message ~= go
    assert(not last or message == stop, "a wrong message came")
    if last or mode ~= "stream" then send(message) end
  until last
end

-- Of sorted times in whole microseconds, each of which stands for any time that rounds to it; in nanoseconds.
local function percentile(times, part)
  local at = math.max(1, math.ceil(#times * part))
  local first, last = at, at
  while times[first - 1] == times[at] do first = first - 1 end
  while times[last + 1] == times[at] do last = last + 1 end
  return (times[at] - 0.5 + (at - first + 0.5) / (last - first + 1)) * 1000
end

local function time_round_trips(send, receive, gap)
  local warm = gettime() + ms / 5000
  repeat
    send(go)
    assert(receive() == go)
  until gettime() > warm
  local times, total, begin = {}, 0, gettime()
  local finish = begin + ms / 1000
  repeat
    send(go)
    assert(receive() == go)
    local now = gettime()
    times[#times + 1] = now - begin
    total = total + now - begin
    begin = now
    if gap then
      while begin < now + gap do begin = gettime() end
    end
  until begin > finish
  send(stop)
  assert(receive() == stop)
  for i, time in ipairs(times) do times[i] = math.floor(time * 1e6 + 0.5) end
  table.sort(times)
  print(("%s %s %d %.0f %.0f %.0f %.0f %d"):format(backend, mode, size, percentile(times, 0.5), percentile(times, 0.99),
    total * 1e9 / #times, #times / total, #times))
end

local function time_stream(send, receive)
  local burst = size <= 1024 and 64 or size <= 65536 and 8 or 1
  local function send_until(finish)
    local count = 0
    while gettime() < finish do
      for _ = 1, burst do send(go) end
      count = count + burst
    end
    return count
  end
  send_until(gettime() + ms / 5000)
  local begin = gettime()
  local count = send_until(begin + ms / 1000)
  send(stop) -- the answer comes when all have been read
  assert(receive() == stop)
  print(("%s stream %d - - - %.0f %d"):format(backend, size, count / (gettime() - begin), count))
end

-- Writes and reads `ms` messages in one process.
local function talk_to_itself()
  local ipcio = require "ipcio"
  local server = assert(ipcio.listen(address))
  local client = assert(ipcio.connect(server:address(), 30))
  local peer = assert(server:accept(30))
  for _ = 1, ms do
    client:write(go)
    peer:read()
  end
end

if mode == "self" then return talk_to_itself() end
if role == "server" then
  local send, receive <const>, kept <const> = links[backend]()
  serve(send, receive)
  return kept
end

-- The server is this script again; its first line says where it serves.
local command = ("exec %s %s %s %s %s %d %d server"):format(pinned and "taskset -c 1" or "", arg[-1], arg[0],
  address and ("ipcio '%s'"):format(address) or backend, mode, size, ms)
if pinned then os.execute "taskset -pc 0 $PPID >/dev/null" end
local server = assert(io.popen(command))
local where = assert(server:read "l", "the server did not start")
local send, receive, kept <const> = links[backend](where)
if mode == "stream" then
  time_stream(send, receive)
else
  local gap = mode:match "^paced:(%d+)$"
  time_round_trips(send, receive, gap and gap / 1e6)
end
assert(server:close(), "the server failed")
return kept
