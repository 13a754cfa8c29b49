"""Server.serve: all clients at once, one request at a time, in the calling thread.

Every client is a generator that tries to read, lets the handler answer and tries to write.  Where it would have
to wait it yields what for.  It yields None to let the others have their turn.  Taking clients in is one more.
"""
from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from . import _core
from ._core import (
    Closed, Connection, Error, Interrupted, Invalid, NoMemory, Server, System, TimedOut, TooBig, Want)

if TYPE_CHECKING:
    from typing_extensions import Buffer

Handler = Callable[[bytes, Connection], "Buffer | None"]
OnError = Callable[[Exception, Connection], object]
_Task = Generator["Want | None", None, None]
_Value = TypeVar("_Value")

_LATER = Want(0)  # nothing tells when: try again after RETRY seconds
RETRY = 0.01
GRACE = 5.0  # seconds, for answers that are under way when the server ends


def serve(server: Server, handler: Handler, on_error: OnError | None = None) -> None:
    for function, arguments in ((handler, "request, conn"), (on_error or _report, "error, conn")):
        if not callable(function):
            raise TypeError(f"a function of ({arguments}) is needed, not '{type(function).__name__}'")
    _Loop(server, handler, on_error or _report).run()


def _report(error: Exception, conn: Connection) -> None:
    print(f"{conn.address}: the handler failed: {type(error).__name__}: {error}", file=sys.stderr)


def _until_ready(call: Callable[..., _Value | Want], *arguments: Any) -> Generator[Want, None, _Value]:
    while isinstance(answer := call(*arguments), Want):
        yield answer
    return answer


class _Loop:
    def __init__(self, server: Server, handler: Handler, on_error: OnError) -> None:
        self.server, self.handler, self.on_error = server, handler, on_error
        self.waiting = _core.new_set()
        self.tasks: dict[int, tuple[Server | Connection, _Task]] = {}  # by the key of the handle
        self.ready: dict[int, None] = {}  # keys, in order, of those that need not wait
        self.later: list[int] = []  # keys of those that wait for _LATER
        self.writing: set[int] = set()  # keys of those whose answer is under way
        self.ended: float | None = None  # when the server was closed or stopped

    def run(self) -> None:
        self.start(self.server, self.accept())
        accepting = _core.key(self.server)
        try:
            while True:
                for key in list(self.ready):
                    self.step(key)
                if accepting not in self.tasks:
                    self.ended = self.ended or time.monotonic()
                    if not self.writing or time.monotonic() - self.ended > GRACE:
                        return
                self.wait()
        finally:
            for handle, _ in list(self.tasks.values()):
                self.end(handle)

    def start(self, handle: Server | Connection, task: _Task) -> None:
        key = _core.key(handle)
        self.tasks[key] = handle, task
        self.ready[key] = None

    def end(self, handle: Server | Connection) -> None:
        key = _core.key(handle)
        del self.tasks[key]
        self.writing.discard(key)
        self.waiting.remove(handle)
        if handle is not self.server:
            handle.close()

    def step(self, key: int) -> None:
        del self.ready[key]
        handle, task = self.tasks[key]
        try:
            want = next(task)
        except StopIteration:
            self.end(handle)
        else:
            (self.writing.add if want == _core.WANT_WRITE else self.writing.discard)(key)
            if want is None:
                self.ready[key] = None
            elif want is _LATER:
                self.waiting.remove(handle)
                self.later.append(key)
            else:
                self.add(handle, want)

    def add(self, handle: Server | Connection, want: Want) -> None:
        try:
            self.waiting.add(handle, want)
        except Error as error:
            if handle is self.server and not isinstance(error, Invalid):
                raise
            self.end(handle)  # another thread closed it just now, or there is no room for it

    def wait(self) -> None:
        with suppress(TimedOut):
            self.ready[self.waiting.wait(0 if self.ready else RETRY if self.later or self.ended else None)] = None
        while self.later:
            self.ready[self.later.pop()] = None

    def accept(self) -> _Task:
        """Takes clients in until the server is closed or stopped."""
        while True:
            try:
                conn = yield from _until_ready(_core.try_accept, self.server)
            except (Interrupted, Invalid):
                return
            except (System, NoMemory):  # there is no room for the client now: it stays in the queue
                yield _LATER
                continue
            self.start(conn, self.answer(conn))
            yield None

    def answer(self, conn: Connection) -> _Task:
        """Answers one client until it has gone or the handler fails."""
        while True:
            busy = True
            try:
                while isinstance(request := _core.try_read(conn), Want):
                    yield request
                    busy = False
            except TooBig:
                continue
            except Error:  # it has closed, broke the rules, or the handler closed it
                return
            if busy:
                yield None
            try:
                answer = self.handler(request, conn)
                if answer is not None:
                    yield from self.write(conn, answer)
            except Exception as error:
                conn.close()
                self.on_error(error, conn)
                return

    def write(self, conn: Connection, answer: Buffer) -> Generator[Want, None, None]:
        with suppress(Closed):  # what it had sent before is answered to nobody, but not lost
            yield from _until_ready(_core.try_write, conn, answer)
