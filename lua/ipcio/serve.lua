--- Answering many clients from one thread: a coroutine for each of them, over one set of handles.

local core = require "ipcio.core"

local now <const> = core.now

local serve = {}

local FAIR <const> = 64 -- requests of one client, then the others have their turn
local GRACE <const> = 5 -- seconds that clients of a stopped server have to take their last answers

--- Raises, in the line of who called the method, if `self` is no object of the class.  Methods in C check that themselves.
function serve.check_self(self, class, method)
  local ok, err = pcall(class.address, self)
  if not ok then error(("bad argument #1 to '%s' %s"):format(method, err:match("%(.+")), 3) end
end

local loops = {} -- those that run, by the keys of their servers

-- A loop learns of its end at once: what has not begun by then does not begin.
for name, flag in pairs {stop = "stopped", close = "closed"} do
  local call <const> = core.Server[name]
  core.Server[name] = function(server)
    serve.check_self(server, core.Server, name)
    local ok = call(server)
    local loop = loops[core.key(server)]
    if loop then loop[flag] = true end
    return ok
  end
end

-- A task yields to wait: with `task.want` until its connection is ready for that; with `task.busy` until the
-- others have had their turn; with neither, as handlers yield, until the next round.
local function wait(task, want)
  task.want = want
  coroutine.yield()
  task.want = nil
end

local function pause(task)
  task.busy = true
  coroutine.yield()
  task.busy = false
end

-- Tries until it need not wait any more.
local function finish(task, try, ...)
  local value, message, code = try(...)
  while not value and not code do
    wait(task, message)
    value, message, code = try(...)
  end
  return value, message, code
end

-- Reads requests and writes answers until the client has gone, the handler closes it, or the server ends; raises what
-- is to be reported.
local function converse(loop, task, conn)
  local count = 0
  repeat
    local request, message, code = finish(task, core.try_read, conn)
    if request then
      task.begun = true
      local answer = loop.handler(request, conn)
      if type(answer) == "number" then answer = tostring(answer) end -- as write takes one; only once, for it is tried again
      if type(answer) == "string" then
        local _, message, code = finish(task, core.try_write, conn, answer)
        if code == "invalid" then return end -- the handler has closed it
        if code and code ~= "closed" then error(message, 0) end -- after "closed" what else it had sent is not lost
      elseif answer ~= nil then
        error(("the handler answered a %s; a string or nil is needed"):format(type(answer)), 0)
      end
      task.begun = false
    elseif code == "toobig" then
      task.wrong = message -- it was dropped, and the client goes on
      pause(task)
    elseif code == "closed" or code == "invalid" then
      return -- the client has closed, or the handler has closed it
    else
      error(message, 0)
    end
    count = count + 1
    if count % FAIR == 0 then pause(task) end
  until loop.stopped or loop.closed
end

-- A running serve.  Its flags `stopped` and `closed` are about the server; `ending` is when it gives up those that
-- do not take their answers.
local Loop = {}
Loop.__index = Loop

-- Also gives up what is under way.
function Loop.__close(loop)
  loops[loop.key] = nil
  for _, task in pairs(loop.tasks) do loop:drop(task) end
  if loop.stopped then core.try_accept(loop.server) end -- takes the stop: it is not for the next serve
end

function Loop:drop(task)
  self.tasks[task.key] = nil
  coroutine.close(task.thread)
  self.set:remove(task.conn)
  task.conn:close()
end

-- Of a stopped server only what has begun goes on.
function Loop:heed()
  if not self.stopped or self.ending then return end
  self.ending = now() + GRACE
  self.set:remove(self.server)
  for _, task in pairs(self.tasks) do
    if not task.begun then self:drop(task) end
  end
end

-- There will be a round, for handlers that have yielded and clients for whom there was no room.
function Loop:come_round()
  self.due = self.due or now() + self.interval
end

