"""ipcio beside what it replaces, in alternating rounds; prints a table.

What is compared, each time two processes of which both read every byte of every message:
    C        against bare blocking sockets, AF_UNIX for `pipe` and TCP with TCP_NODELAY for `tcp`, that write all and
             read all, and against ones whose reader spins
    Lua      against LuaSocket's
    Python   against bare sockets, and `pipe` against multiprocessing.connection
    file     in C against bare files, made, renamed, told of, read and removed by the same calls
    shm      in C against a bare ring in shared memory whose two sides spin and never sleep; in Lua and Python against
             what these have: LuaSocket, multiprocessing.connection
The bare ones frame nothing: who reads is told how long each message is.
pinned: the client on processor 0, the server on 1.  Left alone, the system puts them now on two processors and now on
one, and the figures tell rather what it did.  For C also awake: pinned, and a process that yields to every other keeps
each processor from sleeping, so that waking up costs less; and together: both on processor 0.
crowd: a round trip of one client of `serve` when 10 are connected and when 1000 are, of which the others are idle;
pinned.  The ratio is what it costs among the 1000 to what it costs among the 10.

--peers: ipcio beside other libraries, which need a C compiler, cargo and pip and are built in build/peers; whatever
cannot be had is left out.  The receivers copy each message and check its number.  The limits have no library: a
ring in shared memory whose two sides spin, and one of 256 bytes, so always the same four cache lines.  It writes
build/bench/peers.json, from which --plot makes docs/peers.svg and the table of the README.  How to add one stands in
bench/peers/__init__.py.

The two of a pair are measured one right after the other, now this, now that first; the ratio is that of such a
pair, else above 1 where ipcio is faster, and the table shows its median and its range over the rounds.

The processors of a virtual machine are moved about by its host, and figures change several times over with that.  So
before and after each pair the distance of the two is measured, a round trip of 16 KiB through shared memory: smt
(threads of one core) below 2.0 us, near below 4.5 us, else far.  busy: meanwhile other programs worked for more than a
tenth of the time (cannot be told of awake pairs).  A pair that was not near throughout is repeated up to twice; where a
row has near pairs it counts only those."""
import argparse
import json
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import peers
import plot
from measure import BENCH, C, HERE, LUA, MODES, PYTHON, SIZES, USUAL, Failed, Row, distance

ADDRESSES = {"pipe": "pipe://bench", "tcp": "tcp://0", "shm": "shm://bench", "file": "file://bench"}
CROWDED = ["pipe", "tcp", "shm"]
LANGUAGES = {"C": C, "Lua": LUA, "Python": PYTHON}
PAIRS = [("C", "pipe", "socket-unix"), ("C", "tcp", "socket-tcp"),
         ("Lua", "pipe", "luasocket-unix"), ("Lua", "tcp", "luasocket-tcp"),
         ("Python", "pipe", "socket-unix"), ("Python", "pipe", "multiprocessing"), ("Python", "tcp", "socket-tcp"),
         ("C", "file", "files"), ("C", "shm", "limit"), ("Lua", "shm", "luasocket-unix"), ("Python", "shm", "multiprocessing")]
SPINNING = [("C", "pipe", "spin-unix"), ("C", "tcp", "spin-tcp")]
CONDITIONS = {"pinned": (MODES, PAIRS), "awake": (["round trip"], PAIRS[:2] + SPINNING),
              "together": (MODES, PAIRS[:2])}
TABLES = [*CONDITIONS, "crowd", "peers"]
FOUND = HERE.parent / "build/bench/peers.json"
PLOT = HERE.parent / "docs/peers.svg"


