#!/usr/bin/env python3
"""Runs the conformance cases: every transport of this build, every pair of languages, in both roles.

usage: run.py --c PEER --c32 PEER --lua lua5.4 --python python3 [PATTERN...]

Each language has a peer program that knows the same cases. A case is one conversation of a server with its clients,
each a process of its own; both sides check what they receive and end with the line "ok CASE". A pattern, as in
"pipe lua-python echo" or "pipe * many", chooses from "TRANSPORT SERVER-CLIENT CASE".
"""
import argparse
import collections
import concurrent.futures
import fnmatch
import itertools
import os
import pathlib
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
LIMIT = 120  # seconds for a case; those that hang are found by it
Case = collections.namedtuple("Case", "needs clients first dies", defaults=("", 1, "server", None))

CASES = {
    "echo": Case(),  # messages from 0 to 65,000 bytes, there and other ones back, then the end
    "long": Case("length"),  # the same to 5 MiB
    "empty": Case("all"),  # a thousand empty messages are messages
    "many": Case("all"),  # 10,000 small ones without waiting, counted and summed
    "order": Case("all length"),  # mixed lengths stay in order
    "late": Case("own"),  # the answer to a call that timed out never answers the next
    "limit": Case("own"),  # over either side's limit is an error, and the connection goes on
    "pieces": Case("length"),  # written and read in pieces of different lengths; a rest that is dropped
    "view": Case("length views"),  # read and written in place, with what was given up in between
    "abort": Case("length"),  # a message given up half way is never seen whole, nor by one who reads it in pieces
    "unread": Case("all length"),  # a write times out on a peer that does not read; the message is never seen
    "timeout": Case(),  # reads, calls and accepts that find nothing, and go on
    "first": Case(first="client"),  # the client waits for its server
    "clients": Case(clients=8),  # served at once, each gets its own answers, also when it asks ahead
    "close": Case("own"),  # what was sent before closing arrives, then the end
    "duplex": Case("length threads"),  # large messages both ways at the same time
    "peer": Case("own"),  # each side is told the other's process and user
    "file": Case(),  # an open file with a message, each way; unsupported where it is not over pipe
    "exists": Case(),  # a second server fails and the first goes on
    "server_killed": Case("death", dies="server"),  # what it had sent arrives, then the end
    "client_killed": Case("death", dies="client"),
    "autoit": Case("length"),  # the AutoIt names, with their steps, for two clients in turn
}
# What a case may need, and who cannot have it: a language or, by its nature, a transport.
#   all      no message is lost, and none overtakes another    death    who reads is told of it
#   length   messages of any                                   own      each client has its connection at the server,
#   threads  some that talk at the same time                            which tells user and limit
#   views    reading and writing in place
LACKS = {"lua": {"threads", "views"}, "udp": {"all", "length", "own", "death"}}
APART = {"fd", "fifo"}  # addresses of one process, and one direction: tests/c/test_fd.c, test_fifo.c
QUIET = "file-quiet"  # `file` in a folder that tells nothing, as where the two sides are on different hosts


