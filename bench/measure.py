"""One row of a table: its sides are measured one right after the other, and how near the processors are meanwhile."""
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
BENCH = os.environ.get("IPCIO_BENCH") or HERE.parent / "build/release/bench/bench"
C, LUA, PYTHON = [BENCH], ["lua5.4", HERE / "bench.lua"], [sys.executable, HERE / "bench.py"]

SIZES = {"16 B": 16, "64 B": 64, "256 B": 256, "1 KiB": 1024, "10 kB": 10000, "64 KiB": 65536, "1 MiB": 1048576}
USUAL = ["64 B", "10 kB", "1 MiB"]
MODES = {"round trip": "pp", "stream": "stream"}
PLACES = ["near", "smt", "far", "busy"]


class Failed(Exception):
    pass


def measure(command, ms, together=False):
    """p50, p99, mean, rate, n; None for what the mode does not tell."""
    command = [*(["taskset", "-c", "0"] if together else []), *map(str, command), str(ms)]
    try:
        run = subprocess.run(command, env=os.environ | {"PIN": "0" if together else "1"},
                             capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired as error:
        raise Failed(error) from None
    if run.returncode:
        raise Failed(f"{' '.join(command)} ended with {run.returncode}\n{run.stderr.strip()}")
    return [None if field == "-" else float(field) for field in run.stdout.split()[-5:]]


def distance():
    ns = measure([BENCH, "limit", "pp", "16384"], 12)[0]
    return "smt" if ns < 2000 else "near" if ns < 4500 else "far"


def others():
    """Seconds that programs other than those started here have worked."""
    user, nice, system, _, _, _, _, stolen = map(int, Path("/proc/stat").read_text().split()[1:9])
    mine = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (user + nice + system + stolen) / os.sysconf("SC_CLK_TCK") - mine.ru_utime - mine.ru_stime


def number(mode, size, value):
    if mode != "stream":
        return f"{value:.0f} ns" if value < 1000 else f"{value / 1000:.1f} us"
    rate = f"{value / 1e6:.2f} M/s" if value >= 1e6 else f"{value / 1000:.1f} k/s"
    return rate if SIZES[size] < 1000 else f"{rate}, {value * SIZES[size] / 1e9:.2f} GB/s"


class Row:
    """Measurements that are compared: each has a name and a command, with its mode and size."""

    def __init__(self, condition, language, mode, size, sides):
        self.condition, self.language, self.mode, self.size, self.sides = condition, language, mode, size, sides
        self.seen = []  # (place, a value for each side): nanoseconds of a round trip, or messages a second

    def named(self, words):
        names = " ".join(name for name, _ in self.sides)
        mine = {self.condition, self.language, self.mode, self.size, *names.split()}
        return mine.issuperset(words)

    def measure(self, forward, ms):
        for _ in range(3):
            before, values, begin, worked = distance(), {}, time.monotonic(), others()
            for name, command in self.sides if forward else self.sides[::-1]:
                result = measure(command, ms, self.condition == "together")
                values[name] = result[3 if self.mode == "stream" else 0]
            busy = self.condition != "awake" and others() - worked > (time.monotonic() - begin) / 10
            places = {before, distance(), *(["busy"] if busy else [])}
            where = next(place for place in PLACES[::-1] if place in places)
            self.seen.append((where, *(values[name] for name, _ in self.sides)))
            if where == "near":
                break

    def counted(self):
        return [values for place, *values in self.seen if place == "near"] or [values for _, *values in self.seen]

    def medians(self):
        return [statistics.median(values) for values in zip(*self.counted())]

    def places(self):
        counts = [(sum(place == where for place, *_ in self.seen), where) for where in PLACES]
        return ", ".join(f"{count} {where}" for count, where in counts if count)

    def line(self):
        medians = [self.number(value) for value in self.medians()]
        if len(medians) == 1:  # compared with other rows
            values = [value for value, in self.counted()]
            span = " - ".join(self.number(value).split(", ")[0] for value in (min(values), max(values)))
        else:
            ratios = [a / b if self.mode == "stream" else b / a for a, b in self.counted()]
            span = f"{min(ratios):.2f} - {max(ratios):.2f}"
            medians.append(f"{statistics.median(ratios):.2f}")
        names = [name for name, _ in self.sides]
        cells = [cell for pair in zip(names, medians) for cell in pair] + medians[len(names):]
        return [self.language, self.mode, self.size, *cells, span, self.places()]

    def number(self, value):
        return number(self.mode, self.size, value)
