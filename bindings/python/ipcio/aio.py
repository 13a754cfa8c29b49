"""The calls of ipcio for asyncio.

    import asyncio
    from ipcio import aio

    async def greet(request, conn):                                      # a server
        return b"hello " + request

    asyncio.run(aio.serve("pipe://greeter", greet))

    async with aio.connect("pipe://greeter", timeout=5) as conn:         # a client
        print(await conn.call(b"world", timeout=1))

Names, arguments and errors are those of ipcio.  No thread waits: the event loop does.  An object belongs to the loop that
it first waited in, and is used in that loop's thread; only Server.stop may be called from elsewhere.

A task that is cancelled while it waits gives its call up: a write takes its message back, the late answer to a call is
dropped, and the connection stays usable.  A message that a read has taken is never lost that way.

Only looking up a host name blocks the loop, and over file a folder that is slow to answer; threads go on.
"""
from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import suppress
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, TypeVar, Union

from . import _core, _query
from ._core import WANT_READ, WANT_WRITE, Closed, Error, Interrupted, Invalid, NoMemory, Peer, System, TooBig, Want
from ._serve import GRACE, RETRY, check, no_answer, report

if TYPE_CHECKING:
    from types import TracebackType

    from _typeshed import FileDescriptorLike
    from typing_extensions import Buffer, Self

__all__ = ["connect", "Connection", "Handler", "listen", "OnError", "serve", "Server"]

Handler = Callable[[bytes, "Connection"], Union["Buffer", None, Awaitable[Union["Buffer", None]]]]
OnError = Callable[[Exception, "Connection"], object]
_Value = TypeVar("_Value")

FAIR = 64  # calls of a connection that need not wait, then other tasks have their turn
LONGEST_PAUSE = 0.05  # seconds, where nothing tells of a server that appears


class _Hub:
    """Waits for all that can be read in an event loop: a set, whose descriptor the loop watches."""

    def __init__(self, loop: asyncio.AbstractEventLoop, waits: _core.Set) -> None:
        self.loop = loop
        self.set = waits
        self.waiting: dict[int, _Handle] = {}  # what is in the set, by key
        self.kept: list[_Hub] = []  # by the loop, while anybody waits: nobody else need refer to a task that does
        loop.add_reader(waits.fileno(), _look, self.kept)

    def __del__(self) -> None:
        if not self.loop.is_closed():
            self.loop.remove_reader(self.set.fileno())

    def enter(self, handle: _Handle) -> None:
        self.set.add(handle._handle, WANT_READ)
        self.waiting[_core.key(handle._handle)] = handle
        self.kept[:] = [self]
        if not isinstance(self.set.try_wait(), Want):  # from here on its descriptor tells of all
            self.loop.call_soon(_look, self.kept)

    def leave(self, handle: _Handle) -> None:
        self.set.remove(handle._handle)
        self.waiting.pop(_core.key(handle._handle), None)
        if not self.waiting:
            self.kept.clear()


def _look(kept: list[_Hub]) -> None:
    """Wakes those who wait for what is ready."""
    for hub in list(kept):
        while hub.waiting and not isinstance(key := hub.set.try_wait(), Want):
            hub.waiting[key]._wake(WANT_READ)


# Those of the loops that have handles, which keep them.
_hubs: weakref.WeakValueDictionary[asyncio.AbstractEventLoop, _Hub] = weakref.WeakValueDictionary()


