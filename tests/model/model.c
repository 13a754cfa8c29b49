/* model.c - every order in which two processes can go through the ring and its sleeping and waking.
 *
 * This is the code of ring.c and shm.c itself, scaled down by run.py: rings of a few frames, few repetitions.  Each step
 * on what is shared (a load, a store, a locked instruction, a system call) may come at any time between those of the
 * others; a store may wait in the processor's buffer, as on x86, until a locked instruction or a system call.  Every
 * state that can be reached is visited once.
 *
 * What must hold: nobody sleeps for ever, or runs in a circle that leads to no end; every message is read once, whole,
 * in order; one that is read in place does not change meanwhile; who is told of the other's end was given all that was
 * written before.
 *
 * A thread is a stack of its own, saved and restored with the rest of the world; a state is known again by 64 bits of
 * hash.  The system's part, a socket and memory, is written here.  How the two meet is left out.
 *
 *     model ROUNDS [SCENARIO]     ROUNDS: so many more than the scenario has; then what does not fit into memory is
 *                                 left out.  Exits with 1 after an error, and shows the way to it. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

/* ---------------------------------------------------------------------------- what the code does on shared words */

enum change { EXCHANGE, OR, AND };
static uint32_t model_load(const volatile void *word);
static void model_store(volatile void *word, uint32_t value);
static uint32_t model_change(volatile void *word, enum change how, uint32_t value);
static void model_fence(void);
static void *model_copy(void *to, const void *from, size_t n);
static bool looks(unsigned *looks);
static bool rapid(unsigned looks);

#undef atomic_thread_fence
#undef atomic_load_explicit
#undef atomic_store_explicit
#undef atomic_exchange_explicit
#undef atomic_fetch_or_explicit
#undef atomic_fetch_and_explicit
#define WORD(p, word, other) _Generic((p), _Atomic uint32_t *: word, const _Atomic uint32_t *: word, default: other)
#define atomic_load_explicit(p, order) WORD(p, model_load(p), *(p))
#define atomic_store_explicit(p, value, order) \
    WORD(p, model_store((volatile void *)(p), (uint32_t)(value)), (void)(*(p) = (value)))
#define atomic_exchange_explicit(p, value, order) model_change((p), EXCHANGE, (value))
#define atomic_fetch_or_explicit(p, value, order) model_change((p), OR, (value))
#define atomic_fetch_and_explicit(p, value, order) model_change((p), AND, (value))
#define atomic_thread_fence(order) ((order) == memory_order_seq_cst ? model_fence() : (void)0)
#define memcpy(to, from, n) model_copy((to), (from), (n))

#include "channel/ring.c"
#include "channel/shm.c"

#undef memcpy

/* For what is longer than any message here. */
void copy_long(void *to, const void *from, size_t n, copy_lines lines)
{
    (void)to, (void)from, (void)n, (void)lines;
    abort();
}

/* ------------------------------------------------------------------------------------------------- the world */

enum { RING = 8 * RING_UNIT, RING_GROWN = 12 * RING_UNIT, LONGEST = 224 }; /* bytes */
enum { THREADS = 4, STACK = 16384, BUFFERED = 4 };

typedef struct {
    jmp_buf at;
    enum { ABSENT, RUNS, WAITS_TO_READ, WAITS_TO_WRITE, WAITS_ON_WORD, ENDED, KILLED } state;
    bool woken; /* from a word */
    int side;
    size_t top; /* of its stack, as far as it is in use */
    const char *next; /* what it does when it goes on, */
    const volatile void *word; /* and on what */
    struct {
        uint32_t *word, value;
    } buffer[BUFFERED]; /* stores that the others do not see yet, in order */
    int buffered;
} thread;

static struct {
    _Alignas(128) uint8_t memory[2176];
    shm_conn conn[2];
    struct {
        bool bell, stuffed, shut; /* what lies in the socket for this side to read, and its end */
    } socket[2];
    struct {
        unsigned wrote, read, given_up; /* messages */
        unsigned signals; /* that have ended a sleep */
        unsigned written_at_end; /* by the other, when it was killed or closed */
        const uint8_t *held;
    } side[2];
    thread threads[THREADS];
} world;
static _Alignas(16) uint8_t stacks[THREADS][STACK];

