-- bench.lua - messages between two real processes, timed, in Lua.  bench.c explains the command line.
--     lua5.4 bench.lua BACKEND MODE SIZE [MS]
-- BACKEND  ipcio ADDRESS   this library
--          luasocket-unix, luasocket-tcp   LuaSocket; who reads is told how long messages are
local socket = require "socket"
local gettime = socket.gettime -- counts microseconds

local backend = table.remove(arg, 1)
local address = backend == "ipcio" and table.remove(arg, 1)
local mode, size, ms, role = arg[1], math.tointeger(arg[2]), math.tointeger(arg[3] or 200), arg[4]
local pinned = os.getenv "PIN" == "1"

-- Who serves tells the client where.
local function ready(where)
  print(where)
  io.stdout:flush()
end

-- A link is a function that sends a string, one that receives one, and what must be kept alive.
local links = {}

function links.ipcio(where)
  local ipcio = require "ipcio"
  local conn, server
  if where then
    conn = assert(ipcio.connect(where, 30))
  else
    server = assert(ipcio.listen(address))
    ready(server:address())
    conn = assert(server:accept(30))
  end
  return function(data) assert(conn:write(data)) end, function() return assert(conn:read()) end, {conn, server}
end

local function of_socket(conn)
  return function(data) assert(conn:send(data)) end, function() return assert(conn:receive(size)) end, {conn}
end

local function accept(listener)
  listener:settimeout(30)
  return assert(listener:accept())
end

links["luasocket-unix"] = function(where)
  local conn = assert(require "socket.unix".stream())
  if where then
    assert(conn:connect(where))
  else
    local path = os.tmpname()
    assert(os.remove(path))
    assert(conn:bind(path))
    assert(conn:listen(1))
    ready(path)
    conn = accept(conn)
    assert(os.remove(path))
  end
  return of_socket(conn)
end

links["luasocket-tcp"] = function(where)
  local conn
  if where then
    conn = assert(socket.connect("127.0.0.1", where))
  else
    local listener = assert(socket.bind("127.0.0.1", 0, 1))
    local _, port = listener:getsockname()
    ready(port)
    conn = accept(listener)
  end
  assert(conn:setoption("tcp-nodelay", true))
  return of_socket(conn)
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

-- Answers all clients until the last message has come.
local function serve_crowd()
  local server = assert(require "ipcio".listen(address))
  ready(server:address())
  assert(server:serve(function(message)
    if message ~= go then
      assert(message == stop, "a wrong message came")
      server:stop()
    end
    return message
  end))
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
local crowd = math.tointeger(mode:match "^crowd:(%d+)$")
if role == "server" then
  if crowd then return serve_crowd() end
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
local send, receive, kept = links[backend](where)
local idle <const> = {} -- the rest of the crowd
for i = 2, crowd or 1 do
  send(go)
  assert(receive() == go)
  idle[i] = kept
  send, receive, kept = links[backend](where)
end
if mode == "stream" then
  time_stream(send, receive)
else
  local gap = mode:match "^paced:(%d+)$"
  time_round_trips(send, receive, gap and gap / 1e6)
end
assert(server:close(), "the server failed")
return kept, idle
