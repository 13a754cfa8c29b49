"""serve: many clients, errors of handlers, all the ways to end."""
import queue
import socket
import sys
import threading
import weakref
from contextlib import nullcontext

import ipcio
import pytest


@pytest.fixture
def server(address):
    with ipcio.listen(address) as server:
        yield server


@pytest.fixture
def client(server):
    """Makes clients of the server, which another thread serves."""
    made = []

    def make():
        made.append(ipcio.connect(server.address, 10))
        return made[-1]

    yield make
    for conn in made:
        conn.close()


def test_clients_of_other_processes(script, server, in_thread):
    code = """
        with ipcio.connect(arguments[0], 10) as conn:
            for i in range(100):
                answer = conn.call(f"{arguments[1]} {i}".encode(), 10)
                assert answer == f"hello {arguments[1]} {i}".encode(), answer
        """
    clients = [script(code, server.address, number) for number in range(3)]
    serving = in_thread(server.serve, lambda request, conn: b"hello " + request)
    for client in clients:
        client.finish()
    server.stop()
    serving.result()


def test_the_module_serves_an_address(script, address):
    server = script("""
        def answer(request, conn):
            if request == b"end":
                raise SystemExit
            return b"hello " + request
        ipcio.serve(arguments[0], answer, limit=1000)
        """, address)
    with ipcio.connect(address, 10) as conn:
        assert conn.call(b"world", 10) == b"hello world"
        with pytest.raises(ipcio.TooBig):
            conn.write(bytes(1001))
        conn.write(b"end")
        with pytest.raises(ipcio.Closed):
            conn.read(10)
    assert server.finish() == []
    with pytest.raises(ipcio.Missing):
        ipcio.connect(address, 0)


def test_what_a_client_does_wrong_is_told(capsys, in_thread):
    with ipcio.listen("tcp://127.0.0.1:0", framing="line", limit=10) as server:
        serving = in_thread(server.serve, lambda request, conn: request)
        with socket.create_connection(("127.0.0.1", int(server.address.rpartition(":")[2]))) as client:
            client.sendall(b"this is too long\nshort\n")  # the client goes on
            assert client.recv(100) == b"short\n"
        server.stop()
        serving.result()
        client = ipcio.connect(server.address, 10, framing="line")
        client.write(b"hello")
        client.close()  # and the system does not know any more whose it was
        with pytest.raises(ipcio.TimedOut, match="access=all"):
            server.accept(0)
        assert capsys.readouterr().err == \
            f"{server.address}: a message of 16 bytes came and was dropped; the limit is 10\n"


def test_the_handler_gets_the_connection(server, client, in_thread):
    serving = in_thread(server.serve, lambda request, conn: f"{type(conn).__name__} {conn.address}".encode())
    assert client().call(b"", 10) == f"Connection {server.address}".encode()
    server.stop()
    serving.result()


def test_a_handler_keeps_what_it_knows_of_each_client(server, client, in_thread):
    asked = weakref.WeakKeyDictionary()

    def handler(request, conn):
        asked[conn] = asked.get(conn, b"") + request
        return asked[conn]

    serving = in_thread(server.serve, handler)
    one, other = client(), client()
    assert [conn.call(request, 10) for conn, request in ((one, b"a"), (other, b"x"), (one, b"b"), (other, b"y"))] == \
        [b"a", b"x", b"ab", b"xy"]
    server.stop()
    serving.result()
    assert not asked


def test_none_is_no_answer(server, client, in_thread):
    serving = in_thread(server.serve, lambda request, conn: request if request != b"silence" else None)
    conn = client()
    conn.write(b"silence")
    assert conn.call(b"speech", 10) == b"speech"
    server.stop()
    serving.result()


def test_an_empty_answer_is_an_answer(server, client, in_thread):
    serving = in_thread(server.serve, lambda request, conn: b"")
    assert client().call(b"x", 10) == b""
    server.stop()
    serving.result()


def test_a_handler_may_write_by_itself(server, client, in_thread):
    def handler(request, conn):
        conn.write(b"1")
        conn.write(b"2")
        return b"3"

    serving = in_thread(server.serve, handler)
    conn = client()
    conn.write(b"x")
    assert [conn.read(10) for _ in range(3)] == [b"1", b"2", b"3"]
    server.stop()
    serving.result()


def test_any_buffer_is_an_answer(server, client, in_thread):
    serving = in_thread(server.serve, lambda request, conn: memoryview(bytearray(request)))
    assert client().call(b"x" * 100_000, 10) == b"x" * 100_000
    server.stop()
    serving.result()


