-- Answers one client's questions about a text, by the AutoIt names. file_client asks.
-- usage: lua5.4 file_server.lua [name or address]
package.path = (arg[0]:match(".*/") or "") .. "?.lua;" .. package.path
local ipcio = require "ipcio"

local answers = {
  count = require "count",
  copy = function(text) return text end,
}

local fd = assert(ipcio.InitConnection(ipcio.cNamedPipe, arg[1] or "files"))
assert(ipcio.StartConnection(fd)) -- waits for a client
while true do
  local request, message, code = ipcio.ReadData(fd)
  if code == "closed" then break end -- the client has gone
  local question, text = assert(request, message):match("^(%a+)\n(.*)$")
  assert(ipcio.WriteData(fd, answers[question](text)))
end
assert(ipcio.StopConnection(fd)) -- this client; StartConnection would wait for the next
assert(ipcio.EndConnection(fd))
