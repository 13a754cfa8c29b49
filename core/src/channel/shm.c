/* shm.c - the transport `shm`: rings in memory that the two share (ring.h), and a socket beside them.
 *
 * They meet as `pipe` does.  The client makes the memory, all of it reserved that an idle connection needs, and hands it
 * to the server with its greeting.  From then on the socket carries no data.  It tells three things: that the peer is
 * gone, by its end; that something lies in the ring, by a byte, when the peer had said that it sleeps; that there is
 * room again, by being writable, since who waits for room stuffs it, and the peer then empties it.  So its descriptor
 * is readable and writable when the connection is, whatever loop waits for it.
 *
 * The memory: `control`, the two rings, each behind its head, and room for their larger segments, which begin to exist when
 * a stream needs them.  docs/design/shm.md tells why. */
#include <string.h>

#include "base/copy.h"
#include "channel/rendezvous.h"
#include "channel/ring.h"

enum {
    PAGE = 4096,
    SMALL = 7 * PAGE,     /* a ring, unless the option `buffer` asks for another */
    LARGE = (4 << 20) + PAGE, /* what it grows to: so many messages of a power of two, and their headers, */
    GROW = 16,            /* when it was full, or given a frame that is not brief, so many times, */
    RAPID = 4096,         /* or so many messages between two looks for their reader's end, */
    MOMENT = 20000000,    /* within so many nanoseconds; */
    CALM = 1000,          /* and back after so many short messages that were read one by one */
    STEP = 4096,          /* bytes of a long frame that are copied and shown at once, while the reader waits; */
    LEAP = 1 << 14,       /* of longer ones than this, these; */
    EARLY = 1 << 16,      /* the first of more than this wakes a reader who sleeps */
    STUCK = 256,          /* looks for more of a frame, in vain: its writer was halted in the middle; */
    LASTING = 1 << 16,    /* or so many in all: it is slow on purpose */
    POVERTY = 1000000000, /* nanoseconds until memory that was refused is asked for again */
    SPUN = 32,            /* messages that were spun for since the reader slept, and it is AWAKE */
    LOOKS = 16,           /* for a message, between two for the peer's end */
    AT_ONCE = 64,         /* looks for one that answers what was written just now */
    QUICK = 8,            /* looks with one pause between two; then with */
    APART = 3,            /* so many, where each takes lines from who may be writing them */
    SILENCE = 4000000,    /* nanoseconds, after which one looks whether a peer that tells nothing lives */
    STREAM = 2,           /* messages that were read since one was written, and the next is one of a stream */
    PACE_LEAST = 32,      /* pauses before a reader of a stream looks again; he doubles them */
    PACE_STEP = 512,      /* up to so many at once, */
    PACE_MOST = 32768,    /* and makes so many in all, */
    PACE_MANY = 65536     /* until so many units have come: what a second-level cache holds */
};

/* Of a side: its reader sleeps on the socket, its writer does; it is closed; its reader spins, and will fence all processors
 * before it sleeps; its reader sleeps on this word, its writer does. */
enum { SLEEPS = 1, WAITS = 2, CLOSED = 4, AWAKE = 8, DOZES = 16, STALLS = 32 };
enum { CLIENT, SERVER };

static const char magic[8] = {'i', 'p', 'c', 'i', 'o', ' ', 's', '1'};
static const char rubbish[] = "the peer has written rubbish into the ring";

/* At the front of the memory.  Each word has its own cache lines. */
typedef struct {
    char magic[8];
    uint32_t small, large; /* bytes of the rings' segments; large may be 0 */
    uint32_t limit;        /* the client's */
    struct {
        _Alignas(128) _Atomic uint32_t state;
    } side[2];
    struct {
        _Alignas(128) _Atomic uint32_t tail; /* of what the side writes */
    } ring[2];
} control;

typedef struct {
    ipcio_conn conn;
    rendezvous rendezvous;
    os_fd fd, memory;
    os_fd place;            /* a server's: keeps the descriptor free that the client's memory will need */
    control *control;
    size_t mapped;          /* bytes from there */
    void *large[2];         /* the rings' larger segments, where they are mapped */
    int me;
    bool open, greeted;     /* fd is one to close; the memory is there */
    bool own_user;          /* the peer is this user: its messages need not be copied before they are looked at */
    _Atomic uint32_t *mine, *others; /* states of the two sides, in the memory */
    _Atomic bool fences;    /* this process can be fenced, and fences others */
    _Atomic bool gone;      /* the socket has ended, or there is no memory yet */
    _Atomic uint32_t theirs, ours; /* how far the peer has read, as its last frame said; and this side */
    _Atomic uint32_t streak; /* messages that were read since one was written */

    struct { /* inside the reading side */
        ring_reader ring;
        ring_found frame; /* at the front, while `inside` */
        bool have;        /* there is one */
        bool inside;      /* a message was started and its end not passed */
        bool over;        /* its last frame was taken, */
        bool aborted;     /* which gave it up */
        uint32_t length;  /* of that message */
        uint64_t got;     /* bytes of it in frames before this one */
        uint32_t taken;   /* bytes of this frame */
        bool waits;       /* WANT_READ was answered last */
        int spun;         /* messages for which it did not sleep, up to SPUN */
        bool paced;       /* who reads a stream paused for it, and that paid; else how often he */
        unsigned close;   /* came close to its writer */
        int ended;
        const char *why;
        _Alignas(RING_UNIT) uint8_t copy[RING_BRIEF]; /* a message that was brief */
    } in;
    struct { /* inside the writing side */
        ring_writer ring;
        bool begun;     /* a message's first frame is out and its last is not */
        bool abort_due; /* and it was given up */
        bool starved;   /* WANT_WRITE was answered last */
        unsigned full;  /* how many times there was no room, or not as much as is good, */
        int64_t since;  /* from then on */
        int64_t poor;   /* there was no memory for the larger segment, which is not tried again before */
        unsigned calm;  /* short frames in a row that the larger segment held for nothing */
        bool left;      /* it is not used any more, but the reader may still look at its last frame */
        uint32_t heard; /* `theirs` when it wrote last */
        unsigned unheard; /* writes since, */
        unsigned counted; /* and how many these were */
        int64_t lived;  /* when the peer was looked for */
    } out;
} shm_conn;

