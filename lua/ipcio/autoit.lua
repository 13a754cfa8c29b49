--- The AutoIt names: connections are small integers.  A thin layer over the C functions of the same names,
-- which never wait here: what waits, and calls the sleep function, is `finish` below.

local core = require "ipcio.core"

local ReadData <const>, WriteData <const> = core.ReadData, core.WriteData

---@class ipcio
local autoit = {}

autoit.cNamedPipe = core.cNamedPipe ---@type integer
autoit.cFile = core.cFile ---@type integer
autoit.cTCP = core.cTCP ---@type integer
autoit.cSharedMem = core.cSharedMem ---@type integer
autoit.cMailSlot = core.cMailSlot ---@type integer
autoit.cDefaultType = core.cDefaultType ---@type integer
autoit.cDefaultBlocking = true
autoit.DEFAULT_BUFSIZE = core.DEFAULT_BUFSIZE ---@type integer

---@alias ipcio.Sleep fun(): boolean? called every 10 ms while a call waits; false, or an error, ends the wait

local sleeps = {} ---@type table<integer, ipcio.Sleep> by connection

-- Gives up a call that is left half way: by an error, by closing its coroutine, or because nobody refers to that any more.
local function give_up(pending)
  local want <const> = pending.want
  pending.want = nil
  if want then core.GiveUpConnection(pending.fd, want) end
end

local Pending = {__close = give_up, __gc = give_up}

-- Repeats a call, which wants to wait, until it is done.
local function repeated(sleep, want, call, fd, ...)
  local pending <close> = setmetatable({fd = fd, want = want}, Pending)
  local value, message, code, yielded
  repeat
    local passed = 1 -- a sleep function that yielded has let time pass
    if not yielded then
      passed, message, code = core.SleepConnection(fd, pending.want, sleep and 1 or 0)
      if not passed then return nil, message, code end
    end
    if sleep and passed == 1 then
      local answer
      answer, yielded = core.call_sleep(sleep)
      if answer == false then
        want, pending.want = pending.want, nil
        return core.GiveUpConnection(fd, want)
      end
    end
    value, message, code = call(fd, ...)
    if not value and not code then pending.want = message end
  until value or code
  pending.want = nil
  if value then return value end
  return nil, message, code
end

-- What a call answers whose first try gave no value.
local function later(message, code, call, fd, ...)
  if code then return nil, message, code end
  return repeated(sleeps[fd], message, call, fd, ...)
end

local function finish(call, fd, ...)
  local value, message, code = call(fd, ...)
  if value then return value end
  return later(message, code, call, fd, ...)
end

-- An argument of the wrong type is an error in the line of who called the function of this name.
local function open(name, cType, ResourceName, bBlock, fSleepFunc, iBufSize)
  if fSleepFunc ~= nil and type(fSleepFunc) ~= "function" then
    error(("bad argument #4 to '%s' (function expected, got %s)"):format(name, type(fSleepFunc)), 3)
  end
  local ok, fd, message, code = pcall(core[name], cType or core.cDefaultType, ResourceName, bBlock == false and 0 or 1,
                                      iBufSize or core.DEFAULT_BUFSIZE)
  if not ok then error(fd:gsub("#4", "#5"):gsub("to '[^']*'", ("to '%s'"):format(name)), 3) end
  return fd, message, code
end

--- Begins to serve.  Every argument may be left out.
---@param cType? integer one of the constants: cNamedPipe, ...
---@param ResourceName? string a name or an address; each type has a default
---@param bBlock? boolean false: a call that would have to wait answers nil, message, "timeout" at once
---@param fSleepFunc? ipcio.Sleep
---@param iBufSize? integer bytes to read ahead; never limits a message
---@return integer? iFD
---@return string? message
---@return string? code
function autoit.InitConnection(cType, ResourceName, bBlock, fSleepFunc, iBufSize)
  local fd, message, code = open("InitConnection", cType, ResourceName, bBlock, fSleepFunc, iBufSize)
  if not fd then return nil, message, code end
  sleeps[fd] = fSleepFunc
  return fd
end