class _Handle:
    """What connections and servers have in common: a call is tried, and where it would have to wait repeated when its
    handle is ready.  Only the task itself tries, so that no message is lost when it is cancelled."""

    _handle: _core.Connection | _core.Server

    def __init__(self, handle: _core.Connection | _core.Server) -> None:
        self._handle = handle
        self._hub: _Hub | None = None
        self._busy = 0  # the sides (WANT_...) on which a call runs
        self._turns = 0  # calls in a row that did not wait
        self._waiting: dict[int, list[asyncio.Future[None]]] = {WANT_READ: [], WANT_WRITE: []}
        self._writer = -1  # the descriptor that the loop watches for writing
        self._closed = False

    def __repr__(self) -> str:
        return f"<ipcio.aio.{type(self).__name__} {self._handle.address}>"

    @property
    def address(self) -> str:
        """The address, with what the system chose filled in."""
        return self._handle.address

    def fileno(self) -> int:
        """A descriptor that is readable exactly when a read, or an accept, would not wait; level-triggered."""
        return self._handle.fileno()

    def close(self) -> None:
        """Ends it; tasks that wait get Invalid."""
        for want, waiting in self._waiting.items():
            if waiting:
                self._wake(want)
        self._hub = None
        self._closed = True
        self._handle.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, type: type[BaseException] | None, value: BaseException | None,
                        traceback: TracebackType | None, /) -> None:
        self.close()

    async def _repeat(self, side: int, timeout: float | None, call: Callable[..., _Value | Want],
                      *arguments: object) -> _Value:
        if self._busy & side:
            raise Invalid(f"{self.address}: another call in this direction is running")
        if timeout is not None:
            timeout = _core.seconds(timeout)
        self._busy |= side
        try:
            self._turns += 1
            if self._turns > FAIR:
                self._turns = 0
                await asyncio.sleep(0)
            answer = call(self._handle, *arguments)
            if isinstance(answer, Want):
                self._turns = 0
                deadline = None if timeout is None else time.monotonic() + timeout
                while isinstance(answer, Want):
                    left = None if deadline is None else deadline - time.monotonic()
                    if left is not None and left <= 0:
                        _core.give_up(self._handle, answer, timeout)  # raises TimedOut
                    await self._wait(answer, left)
                    answer = call(self._handle, *arguments)
            return answer
        finally:
            self._busy &= ~side

    async def _wait(self, want: Want, seconds: float | None) -> None:
        """Waits until a call is worth repeating, or the time is over."""
        loop = asyncio.get_running_loop()
        future, timer = loop.create_future(), None
        try:
            self._watch(loop, want, future)
            if seconds is not None:
                timer = loop.call_later(seconds, _finish, future)
            await future
        except BaseException:
            with suppress(Error):  # says that it is given up
                _core.give_up(self._handle, want, None)
            raise
        finally:
            if timer:
                timer.cancel()
            waiting = self._waiting[want]
            if future in waiting:
                waiting.remove(future)
                if not waiting:
                    self._unwatch(want)

    def _watch(self, loop: asyncio.AbstractEventLoop, want: int, future: asyncio.Future[None]) -> None:
        if self._hub is None or self._hub.loop.is_closed():
            self._hub = _hubs.get(loop) or _hubs.setdefault(loop, _Hub(loop, _core.new_set()))
        elif self._hub.loop is not loop:
            raise Invalid(f"{self.address}: it belongs to another event loop")
        if not self._waiting[want]:
            self._enter(self._hub, want)
        self._waiting[want].append(future)

    def _enter(self, hub: _Hub, want: int) -> None:
        if want == WANT_READ:
            hub.enter(self)
        else:
            assert isinstance(self._handle, _core.Connection)
            self._writer = self._handle.write_fileno()
            hub.loop.add_writer(self._writer, self._wake, want)

    def _unwatch(self, want: int) -> None:
        if self._hub is None:
            return
        if want == WANT_READ:
            self._hub.leave(self)
        elif not self._hub.loop.is_closed():
            self._hub.loop.remove_writer(self._writer)

    def _wake(self, want: int) -> None:
        self._unwatch(want)
        for future in self._waiting[want]:
            _finish(future)
        self._waiting[want].clear()


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class _Connecting(_Handle):
    """A connection that is not one yet."""

    pause = 0.0005

    async def _wait(self, want: Want, seconds: float | None) -> None:
        self.pause = min(2 * self.pause, LONGEST_PAUSE)
        await super()._wait(want, self.pause if seconds is None else min(seconds, self.pause))

    def _enter(self, hub: _Hub, want: int) -> None:
        with suppress(Invalid):  # there is nothing to wait for but the pause
            super()._enter(hub, want)


