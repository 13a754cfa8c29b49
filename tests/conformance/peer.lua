--- One side of a conformance case, in Lua: peer.lua server|client ADDRESS CASE, or peer.lua transports|cases.
--
-- A server prints "ready ADDRESS" once clients may come; each side ends with "ok CASE".  run.py says what a case is.

local ipcio = require "ipcio"

local LONG = 30
local SIZES = {0, 1, 256, 10240, 65000} -- one datagram holds the longest
local LONG_SIZES = {65535, 65536, 65537, 1 << 20, 5 << 20}
local names, cases = {}, {}

-- Every byte value; the prime period shows pieces that were exchanged.
local block = {}
for i = 0, 256 do block[#block + 1] = string.char(i & 255) end
block = table.concat(block)

local function pattern(size, seed)
  return block:rep(size // 257 + 2):sub(seed + 1, seed + size)
end

local function equal(got, wanted, what)
  if got ~= wanted then
    error(("%s: got %s, expected %s"):format(what, tostring(got):sub(1, 40), tostring(wanted):sub(1, 40)), 2)
  end
end

local function expect(conn, message)
  local got = assert(conn:read(LONG))
  if got ~= message then
    error(("expected %d bytes %q, got %d bytes %q"):format(#message, message:sub(1, 20), #got, got:sub(1, 20)), 2)
  end
end

local function fails(code, result, message, got)
  if result ~= nil or got ~= code then
    error(("expected %s, got %s %s %s"):format(code, tostring(result):sub(1, 20), message, got), 2)
  end
end

local function ready(address)
  print("ready " .. address)
  io.stdout:flush()
end

local function listen(address, options)
  local server = assert(ipcio.listen(address, options))
  ready(server:address())
  return server
end

local function connect(address, options)
  return assert(ipcio.connect(address, LONG, options))
end

local function accept(server)
  return assert(server:accept(LONG))
end

local function case(name, server, client)
  names[#names + 1] = name
  cases[name] = {server = server, client = client}
end

local function echo(sizes)
  return function(address)
    local server <close> = listen(address)
    local conn <close> = accept(server)
    for i, size in ipairs(sizes) do
      expect(conn, pattern(size, i - 1))
      assert(conn:write(pattern(size, i + 99), LONG))
    end
    fails("closed", conn:read(LONG))
  end, function(address)
    local conn <close> = connect(address)
    for i, size in ipairs(sizes) do
      equal(assert(conn:call(pattern(size, i - 1), LONG)), pattern(size, i + 99), size .. " bytes")
    end
  end
end

case("echo", echo(SIZES))
case("long", echo(LONG_SIZES))

case("empty", function(address)
  local server <close> = listen(address)
  local conn <close> = accept(server)
  local count, message = 0, assert(conn:read(LONG))
  while message == "" do
    count, message = count + 1, assert(conn:read(LONG))
  end
  equal(message, "x", "the message after the empty ones")
  assert(conn:write(tostring(count), LONG))
end, function(address)
  local conn <close> = connect(address)
  for _ = 1, 1000 do assert(conn:write("", LONG)) end
  assert(conn:write("x", LONG))
  expect(conn, "1000")
end)

local function checksum(value, message)
  for i = 1, #message do value = (value * 31 + message:byte(i)) % (1 << 32) end
  return value
end

case("many", function(address)
  local server <close> = listen(address)
  local conn <close> = accept(server)
  local count, value = 0, 0
  for message in conn:messages() do
    if message == "sum" then break end
    count, value = count + 1, checksum(value, message)
  end
  assert(conn:write(("%d %d"):format(count, value), LONG))
end, function(address)
  local conn <close> = connect(address)
  local value = 0
  for i = 1, 10000 do
    local message = ("number %d"):format(i * i)
    value = checksum(value, message)
    assert(conn:write(message, LONG))
  end
  equal(assert(conn:call("sum", LONG)), ("10000 %d"):format(value), "count and checksum")
end)

local function send_in_order(conn)
  for i = 0, 199 do assert(conn:write(pattern(i * 7919 % 70000, i), LONG)) end
end

local function receive_in_order(conn)
  for i = 0, 199 do expect(conn, pattern(i * 7919 % 70000, i)) end
end

case("order", function(address)
  local server <close> = listen(address)
  local conn <close> = accept(server)
  receive_in_order(conn)
  send_in_order(conn)
end, function(address)
  local conn <close> = connect(address)
  send_in_order(conn)
  receive_in_order(conn)
end)

case("late", function(address)
  local server <close> = listen(address)
  local conn <close> = accept(server)
  local other <close> = accept(server)
  expect(conn, "slow")
  expect(other, "gave up")
  assert(conn:write("late", LONG))
  expect(conn, "fast")
  assert(conn:write("in time", LONG))
end, function(address)
  local conn <close> = connect(address)
  local other <close> = connect(address)
  fails("timeout", conn:call("slow", 0.05))
  assert(other:write("gave up", LONG))
  equal(assert(conn:call("fast", LONG)), "in time", "the answer to the second call")
end)

case("limit", function(address)
  local server <close> = listen(address, {limit = 1000})
  local conn <close> = accept(server)
  expect(conn, pattern(500, 1))
  fails("toobig", conn:write(pattern(501, 2), LONG))
  assert(conn:write(pattern(500, 2), LONG))
  expect(conn, "end")
end, function(address)
  local conn <close> = connect(address .. "?limit=500")
  local other <close> = connect(address, {limit = 5000})
  fails("toobig", conn:write(pattern(501, 1), LONG))
  fails("toobig", other:write(pattern(1001, 1), LONG))
  assert(conn:write(pattern(500, 1), LONG))
  expect(conn, pattern(500, 2))
  assert(conn:write("end", LONG))
end)

local function send_pieces(conn)
  local message = pattern(300000, 3)
  assert(conn:write_start(#message, LONG))
  for at = 1, #message, 7000 do assert(conn:write_buffer(message:sub(at, at + 6999), LONG)) end
  assert(conn:write_end(LONG))
end

local function receive_pieces(conn)
  local parts = {}
  equal(assert(conn:read_start(LONG)), 300000, "the length")
  repeat
    local part = assert(conn:read_buffer(999, LONG))
    assert(#part <= 999, "the length of a piece")
    parts[#parts + 1] = part
  until part == ""
  assert(conn:read_end(LONG))
  equal(table.concat(parts), pattern(300000, 3), "the message")
end

case("pieces", function(address)
  local server <close> = listen(address)
  local conn <close> = accept(server)
  receive_pieces(conn)
  send_pieces(conn)
  equal(assert(conn:read_start(LONG)), 300000, "the length")
  assert(conn:read_buffer(10, LONG))
  assert(conn:read_end(LONG)) -- drops the rest
  expect(conn, "end")
end, function(address)
  local conn <close> = connect(address)
  send_pieces(conn)
  receive_pieces(conn)
  assert(conn:write(pattern(300000, 3), LONG))
  assert(conn:write("end", LONG))
end)

local function give_up(conn, length, given)
  assert(conn:write_start(length, LONG))
  assert(conn:write_buffer(pattern(given, 0), LONG))
  if length > 1 << 20 then expect(conn, "begun") end
  fails("invalid", conn:write_end(LONG))
end

case("abort", function(address)
  local server <close> = listen(address)
  local conn <close> = accept(server)
  expect(conn, "one")
  expect(conn, "two")
  equal(assert(conn:read_start(LONG)), 2 << 20, "the length")
  assert(conn:write("begun", LONG))
  local part, message, code
  repeat part, message, code = conn:read_buffer(10000, LONG) until not part or part == ""
  fails("aborted", part, message, code)
  assert(conn:read_end(LONG))
  expect(conn, "three")
end, function(address)
  local conn <close> = connect(address)
  give_up(conn, 10, 5)
  assert(conn:write("one", LONG))
  give_up(conn, 1 << 20, 1 << 19)
  assert(conn:write("two", LONG))
  give_up(conn, 2 << 20, 1 << 10)
  assert(conn:write("three", LONG))
end)

case("unread", function(address)
  local server <close> = listen(address)
  local conn <close> = accept(server)
  local other <close> = accept(server)
  expect(other, "gave up")
  expect(conn, "after")
  assert(conn:write("and back", LONG))
end, function(address)
  local conn <close> = connect(address)
  local other <close> = connect(address)
  fails("timeout", conn:write(pattern(32 << 20, 0), 0.1))
  assert(other:write("gave up", LONG))
  assert(conn:write("after", LONG))
  expect(conn, "and back")
end)

case("timeout", function(address)
  local server <close> = assert(ipcio.listen(address))
  fails("timeout", server:accept(0))
  fails("timeout", server:accept(0.05))
  ready(server:address())
  local conn <close> = accept(server)
  expect(conn, "no answer")
  expect(conn, "go on")
  assert(conn:write("gone on", LONG))
end, function(address)
  local conn <close> = connect(address)
  fails("timeout", conn:read(0))
  fails("timeout", conn:read(0.05))
  fails("timeout", conn:call("no answer", 0.05))
  assert(conn:write("go on", LONG))
  expect(conn, "gone on")
end)

case("first", function(address)
  local server <close> = listen(address)
  local conn <close> = accept(server)
  expect(conn, "hello")
  assert(conn:write("welcome", LONG))
end, function(address)
  fails("missing", ipcio.connect(address, 0))
  fails("timeout", ipcio.connect(address, 0.05))
  ready(address)
  local conn <close> = connect(address)
  equal(assert(conn:call("hello", LONG)), "welcome", "the answer")
end)

-- Nothing in Lua tells the process's own number and user.
local function me()
  local text = io.open("/proc/self/status"):read("a")
  return ("%d %d %d"):format(text:match("\nPid:%s+(%d+)"), text:match("\nUid:%s+%d+%s+(%d+)"),
                             text:match("\nGid:%s+%d+%s+(%d+)"))
end

case("clients", function(address)
  local server <close> = listen(address)
  local left = 8
  assert(server:serve(function(request)
    if request == "bye" then left = left - 1 end
    if left == 0 then server:stop() end
    return "you said " .. request
  end))
end, function(address)
  local conn <close> = connect(address)
  for i = 1, 50 do
    local message = ("%d of %s"):format(i, me())
    equal(assert(conn:call(message, LONG)), "you said " .. message, "the answer")
  end
  for i = 1, 50 do assert(conn:write(tostring(i), LONG)) end
  for i = 1, 50 do expect(conn, "you said " .. i) end
  equal(assert(conn:call("bye", LONG)), "you said bye", "the last answer")
end)

case("close", function(address)
  local server <close> = listen(address)
  local conn <close> = accept(server)
  local other <close> = accept(server)
  local count = 0
  expect(other, "closed")
  for message in conn:messages() do
    equal(message, "message " .. count, "a message")
    count = count + 1
  end
  equal(count, 100, "the count")
  fails("closed", conn:read(LONG))
  fails("closed", conn:write("x", LONG))
  for i = 0, 49 do assert(other:write(pattern(1000, i), LONG)) end
end, function(address)
  local conn = connect(address)
  local other <close> = connect(address)
  for i = 0, 99 do assert(conn:write("message " .. i, LONG)) end
  conn:close()
  conn:close()
  fails("invalid", conn:read(LONG))
  fails("invalid", conn:write("x", LONG))
  assert(other:write("closed", LONG))
  for i = 0, 49 do expect(other, pattern(1000, i)) end
  fails("closed", other:read(LONG))
end)

-- The user is what the other side says, and what else the system can tell.
local function is_peer(conn, said)
  local peer = assert(conn:peer())
  local pid, uid, gid = said:match("^(%d+) (%d+) (%d+)$")
  if peer.pid ~= -1 then equal(tostring(peer.pid), pid, "the process") end
  equal(tostring(peer.uid), uid, "the user")
  if peer.gid ~= -1 then equal(tostring(peer.gid), gid, "the group") end
end

case("peer", function(address)
  local server <close> = listen(address)
  local conn <close> = accept(server)
  is_peer(conn, assert(conn:read(LONG)))
  assert(conn:write(me(), LONG))
end, function(address)
  local conn <close> = connect(address)
  is_peer(conn, assert(conn:call(me(), LONG)))
end)

local function passes_files(address)
  return address:find("^pipe:") ~= nil
end

local function file_options(address)
  return passes_files(address) and {files = true} or nil
end

-- A message with an open file; the message alone where the transport passes no files.
local function send_file(conn, text)
  local file <close> = io.tmpfile()
  assert(file:write(text))
  assert(file:seek("set"))
  if passes_files(conn:address()) then
    assert(conn:send_file(file, "file", LONG))
  else
    fails("unsupported", conn:send_file(file, "file", LONG))
    assert(conn:write("file", LONG))
  end
end

local function expect_file(conn, text)
  expect(conn, "file")
  if passes_files(conn:address()) then
    local file <close> = assert(conn:take_file())
    equal(file:read("a"), text, "the file")
  end
  fails("missing", conn:take_file())
end

case("file", function(address)
  local server <close> = listen(address, file_options(address))
  local conn <close> = accept(server)
  expect_file(conn, "there")
  send_file(conn, "back")
end, function(address)
  local conn <close> = connect(address, file_options(address))
  send_file(conn, "there")
  expect_file(conn, "back")
end)

case("exists", function(address)
  local server <close> = listen(address)
  local conn <close> = accept(server)
  expect(conn, "still")
  assert(conn:write("here", LONG))
end, function(address)
  fails("exists", ipcio.listen(address))
  local conn <close> = connect(address)
  equal(assert(conn:call("still", LONG)), "here", "the answer")
end)

local function die_when_told(conn)
  for i = 0, 19 do assert(conn:write("message " .. i, LONG)) end
  expect(conn, "die")
  os.execute("kill -9 $PPID")
end

local function survive(conn)
  assert(conn:write("die", LONG))
  for i = 0, 19 do expect(conn, "message " .. i) end
  fails("closed", conn:read(LONG))
end

case("server_killed", function(address)
  local server <close> = listen(address)
  local conn <close> = accept(server)
  die_when_told(conn)
end, function(address)
  local conn <close> = connect(address)
  survive(conn)
end)

case("client_killed", function(address)
  local server <close> = listen(address)
  local conn <close> = accept(server)
  survive(conn)
end, function(address)
  local conn <close> = connect(address)
  die_when_told(conn)
end)

local types = {pipe = ipcio.cNamedPipe, file = ipcio.cFile, tcp = ipcio.cTCP, shm = ipcio.cSharedMem,
               mailslot = ipcio.cMailSlot}

case("autoit", function(address)
  local fd = assert(ipcio.InitConnection(types[address:match("^%a+")], address, true, function() end, 65536))
  ready(address)
  for _ = 1, 2 do
    assert(ipcio.StartConnection(fd))
    equal(assert(ipcio.ReadData(fd)), pattern(10240, 4), "the request")
    equal(assert(ipcio.WriteData(fd, pattern(70000, 5))), 70000, "the count")
    assert(ipcio.ReadStart(fd))
    equal(assert(ipcio.ReadSize(fd)), 5000, "the size")
    local parts = {}
    repeat
      parts[#parts + 1] = assert(ipcio.ReadBuffer(fd, 999))
    until parts[#parts] == ""
    assert(ipcio.ReadEnd(fd))
    equal(table.concat(parts), pattern(5000, 6), "the pieces")
    assert(ipcio.WriteStart(fd))
    assert(ipcio.WriteSize(fd, 3))
    assert(ipcio.WriteBuffer(fd, "en"))
    assert(ipcio.WriteBuffer(fd, "d"))
    assert(ipcio.WriteEnd(fd))
    assert(ipcio.StopConnection(fd))
  end
  assert(ipcio.EndConnection(fd))
  fails("invalid", ipcio.StartConnection(fd))
end, function(address)
  for _ = 1, 2 do
    local fd = assert(ipcio.OpenConnection(types[address:match("^%a+")], address))
    assert(ipcio.WriteData(fd, pattern(10240, 4)))
    equal(assert(ipcio.ReadData(fd)), pattern(70000, 5), "the answer")
    assert(ipcio.WriteData(fd, pattern(5000, 6)))
    equal(assert(ipcio.ReadData(fd)), "end", "the end")
    assert(ipcio.CloseConnection(fd))
    fails("invalid", ipcio.ReadData(fd))
  end
end)

local role, address, name = ...
if role == "transports" then
  print(table.concat(ipcio.transports(), " "))
elseif role == "cases" then
  print(table.concat(names, " "))
else
  cases[name][role](address)
  print("ok " .. name)
end
