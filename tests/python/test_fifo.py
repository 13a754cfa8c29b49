"""FIFOs, with the shell's echo and cat at the other end, and with ipcio."""
import asyncio
import os
import select
import shutil
import stat
import subprocess
import tempfile

import ipcio
import ipcio.aio
import pytest


@pytest.fixture
def path():
    """Of a FIFO, in a folder of its own."""
    folder = tempfile.mkdtemp(prefix="ipcio-fifo.")
    yield f"{folder}/lines"
    shutil.rmtree(folder)


@pytest.fixture
def shell():
    """Starts commands of the shell, which must end well."""
    started = []
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}  # not a sanitizer's

    def start(command, **options):
        started.append(subprocess.Popen(["sh", "-c", command], env=environment, **options))
        return started[-1]

    yield start
    for process in started:
        assert process.wait(60) == 0


def test_echo_writes_to_a_server(path, shell):
    with ipcio.listen(f"fifo://{path}") as server:
        assert stat.S_ISFIFO(os.stat(path).st_mode) and stat.S_IMODE(os.stat(path).st_mode) == 0o600
        for word in (b"hello", b"again"):
            shell(f"echo {word.decode()} > {path}")
            with server.accept(30) as conn:
                assert list(conn) == [word]
        with pytest.raises(ipcio.TimedOut):
            server.accept(0)
    assert os.listdir(os.path.dirname(path)) == []


def test_a_loop_that_keeps_the_last_connection_goes_on(path, shell):
    with ipcio.listen(f"fifo://{path}") as server:
        heard = []
        shell(f"for i in 1 2 3; do echo $i > {path}; done")
        while len(heard) < 3:
            conn = server.accept(30)  # the one before is closed only when this one is here
            heard += conn
        assert heard == [b"1", b"2", b"3"]
        conn.close()


def test_cat_reads_what_a_client_writes(path, shell):
    os.mkfifo(path)
    cat = shell(f"cat {path}", stdout=subprocess.PIPE)
    with ipcio.connect(f"fifo://{path}", 30) as conn:
        conn.write(b"one")
        conn.write(b"two", timeout=30)
    assert cat.stdout.read() == b"one\ntwo\n"
    cat.stdout.close()
    assert stat.S_ISFIFO(os.stat(path).st_mode)  # it was there before


def test_a_client_reads_what_the_shell_writes(path, shell):
    os.mkfifo(path)
    with ipcio.connect(f"fifo://{path}", 30, direction="read", framing="raw") as conn:
        shell(f"printf 'no line' > {path}")
        assert b"".join(conn) == b"no line"


def test_a_line_without_its_end_is_none(path, shell):
    with ipcio.listen(f"fifo://{path}") as server:
        shell(f"printf 'one\\ntw' > {path}")
        with server.accept(30) as conn:
            assert conn.read(30) == b"one"
            with pytest.raises(ipcio.Closed, match="in the middle"):
                conn.read(30)


def test_serve(path, shell):
    with ipcio.listen(f"fifo://{path}") as server:
        shell(f"for i in 1 2 3; do echo $i > {path}; done; echo end > {path}")
        heard = []

        def handler(request, conn):
            heard.append(request)
            if request == b"end":
                server.stop()

        server.serve(handler)
        assert heard == [b"1", b"2", b"3", b"end"]


def test_between_two_scripts(name, script):
    address = f"fifo://{name}"
    writer = script("""
        with ipcio.connect(arguments[0], 30) as conn:
            tell("connected")
            for i in range(1000):
                conn.write(str(i).encode())
        """, address)
    with ipcio.listen(address) as server:
        writer.expect("connected")
        with server.accept(30) as conn:
            assert [int(line) for line in conn] == list(range(1000))
        assert writer.finish() == []


def test_a_killed_writer_is_the_end(name, script):
    address = f"fifo://{name}"
    writer = script("""
        conn = ipcio.connect(arguments[0], 30)
        conn.write(b"last")
        tell("written")
        wait()
        """, address)
    with ipcio.listen(address) as server:
        writer.expect("written")
        with server.accept(30) as conn:
            assert conn.read(30) == b"last"
            writer.kill()
            assert list(conn) == []


def test_a_killed_reader_is_told_without_a_signal(name, script):
    address = f"fifo://{name}"
    reader = script("""
        server = ipcio.listen(arguments[0])
        tell("ready")
        wait()
        """, address)
    reader.expect("ready")
    with ipcio.connect(address, 30) as conn:
        reader.kill()
        assert select.select([conn.fileno()], [], [], 30)[0]
        with pytest.raises(ipcio.Closed):
            conn.write(b"x", 30)
    with pytest.raises(ipcio.Missing):
        ipcio.connect(address, 0)
    with ipcio.listen(address):  # what the dead one left is no hindrance
        pass


def test_one_direction(name):
    address = f"fifo://{name}"
    with pytest.raises(ipcio.Invalid, match="framing=line"):
        ipcio.listen(address, framing="message")
    with pytest.raises(ipcio.Unsupported, match="reads"):
        ipcio.listen(address, direction="write")
    with ipcio.listen(address) as server, ipcio.connect(address, 30) as client:
        with pytest.raises(ipcio.Exists):
            ipcio.listen(address)
        for call in (client.read, lambda: client.call(b"x", 30), lambda: client.peer, lambda: client.send_file(0)):
            with pytest.raises(ipcio.Unsupported):
                call()
        client.write(b"only")
        with server.accept(30) as conn:
            assert conn.read(30) == b"only"  # a refused call has sent nothing
            for call in (lambda: conn.write(b"x"), conn.write_fileno):
                with pytest.raises(ipcio.Unsupported):
                    call()


def test_in_pieces(name):
    with ipcio.listen(f"fifo://{name}") as server, ipcio.connect(f"fifo://{name}", 30) as client:
        client.write_start(6)
        client.write_buffer(b"abc")
        client.write_buffer(b"def")
        client.write_end()
        with server.accept(30) as conn:
            assert conn.read_start(30) == 6
            assert conn.read_buffer(4) == b"abcd"
            conn.read_end()


def test_with_asyncio(path, shell):
    async def main():
        async with ipcio.aio.listen(f"fifo://{path}") as server:
            shell(f"echo one > {path}")
            async with server.accept(30) as conn:
                assert [line async for line in conn] == [b"one"]
            async with ipcio.aio.connect(f"fifo://{path}", 30) as client:
                large = b"x" * 200_000  # more than a FIFO takes at once

                async def receive():
                    async with server.accept(30) as conn:
                        return await conn.read(30)

                reading = asyncio.create_task(receive())
                await client.write(large, 30)
                assert await reading == large

    asyncio.run(main())