static shm_conn *shm_of(ipcio_conn *c)
{
    return (shm_conn *)c;
}

/* ------------------------------------------------------------------------------------------ memory */

static size_t small_at(int ring, uint32_t small)
{
    return PAGE + (size_t)ring * small;
}

static size_t large_at(int ring, uint32_t small, uint32_t large)
{
    return small_at(2, small) + (size_t)ring * large;
}

/* Bytes of each of this connection's larger segments; 0: there are none. */
static uint32_t large_size(const shm_conn *c)
{
    return c->out.ring.size[1];
}

static size_t grown_at(const shm_conn *c, int ring)
{
    return c->mapped + (size_t)ring * large_size(c);
}

/* Maps the larger segment of a ring; inside the ring's side. */
static IPCIO_RARE int map_large(shm_conn *c, int ring, uint8_t **segment)
{
    void **at = &c->large[ring];
    fork_forbid();
    int st = *at ? 0 : os_memory_map(c->memory, grown_at(c, ring), large_size(c), at);
    fork_allow();
    *segment = *at;
    return st == 0 ? 0 : ipcio__fail_os(st, "%s: no memory for a larger ring", c->conn.base.text);
}

static void set_up(shm_conn *c, uint32_t small, uint32_t large)
{
    uint32_t room = small - RING_UNIT; /* for the head */
    uint8_t *in = (uint8_t *)c->control + small_at(!c->me, small), *out = (uint8_t *)c->control + small_at(c->me, small);
    c->in.ring = (ring_reader){.head_word = (void *)in, .tail_word = &c->control->ring[!c->me].tail,
                               .size = {room, large}, .memory = {in + RING_UNIT}};
    c->out.ring = (ring_writer){.head_word = (void *)out, .tail_word = &c->control->ring[c->me].tail,
                                .size = {room, large}, .memory = {out + RING_UNIT}, .stale = UINT32_MAX};
    c->mine = &c->control->side[c->me].state;
    c->others = &c->control->side[!c->me].state;
    atomic_store_explicit(&c->fences, os_fence_join() == 0, memory_order_relaxed);
    c->greeted = true;
    atomic_store_explicit(&c->gone, false, memory_order_release);
}

/* A client's. */
static int make_memory(shm_conn *c)
{
    uint32_t asked = c->conn.options.buffer, small = asked ? (asked + PAGE - 1) / PAGE * PAGE : SMALL;
    if (small > RING_MOST) small = RING_MOST;
    uint32_t large = asked ? 0 : LARGE;
    void *at = NULL;
    c->mapped = large_at(0, small, large);
    int st = os_memory_new(large_at(2, small, large), &c->memory);
    if (st == 0) st = os_memory_reserve(c->memory, 0, c->mapped);
    if (st == 0) st = os_memory_map(c->memory, 0, c->mapped, &at);
    c->control = at;
    if (st != 0) return ipcio__fail_os(st, "%s: no memory for the rings", c->conn.base.text);
    memcpy(c->control->magic, magic, sizeof magic);
    c->control->small = small;
    c->control->large = large;
    c->control->limit = c->conn.options.limit;
    set_up(c, small, large);
    return 0;
}

static int over(shm_conn *c, int status, const char *why);

/* Sealed or read-only memory is of the client's making; the rest may pass, and is tried again. */
static int not_mapped(shm_conn *c, int st)
{
    if (st == IPCIO_DENIED || st == IPCIO_INVALID) return over(c, IPCIO_PROTOCOL, "the peer's memory cannot be mapped");
    return ipcio__fail_os(IPCIO_NOMEMORY, "%s: cannot map the client's memory", c->conn.base.text);
}

/* A server's, from what came with the greeting. */
static int take_memory(shm_conn *c)
{
    static const char other[] = "the peer is no ipcio of this version, or broken";
    uint64_t size;
    void *at;
    int st = os_memory_size(c->memory, &size);
    if (st == IPCIO_INVALID || (st == 0 && size < PAGE)) return over(c, IPCIO_PROTOCOL, other);
    if (st == 0) st = os_memory_map(c->memory, 0, PAGE, &at);
    if (st != 0) return not_mapped(c, st);
    control told;
    memcpy(&told, at, sizeof told);
    os_memory_unmap(at, PAGE);
    if (memcmp(told.magic, magic, sizeof magic) != 0 || told.small < RING_LEAST + RING_UNIT || told.small > RING_MOST ||
        told.large > RING_MOST || (told.large && told.large <= told.small) || told.small % PAGE || told.large % PAGE || told.limit == 0 ||
        size != large_at(2, told.small, told.large))
        return over(c, IPCIO_PROTOCOL, other);
    c->mapped = large_at(0, told.small, told.large);
    if ((st = os_memory_map(c->memory, 0, c->mapped, &at)) != 0) return not_mapped(c, st);
    c->control = at;
    atomic_store_explicit(&c->conn.peer_limit, told.limit, memory_order_relaxed);
    set_up(c, told.small, told.large);
    return 0;
}

/* --------------------------------------------------------------------------------------- the socket */

