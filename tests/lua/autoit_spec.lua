--- The AutoIt names.

package.path = debug.getinfo(1, "S").source:match("^@(.*/)") .. "?.lua;" .. package.path

local ipcio = require "ipcio"
local socket = require "socket"
local support = require "support"

local fails = support.fails

-- A server and a client of it, both with this sleep function.
local function pair(sleep, block)
  local name = support.name()
  local server = assert(ipcio.InitConnection(ipcio.cNamedPipe, name, block, sleep))
  local client = assert(ipcio.OpenConnection(ipcio.cNamedPipe, name, block, sleep))
  assert(ipcio.StartConnection(server))
  return server, client
end

local function close(server, client)
  assert.is_true(ipcio.CloseConnection(client))
  assert.is_true(ipcio.EndConnection(server))
end

describe("the AutoIt names", function()
  support.watch_descriptors(before_each, after_each)

  it("have AutoIt's constants", function()
    local values = {}
    for _, name in ipairs {"cNamedPipe", "cFile", "cTCP", "cSharedMem", "cMailSlot"} do
      local value = ipcio[name]
      assert.equal("integer", math.type(value))
      assert.is_nil(values[value])
      values[value] = name
    end
    assert.equal(ipcio.cNamedPipe, ipcio.cDefaultType)
    assert.is_true(ipcio.cDefaultBlocking)
    assert.equal(65536, ipcio.DEFAULT_BUFSIZE)
  end)

  it("carry a conversation between two processes", function()
    local name = support.name()
    local peer = support.start("autoit_server", name, 2)
    for _ = 1, 2 do
      local fd = assert(ipcio.OpenConnection(ipcio.cNamedPipe, name))
      assert.is_true(math.type(fd) == "integer" and fd > 0)
      assert.same({5}, {ipcio.WriteData(fd, "world")})
      assert.same({"hello world"}, {ipcio.ReadData(fd)})
      assert.equal(0, ipcio.WriteData(fd, ""))
      assert.equal("hello ", ipcio.ReadData(fd))
      assert.equal(3 << 20, ipcio.WriteData(fd, ("x"):rep(3 << 20)))
      assert.is_true(ipcio.ReadData(fd) == "hello " .. ("x"):rep(3 << 20))
      assert.is_true(ipcio.CloseConnection(fd))
    end
    assert.equal("", peer:read("a"))
    assert(peer:close())
  end)

  it("take any argument left out", function()
    local directory = os.tmpname() -- where the default resource is nobody else's
    assert(os.remove(directory) and os.execute("mkdir -m 700 " .. directory))
    support.with("IPCIO_DIR=" .. directory, function()
      local server = support.start("default_server")
      local client = support.start("default_client")
      assert.equal("hello world\n", client:read("a"))
      assert(client:close())
      assert(server:close())
    end)
    assert(os.execute("rm -r " .. directory))
    local name = support.name()
    local server = assert(ipcio.InitConnection(nil, name, nil, nil, nil))
    local client = assert(ipcio.OpenConnection(nil, "pipe://" .. name, nil, nil, 2048))
    assert(ipcio.StartConnection(server))
    close(server, client)
  end)

  it("meet the objects", function()
    local name = support.name()
    local server = assert(ipcio.InitConnection(ipcio.cNamedPipe, name))
    local client <close> = assert(ipcio.connect("pipe://" .. name, 5))
    assert(ipcio.StartConnection(server))
    assert(client:write("x"))
    assert.equal("x", ipcio.ReadData(server))
    client:close()
    fails("closed", ipcio.ReadData(server))
    assert(ipcio.EndConnection(server))
  end)

  it("have an order", function()
    local name = support.name()
    local server = assert(ipcio.InitConnection(ipcio.cNamedPipe, name))
    fails("invalid", ipcio.ReadData(server))
    fails("invalid", ipcio.WriteData(server, "x"))
    fails("invalid", ipcio.StopConnection(server))
    fails("invalid", ipcio.CloseConnection(server))
    local client = assert(ipcio.OpenConnection(ipcio.cNamedPipe, name))
    assert(ipcio.StartConnection(server))
    fails("invalid", ipcio.StartConnection(server))
    fails("invalid", ipcio.StartConnection(client))
    fails("invalid", ipcio.EndConnection(client))
    for _, call in ipairs {"ReadSize", "ReadBuffer", "ReadEnd", "WriteEnd"} do
      fails("invalid", ipcio[call](client))
    end
    fails("invalid", ipcio.WriteSize(client, 5))
    fails("invalid", ipcio.WriteBuffer(client, "x"))
    assert(ipcio.StopConnection(server))
    fails("closed", ipcio.ReadData(client))
    close(server, client)
    for _, call in ipairs {"StartConnection", "ReadData", "StopConnection", "EndConnection", "CloseConnection"} do
      fails("invalid", ipcio[call](server))
      fails("invalid", ipcio[call](0))
      fails("invalid", ipcio[call](-1))
    end
    local another = assert(ipcio.InitConnection(ipcio.cNamedPipe, name))
    assert.is_true(another > client)
    assert(ipcio.EndConnection(another))
  end)

  it("refuse bad arguments", function()
    local name = support.name()
    for _, call in ipairs {"InitConnection", "OpenConnection"} do
      local open <const> = ipcio[call]
      local function refuses(argument, expected, ...)
        local line <const> = debug.getinfo(1, "l").currentline + 1
        local ok, err = pcall(function(...) open(...) end, ...)
        assert.is_false(ok)
        assert.equal(("autoit_spec.lua:%d: bad argument #%d to '%s' (%s expected, got %s)"):format(
                       line, argument, call, expected, type((select(argument, ...)))), err:match("[^/]+$"))
      end
      fails("invalid", open(99, name))
      fails("invalid", open(-1, name))
      fails("invalid", open(1 << 40, name))
      fails("invalid", open(ipcio.cNamedPipe, "a\0b"))
      fails("invalid", open(ipcio.cNamedPipe, ("x"):rep(256)))
      fails("invalid", open(ipcio.cNamedPipe, name, true, nil, 5))
      fails("invalid", open(ipcio.cNamedPipe, name, true, nil, 1 << 40))
      refuses(1, "number", "pipe", name)
      refuses(2, "string", ipcio.cNamedPipe, {})
      refuses(4, "function", ipcio.cNamedPipe, name, true, "sleep")
      refuses(5, "number", ipcio.cNamedPipe, name, true, nil, "much")
    end
  end)

  it("do not wait when they are not to block", function()
    local name = support.name()
    fails("missing", ipcio.OpenConnection(ipcio.cNamedPipe, name, false))
    local server = assert(ipcio.InitConnection(ipcio.cNamedPipe, name, false))
    fails("timeout", ipcio.StartConnection(server))
    local client = assert(ipcio.OpenConnection(ipcio.cNamedPipe, name, false))
    assert(ipcio.StartConnection(server))
    fails("timeout", ipcio.ReadData(client))
    fails("timeout", ipcio.ReadStart(client))
    local sent, count, code = 0
    repeat
      count, _, code = ipcio.WriteData(client, ("x"):rep(60000))
      if count then sent = sent + 1 end
    until not count
    assert.equal("timeout", code)
    for _ = 1, sent do assert.equal(60000, #ipcio.ReadData(server)) end
    assert(ipcio.WriteData(client, "after"))
    assert.equal("after", ipcio.ReadData(server))
    close(server, client)
  end)

  it("read and write in four steps", function()
    local server, client = pair()
    assert.is_true(ipcio.WriteStart(client))
    assert.is_true(ipcio.WriteSize(client, 10))
    assert.is_true(ipcio.WriteBuffer(client, "01234"))
    assert.is_true(ipcio.WriteBuffer(client, "56789"))
    assert.is_true(ipcio.WriteEnd(client))
    assert.is_true(ipcio.ReadStart(server))
    assert.equal(10, ipcio.ReadSize(server))
    assert.equal("0123", ipcio.ReadBuffer(server, 4))
    local rest = ""
    repeat
      local piece = assert(ipcio.ReadBuffer(server))
      rest = rest .. piece
    until piece == ""
    assert.equal("456789", rest)
    assert.is_true(ipcio.ReadEnd(server))
    close(server, client)
  end)

  describe("with a sleep function", function()
    it("call it while anything waits", function()
      local called, name = 0, support.name()
      local peer
      local client = assert(ipcio.OpenConnection(ipcio.cNamedPipe, name, true, function()
        called = called + 1
        if called == 3 then peer = support.start("autoit_server", name, 1) end
      end))
      assert.is_true(called >= 3)
      assert(ipcio.WriteData(client, "x"))
      assert.equal("hello x", ipcio.ReadData(client))
      assert(ipcio.CloseConnection(client))
      assert(peer:close())
    end)

    it("call it at an interval that can be set", function()
      assert.equal(10, ipcio.SleepInterval(0))
      local called = 0
      local server, client = pair(function()
        called = called + 1
        return called < 5
      end)
      local function waited()
        called = 0
        local from = socket.gettime()
        fails("interrupted", ipcio.ReadData(client))
        return socket.gettime() - from
      end
      assert.is_true(waited() >= 0.045) -- five times 10 ms, which a clock may round
      assert.equal(10, ipcio.SleepInterval(50))
      assert.equal(50, ipcio.SleepInterval(0))
      assert.is_true(waited() >= 0.225)
      assert.equal(50, ipcio.SleepInterval(10))
      close(server, client)
    end)

    it("end when it answers false, and only then", function()
      for _, call in ipairs {"ReadData", "ReadStart"} do
        local answers = {true, 0, "no", {}, false}
        local server, client = pair(function() return table.remove(answers, 1) end)
        local message = fails("interrupted", ipcio[call](client))
        assert.is_true(#message > 0)
        assert.equal(0, #answers)
        answers = {n = 1}
        assert(ipcio.WriteData(server, "still usable"))
        assert.equal("still usable", ipcio.ReadData(client))
        close(server, client)
      end
      fails("interrupted", ipcio.OpenConnection(ipcio.cNamedPipe, support.name(), true, function() return false end))
      local server = assert(ipcio.InitConnection(ipcio.cNamedPipe, support.name(), true, function() return false end))
      fails("interrupted", ipcio.StartConnection(server))
      assert(ipcio.EndConnection(server))
    end)

    it("end when it raises, with that error", function()
      local why = {"the very error"}
      local sleep = function() error(why) end
      local server, client = pair(sleep)
      local ok, err = pcall(ipcio.ReadData, client)
      assert.is_false(ok)
      assert.equal(why, err)
      ok, err = pcall(function() while true do ipcio.WriteData(client, ("x"):rep(60000)) end end)
      assert.is_false(ok)
      assert.equal(why, err)
      local count = 0
      repeat
        local data = ipcio.ReadData(server)
        count = count + 1
        if count == 1 then assert(ipcio.WriteData(server, "usable")) end
      until #data ~= 60000 or not pcall(ipcio.ReadData, server)
      assert.equal("usable", ipcio.ReadData(client))
      assert.has_error(function() ipcio.OpenConnection(ipcio.cNamedPipe, support.name(), true, sleep) end)
      close(server, client)
    end)

    it("take a message back whose write it ended", function()
      local long = ("x"):rep(1 << 20)
      local server, client = pair(function() return false end)
      fails("interrupted", ipcio.WriteData(client, long))
      local got, message, code = ipcio.ReadData(server)
      assert.same({nil, "interrupted"}, {got, code})
      assert.is_string(message)
      assert(ipcio.WriteData(client, "whole"))
      assert.equal("whole", ipcio.ReadData(server))
      close(server, client)
    end)

    it("let other coroutines run that it yields to", function()
      local order = {}
      local function yields() coroutine.yield() end
      local server, client = pair(yields)
      local other_server, other_client = pair(yields)
      local function reader(name, fd)
        return coroutine.create(function()
          local data = ipcio.ReadData(fd)
          order[#order + 1] = name .. " " .. data
        end)
      end
      local readers = {reader("one", client), reader("two", other_client)}
      local function step()
        for _, thread in ipairs(readers) do
          if coroutine.status(thread) ~= "dead" then assert(coroutine.resume(thread)) end
        end
      end
      for _ = 1, 3 do step() end
      assert.same({}, order)
      assert(ipcio.WriteData(other_server, "b"))
      step()
      assert.same({"two b"}, order)
      assert(ipcio.WriteData(server, "a"))
      step()
      assert.same({"two b", "one a"}, order)
      for _, thread in ipairs(readers) do assert.equal("dead", coroutine.status(thread)) end
      close(server, client)
      close(other_server, other_client)
    end)

    it("do not sleep on after it has yielded", function()
      local server, client = pair(function() coroutine.yield() end)
      local thread = coroutine.create(ipcio.ReadData)
      assert(coroutine.resume(thread, client))
      local from = socket.gettime()
      for _ = 1, 300 do assert(coroutine.resume(thread)) end
      assert.is_true(socket.gettime() - from < 3)
      assert(ipcio.WriteData(server, "x"))
      assert.same({true, "x"}, {coroutine.resume(thread)})
      close(server, client)
    end)

    it("may yield in every call that waits", function()
      local name, yielded = support.name(), 0
      local function yields()
        yielded = yielded + 1
        coroutine.yield()
      end
      local function server()
        local fd = assert(ipcio.InitConnection(ipcio.cNamedPipe, name, true, yields))
        assert(ipcio.StartConnection(fd))
        local data = assert(ipcio.ReadData(fd))
        assert(ipcio.WriteData(fd, data))
        assert(ipcio.EndConnection(fd))
      end
      local received
      local function client()
        local fd = assert(ipcio.OpenConnection(ipcio.cNamedPipe, name, true, yields))
        assert.equal(3 << 20, ipcio.WriteData(fd, ("x"):rep(3 << 20)))
        received = assert(ipcio.ReadData(fd))
        assert(ipcio.CloseConnection(fd))
      end
      local threads = {coroutine.create(client), coroutine.create(server)}
      while threads[1] do
        for i = #threads, 1, -1 do
          assert(coroutine.resume(threads[i]))
          if coroutine.status(threads[i]) == "dead" then table.remove(threads, i) end
        end
      end
      assert.equal(3 << 20, #received)
      assert.is_true(yielded > 10)
    end)

    for how, leave in pairs {["is closed"] = coroutine.close, ["nobody refers to"] = function() return true end} do
      it("give up a call whose coroutine " .. how, function()
        local server, client = pair(function() coroutine.yield() end)
        local thread = coroutine.create(ipcio.WriteData)
        assert(coroutine.resume(thread, client, ("x"):rep(1 << 20)))
        assert.equal("suspended", coroutine.status(thread))
        assert(leave(thread))
        thread = nil
        collectgarbage()
        local reader = coroutine.create(ipcio.ReadData)
        assert(coroutine.resume(reader, server))
        assert(ipcio.WriteData(client, "whole"))
        local ok, data
        repeat ok, data = coroutine.resume(reader) until not ok or coroutine.status(reader) == "dead"
        assert.equal("whole", data)
        close(server, client)
      end)

      it("leave nothing of an open whose coroutine " .. how, function()
        local before = support.descriptors()
        local thread = coroutine.create(ipcio.OpenConnection)
        assert(coroutine.resume(thread, ipcio.cNamedPipe, support.name(), true, coroutine.yield))
        assert.equal("suspended", coroutine.status(thread))
        assert.not_equal(before, support.descriptors())
        assert(leave(thread))
        thread = nil
        assert.equal(before, support.descriptors())
      end)
    end

    it("keep what yields from an error as errors are kept", function()
      local server, client = pair(function()
        coroutine.yield()
        error("after the yield", 0)
      end)
      local thread = coroutine.create(ipcio.ReadData)
      assert(coroutine.resume(thread, client))
      assert.same({false, "after the yield"}, {coroutine.resume(thread)})
      close(server, client)
    end)
  end)
end)