class Connection(_Handle):
    """A connection: messages to and from one peer.  Made by connect and Server.accept."""

    # What is written is held by a view: the same bytes at the same place in every try, and only until the call ends.

    _handle: _core.Connection

    @property
    def peer(self) -> Peer:
        """Who is at the other end."""
        return self._handle.peer

    @property
    def sender(self) -> str:
        """The address of who wrote the message that was read last, where a connection has many peers (udp)."""
        return self._handle.sender

    def write_fileno(self) -> int:
        """A descriptor that is writable exactly when a write would not wait; level-triggered."""
        return self._handle.write_fileno()

    async def read(self, timeout: float | None = None) -> bytes:
        """Waits for the next message and returns it."""
        return await self._repeat(WANT_READ, timeout, _core.try_read)

    async def write(self, data: Buffer, timeout: float | None = None) -> None:
        """Sends one message: bytes, or any object with a buffer, which must not change meanwhile."""
        with memoryview(data) as held:
            await self._repeat(WANT_WRITE, timeout, _core.try_write, held)

    async def call(self, data: Buffer, timeout: float | None = None) -> bytes:
        """Writes a message and returns the next one, under one deadline."""
        with memoryview(data) as held:
            return await self._repeat(WANT_READ | WANT_WRITE, timeout, _core.try_call, held)

    async def send_file(self, file: FileDescriptorLike, data: Buffer = b"", timeout: float | None = None) -> None:
        """Passes an open file with a message: a descriptor, or an object with fileno(), which stays open here."""
        with memoryview(data) as held:
            await self._repeat(WANT_WRITE, timeout, _core.try_send_file, file, held)

    def take_file(self) -> int:
        """Returns the file that came with the message that was read last: a descriptor, which is the caller's to
        close."""
        return self._handle.take_file()

    async def read_start(self, timeout: float | None = None) -> int:
        """Waits for the next message and returns its length; read_buffer gives its pieces."""
        return await self._repeat(WANT_READ, timeout, _core.try_read_start)

    async def read_buffer(self, n: int, /, timeout: float | None = None) -> bytes:
        """Returns the next piece of the message, at most n bytes; b'' when the message is through."""
        return await self._repeat(WANT_READ, timeout, _core.try_read_buffer, n)

    async def read_end(self, timeout: float | None = None) -> None:
        """Drops what was not read of the message and gives its room back."""
        await self._repeat(WANT_READ, timeout, _core.try_read_end)

    async def read_view(self, timeout: float | None = None) -> memoryview:
        """Waits for the next message and returns a memoryview of it, which the next reading call ends."""
        return await self._repeat(WANT_READ, timeout, _core.try_read_view)

    async def write_start(self, length: int, /, timeout: float | None = None) -> None:
        """Begins a message of this length; write_buffer takes its pieces."""
        await self._repeat(WANT_WRITE, timeout, _core.try_write_start, length)

    async def write_buffer(self, data: Buffer, /, timeout: float | None = None) -> None:
        """Sends the next piece of the message."""
        with memoryview(data) as held:
            await self._repeat(WANT_WRITE, timeout, _core.try_write_buffer, held)

    async def write_end(self, timeout: float | None = None) -> None:
        """Ends the message, which the peer sees only now; too early an end gives the message up."""
        await self._repeat(WANT_WRITE, timeout, _core.try_write_end)

    async def write_view(self, length: int, /, timeout: float | None = None) -> memoryview:
        """Returns a memoryview of room for a message of this length; write_end ends the view and sends the message."""
        return await self._repeat(WANT_WRITE, timeout, _core.try_write_view, length)

    def messages(self) -> Self:
        """An iterator over the messages, for async for; it ends when the peer has closed."""
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self.read()
        except Closed:
            raise StopAsyncIteration from None