/* Takes in what the socket has, which says only: look. */
static IPCIO_RARE void drain(shm_conn *c)
{
    uint8_t bytes[4096];
    size_t got = sizeof bytes;
    int st = 0;
    while (st == 0 && got == sizeof bytes) st = os_receive(c->fd, &(os_piece){bytes, sizeof bytes}, 1, &got);
    if (st == IPCIO_CLOSED) atomic_store_explicit(&c->gone, true, memory_order_release);
}

static inline bool peer_ended(const shm_conn *c)
{
    return atomic_load_explicit(&c->gone, memory_order_acquire) ||
           atomic_load_explicit(c->others, memory_order_seq_cst) & CLOSED;
}

static IPCIO_RARE int closed(shm_conn *c)
{
    return ipcio__fail(IPCIO_CLOSED, "%s: the peer has closed the connection", c->conn.base.text);
}

/* Takes these bits from a side's word, and wakes who sleeps on it.  What the word was: it says who sleeps on the socket. */
static uint32_t rouse(_Atomic uint32_t *word, uint32_t bits)
{
    uint32_t state = atomic_fetch_and_explicit(word, ~bits, memory_order_seq_cst);
    if (state & bits & (DOZES | STALLS)) os_word_wake(word);
    return state;
}

/* Ends both directions for both sides, and wakes who sleeps. */
static void hang_up(shm_conn *c)
{
    atomic_store_explicit(&c->gone, true, memory_order_seq_cst); /* who is woken finds it */
    if (c->others) (void)rouse(c->others, DOZES | STALLS);
    if (c->mine) (void)rouse(c->mine, DOZES | STALLS);
    os_shutdown(c->fd);
}

/* Wakes the peer's reader, which sleeps.  False: it is gone. */
static IPCIO_RARE bool wake_reader(shm_conn *c)
{
    if (!(rouse(c->others, SLEEPS | DOZES) & SLEEPS) || rendezvous_ring(c->fd) == 0) return true;
    hang_up(c); /* the peer reads all that was written so far */
    return false;
}

/* After a frame was shown to a peer that sleeps or has closed.  CLOSED; but not while something of the peer is unread: that may answer
 * this very frame, and the end is told behind it. */
static IPCIO_RARE int tell_sleeper(shm_conn *c, uint32_t state)
{
    if (!(state & CLOSED) && wake_reader(c)) return 0;
    atomic_thread_fence(memory_order_acquire); /* what it wrote before it closed is seen */
    bool unread = ring_published(&c->in.ring, atomic_load_explicit(&c->ours, memory_order_acquire)) > 0;
    return unread ? 0 : closed(c);
}

/* After a frame was shown: wakes the peer, should it sleep.  The barrier between that and the look whether it does costs a
 * conversation 10 ns a round trip; a peer that is AWAKE makes it, for both.  CLOSED */
static inline int tell_frame(shm_conn *c)
{
    atomic_signal_fence(memory_order_seq_cst);
    uint32_t state = atomic_load_explicit(c->others, memory_order_relaxed);
    if (!(state & AWAKE) || !atomic_load_explicit(&c->fences, memory_order_relaxed)) {
        atomic_thread_fence(memory_order_seq_cst);
        state = atomic_load_explicit(c->others, memory_order_relaxed);
    }
    return state & (SLEEPS | DOZES | CLOSED) ? tell_sleeper(c, state) : 0;
}

/* Shows the peer the frame that was reserved and filled in.  CLOSED */
static inline int send_frame(shm_conn *c, uint32_t size)
{
    ring_commit(&c->out.ring, size);
    return tell_frame(c);
}

/* After a full barrier: wakes the peer's writer, should it wait for room. */
static IPCIO_RARE void tell_room(shm_conn *c)
{
    if (!(atomic_load_explicit(c->others, memory_order_seq_cst) & (WAITS | STALLS))) return;
    if (rouse(c->others, WAITS | STALLS) & WAITS) drain(c);
}

/* ------------------------------------------------------------------------------------------ reading */

static int ended(shm_conn *c)
{
    return ipcio__fail(c->in.ended, "%s: %s", c->conn.base.text, c->in.why);
}

static int over(shm_conn *c, int status, const char *why)
{
    c->in.ended = status;
    c->in.why = why;
    if (status == IPCIO_PROTOCOL) hang_up(c);
    return ended(c);
}

/* Gives the room of what was passed back. */
static inline void release(shm_conn *c, bool now)
{
    if (ring_release(&c->in.ring, c->in.ring.at, now)) tell_room(c);
}

/* Whether a frame can be the next one. */
static inline bool in_order(const shm_conn *c, const ring_found *f)
{
    bool first = f->kind & RING_FIRST, last = f->kind & RING_LAST, abort = f->kind & RING_ABORT;
    uint64_t length = first ? f->length : c->in.length, all = f->size + (first ? 0 : c->in.got);
    if (first == c->in.inside || (abort && (first || last || f->size)) || (f->size == 0 && !last && !abort)) return false;
    return (last ? all == length : all <= length) && !(f->kind & RING_ANSWER && f->call == 0);
}

static void linger(uint32_t pauses)
{
    for (uint32_t i = 0; i < pauses; i++) os_relax();
}

/* Whether one message after the other is read, and none written. */
static inline bool streams(const shm_conn *c)
{
    return atomic_load_explicit(&c->streak, memory_order_relaxed) > STREAM;
}

/* Something came, and this side did not sleep for it. */
static inline void awake(shm_conn *c)
{
    if (c->in.spun < SPUN && ++c->in.spun == SPUN && atomic_load_explicit(&c->fences, memory_order_relaxed))
        atomic_fetch_or_explicit(c->mine, AWAKE, memory_order_relaxed);
}

/* Who reads a stream and has come close to its writer would take each line from it that it is just writing, and both would
 * be slow for as long as that lasts.  So where only few frames have come, he lets more come, as long as they come quickly. */