/* What a thread does is a letter each:
 *     w  writes a message                       r  reads one, in place where that can be, and holds it until the next
 *     v  the same in a room that is reserved    R  reads all, until the other's end
 *     u  reserves such a room for nothing       c  closes
 *     ( )  `rounds` times.  It ends early when the other is gone. */
static const struct scenario {
    const char *name;
    const char *does[THREADS]; /* of side 0, 1, 0, 1 */
    unsigned rounds;
    uint32_t sizes[5];         /* of the messages, one after another, ended by 0 and again; none: some */
    uint32_t ring;             /* bytes, instead of RING */
    bool grows;                /* the rings do, where there is need */
    bool rapid;                /* at every other look messages came quickly, so the rings grow without need */
    bool loop;                 /* an event loop waits */
    bool dozes;                /* who waits does so on his word first; his time is up when the other was killed, and at a signal */
    bool spins;                /* who waits to read looks once more before he sleeps, and so is AWAKE */
    bool stranger;             /* the other is another user: nothing is read in place */
    bool gives_up;             /* the first message without room is given up */
    unsigned signals;          /* so many sleeps of a side end for no reason */
    bool closes;               /* messages may stay unread */
    enum { NONE, WRITER, READER } dies; /* is killed, at any time */
} scenarios[] = {
    {"stream", {"(w)", "(r)"}, 6},
    {"stream, awake", {"(w)", "(r)"}, 4, .spins = true},
    {"stream, event loops", {"(w)", "(r)"}, 5, .loop = true},
    {"stream, dozing", {"(w)", "(r)"}, 5, .dozes = true},
    {"stream, dozing or not", {"(w)", "(r)"}, 3, .dozes = true, .signals = 1},
    {"stream that grows", {"(w)", "(r)"}, 7, .grows = true},
    {"stream, reserved", {"(vu)", "(r)"}, 6},
    {"stream, reserved, that grows", {"(uv)", "(r)"}, 5, {40, 7, 30}, .grows = true},
    {"stream, rapid", {"(w)", "(r)"}, 5, .grows = true, .rapid = true},
    {"stream, reserved, rapid", {"(vu)", "(r)"}, 4, {7, 40, 30}, .grows = true, .rapid = true},
    {"reader that stops", {"w(w)", "(r)"}, 5, .closes = true},
    {"room for a long message", {"(w)", "(r)"}, 3, {LONGEST - 1, 32}, .ring = 32 * RING_UNIT},
    {"long messages", {"(w)", "(r)"}, 3, {80, 1, 50}},
    {"long messages that are given up", {"(w)", "(r)"}, 2, {80, 50}, .gives_up = true},
    {"pieces of what is being written", {"(w)", "(r)"}, 3, {50, 80, 7}, .ring = 16 * RING_UNIT, .stranger = true},
    {"pieces, event loops", {"(w)", "(r)"}, 2, {90, 50}, .ring = 16 * RING_UNIT, .stranger = true, .loop = true},
    {"conversation", {"(wr)", "(rw)"}, 6},
    {"conversation, awake", {"(wr)", "(rw)"}, 3, {20, 7, 16, 1}, .spins = true},
    {"conversation, dozing", {"(wr)", "(rw)"}, 3, {20, 7, 16, 1}, .spins = true, .dozes = true},
    {"conversation, event loops", {"(wr)", "(rw)"}, 4, .grows = true, .loop = true},
    {"conversation, two by two", {"(wwr)", "(rrw)"}, 3},
    {"conversation, reserved", {"(uvr)", "(rv)"}, 4, {40, 7, 16, 1}, .grows = true},
    {"growing twice", {"wwwww(wr)www", "rrrrr(rw)rrr"}, 3, {16, 7, 1}, .grows = true, .signals = 1},
    {"streams both ways", {"(w)", "(w)", "(r)", "(r)"}, 1, {16}},
    {"streams both ways, dozing", {"(w)", "(w)", "(r)", "(r)"}, 1, {16}, .dozes = true},
    {"closing writer", {"(w)c", "R"}, 4, .closes = true},
    {"closing writer, dozing", {"(w)c", "R"}, 3, .dozes = true, .closes = true},
    {"closing reader, dozing", {"ww(w)", "(r)c"}, 2, .dozes = true, .closes = true},
    {"closing beside a reader, dozing", {"R", NULL, "c", "(w)"}, 2, .dozes = true, .closes = true},
    {"killed writer, dozing", {"(w)", "R"}, 3, .dozes = true, .dies = WRITER},
    {"killed reader, dozing", {"(w)", "(r)"}, 4, .dozes = true, .dies = READER},
    {"closing while it is read", {"(w)c", "R"}, 2, {50, 80}, .ring = 16 * RING_UNIT, .closes = true},
    {"closing reader", {"ww(w)", "(r)c"}, 3, .closes = true},
    {"closing behind an answer", {"(wr)", "rwc"}, 2, .closes = true},
    {"killed writer", {"(w)", "R"}, 3, .dies = WRITER},
    {"killed writer of long messages", {"(w)", "R"}, 2, {80, 1, 50}, .dies = WRITER},
    {"killed while it is read", {"(w)", "R"}, 3, {50, 80, 7}, .ring = 16 * RING_UNIT, .dies = WRITER},
    {"killed reader", {"(w)", "(r)"}, 5, .dies = READER},
    {"killed while it answers", {"(wr)", "(rw)"}, 3, .dies = READER},
}, *scenario;