class Server(_Handle):
    """A server: it has a name and accepts clients.  Made by listen."""

    _handle: _core.Server
    _serving: _Serving | None = None

    def accept(self, timeout: float | None = None) -> _Opening[Connection]:
        """Waits for the next client: conn = await server.accept(), or async with server.accept() as conn."""
        return _Opening(self._accept(timeout))

    async def _accept(self, timeout: float | None) -> Connection:
        return Connection(await self._repeat(WANT_READ, timeout, _core.try_accept))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Connection:
        """Client after client, until the server is stopped or closed."""
        try:
            return await self.accept()
        except Interrupted:
            raise StopAsyncIteration from None
        except Invalid:
            if not self._closed:
                raise
            raise StopAsyncIteration from None

    async def serve(self, handler: Handler, on_error: OnError | None = None) -> None:
        """Answers all clients until the server is stopped or closed.

        handler(request, conn) returns the answer, or None; it may be async.  The requests of a client are handled one
        after the other, those of different clients side by side where handlers wait.  An error in it closes that
        client, and goes to on_error(error, conn), which may be async too, or with its traceback to standard error.
        """
        check(handler, on_error)
        if self._serving:
            raise Invalid(f"{self.address}: it is being served already")
        self._serving = _Serving(self, handler, on_error or report)
        try:
            await self._serving.run()
        finally:
            if self._serving.stopping and not self._serving.stopped:
                with suppress(Error):  # takes the stop: it is not for the next serve
                    _core.try_accept(self._handle)
            self._serving = None

    def stop(self) -> None:
        """Ends a running serve, or the next one, gracefully; the name and the queue of clients stay.

        No other client is accepted and no other request begun.  Handlers that run are finished, and what they answer
        is sent, where a client takes longer than 5 s for that it is given up.  Then serve closes its connections and
        returns.  Who waits in accept gets Interrupted.  May be called from any thread and from a signal handler.
        """
        serving = self._serving  # which another thread may end just now
        if serving:
            if serving.stopping:
                return
            serving.stopping = True
        self._handle.stop()

    def close(self) -> None:
        """Gives the name back.  A running serve ends at once: it cancels its handlers and closes its connections."""
        super().close()
        if self._serving:
            self._serving.end()