static IPCIO_SLOW void gather(shm_conn *c)
{
    const ring_reader *r = &c->in.ring;
    uint32_t half = r->size[r->segment] / RING_UNIT / 2, many = half < PACE_MANY ? half : PACE_MANY;
    uint32_t before = ring_published(r, r->at), now = before, pause = PACE_LEAST;
    if (before == 0) return;
    awake(c);
    if (before >= many / 2 || (!c->in.paced && ++c->in.close % 8)) return;
    c->in.paced = true;
    for (uint32_t paused = 0; c->in.paced && now < many && paused < PACE_MOST; paused += pause) {
        if (paused) pause = pause < PACE_STEP ? pause * 2 : PACE_STEP;
        linger(pause);
        now = ring_published(r, r->at);
        c->in.paced = now - before >= pause / 2;
        before = now;
    }
}

static inline int look(shm_conn *c, ring_found *f)
{
    if (!ring_has_frame(&c->in.ring) && streams(c)) gather(c);
    return ring_look(&c->in.ring, f);
}

/* The next frame, of which some bytes may still be to come. */
static inline int next_frame(shm_conn *c)
{
    if (c->in.ended) return ended(c);
    int st = look(c, &c->in.frame);
    if (st == -2) {
        if ((st = map_large(c, !c->me, &c->in.ring.memory[1])) != 0) return st;
        st = ring_look(&c->in.ring, &c->in.frame);
    }
    if (st == 0 && peer_ended(c)) {
        st = ring_look(&c->in.ring, &c->in.frame); /* it may have written just before */
        if (st == 0) return over(c, IPCIO_CLOSED, "the peer has closed the connection");
    }
    if (st == 0) {
        release(c, true);
        return IPCIO_WANT_READ;
    }
    if (st < 0 || !in_order(c, &c->in.frame)) return over(c, IPCIO_PROTOCOL, rubbish);
    c->in.have = true;
    c->in.taken = 0;
    atomic_store_explicit(&c->theirs, c->in.frame.read, memory_order_release);
    return 0;
}

/* It goes on behind the frame. */
static inline void passed(shm_conn *c)
{
    const ring_found *f = &c->in.frame;
    c->in.got += f->size;
    c->in.have = false;
    c->in.aborted = f->kind & RING_ABORT;
    c->in.over = f->kind & RING_LAST || c->in.aborted;
    atomic_store_explicit(&c->ours, c->in.ring.at, memory_order_release);
}

static inline void pass_frame(shm_conn *c)
{
    ring_pass(&c->in.ring, &c->in.frame);
    passed(c);
}

/* Waits until so many bytes of the frame are here.  The writer is copying it just now, so this spins as long as some come; what came
 * is fetched meanwhile. */
static int await(shm_conn *c, uint32_t bytes)
{
    ring_found *f = &c->in.frame;
    uint32_t fetched = c->in.taken;
    for (int looks = 0, vain = 0; f->here < bytes; looks++, vain++) {
        const volatile uint8_t *from = f->payload;
        if (fetched < f->here) vain = 0;
        for (; fetched < f->here; fetched += 64) (void)from[fetched];
        if (ring_look_again(&c->in.ring, f) < 0) return over(c, IPCIO_PROTOCOL, rubbish);
        if ((vain < STUCK && looks < LASTING) || f->here >= bytes) {
            os_relax();
            continue;
        }
        if (!peer_ended(c)) return IPCIO_WANT_READ;
        if (ring_look_again(&c->in.ring, f) < 0 || f->here < bytes)
            return over(c, IPCIO_CLOSED, "the peer has closed the connection half way through a message");
    }
    return 0;
}

/* Skips what is left of a message. */
static int skip_rest(shm_conn *c)
{
    int st = 0;
    while (st == 0 && !c->in.over) {
        if (!c->in.have && (st = next_frame(c)) != 0) break;
        if ((st = await(c, c->in.frame.size)) != 0) break;
        pass_frame(c);
        release(c, false);
    }
    if (st == 0) c->in.inside = c->in.over = false;
    return st;
}

/* Remembers whether more must come for a function of the reading side to get further. */
static int answer(shm_conn *c, int st)
{
    c->in.waits = st > 0;
    return st;
}

/* The message that begins with this frame; one more that was read since one was written. */
static inline void describe(shm_conn *c, const ring_found *f, message *m)
{
    *m = (message){.length = f->length, .call = f->call, .answer = f->kind & RING_ANSWER};
    atomic_store_explicit(&c->streak, atomic_load_explicit(&c->streak, memory_order_relaxed) + 1, memory_order_relaxed);
}

static int shm_start(ipcio_conn *base, message *m)
{
    shm_conn *c = shm_of(base);
    int st = c->in.inside ? skip_rest(c) : 0;
    if (st == 0 && !c->in.have) st = next_frame(c);
    if (answer(c, st) != 0) return st;
    describe(c, &c->in.frame, m);
    c->in.length = c->in.frame.length;
    c->in.inside = true;
    c->in.over = c->in.aborted = false;
    c->in.got = 0;
    return 0;
}

static void shm_end(ipcio_conn *base)
{
    shm_conn *c = shm_of(base);
    if (!c->in.over) return;
    c->in.inside = c->in.over = false;
    release(c, false);
}

/* Whether something comes while this side looks so often. */
static inline bool spin(shm_conn *c, int looks)
{
    for (int i = 0; i < looks; i++) {
        if (ring_arrived(&c->in.ring)) {
            awake(c);
            return true;
        }
        bool fetches = ring_fetch_front(&c->in.ring);
        linger(fetches && i >= QUICK ? APART : 1);
    }
    return false;
}

