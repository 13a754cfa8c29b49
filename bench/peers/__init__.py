"""What `./run bench --peers` measures."""
from measure import C, HERE, LUA, MODES, PYTHON, SIZES, USUAL, Row

BUILD = HERE.parent / "build"
RUST = BUILD / "peers/release/examples"
WHEELS = [BUILD / "peers/venv/bin/python3", HERE / "bench.py"]
SHM, PIPE = ["ipcio", "shm://bench"], ["ipcio", "pipe://bench"]

# A peer is a line here, and a file in this folder for bench.c, bench.lua or bench.py to load.  bench.c loads a shared
# object, of a C file by a line in CMakeLists.txt or of a Rust file by three in Cargo.toml.
PEERS = [
    ("C", "no library", [*C, "limit"], SIZES, MODES),
    ("C", "no library, four cache lines", ["env", "RING=256", *C, "limit"], ["16 B", "64 B"], ["round trip"]),
    ("C", "ipcio shm", [*C, *SHM], SIZES, MODES),
    ("C", "FastIPC, rings of 1 MiB", [*C, "peer", RUST / "libpeer_fastipc.so"], SIZES, MODES),
    ("C", "FastIPC, rings of 4 MiB", ["env", f"RING={4 << 20}", *C, "peer", RUST / "libpeer_fastipc.so"], SIZES, MODES),
    ("C", "iceoryx2", [*C, "peer", RUST / "libpeer_iceoryx2.so"], USUAL, MODES),
    ("C", "ipcio pipe", [*C, *PIPE], USUAL, MODES),
    ("C", "ZeroMQ", [*C, "peer", BUILD / "release/bench/zeromq.so"], USUAL, MODES),
    ("Lua", "ipcio shm", [*LUA, *SHM], USUAL, MODES),
    ("Lua", "ipcio pipe", [*LUA, *PIPE], USUAL, MODES),
    ("Lua", "LuaSocket", [*LUA, "luasocket-unix"], USUAL, MODES),
    ("Lua", "cqueues", [*LUA, "peer", HERE / "peers/cqueues.lua"], USUAL, MODES),
    ("Python", "ipcio shm", [*PYTHON, *SHM], USUAL, MODES),
    ("Python", "iceoryx2", [*WHEELS, "peer", "iceoryx2"], USUAL, MODES),
    ("Python", "ipcio pipe", [*PYTHON, *PIPE], USUAL, MODES),
    ("Python", "multiprocessing", [*PYTHON, "multiprocessing"], USUAL, MODES),
    ("Python", "pyzmq", [*WHEELS, "peer", "pyzmq"], USUAL, MODES),
]


def rows():
    """What is compared is measured in succession."""
    for size, n in SIZES.items():
        for mode, word in MODES.items():
            for language, name, command, sizes, modes in PEERS:
                if size in sizes and mode in modes:
                    yield Row("peers", language, mode, size, [(name, [*command, word, str(n)])])
