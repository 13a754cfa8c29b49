--- A thousand clients of one server, all there at once, from four processes.

package.path = debug.getinfo(1, "S").source:match("^@(.*/)") .. "?.lua;" .. package.path

local ipcio = require "ipcio"
local support = require "support"

local fails = support.fails

local PROCESSES <const>, EACH <const> = 4, 250

-- Starts a process that may have as many descriptors as the system allows.
local function start(...)
  local arguments, peer = table.pack(...), nil
  support.with("ulimit -n $(ulimit -Hn);", function() peer = support.start(table.unpack(arguments)) end)
  return peer
end

local function most_descriptors()
  local pipe <close> = assert(io.popen("ulimit -Hn"))
  return pipe:read("n") or math.huge
end

describe("a server of a thousand clients", function()
  support.watch_descriptors(before_each, after_each)

  local function answers_all(listening_at)
    if most_descriptors() < 1100 then return pending("it needs more descriptors than this system allows") end
    local all = PROCESSES * EACH
    local server = start("many", listening_at, all)
    local address = server:read("l")
    local slow <close> = assert(ipcio.connect(address, 30))
    assert(slow:write("slow"))

    -- Each first asks for what is answered when all have asked it; then it asks five times more.
    local peers = {}
    for i = 1, PROCESSES do peers[i] = start("many_clients", address, EACH) end
    for _, peer in ipairs(peers) do
      assert.equal(EACH * 6, peer:read("n"))
      assert(peer:close())
    end

    fails("timeout", slow:read(0))
    local last <close> = assert(ipcio.connect(address, 30))
    assert.equal("release", last:call("release", 30))
    assert.equal("slow", slow:read(30))
    assert.equal("stop", last:call("stop", 30))
    assert.equal(all .. "\ttrue\n", server:read("a")) -- its descriptors are those of before
    assert(server:close())
  end

  it("answers each of them, while a handler waits", function() answers_all(support.address()) end)
  it("does so over tcp", function() answers_all("tcp://127.0.0.1:0") end)
end)
