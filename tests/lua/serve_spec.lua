--- One server, many clients: serve.

package.path = debug.getinfo(1, "S").source:match("^@(.*/)") .. "?.lua;" .. package.path

local ipcio = require "ipcio"
local support = require "support"

local fails = support.fails

describe("serve", function()
  support.watch_descriptors(before_each, after_each)

  local address, peer, process, client
  before_each(function()
    address = support.address()
    peer, process = support.start("serve", address)
    client = assert(ipcio.connect(address, 5))
  end)

  -- Ends the server and returns what it printed.
  local function finish(command)
    client:close()
    local last <close> = assert(ipcio.connect(address, 5))
    assert(last:write(command or "stop"))
    fails("closed", last:read(5))
    local printed = peer:read("a")
    assert(peer:close())
    return printed
  end

  it("answers several clients at once", function()
    local other <close> = assert(ipcio.connect(address, 5))
    assert(client:write("a"))
    assert.equal("hello b", other:call("b", 5))
    assert(client:write("c"))
    assert.equal("hello a", client:read(5))
    assert.equal("hello c", client:read(5))
    other:close()
    assert.equal("served\ttrue\nserving again\ttimeout\n", finish())
  end)

  it("answers a hundred clients", function()
    local clients = {}
    for i = 1, 100 do clients[i] = assert(ipcio.connect(address, 5)) end
    for i = 1, 100 do assert(clients[i]:write(tostring(i))) end
    for i = 100, 1, -1 do assert.equal("hello " .. i, clients[i]:read(5)) end
    for i = 1, 100 do clients[i]:close() end
    finish()
  end)

  it("goes on while a handler yields", function()
    local other <close> = assert(ipcio.connect(address, 5))
    assert(client:write("wait"))
    assert.equal("hello you", other:call("you", 5))
    fails("timeout", client:read(0.05))
    assert.equal("released", other:call("release", 5))
    assert.equal("waited", client:read(5))
    assert.equal("hello again", client:call("again", 5))
    other:close()
    finish()
  end)

  it("goes on while a client does not read", function()
    assert(client:write("large"))
    local other <close> = assert(ipcio.connect(address, 5))
    for i = 1, 100 do assert.equal("hello " .. i, other:call(tostring(i), 5)) end
    other:close()
    assert.is_true(client:read(5) == ("x"):rep(5 << 20))
    assert.equal("hello again", client:call("again", 5))
    finish()
  end)

  it("sends no answer for nil, and more than one for a handler that writes", function()
    assert(client:write("nothing"))
    assert.equal("hello x", client:call("x", 5))
    assert.equal("one", client:call("two", 5))
    assert.equal("two", client:read(5))
    finish()
  end)

  it("closes the client whose handler fails, tells on_error, and goes on", function()
    for _, command in ipairs {"fail", "object", "number"} do
      local other <close> = assert(ipcio.connect(address, 5))
      fails("closed", other:call(command, 5))
    end
    assert.equal(table.concat({
      address .. " it went wrong",
      address .. " table",
      address .. " the handler answered a number; a string or nil is needed",
    }, "\n"), client:call("errors", 5))
    finish()
  end)

  it("lets a handler close its connection", function()
    for _, command in ipairs {"hang_up", "hang_up_late"} do
      local other <close> = assert(ipcio.connect(address, 5))
      fails("closed", other:call(command, 5))
    end
    assert.equal("", client:call("errors", 5))
    finish()
  end)

  it("goes on when a client leaves or dies", function()
    local dying, number = support.start("dying_client", address)
    support.kill("KILL", number)
    dying:close()
    local leaving = assert(ipcio.connect(address, 5))
    assert(leaving:write("large"))
    leaving:close()
    assert.equal("hello x", client:call("x", 5))
    assert.equal("", client:call("errors", 5))
    finish()
  end)

  it("ends when the server is closed", function()
    assert.equal("served\ttrue\nserving again\tinvalid\n", finish("close"))
    fails("missing", ipcio.connect(address, 0))
  end)

  it("ends when it is stopped, and keeps its name", function()
    finish("stop")
    local server <close> = assert(ipcio.listen(address))
    server:stop()
    assert.is_true(server:serve(error)) -- the next one
    local late <close> = assert(ipcio.connect(address, 5))
    local conn <close> = assert(server:accept(5))
    assert(late:write("x"))
    assert.equal("x", conn:read(5))
  end)

  it("closes its clients at the end", function()
    local other <close> = assert(ipcio.connect(address, 5))
    assert.equal("hello x", other:call("x", 5))
    assert(client:write("wait"))
    assert(other:write("stop"))
    fails("closed", other:read(5))
    fails("closed", client:read(5))
    peer:close()
    client:close()
  end)

  it("does not live on in its process's descriptors", function()
    assert.equal("hello x", client:call("x", 5))
    finish()
    local server <close> = assert(ipcio.listen(address))
    local before = support.descriptors()
    for _ = 1, 3 do
      local conn <close> = assert(ipcio.connect(address, 5))
      assert(conn:write("stop"))
      assert.is_true(server:serve(function() server:stop() end))
    end
    assert.equal(before, support.descriptors())
  end)

  it("keeps clients waiting for whom it has no descriptors", function()
    finish()
    support.with("ulimit -n 24;", function() peer = support.start("serve", address) end)
    local clients = {}
    for i = 1, 40 do
      clients[i] = assert(ipcio.connect(address, 5))
      assert(clients[i]:write(tostring(i)))
    end
    assert.equal("hello 1", clients[1]:read(5))
    fails("timeout", clients[40]:read(0.05))
    for i = 2, 40 do
      clients[i - 1]:close()
      assert.equal("hello " .. i, clients[i]:read(5))
    end
    clients[40]:close()
    client = assert(ipcio.connect(address, 5))
    finish()
  end)

  it("needs a function and a table", function()
    finish()
    local server <close> = assert(ipcio.listen(address))
    assert.has_error(function() server:serve() end)
    assert.has_error(function() server:serve("handler") end)
    assert.has_error(function() server:serve(print, "options") end)
    assert.has_error(function() server.serve(io.stdout, print) end)
    assert.has_error(function() server.stop(io.stdout) end)
    assert.has_error(function() ipcio.serve(support.address()) end)
    assert.has_error(function() ipcio.serve(support.address(), print, 5) end)
    fails("exists", ipcio.serve(address, print))
    fails("invalid", ipcio.serve("greeter", print))
    fails("invalid", ipcio.serve(address, print, {limits = 5}))
  end)

  it("runs on_error's own error out of the loop, with all clients closed", function()
    finish()
    local server <close> = assert(ipcio.listen(address))
    local conn <close> = assert(ipcio.connect(address, 5))
    assert(conn:write("x"))
    assert.error_matches(function()
      server:serve(function() error("first", 0) end, {on_error = function(err) error(err .. ", second", 0) end})
    end, "first, second")
    fails("closed", conn:read(1))
  end)
end)

describe("ipcio.serve", function()
  support.watch_descriptors(before_each, after_each)

  it("serves in one line and reports errors as lines", function()
    local address = support.address()
    local peer, process = support.start("one_line", address)
    local client <close> = assert(ipcio.connect(address, 5))
    fails("closed", client:call("x", 5))
    local other <close> = assert(ipcio.connect(address, 5))
    fails("closed", other:call("x", 5))
    for _ = 1, 2 do
      local line = peer:read("l")
      assert.matches("ipcio: " .. address .. ": ", line, 1, true)
      assert.matches("it went wrong$", line)
    end
    support.kill("INT", process)
    assert.matches("interrupted!", peer:read("a"), 1, true)
    peer:close()
  end)
end)