class _Serving:
    """A running serve: a task that takes clients in, and one for each client."""

    def __init__(self, server: Server, handler: Handler, on_error: OnError) -> None:
        self.server, self.handler, self.on_error = server, handler, on_error
        self.loop = asyncio.get_running_loop()
        self.ended = self.loop.create_future()
        self.tasks: dict[asyncio.Task[None], str] = {}  # and what each is doing
        self.stopping = False  # no other request is begun
        self.stopped = False  # accept was told so

    async def run(self) -> None:
        self.start(self.accept(), "accepting")
        try:
            await self.ended
        finally:
            for task in self.tasks:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)

    def end(self) -> None:
        _finish(self.ended)

    def start(self, coroutine: Coroutine[Any, Any, None], doing: str) -> None:
        task = self.loop.create_task(coroutine)
        self.tasks[task] = doing
        task.add_done_callback(self.done)

    def done(self, task: asyncio.Task[None]) -> None:
        del self.tasks[task]
        error = None if task.cancelled() else task.exception()
        if error and not self.ended.done():
            self.ended.set_exception(error)
        elif not self.tasks:
            self.end()

    async def accept(self) -> None:
        """Takes clients in until the server is stopped or closed."""
        while True:
            try:
                conn = await self.server.accept()
            except Interrupted:
                self.stopped = True
                return self.stop()
            except Invalid:
                return self.end()
            except (System, NoMemory):  # there is no room for the client now: it stays in the queue
                await asyncio.sleep(RETRY)
            else:
                self.start(self.answer(conn), "reading")

    def stop(self) -> None:
        self.stopping = True
        for task in self.tasks:
            self.hurry(task)

    def hurry(self, task: asyncio.Task[None]) -> None:
        if self.tasks[task] == "reading":
            task.cancel()
        elif self.tasks[task] == "writing":
            self.loop.call_later(GRACE, task.cancel)

    async def answer(self, conn: Connection) -> None:
        """Answers one client until it has gone or the handler fails."""
        task = asyncio.current_task()
        assert task
        async with conn:
            while not self.stopping and not self.ended.done():
                try:
                    request = await conn.read()
                except TooBig as error:  # it was dropped, and the client goes on
                    await self.report(error.with_traceback(None), conn)
                    self.tasks[task] = "reading"
                    continue
                except (Closed, Invalid):  # the client has closed, or the handler has closed it
                    return
                except Error as error:
                    conn.close()
                    return await self.report(error.with_traceback(None), conn)
                if self.stopping:
                    return
                self.tasks[task] = "handling"
                try:
                    answer = self.handler(request, conn)
                    if isawaitable(answer):
                        answer = await answer
                    if answer is not None:
                        self.tasks[task] = "writing"
                        if self.stopping:
                            self.hurry(task)
                        try:
                            await conn.write(answer)
                        except Closed:
                            pass  # what it had sent before is answered to nobody, but not lost
                        except TypeError:
                            raise no_answer(answer) from None
                except Exception as error:
                    conn.close()
                    return await self.report(error, conn)
                self.tasks[task] = "reading"

    async def report(self, error: Exception, conn: Connection) -> None:
        task = asyncio.current_task()
        assert task
        self.tasks[task] = "handling"
        reported = self.on_error(error, conn)
        if isawaitable(reported):
            await reported


_Opened = TypeVar("_Opened", bound=_Handle)


class _Opening(Coroutine[Any, Any, _Opened]):
    """A handle to come: a coroutine, that async with waits for too."""

    def __init__(self, opening: Coroutine[Any, Any, _Opened]) -> None:
        self._opening = opening

    def __await__(self) -> Generator[Any, Any, _Opened]:
        return self._opening.__await__()

    def send(self, value: Any) -> Any:
        return self._opening.send(value)

    def throw(self, *error: Any) -> Any:
        return self._opening.throw(*error)

    def close(self) -> None:
        self._opening.close()

    async def __aenter__(self) -> _Opened:
        self._opened = await self._opening
        return self._opened

    async def __aexit__(self, type: type[BaseException] | None, value: BaseException | None,
                        traceback: TracebackType | None, /) -> None:
        self._opened.close()


def listen(address: str, **options: object) -> Server:
    """Takes the name and begins to listen: server = aio.listen(...), or async with aio.listen(...) as server."""
    return Server(_core.listen(address, _query(options)))


def connect(address: str, timeout: float | None = None, **options: object) -> _Opening[Connection]:
    """Connects, waiting for the server to appear if need be: conn = await aio.connect(...), or async with
    aio.connect(...) as conn."""
    return _Opening(_connect(address, timeout, _query(options)))


async def _connect(address: str, timeout: float | None, options: str) -> Connection:
    if timeout is not None:
        timeout = _core.seconds(timeout)
    if timeout == 0:
        return Connection(_core.connect(address, options, timeout))
    handle, want = _core.try_connect(address, options, None)
    try:
        if want:
            await _Connecting(handle)._repeat(WANT_READ | WANT_WRITE, timeout, _go_on_connecting, address, options)
    except BaseException:
        handle.close()  # the traceback may hold it for long, and a server would take it for a client
        raise
    return Connection(handle)


def _go_on_connecting(handle: _core.Connection, address: str, options: str) -> Want | None:
    return _core.try_connect(address, options, handle)[1]


async def serve(address: str, handler: Handler, on_error: OnError | None = None, **options: object) -> None:
    """Listens and answers all clients; see Server.serve."""
    async with listen(address, **options) as server:
        await server.serve(handler, on_error)
