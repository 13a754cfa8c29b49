"""Peers that know nothing of ipcio: asyncio, socat and nc, as servers and as clients, each in its own process."""
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import ipcio
import pytest

ROOT = Path(__file__).resolve().parents[2]

CALL = {  # clients of ipcio: ADDRESS FRAMING MESSAGE..., which print the answers
    "python": [sys.executable, "-c", textwrap.dedent("""
        import sys, ipcio
        with ipcio.connect(sys.argv[1], 30, framing=sys.argv[2]) as conn:
            for message in sys.argv[3:]:
                print(conn.call(message.encode(), 30).decode())
        """)],
    "lua": ["lua5.4", "-"],
}
LUA_CALL = """
local ipcio = require "ipcio"
local conn <close> = assert(ipcio.connect(arg[1], 30, {framing = arg[2]}))
for i = 3, #arg do print(assert(conn:call(arg[i], 30))) end
"""
SERVE = {  # servers of ipcio: ADDRESS OPTIONS-IN-IT; they say their address
    "python": [sys.executable, "-u", "-c", textwrap.dedent("""
        import sys, ipcio
        with ipcio.listen(sys.argv[1]) as server:
            print(server.address)
            server.serve(lambda request, conn: b"hello " + request)
        """)],
    "lua": ["lua5.4", "-"],
}
LUA_SERVE = """
local ipcio = require "ipcio"
local server <close> = assert(ipcio.listen(arg[1]))
print(server:address())
io.stdout:flush()
assert(server:serve(function(request) return "hello " .. request end))
"""
JSONRPC = """
    import asyncio, json, sys
    def answer(request):
        result = {"add": lambda a, b: a + b, "upper": str.upper}[request["method"]](*request["params"])
        return json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}).encode() + b"\\n"
    async def talk(reader, writer):
        while line := await reader.readline():
            writer.write(answer(json.loads(line)))
        writer.close()
    async def main(where):
        if where.startswith("/"):
            server = await asyncio.start_unix_server(talk, where)
        else:
            server = await asyncio.start_server(talk, "127.0.0.1", 0)
        tell(*server.sockets[0].getsockname()[1:] if where == "tcp" else [where])
        await server.serve_forever()
    asyncio.run(main(arguments[0]))
    """


def ipcio_call(language, *arguments):
    return subprocess.run([*CALL[language], *arguments], input=LUA_CALL if language == "lua" else None, text=True,
                          stdout=subprocess.PIPE, timeout=60, check=True).stdout.splitlines()


@pytest.fixture
def processes():
    """Starts programs; those that still run after the test are killed."""
    started = []

    def start(command, **options):
        started.append(subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, **options))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        with process:
            pass


@pytest.fixture
def folder():
    path = tempfile.mkdtemp(prefix="ipcio-foreign.")
    yield path
    shutil.rmtree(path)


@pytest.fixture
def serve(processes):
    """Starts a server of ipcio in a language; gives its address."""
    def start(language, address):
        server = processes(SERVE[language] + [address], stdin=subprocess.PIPE)
        if language == "lua":
            server.stdin.write(LUA_SERVE.encode())
        server.stdin.close()
        return server.stdout.readline().decode().strip()
    return start


def plain():
    """The environment of programs that are not ipcio's: without the sanitizer's library."""
    return {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}


def identity(path):
    """What must not change of a foreign server's socket file."""
    s = os.stat(path)
    return s.st_dev, s.st_ino, stat.filemode(s.st_mode), s.st_uid, s.st_gid


def socat(processes, *arguments):
    """A socat that listens, which it says among its notices: at which port or path."""
    process = processes(["socat", "-d", "-d", *arguments], stderr=subprocess.PIPE, env=plain())
    while True:
        line = process.stderr.readline().decode()
        assert line, "socat ended"
        if " listening on " in line:
            return line.rsplit(":", 1)[1].strip()


# ------------------------------------------------------------------------------------------------ foreign servers

@pytest.mark.parametrize("language", CALL)
@pytest.mark.parametrize("transport", ["pipe", "tcp"])
def test_jsonrpc_of_asyncio(script, folder, language, transport):
    path = folder + "/rpc.sock"
    server = script(JSONRPC, path if transport == "pipe" else "tcp")
    where = server.line()
    address = f"pipe://{path}" if transport == "pipe" else f"tcp://{where}"
    before = transport == "pipe" and identity(path)
    requests = ['{"jsonrpc":"2.0","id":%d,"method":"add","params":[%d,1]}' % (n, n) for n in range(3)]
    assert ipcio_call(language, address, "line", *requests) == [
        '{"jsonrpc": "2.0", "id": %d, "result": %d}' % (n, n + 1) for n in range(3)]
    if transport == "pipe":
        assert identity(path) == before


@pytest.mark.parametrize("client", ["jsonrpc_client.py", "jsonrpc_client.lua"])
def test_the_example_and_asyncio(script, folder, client):
    path = folder + "/rpc.sock"
    script(JSONRPC, path).expect(path)
    run = [sys.executable] if client.endswith(".py") else ["lua5.4"]
    done = subprocess.run([*run, ROOT / "examples" / client, "pipe://" + path], stdout=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stdout.decode()) == (0, "5\nZOË\n")


@pytest.mark.parametrize("language", CALL)
@pytest.mark.parametrize("framing", ["line", "raw"])
def test_socat_serves(processes, folder, language, framing):
    path = folder + "/cat.sock"
    socat(processes, f"UNIX-LISTEN:{path},fork,mode=666", "EXEC:cat")
    before = identity(path)
    for _ in range(2):  # the file stays for the next client
        assert ipcio_call(language, f"pipe://{path}", framing, "one", "two") == ["one", "two"]
        assert identity(path) == before


