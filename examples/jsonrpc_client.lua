-- Asks a JSON-RPC server, one request a line, whatever it is written in.
-- usage: lua5.4 jsonrpc_client.lua [address]
local ipcio = require "ipcio"

local conn <close> = assert(ipcio.connect(arg[1] or "pipe:///tmp/jsonrpc.sock", 10, { framing = "line" }))
for number, call in ipairs { '"add","params":[2,3]', '"upper","params":["zoë"]' } do
  local answer = assert(conn:call(('{"jsonrpc":"2.0","id":%d,"method":%s}'):format(number, call), 10))
  local result = answer:match '"result": *([^,}]*)' -- a JSON library does this better
  print((result:gsub('"', ""):gsub("\\u(%x%x%x%x)", function(hex) return utf8.char(tonumber(hex, 16)) end)))
end
