--- One server, many clients: serve.

package.path = debug.getinfo(1, "S").source:match("^@(.*/)") .. "?.lua;" .. package.path

local ipcio = require "ipcio"
local socket = require "socket"
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

  it("gives the handler one connection for all requests of a client, and sends numbers as Lua's functions do", function()
    local other <close> = assert(ipcio.connect(address, 5))
    for _, answer in ipairs {"1", "2"} do
      assert.equal(answer, client:call("count", 5))
      assert.equal(answer, other:call("count", 5))
    end
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
    for _, command in ipairs {"fail", "object", "boolean"} do
      local other <close> = assert(ipcio.connect(address, 5))
      fails("closed", other:call(command, 5))
    end
    assert.equal(table.concat({
      address .. " it went wrong",
      address .. " table",
      address .. " the handler answered a boolean; a string or nil is needed",
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
    assert.equal("released", client:call("release", 5)) -- or the dead client's handler would not end
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

  it("gets an answer out that is taken late, and then ends", function()
    assert(client:write("large"))
    local other <close> = assert(ipcio.connect(address, 5))
    assert(other:write("stop"))
    fails("closed", other:read(30))
    assert.is_true(client:read(30) == ("x"):rep(5 << 20))
    fails("closed", client:read(30))
    assert.equal("served\ttrue\nserving again\ttimeout\n", peer:read("a"))
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

describe("the end of serve", function()
  support.watch_descriptors(before_each, after_each)

  -- The clients have written before the server runs, in the same process: what comes first is certain.
  describe("in one process", function()
    local server, clients
    before_each(function() server, clients = assert(ipcio.listen(support.address())), {} end)
    after_each(function()
      server:close()
      for _, client in ipairs(clients) do client:close() end
    end)

    -- A client that has written these requests.  They are accepted in the order of the calls.
    local function client(...)
      local conn = assert(ipcio.connect(server:address(), 5))
      for _, request in ipairs {...} do assert(conn:write(request)) end
      clients[#clients + 1] = conn
      return conn
    end

    it("by stop lets what has begun finish, and begins nothing", function()
      local idle, slow, stopping, queued = client(), client("slow"), client("stop", "next"), client("queued")
      local begun, stopped = {}, false
      assert.is_true(server:serve(function(request)
        begun[#begun + 1] = request
        if request == "slow" then
          repeat coroutine.yield() until stopped
          for _ = 1, 3 do coroutine.yield() end
        else
          assert(idle:write("too late"))
          assert.is_true(server:stop())
          stopped = true
        end
        return request .. " is done"
      end))
      assert.same({"slow", "stop"}, begun)
      assert.equal("slow is done", slow:read(5))
      assert.equal("stop is done", stopping:read(5))
      for _, conn in ipairs {idle, slow, stopping} do fails("closed", conn:read(5)) end

      -- The name and its queue stay.
      fails("exists", ipcio.listen(server:address()))
      assert.is_true(server:serve(function(request)
        server:stop()
        return request
      end))
      assert.equal("queued", queued:read(5))
    end)

    it("by stop ends a client in the middle of its requests", function()
      local requests = {}
      for i = 1, 100 do requests[i] = tostring(i) end
      local conn = client(table.unpack(requests))
      local last
      assert.is_true(server:serve(function(request)
        last = request
        if request == "70" then server:stop() end
        return request
      end))
      assert.equal("70", last)
      for i = 1, 70 do assert.equal(tostring(i), conn:read(5)) end
      fails("closed", conn:read(5))
    end)

    it("by stop is of this serve alone, however often it is called", function()
      client("stop")
      local function stop()
        for _ = 1, 3 do server:stop() end
        coroutine.yield()
        server:stop()
      end
      assert.is_true(server:serve(stop))
      local conn = client("again")
      local asked = 0
      assert.is_true(server:serve(function(request)
        asked = asked + 1
        coroutine.yield()
        server:stop()
        return request
      end))
      assert.equal(1, asked)
      assert.equal("again", conn:read(5))
      server:stop()
      assert.is_true(server:serve(error))
    end)

    it("by stop does not wait for ever for a client that takes no answer", function()
      local deaf = client("large")
      client("stop")
      assert.is_true(server:serve(function(request)
        if request == "large" then return ("x"):rep(5 << 20) end
        server:stop()
      end))
      fails("closed", deaf:read(5))
    end)

    it("by stop leaves a handler's error to on_error", function()
      local slow = client("slow")
      client("stop")
      local stopped, reported
      assert.is_true(server:serve(function(request)
        if request == "stop" then
          stopped = server:stop()
        else
          repeat coroutine.yield() until stopped
          error("too hard", 0)
        end
      end, {on_error = function(err) reported = err end}))
      assert.equal("too hard", reported)
      fails("closed", slow:read(5))
    end)

    it("by close is at once", function()
      local idle, slow, deaf, closing, queued =
        client(), client("slow"), client("large"), client("close", "next"), client("queued")
      local begun, given_up = {}, false
      assert.is_true(server:serve(function(request)
        begun[#begun + 1] = request
        if request == "slow" then
          local _ <close> = setmetatable({}, {__close = function() given_up = true end})
          while true do coroutine.yield() end
        end
        if request == "large" then return ("x"):rep(5 << 20) end
        assert(idle:write("too late"))
        assert.is_true(server:close())
      end))
      assert.same({"slow", "large", "close"}, begun)
      assert.is_true(given_up)
      for _, conn in ipairs {idle, slow, deaf, closing, queued} do fails("closed", conn:read(5)) end
      fails("missing", ipcio.connect(server:address(), 0))
    end)

    it("by close does not wait for those that stop waits for", function()
      local slow = client("slow")
      client("stop")
      assert.is_true(server:serve(function(request)
        if request == "stop" then
          server:stop()
        else
          for _ = 1, 3 do coroutine.yield() end
          server:close()
          while true do coroutine.yield() end
        end
      end))
      fails("closed", slow:read(5))
    end)
  end)
end)

describe("serve with clients that have written before", function()
  support.watch_descriptors(before_each, after_each)

  it("answers one that is busy, and lets the others have their turn", function()
    local server <close> = assert(ipcio.listen(support.address()))
    local busy <close> = assert(ipcio.connect(server:address(), 5))
    local other <close> = assert(ipcio.connect(server:address(), 5))
    for _ = 1, 200 do assert(busy:write("busy")) end
    assert(other:write("other"))
    local before = 0
    assert.is_true(server:serve(function(request)
      if request == "other" then
        server:stop()
      else
        before = before + 1
      end
    end))
    assert.is_true(before < 200)
  end)

  it("hears all that a client sent that takes no answer any more", function()
    local server <close> = assert(ipcio.listen(support.address()))
    local client = assert(ipcio.connect(server:address(), 5))
    for _, request in ipairs {"a", "b", "c"} do assert(client:write(request)) end
    client:close()
    local heard = {}
    assert.is_true(server:serve(function(request)
      heard[#heard + 1] = request
      if request == "c" then server:stop() end
      return request
    end))
    assert.same({"a", "b", "c"}, heard)
  end)

  it("drops a client that breaks the rules, and tells", function()
    local server <close> = assert(ipcio.listen("tcp://127.0.0.1:0"))
    local reported
    local strange = assert(socket.connect("127.0.0.1", server:address():match("%d+$")))
    assert(strange:send(("rubbish "):rep(10)))
    local client <close> = assert(ipcio.connect(server:address(), 5))
    assert(client:write("stop"))
    assert.is_true(server:serve(function(request)
      if request == "stop" then server:stop() end
    end, {on_error = function(err) reported = err end}))
    assert.equal(server:address() .. ": the peer does not speak ipcio", reported)
    strange:close()
  end)

  it("ends with the first error of on_error, which is called once for each", function()
    local server <close> = assert(ipcio.listen("tcp://127.0.0.1:0?framing=line&limit=10"))
    local client = assert(socket.connect("127.0.0.1", server:address():match("%d+$")))
    assert(client:send("this is too long\nlast\n"))
    local count = 0
    assert.has_error(function()
      server:serve(function() server:stop() end, {on_error = function() count = count + 1; error("no", 0) end})
    end, "no")
    assert.equal(1, count)
    client:close()
  end)

  it("drops what is over its limit, tells, and goes on with the client", function()
    local server <close> = assert(ipcio.listen("tcp://127.0.0.1:0?framing=line&limit=10"))
    local client = assert(socket.connect("127.0.0.1", server:address():match("%d+$"))) -- which knows of no limit
    assert(client:send("short\nthis is too long\nlast\n"))
    local heard, reported = {}, nil
    assert.is_true(server:serve(function(request)
      heard[#heard + 1] = request
      if request == "last" then server:stop() end
      return request
    end, {on_error = function(err) reported = err end}))
    assert.same({"short", "last"}, heard)
    assert.matches("of 16 bytes came and was dropped; the limit is 10", reported, 1, true)
    assert.equal("short\nlast\n", client:receive("*a"))
    client:close()
  end)
end)

describe("ipcio.serve", function()
  support.watch_descriptors(before_each, after_each)

  it("serves in one line and reports errors as lines", function()
    local address = support.address()
    local peer, process = support.start("one_line", address)
    local client <close> = assert(ipcio.connect(address, 5))
    fails("closed", client:call("x", 5))
    for _, request in ipairs {"object", "x"} do
      local other <close> = assert(ipcio.connect(address, 5))
      fails("closed", other:call(request, 5))
    end
    for _, text in ipairs {"it went wrong$", "%(error object is a table value%)$", "it went wrong$"} do
      local line = peer:read("l")
      assert.matches("ipcio: " .. address .. ": ", line, 1, true)
      assert.matches(text, line)
    end
    support.kill("INT", process)
    assert.matches("interrupted!", peer:read("a"), 1, true)
    peer:close()
  end)
end)
