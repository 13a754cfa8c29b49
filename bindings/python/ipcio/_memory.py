"""Memory that other processes read."""
from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from . import _core

if TYPE_CHECKING:
    from typing_extensions import Buffer, Self


class Memory:
    """A buffer that other processes of this user can read, and what they need for that: pid, address, size.

    It is kept where it is: until close a bytearray cannot change its length."""

    __slots__ = ("pid", "address", "size", "_view")

    def __init__(self, data: Buffer) -> None:
        self._view = memoryview(data)
        self.pid, self.address = _core.export_memory(self._view)
        self.size = self._view.nbytes

    def __repr__(self) -> str:
        return f"<ipcio.Memory {self.size} bytes at {self.address:#x} of process {self.pid}>"

    def close(self) -> None:
        """Lets the buffer go; others can still read what is at its address then."""
        self._view.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, type: type[BaseException] | None, value: BaseException | None,
                 traceback: TracebackType | None, /) -> None:
        self.close()


def export_memory(data: Buffer) -> Memory:
    """Lets other processes of this user read the buffer, and all other memory of this process."""
    return Memory(data)
