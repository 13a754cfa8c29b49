"""Scripts on one machine exchange data and take turns.

    import ipcio

    ipcio.serve("pipe://greeter", lambda request, conn: b"hello " + request)      # a server

    with ipcio.connect("pipe://greeter", timeout=5) as conn:                      # a client
        print(conn.call(b"world", timeout=1))

Data is bytes, or any object with a buffer.  A timeout is in seconds; None waits for ever and 0 tries once.
Options stand in the address ("pipe://greeter?limit=1000") or are given as keywords.
"""
from __future__ import annotations

from ._autoit import (
    CloseConnection, EndConnection, InitConnection, OpenConnection, ReadBuffer, ReadData, ReadEnd, ReadSize, ReadStart,
    StartConnection, StopConnection, WriteBuffer, WriteData, WriteEnd, WriteSize, WriteStart, cDefaultBlocking)
from ._core import (
    DEFAULT_BUFSIZE, VERSION, Aborted, Closed, Connection, Deadlock, Denied, Error, Exists, Forked, Full, Interrupted,
    Invalid, Missing, NoMemory, NotOwner, Orphaned, Peer, ProtocolError, Server, SleepInterval, System, TimedOut,
    TooBig, Unsupported, cDefaultType, cFile, cMailSlot, cNamedPipe, cSharedMem, cTCP, read_memory, transports)
from . import _core
from ._memory import Memory, export_memory
from ._serve import Handler, OnError

__all__ = [
    "__version__", "Aborted", "cDefaultBlocking", "cDefaultType", "cFile", "CloseConnection", "Closed", "cMailSlot",
    "cNamedPipe", "connect", "Connection", "cSharedMem", "cTCP", "Deadlock", "DEFAULT_BUFSIZE", "Denied",
    "EndConnection", "Error", "Exists", "export_memory", "Forked", "Full", "Handler", "InitConnection", "Interrupted",
    "Invalid", "listen", "Memory", "Missing", "NoMemory", "NotOwner", "OnError", "OpenConnection", "Orphaned", "Peer",
    "ProtocolError", "ReadBuffer", "ReadData", "ReadEnd", "read_memory", "ReadSize", "ReadStart", "serve", "Server",
    "SleepInterval", "StartConnection", "StopConnection", "System", "TimedOut", "TooBig", "transports", "Unsupported",
    "VERSION", "WriteBuffer", "WriteData", "WriteEnd", "WriteSize", "WriteStart"]

__version__ = VERSION


def listen(address: str, **options: object) -> Server:
    """Takes the name and begins to listen."""
    return _core.listen(address, _query(options))


def connect(address: str, timeout: float | None = None, **options: object) -> Connection:
    """Connects, waiting for the server to appear if need be."""
    return _core.connect(address, _query(options), timeout)


def serve(address: str, handler: Handler, on_error: OnError | None = None, **options: object) -> None:
    """Listens and answers all clients; see Server.serve."""
    with listen(address, **options) as server:
        server.serve(handler, on_error)


_ESCAPES = str.maketrans({"%": "%25", "&": "%26", "=": "%3D"})


def _query(options: dict[str, object]) -> str:
    """Keywords in the form that options have in an address."""
    return "&".join(f"{_text(name)}={_text(value)}" for name, value in options.items() if value is not None)


def _text(value: object) -> str:
    return str(int(value) if isinstance(value, bool) else value).translate(_ESCAPES)