-- Runs a task until it waits, yields or ends.
function Loop:step(task)
  if self.closed or self.tasks[task.key] ~= task then return end
  local ok, err = coroutine.resume(task.thread)
  local alive = coroutine.status(task.thread) == "suspended"
  if alive and task.want ~= task.watched then
    task.watched = task.want
    if task.want then
      alive = self.set:add(task.conn, task.want) -- not when the handler has closed it
    else
      self.set:remove(task.conn)
    end
  end
  if not alive then
    self:drop(task)
    if not ok then self.on_error(err, task.conn) end
  elseif task.busy then
    self.busy[#self.busy + 1] = task
  elseif not task.want then
    self.yielded[#self.yielded + 1] = task
    self:come_round()
  end
  if task.wrong then
    local wrong = task.wrong
    task.wrong = nil
    self.on_error(wrong, task.conn)
  end
  self:heed()
end

function Loop:listen()
  local ok, _, code = self.set:add(self.server, core.WANT_READ)
  self.accepting = ok
  if code == "invalid" then
    self.closed = true
  elseif not ok then
    self:come_round()
  end
end

-- Takes in a client.
function Loop:accept()
  local conn, message, code = core.try_accept(self.server)
  if conn then
    local task = {conn = conn, key = core.key(conn)}
    task.thread = coroutine.create(function() converse(self, task, conn) end)
    self.tasks[task.key] = task
    self:step(task)
  elseif code == "interrupted" then
    self.server:stop() -- was called before this serve
  elseif code == "invalid" then
    self.closed = true
  elseif code == "system" or code == "nomemory" then -- the client stays in the queue until there is room
    self.set:remove(self.server)
    self.accepting = false
    self:come_round()
  else
    return message, code
  end
end

-- Goes on with the handlers that have yielded.
function Loop:round()
  local yielded = self.yielded
  self.yielded, self.due = {}, nil
  if self.ending then self.ending = now() + GRACE end -- handlers may take their time
  for _, task in ipairs(yielded) do self:step(task) end
  if not self.accepting and not self.ending then self:listen() end
end

function Loop:over()
  self:heed()
  return self.closed or self.ending and (not next(self.tasks) or not self.due and now() >= self.ending)
end

-- How long nothing needs to be done but for connections that are ready.
function Loop:leisure()
  if self.busy[1] then return 0 end
  local moment = self.due or self.ending
  return moment and math.max(0, moment - now())
end

function Loop:run()
  while not self:over() do
    local which, message, code = self.set:wait(self:leisure())
    if not which and code ~= "timeout" then return nil, message, code end
    local busy = self.busy
    self.busy = {}
    if which == self.key then
      message, code = self:accept()
      if code then return nil, message, code end
    elseif which then
      self:step(self.tasks[which])
    end
    for _, task in ipairs(busy) do self:step(task) end
    if self.due and now() >= self.due then self:round() end
  end
  return true
end

local function report(err, conn)
  local ok, text = pcall(tostring, err) -- its __tostring may fail
  if not ok then text = ("(error object is a %s value)"):format(type(err)) end
  local address = conn:address() .. ": "
  if text:sub(1, #address) ~= address then text = address .. text end -- ipcio's own messages begin with it
  io.stderr:write("ipcio: ", text, "\n")
end

--- Serves until the server is stopped or closed; then all its clients are closed.
---@param server ipcio.Server
---@param handler ipcio.Handler
---@param options? {on_error?: fun(err: any, conn: ipcio.Connection)}
---@return true? ok
---@return string? message
---@return string? code
function serve.run(server, handler, options)
  local set <close>, reason, status = core.new_set()
  if not set then return nil, reason, status end
  local watched, message, code = set:add(server, core.WANT_READ)
  if not watched then return nil, message, code end
  local loop <close> = setmetatable({
    server = server,
    key = core.key(server),
    handler = handler,
    on_error = options and options.on_error or report,
    interval = core.SleepInterval(0) / 1000,
    set = set,
    accepting = true,
    tasks = {}, -- by the keys of their connections
    busy = {}, -- tasks that have paused
    yielded = {}, -- tasks whose handler has yielded
  }, Loop)
  loops[loop.key] = loop
  return loop:run()
end

return serve