/* A message was found whole, and passed. */
static inline const void *took(shm_conn *c, const ring_found *f, message *m)
{
    atomic_store_explicit(&c->theirs, f->read, memory_order_release);
    atomic_store_explicit(&c->ours, c->in.ring.at, memory_order_release);
    describe(c, f, m);
    c->in.waits = false;
    return f->payload;
}

/* The next message of a conversation: 1; or 0: it is to be looked for otherwise; -1: there is none yet.  Apart from what a
 * stream needs, which is faster so. */
static IPCIO_SLOW __attribute__((flatten)) int converse(shm_conn *c, message *m, const void **data, int timeout)
{
    bool waits = timeout != 0 && timeout != IPCIO_TRY && c->conn.base.side[IPCIO_WANT_READ].spin != 0;
    ring_found f;
    if (waits && !spin(c, AT_ONCE)) return -1;
    if (!ring_take_again(&c->in.ring, &f, c->in.copy)) return 0;
    *data = took(c, &f, m);
    return 1;
}

/* A short message, all of which is here in one frame. */
static __attribute__((flatten)) bool shm_whole(ipcio_conn *base, message *m, const void **data, int timeout)
{
    shm_conn *c = shm_of(base);
    ring_found f;
    int st;
    if (c->in.inside) shm_end(base);
    if (c->in.inside || c->in.ended || !c->own_user) return false;
    release(c, false);
    if (!ring_has_frame(&c->in.ring)) {
        if (streams(c)) gather(c);
        else if ((st = converse(c, m, data, timeout)) != 0) return st > 0;
    }
    if (!ring_take(&c->in.ring, &f, c->in.copy)) return false;
    *data = took(c, &f, m);
    return true;
}

static int shm_view(ipcio_conn *base, const void **data)
{
    shm_conn *c = shm_of(base);
    if (!(c->in.frame.kind & RING_LAST) || !c->in.have || !c->own_user) return 0;
    if (c->in.frame.here < c->in.frame.size) {
        int st = answer(c, await(c, c->in.frame.size));
        if (st != 0) return st;
    }
    ring_hold(&c->in.ring, &c->in.frame, c->in.copy);
    passed(c);
    *data = c->in.frame.payload;
    return 0;
}

static int take(shm_conn *c, uint8_t *to, size_t n, size_t *got)
{
    ring_found *f = &c->in.frame;
    *got = 0;
    while (*got < n) {
        int st = c->in.have || c->in.over ? 0 : next_frame(c);
        if (st == 0 && c->in.aborted) st = ipcio__fail(IPCIO_ABORTED, "%s: the peer gave the message up half way", c->conn.base.text);
        if (st == 0 && c->in.over) break;
        bool brief = f->size <= LEAP; /* sooner copied at once */
        if (st == 0 && f->here < f->size && (brief || c->in.taken == f->here)) st = await(c, brief ? f->size : f->here + 1);
        if (st != 0) return *got ? 0 : st; /* what came is given out first */
        size_t here = f->here - c->in.taken, some = here < n - *got ? here : n - *got;
        copy_bytes(to + *got, f->payload + c->in.taken, some, streams(c) ? COPY_READ_LATER : COPY_WRITE);
        c->in.taken += (uint32_t)some;
        *got += some;
        if (c->in.taken < f->size) continue;
        pass_frame(c);
        release(c, false);
    }
    return 0;
}

static int shm_take(ipcio_conn *c, void *to, size_t n, size_t *got)
{
    return answer(shm_of(c), take(shm_of(c), to, n, got));
}

/* ------------------------------------------------------------------------------------------ writing */

/* Counts how often room was short lately: whether that pays for the larger segment. */
static IPCIO_RARE bool short_of_room(shm_conn *c)
{
    if (c->out.ring.segment == 1 || large_size(c) == 0) return false;
    int64_t now = os_now_coarse();
    if (c->out.full == 0 || now - c->out.since > MOMENT) {
        c->out.since = now;
        c->out.full = 0;
    }
    return ++c->out.full >= GROW;
}

/* Goes on in the larger segment, where there is memory for it. */
static IPCIO_RARE bool grow(shm_conn *c)
{
    ring_writer *w = &c->out.ring;
    size_t at = grown_at(c, c->me);
    int64_t now = os_now_coarse();
    if (w->segment == 1 || large_size(c) == 0 || (c->out.left && !ring_past(w)) || now < c->out.poor) return false;
    if (os_memory_reserve(c->memory, at, large_size(c)) != 0) {
        c->out.poor = now + POVERTY;
        return false;
    }
    if (map_large(c, c->me, &w->memory[1]) != 0 || !ring_move(w)) return false;
    c->out.left = false;
    return true;
}

/* The reader has seen all.  Leaves the larger segment when a stream has become a conversation, and gives its memory back when
 * the reader has seen a frame behind its last one. */
static IPCIO_RARE void shrink(shm_conn *c, uint32_t size, uint32_t theirs)
{
    ring_writer *w = &c->out.ring;
    if (w->segment == 0) {
        if (!ring_past(w)) return;
        os_memory_release(c->memory, grown_at(c, c->me), large_size(c));
        c->out.left = false;
        return;
    }
    c->out.calm = size <= w->size[0] / 8 ? c->out.calm + 1 : 0;
    if (c->out.calm < CALM || !ring_return(w, theirs)) return;
    c->out.calm = c->out.full = 0;
    c->out.left = true;
}

/* Every few milliseconds of a stream: whether its reader lives, and is worth the larger segment.  No room may be reserved. */
static IPCIO_SLOW bool look_around(shm_conn *c)
{
    int64_t now = os_now_coarse(), passed = now - c->out.lived;
    if (passed < SILENCE) return true;
    if (passed < MOMENT && c->out.unheard - c->out.counted >= RAPID) (void)grow(c);
    c->out.counted = c->out.unheard;
    c->out.lived = now;
    if (!os_ended(c->fd)) return true;
    atomic_store_explicit(&c->gone, true, memory_order_release);
    return false;
}

