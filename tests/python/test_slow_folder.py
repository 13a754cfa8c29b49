"""`file` over a folder that answers late, as one on another host does, and for a while not at all; the other side sees it
there too, or where it is."""
import os
import pathlib
import subprocess
import sys

import ipcio
import pytest

LATE = "0.005"  # seconds, at most, each time

SERVER = """
    with ipcio.listen(arguments[0], keepalive=1) as server:
        tell("ready")
        with server.accept(60) as conn:
            try:
                while True: conn.write(conn.read(60), 60)
            except ipcio.Closed:
                tell("closed")
    """


class Slow:
    def __init__(self, path):
        self.here, self.there = path / "folder", path / "seen"
        self.stalled, self.asked = path / "folder.stalled", path / "folder.asked"
        self.here.mkdir()
        self.there.mkdir()
        program = pathlib.Path(__file__).with_name("slow_folder.py")
        environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}  # a sanitizer
        self.process = subprocess.Popen([sys.executable, program, self.here, self.there, LATE], env=environment,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        while not os.path.ismount(self.there):
            if self.process.poll() is not None:
                pytest.skip("no file system can be mounted: " + self.process.communicate()[1].strip())

    def until_asked(self):
        """Returns when somebody waits for an answer, since it is stalled."""
        while not self.asked.exists():
            pass

    def close(self):
        self.stalled.unlink(missing_ok=True)
        subprocess.run(["fusermount3", "-u", "-z", self.there], check=True)
        self.process.communicate()


@pytest.fixture
def slow(tmp_path):
    slow = Slow(tmp_path)
    yield slow
    slow.close()


@pytest.fixture(params=["there, there", "here, there", "there, here"])
def places(request, slow):
    """The addresses of the server and of the client."""
    return [f"file://{getattr(slow, side)}" for side in request.param.split(", ")]


def test_in_order(slow, places, script):
    server = script(SERVER, places[0])
    server.expect("ready")
    messages = [b"%d" % i for i in range(10)] + [bytes(range(256)) * 2000, b"end"]
    with ipcio.connect(places[1], 60, keepalive=1) as conn:
        for message in messages:
            conn.write(message, 60)
        for message in messages:
            assert conn.read(60) == message
    server.expect("closed")
    server.finish()
    assert os.listdir(slow.here) == []


def test_killed(slow, places, script):
    """What was written before is read; then the other side is told."""
    server = script(SERVER.replace("conn.write(conn.read(60), 60)", "tell(conn.read(60))"), places[0])
    server.expect("ready")
    client = script("""
        conn = ipcio.connect(arguments[0], 60, keepalive=1)
        for i in range(5): conn.write(b"%d" % i, 60)
        tell("written")
        wait()
        """, places[1])
    client.expect("written")
    client.kill()
    for i in range(5):
        server.expect(repr(b"%d" % i))
    server.expect("closed")
    server.finish()
    assert os.listdir(slow.here) == []


def test_no_answer_for_a_while(slow, script, in_thread):
    """A folder that does not answer kills nobody, and what is late is not lost."""
    server = script("""
        with ipcio.listen(arguments[0]) as server:
            tell("ready")
            with server.accept(60) as conn:
                while (request := conn.read(60)) != b"end":
                    wait()
                    conn.write(request)
                    tell("answered")
        """, f"file://{slow.here}")
    server.expect("ready")
    with ipcio.connect(f"file://{slow.there}", 60) as conn:
        for request in (b"one", b"two"):
            conn.write(request, 60)
            slow.stalled.touch()
            reading = in_thread(conn.read, 0.01)
            server.go()
            server.expect("answered")
            slow.stalled.unlink()
            try:
                assert reading.result() == request
            except ipcio.TimedOut:
                assert conn.read(60) == request
        conn.write(b"end", 60)
        server.finish()


def test_other_threads_go_on(slow, script, name):
    """While one asks the folder, whatever for, they may do anything."""
    process = script("""
        import asyncio
        from ipcio import aio
        slow, quick = arguments
        made, loop = [], asyncio.new_event_loop()
        def listens(): made.append(ipcio.listen(slow))
        def connects(): made.append(ipcio.connect(slow, 60))
        def accepts(): made.append(made[0].accept(60))
        def writes(): made[1].write(b"request", 60)
        def reads(): assert made[2].read(60) == b"request"
        async def opened(): return await aio.connect(slow, 60)
        def connects_in_loop(): made.append(loop.run_until_complete(opened()))
        def writes_in_loop(): loop.run_until_complete(made[3].write(b"request", 60))
        def closes():
            while made: made.pop().close()
        for step in listens, connects, accepts, writes, reads, connects_in_loop, writes_in_loop, closes:
            wait()
            thread = threading.Thread(target=step)
            thread.start()
            wait()
            with ipcio.listen(quick) as server, ipcio.connect(quick, 60) as client, server.accept(60) as conn:
                client.write(b"quick")
                tell(conn.read(60))
            wait()
            thread.join()
            tell("done")
        loop.close()
        """, f"file://{slow.there}", f"shm://{name}")
    for _ in range(8):
        slow.asked.unlink(missing_ok=True)
        slow.stalled.touch()
        process.go()
        slow.until_asked()
        process.go()
        process.expect(repr(b"quick"))
        slow.stalled.unlink()
        process.go()
        process.expect("done")
    process.finish()
