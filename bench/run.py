"""ipcio beside what it replaces, in alternating rounds; prints a table.

What is compared, each time two processes of which both read every byte of every message:
    C        against bare blocking sockets, AF_UNIX for `pipe` and TCP with TCP_NODELAY for `tcp`, that write all and
             read all, and against ones whose reader spins
    Lua      against LuaSocket's
    Python   against bare sockets, and `pipe` against multiprocessing.connection
    shm      in C against a bare ring in shared memory whose two sides spin and never sleep; in Lua and Python against
             what these have: LuaSocket, multiprocessing.connection
The bare ones frame nothing: who reads is told how long each message is.
pinned: the client on processor 0, the server on 1.  Left alone, the system puts them now on two processors and now on
one, and the figures tell rather what it did.  For C also awake: pinned, and a process that yields to every other keeps
each processor from sleeping, so that waking up costs less; and together: both on processor 0.
crowd: a round trip of one client of `serve` when 10 are connected and when 1000 are, of which the others are idle;
pinned.  The ratio is what it costs among the 1000 to what it costs among the 10.

The two of a pair are measured one right after the other, now this, now that first; the ratio is that of such a
pair, else above 1 where ipcio is faster, and the table shows its median and its range over the rounds.

The processors of a virtual machine are moved about by its host, and figures change several times over with that.  So
before and after each pair the distance of the two is measured, a round trip of 16 KiB through shared memory: smt
(threads of one core) below 2.0 us, near below 4.5 us, else far.  busy: meanwhile other programs worked for more than a
tenth of the time (cannot be told of awake pairs).  A pair that was not near throughout is repeated up to twice; where a
row has near pairs it counts only those."""
import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
BENCH = os.environ.get("IPCIO_BENCH") or HERE.parent / "build/release/bench/bench"
C, LUA, PYTHON = [BENCH], ["lua5.4", HERE / "bench.lua"], [sys.executable, HERE / "bench.py"]
ADDRESSES = {"pipe": "pipe://bench", "tcp": "tcp://0", "shm": "shm://bench"}

SIZES = {"64 B": 64, "10 kB": 10000, "1 MiB": 1048576}
LANGUAGES = {"C": C, "Lua": LUA, "Python": PYTHON}
PEERS = [("C", "pipe", "socket-unix"), ("C", "tcp", "socket-tcp"),
         ("Lua", "pipe", "luasocket-unix"), ("Lua", "tcp", "luasocket-tcp"),
         ("Python", "pipe", "socket-unix"), ("Python", "pipe", "multiprocessing"), ("Python", "tcp", "socket-tcp"),
         ("C", "shm", "limit"), ("Lua", "shm", "luasocket-unix"), ("Python", "shm", "multiprocessing")]
SPINNING = [("C", "pipe", "spin-unix"), ("C", "tcp", "spin-tcp")]
MODES = {"round trip": "pp", "stream": "stream"}
CONDITIONS = {"pinned": (MODES, PEERS), "awake": (["round trip"], PEERS[:2] + SPINNING),
              "together": (MODES, PEERS[:2])}
PLACES = ["near", "smt", "far", "busy"]
TABLES = [*CONDITIONS, "crowd"]