/* Whether the peer lives.  One that has written nothing since this side wrote is looked for now and then. */
static inline bool peer_lives(shm_conn *c)
{
    uint32_t theirs = atomic_load_explicit(&c->theirs, memory_order_relaxed);
    if (atomic_load_explicit(&c->gone, memory_order_acquire)) return false;
    if (theirs == c->out.heard && ++c->out.unheard % 4 == 0) return look_around(c); /* the clock costs as much as all the rest */
    c->out.heard = theirs;
    return true;
}

/* Copies a long frame bit by bit where the reader waits for it, or for the message that it is only a part of: he fetches one
 * while the next is copied.  If he sleeps, the first of very many wakes him, which takes as long as copying them; not of fewer: on a
 * busy machine he may get the very processor that copies.  CLOSED */
static int put_payload(shm_conn *c, uint8_t *to, const uint8_t *data, uint32_t size, uint64_t length, bool awaited)
{
    const uint32_t step = !awaited && size == length ? size : size <= LEAP ? STEP : LEAP;
    uint32_t done = 0;
    const copy_lines lines = awaited ? COPY_WRITE : COPY_NO_LINES;
    int st = 0;
    while (st == 0 && size - done > step) {
        copy_bytes(to + done, data + done, step, lines);
        done += step;
        ring_show(&c->out.ring, done);
        bool sleeps = done == step && size > EARLY && atomic_load_explicit(c->others, memory_order_relaxed) & (SLEEPS | DOZES);
        if (sleeps && !wake_reader(c)) st = closed(c);
    }
    if (st == 0) copy_bytes(to + done, data + done, size - done, lines);
    return st;
}

/* Finds room for the next frame.  *awaited: the reader has seen all before it. */
static inline int find_room(shm_conn *c, uint32_t size, uint8_t **to, bool *awaited)
{
    ring_writer *w = &c->out.ring;
    uint32_t theirs = atomic_load_explicit(&c->theirs, memory_order_acquire);
    bool broken = false;
    *awaited = ring_all_seen(w, theirs);
    if (*awaited && (w->segment == 1 || c->out.left)) shrink(c, size, theirs);
    if (size > RING_BRIEF && short_of_room(c)) (void)grow(c);
    while (!(*to = ring_reserve(w, size, theirs, &broken)) && !broken) {
        if (short_of_room(c) && grow(c)) continue;
        if (peer_ended(c)) return closed(c);
        c->out.starved = true;
        if (!c->conn.out.shown || !c->conn.transport->settle(&c->conn, IPCIO_WANT_WRITE)) return IPCIO_WANT_WRITE;
    }
    if (broken) {
        hang_up(c);
        return ipcio__fail(IPCIO_PROTOCOL, "%s: %s", c->conn.base.text, rubbish);
    }
    c->out.starved = false;
    return 0;
}

/* Of so many bytes of a message. */
static inline ring_frame frame_header(const shm_conn *c, const message *m, uint32_t size, uint32_t kind)
{
    if (m->answer) kind |= RING_ANSWER;
    return ring_header(size, kind, (uint32_t)m->length, m->call, atomic_load_explicit(&c->ours, memory_order_acquire));
}

static inline int put_frame(shm_conn *c, const message *m, const uint8_t *data, uint32_t size, uint32_t kind)
{
    uint8_t *to;
    bool awaited;
    int st = find_room(c, size, &to, &awaited);
    if (st != 0) return st;
    ring_begin(&c->out.ring, frame_header(c, m, size, kind));
    st = put_payload(c, to, data, size, m->length, awaited);
    return st == 0 ? send_frame(c, size) : st;
}

/* The peer is told that the message under way was given up, now or before the next. */
static IPCIO_RARE int put_abort(shm_conn *c)
{
    int st = put_frame(c, &(message){0}, NULL, 0, RING_ABORT);
    c->out.abort_due = c->out.begun = st != 0;
    return st;
}

/* Before a message goes on, or the next one begins. */
static inline int prepare(shm_conn *c)
{
    if (!peer_lives(c)) return closed(c);
    return c->out.abort_due ? put_abort(c) : 0;
}

static int shm_reserve(ipcio_conn *base, uint64_t length, void **to)
{
    shm_conn *c = shm_of(base);
    uint8_t *room;
    bool awaited;
    int st = prepare(c);
    if (st != 0) return st;
    if (length >= ring_frame_most(&c->out.ring)) (void)grow(c);
    if (length >= ring_frame_most(&c->out.ring)) return 0;
    if ((st = find_room(c, (uint32_t)length, &room, &awaited)) == 0) *to = room;
    return st;
}

static int shm_commit(ipcio_conn *base, const message *m)
{
    shm_conn *c = shm_of(base);
    if (atomic_load_explicit(&c->gone, memory_order_acquire)) return closed(c); /* peer_lives may grow: the room would lie elsewhere */
    atomic_store_explicit(&c->streak, 0, memory_order_relaxed);
    ring_begin(&c->out.ring, frame_header(c, m, (uint32_t)m->length, RING_WHOLE));
    return send_frame(c, (uint32_t)m->length);
}

static int shm_write(ipcio_conn *base, bool last)
{
    shm_conn *c = shm_of(base);
    int st = prepare(c);
    if (st != 0) return st;
    atomic_store_explicit(&c->streak, 0, memory_order_relaxed);
    for (;;) {
        const uint8_t *data = (const uint8_t *)base->out.data + base->out.taken;
        size_t left = base->out.size - base->out.taken;
        if (left == 0 && !last) return 0;
        uint32_t most = ring_frame_most(&c->out.ring), size = left < most ? (uint32_t)left : most / 2;
        bool ends = last && size == left;
        st = put_frame(c, &base->out.m, data, size, (c->out.begun ? 0 : RING_FIRST) | (ends ? RING_LAST : 0));
        if (st != 0) return st;
        base->out.taken += size;
        c->out.begun = !ends;
        if (ends) return 0;
    }
}