--- Connects to a server, waiting for it to appear if need be.  Arguments as for InitConnection.
---@param cType? integer
---@param ResourceName? string
---@param bBlock? boolean
---@param fSleepFunc? ipcio.Sleep
---@param iBufSize? integer
---@return integer? iFD
---@return string? message
---@return string? code
function autoit.OpenConnection(cType, ResourceName, bBlock, fSleepFunc, iBufSize)
  local fd, message, code = open("OpenConnection", cType, ResourceName, bBlock, fSleepFunc, iBufSize)
  if not fd then return nil, message, code end
  local opened, want
  opened, want, code = core.FinishOpenConnection(fd)
  if not opened and not code then
    opened, want, code = repeated(fSleepFunc, want, core.FinishOpenConnection, fd)
  end
  if not opened then return nil, want, code end
  sleeps[fd] = fSleepFunc
  return fd
end

--- Waits for a client.
---@param iFD integer
---@return true? ok
---@return string? message
---@return string? code
function autoit.StartConnection(iFD) return finish(core.StartConnection, iFD) end

--- Waits for a message.
---@param iFD integer
---@return string? sData
---@return string? message
---@return string? code
function autoit.ReadData(iFD)
  local sData, message, code = ReadData(iFD)
  if sData then return sData end
  return later(message, code, ReadData, iFD)
end

--- Sends a message.
---@param iFD integer
---@param sData string
---@return integer? count its length
---@return string? message
---@return string? code
function autoit.WriteData(iFD, sData)
  local count, message, code = WriteData(iFD, sData)
  if count then return count end
  return later(message, code, WriteData, iFD, sData)
end

--- Closes this client; the server goes on.
---@param iFD integer
---@return true? ok
---@return string? message
---@return string? code
function autoit.StopConnection(iFD) return finish(core.StopConnection, iFD) end

local function close(call, iFD)
  local ok, message, code = finish(call, iFD)
  if not ok then return nil, message, code end
  sleeps[iFD] = nil
  return true
end

--- Ends a server.
---@param iFD integer
---@return true? ok
---@return string? message
---@return string? code
function autoit.EndConnection(iFD) return close(core.EndConnection, iFD) end

--- Closes a client's connection.
---@param iFD integer
---@return true? ok
---@return string? message
---@return string? code
function autoit.CloseConnection(iFD) return close(core.CloseConnection, iFD) end

--- The four steps of ReadData: waits for a message.
---@param iFD integer
---@return true? ok
---@return string? message
---@return string? code
function autoit.ReadStart(iFD) return finish(core.ReadStart, iFD) end

--- Its length.
---@param iFD integer
---@return integer? length
---@return string? message
---@return string? code
function autoit.ReadSize(iFD) return finish(core.ReadSize, iFD) end

--- Its next piece, "" at the end.
---@param iFD integer
---@param n? integer at most so many bytes
---@return string? piece
---@return string? message
---@return string? code
function autoit.ReadBuffer(iFD, n) return finish(core.ReadBuffer, iFD, n or core.DEFAULT_BUFSIZE) end

--- Done with it; what was not read is dropped.
---@param iFD integer
---@return true? ok
---@return string? message
---@return string? code
function autoit.ReadEnd(iFD) return finish(core.ReadEnd, iFD) end

--- The four steps of WriteData: waits until there is room for a message.
---@param iFD integer
---@return true? ok
---@return string? message
---@return string? code
function autoit.WriteStart(iFD) return finish(core.WriteStart, iFD) end

--- Says its length.
---@param iFD integer
---@param n integer
---@return true? ok
---@return string? message
---@return string? code
function autoit.WriteSize(iFD, n) return finish(core.WriteSize, iFD, n) end

--- Gives its next piece.
---@param iFD integer
---@param sData string
---@return true? ok
---@return string? message
---@return string? code
function autoit.WriteBuffer(iFD, sData) return finish(core.WriteBuffer, iFD, sData) end

--- The peer sees it now.
---@param iFD integer
---@return true? ok
---@return string? message
---@return string? code
function autoit.WriteEnd(iFD) return finish(core.WriteEnd, iFD) end

--- Sets how often sleep functions are called, 1 to 1000 ms; 0 only asks.
---@type fun(ms: integer): integer
autoit.SleepInterval = core.SleepInterval

return autoit