static unsigned more_rounds;
static jmp_buf checker;
static thread *now; /* runs */
static const char *wrong;

static void fail(const char *what)
{
    if (!wrong) wrong = what;
}

/* What is below does not count. */
static __attribute__((noinline)) size_t stack_used(void)
{
    return (size_t)((uint8_t *)__builtin_frame_address(0) - stacks[now - world.threads]);
}

/* Here others may go first. */
static void point(const char *what, const volatile void *word)
{
    now->next = what;
    now->word = word;
    now->top = stack_used();
    if (_setjmp(now->at) == 0) _longjmp(checker, 1);
}

/* Whether another thread may look at it. */
static bool shared(const volatile void *word)
{
    const uint8_t *at = (const uint8_t *)(uintptr_t)word;
    if (at >= world.memory && at < world.memory + sizeof world.memory) return true;
    for (int side = 0; side < 2 && scenario->does[2]; side++)
        if (word == &world.conn[side].theirs || word == &world.conn[side].ours) return true;
    return false;
}

static void show_store(thread *t)
{
    *t->buffer[0].word = t->buffer[0].value;
    t->buffered--;
    memmove(t->buffer, t->buffer + 1, (BUFFERED - 1) * sizeof t->buffer[0]);
    memset(t->buffer + BUFFERED - 1, 0, sizeof t->buffer[0]);
}

static void show_stores(thread *t)
{
    while (t->buffered > 0) show_store(t);
}

static uint32_t model_load(const volatile void *word)
{
    if (shared(word)) point("loads", word);
    for (int i = now->buffered - 1; i >= 0; i--)
        if (now->buffer[i].word == word) return now->buffer[i].value;
    return *(const volatile uint32_t *)word;
}

static void model_store(volatile void *word, uint32_t value)
{
    if (!shared(word)) {
        *(volatile uint32_t *)word = value;
        return;
    }
    point("stores", word);
    if (now->buffered == BUFFERED) show_store(now);
    now->buffer[now->buffered].word = (uint32_t *)(uintptr_t)word;
    now->buffer[now->buffered++].value = value;
}

static uint32_t model_change(volatile void *word, enum change how, uint32_t value)
{
    volatile uint32_t *at = word;
    point("changes", word);
    show_stores(now);
    uint32_t before = *at;
    *at = how == EXCHANGE ? value : how == OR ? before | value : before & value;
    return before;
}

static void model_fence(void)
{
    point("fences itself", NULL);
    show_stores(now);
}

/* A system's processor may look at bytes, or write them, late. */
static void *model_copy(void *to, const void *from, size_t n)
{
    if (shared(from) || shared(to)) point("copies", shared(from) ? from : to);
    return memcpy(to, from, n);
}

/* ------------------------------------------------------------------------------------------------ the system */

static int other(void) { return !now->side; }

/* True: the socket has ended. */
static bool system_call(const char *name)
{
    point(name, NULL);
    show_stores(now);
    return world.socket[now->side].shut;
}