/* A short message for which there is room.  All that it calls is inlined, which the compiler would not do with what others call
 * too. */
static __attribute__((flatten)) int shm_put(ipcio_conn *base, const message *m, const void *data)
{
    shm_conn *c = shm_of(base);
    ring_writer *w = &c->out.ring;
    uint32_t size = (uint32_t)m->length, theirs = atomic_load_explicit(&c->theirs, memory_order_acquire);
    bool broken, awaited = ring_all_seen(w, theirs);
    if (m->length > RING_BRIEF || (awaited && (w->segment == 1 || c->out.left))) return IPCIO_WANT_WRITE; /* may shrink */
    ring_frame h = frame_header(c, m, size, RING_WHOLE);
    atomic_store_explicit(&c->streak, 0, memory_order_relaxed);
    if (awaited && !atomic_load_explicit(&c->gone, memory_order_acquire) && ring_put_again(w, h, data)) {
        c->out.heard = theirs;
        c->out.starved = false;
        return tell_frame(c);
    }
    if (c->out.begun || !peer_lives(c)) return IPCIO_WANT_WRITE;
    uint8_t *to = ring_reserve(w, size, theirs, &broken);
    if (!to) return IPCIO_WANT_WRITE;
    c->out.starved = false;
    ring_begin(w, h);
    copy_bytes(to, data, size, awaited ? COPY_WRITE : COPY_NO_LINES);
    return send_frame(c, size);
}

static void shm_abort(ipcio_conn *base)
{
    shm_conn *c = shm_of(base);
    /* The bell may have failed after the message's last frame: then nothing is to follow it. */
    if (c->out.begun && !atomic_load_explicit(&c->gone, memory_order_acquire)) (void)put_abort(c);
}

/* ------------------------------------------------------------------------------------------ both */

static bool shm_ready(ipcio_conn *base)
{
    shm_conn *c = shm_of(base);
    if (c->in.inside && c->in.aborted) return true;
    return c->in.ended || ring_arrived(&c->in.ring) || (!c->in.waits && (c->in.have || ring_has_frame(&c->in.ring)));
}

static bool news(shm_conn *c, int want)
{
    if (want == IPCIO_WANT_READ && c->in.ended) return true;
    if (peer_ended(c)) return true;
    return want == IPCIO_WANT_READ ? ring_arrived(&c->in.ring) : ring_has_room(&c->out.ring);
}

/* Before it sleeps, having said so.  False: the system has fenced before, but does not any more. */
static bool fence(shm_conn *c)
{
    if (c->in.spun < SPUN) return true;
    c->in.spun = 0;
    if (!(atomic_fetch_and_explicit(c->mine, ~(uint32_t)AWAKE, memory_order_seq_cst) & AWAKE) || os_fence() == 0) return true;
    atomic_store_explicit(&c->fences, false, memory_order_relaxed);
    return false;
}

static bool shm_arrived(ipcio_conn *base, int want)
{
    shm_conn *c = shm_of(base);
    if (want == IPCIO_WANT_WRITE) return news(c, want);
    if (streams(c)) {
        linger(PACE_LEAST);
    } else if (spin(c, LOOKS)) {
        return true;
    }
    return news(c, want);
}

static bool shm_settle(ipcio_conn *base, int want)
{
    shm_conn *c = shm_of(base);
    if (want == IPCIO_WANT_WRITE && !c->out.starved) return false;
    if (news(c, want)) return true;
    if (want == IPCIO_WANT_READ) drain(c);
    else if (os_stuff(c->fd) == IPCIO_CLOSED) atomic_store_explicit(&c->gone, true, memory_order_release);
    atomic_fetch_or_explicit(c->mine, want == IPCIO_WANT_READ ? SLEEPS : WAITS, memory_order_seq_cst);
    return (want == IPCIO_WANT_READ && !fence(c)) || news(c, want);
}

/* Of the peer's death this hears nothing, nor if it dies between clearing the bit and waking: then the time is up. */
static int shm_doze(ipcio_conn *base, int want, int64_t deadline)
{
    shm_conn *c = shm_of(base);
    const uint32_t bit = want == IPCIO_WANT_READ ? DOZES : STALLS;
    int st = 0;
    if (want == IPCIO_WANT_WRITE && !c->out.starved) return IPCIO_TIMEOUT;
    atomic_fetch_or_explicit(c->mine, bit, memory_order_seq_cst);
    if ((want == IPCIO_WANT_WRITE || fence(c)) && !news(c, want))
        st = os_word_wait(c->mine, atomic_load_explicit(c->mine, memory_order_relaxed) | bit, deadline);
    if (atomic_load_explicit(c->mine, memory_order_relaxed) & bit)
        atomic_fetch_and_explicit(c->mine, ~bit, memory_order_relaxed);
    return st;
}

static void know_peer(shm_conn *c)
{
    ipcio_peer peer;
    c->own_user = os_local_peer(c->fd, &peer) == 0 && peer.uid == os_user();
}

static void open_socket(ipcio_conn *base, os_fd fd)
{
    shm_conn *c = shm_of(base);
    c->fd = fd;
    c->memory = c->place = OS_NONE;
    c->open = true;
    atomic_store_explicit(&c->gone, true, memory_order_relaxed);
    c->conn.base.side[IPCIO_WANT_READ].fd = c->conn.base.side[IPCIO_WANT_WRITE].fd = fd;
    c->conn.base.side[IPCIO_WANT_READ].want = IPCIO_WANT_READ;
    c->conn.base.side[IPCIO_WANT_WRITE].want = IPCIO_WANT_WRITE;
}

