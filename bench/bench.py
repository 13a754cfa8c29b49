"""Messages between two real processes, timed, in Python.  bench.c explains the command line.

    python3 bench.py BACKEND MODE SIZE [MS]

BACKEND  ipcio ADDRESS               this library
         socket-unix, socket-tcp     bare sockets: sendall and recv_into; who reads is told how long messages are
         multiprocessing             multiprocessing.connection's Listener and Client, AF_UNIX, bytes
         peer NAME                   another library, by the `Link` of peers/NAME.py
"""
import importlib
import os
import signal
import socket
import sys
import time


class Ipcio:
    def serve(self, ready):
        import ipcio
        self.server = ipcio.listen(ADDRESS)
        ready(self.server.address)
        self.conn = self.server.accept(30)
        self.send, self.receive = self.conn.write, self.conn.read

    def connect(self, where):
        import ipcio
        self.conn = ipcio.connect(where, 30)
        self.send, self.receive = self.conn.write, self.conn.read


class Multiprocessing:
    def serve(self, ready):
        from multiprocessing.connection import Listener
        with Listener(family="AF_UNIX") as listener:
            ready(listener.address)
            self.conn = listener.accept()
        self.send, self.receive = self.conn.send_bytes, self.conn.recv_bytes

    def connect(self, where):
        from multiprocessing.connection import Client
        self.conn = Client(where)
        self.send, self.receive = self.conn.send_bytes, self.conn.recv_bytes


class Socket:
    def serve(self, ready):
        with self.listen() as listener:
            where = listener.getsockname()
            ready(where if isinstance(where, str) else where[1])
            self.open(listener.accept()[0])
            if isinstance(where, str):
                os.unlink(where)

    def open(self, conn):
        self.conn = conn
        self.send = conn.sendall
        self.room = memoryview(bytearray(SIZE))

    def receive(self):
        got, room = 0, self.room
        while got < SIZE:
            n = self.conn.recv_into(room[got:], 0, socket.MSG_WAITALL)
            assert n, "the peer is gone"
            got += n
        return room


class Unix(Socket):
    def listen(self):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"/tmp/ipcio-bench-{os.getpid()}.sock")
        listener.listen(1)
        return listener

    def connect(self, where):
        conn = socket.socket(socket.AF_UNIX)
        conn.connect(where)
        self.open(conn)


class Tcp(Socket):
    def listen(self):
        return socket.create_server(("127.0.0.1", 0))

    def open(self, conn):
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().open(conn)

    def connect(self, where):
        self.open(socket.create_connection(("127.0.0.1", where)))


class Peer:
    def serve(self, ready):
        name = f"ipcio-bench-{os.getpid()}"
        ready(name)
        self.open(name, True)

    def connect(self, where):
        self.open(where, False)

    def open(self, name, server):
        self.conn = importlib.import_module(f"peers.{ADDRESS}").Link(name, server, SIZE)
        self.send, self.receive = self.conn.send, self.conn.receive


BACKENDS = {"ipcio": Ipcio, "peer": Peer, "multiprocessing": Multiprocessing, "socket-unix": Unix, "socket-tcp": Tcp}


def serve(send, receive):
    while (message := receive()) == GO:  # comparing two messages reads every byte of them
        if MODE != "stream":
            send(message)
    assert message == STOP, "a wrong message came"
    send(message)


def serve_crowd(ready):
    """Answers all clients until the last message has come."""
    import ipcio

    def handler(message, conn):
        if message != GO:
            assert message == STOP, "a wrong message came"
            server.stop()
        return message

    def failed(error, conn):
        raise error

    with ipcio.listen(ADDRESS) as server:
        ready(server.address)
        server.serve(handler, on_error=failed)


def join_crowd(where):
    """All but the last client of a crowd."""
    clients = []
    for _ in range(CROWD - 1):
        clients.append(Ipcio())
        clients[-1].connect(where)
        clients[-1].send(GO)
        assert clients[-1].receive() == GO
    return clients


def time_round_trips(send, receive, gap):
    now = time.perf_counter_ns
    warm = now() + MS * 200_000
    while now() < warm:
        send(GO)
        assert receive() == GO
    times = []
    begin = now()
    end = begin + MS * 1_000_000
    while begin < end:
        send(GO)
        assert receive() == GO
        then = now()
        times.append(then - begin)
        begin = then
        while begin < then + gap:
            begin = now()
    send(STOP)
    assert receive() == STOP
    times.sort()
    n, total = len(times), sum(times)
    print(BACKEND, MODE, SIZE, times[n // 2], times[n * 99 // 100], total // n, round(1e9 * n / total), n)


def time_stream(send, receive):
    now = time.perf_counter_ns
    burst = 64 if SIZE <= 1024 else 8 if SIZE <= 65536 else 1

    def send_until(end):
        count = 0
        while now() < end:
            for _ in range(burst):
                send(GO)
            count += burst
        return count

    send_until(now() + MS * 200_000)
    begin = now()
    count = send_until(begin + MS * 1_000_000)
    send(STOP)  # the answer comes when all have been read
    assert receive() == STOP
    print(BACKEND, MODE, SIZE, "- - -", round(1e9 * count / (now() - begin)), count)


def talk_to_itself():
    """Writes and reads MS messages in one process."""
    import ipcio
    with ipcio.listen(ADDRESS) as server, ipcio.connect(server.address, 30) as client, server.accept(30) as peer:
        for _ in range(MS):
            client.write(GO)
            peer.read()


def pin(processor):
    if os.environ.get("PIN") == "1":
        os.sched_setaffinity(0, {processor})


def two_processes():
    signal.alarm(MS // 500 + 30)  # nothing here may hang
    link = BACKENDS[BACKEND]()
    reading, writing = os.pipe()
    done, end_of_client = os.pipe()
    server = os.fork()
    if server == 0:
        signal.alarm(MS // 500 + 30)
        os.close(reading)
        os.close(end_of_client)
        pin(1)
        with open(writing, "w") as pipe:
            def ready(where):
                print(where, file=pipe, flush=True)
            if CROWD:
                return serve_crowd(ready)
            link.serve(ready)
        serve(link.send, link.receive)
        os.read(done, 1)  # the last answer may still be on its way
        link.conn.close()
        return
    os.close(writing)
    pin(0)
    with open(reading) as ready:
        where = ready.readline().rstrip("\n")
    assert where, "the server did not start"
    idle = join_crowd(where)  # stays open till the end
    link.connect(where)
    if MODE == "stream":
        time_stream(link.send, link.receive)
    else:
        time_round_trips(link.send, link.receive, int(MODE[6:]) * 1000 if MODE.startswith("paced:") else 0)
    for end in (link, *idle):
        end.conn.close()
    os.close(end_of_client)
    assert os.waitpid(server, 0)[1] == 0, "the server failed"


arguments = sys.argv[1:]
BACKEND = arguments.pop(0)
ADDRESS = arguments.pop(0) if BACKEND in ("ipcio", "peer") else None
MODE, SIZE, MS = arguments[0], int(arguments[1]), int(arguments[2]) if len(arguments) > 2 else 200
CROWD = int(MODE[6:]) if MODE.startswith("crowd:") else 0
GO, STOP = b"\0" + b"x" * (SIZE - 1), b"\1" + b"x" * (SIZE - 1)
if MODE == "self":
    talk_to_itself()
else:
    two_processes()
