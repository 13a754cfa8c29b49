"""What a call costs apart from the system: instructions in C, Lua and Python, and allocations in C.

    ./run bench --quick; eval "$(./run env)"; python3 bench/instructions.py

One process is both ends of a connection, writes a message and reads it, N times and 2N times under valgrind; the
difference over N is the cost of a pair, free of what starting and connecting cost.  The kernel's part is not
counted.  A message of 64 bytes; for allocations also longer ones.

LIMIT is what a Lua or Python call may cost more than the C call it makes, apart from FLOOR: what the cheapest
wrappers of a write and a read cost that were tried with functions that do nothing (instructions a pair)."""
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
BENCH = os.environ.get("IPCIO_BENCH") or HERE.parent / "build/release/bench/bench"
COMMANDS = {"C": [BENCH], "Lua": ["lua5.4", HERE / "bench.lua"], "Python": [sys.executable, HERE / "bench.py"]}
FLOOR = {"Lua": 1381 - 119, "Python": 797 - 119}
LIMIT = 300
COLLECTED = r"Collected : (\d+)"
ALLOCATED = r"total heap usage: ([\d,]+) allocs"


def count(tool, pattern, language, size, pairs):
    run = subprocess.run(
        ["valgrind", *tool, *COMMANDS[language], "ipcio", "pipe://instructions", "self", str(size), str(pairs)],
        env=os.environ | {"PYTHONHASHSEED": "0", "PYTHONMALLOC": "pymalloc"}, capture_output=True, text=True)
    found = re.search(pattern, run.stderr)
    if run.returncode or not found:
        sys.exit(f"failed: {' '.join(map(str, run.args))}\n{run.stderr}")
    return int(found[1].replace(",", ""))


def slope(tool, pattern, language, size, n):
    return (count(tool, pattern, language, size, 2 * n) - count(tool, pattern, language, size, n)) / n


def main():
    over = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["IPCIO_DIR"] = folder
        callgrind = ["--tool=callgrind", f"--callgrind-out-file={folder}/out"]
        c = slope(callgrind, COLLECTED, "C", 64, 2000)
        print(f"C       {c:6.0f} instructions for a write and a read")
        for language, floor in FLOOR.items():
            pair = slope(callgrind, COLLECTED, language, 64, 2000)
            beyond = (pair - c - floor) / 2
            print(f"{language:7} {pair:6.0f}, {pair - c:5.0f} more than C; "
                  f"a call {beyond:4.0f} beyond the wrapper's floor (at most {LIMIT})")
            if beyond > LIMIT:
                over.append(f"a call from {language} costs {beyond:.0f} instructions too many")
        for size in (64, 10000, 1048576):
            allocations = slope(["--tool=memcheck"], ALLOCATED, "C", size, 20)
            print(f"C       {allocations:g} allocations for a write and a read of {size} bytes")
            if allocations:
                over.append(f"C allocates for a message of {size} bytes")
    sys.exit("\n".join(over) or 0)


if __name__ == "__main__":
    main()