@pytest.mark.parametrize("wrong", ["text", 1, True, object(), bytes(1001)],
                         ids=["str", "int", "bool", "object", "too big"])
def test_what_is_no_answer_is_a_handlers_error(address, in_thread, wrong):
    errors = []
    with ipcio.listen(address, limit=1000) as server:
        serving = in_thread(server.serve, lambda request, conn: wrong, lambda error, conn: errors.append(error))
        with ipcio.connect(address, 10) as conn, pytest.raises(ipcio.Closed):
            conn.call(b"x", 10)
        server.stop()
        serving.result()
    assert [type(error) for error in errors] == [ipcio.TooBig if isinstance(wrong, bytes) else TypeError]
    if not isinstance(wrong, bytes):
        assert f"answered a value of type {type(wrong).__name__}; bytes or None are needed" in str(errors[0])


async def answer_later():
    pass


@pytest.mark.parametrize("answer, remedy", [(lambda: "text", "encode it"), (answer_later, "needs ipcio.aio")])
@pytest.mark.filterwarnings("ignore:coroutine")
def test_an_answer_that_is_nearly_one(server, client, in_thread, answer, remedy):
    errors = []
    serving = in_thread(server.serve, lambda request, conn: answer(), lambda error, conn: errors.append(str(error)))
    with pytest.raises(ipcio.Closed):
        client().call(b"x", 10)
    server.stop()
    serving.result()
    assert [error.endswith(remedy) for error in errors] == [True]


def test_a_handlers_error_closes_that_client_only(server, client, in_thread):
    errors = []

    def handler(request, conn):
        if request == b"fail":
            raise ValueError("it failed")
        return request

    serving = in_thread(server.serve, handler, lambda error, conn: errors.append((error, conn)))
    good, bad = client(), client()
    assert good.call(b"1", 10) == b"1"
    with pytest.raises(ipcio.Closed):
        bad.call(b"fail", 10)
    assert good.call(b"2", 10) == b"2"
    assert client().call(b"3", 10) == b"3"
    server.stop()
    serving.result()
    (error, conn), = errors
    assert isinstance(error, ValueError) and str(error) == "it failed"
    with pytest.raises(ipcio.Invalid):
        conn.read(0)


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("in __str__")


@pytest.mark.parametrize("error, text", [(ValueError, "ValueError: it failed"),
                                         (Unspeakable, "Unspeakable: <")])
def test_without_on_error_it_is_told_where_the_handler_failed(server, client, in_thread, capfd, error, text):
    def handler(request, conn):
        raise error("it failed")

    serving = in_thread(server.serve, handler)
    with pytest.raises(ipcio.Closed):
        client().call(b"x", 10)
    server.stop()
    serving.result()
    first, second, *trace = capfd.readouterr().err.splitlines()
    assert first.startswith(f"{server.address}: the handler failed: {text}")
    assert second == "Traceback (most recent call last):"
    assert f'  File "{__file__}", line {handler.__code__.co_firstlineno + 1}, in handler' in trace


def test_without_a_standard_error_serve_goes_on(server, client, in_thread, no_stderr, monkeypatch, capfd):
    monkeypatch.setattr(sys, "stderr", no_stderr)

    def handler(request, conn):
        return request if request else 1 // 0

    serving = in_thread(server.serve, handler)
    good, bad = client(), client()
    with pytest.raises(ipcio.Closed):
        bad.call(b"", 10)
    assert good.call(b"x", 10) == b"x"
    server.stop()
    serving.result()
    assert capfd.readouterr() == ("", "")


