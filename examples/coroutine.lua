-- A server and a client in one script: whoever has to wait lets the other go on. The sleep function is
-- coroutine.yield itself; no call below knows that it runs in a coroutine.
-- usage: lua5.4 coroutine.lua [name or address]
local ipcio = require "ipcio"
local name = arg[1] or "coroutines"

local function server()
  local fd = assert(ipcio.InitConnection(ipcio.cNamedPipe, name, true, coroutine.yield))
  assert(ipcio.StartConnection(fd))
  while true do
    local request, message, code = ipcio.ReadData(fd)
    if code == "closed" then break end
    assert(ipcio.WriteData(fd, "hello " .. assert(request, message)))
  end
  assert(ipcio.StopConnection(fd))
  assert(ipcio.EndConnection(fd))
end

local function client()
  local fd = assert(ipcio.OpenConnection(ipcio.cNamedPipe, name, true, coroutine.yield))
  for _, word in ipairs { "one", "two", "three" } do
    assert(ipcio.WriteData(fd, word))
    print(assert(ipcio.ReadData(fd)))
  end
  assert(ipcio.CloseConnection(fd))
end

local tasks = { coroutine.create(client), coroutine.create(server) } -- the client first: it waits
while #tasks > 0 do
  for i = #tasks, 1, -1 do
    assert(coroutine.resume(tasks[i]))
    if coroutine.status(tasks[i]) == "dead" then table.remove(tasks, i) end
  end
end