def test_socat_serves_over_tcp(processes):
    port = socat(processes, "TCP-LISTEN:0,bind=127.0.0.1,fork", "EXEC:cat")
    assert ipcio_call("python", f"tcp://{port}", "line", "one", "two") == ["one", "two"]
    assert ipcio_call("lua", f"tcp://{port}", "raw", "one", "two") == ["one", "two"]


def test_much_through_socat(processes, folder):
    path = folder + "/cat.sock"
    socat(processes, f"UNIX-LISTEN:{path},fork", "EXEC:cat")
    line = bytes(range(14, 256)) * 1000
    with ipcio.connect(f"pipe://{path}", 30, framing="line") as conn:
        for _ in range(20):
            assert conn.call(line, 30) == line


def test_a_foreign_socket_is_never_taken(script, folder):
    """Neither that of a live server nor the file that a dead one left.  docs/design/lessons.md 6 (nng#576), 7."""
    path = folder + "/rpc.sock"
    server = script(JSONRPC, path)
    server.expect(path)
    before = identity(path)
    for framing in "line", "message":
        with pytest.raises(ipcio.Exists):
            ipcio.listen(f"pipe://{path}", framing=framing)
    server.kill()
    with pytest.raises(ipcio.Exists):
        ipcio.listen(f"pipe://{path}", framing="line")
    with pytest.raises(ipcio.Missing):
        ipcio.connect(f"pipe://{path}", 0, framing="line")
    assert identity(path) == before


def test_a_server_that_ends(script, folder):
    path = folder + "/rpc.sock"
    server = script(JSONRPC, path)
    server.expect(path)
    with ipcio.connect(f"pipe://{path}", 30, framing="line") as conn:
        assert b'"X"' in conn.call(b'{"id":1,"method":"upper","params":["x"]}', 30)
        server.kill()
        with pytest.raises(ipcio.Closed):
            conn.read(30)
    assert os.path.exists(path)


def test_utf_16_and_nul(script, folder):
    """Like a program of Windows: UTF-16, each text ended by a NUL."""
    path = folder + "/wide.sock"
    script("""
        import socket
        server = socket.socket(socket.AF_UNIX)
        server.bind(arguments[0])
        server.listen()
        tell("ready")
        conn = server.accept()[0]
        with conn.makefile("rb") as file:
            text = b""
            while two := file.read(2):
                text += two
                if two == b"\\0\\0":
                    conn.sendall(text[:-2].decode("utf-16le").upper().encode("utf-16le") + b"\\0\\0")
                    text = b""
        """, path).expect("ready")
    with ipcio.connect(f"pipe://{path}?framing=raw&text=utf-16le&nul=1", 30) as conn:
        for text in "zoë", "", "a\nb", "αβγ ਊ 😀":
            assert conn.call(text.encode(), 30).decode() == text.upper()


# ------------------------------------------------------------------------------------------------ foreign clients

CLIENTS = {  # what reads lines and gives the answers, at a path
    "socat": lambda path: ["socat", "-t", "30", "-", f"UNIX-CONNECT:{path}"],
    "nc": lambda path: ["nc", "-U", "-N", path],
}


@pytest.mark.parametrize("language", SERVE)
@pytest.mark.parametrize("client", CLIENTS)
def test_commands_ask(serve, folder, language, client):
    path = folder + "/hello.sock"
    serve(language, f"pipe://{path}?framing=line")
    for _ in range(2):
        done = subprocess.run(CLIENTS[client](path), input=b"one\ntwo\r\n\n", stdout=subprocess.PIPE, timeout=60,
                              env=plain())
        assert (done.returncode, done.stdout) == (0, b"hello one\nhello two\nhello \n")


@pytest.mark.parametrize("language", SERVE)
@pytest.mark.parametrize("command", ["socat -t 30 - TCP:127.0.0.1:PORT", "nc -N 127.0.0.1 PORT"])
def test_commands_ask_over_tcp(serve, language, command):
    port = re.search(r":(\d+)$", serve(language, "tcp://0?framing=line"))[1]
    done = subprocess.run(command.replace("PORT", port).split(), input=b"one\ntwo\n",
                          stdout=subprocess.PIPE, timeout=60, env=plain())
    assert (done.returncode, done.stdout) == (0, b"hello one\nhello two\n")


@pytest.mark.parametrize("language", SERVE)
def test_raw_bytes_are_asked(serve, folder, language):
    path = folder + "/hello.sock"
    serve(language, f"pipe://{path}?framing=raw")
    with socket.socket(socket.AF_UNIX) as conn:
        conn.settimeout(30)
        conn.connect(path)
        for data in b"one", b"\0\n\xff":
            conn.sendall(data)
            assert conn.recv(6 + len(data), socket.MSG_WAITALL) == b"hello " + data


@pytest.mark.parametrize("language", SERVE)
def test_asyncio_asks(serve, script, folder, language):
    path = folder + "/hello.sock"
    serve(language, f"pipe://{path}?framing=line")
    script("""
        import asyncio
        async def client(number):
            reader, writer = await asyncio.open_unix_connection(arguments[0])
            for i in range(20):
                writer.write(f"{number} {i}\\n".encode())
                assert await reader.readline() == f"hello {number} {i}\\n".encode()
            writer.close()
            await writer.wait_closed()
        async def main():
            await asyncio.gather(*map(client, range(8)))
        asyncio.run(main())
        """, path).finish()
