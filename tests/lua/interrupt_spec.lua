--- Ctrl-C ends a script that waits, at once and as it ends any other: with "interrupted!".

package.path = debug.getinfo(1, "S").source:match("^@(.*/)") .. "?.lua;" .. package.path

local socket = require "socket"
local support = require "support"

describe("Ctrl-C", function()
  support.watch_descriptors(before_each, after_each)

  for _, role in ipairs {
    "accept", "read", "read_long", "messages", "call", "write", "connect", "serve_idle", "serve_handler", "coroutine",
    "StartConnection", "OpenConnection", "ReadData", "ReadData_sleep",
  } do
    it("ends a script in " .. role, function()
      local peer, process = support.start(role, role:find("^%u") and support.name() or support.address())
      local from = socket.gettime()
      support.kill("INT", process)
      local printed = peer:read("a")
      assert.same({nil, "exit", 1}, {peer:close()})
      assert.matches("interrupted!", printed, 1, true)
      assert.is_true(socket.gettime() - from < 3)
    end)
  end
end)
