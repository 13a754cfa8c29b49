"""ipcio beside what it replaces, in alternating rounds; prints a table.

    ./run bench [--quick] [--only WORD] [--seconds N]

--quick      one short round
--only WORD  the rows in whose language, peer or conditions the word stands: Lua, unix-spin, pinned, stream, 1 MiB
--seconds N  begins no round that would end later (150); one round is always made

What is compared, each time two processes of which both read every byte of every message:
    C        the transport `pipe`, against a bare blocking Unix socket that writes all and reads all, and
             against one whose reader spins
    Lua      against LuaSocket's socket.unix, told how long each message is
    Python   against multiprocessing.connection, AF_UNIX, bytes
pinned: the client on processor 0, the server on 1.  unpinned: as the system likes.  awake: pinned, and a process
that yields to every other keeps each processor from sleeping, so that waking up costs less.

ipcio and the peer are measured one right after the other, now this, now that first; the ratio is that of such a
pair, above 1 where ipcio is faster, and the table shows its median and its range over the rounds.

The processors of a virtual machine are moved about by its host, and figures change several times over with that.  So
before and after each pair the distance of the two is measured, a round trip of 16 KiB through shared memory: smt
(threads of one core) below 2.0 us, near below 4.5 us, else far, which may also mean that other work runs.  A
pair that was not near throughout is repeated up to twice; where a row has near pairs it counts only those."""
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
BENCH = os.environ.get("IPCIO_BENCH") or HERE.parent / "build/release/bench/bench"
C, LUA, PYTHON = [BENCH], ["lua5.4", HERE / "bench.lua"], [sys.executable, HERE / "bench.py"]
IPCIO = ["ipcio", "pipe://bench"]

SIZES = {"64 B": 64, "10 kB": 10000, "1 MiB": 1048576}
PEERS = [("C", C, "unix"), ("C", C, "unix-spin"), ("Lua", LUA, "luasocket"), ("Python", PYTHON, "multiprocessing")]
CONDITIONS = [("pinned", ("pp", "stream")), ("unpinned", ("pp", "stream")), ("awake", ("pp",))]
MODES = {"pp": "round trip", "stream": "stream"}


def option(name, default):
    return type(default)(sys.argv[sys.argv.index(name) + 1]) if name in sys.argv else default


QUICK, ONLY, SECONDS = "--quick" in sys.argv, option("--only", ""), option("--seconds", 150)
MS = 40 if QUICK else 120


def measure(command, mode, size, ms, pinned):
    """p50, p99, mean, rate, n; None for what the mode does not tell."""
    run = subprocess.run([*command, mode, str(size), str(ms)], env=os.environ | {"PIN": "1" if pinned else "0"},
                         capture_output=True, text=True, timeout=60)
    if run.returncode:
        sys.exit(f"failed: {' '.join(map(str, run.args))}\n{run.stderr}")
    return [None if field == "-" else float(field) for field in run.stdout.split()[-5:]]


def distance():
    ns = measure([BENCH, "limit"], "pp", 16384, 12, pinned=True)[0]
    return "smt" if ns < 2000 else "near" if ns < 4500 else "far"


class Row:
    def __init__(self, condition, language, command, peer, mode, size):
        self.condition, self.language, self.command, self.peer, self.mode, self.size = (
            condition, language, command, peer, mode, size)
        self.pairs = []  # (distance, ipcio, peer): nanoseconds of a round trip, or messages a second

    def named(self, word):
        return word in (self.condition, self.language, self.peer, self.mode, MODES[self.mode], self.size, "")

    def measure(self, ipcio_first):
        sides = [IPCIO, [self.peer]]
        for _ in range(3):
            before, values = distance(), {}
            for side in sides if ipcio_first else sides[::-1]:
                result = measure(self.command + side, self.mode, SIZES[self.size], MS, self.condition != "unpinned")
                values[side[0]] = result[3 if self.mode == "stream" else 0]
            seen = {before, distance()}
            where = next(name for name in ("far", "smt", "near") if name in seen)
            self.pairs.append((where, values["ipcio"], values[self.peer]))
            if where == "near":
                break

    def counted(self):
        return [pair for pair in self.pairs if pair[0] == "near"] or self.pairs

    def line(self):
        pairs = self.counted()
        ratios = [a / b if self.mode == "stream" else b / a for _, a, b in pairs]
        ipcio, peer = (self.number(statistics.median(pair[i] for pair in pairs)) for i in (1, 2))
        places = ", ".join(f"{sum(pair[0] == place for pair in self.pairs)} {place}" for place in ("near", "far", "smt")
                           if any(pair[0] == place for pair in self.pairs))
        return [self.language, MODES[self.mode], self.size, ipcio, self.peer, peer, f"{statistics.median(ratios):.2f}",
                f"{min(ratios):.2f} - {max(ratios):.2f}", places]

    def number(self, value):
        if self.mode == "pp":
            return f"{value / 1000:.1f} us"
        rate = f"{value / 1e6:.2f} M/s" if value >= 1e6 else f"{value / 1000:.1f} k/s"
        return rate if SIZES[self.size] < 1000 else f"{rate}, {value * SIZES[self.size] / 1e9:.2f} GB/s"


def awake_while(condition):
    return subprocess.Popen([BENCH, "awake"] if condition == "awake" else ["cat"], stdin=subprocess.PIPE)


def one_round(rows, forward):
    for condition, _ in CONDITIONS:
        mine = [row for row in rows if row.condition == condition]
        if mine:
            with awake_while(condition):
                for row in mine if forward else mine[::-1]:
                    row.measure(forward)


def load():
    return " ".join(Path("/proc/loadavg").read_text().split()[:2])


def print_table(rows):
    for condition, _ in CONDITIONS:
        lines = [row.line() for row in rows if row.condition == condition and row.pairs]
        if not lines:
            continue
        head = ["", condition, "", "ipcio", "peer", "", "ratio", "range", "pairs"]
        widths = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head))]
        print()
        for line in [head, ["-" * width for width in widths], *lines]:
            print("  ".join(cell.rjust(width) if i in (3, 5, 6) else cell.ljust(width)
                            for i, (cell, width) in enumerate(zip(line, widths))).rstrip())


def main():
    rows = [Row(condition, language, command, peer, mode, size)
            for condition, modes in CONDITIONS for mode in modes for language, command, peer in PEERS for size in SIZES
            if not (peer == "unix-spin" and mode == "stream")]
    rows = [row for row in rows if row.named(ONLY)]
    if not rows:
        sys.exit(f"no row is named {ONLY}")
    begin, rounds = time.monotonic(), 0
    with tempfile.TemporaryDirectory() as folder:
        os.environ["IPCIO_DIR"] = folder
        while not rounds or not QUICK and (time.monotonic() - begin) * (rounds + 1) / rounds < SECONDS:
            print(f"round {rounds + 1}: load {load()}, processors {distance()}", file=sys.stderr)
            one_round(rows, rounds % 2 == 0)
            rounds += 1
    print_table(rows)
    print(f"\n{rounds} rounds of {MS} ms a figure, {time.monotonic() - begin:.0f} s; load at the end {load()}")


if __name__ == "__main__":
    main()