int os_send(os_fd fd, const os_piece *pieces, int n, size_t *sent)
{
    if (system_call("sends")) return IPCIO_CLOSED;
    if (world.socket[other()].stuffed) return IPCIO_WANT_WRITE;
    world.socket[other()].bell = true;
    *sent = 1;
    return 0;
}

int os_receive(os_fd fd, const os_piece *pieces, int n, size_t *got)
{
    bool shut = system_call("receives"), some = world.socket[now->side].bell || world.socket[now->side].stuffed;
    world.socket[now->side].bell = world.socket[now->side].stuffed = false;
    *got = 1;
    return some ? 0 : shut ? IPCIO_CLOSED : IPCIO_WANT_READ;
}

int os_stuff(os_fd fd)
{
    if (system_call("stuffs")) return IPCIO_CLOSED;
    world.socket[other()].stuffed = true;
    return 0;
}

bool os_ended(os_fd fd) { return system_call("asks for the end"); }

void os_shutdown(os_fd fd)
{
    (void)system_call("shuts down");
    world.socket[0].shut = world.socket[1].shut = true;
}

int os_memory_reserve(os_fd memory, size_t from, size_t size) { return 0; }

/* Who still looks at it sees zeros. */
void os_memory_release(os_fd memory, size_t from, size_t size) { memset(world.memory + from, 0, size); }

int os_memory_map(os_fd memory, size_t from, size_t size, void **at)
{
    if (from + size > sizeof world.memory) abort();
    *at = world.memory + from;
    return 0;
}

/* It sees all stores, so the value is compared and the sleep begun in one step. */
int os_word_wait(const _Atomic uint32_t *word, uint32_t value, int64_t deadline)
{
    point("dozes, if it still has the value,", word);
    show_stores(now);
    if (*(const volatile uint32_t *)(const volatile void *)word != value) return 0;
    now->state = WAITS_ON_WORD;
    now->woken = false;
    point("has dozed", word);
    return now->woken ? 0 : IPCIO_TIMEOUT;
}

void os_word_wake(const _Atomic uint32_t *word)
{
    point("wakes who dozes", word);
    show_stores(now);
    for (int i = 0; i < THREADS; i++)
        if (world.threads[i].state == WAITS_ON_WORD && world.threads[i].word == word) world.threads[i].woken = true;
}

int64_t os_now_coarse(void) { return 0; }
static bool looks(unsigned *looks) { return *looks += scenario->rapid, true; }
static bool rapid(unsigned looks) { return scenario->rapid && looks % 2 == 0; }
void os_relax(void) {}
int os_fence_join(void) { return 0; }

int os_fence(void)
{
    point("fences", NULL);
    for (int i = 0; i < THREADS; i++) show_stores(&world.threads[i]);
    return 0;
}
void fork_forbid(void) {}
void fork_allow(void) {}
int ipcio__fail(int status, const char *format, ...) { return status; }
int ipcio__fail_os(int status, const char *format, ...) { return status; }

/* ---------------------------------------------------------------------------- what connection.c and a user do */

static ipcio_conn *conn(void) { return &world.conn[now->side].conn; }

static uint32_t size_of(unsigned number)
{
    static const uint32_t common[] = {20, 32, 1, 16, 7, 0};
    const uint32_t *sizes = scenario->sizes[0] ? scenario->sizes : common;
    unsigned n = 0;
    while (sizes[n]) n++;
    return sizes[number % n];
}

static void fill(uint8_t *bytes, unsigned number)
{
    for (size_t i = 0; i < size_of(number); i++) bytes[i] = (uint8_t)(17 * (number + 1) + i);
}

static bool right(const uint8_t *bytes, unsigned number)
{
    uint8_t expected[LONGEST];
    fill(expected, number);
    return memcmp(bytes, expected, size_of(number)) == 0;
}

static void wait_for(int want)
{
    bool loop = scenario->loop && want == IPCIO_WANT_READ; /* show_read_ahead, and the loop's own wait */
    if (scenario->spins && want == IPCIO_WANT_READ && shm_arrived(conn(), want)) return;
    if (scenario->dozes && shm_doze(conn(), want, 0) == 0) return;
    if ((loop && shm_ready(conn())) || shm_settle(conn(), want)) return;
    now->state = want == IPCIO_WANT_READ ? WAITS_TO_READ : WAITS_TO_WRITE;
    (void)system_call("sleeps");
}

