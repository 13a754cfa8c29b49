"""The calls of AutoIt's IPC_IO, by its names.

A server: InitConnection, StartConnection (waits for a client), ReadData and WriteData, StopConnection (this client),
StartConnection again, or EndConnection.  A client: OpenConnection, WriteData and ReadData, CloseConnection.
A connection is an integer that is never given twice.
"""
from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from . import _core
from ._core import DEFAULT_BUFSIZE, Interrupted, Invalid, Want, cDefaultType
from ._core import ReadData as _ReadData, WriteData as _WriteData

if TYPE_CHECKING:
    from typing_extensions import Buffer

cDefaultBlocking = True

SleepFunction = Callable[[], object]
_Value = TypeVar("_Value")

_sleep_functions: dict[int, SleepFunction] = {}
_waiting: list[int] = []  # once for each thread that waits; changed by one step, which no other thread divides


def InitConnection(cType: int | None = cDefaultType, ResourceName: str | None = "",
                   bBlock: bool | None = cDefaultBlocking, fSleepFunc: SleepFunction | None = None,
                   iBufSize: int | None = DEFAULT_BUFSIZE) -> int:
    """Begins to serve the name, without waiting for a client.

    Not blocking, a call that would wait raises TimedOut at once.  The sleep function is called every 10 ms (see
    SleepInterval) while a call waits; it ends the wait by raising or by returning False.
    """
    return _open(_core.InitConnection, cType, ResourceName, bBlock, fSleepFunc, iBufSize)


def OpenConnection(cType: int | None = cDefaultType, ResourceName: str | None = "",
                   bBlock: bool | None = cDefaultBlocking, fSleepFunc: SleepFunction | None = None,
                   iBufSize: int | None = DEFAULT_BUFSIZE) -> int:
    """Connects to the server of the name, waiting for it; the arguments are as InitConnection's."""
    iFD = _open(_core.OpenConnection, cType, ResourceName, bBlock, fSleepFunc, iBufSize)
    try:
        _repeat(_core.FinishOpenConnection, iFD)
    except BaseException:
        with suppress(Invalid):  # it is gone already, unless Ctrl-C came between two calls
            CloseConnection(iFD)
        _sleep_functions.pop(iFD, None)
        raise
    return iFD


def StartConnection(iFD: int) -> None:
    """Waits for the next client."""
    _repeat(_core.StartConnection, iFD)


def StopConnection(iFD: int) -> None:
    """Ends the connection to the client; the server goes on."""
    _close(_core.StopConnection, iFD)


def EndConnection(iFD: int) -> None:
    """Ends the server."""
    _close(_core.EndConnection, iFD)
    _sleep_functions.pop(iFD, None)


def CloseConnection(iFD: int) -> None:
    """Ends the connection to the server."""
    _close(_core.CloseConnection, iFD)
    _sleep_functions.pop(iFD, None)


def ReadData(iFD: int) -> bytes:
    """Waits for the next message and returns it."""
    sData = _ReadData(iFD)  # mostly it need not wait
    return sData if type(sData) is bytes else _repeat(_ReadData, iFD)


def WriteData(iFD: int, sData: Buffer) -> int:
    """Sends one message and returns its length."""
    count = _WriteData(iFD, sData)
    return count if type(count) is int else _repeat(_WriteData, iFD, sData)


def ReadStart(iFD: int) -> None:
    """Waits for the next message, to read it in pieces: ReadSize, ReadBuffer, ReadEnd."""
    _repeat(_core.ReadStart, iFD)


def ReadSize(iFD: int) -> int:
    """The length of the message."""
    return _repeat(_core.ReadSize, iFD)


def ReadBuffer(iFD: int, n: int = DEFAULT_BUFSIZE) -> bytes:
    """The next piece of the message, at most n bytes; b"" when it is through."""
    return _repeat(_core.ReadBuffer, iFD, n)


def ReadEnd(iFD: int) -> None:
    """Drops what was not read of the message and gives its room back."""
    _repeat(_core.ReadEnd, iFD)


def WriteStart(iFD: int) -> None:
    """Begins a message, to write it in pieces: WriteSize, WriteBuffer, WriteEnd."""
    _repeat(_core.WriteStart, iFD)


def WriteSize(iFD: int, n: int) -> None:
    """Says how long the message will be."""
    _repeat(_core.WriteSize, iFD, n)


def WriteBuffer(iFD: int, sData: Buffer) -> None:
    """Sends the next piece of the message."""
    _repeat(_core.WriteBuffer, iFD, sData)


def WriteEnd(iFD: int) -> None:
    """Ends the message, which the peer sees only now."""
    _repeat(_core.WriteEnd, iFD)


def _open(call: Callable[..., int], cType: int | None, ResourceName: str | None, bBlock: bool | None,
          fSleepFunc: SleepFunction | None, iBufSize: int | None) -> int:
    if fSleepFunc and not callable(fSleepFunc):
        raise TypeError(f"the sleep function is a {type(fSleepFunc).__name__}, not a function")
    iFD = call(cDefaultType if cType is None else cType, ResourceName,
               cDefaultBlocking if bBlock is None else bool(bBlock), DEFAULT_BUFSIZE if iBufSize is None else iBufSize)
    if fSleepFunc:
        _sleep_functions[iFD] = fSleepFunc
    return iFD


def _close(call: Callable[[int], None], iFD: int) -> None:
    """Frees what belongs to a connection, which no thread must be using then."""
    if iFD in _waiting:
        raise Invalid(f"{call.__name__}({iFD}): another thread waits on this connection")
    call(iFD)


def _repeat(call: Callable[..., _Value | Want], iFD: int, *arguments: object) -> _Value:
    """Repeats a call until it need not wait any more; the sleep function runs meanwhile."""
    while isinstance(answer := call(iFD, *arguments), Want):
        if _wait(iFD, answer) and not _sleep(iFD, answer):
            _core.GiveUpConnection(iFD, answer)
    return answer


def _wait(iFD: int, want: Want) -> int:
    """Waits, up to the sleep interval if there is a sleep function; true when it has passed."""
    _waiting.append(iFD)
    try:
        return _core.SleepConnection(iFD, want, iFD in _sleep_functions)
    finally:
        _waiting.remove(iFD)


def _sleep(iFD: int, want: Want) -> bool:
    """Calls the sleep function; False when it ended the wait."""
    try:
        return iFD not in _sleep_functions or _sleep_functions[iFD]() is not False
    except BaseException:
        with suppress(Interrupted):
            _core.GiveUpConnection(iFD, want)
        raise