def test_an_error_in_on_error_ends_serve(server, client, in_thread):
    def on_error(error, conn):
        raise error

    serving = in_thread(server.serve, lambda request, conn: 1 // 0, on_error)
    first, second = client(), client()
    with pytest.raises(ipcio.Closed):
        first.call(b"x", 10)
    with pytest.raises(ZeroDivisionError):
        serving.result()
    with pytest.raises(ipcio.Closed):
        second.read(10)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_is_no_exception_ends_serve(server, client, in_thread, error):
    def handler(request, conn):
        raise error

    serving = in_thread(server.serve, handler)
    with pytest.raises(ipcio.Closed):
        client().call(b"x", 10)
    with pytest.raises(error):
        serving.result()


def test_a_client_that_closes_is_forgotten(server, client, in_thread):
    serving = in_thread(server.serve, lambda request, conn: request)
    for _ in range(20):
        conn = client()
        assert conn.call(b"x", 10) == b"x"
        conn.close()
    assert client().call(b"y", 10) == b"y"
    server.stop()
    serving.result()


def test_a_client_that_does_not_read_holds_nobody_up(server, client, in_thread):
    serving = in_thread(server.serve, lambda request, conn: bytes(8 << 20) if request == b"much" else request)
    lazy, other = client(), client()
    lazy.write(b"much")
    for _ in range(10):
        assert other.call(b"x", 10) == b"x"
    assert len(lazy.read(30)) == 8 << 20
    server.stop()
    serving.result()


def test_another_thread_cannot_write_into_an_answer(server, client, in_thread):
    served = queue.Queue()
    serving = in_thread(server.serve, lambda request, conn: served.put(conn) or b"x" * (8 << 20))
    lazy = client()
    lazy.write(b"")
    conn = served.get()
    refused = False
    while not refused:
        try:
            conn.write_end(0)
        except ipcio.Invalid as error:
            assert "closed" not in str(error)
            refused = "another call" in str(error)
    with pytest.raises(ipcio.Invalid):
        conn.write(b"y" * (8 << 20))
    assert lazy.read(30) == b"x" * (8 << 20)
    server.stop()
    serving.result()


def test_a_busy_client_leaves_others_their_turn(server, client, in_thread):
    serving = in_thread(server.serve, lambda request, conn: None if request == b"busy" else request)
    busy, other, done = client(), client(), threading.Event()

    def keep_busy():
        while not done.is_set():
            busy.write(b"busy")

    flood = in_thread(keep_busy)
    for _ in range(10):
        assert other.call(b"x", 30) == b"x"
    done.set()
    flood.result()
    server.stop()
    serving.result()


def test_stop_in_a_handler(server, client, in_thread):
    def handler(request, conn):
        server.stop()
        return b"last"

    serving = in_thread(server.serve, handler)
    assert client().call(b"x", 10) == b"last"
    serving.result()
    serving = in_thread(server.serve, lambda request, conn: b"again")  # the name stayed
    assert client().call(b"x", 10) == b"again"
    server.stop()
    serving.result()


def test_stop_before_serve(server):
    server.stop()
    server.serve(lambda request, conn: None)


def test_stop_keeps_the_queue_of_clients(server, client, in_thread):
    server.stop()
    conn = client()
    conn.write(b"x")
    server.serve(lambda request, conn: request)
    serving = in_thread(server.serve, lambda request, conn: request)
    assert conn.read(10) == b"x"
    server.stop()
    serving.result()


def test_the_end_closes_all_clients(server, client, in_thread):
    serving = in_thread(server.serve, lambda request, conn: request)
    clients = [client() for _ in range(5)]
    for conn in clients:
        assert conn.call(b"x", 10) == b"x"
    server.stop()
    serving.result()
    for conn in clients:
        with pytest.raises(ipcio.Closed):
            conn.read(10)


def test_close_in_a_handler(server, client, in_thread):
    def handler(request, conn):
        server.close()
        return b"last"

    serving = in_thread(server.serve, handler)
    assert client().call(b"x", 10) == b"last"
    serving.result()


def test_close_from_a_thread(server, client, in_thread):
    serving = in_thread(server.serve, lambda request, conn: request)
    assert client().call(b"x", 10) == b"x"
    server.close()
    serving.result()


def test_a_handler_may_close_its_client(server, client, in_thread):
    def handler(request, conn):
        if request == b"end":
            conn.close()
        return None if request == b"end" else request

    serving = in_thread(server.serve, handler)
    first, second = client(), client()
    with pytest.raises(ipcio.Closed):
        first.call(b"end", 10)
    assert second.call(b"x", 10) == b"x"
    server.stop()
    serving.result()


def test_a_second_serve_is_refused(server, client, in_thread):
    serving = in_thread(server.serve, lambda request, conn: request)
    conn = client()
    assert conn.call(b"x", 10) == b"x"
    with pytest.raises(ipcio.Invalid):
        server.serve(lambda request, conn: request)
    assert conn.call(b"y", 10) == b"y"
    server.stop()
    serving.result()


def test_who_serves_also_accepts(server, client, in_thread):
    serving = in_thread(server.serve, lambda request, conn: server.accept(0))
    with pytest.raises(ipcio.Closed):
        client().call(b"x", 10)
    with pytest.raises(ipcio.Invalid):
        server.accept(0)
    server.stop()
    serving.result()


def test_a_closed_server_serves_nobody(server):
    server.close()
    server.serve(lambda request, conn: request)


@pytest.mark.parametrize("handler", [None, 1, "handler"])
def test_what_is_no_handler(server, handler):
    with pytest.raises(TypeError):
        server.serve(handler)
    with pytest.raises(TypeError):
        server.serve(lambda request, conn: None, on_error=1)
    for call in (lambda: server.serve(), lambda: server.serve(print, print, print), lambda: server.serve(handle=print)):
        with pytest.raises(TypeError):
            call()


def test_a_lack_of_descriptors_ends_nothing(script, address):
    script("""
        import resource
        with ipcio.listen(arguments[0]) as server:
            most = max(map(int, os.listdir("/proc/self/fd"))) + 6
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
            tell("ready")
            server.serve(lambda request, conn: request)
        """, address).expect("ready")
    clients = [ipcio.connect(address, 10) for _ in range(20)]
    for conn in clients:
        conn.write(b"x")
    for conn in clients:
        assert conn.read(30) == b"x"
        conn.close()


def test_a_handlers_own_closed_connection_is_its_error(server, client, in_thread):
    errors = []

    def handler(request, conn):
        raise ipcio.Closed("another connection")

    serving = in_thread(server.serve, handler, lambda error, conn: errors.append(str(error)))
    with pytest.raises(ipcio.Closed):
        client().call(b"x", 10)
    server.stop()
    serving.result()
    assert errors == ["another connection"]


def test_what_a_client_sent_before_it_closed_is_handled(server, client, in_thread):
    handled, all_of_them = [], threading.Event()

    def handler(request, conn):
        handled.append(request)
        if len(handled) == 3:
            all_of_them.set()
        return b"to nobody"

    conn = client()
    for request in (b"1", b"2", b"3"):
        conn.write(request)
    conn.close()
    serving = in_thread(server.serve, handler)
    assert all_of_them.wait(10)
    server.stop()
    serving.result()
    assert handled == [b"1", b"2", b"3"]


# ------------------------------------------------------------------------------------------ handlers that yield


class Slow:
    """A handler that yields until it is let go; how it ended is told."""

    def __init__(self):
        self.begun, self.go, self.ended = threading.Event(), threading.Event(), []

    def __call__(self, request, conn):
        if request == b"quick":
            return request
        return self.wait(request)

    def wait(self, request):
        self.begun.set()
        try:
            while not self.go.is_set():
                yield
            self.ended.append(request)
        finally:
            self.ended.append("over")
        return request


def test_a_handler_that_yields_holds_nobody_up(server, client, in_thread):
    slow = Slow()
    serving = in_thread(server.serve, slow)
    first, second, other = client(), client(), client()
    first.write(b"1")
    second.write(b"2")
    for _ in range(100):
        assert other.call(b"quick", 10) == b"quick"
    with pytest.raises(ipcio.TimedOut):
        first.read(0)
    slow.go.set()
    assert first.read(10) == b"1" and second.read(10) == b"2"
    server.stop()
    serving.result()


def test_requests_of_a_client_are_answered_in_order(server, client, in_thread):
    def handler(request, conn):
        for _ in range(int(request)):
            yield
        return request

    serving = in_thread(server.serve, handler)
    conn = client()
    for request in b"3", b"1", b"0":
        conn.write(request)
    assert [conn.read(10) for _ in range(3)] == [b"3", b"1", b"0"]
    server.stop()
    serving.result()


def test_a_handler_may_yield_and_give_no_answer(server, client, in_thread):
    def handler(request, conn):
        yield
        if request == b"speech":
            conn.write(b"1")
            yield
            return b"2"

    serving = in_thread(server.serve, handler)
    conn = client()
    conn.write(b"silence")
    assert conn.call(b"speech", 10) == b"1"
    assert conn.read(10) == b"2"
    server.stop()
    serving.result()


def test_an_error_of_a_handler_that_yielded(server, client, in_thread):
    def handler(request, conn):
        yield
        raise ValueError(request)

    errors = []
    serving = in_thread(server.serve, handler, lambda error, conn: errors.append(str(error)))
    with pytest.raises(ipcio.Closed):
        client().call(b"x", 10)
    server.stop()
    serving.result()
    assert errors == ["b'x'"]


def test_a_client_that_goes_while_its_handler_waits(server, client, in_thread):
    slow = Slow()
    serving = in_thread(server.serve, slow)
    conn, other = client(), client()
    conn.write(b"x")
    assert slow.begun.wait(10)
    conn.close()
    assert other.call(b"quick", 10) == b"quick"
    slow.go.set()
    server.stop()
    serving.result()
    assert slow.ended == [b"x", "over"]


def test_an_async_handler_needs_another_module(server):
    async def handler(request, conn):
        return request

    with pytest.raises(TypeError, match="ipcio.aio"):
        server.serve(handler)


# ------------------------------------------------------------------------------------------ ending


def test_stop_lets_handlers_finish(server, client, in_thread):
    slow = Slow()
    serving = in_thread(server.serve, slow)
    conn, idle = client(), client()
    conn.write(b"begun")
    conn.write(b"not begun")
    assert slow.begun.wait(10)
    server.stop()
    with pytest.raises(ipcio.Closed):  # nobody is read from any more
        idle.read(30)
    server.stop()
    late = client()
    late.write(b"quick")
    assert serving.is_alive()
    slow.go.set()
    assert conn.read(30) == b"begun"
    with pytest.raises(ipcio.Closed):
        conn.read(30)
    serving.result()
    assert slow.ended == [b"begun", "over"]
    with pytest.raises(ipcio.Exists):  # the name stays
        ipcio.listen(server.address)
    serving = in_thread(server.serve, slow)  # and the queue
    assert late.read(30) == b"quick"
    server.stop()
    serving.result()


@pytest.mark.parametrize("end", ["stop", "close"])
def test_the_end_in_a_handler_is_heeded_at_once(server, client, end):
    handled = []

    def handler(request, conn):
        handled.append(request)
        getattr(server, end)()
        return request

    clients = [client() for _ in range(20)]
    for conn in clients:
        conn.write(b"x")
        conn.write(b"y")
    server.serve(handler)
    server.close()  # and the queue goes
    assert [answer for conn in clients for answer in conn] == handled == [b"x"]


def test_a_stop_that_ended_serve_does_not_end_the_next(server, client, in_thread):
    for _ in range(3):
        serving = in_thread(server.serve, lambda request, conn: request)
        assert client().call(b"x", 10) == b"x"
        server.stop()
        serving.result()


def test_a_long_answer_gets_out_before_stop(server, client, in_thread):
    begun = threading.Event()

    def handler(request, conn):
        begun.set()
        return bytes(16 << 20)

    serving = in_thread(server.serve, handler)
    conn = client()
    conn.write(b"x")
    assert begun.wait(10)
    server.stop()
    assert conn.read(30) == bytes(16 << 20)
    serving.result()


def test_a_client_that_does_not_take_its_last_answer(server, client, in_thread, monkeypatch):
    import ipcio._serve
    monkeypatch.setattr(ipcio._serve, "GRACE", 0.05)
    slow = Slow()

    def handler(request, conn):
        yield from slow.wait(request)
        return bytes(16 << 20)

    serving = in_thread(server.serve, handler)
    conn = client()
    conn.write(b"x")
    assert slow.begun.wait(10)
    server.stop()
    slow.go.set()
    serving.result()
    with pytest.raises(ipcio.Closed):
        conn.read(30)


@pytest.mark.parametrize("stopped", [False, True])
def test_close_gives_handlers_up(server, client, in_thread, stopped):
    slow = Slow()
    serving = in_thread(server.serve, slow)
    conn, idle = client(), client()
    conn.write(b"x")
    assert slow.begun.wait(10)
    if stopped:
        server.stop()
        with pytest.raises(ipcio.Closed):
            idle.read(30)
    server.close()
    serving.result()
    assert slow.ended == ["over"]
    for each in conn, idle:
        with pytest.raises(ipcio.Closed):
            each.read(30)
    with pytest.raises(ipcio.Missing):
        ipcio.connect(server.address, 0)


@pytest.mark.parametrize("raises", [False, True])
def test_an_error_of_a_handler_that_is_given_up(server, client, in_thread, raises):
    begun, errors = threading.Event(), []

    def on_error(error, conn):
        errors.append(str(error))
        if raises:
            raise error

    def handler(request, conn):
        try:
            while True:
                begun.set()
                yield
        finally:
            raise ValueError("too late")

    serving = in_thread(server.serve, handler, on_error)
    conn, idle = client(), client()
    conn.write(b"x")
    assert begun.wait(10)
    server.close()
    with pytest.raises(ValueError, match="too late") if raises else nullcontext():
        serving.result()
    assert errors == ["too late"]
    for each in conn, idle:
        with pytest.raises(ipcio.Closed):
            each.read(30)


def test_a_hundred_clients(server, client, in_thread):
    serving = in_thread(server.serve, lambda request, conn: request)
    clients = [client() for _ in range(100)]
    for number, conn in enumerate(clients):
        conn.write(str(number).encode())
    for number, conn in enumerate(clients):
        assert conn.read(30) == str(number).encode()
    server.stop()
    serving.result()