/* False: the other is gone.  So below. */
static bool wrote(int st)
{
    if (st != 0 && st != IPCIO_CLOSED) fail("a write failed");
    if (st != 0 && world.side[other()].read > world.side[now->side].wrote &&
        world.side[now->side].read < world.side[now->side].written_at_end)
        fail("a write tells of the end before the answer");
    world.side[now->side].wrote += st == 0;
    return st == 0;
}

/* As ipcio_write does; or in pieces, every other time. */
static bool write_one(void)
{
    ipcio_conn *c = conn();
    uint8_t bytes[LONGEST];
    int st;
    fill(bytes, world.side[now->side].wrote);
    c->out.m = (message){.length = size_of(world.side[now->side].wrote)};
    c->out.data = bytes;
    c->out.size = (size_t)c->out.m.length;
    c->out.taken = 0;
    if (world.side[now->side].wrote % 2 == 1 && (st = shm_put(c, &c->out.m, bytes)) <= 0) return wrote(st);
    while ((st = shm_write(c, true)) > 0) {
        if (scenario->gives_up && c->out.taken > 0 && world.side[now->side].given_up == 0) {
            world.side[now->side].given_up++;
            shm_abort(c);
            c->out.taken = 0;
        }
        wait_for(st);
    }
    return wrote(st);
}

static bool write_reserved(bool give_up)
{
    message m = {.length = size_of(world.side[now->side].wrote)};
    void *to = NULL;
    int st;
    while ((st = shm_reserve(conn(), m.length, &to)) > 0) wait_for(st);
    if (st == 0 && give_up) return true;
    if (st == 0 && !to) return write_one();
    if (st == 0) {
        fill(to, world.side[now->side].wrote);
        st = shm_commit(conn(), &m);
    }
    return wrote(st);
}

static void end_held(void)
{
    const uint8_t **held = &world.side[now->side].held;
    if (!*held) return;
    if (!right(*held, world.side[now->side].read - 1)) fail("a message that was read in place has changed");
    *held = NULL;
    shm_end(conn());
}

static int take_whole(const message *m, unsigned number)
{
    uint8_t bytes[LONGEST + 1];
    size_t have = 0, got;
    for (;;) {
        int st = shm_take(conn(), bytes + have, sizeof bytes - have, &got);
        if (st == 0 && got == 0 && (have != m->length || !right(bytes, number))) fail("another message was expected");
        if (st < 0 || (st == 0 && got == 0)) return st;
        have += got;
        if (st > 0) wait_for(st);
    }
}

/* As ipcio_read does; or ipcio_read_start, every other time. */
static int begin_one(unsigned number, message *m, const void **data)
{
    return number % 2 == 0 && shm_whole(conn(), m, data, -1) ? 0 : shm_start(conn(), m);
}

/* The next message. */
static bool read_one(void)
{
    unsigned number = world.side[now->side].read;
    const void *data = NULL;
    message m;
    int st;
    end_held();
    for (;;) {
        while ((st = begin_one(number, &m, &data)) > 0) wait_for(st);
        while (st == 0 && !data && (st = shm_view(conn(), &data)) > 0) {
            wait_for(st);
            st = 0;
        }
        if (st == 0 && !data) st = take_whole(&m, number);
        if (st != IPCIO_ABORTED) break;
        shm_end(conn()); /* it comes again */
    }
    if (st == IPCIO_CLOSED && world.side[now->side].read < world.side[now->side].written_at_end)
        fail("the end was told before what was written");
    else if (st != 0 && st != IPCIO_CLOSED)
        fail("what the other wrote was taken for rubbish");
    if (st != 0) return false;
    if (m.length != size_of(number) || (data && !right(data, number))) fail("another message was expected");
    world.side[now->side].read++;
    world.side[now->side].held = data;
    if (!data) shm_end(conn());
    if (scenario->loop && !shm_ready(conn())) (void)shm_settle(conn(), IPCIO_WANT_READ); /* as after every reading call */
    return true;
}

static bool close_conn(void)
{
    world.side[other()].written_at_end = world.side[now->side].wrote;
    shm_wake(conn());
    return true;
}