parser = argparse.ArgumentParser(prog="run bench", description=__doc__,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--quick", action="store_true", help="one short round")
parser.add_argument("--only", action="append", default=[], metavar="WORD", help="the rows in whose name or conditions "
                    "WORD stands: Lua, tcp, spin-unix, awake, stream, crowd, '1 MiB'; of several each must")
parser.add_argument("--seconds", type=float, default=150, help="begin no round that would end later (%(default)s); one "
                    "round is always made")
ASKED = parser.parse_args()
MS = 40 if ASKED.quick else 120


def measure(command, ms, together=False):
    """p50, p99, mean, rate, n; None for what the mode does not tell."""
    run = subprocess.run([*(["taskset", "-c", "0"] if together else []), *command, str(ms)],
                         env=os.environ | {"PIN": "0" if together else "1"},
                         capture_output=True, text=True, timeout=60)
    if run.returncode:
        sys.exit(f"failed: {' '.join(map(str, run.args))}\n{run.stderr}")
    return [None if field == "-" else float(field) for field in run.stdout.split()[-5:]]


def distance():
    ns = measure([BENCH, "limit", "pp", "16384"], 12)[0]
    return "smt" if ns < 2000 else "near" if ns < 4500 else "far"


def others():
    """Seconds that programs other than those started here have worked."""
    user, nice, system, _, _, _, _, stolen = map(int, Path("/proc/stat").read_text().split()[1:9])
    mine = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (user + nice + system + stolen) / os.sysconf("SC_CLK_TCK") - mine.ru_utime - mine.ru_stime


class Row:
    """Two measurements that are compared: each has a name and a command, with its mode and size."""

    def __init__(self, condition, language, mode, size, sides):
        self.condition, self.language, self.mode, self.size, self.sides = condition, language, mode, size, sides
        self.pairs = []  # (distance, one, other): nanoseconds of a round trip, or messages a second

    def named(self, words):
        names = " ".join(name for name, _ in self.sides)
        mine = {self.condition, self.language, self.mode, self.size, *names.split()}
        return mine.issuperset(words)

    def measure(self, forward):
        for _ in range(3):
            before, values, begin, worked = distance(), {}, time.monotonic(), others()
            for name, command in self.sides if forward else self.sides[::-1]:
                result = measure(command, MS, self.condition == "together")
                values[name] = result[3 if self.mode == "stream" else 0]
            busy = self.condition != "awake" and others() - worked > (time.monotonic() - begin) / 10
            seen = {before, distance(), *(["busy"] if busy else [])}
            where = next(place for place in PLACES[::-1] if place in seen)
            self.pairs.append((where, *(values[name] for name, _ in self.sides)))
            if where == "near":
                break

    def counted(self):
        return [pair for pair in self.pairs if pair[0] == "near"] or self.pairs

    def line(self):
        pairs = self.counted()
        ratios = [a / b if self.mode == "stream" else b / a for _, a, b in pairs]
        cells = [cell for i, (name, _) in enumerate(self.sides)
                 for cell in (name, self.number(statistics.median(pair[i + 1] for pair in pairs)))]
        places = ", ".join(f"{sum(pair[0] == place for pair in self.pairs)} {place}" for place in PLACES
                           if any(pair[0] == place for pair in self.pairs))
        return [self.language, self.mode, self.size, *cells, f"{statistics.median(ratios):.2f}",
                f"{min(ratios):.2f} - {max(ratios):.2f}", places]

    def number(self, value):
        if self.mode != "stream":
            return f"{value / 1000:.1f} us"
        rate = f"{value / 1e6:.2f} M/s" if value >= 1e6 else f"{value / 1000:.1f} k/s"
        return rate if SIZES[self.size] < 1000 else f"{rate}, {value * SIZES[self.size] / 1e9:.2f} GB/s"


def all_rows():
    for condition, (modes, peers) in CONDITIONS.items():
        for mode in modes:
            for language, scheme, peer in peers:
                for size, n in SIZES.items():
                    yield Row(condition, language, mode, size,
                              [(name, [*LANGUAGES[language], *backend, MODES[mode], str(n)])
                               for name, backend in ((scheme, ["ipcio", ADDRESSES[scheme]]), (peer, [peer]))])
    for language, command in LANGUAGES.items():
        for scheme, address in ADDRESSES.items():
            yield Row("crowd", language, "round trip", "64 B",
                      [(f"{scheme} of {n}", [*command, "ipcio", address, f"crowd:{n}", "64"]) for n in (10, 1000)])


def awake_while(condition):
    return subprocess.Popen([BENCH, "awake"] if condition == "awake" else ["cat"], stdin=subprocess.PIPE)


def one_round(rows, forward):
    for condition in TABLES:
        mine = [row for row in rows if row.condition == condition]
        if mine:
            with awake_while(condition):
                for row in mine if forward else mine[::-1]:
                    row.measure(forward)


def load():
    return " ".join(Path("/proc/loadavg").read_text().split()[:2])


def print_table(rows):
    for condition in TABLES:
        lines = [row.line() for row in rows if row.condition == condition and row.pairs]
        if not lines:
            continue
        head = ["", condition, "", "", "", "", "", "ratio", "range", "pairs"]
        widths = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head))]
        print()
        for line in [head, ["-" * width for width in widths], *lines]:
            print("  ".join(cell.rjust(width) if i in (4, 6, 7) else cell.ljust(width)
                            for i, (cell, width) in enumerate(zip(line, widths))).rstrip())


def main():
    rows = [row for row in all_rows() if row.named(ASKED.only)]
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
    print(f"\n{rounds} rounds of {MS} ms a figure, {time.monotonic() - begin:.0f} s; load at the end {load()}")


if __name__ == "__main__":
    main()