class Peer:
    """A peer process; its output is collected while it runs."""

    def __init__(self, command, role, address, case):
        self.role, self.lines, self.ready = role, [], threading.Event()
        self.process = subprocess.Popen([*command, role, address, case], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
        self.reader = threading.Thread(target=self.collect)
        self.reader.start()

    def collect(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if line.startswith("ready "):
                self.ready.set()
        self.ready.set()

    def address(self):
        """The address it is ready at, or None."""
        self.ready.wait(LIMIT)
        return next((line.split(" ", 1)[1] for line in self.lines if line.startswith("ready ")), None)

    def end(self, case, killed, deadline):
        """None when it ended as it should, else what was wrong."""
        try:
            code = self.process.wait(max(0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            code = "still running"
        self.reader.join()
        if killed:
            return None if code == -signal.SIGKILL else f"{self.role}: {code}, was to be killed"
        return None if code == 0 and self.lines[-1:] == [f"ok {case}"] else f"{self.role}: {code}"


def new_address(scheme, number, fixed_port):
    """One that no other case and no other run has."""
    if scheme == QUIET:
        folder = tempfile.mkdtemp(prefix="ipcio-conformance-")
        os.mkdir(f"{folder}/ipcio.bell")  # in the place of the server's socket
        return f"file://{folder}"
    if scheme not in ("tcp", "udp"):
        return f"{scheme}://conformance-{os.getpid()}-{number}"
    if not fixed_port:
        return f"{scheme}://127.0.0.1:0"
    with socket.socket(type=socket.SOCK_DGRAM if scheme == "udp" else socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return f"{scheme}://127.0.0.1:{probe.getsockname()[1]}"


def run_case(commands, scheme, server, client, name, number):
    """What went wrong, with both sides' output, or None."""
    case, peers, deadline = CASES[name], [], time.monotonic() + LIMIT
    address = folder = new_address(scheme, number, case.first == "client" or name == "autoit")

    def start(role, address, count=1):
        language = server if role == "server" else client
        peers.extend(Peer(commands[language], role, address, name) for _ in range(count))
        return peers[-1].address() if role == case.first else None

    if case.first == "client":
        start("client", address)
        start("server", address)
    else:
        address = start("server", address)
        if address:
            start("client", address, case.clients)
    wrong = [text for peer in peers if (text := peer.end(name, peer.role == case.dies, deadline))]
    if scheme == QUIET:
        shutil.rmtree(folder.removeprefix("file://"))
    if not wrong and len(peers) == 1 + case.clients:
        return None
    said = [f"    {peer.role}: {line}" for peer in peers for line in peer.lines]
    return "\n".join([f"  {text}" for text in wrong] + said)


def able(name, *those):
    """Whether all of those have what the case needs."""
    return not any(LACKS.get(each, set()) & set(CASES[name].needs.split()) for each in those)


def ask(command, question):
    return subprocess.run([*command, question], check=True, stdout=subprocess.PIPE, text=True).stdout.split()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--c", help="the program made of peer.c")
    parser.add_argument("--c32", help="the same, made for 32 bits; it meets only the other")
    parser.add_argument("--lua", help="the interpreter for peer.lua")
    parser.add_argument("--python", help="the interpreter for peer.py")
    parser.add_argument("patterns", nargs="*", default=["*"])
    given = parser.parse_args()
    commands = {"c": given.c and shlex.split(given.c),
                "c32": given.c32 and shlex.split(given.c32),
                "lua": given.lua and [*shlex.split(given.lua), HERE / "peer.lua"],
                "python": given.python and [*shlex.split(given.python), HERE / "peer.py"]}
    commands = {language: command for language, command in commands.items() if command}

    transports = None
    for language, command in commands.items():
        wanted = {name for name in CASES if able(name, language)}
        if unequal := wanted.symmetric_difference(ask(command, "cases")):
            sys.exit(f"{language}: not in both run.py and its peer: {' '.join(sorted(unequal))}")
        its = ask(command, "transports")
        if transports not in (None, its):
            sys.exit(f"{language}: it has the transports {its}, the others have {transports}")
        transports = its

    schemes = [*transports, *([QUIET] if "file" in transports else [])]
    chosen = [(scheme, server, client, name)
              for scheme in schemes if scheme not in APART
              for server, client in itertools.product(commands, commands)
              if "c32" not in (server, client) or {server, client} == {"c", "c32"}
              for name in CASES if able(name, scheme, server, client)
              and any(fnmatch.fnmatch(f"{scheme} {server}-{client} {name}", pattern) for pattern in given.patterns)]
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(lambda job: run_case(commands, *job[1], job[0]), enumerate(chosen))
        for (scheme, server, client, name), wrong in zip(chosen, results):
            if wrong is not None:
                failed += 1
                print(f"FAILED {scheme} {server}-{client} {name}\n{wrong}", flush=True)
    print(f"{len(chosen) - failed} of {len(chosen)} cases passed: {' '.join(transports)}; {' '.join(commands)}")
    return 1 if failed or not chosen else 0


sys.exit(main())