static bool act(char letter)
{
    switch (letter) {
    case 'w': return write_one();
    case 'v': return write_reserved(false);
    case 'u': return write_reserved(true);
    case 'r': return read_one();
    case 'c': return close_conn();
    default:
        while (read_one()) {}
        return true;
    }
}

static void run_thread(void)
{
    const char *from = NULL;
    unsigned round = 0;
    bool reads = false;
    point("begins", NULL);
    for (const char *does = scenario->does[now - world.threads]; *does; does++) {
        reads |= *does == 'r';
        if (*does == '(') from = does;
        else if (*does == ')') does = ++round < scenario->rounds + more_rounds ? from : does;
        else if (!act(*does)) break;
    }
    if (reads) end_held();
    point("ends", NULL);
    show_stores(now);
    now->state = ENDED;
    _longjmp(checker, 1);
}

/* --------------------------------------------------------------------------------------------- the search */

/* The states on the way from the beginning to where the search is. */
typedef struct {
    uint8_t *bytes; /* a world that was, and what of its stacks was in use; kept for the next at this depth */
    size_t room;
    int transition; /* what was tried of it last: a thread's step, a thread's store that is seen, a death */
    uint64_t hash;
    uint32_t number, lowest; /* in the order of finding; the first that can be reached again from here */
    bool ends;               /* an end can be reached */
} level;
static level *levels;
static size_t depth, levels_room;

/* All states that were found.  Those from which the search has not come back to where it found them first are open. */
enum { DONE = UINT32_MAX };
enum { STATES_MOST = 25000000 }; /* which is more than a GB */
static struct state {
    uint64_t hash;
    uint32_t number; /* 0: free; DONE: an end can be reached from there */
} *known;
static size_t known_room, known_count;
static uint64_t *open_states;
static size_t open_count, open_room;

/* More memory, the new part zeroed. */
static void *larger(void *old, size_t from, size_t to)
{
    uint8_t *bytes = realloc(old, to);
    if (!bytes) abort();
    memset(bytes + from, 0, to - from);
    return bytes;
}

static uint64_t mix(uint64_t hash, const uint8_t *bytes, size_t n)
{
    for (; n >= 8; n -= 8, bytes += 8) {
        uint64_t word;
        memcpy(&word, bytes, 8);
        hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
        hash ^= hash >> 29;
    }
    for (; n > 0; n--, bytes++) hash = (hash ^ *bytes) * 0x100000001b3u;
    return hash;
}

static uint32_t *number_of(uint64_t hash)
{
    size_t at = hash & (known_room - 1);
    while (known[at].number && known[at].hash != hash) at = (at + 1) & (known_room - 1);
    known[at].hash = hash;
    return &known[at].number;
}

/* For one more state of each kind. */
static void make_room(void)
{
    if (open_count == open_room) {
        size_t room = 2 * open_room + 1024;
        open_states = larger(open_states, open_room * sizeof *open_states, room * sizeof *open_states);
        open_room = room;
    }
    if (depth == levels_room) {
        size_t room = 2 * levels_room + 1024;
        levels = larger(levels, levels_room * sizeof *levels, room * sizeof *levels);
        levels_room = room;
    }
    if (known_count * 3 < known_room * 2) return;
    struct state *old = known;
    size_t room = known_room;
    known_room = room ? room * 2 : 1 << 16;
    known = larger(NULL, 0, known_room * sizeof *known);
    for (size_t i = 0; i < room; i++)
        if (old[i].number) *number_of(old[i].hash) = old[i].number;
    free(old);
}

static size_t stack_in_use(int i)
{
    int state = world.threads[i].state;
    return state == RUNS || state == WAITS_TO_READ || state == WAITS_TO_WRITE || state == WAITS_ON_WORD ? STACK - world.threads[i].top : 0;
}

