#!/usr/bin/env python3
"""Checks the ring and its sleeping and waking in every order of steps: see model.c.

run.py [--cc COMMAND] [--rounds MORE] [--only MUTANT]     '' for none of the mutants

First the code as it is, scaled down, which must hold in every scenario; MORE: for so many more rounds, as far as the
memory goes.  Then changed for the worse, line by line: the model must find each of these errors, or it would not
find any.
"""

import argparse
import pathlib
import re
import resource
import subprocess
import sys
import tempfile

SOURCE = pathlib.Path(__file__).resolve().parents[2]
MEMORY = 2 << 30  # bytes

# What makes the rings small enough, and the repetitions few: the constants of shm.c, and how long it spins.
CONSTANTS = {"PAGE": 1024, "GROW": 2, "CALM": 3, "STEP": 16, "LEAP": 64, "EARLY": 32, "STUCK": 1, "SILENCE": 0, "STREAM": 1000, "SPUN": 1, "LOOKS": 1,
             "AT_ONCE": 1}
BRIEF = 16  # of ring.h
REPETITIONS = [
    ("shm.c", "++c->out.unheard % 4 == 0", "looks(&c->out.unheard)"),
    ("shm.c", "c->out.unheard - c->out.counted >= RAPID", "rapid(c->out.unheard)"),
]

