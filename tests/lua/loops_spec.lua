--- Descriptors of connections and servers in the event loops of others: LuaSocket's select, luv (libuv), cqueues.
--
-- docs/design/lessons.md 10: libraries without a descriptor (iceoryx#1045) and without time limits (cpython#76425).
-- 17: all of this in one Lua 5.4 (lzmq#68).

package.path = debug.getinfo(1, "S").source:match("^@(.*/)") .. "?.lua;" .. package.path

local cqueues = require "cqueues"
local ipcio = require "ipcio"
local socket = require "socket"
local support = require "support"
local uv = require "luv"

local fails = support.fails

-- A loop has three functions.  watch(fd, "r" or "w") answers a watcher, which counts how often it `fired`; turn(n)
-- runs the loop once, which waits up to n seconds for something to fire; close().
local loops = {}

function loops.select()
  local reading, writing = {}, {}
  return {
    watch = function(fd, how)
      local watcher = {fired = 0, getfd = function() return fd end}
      table.insert(how == "r" and reading or writing, watcher)
      return watcher
    end,
    turn = function(seconds)
      for _, came in ipairs {socket.select(reading, writing, seconds)} do
        if type(came) == "table" then
          for _, watcher in ipairs(came) do watcher.fired = watcher.fired + 1 end
        end
      end
    end,
    close = function() end,
  }
end

function loops.luv()
  local polls, timer = {}, uv.new_timer()
  return {
    watch = function(fd, how)
      local watcher, poll = {fired = 0}, assert(uv.new_poll(fd))
      assert(poll:start(how, function(err)
        if not err then watcher.fired = watcher.fired + 1 end
      end))
      polls[#polls + 1] = poll
      return watcher
    end,
    turn = function(seconds)
      uv.update_time()
      timer:start(seconds * 1000, 0, function() end)
      uv.run(seconds == 0 and "nowait" or "once")
      timer:stop()
    end,
    close = function()
      for _, poll in ipairs(polls) do poll:close() end
      timer:close()
      uv.run()
    end,
  }
end

function loops.cqueues()
  local queue, fds = cqueues.new(), {}
  local function turn(seconds) assert(queue:step(seconds)) end
  return {
    watch = function(fd, how)
      local watcher = {fired = 0}
      queue:wrap(function()
        while true do
          cqueues.poll {pollfd = fd, events = how}
          watcher.fired = watcher.fired + 1
        end
      end)
      turn(0) -- up to the poll
      fds[#fds + 1] = fd
      return watcher
    end,
    turn = turn,
    close = function()
      for _, fd in ipairs(fds) do cqueues.cancel(fd) end
      queue:close()
    end,
  }
end

local function test(name, way)
  local options = way == "lines" and "?framing=line" or ""

  local function new_address()
    return (way == "tcp" and "tcp://127.0.0.1:0" or support.address()) .. options
  end

  describe(("%s over %s"):format(name, way), function()
    support.watch_descriptors(before_each, after_each)

    describe("waits on", function()
      local loop, peer, process, conn, orders
      before_each(function()
        peer, process = support.start("far_end", new_address())
        local address = peer:read("l") .. options
        conn = assert(ipcio.connect(address, 30))
        orders = assert(ipcio.connect(address, 30))
        loop = loops[name]()
      end)
      after_each(function()
        loop.close()
        conn:close()
        orders:close()
        peer:close()
      end)

      local function order(what) assert.equal("done", orders:call(what, 30)) end

      -- Waits in the loop until the watcher fires.
      local function fires(watcher)
        local before = watcher.fired
        for _ = 1, 3 do
          if watcher.fired == before then loop.turn(30) end
        end
        assert.is_true(watcher.fired > before)
      end

      -- It fires whenever the loop looks.
      local function keeps_firing(watcher)
        for _ = 1, 3 do
          local before = watcher.fired
          loop.turn(0)
          assert.equal(before + 1, watcher.fired)
        end
      end

      local function is_quiet(watcher)
        local before = watcher.fired
        for _ = 1, 3 do loop.turn(0) end
        assert.equal(before, watcher.fired)
      end

      -- Repeats a call with a timeout of 0, as event loops do.
      local function when_fired(watcher, call, ...)
        local value, message, code
        repeat
          fires(watcher)
          value, message, code = call(...)
        until code ~= "timeout"
        return value, message, code
      end

      it("a message, for as long as it is not read (lesson 9, pyzmq#1177: level-triggered)", function()
        local watcher = loop.watch(conn:fileno(), "r")
        is_quiet(watcher)
        assert(orders:write("two"))
        fires(watcher)
        assert.equal("done", orders:read(30)) -- now both have come
        keeps_firing(watcher)
        assert.equal("one", conn:read(0))
        keeps_firing(watcher) -- though the other one was read ahead
        assert.equal("two", conn:read(0))
        is_quiet(watcher)
        order("two")
        keeps_firing(watcher)
      end)

      it("a message that was read ahead before the loop looked", function()
        order("two")
        assert.equal("one", conn:read(0))
        local watcher = loop.watch(conn:fileno(), "r")
        fires(watcher)
        assert.equal("two", conn:read(0))
        is_quiet(watcher)
      end)

      it("the rest of a message", function()
        local watcher = loop.watch(conn:fileno(), "r")
        assert(orders:write("half"))
        fires(watcher)
        assert.equal("done", orders:read(30))
        fails("timeout", conn:read(0))
        is_quiet(watcher)
        assert(orders:write("rest"))
        assert.equal("0123456789", when_fired(watcher, conn.read, conn, 0))
        assert.equal("done", orders:read(30))
        is_quiet(watcher)
      end)

      it("the end, behind what came before it", function()
        local watcher = loop.watch(conn:fileno(), "r")
        order("two")
        order("close")
        for _, message in ipairs {"one", "two"} do
          keeps_firing(watcher)
          assert.equal(message, conn:read(0))
        end
        for _ = 1, 2 do
          keeps_firing(watcher)
          fails("closed", conn:read(0))
        end
      end)

      it("the death of the peer", function()
        local watcher = loop.watch(conn:fileno(), "r")
        is_quiet(watcher)
        support.kill("KILL", process)
        fails("closed", when_fired(watcher, conn.read, conn, 0))
        keeps_firing(watcher)
      end)

      -- Writes messages until the loop tells of no more room.  Answers a function that goes on, up to where it would
      -- have to wait again, and answers how many messages have gone.
      local function fill(watcher)
        local message, count, before = ("x"):rep(60000), 0, nil
        local function finish(call, ...)
          local ok, reason, code = call(conn, ...)
          while code == "timeout" do
            coroutine.yield(count)
            ok, reason, code = call(conn, ...)
          end
          assert(ok, reason)
        end
        local go_on = coroutine.wrap(function()
          while true do
            finish(conn.write_start, #message, 0)
            finish(conn.write_buffer, message, 0)
            finish(conn.write_end, 0)
            count = count + 1
          end
        end)
        repeat
          go_on()
          before = watcher.fired
          for _ = 1, 3 do loop.turn(0) end
        until watcher.fired == before
        return go_on
      end

      it("room in a connection that is full", function()
        local watcher = loop.watch(conn:write_fileno(), "w")
        keeps_firing(watcher)
        local go_on = fill(watcher)
        local count = go_on()
        assert(orders:write("take " .. count + 1)) -- also the one that is half out
        repeat fires(watcher) until go_on() > count
        assert.equal("done", orders:read(30))
      end)

      it("reading and writing at once", function()
        local reading, writing = loop.watch(conn:fileno(), "r"), loop.watch(conn:write_fileno(), "w")
        fill(writing)
        is_quiet(reading)
        order("two")
        keeps_firing(reading)
      end)

      it("several connections, each for itself", function()
        local one, other = loop.watch(conn:fileno(), "r"), loop.watch(orders:fileno(), "r")
        assert(orders:write("take 0"))
        fires(other)
        is_quiet(one)
        assert.equal("done", orders:read(0))
        order("two")
        fires(one)
        is_quiet(other)
      end)

      it("the clients of a server", function()
        local server <close> = assert(ipcio.listen(new_address()))
        local watcher = loop.watch(server:fileno(), "r")
        is_quiet(watcher)
        fails("timeout", server:accept(0)) -- lesson 10: accept has a time limit
        assert(orders:write("connect " .. server:address() .. options))
        local accepted <close> = assert(when_fired(watcher, server.accept, server, 0))
        assert.equal("done", orders:read(30))
        is_quiet(watcher)
        order("connect " .. server:address() .. options)
        order("connect " .. server:address() .. options)
        keeps_firing(watcher)
        for _ = 1, 2 do assert(server:accept(0)):close() end
        is_quiet(watcher)
        loop.close() -- before the descriptor goes
        loop = loops[name]()
      end)
    end)
  end)
end

for name in pairs(loops) do
  for _, way in ipairs {"pipe", "lines", "tcp"} do test(name, way) end
end

describe("lesson 17", function()
  it("this is Lua 5.4, and ipcio is at home in it beside the others", function()
    assert.equal("Lua 5.4", _VERSION)
    for _, module in ipairs {"ipcio", "luv", "cqueues", "socket"} do assert.is_table(package.loaded[module]) end
  end)
end)
