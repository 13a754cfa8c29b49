"""Server.serve: all clients at once, one request at a time, in the calling thread.

Every client is a generator that tries to read, lets the handler answer and tries to write.  Where it would have
to wait it yields what for.  It yields None to let the others have their turn.  Taking clients in is one more.
"""
from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing, suppress
from inspect import iscoroutinefunction
from traceback import TracebackException
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, Union

from . import _core
from ._core import (
    Closed, Connection, Error, Interrupted, Invalid, NoMemory, Server, System, TimedOut, TooBig, Want)

if TYPE_CHECKING:
    from typing_extensions import Buffer

Handler = Callable[[bytes, Connection], Union["Buffer", None, Generator[object, None, Union["Buffer", None]]]]
OnError = Callable[[Exception, Connection], object]
_Task = Generator["Want | None", None, None]
_Value = TypeVar("_Value")

_STOPPED, _CLOSED = 1, 2  # bits of what server_serve (python.i) tells of the server
_LATER = Want(0)  # nothing tells when: try again after the sleep interval
RETRY = 0.01  # seconds, where there is no room for a client
GRACE = 5.0  # seconds that the clients of a stopped server have to take their last answers


class _Addressed(Protocol):
    @property
    def address(self) -> str: ...


def serve(server: Server, ended: bytearray, handler: Handler, on_error: OnError | None = None) -> None:
    check(handler, on_error)
    if iscoroutinefunction(handler):
        raise TypeError("an async handler needs ipcio.aio")
    _Loop(server, ended, handler, on_error or report).run()


def check(handler: Callable[..., object], on_error: Callable[..., object] | None) -> None:
    for function, arguments in ((handler, "request, conn"), (on_error or report, "error, conn")):
        if not callable(function):
            raise TypeError(f"a function of ({arguments}) is needed, not '{type(function).__name__}'")


def no_answer(answer: object) -> TypeError:
    kind = type(answer).__name__
    remedy = {"str": "; encode it", "coroutine": "; an async handler needs ipcio.aio"}.get(kind, "")
    return TypeError(f"the handler answered a value of type {kind}; bytes or None are needed{remedy}")


def report(error: Exception, conn: _Addressed) -> None:
    """Standard error may be closed, full or None, a pipe whose reader has gone: the server goes on without it."""
    with suppress(Exception):
        if error.__traceback__ is None:  # no handler's, but what a client has done
            sys.stderr.write(f"{error}\n")
            return
        trace = TracebackException.from_exception(error)  # also of an error that cannot be shown
        line = f"{conn.address}: the handler failed: {type(error).__name__}: {trace}\n"
        sys.stderr.write(line + "".join(trace.format()))


def _until_ready(call: Callable[..., _Value | Want], *arguments: Any) -> Generator[Want, None, _Value]:
    while isinstance(answer := call(*arguments), Want):
        yield answer
    return answer


def _slowly(handling: Generator[object, None, _Value]) -> Generator[Want, None, _Value]:
    """Goes on with a handler that yields; others have their turn meanwhile."""
    with closing(handling):
        while True:
            try:
                next(handling)
            except StopIteration as result:
                return result.value  # type: ignore[no-any-return]
            yield _LATER