# What is changed, the scenario that shows it, the file, its text, the text instead.
MUTANTS = {
    "the head is published without a barrier": (
        "stream",
        "shm.c",
        "if (!(state & AWAKE) || !atomic_load_explicit(&c->fences, memory_order_relaxed)) {",
        "if (0) {",
    ),
    "who is awake goes to sleep without a fence": (
        "stream, awake",
        "shm.c",
        " || os_fence() == 0) return true;",
        ") return true;\n    return true;",
    ),
    "a frame may come behind the fence of who was awake": (
        "stream, awake",
        "shm.c",
        "        state = atomic_load_explicit(c->others, memory_order_relaxed);\n    }\n",
        "    }\n",
    ),
    "the tail is published without a barrier": (
        "reader that stops",
        "ring.c",
        "atomic_exchange_explicit(r->tail_word, upto, memory_order_seq_cst);",
        "atomic_store_explicit(r->tail_word, upto, memory_order_release);",
    ),
    "more of a frame is shown than was copied": (
        "pieces of what is being written",
        "ring.c",
        "w->at + 1 + bytes / RING_UNIT",
        "w->at + 2 + bytes / RING_UNIT",
    ),
    "who goes to sleep says so without a barrier": (
        "stream",
        "shm.c",
        "atomic_fetch_or_explicit(c->mine, want == IPCIO_WANT_READ ? SLEEPS : WAITS, memory_order_seq_cst);",
        "atomic_store_explicit(c->mine, *c->mine | (want == IPCIO_WANT_READ ? SLEEPS : WAITS), memory_order_release);",
    ),
    "who goes to sleep does not look again": (
        "stream",
        "shm.c",
        "SLEEPS : WAITS, memory_order_seq_cst);\n"
        "    return (want == IPCIO_WANT_READ && !fence(c)) || news(c, want);",
        "SLEEPS : WAITS, memory_order_seq_cst);\n    return false;",
    ),
    "the bell is not rung": ("stream", "shm.c", "& SLEEPS) || rendezvous_ring(c->fd) == 0) return true;", "& SLEEPS) || true) return true;"),
    "a write tells of the end before the answer": ("killed while it answers", "shm.c", "return unread ? 0 : closed(c);", "return closed(c);"),
    "the sleeper's flag is cleared after the bell": (
        "stream",
        "shm.c",
        "if (!(rouse(c->others, SLEEPS | DOZES) & SLEEPS) || rendezvous_ring(c->fd) == 0) return true;\n",
        "int st = rendezvous_ring(c->fd);\n"
        "    atomic_fetch_and_explicit(c->others, ~(uint32_t)SLEEPS, memory_order_relaxed);\n"
        "    if (st == 0) return true;\n",
    ),
    "who dozes is not woken": (
        "stream, dozing",
        "shm.c",
        "rouse(c->others, SLEEPS | DOZES) & SLEEPS",
        "atomic_fetch_and_explicit(c->others, ~(uint32_t)(SLEEPS | DOZES), memory_order_seq_cst) & SLEEPS",
    ),
    "a writer who dozes is not woken": (
        "stream, dozing",
        "shm.c",
        "rouse(c->others, WAITS | STALLS) & WAITS",
        "atomic_fetch_and_explicit(c->others, ~(uint32_t)(WAITS | STALLS), memory_order_seq_cst) & WAITS",
    ),
    "who dozes is woken, but his word stays": (
        "stream, dozing",
        "shm.c",
        "atomic_fetch_and_explicit(word, ~bits, memory_order_seq_cst);\n",
        "atomic_load_explicit(word, memory_order_seq_cst);\n",
    ),
    "who dozes does not look again": (
        "stream, dozing",
        "shm.c",
        "if ((want == IPCIO_WANT_WRITE || fence(c)) && !news(c, want))",
        "if (want == IPCIO_WANT_WRITE || fence(c))",
    ),
    "who dozes and was awake makes no fence": (
        "conversation, dozing",
        "shm.c",
        "(want == IPCIO_WANT_WRITE || fence(c)) && ",
        "",
    ),
    "who closes does not wake who dozes": (
        "closing writer, dozing",
        "shm.c",
        "    if (c->others) (void)rouse(c->others, DOZES | STALLS);\n",
        "",
    ),
    "who closes does not wake his own who dozes": ("closing beside a reader, dozing", "shm.c", "    if (c->mine) (void)rouse(c->mine, DOZES | STALLS);\n", ""),
    "who closes wakes his own who dozes, who does not find it closed": (
        "closing beside a reader, dozing",
        "shm.c",
        "    atomic_store_explicit(&c->gone, true, memory_order_seq_cst); /* who is woken finds it */\n",
        "",
    ),
    "the socket is not emptied when there is room": (
        "reader that stops",
        "shm.c",
        "if (rouse(c->others, WAITS | STALLS) & WAITS) drain(c);",
        "(void)rouse(c->others, WAITS | STALLS);",
    ),
    "room is kept back when the ring is empty": (
        "room for a long message",
        "shm.c",
        "        release(c, true);\n        return IPCIO_WANT_READ;",
        "        return IPCIO_WANT_READ;",
    ),
    "an epoch begins over a long message that is held": (
        "conversation, two by two",
        "ring.c",
        "w->copied ? w->at : w->last",
        "w->at",
    ),
    "a brief message is not copied where an epoch may come over it": (
        "conversation, two by two",
        "ring.c",
        "f->size <= RING_BRIEF && there(r) == span(f->size)",
        "f->size <= RING_BRIEF && r->offset == 0",
    ),
    "an epoch begins though the reader has not seen all": (
        "conversation",
        "ring.c",
        "all_seen = ring_all_seen(w, seen);",
        "all_seen = true;",
    ),
    "the reader does not go to the front for a new epoch": (
        "conversation",
        "ring.c",
        "r->segment = segment;\n    r->offset = 0;",
        "r->segment = segment;",
    ),
    "a message is put again though the reader has not seen all": (
        "conversation, two by two",
        "shm.c",
        "if (awaited && !atomic_load_explicit(&c->gone, memory_order_acquire) && ring_put_again(w, h, data)) {",
        "if (ring_put_again(w, h, data)) {",
    ),
    "a brief message is put where another is held": (
        "conversation, awake",
        "ring.c",
        "w->again = w->offset == 0 && w->segment == 0 && payload_of(&header) <= RING_BRIEF",
        "w->again = w->offset == 0 && w->segment == 0",
    ),
    "a brief message is not copied before it is passed": (
        "conversation",
        "ring.c",
        "if (r->segment == 0 && f->size <= RING_BRIEF && there(r) == span(f->size)) f->payload",
        "if (0) f->payload",
    ),
    "a message is taken before all of it is there": (
        "closing while it is read",
        "ring.c",
        "need > there(r) || ",
        "",
    ),
    "the ring moves without saying so": ("stream that grows", "ring.c", ".length = 1});", ".length = 0});"),
    "the reader is told as one who has read what it looks at": (
        "stream",
        "ring.c",
        "uint32_t published = (there(r) - 1) * RING_UNIT;",
        "uint32_t published = there(r) * RING_UNIT;",
    ),
    "a frame that is whole at the last look is waited for": (
        "conversation",
        "shm.c",
        " || f->here >= bytes) {",
        ") {",
    ),
    "the end is told before a last look": (
        "closing writer",
        "shm.c",
        "st = ring_look(&c->in.ring, &c->in.frame); /* it may have written just before */",
        "",
    ),
    "the end is told in a frame before a last look": (
        "closing while it is read",
        "shm.c",
        "if (ring_look_again(&c->in.ring, f) < 0 || f->here < bytes)\n",
        "",
    ),
    "the ring grows while a room is reserved": (
        "stream, reserved, rapid",
        "shm.c",
        "if (atomic_load_explicit(&c->gone, memory_order_acquire)) return closed(c); /* peer_lives may grow",
        "if (!peer_lives(c)) return closed(c); /* peer_lives may grow",
    ),
    "the larger segment is given back while the reader looks at it": (
        "conversation, reserved",
        "shm.c",
        "        if (!ring_past(w)) return;\n",
        "",
    ),
}


