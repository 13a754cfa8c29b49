"""Several threads of one process."""
import threading

import ipcio
import pytest


@pytest.fixture
def pair(address):
    """Both ends of a connection."""
    with ipcio.listen(address) as server, ipcio.connect(address, 10) as conn, server.accept(10) as other:
        yield conn, other


class Waiting:
    """Starts a call in a thread, and says when another call of its direction is refused: then it waits."""

    def __init__(self, in_thread, call, probe):
        self.thread = in_thread(call)
        while True:
            try:
                probe()
            except ipcio.TimedOut:
                pass
            except ipcio.Invalid as error:
                if "another call" in str(error):
                    return

    def result(self):
        return self.thread.result()


@pytest.mark.parametrize("call", [lambda conn: conn.read(), lambda conn: next(conn), lambda conn: conn.read_start(),
                                  lambda conn: conn.call(b"x")], ids=["read", "next", "read_start", "call"])
def test_close_wakes_who_waits_to_read(pair, in_thread, call):
    conn, _ = pair
    waiting = Waiting(in_thread, lambda: call(conn), lambda: conn.read(0))
    conn.close()
    with pytest.raises(ipcio.Invalid, match="closed"):
        waiting.result()


@pytest.mark.parametrize("call", [lambda conn: conn.write(bytes(16 << 20)), lambda conn: conn.call(bytes(16 << 20))],
                         ids=["write", "call"])
def test_close_wakes_who_waits_to_write(pair, in_thread, call):
    conn, _ = pair
    waiting = Waiting(in_thread, lambda: call(conn), lambda: conn.write_end(0))
    conn.close()
    with pytest.raises(ipcio.Invalid, match="closed"):
        waiting.result()


def test_close_wakes_who_accepts(address, in_thread):
    with ipcio.listen(address) as server:
        waiting = Waiting(in_thread, server.accept, lambda: server.accept(0))
        server.close()
        with pytest.raises(ipcio.Invalid, match="closed"):
            waiting.result()


def test_a_second_call_in_one_direction_is_refused_and_disturbs_nothing(pair, in_thread):
    conn, other = pair
    waiting = Waiting(in_thread, conn.read, lambda: conn.read(0))
    for call in (conn.read, conn.read_start, lambda: conn.call(b"x"), lambda: next(conn)):
        with pytest.raises(ipcio.Invalid, match=f"^{conn.address}: another call"):
            call()
    conn.write(b"while the other reads")
    assert other.read(10) == b"while the other reads"
    other.write(b"x")
    assert waiting.result() == b"x"
    with pytest.raises(ipcio.TimedOut):
        other.read(0)  # no call was sent


def test_one_thread_reads_and_one_writes(client, in_thread):
    messages = [b"%d" % n * n for n in range(300)]
    reader = in_thread(lambda: [client.read(30) for _ in messages])
    for message in messages:
        client.write(message)
    assert reader.result() == messages


def test_one_reads_one_writes_one_closes(echo, in_thread):
    conn = ipcio.connect(echo, 10)
    seen = threading.Event()

    def read():
        for _ in conn:
            seen.set()

    def write():
        while True:
            conn.write(bytes(10_000))

    threads = [in_thread(read), in_thread(write)]
    seen.wait()
    conn.close()
    for thread in threads:
        with pytest.raises(ipcio.Invalid):
            thread.result()


def test_a_buffer_is_held_while_it_is_written(pair, in_thread):
    conn, other = pair
    data = bytearray(b"x") * (16 << 20)
    writer = in_thread(conn.write, data)
    while True:
        try:
            data.append(0)
        except BufferError:
            break
        data.pop()
    assert other.read(30) == data
    writer.result()
    data.append(0)


def test_other_threads_run_while_one_waits(pair, in_thread):
    """docs/design/lessons.md 11 (iceoryx2#1421): the GIL is not held."""
    conn, other = pair
    answer = in_thread(lambda: other.write(other.read() + b"!"))
    assert conn.call(b"x", 10) == b"x!"
    answer.result()


def test_many_threads_each_with_its_connection(echo, in_thread):
    def talk(number):
        with ipcio.connect(echo, 10) as conn:
            return [conn.call(b"%d %d" % (number, i), 30) for i in range(50)]

    threads = [in_thread(talk, number) for number in range(8)]
    for number, thread in enumerate(threads):
        assert thread.result() == [b"%d %d" % (number, i) for i in range(50)]


def test_the_last_reference_goes_while_a_call_waits(address, in_thread):
    server = ipcio.listen(address)
    held = [ipcio.connect(address, 10)]
    other = server.accept(10)
    probe = held[0]
    waiting = Waiting(in_thread, lambda: held.pop().read(), lambda: probe.read(0))
    del probe  # only the call has it now
    other.write(b"x")
    assert waiting.result() == b"x"
    with pytest.raises(ipcio.Closed):
        other.read(10)
    other.close()
    server.close()


@pytest.mark.parametrize("wait", ["conn.read()", "server.accept()", "server.serve(print)", "list(conn)",
                                  "conn.write(bytes(64 << 20))", "ipcio.StartConnection(ipcio.InitConnection())",
                                  "ipcio.connect(arguments[0] + '-nobody')"])
def test_the_interpreter_ends_while_daemon_threads_wait(script, address, wait, python_leaks):
    ends = script(f"""
        server = ipcio.listen(arguments[0])
        other = ipcio.connect(arguments[0], 10)
        conn = server.accept(10)
        started = threading.Event()
        def run():
            started.set()
            {wait}
        threading.Thread(target=run, daemon=True).start()
        started.wait()
        while open(f"/proc/self/task/{{threading.enumerate()[1].native_id}}/stat").read().split()[2] != "S": pass
        """, address)
    assert ends.finish() == []
