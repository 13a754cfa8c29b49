-- bench.lua - messages between two real processes, timed, in Lua.  bench.c explains the command line.
--     lua5.4 bench.lua BACKEND MODE SIZE [MS]
-- BACKEND  ipcio ADDRESS   this library
--          luasocket-unix, luasocket-tcp   LuaSocket; who reads is told how long messages are
--          peer FILE        another library, by one of peers/: a file that answers a function like those of `links`
local socket = require "socket"
local gettime = socket.gettime -- counts microseconds

local backend = table.remove(arg, 1)
local address = (backend == "ipcio" or backend == "peer") and table.remove(arg, 1)
local mode, size, ms, role = arg[1], math.tointeger(arg[2]), math.tointeger(arg[3] or 200), arg[4]
local pinned = os.getenv "PIN" == "1"

-- Who serves tells the client where.
local function ready(where)
  print(where)
  io.stdout:flush()
end

-- A link writes a string and reads one, as a connection does; with it comes what must be kept alive.
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
  return conn, server
end

local function of_socket(conn)
  return {write = function(_, data) return conn:send(data) end, read = function() return conn:receive(size) end}
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

function links.peer(where)
  return dofile(address)(where, ready, size)
end

-- Comparing two messages reads every byte of them.
local go, stop = "\0" .. ("x"):rep(size - 1), "\1" .. ("x"):rep(size - 1)

local function must_be(message, wanted)
  if message ~= wanted then error("a wrong message came", 2) end
end

local function round_trip(link, message)
  assert(link:write(message))
  must_be(link:read(), message)
end

local function serve(link)
  local answers = mode ~= "stream"
  local message = link:read()
  while message == go do
    if answers then link:write(message) end
    message = link:read()
  end
  must_be(message, stop)
  assert(link:write(message))
end

-- Answers all clients until the last message has come.
local function serve_crowd()
  local server = assert(require "ipcio".listen(address))
  ready(server:address())
  assert(server:serve(function(message)
    if message ~= go then
      must_be(message, stop)
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

local function time_round_trips(link, gap)
  local warm = gettime() + ms / 5000
  repeat round_trip(link, go) until gettime() > warm
  local times, count, total, begin = {}, 0, 0, gettime()
  local finish = begin + ms / 1000
  repeat
    link:write(go)
    if link:read() ~= go then error "a wrong message came" end
    local now = gettime()
    count = count + 1
    times[count] = now - begin
    total = total + now - begin
    begin = now
    if gap then
      while begin < now + gap do begin = gettime() end
    end
  until begin > finish
  round_trip(link, stop)
  for i, time in ipairs(times) do times[i] = math.floor(time * 1e6 + 0.5) end
  table.sort(times)
  print(("%s %s %d %.0f %.0f %.0f %.0f %d"):format(backend, mode, size, percentile(times, 0.5), percentile(times, 0.99),
    total * 1e9 / count, count / total, count))
end

local function time_stream(link)
  local burst = size <= 1024 and 64 or size <= 65536 and 8 or 1
  local function send_until(finish)
    local count = 0
    while gettime() < finish do
      for _ = 1, burst do
        if not link:write(go) then error "a message was not taken" end
      end
      count = count + burst
    end
    return count
  end
  send_until(gettime() + ms / 5000)
  local begin = gettime()
  local count = send_until(begin + ms / 1000)
  round_trip(link, stop) -- the answer comes when all have been read
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
  local link, kept <const> = links[backend]()
  serve(link)
  return kept
end

-- The server is this script again; its first line says where it serves.
local command = ("exec %s %s %s %s %s %d %d server"):format(pinned and "taskset -c 1" or "", arg[-1], arg[0],
  address and ("%s '%s'"):format(backend, address) or backend, mode, size, ms)
if pinned then os.execute "taskset -pc 0 $PPID >/dev/null" end
local server = assert(io.popen(command))
local where = assert(server:read "l", "the server did not start")
local link = links[backend](where)
local idle <const> = {} -- the rest of the crowd
for i = 2, crowd or 1 do
  round_trip(link, go)
  idle[i] = link
  link = links[backend](where)
end
if mode == "stream" then
  time_stream(link)
else
  local gap = mode:match "^paced:(%d+)$"
  time_round_trips(link, gap and gap / 1e6)
end
assert(server:close(), "the server failed")
return link, idle