def change(texts, file, old, new):
    """Returns the texts with this one changed."""
    if texts[file].count(old) != 1:
        sys.exit(f"{file} has not once, but {texts[file].count(old)} times: {old!r}")
    return {**texts, file: texts[file].replace(old, new)}


def scaled():
    """Returns the texts of the files, with small rings and few repetitions."""
    texts = {name: (SOURCE / "core/src/channel" / name).read_text() for name in ("ring.c", "ring.h", "shm.c")}
    for name, value in CONSTANTS.items():
        texts["shm.c"], n = re.subn(rf"\b{name} = \d+", f"{name} = {value}", texts["shm.c"])
        if n != 1:
            sys.exit(f"shm.c defines {name} {n} times, not once")
    texts = change(texts, "ring.h", "RING_BRIEF = 2000", f"RING_BRIEF = {BRIEF}")
    for repetition in REPETITIONS:
        texts = change(texts, *repetition)
    return texts


def run(cc, texts, *arguments):
    """Returns the status of the model of these texts, and what it printed."""
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "channel").mkdir()
        for name, text in texts.items():
            pathlib.Path(folder, "channel", name).write_text(text)
        program = f"{folder}/model"
        subprocess.run(
            # What shm.c names of the rest of the library is not called here, and not linked.  -Os: stacks belong to a state,
            # and the less is left lying on them, the fewer states differ for nothing.
            [*cc.split(), "-std=gnu11", "-Os", "-w", "-fno-stack-protector", "-U_FORTIFY_SOURCE", "-fno-pie", "-no-pie",
             f"-I{folder}", f"-I{SOURCE}/core/src", f"-I{SOURCE}/core/include", f"{SOURCE}/tests/model/model.c",
             "-Wl,--unresolved-symbols=ignore-all", "-o", program],
            check=True,
        )  # fmt: skip
        done = subprocess.run([program, *arguments], stdout=subprocess.PIPE, text=True)
        return done.returncode, done.stdout


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cc", default="cc")
    parser.add_argument("--rounds", default="0")
    parser.add_argument("--only")
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    texts = scaled()
    changed = {what: (scenario, change(texts, *how)) for what, (scenario, *how) in MUTANTS.items()}
    states = wrong = found = 0
    if not arguments.only:
        status, printed = run(arguments.cc, texts, arguments.rounds)
        print(printed, end="", flush=True)
        states = sum(map(int, re.findall(r": (\d+) states", printed)))
        wrong += status != 0
    for what, (scenario, mutant) in changed.items():
        if arguments.only not in (None, what):
            continue
        status, printed = run(arguments.cc, mutant, "0", scenario)
        first = printed.partition("\n")[0] or f"ended with {status}"
        print(f"{'found' if status == 1 else 'NOT FOUND'}: {what} ({first})", flush=True)
        if arguments.only:
            print(printed)
        found += status == 1
        wrong += status != 1
    print(f"model: {states} states; {found} errors put into the source were found, {wrong} things went wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
