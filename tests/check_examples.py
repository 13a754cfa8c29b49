"""Runs the examples, the programs shown by the README and the guide, and the demo: each for real, in every
pair of languages.  usage: check_examples.py GREETER, the program built from examples/greeter.c
Needs the environment that `./run env` prints."""
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
RUN = {".lua": ["lua5.4"], ".py": [sys.executable], "demo": [sys.executable]}
LIMIT = 60  # seconds for one program

COUNTED = "lines 155 words 1898 bytes 10000 adler32 19e9e211\n"
GREETED = "hello world\nhello Zoë\n"
SCHEDULED = "".join(f"client {n} sent {n * 600000} bytes twice\n" for n in (1, 2, 3)) + "1229 primes up to 10000\n"

ran = {"count.lua", "count.py"}  # examples; these two are parts of others
failures = []


class Program:
    """A running program: an example or a path, and its arguments."""

    def __init__(self, path, *arguments):
        path = EXAMPLES / path
        self.name = path.name
        ran.add("greeter.c" if path.name == "greeter" else path.name)
        self.process = subprocess.Popen(
            [*RUN.get(path.suffix or path.name, []), path, *arguments], encoding="utf-8",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def finish(self):
        try:
            self.out, self.errors = self.process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.out, self.errors = self.process.communicate()
            self.errors += f"not done within {LIMIT} s"
        return self

    def interrupt(self):
        self.process.send_signal(signal.SIGINT)

    def right(self, expect=None):
        return self.process.returncode == 0 and not self.errors and expect in (None, self.out)

    def __str__(self):
        return f"{self.name}: exit code {self.process.returncode}\n{self.out}{self.errors}"


def report(what, right, *programs):
    print("ok  " if right else "FAIL", what, flush=True)
    if not right:
        failures.append(what)
        print("".join(f"  | {line}\n" for program in programs for line in str(program).splitlines()), flush=True)


def converse(what, server, clients, expect, for_ever=False):
    """`server` and each of `clients` begin a Program.  A server that serves for ever is ended by Ctrl-C."""
    server = server()
    clients = [client() for client in clients]
    right = all([client.finish().right(expect) for client in clients])
    if for_ever:
        server.interrupt()
    server.finish()
    right = right and (server.process.returncode != -signal.SIGKILL if for_ever else server.right())
    report(what, right, server, *clients)


def new_address(number=itertools.count()):
    return f"pipe://example-{os.getpid()}-{next(number)}"


def files():
    for server, client in itertools.product((".lua", ".py"), repeat=2):
        address = new_address()
        converse(f"file_server{server} and file_client{client}",
                 lambda: Program("file_server" + server, address),
                 [lambda: Program("file_client" + client, address, EXAMPLES / "data/sample.txt", "2", "5")],
                 COUNTED + "copied 5 times\n" * 2)
    converse("file_server.lua and file_client.py without arguments",
             lambda: Program("file_server.lua"), [lambda: Program("file_client.py")],
             COUNTED + "copied 100 times\n")


def greeters(greeter):
    clients = ["greeter_client.lua", "greeter_client.py"]
    for server, client in itertools.product(["greeter_server.lua", "greeter_server.py"], clients):
        address = new_address()
        converse(f"{server} and {client}", lambda: Program(server, address), [lambda: Program(client, address)],
                 GREETED)
    clients.append("aio_client.py")
    for server in "serve.lua", "serve.py", "aio_serve.py", greeter:
        address = new_address()
        first = ["serve", address] if server == greeter else [address]
        converse(f"{Path(server).name} and many clients", lambda: Program(server, *first),
                 [lambda client=client: Program(client, address) for client in clients * 3], GREETED, for_ever=True)
    address = new_address()
    converse("serve.lua and greeter.c", lambda: Program("serve.lua", address),
             [lambda: Program(greeter, "world", address)], "hello world\n", for_ever=True)


def free_port():
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def page(name, folder):
    """The programs of a page.  What listens is asked by the greeter's clients, what connects asks serve.lua; and what
    listens at another address is asked by the program behind it. Their port becomes one that is free."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("udp://8080", f"udp://{free_port()}")
    server = None  # of the next program
    for number, (language, code) in enumerate(re.findall(r"^```(lua|python)\n(.*?)^```", text, re.M | re.S), 1):
        program = folder / f"{number}.{'py' if language == 'python' else language}"
        program.write_text(code, encoding="utf-8")
        what = f"{name}: program {number}, {language}"
        address = "pipe://greeter"
        listens = re.search(r"\.(serve|listen|InitConnection)\(", code)
        if server:
            converse(f"{what}, and the one before it", lambda: Program(server), [lambda: Program(program)], None)
            server = None
        elif listens and "greeter" not in code and "InitConnection" not in code:
            server = program
        elif listens:
            for client in "greeter_client.lua", "greeter_client.py":
                converse(f"{what}, and {client}", lambda: Program(program), [lambda: Program(client, address)],
                         GREETED, for_ever=bool(re.search(r"\b(ipcio|aio)\.serve\(", code)))
        else:
            converse(f"{what}, and serve.lua", lambda: Program("serve.lua", address),
                     [lambda: Program(program)], None, for_ever=True)


def one(what, program, expect=None):
    program.finish()
    report(what, program.right(expect), program)


with tempfile.TemporaryDirectory(prefix="ipcio-examples-") as folder:
    os.environ["IPCIO_DIR"] = folder + "/names"
    os.mkdir(folder + "/names", 0o700)
    files()
    greeters(sys.argv[1])
    rpc = f"pipe://{folder}/rpc.sock"
    converse("jsonrpc_server.py and its clients", lambda: Program("jsonrpc_server.py", rpc),
             [lambda client=client: Program(client, rpc) for client in ("jsonrpc_client.lua", "jsonrpc_client.py")],
             "5\nZOË\n", for_ever=True)
    one("coroutine.lua", Program("coroutine.lua", new_address()), "hello one\nhello two\nhello three\n")
    one("scheduler.lua", Program("scheduler.lua", new_address(), new_address()), SCHEDULED)
    page("README.md", Path(folder))
    page("docs/guide.md", Path(folder))
    one("tools/demo --check", Program(ROOT / "tools/demo", "--check"))
    left = os.listdir(folder + "/names")
    report(f"nothing is left behind {left or ''}", not left)
missing = {p.name for p in EXAMPLES.iterdir() if p.suffix in (".lua", ".py", ".c")} - ran
report(f"every example was run {missing or ''}", not missing)
sys.exit(f"{len(failures)} failed" if failures else 0)