parser = argparse.ArgumentParser(prog="run bench", description=__doc__,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--peers", action="store_true", help="beside other libraries")
parser.add_argument("--plot", action="store_true", help="what --peers found, as a picture and a table")
parser.add_argument("--quick", action="store_true", help="one short round")
parser.add_argument("--only", action="append", default=[], metavar="WORD", help="the rows in whose name or conditions "
                    "WORD stands: Lua, tcp, spin-unix, awake, stream, crowd, '1 MiB'; of several each must")
parser.add_argument("--seconds", type=float, default=150, help="begin no round that would end later (%(default)s); one "
                    "round is always made")
ASKED = parser.parse_args()
MS = 40 if ASKED.quick else 120
LEFT_OUT = {}  # peers, and why


def all_rows():
    for condition, (modes, pairs) in CONDITIONS.items():
        for mode in modes:
            for language, scheme, peer in pairs:
                for size in USUAL:
                    yield Row(condition, language, mode, size,
                              [(name, [*LANGUAGES[language], *backend, MODES[mode], str(SIZES[size])])
                               for name, backend in ((scheme, ["ipcio", ADDRESSES[scheme]]), (peer, [peer]))])
    for language, command in LANGUAGES.items():
        for scheme in CROWDED:
            yield Row("crowd", language, "round trip", "64 B",
                      [(f"{scheme} of {n}", [*command, "ipcio", ADDRESSES[scheme], f"crowd:{n}", "64"]) for n in (10, 1000)])


def awake_while(condition):
    return subprocess.Popen([BENCH, "awake"] if condition == "awake" else ["cat"], stdin=subprocess.PIPE)


def one_round(rows, forward):
    for condition in TABLES:
        mine = [row for row in rows if row.condition == condition]
        if mine:
            with awake_while(condition):
                for row in mine if forward else mine[::-1]:
                    try:
                        row.measure(forward, MS)
                    except Failed as error:
                        name = row.sides[0][0]
                        if not ASKED.peers or name.startswith("ipcio"):
                            sys.exit(error)
                        LEFT_OUT[f"{row.language} {name}"] = error


def load():
    return " ".join(Path("/proc/loadavg").read_text().split()[:2])


def print_table(rows):
    for condition in TABLES:
        lines = [row.line() for row in rows if row.condition == condition and row.seen]
        if not lines:
            continue
        head = (["", condition, "", "", "", "range", "times"] if condition == "peers" else
                ["", condition, "", "", "", "", "", "ratio", "range", "pairs"])
        widths = [max(map(len, column)) for column in zip(head, *lines)]
        print()
        for line in [head, ["-" * width for width in widths], *lines]:
            print("  ".join(cell.rjust(width) if cell[:1].isdigit() else cell.ljust(width)
                            for cell, width in zip(line, widths)).rstrip())


def machine():
    model = re.search("model name.*: (.*)", Path("/proc/cpuinfo").read_text())
    system = f"{platform.system()} {platform.release().split('-')[0]}"
    return f"{os.cpu_count()} processors {model[1] if model else platform.machine()}, {system}"


def keep(rows, rounds):
    FOUND.parent.mkdir(parents=True, exist_ok=True)
    FOUND.write_text(json.dumps({
        "machine": machine(), "rounds": rounds, "left out": sorted(LEFT_OUT),
        "rows": [{"language": row.language, "name": row.sides[0][0], "mode": row.mode, "size": row.size,
                  "median": row.medians()[0], "seen": row.seen} for row in rows if row.seen]}, indent=1))


def main():
    if ASKED.plot:
        if not FOUND.exists():
            sys.exit("nothing is measured yet: ./run bench --peers")
        return plot.draw(json.loads(FOUND.read_text()), PLOT)
    if ASKED.peers:
        os.environ["COPY"] = "1"
    rows = [row for row in (peers.rows() if ASKED.peers else all_rows()) if row.named(ASKED.only)]
    if not rows:
        sys.exit(f"no row is named {' and '.join(ASKED.only)}")
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each process of a crowd of 1000 needs that many
    begin, rounds = time.monotonic(), 0
    with tempfile.TemporaryDirectory() as folder:
        os.environ["IPCIO_DIR"] = folder
        while not rounds or not ASKED.quick and (time.monotonic() - begin) * (rounds + 1) / rounds < ASKED.seconds:
            print(f"round {rounds + 1}: load {load()}, processors {distance()}", file=sys.stderr)
            one_round(rows, rounds % 2 == 0)
            rounds += 1
    print_table(rows)
    for name, error in LEFT_OUT.items():
        print(f"\nleft out: {name}: {error}")
    if ASKED.peers:
        keep(rows, rounds)
    print(f"\n{rounds} rounds of {MS} ms a figure, {time.monotonic() - begin:.0f} s; load at the end {load()}")


if __name__ == "__main__":
    main()
