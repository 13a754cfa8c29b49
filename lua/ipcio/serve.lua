--- Answering many clients from one thread: a coroutine for each of them, over one set of handles.

local core = require "ipcio.core"

local serve = {}

local FAIR <const> = 64 -- requests of one client, then the others have their turn

local function report(err, conn)
  io.stderr:write(("ipcio: %s: %s\n"):format(conn:address(), err))
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

-- Reads requests and writes answers until the client or the handler closes; raises what is to be reported.
local function converse(task, conn, handler)
  for count = 1, math.huge do
    local value, message, code = finish(task, core.try_read, conn)
    if value then
      local answer = handler(value, conn)
      if type(answer) == "string" then
        value, message, code = finish(task, core.try_write, conn, answer)
      elseif answer ~= nil then
        error(("the handler answered a %s; a string or nil is needed"):format(type(answer)), 0)
      end
    end
    if code == "closed" or code == "invalid" then return end
    if code then error(message, 0) end
    if count % FAIR == 0 then pause(task) end
  end
end

-- The tasks of a server by the keys of their connections.
local Tasks = {
  __close = function(tasks)
    for _, task in pairs(tasks) do
      coroutine.close(task.thread)
      task.conn:close()
    end
  end,
}

local GRACE = 5 -- seconds, for answers that are under way when the server ends

local function writing(tasks)
  for _, task in pairs(tasks) do
    if task.watched == core.WANT_WRITE then return true end
  end
  return false
end

--- Serves until the server is closed or stopped; then all its clients are closed.
---@param server ipcio.Server
---@param handler ipcio.Handler
---@param options? {on_error?: fun(err: any, conn: ipcio.Connection)}
---@return true? ok
---@return string? message
---@return string? code
function serve.run(server, handler, options)
  local on_error = options and options.on_error or report
  local interval = core.SleepInterval(0) / 1000
  local set <close>, reason, status = core.new_set()
  if not set then return nil, reason, status end
  local tasks <close> = setmetatable({}, Tasks)
  local yielded, rest = {}, nil -- tasks to be resumed in the next round, which begins in so many seconds

  -- Runs a task until it waits, yields or ends.
  local function step(task)
    local ok, err = coroutine.resume(task.thread)
    local alive = coroutine.status(task.thread) == "suspended"
    if alive and task.want ~= task.watched then
      task.watched = task.want
      if task.want then
        alive = set:add(task.conn, task.want) -- not when the handler has closed it
      else
        set:remove(task.conn)
      end
    end
    if not alive then
      tasks[task.key] = nil
      coroutine.close(task.thread)
      set:remove(task.conn)
      task.conn:close()
      if not ok then on_error(err, task.conn) end
    elseif not task.want then
      yielded[#yielded + 1] = task
      rest = task.busy and 0 or rest or interval
    end
  end

  local function start(conn)
    local task = {conn = conn, key = core.key(conn)}
    task.thread = coroutine.create(function() converse(task, conn, handler) end)
    tasks[task.key] = task
    step(task)
  end

  local server_key, ended = core.key(server), nil
  local watched, message, code = set:add(server, core.WANT_READ)
  if not watched then return nil, message, code end
  while true do
    local round, timeout = yielded, rest
    yielded, rest = {}, nil
    local which
    which, message, code = set:wait(timeout)
    if not which and code ~= "timeout" then return nil, message, code end
    if which and which ~= server_key then step(tasks[which]) end
    for _, task in ipairs(round) do step(task) end
    if not ended and (which == server_key or not watched) then
      local conn, refusal, problem = core.try_accept(server)
      if conn then start(conn) end
      if problem == "interrupted" or problem == "invalid" then -- stopped, closed
        set:remove(server)
        ended = os.time()
      elseif problem == "system" or problem == "nomemory" then
        set:remove(server) -- no room for the client now: it stays in the queue, for the next round
        watched, rest = false, rest or interval
      elseif problem then
        return nil, refusal, problem
      elseif not ended then
        watched = watched or set:add(server, core.WANT_READ)
      end
    end
    if ended then
      if not writing(tasks) or os.difftime(os.time(), ended) > GRACE then return true end
      rest = rest or interval
    end
  end
end

return serve
