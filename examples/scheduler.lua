-- A scheduler of coroutines: two servers, their clients and a computation take turns in one thread. A call that
-- would wait lets the others go on. While all wait, the script sleeps until a descriptor is ready.
-- Needs LuaSocket, for its select. usage: lua5.4 scheduler.lua [address] [another address]
local ipcio = require "ipcio"
local socket = require "socket"

local ready = {} -- coroutines that can go on
local reading, writing = {}, {} -- what select waits for, each with its coroutine

local function spawn(f, ...)
  local arguments = table.pack(...)
  table.insert(ready, coroutine.create(function() f(table.unpack(arguments, 1, arguments.n)) end))
end

-- Lets the others go on, and comes back.
local function pause()
  ready[#ready + 1] = coroutine.running()
  coroutine.yield()
end

-- Comes back when the descriptor is ready.
local function wait(list, fd)
  table.insert(list, { thread = coroutine.running(), getfd = function() return fd end })
  coroutine.yield()
end

local function wake(list, came)
  for i = #list, 1, -1 do
    if came[list[i]] then table.insert(ready, table.remove(list, i).thread) end
  end
end

local function run()
  while true do
    local threads = ready
    ready = {}
    for _, thread in ipairs(threads) do
      local ok, err = coroutine.resume(thread)
      if not ok then error(debug.traceback(thread, err), 0) end
    end
    if not (ready[1] or reading[1] or writing[1]) then return end -- all are done
    local readable, writable = socket.select(reading, writing, ready[1] and 0 or nil)
    wake(reading, readable)
    wake(writing, writable)
  end
end

-- Tries until it need not wait.
local function finish(list, fd, call, ...)
  while true do
    local value, message, code = call(...)
    if code ~= "timeout" then return value, message, code end
    wait(list, fd)
  end
end

local function accept(server) return finish(reading, server:fileno(), server.accept, server, 0) end
local function read(conn) return finish(reading, conn:fileno(), conn.read, conn, 0) end

-- In pieces: they stay sent when a try times out, where a whole message is taken back.
local function write(conn, data)
  local fd = conn:write_fileno()
  local ok, message, code = conn:write_start(#data, 0)
  if ok then ok, message, code = finish(writing, fd, conn.write_buffer, conn, data, 0) end
  if ok then ok, message, code = finish(writing, fd, conn.write_end, conn, 0) end
  return ok, message, code
end

-- So much for the scheduler. What follows uses it.

local upper, length = arg[1] or "pipe://upper", arg[2] or "pipe://length"
local CLIENTS <const> = 3
local results = {}

local function converse(accepted, answer)
  local conn <close> = accepted
  for request in read, conn do -- ends when the client has closed
    assert(write(conn, answer(request)))
  end
end

local function serve(address, answer)
  local server <close> = assert(ipcio.listen(address))
  for _ = 1, CLIENTS do spawn(converse, assert(accept(server)), answer) end
end

local function client(number)
  local text = ("hello "):rep(number * 100000)
  local one <close> = assert(ipcio.connect(upper, 0)) -- the servers have been listening for a while
  local other <close> = assert(ipcio.connect(length, 0))
  assert(write(one, text)) -- both have work now
  assert(write(other, text))
  assert(read(one) == text:upper())
  results[number] = ("client %d sent %d bytes twice"):format(number, read(other))
end

local function count_primes(most)
  local count, candidate = 0, 1
  while candidate < most do
    candidate = candidate + 1
    local prime = true
    for divisor = 2, math.floor(candidate ^ 0.5) do prime = prime and candidate % divisor ~= 0 end
    if prime then count = count + 1 end
    if candidate % 100 == 0 then pause() end
  end
  results[CLIENTS + 1] = ("%d primes up to %d"):format(count, most)
end

spawn(serve, upper, string.upper)
spawn(serve, length, function(text) return tostring(#text) end)
for number = 1, CLIENTS do spawn(client, number) end
spawn(count_primes, 10000)
run()
for _, line in ipairs(results) do print(line) end