class _Loop:
    def __init__(self, server: Server, ended: bytearray, handler: Handler, on_error: OnError) -> None:
        self.server, self.ended, self.handler, self.on_error = server, ended, handler, on_error
        self.waiting = _core.new_set()
        self.tasks: dict[int, tuple[Server | Connection, _Task]] = {}  # by the key of the handle
        self.ready: dict[int, None] = {}  # keys, in order, of those that need not wait
        self.later: dict[int, None] = {}  # keys of those that wait for _LATER
        self.due = 0.0  # when they go on
        self.begun: set[int] = set()  # keys of those whose request is being answered
        self.ending: float | None = None  # of a stopped server: when clients that do not take their answers are given up

    def run(self) -> None:
        self.start(self.server, self.accept())
        try:
            while not self.over():
                for key in list(self.ready):
                    self.step(key)
                self.wait()
        finally:
            with ExitStack() as stack:
                for handle, _ in self.tasks.values():
                    stack.callback(self.end, handle)
            if self.ended[0] & _STOPPED:
                with suppress(Error):
                    _core.try_accept(self.server)  # takes the stop: it is not for the next serve

    def over(self) -> bool:
        if not self.ended[0]:
            return False
        self.heed()
        late = self.ending is not None and not self.later and time.monotonic() >= self.ending
        return bool(self.ended[0] & _CLOSED) or not self.tasks or late

    def heed(self) -> None:
        """Of a stopped server only what has begun goes on."""
        if self.ended[0] & _STOPPED and self.ending is None:
            self.ending = time.monotonic() + GRACE
            for key, (handle, _) in list(self.tasks.items()):
                if key not in self.begun:
                    self.end(handle)

    def start(self, handle: Server | Connection, task: _Task) -> None:
        key = _core.key(handle)
        self.tasks[key] = handle, task
        self.ready[key] = None

    def end(self, handle: Server | Connection) -> None:
        key = _core.key(handle)
        _, task = self.tasks.pop(key)
        self.ready.pop(key, None)
        self.later.pop(key, None)
        self.begun.discard(key)
        self.waiting.remove(handle)
        try:
            task.close()  # and with it a handler that has yielded
        finally:
            if handle is not self.server:
                handle.close()

    def step(self, key: int) -> None:
        if key not in self.ready or self.ended[0] & _CLOSED:
            return
        del self.ready[key]
        handle, task = self.tasks[key]
        try:
            want = next(task)
        except StopIteration:
            self.end(handle)
        else:
            if want is None:
                self.ready[key] = None
            elif want is _LATER:
                self.waiting.remove(handle)
                self.due = self.due if self.later else time.monotonic() + _core.SleepInterval(0) / 1000
                self.later[key] = None
            else:
                self.add(handle, want)
        self.heed()

    def add(self, handle: Server | Connection, want: Want) -> None:
        try:
            self.waiting.add(handle, want)
        except Error as error:
            if handle is self.server and not isinstance(error, Invalid):
                raise
            self.end(handle)  # another thread closed it just now, or there is no room for it

    def wait(self) -> None:
        with suppress(TimedOut):
            self.ready[self.waiting.wait(self.leisure())] = None
        if self.later and time.monotonic() >= self.due:
            self.ready.update(self.later)
            self.later.clear()
            if self.ending is not None:
                self.ending = time.monotonic() + GRACE  # handlers may take their time

    def leisure(self) -> float | None:
        """How long nothing needs to be done but for what is ready."""
        if self.ready:
            return 0
        if self.ended[0]:
            return RETRY  # nothing tells that a stopped server is closed
        return max(0, self.due - time.monotonic()) if self.later else None

    def accept(self) -> _Task:
        """Takes clients in until the server is stopped or closed."""
        while True:
            try:
                conn = yield from _until_ready(_core.try_accept, self.server)
            except Interrupted:
                self.server.stop()  # it was before this serve
                return
            except Invalid:
                self.ended[0] |= _CLOSED
                return
            except (System, NoMemory):  # there is no room for the client now: it stays in the queue
                yield _LATER
                continue
            self.start(conn, self.answer(conn))
            yield None

    def answer(self, conn: Connection) -> _Task:
        """Answers one client until it has gone, the handler fails or the server ends."""
        key = _core.key(conn)
        while not self.ended[0]:
            busy = True
            try:
                while isinstance(request := _core.try_read(conn), Want):
                    yield request
                    busy = False
            except TooBig as error:  # it was dropped, and the client goes on
                self.on_error(error.with_traceback(None), conn)
                yield None
                continue
            except (Closed, Invalid):  # the client has closed, or the handler has closed it
                return
            except Error as error:
                conn.close()
                self.on_error(error.with_traceback(None), conn)
                return
            if busy:
                yield None
            self.begun.add(key)
            try:
                answer = self.handler(request, conn)
                if isinstance(answer, Generator):
                    answer = yield from _slowly(answer)
                if answer is not None:
                    yield from self.write(conn, answer)
            except Exception as error:
                conn.close()
                self.on_error(error, conn)
                return
            self.begun.discard(key)

    def write(self, conn: Connection, answer: Buffer) -> Generator[Want, None, None]:
        try:
            yield from _until_ready(_core.try_write, conn, answer)
        except Closed:
            pass  # what it had sent before is answered to nobody, but not lost
        except TypeError:
            raise no_answer(answer) from None