/* Both descriptors of a client are there, or it stays in the queue: clients that have only one could wait for each other's. */
static int shm_accept(ipcio_server *s, ipcio_conn *base)
{
    os_fd fd, place;
    int st = os_bell_new(&place);
    if (st != 0) return ipcio__fail_os(st, "%s: cannot accept", s->address.text);
    if ((st = rendezvous_accept(s, &fd)) != 0) {
        os_close(place);
        return st;
    }
    open_socket(base, fd);
    shm_of(base)->place = place;
    shm_of(base)->me = SERVER;
    return 0;
}

static void free_place(shm_conn *c)
{
    os_close(c->place);
    c->place = OS_NONE;
}

/* The greeting, and the memory that comes with it.  They stay in the socket, should there be no descriptor left all the same. */
static int peek_greeting(shm_conn *c, char greeting[sizeof magic], size_t *got)
{
    if (c->memory != OS_NONE) return 0;
    int st = os_peek_file(c->fd, &(os_piece){greeting, sizeof magic}, got, &c->memory);
    if (st != IPCIO_SYSTEM || c->place == OS_NONE) return st;
    free_place(c);
    return os_peek_file(c->fd, &(os_piece){greeting, sizeof magic}, got, &c->memory);
}

static int shm_greeted(ipcio_conn *base)
{
    static const char strange[] = "the peer is no ipcio of this version";
    shm_conn *c = shm_of(base);
    if (c->greeted) return 0;
    if (c->in.ended) return ended(c);
    char greeting[sizeof magic];
    size_t got = 0;
    int st = peek_greeting(c, greeting, &got);
    if (st > 0) return st;
    free_place(c);
    if (st == IPCIO_CLOSED || (got == 0 && os_ended(c->fd))) return over(c, IPCIO_CLOSED, "the peer has closed the connection");
    if (st == IPCIO_PROTOCOL) return over(c, st, strange);
    if (st != 0) return ipcio__fail_os(IPCIO_FULL, "%s: no descriptor for a client's memory", base->base.text);
    if (got != 0) drain(c);
    if (c->memory == OS_NONE || (got != 0 && (got != sizeof greeting || memcmp(greeting, magic, sizeof magic) != 0)))
        return over(c, IPCIO_PROTOCOL, strange);
    know_peer(c);
    return take_memory(c);
}

static int shm_connect(ipcio_conn *base)
{
    shm_conn *c = shm_of(base);
    size_t sent = 0;
    int st = rendezvous_connect(base, &c->rendezvous, os_local_connect, open_socket);
    if (st == 0) st = make_memory(c);
    if (st != 0) return st;
    know_peer(c);
    st = os_send_file(c->fd, &(os_piece){(void *)(uintptr_t)magic, sizeof magic}, 1, c->memory, &sent);
    /* A peer that has gone already is no error here: reading tells. */
    if (st == IPCIO_CLOSED || (st == 0 && sent == sizeof magic)) return 0;
    return ipcio__fail_os(st < 0 ? st : IPCIO_SYSTEM, "%s: cannot hand the memory over", base->address.text);
}

static int shm_peer(ipcio_conn *c, ipcio_peer *peer)
{
    return os_local_peer(shm_of(c)->fd, peer);
}

static void shm_wake(ipcio_conn *base)
{
    shm_conn *c = shm_of(base);
    if (c->mine) atomic_fetch_or_explicit(c->mine, CLOSED, memory_order_seq_cst);
    hang_up(c);
}

static void close_all(shm_conn *c)
{
    rendezvous_close(&c->rendezvous);
    if (!c->open) return;
    c->open = false;
    os_close(c->fd);
    os_close(c->memory);
    os_close(c->place);
}

static void for_all_memory(shm_conn *c, void (*act)(void *at, size_t size))
{
    if (c->control) act(c->control, c->mapped);
    for (int i = 0; i < 2; i++)
        if (c->large[i]) act(c->large[i], large_size(c));
}

/* A child forked from now on is not told of this connection, but may hold what was viewed. */
static void shm_close(ipcio_conn *base)
{
    close_all(shm_of(base));
    for_all_memory(shm_of(base), os_memory_inherit);
}

static void shm_abandon(ipcio_conn *base)
{
    close_all(shm_of(base));
    for_all_memory(shm_of(base), os_memory_blank);
}

static void shm_forget(ipcio_conn *base)
{
    shm_conn *c = shm_of(base);
    for_all_memory(c, os_memory_unmap);
    c->control = NULL;
    c->large[0] = c->large[1] = NULL;
    c->mine = c->others = NULL;
}

const transport transport_shm = {
    .scheme = "shm",
    .only_messages = true,
    .server_size = sizeof(rendezvous_server),
    .conn_size = sizeof(shm_conn),
    .listen = rendezvous_listen,
    .accept = shm_accept,
    .unlisten = rendezvous_unlisten,
    .abandon_server = rendezvous_abandon_server,
    .connect = shm_connect,
    .greeted = shm_greeted,
    .start = shm_start,
    .view = shm_view,
    .whole = shm_whole,
    .take = shm_take,
    .end = shm_end,
    .write = shm_write,
    .put = shm_put,
    .abort = shm_abort,
    .reserve = shm_reserve,
    .commit = shm_commit,
    .arrived = shm_arrived,
    .ready = shm_ready,
    .settle = shm_settle,
    .doze = shm_doze,
    .peer = shm_peer,
    .wake = shm_wake,
    .close = shm_close,
    .abandon = shm_abandon,
    .forget = shm_forget,
};
