-- Asks file_server about a file and checks the answer; then has the file copied there and back, in rounds.
-- usage: lua5.4 file_client.lua [name or address] [file] [rounds] [copies in a round]
local here = arg[0]:match(".*/") or ""
package.path = here .. "?.lua;" .. package.path
local ipcio = require "ipcio"
local count = require "count"

local file <close> = assert(io.open(arg[2] or here .. "data/sample.txt", "rb"))
local text = file:read("a")
local fd = assert(ipcio.OpenConnection(ipcio.cNamedPipe, arg[1] or "files")) -- waits for the server

local function ask(request)
  assert(ipcio.WriteData(fd, request))
  return assert(ipcio.ReadData(fd))
end

local answer = ask("count\n" .. text)
assert(answer == count(text), "wrong answer: " .. answer)
print(answer)

local copies = tonumber(arg[4]) or 100
local request = "copy\n" .. text
for _ = 1, tonumber(arg[3]) or 1 do
  for _ = 1, copies do
    assert(ask(request) == text, "the copy differs")
  end
  print("copied " .. copies .. " times")
  io.stdout:flush()
end
assert(ipcio.CloseConnection(fd))