/* Goes on with the world as it is now, if it was never so before. */
static void enter(void)
{
    uint64_t hash = mix(1, (const uint8_t *)&world, sizeof world);
    size_t size = sizeof world;
    for (int i = 0; i < THREADS; i++) {
        hash = mix(hash, stacks[i] + STACK - stack_in_use(i), stack_in_use(i));
        size += stack_in_use(i);
    }
    make_room();
    uint32_t *number = number_of(hash);
    level *before = depth ? &levels[depth - 1] : NULL, *here = &levels[depth];
    if (*number == DONE) before->ends = true;
    else if (*number && *number < before->lowest) before->lowest = *number;
    if (*number) return;
    *number = (uint32_t)++known_count;
    open_states[open_count++] = hash;
    if (here->room < size) here->bytes = larger(here->bytes, here->room, size), here->room = size;
    *here = (level){here->bytes, here->room, -1, hash, *number, *number, false};
    uint8_t *to = here->bytes;
    memcpy(to, &world, sizeof world);
    to += sizeof world;
    for (int i = 0; i < THREADS; to += stack_in_use(i), i++)
        memcpy(to, stacks[i] + STACK - stack_in_use(i), stack_in_use(i));
    depth++;
}

/* Everything was tried of the last state.  Where it is the first of those that lead to each other, they are done. */
static void leave(void)
{
    level *here = &levels[depth - 1], *before = depth > 1 ? here - 1 : NULL;
    if (here->lowest == here->number) {
        if (!here->ends) {
            fail("it goes round for ever");
            return;
        }
        uint64_t hash;
        do *number_of(hash = open_states[--open_count]) = DONE;
        while (hash != here->hash);
    } else if (here->lowest < before->lowest) {
        before->lowest = here->lowest;
    }
    if (before) before->ends |= here->ends;
    depth--;
}

static void go_back(void)
{
    const uint8_t *from = levels[depth - 1].bytes;
    memcpy(&world, from, sizeof world);
    from += sizeof world;
    for (int i = 0; i < THREADS; from += stack_in_use(i), i++)
        memcpy(stacks[i] + STACK - stack_in_use(i), from, stack_in_use(i));
}

static bool asleep(const thread *t)
{
    return t->state == WAITS_TO_READ || t->state == WAITS_TO_WRITE || t->state == WAITS_ON_WORD;
}

static bool was_killed(int side) { return world.threads[side].state == KILLED; }

/* It runs, or the system wakes it. */
static bool is_ready(const thread *t)
{
    bool shut = world.socket[t->side].shut;
    switch (t->state) {
    case RUNS: return true;
    case WAITS_TO_READ: return shut || world.socket[t->side].bell || world.socket[t->side].stuffed;
    case WAITS_TO_WRITE: return shut || !world.socket[!t->side].stuffed;
    case WAITS_ON_WORD: return t->woken || was_killed(!t->side);
    default: return false;
    }
}

/* Lets a thread go on to its next point. */
static void step(thread *t)
{
    now = t;
    world.side[t->side].signals += !is_ready(t);
    t->state = RUNS;
    if (_setjmp(checker) == 0) _longjmp(t->at, 1);
}

/* Gives a thread its stack, and lets it come to its first point. */
static void create(int i)
{
    static ucontext_t context;
    now = &world.threads[i];
    now->state = RUNS;
    getcontext(&context);
    context.uc_stack.ss_sp = stacks[i];
    context.uc_stack.ss_size = STACK;
    makecontext(&context, run_thread, 0);
    if (_setjmp(checker) == 0) setcontext(&context);
}

static void die(int side)
{
    for (int i = side; i < THREADS; i += 2) {
        show_stores(&world.threads[i]);
        if (world.threads[i].state != ABSENT) world.threads[i].state = KILLED;
    }
    world.side[!side].written_at_end = world.side[side].wrote;
    world.socket[0].shut = world.socket[1].shut = true;
}

static bool can_die(void) { return scenario->dies != NONE && !world.socket[0].shut; }

enum { STORES = THREADS, DEATH = 2 * THREADS, TRANSITIONS };

static bool transition(int n)
{
    thread *t = &world.threads[n % THREADS];
    if (n < STORES && (is_ready(t) || (asleep(t) && world.side[t->side].signals < scenario->signals))) step(t);
    else if (n >= STORES && n < DEATH && t->buffered > 0) show_store(t);
    else if (n == DEATH && can_die()) die(scenario->dies == READER);
    else return false;
    return true;
}

/* Whether this is an end, and a good one. */
static bool ended_well(void)
{
    for (int i = 0; i < THREADS; i++)
        if (is_ready(&world.threads[i]) || world.threads[i].buffered > 0) return false;
    if (can_die()) return false;
    for (int i = 0; i < THREADS; i++)
        if (asleep(&world.threads[i])) fail("asleep for ever");
    for (int side = 0; side < 2 && scenario->dies == NONE && !scenario->closes; side++)
        if (world.side[side].read != world.side[!side].wrote) fail("a message was not read");
    return true;
}

static void print_word(const volatile void *word)
{
    const control *c = (const control *)(const void *)world.memory;
    for (int i = 0; i < 2; i++) {
        if (word == &c->side[i].state) printf(" the state of %d", i);
        else if (word == world.conn[i].out.ring.head_word) printf(" the head of %d's ring", i);
        else if (word == &c->ring[i].tail) printf(" the tail of %d's ring", i);
        else if (word == &world.conn[i].ours || word == &world.conn[i].theirs) printf(" how far %d knows of", i);
        else continue;
        return;
    }
    if (word) printf(" byte %td", (const uint8_t *)(uintptr_t)word - world.memory);
}

static uint32_t head_in(const uint8_t *memory, int side)
{
    uint32_t head;
    memcpy(&head, memory + ((const uint8_t *)world.conn[side].out.ring.head_word - world.memory), sizeof head);
    return head;
}

/* The way to where the error was found. */
static void show_way(void)
{
    printf("%s: %s\n", scenario->name, wrong);
    for (size_t i = 0; i < depth; i++) {
        int n = levels[i].transition;
        typeof(world) *then = (void *)levels[i].bytes;
        const thread *t = &then->threads[n % THREADS];
        const control *c = (const control *)(const void *)then->memory;
        if (n >= TRANSITIONS) break;
        printf("%zu: side %d", i, n == DEATH ? scenario->dies == READER : t->side);
        if (n == DEATH) printf(" is killed");
        else printf(n < STORES ? " %s" : "'s store is seen:", t->next);
        if (n != DEATH) print_word(n < STORES ? t->word : t->buffer[0].word);
        printf("   [states %x %x; ring 0 %x %x, ring 1 %x %x]\n", c->side[0].state, c->side[1].state,
               head_in(then->memory, 0), c->ring[0].tail, head_in(then->memory, 1), c->ring[1].tail);
    }
}

static void begin(void)
{
    memset(&world, 0, sizeof world);
    memset(stacks, 0, sizeof stacks);
    if (known) memset(known, 0, known_room * sizeof *known);
    known_count = open_count = depth = 0;
    for (int side = 0; side < 2; side++) {
        shm_conn *c = &world.conn[side];
        c->conn.transport = &transport_shm;
        c->conn.out.shown = scenario->loop;
        c->control = (control *)(void *)world.memory;
        c->me = side;
        c->own_user = !scenario->stranger;
        uint32_t small = (scenario->ring ? scenario->ring : RING) + RING_UNIT, large = scenario->grows ? RING_GROWN : 0;
        c->mapped = large_at(0, small, large);
        set_up(c, small, large);
    }
    for (int i = 0; i < THREADS; i++) {
        world.threads[i].side = i % 2;
        if (scenario->does[i]) create(i);
    }
}

static bool search(void)
{
    size_t deepest = 0;
    begin();
    enter();
    while (depth > 0 && !wrong && known_count < STATES_MOST) {
        level *here = &levels[depth - 1];
        if (depth > deepest) deepest = depth;
        go_back();
        while (++here->transition < TRANSITIONS && !transition(here->transition)) {}
        if (here->transition == TRANSITIONS) here->ends |= ended_well();
        if (wrong) break;
        if (here->transition < TRANSITIONS) enter();
        else leave();
    }
    if (depth > 0 && more_rounds == 0) fail("too many states");
    if (wrong) show_way();
    else printf("%s: %zu states, up to %zu steps%s\n", scenario->name, known_count, deepest, depth ? "; not all" : "");
    fflush(stdout);
    return !wrong;
}

int main(int argc, char **argv)
{
    bool found = false;
    more_rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 0;
    for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++) {
        scenario = &scenarios[i];
        if (argc > 2 && strcmp(argv[2], scenario->name) != 0) continue;
        found = true;
        if (!search()) return 1;
    }
    return !found;
}
