/* test_ring.c - ring.c alone: every frame comes once, whole, in order, whatever its size and place; nothing that is
 * still held is overwritten; a writer is never told of room that is not there; and whatever stands in the shared words
 * and headers, nothing outside of the segments is touched.  The segments lie between pages that cannot be accessed.
 *
 * The random tests print their seed; IPCIO_TEST_SEED repeats it. */
#include "helper.h"

#include <stdbool.h>
#include <sys/mman.h>

#include "channel/ring.h"

enum { COUNTS = 1 << RING_COUNT_BITS, MASK = COUNTS - 1, HEADER = sizeof(ring_frame), MOST_FRAMES = 1 << 13 };
enum { SMALL = 4096, LARGE = 16384 };

/* ------------------------------------------------------------------------------------------- numbers */

static uint64_t seed;

static uint32_t number(uint32_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)((seed >> 32) % below);
}

static bool chance(uint32_t of) { return number(of) == 0; }

static void choose_seed(void)
{
    const char *text = getenv("IPCIO_TEST_SEED");
    seed = text ? strtoull(text, NULL, 10) : (uint64_t)ipcio_now() | 1;
    print_message("IPCIO_TEST_SEED=%llu\n", (unsigned long long)seed);
}

/* -------------------------------------------------------------------------------------------- a ring */

/* So many bytes that end at a page which cannot be accessed; whole pages begin behind one, too. */
static uint8_t *guarded(size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), whole = (size + page - 1) / page * page;
    uint8_t *at = mmap(NULL, whole + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED && mprotect(at + page, whole, PROT_READ | PROT_WRITE) == 0);
    return at + page + whole - size;
}

static void unguard(uint8_t *at, size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), whole = (size + page - 1) / page * page;
    CHECK(munmap(at + size - whole - page, whole + 2 * page) == 0);
}

struct frame {
    uint32_t size, kind, length, call, read, number;
};

struct words {
    _Alignas(128) _Atomic uint32_t head;
    _Alignas(128) _Atomic uint32_t tail;
};

struct rig {
    struct words *words;
    uint8_t *segment[2];
    uint32_t size[2];
    ring_writer w;
    ring_reader r;
    struct frame queue[MOST_FRAMES]; /* published and not passed: what is to be found */
    uint32_t first, count, made;
    uint32_t seen;                   /* what the writer was told last */
    const uint8_t *held;             /* the payload of the frame passed last, while somebody reads it */
    struct frame held_frame;
    uint8_t copy[RING_BRIEF];        /* or it was copied */
    uint32_t full;                   /* bytes of the frame that found no room; UINT32_MAX: none */
    bool left;                       /* the reader may still look into the larger segment, which the writer has left */
};

static struct rig rig;

static void open_rig(uint32_t small, uint32_t large, uint32_t start)
{
    rig = (struct rig){.size = {small, large}, .seen = start, .full = UINT32_MAX};
    rig.words = (struct words *)(void *)guarded(sizeof(struct words));
    rig.segment[0] = guarded(small);
    rig.segment[1] = large ? guarded(large) : NULL;
    rig.w = (ring_writer){.head_word = &rig.words->head, .tail_word = &rig.words->tail, .memory = {rig.segment[0]},
                          .size = {small, large}, .at = start, .begun = start, .last = start,
                          .tail = start, .word = start, .stale = UINT32_MAX};
    rig.r = (ring_reader){.head_word = &rig.words->head, .tail_word = &rig.words->tail, .memory = {rig.segment[0]},
                          .size = {small, large}, .at = start, .head = start, .told = start};
    atomic_init(&rig.words->head, start);
    atomic_init(&rig.words->tail, start);
}

static void close_rig(void)
{
    unguard((uint8_t *)rig.words, sizeof(struct words));
    unguard(rig.segment[0], rig.size[0]);
    if (rig.segment[1])
        unguard(rig.segment[1], rig.size[1]);
}

static bool inside(const uint8_t *payload, uint32_t size)
{
    for (int i = 0; i < 2; i++)
        if (rig.segment[i] && payload >= rig.segment[i] + HEADER && payload + size <= rig.segment[i] + rig.size[i])
            return true;
    return false;
}

/* What has to be free for a frame of so many bytes at the writer's place, by the reader's word. */
static uint32_t wanted(uint32_t payload)
{
    const ring_writer *w = &rig.w;
    uint32_t need = 1 + (payload + RING_UNIT - 1) / RING_UNIT, rest = (w->size[w->segment] - w->offset) / RING_UNIT;
    uint32_t eighth = w->size[w->segment] / RING_UNIT / 8;
    if (rest < need)
        need += rest;
    return need < eighth ? eighth : need;
}

static uint32_t unread(void) { return (rig.w.at - atomic_load(&rig.words->tail)) & MASK; }

/* After anything that the reader did: has_room says what is so. */
static void check_room(void)
{
    ring_writer w = rig.w;
    bool broken = false, room, fits;
    if (rig.full == UINT32_MAX)
        return;
    room = ring_has_room(&rig.w);
    fits = ring_reserve(&w, rig.full, rig.seen, &broken) != NULL;
    CHECK(!broken);
    if (room && !fits) /* it may have learned where to look next */
        CHECK(!ring_has_room(&w));
    if (!room && fits)
        CHECK(rig.w.size[rig.w.segment] / RING_UNIT - unread() < wanted(rig.full) || rig.seen == rig.w.at);
    if (unread() == 0)
        CHECK(room && fits);
}

static void check_held(void)
{
    if (rig.held)
        CHECK(is_filled(rig.held, rig.held_frame.size, rig.held_frame.number));
}

static void check_frame(const ring_found *f, const struct frame *want)
{
    CHECK(f->size == want->size && f->kind == want->kind && f->length == want->length && f->call == want->call &&
          f->read == want->read);
    CHECK((f->payload == rig.copy || inside(f->payload, f->size)) && f->here <= f->size);
    CHECK(is_filled(f->payload, f->here, want->number));
}

/* ring_look, which is told of the larger segment when it asks for it. */
static int look(ring_found *f)
{
    int st = ring_look(&rig.r, f);
    if (st == -2) {
        CHECK(rig.r.memory[1] == NULL && rig.segment[1] != NULL);
        rig.r.memory[1] = rig.segment[1];
        st = ring_look(&rig.r, f);
    }
    CHECK(st == 0 || st == 1);
    return st;
}

static void let_go(bool now)
{
    rig.held = NULL;
    (void)ring_release(&rig.r, rig.r.at, now);
}

static unsigned put_again, taken_again, taken;

/* Reads the next frame, if there is one, and maybe holds it. */
static bool read_frame(bool hold)
{
    ring_found f;
    if (rig.held)
        let_go(chance(2));
    if (chance(2) && ring_take_again(&rig.r, &f, rig.copy)) {
        taken_again++;
    } else if (chance(2) && ring_take(&rig.r, &f, rig.copy)) {
        taken++;
    } else {
        if (look(&f) == 0) {
            CHECK(rig.count == 0);
            let_go(true);
            return false;
        }
        if (f.here < f.size)
            CHECK(ring_look_again(&rig.r, &f) == 0);
        CHECK(f.here == f.size);
        ring_hold(&rig.r, &f, rig.copy);
    }
    CHECK(rig.count > 0);
    check_frame(&f, &rig.queue[rig.first]);
    rig.held = f.payload;
    rig.held_frame = rig.queue[rig.first];
    rig.first = (rig.first + 1) % MOST_FRAMES;
    rig.count--;
    if (!hold)
        let_go(chance(2));
    return true;
}

/* Shows a frame bit by bit to a reader who waits for it. */
static void show(const struct frame *frame)
{
    ring_found f;
    uint32_t shown = 0;
    while (frame->size - shown > RING_UNIT) {
        shown += RING_UNIT * (1 + number((frame->size - shown - 1) / RING_UNIT));
        ring_show(&rig.w, shown);
        CHECK(look(&f) == 1 && ring_look_again(&rig.r, &f) == 0 && f.here == shown);
        check_frame(&f, frame);
    }
}

static ring_frame header_of(const struct frame *f)
{
    return ring_header(f->size, f->kind, f->length, f->call, f->read);
}

static void wrote(const struct frame *frame)
{
    rig.queue[(rig.first + rig.count++) % MOST_FRAMES] = *frame;
    rig.made++;
}

/* Writes a whole message, if it can replace the last. */
static bool write_again(uint32_t size)
{
    struct frame frame = {size, RING_FIRST | RING_LAST, size, number(UINT32_MAX), number(COUNTS), rig.made};
    uint8_t bytes[RING_BRIEF + RING_UNIT];
    if (size > sizeof bytes || !ring_all_seen(&rig.w, rig.seen))
        return false;
    fill(bytes, size, frame.number);
    if (!ring_put_again(&rig.w, header_of(&frame), bytes))
        return false;
    CHECK(rig.w.offset < rig.w.size[0] && rig.w.segment == 0);
    rig.full = UINT32_MAX;
    put_again++;
    wrote(&frame);
    return true;
}

/* Writes a frame, if there is room. */
static bool write_frame(uint32_t size)
{
    struct frame frame = {size, number(8), number(UINT32_MAX), number(UINT32_MAX), number(COUNTS), rig.made};
    bool broken = false;
    uint8_t *to;
    if (chance(2))
        frame.kind = RING_FIRST | RING_LAST;
    if (frame.kind == (RING_FIRST | RING_LAST))
        frame.length = size;
    if (chance(2) && write_again(size))
        return true;
    to = ring_reserve(&rig.w, size, rig.seen, &broken);
    CHECK(!broken);
    rig.full = to ? UINT32_MAX : size;
    if (!to) {
        check_room();
        CHECK(!ring_has_room(&rig.w));
        return false;
    }
    CHECK(inside(to, size) && rig.count < MOST_FRAMES);
    ring_begin(&rig.w, header_of(&frame));
    fill(to, size, frame.number);
    check_held();
    if (rig.count == 0 && !rig.held && chance(4))
        show(&frame);
    ring_commit(&rig.w, size);
    wrote(&frame);
    return true;
}

/* Goes on in the larger segment, or back, as far as the ring lets it; leaves the writer ready to write.  Who has gone
 * back may not write there again, and the memory is not given back, before the reader is past it. */
static bool move_on(void)
{
    bool moved;
    if (rig.left && !ring_past(&rig.w))
        return false;
    if (rig.left)
        memset(rig.segment[1], 0, rig.size[1]);
    rig.left = false;
    if (rig.w.segment == 0) {
        rig.w.memory[1] = rig.segment[1];
        moved = ring_move(&rig.w);
    } else {
        moved = rig.left = ring_return(&rig.w, rig.seen);
    }
    if (moved)
        rig.full = UINT32_MAX;
    return moved;
}

static uint32_t any_size(void)
{
    uint32_t most = ring_frame_most(&rig.w);
    switch (number(6)) {
    case 0:
        return number(3);
    case 1:
        return RING_UNIT * number(8);
    case 2:
        return most - number(3);
    case 3:
        return most / 2;
    case 4:
        return number(most + 1);
    default:
        return number(200);
    }
}

/* ------------------------------------------------------------------------------------------ the tests */

enum telling { NEVER, AT_ONCE, SOMETIMES };

/* One step of either side. */
static void step(enum telling telling, uint32_t writing)
{
    if (number(100) < writing)
        (void)write_frame(any_size());
    else if (rig.held && chance(2))
        let_go(chance(2));
    else
        (void)read_frame(chance(2));
    if (telling == AT_ONCE || (telling == SOMETIMES && chance(4)))
        rig.seen = rig.r.at;
    check_held();
    check_room();
}

static void finish_reading(void)
{
    while (read_frame(chance(2)))
        check_held();
    CHECK(rig.count == 0 && unread() == 0);
}

/* Random steps on rings of every sort, begun at many counts, the last before they wrap among them. */
static void test_random(void **state)
{
    static const uint32_t sizes[][2] = {{RING_LEAST, 0}, {SMALL, 0}, {SMALL, LARGE}, {28672, 65536}, {RING_LEAST + RING_UNIT, 2 * RING_LEAST}};
    static const uint32_t starts[] = {0, MASK, MASK - 100, COUNTS / 2 - 10};
    uint32_t rounds = SANITIZED ? 1000 : 4000, all_moves = 0;
    (void)state;
    choose_seed();
    for (size_t i = 0; i < COUNT(sizes); i++)
        for (size_t k = 0; k < COUNT(starts); k++)
            for (enum telling telling = NEVER; telling <= SOMETIMES; telling++) {
                uint32_t moves = 0;
                open_rig(sizes[i][0], sizes[i][1], starts[k]);
                for (uint32_t n = 0; n < rounds; n++) {
                    step(telling, n / 500 % 2 ? 60 : 40); /* fuller, and emptier */
                    if (rig.segment[1] && chance(50))
                        moves += move_on();
                }
                CHECK(rig.made > rounds / 8 && (moves > 0) == (sizes[i][1] > 0));
                all_moves += moves;
                finish_reading();
                close_rig();
            }
    CHECK(all_moves > rounds / 100); /* there and back */
    CHECK(put_again > 0 && taken_again > 0 && taken > 0);
}

/* A conversation of brief messages stays in the same place. */
static void test_conversation(void **state)
{
    static const uint32_t lengths[] = {0, 1, 16, 64, 100, 1000, RING_BRIEF};
    (void)state;
    choose_seed();
    for (size_t i = 0; i < COUNT(lengths); i++) {
        uint32_t end = 0, whole = HEADER + (lengths[i] + RING_UNIT - 1) / RING_UNIT * RING_UNIT;
        open_rig(SMALL, 0, 0);
        for (int n = 0; n < 1000; n++) {
            CHECK(write_frame(lengths[i]) && read_frame(true));
            rig.seen = rig.r.at;
            if (rig.w.offset > end)
                end = rig.w.offset;
            check_held();
        }
        CHECK(end == whole);
        close_rig();
    }
}

/* However many messages were written before the reader was heard of, all of the ring is room then, though he looks no
 * further and so gives nothing back. */
static void test_room_after_reply(void **state)
{
    static const uint32_t lengths[] = {0, 10, 100, 1000, RING_BRIEF};
    (void)state;
    choose_seed();
    for (size_t i = 0; i < COUNT(lengths); i++)
        for (int before = 1; before < 3; before++) {
            uint32_t written = 0, whole = 1 + (lengths[i] + RING_UNIT - 1) / RING_UNIT;
            open_rig(SMALL, 0, 0);
            for (int round = 0; round < 3; round++) {
                for (int n = 0; n < before; n++)
                    CHECK(write_frame(lengths[i]));
                for (int n = 0; n < before; n++)
                    CHECK(read_frame(true));
                rig.seen = rig.r.at;
                check_held();
            }
            while (write_frame(lengths[i]))
                written++;
            CHECK((written + 1) * whole >= SMALL / RING_UNIT - 1);
            check_held();
            close_rig();
        }
}

/* The same when the sizes change: what was written before a reply is about what the place for the next is. */
static void test_conversation_of_many_sizes(void **state)
{
    enum { LONGEST = RING_BRIEF };
    uint32_t end = 0;
    (void)state;
    put_again = taken_again = 0;
    choose_seed();
    open_rig(28672, 0, 0);
    for (int n = 0; n < 100000; n++) {
        CHECK(write_frame(number(LONGEST)) && read_frame(true));
        rig.seen = rig.r.at;
        if (rig.w.offset > end)
            end = rig.w.offset;
        check_held();
    }
    CHECK(end < 8 * (HEADER + LONGEST) && put_again > 1000 && taken_again > 1000);
    close_rig();
}

/* Who is told nothing for longer than the counts take to come round is not deceived by the last that he was told. */
static void test_nothing_heard_for_long(void **state)
{
    enum { UNITS = 64, SIZE = (UNITS - 1) * RING_UNIT };
    uint32_t written = 0, found = 0, started = 123 * UNITS;
    ring_found f;
    (void)state;
    choose_seed();
    open_rig(28672, 0, started);
    while (found < 2 * (COUNTS / UNITS)) {
        bool broken = false;
        uint8_t *to = ring_reserve(&rig.w, SIZE, started, &broken);
        CHECK(!broken);
        if (to) {
            ring_begin(&rig.w, ring_header(SIZE, RING_FIRST | RING_LAST, written++, 0, 0));
            ring_commit(&rig.w, SIZE);
        }
        if (written - found > 3 && chance(2)) { /* some are always under way */
            CHECK(look(&f) == 1 && f.size == SIZE && f.length == found);
            ring_pass(&rig.r, &f);
            (void)ring_release(&rig.r, rig.r.at, false);
            found++;
        }
    }
    close_rig();
}

/* A full ring: frames of one size until there is no room; then room is told of when it is enough. */
static void test_full(void **state)
{
    (void)state;
    choose_seed();
    for (uint32_t size = 0; size <= RING_LEAST / 2 - 2 * RING_UNIT; size++) {
        open_rig(RING_LEAST, 0, number(COUNTS));
        for (int round = 0; round < 20; round++) {
            bool room = false;
            while (write_frame(size)) {
            }
            CHECK(rig.count >= 2 || round > 0);
            while (!room) { /* at the latest when all was read */
                if (!read_frame(false))
                    CHECK(ring_has_room(&rig.w));
                check_room();
                room = ring_has_room(&rig.w) && write_frame(size);
            }
        }
        finish_reading();
        close_rig();
    }
}

/* A frame that is held in place is not overwritten by any that follow, told or not, until it is released. */
static void test_held(void **state)
{
    (void)state;
    choose_seed();
    for (int n = 0; n < 2000; n++) {
        open_rig(RING_LEAST, SMALL, number(COUNTS));
        for (uint32_t before = number(20); before > 0; before--) {
            if (write_frame(number(800)) && read_frame(false))
                rig.seen = rig.r.at;
            if (chance(4))
                (void)move_on();
        }
        if (write_frame(1 + number(1600)) && read_frame(true)) {
            const uint8_t *held = rig.held;
            rig.seen = rig.r.at; /* it has seen all, says the reply */
            for (int k = 0; k < 20; k++) {
                if (!write_frame(number(1200)) || chance(10))
                    (void)move_on();
                CHECK(rig.held == held);
                check_held();
            }
        }
        close_rig();
    }
}

/* ------------------------------------------------------------------------------------------- threads */

enum { ROUND_TRIPS = SANITIZED ? 20000 : 200000 };

static _Atomic uint32_t told; /* by the reader to the writer */
static _Atomic bool wrong;    /* one of the two has given up */

static uint32_t size_of(uint32_t n)
{
    return n * 2654435761u % 1500 * (n % 7 == 0) + n % 40;
}

static bool write_in_thread(uint32_t n)
{
    uint32_t size = size_of(n), shown = 0;
    bool broken = false;
    uint8_t *to, bytes[RING_BRIEF];
    if (size <= sizeof bytes && ring_all_seen(&rig.w, atomic_load_explicit(&told, memory_order_acquire))) {
        fill(bytes, size, n);
        if (ring_put_again(&rig.w, ring_header(size, RING_FIRST | RING_LAST, size, n, 0), bytes))
            return true;
    }
    while (!(to = ring_reserve(&rig.w, size, atomic_load_explicit(&told, memory_order_acquire), &broken))) {
        if (broken || atomic_load(&wrong))
            return false;
        if (n > ROUND_TRIPS / 2 && rig.w.segment == 0) {
            rig.w.memory[1] = rig.segment[1];
            (void)ring_move(&rig.w);
        }
        sched_yield();
    }
    ring_begin(&rig.w, ring_header(size, RING_FIRST | RING_LAST, size, n, 0));
    for (; n % 2 && size - shown > 64; shown += 64) {
        fill(to + shown, 64, n + shown);
        ring_show(&rig.w, shown + 64);
    }
    fill(to + shown, size - shown, n + shown);
    ring_commit(&rig.w, size);
    return true;
}

static bool read_in_thread(uint32_t n)
{
    ring_found f;
    bool passed = false;
    int st;
    while (!(passed = ring_take_again(&rig.r, &f, rig.copy) || (n % 2 && ring_take(&rig.r, &f, rig.copy))) &&
           (st = ring_look(&rig.r, &f)) != 1) {
        if (st == -2)
            rig.r.memory[1] = rig.segment[1];
        else if (st != 0 || atomic_load(&wrong))
            return false;
        (void)ring_release(&rig.r, rig.r.at, true);
        sched_yield();
    }
    while (f.here < f.size)
        if (ring_look_again(&rig.r, &f) < 0 || atomic_load(&wrong))
            return false;
    if (f.call != n || f.size != size_of(n) || f.length != f.size)
        return false;
    if (!passed)
        ring_hold(&rig.r, &f, rig.copy);
    if (n % 3 == 0) /* told before the frame is looked at: the writer may begin at the front */
        atomic_store_explicit(&told, rig.r.at, memory_order_release);
    if (n % 64 == 0)
        sched_yield();
    if (!is_filled(f.payload, f.size, n))
        return false;
    (void)ring_release(&rig.r, rig.r.at, n % 5 == 0);
    return true;
}

static int run_thread(void *context)
{
    bool (*one)(uint32_t n) = context ? write_in_thread : read_in_thread;
    for (uint32_t n = 0; n < ROUND_TRIPS; n++)
        if (!one(n)) {
            atomic_store(&wrong, true);
            return 1;
        }
    return 0;
}

static void test_two_threads(void **state)
{
    struct thread writer, reader;
    (void)state;
    open_rig(SMALL, LARGE, MASK - 1000);
    atomic_store(&told, MASK - 1000);
    begin(&writer, run_thread, "writer");
    begin(&reader, run_thread, NULL);
    assert_int_equal(end(&reader), 0);
    assert_int_equal(end(&writer), 0);
    close_rig();
}

/* ------------------------------------------------------------------------------------ a hostile other side
 *
 * Whatever it writes, at whatever time: the guarded pages show what would be touched beside the segments. */

static uint32_t checksum; /* of what was read, so that it is read */

static void touch(const uint8_t *payload, uint32_t size)
{
    CHECK(inside(payload, size));
    if (size)
        checksum += (uint32_t)(payload[0] + payload[size - 1] + payload[size / 2]);
}

static void put_header(uint32_t segment, uint32_t offset, ring_frame header)
{
    memcpy(rig.segment[segment] + offset, &header, sizeof header);
}

/* What a reader does with a ring, as far as the ring lets him. */
static int read_hostile(uint32_t head_later)
{
    ring_found f;
    uint32_t here;
    int st;
    if (chance(2) && ring_take_again(&rig.r, &f, rig.copy)) {
        CHECK(f.payload == rig.copy && f.size <= sizeof rig.copy && f.size == f.length && f.here == f.size);
        CHECK(rig.r.offset <= HEADER + RING_BRIEF && rig.r.offset % RING_UNIT == 0);
        return 1;
    }
    st = ring_look(&rig.r, &f);
    if (st == -2) {
        CHECK(rig.r.memory[1] == NULL);
        rig.r.memory[1] = rig.segment[1];
        st = ring_look(&rig.r, &f);
    }
    CHECK(st >= -1 && st <= 1);
    if (st != 1)
        return st;
    CHECK(f.here <= f.size);
    touch(f.payload, f.size);
    here = f.here;
    atomic_store(&rig.words->head, head_later);
    if (here < f.size) {
        if (ring_look_again(&rig.r, &f) < 0)
            return -1;
        CHECK(f.here >= here && f.here <= f.size); /* who has taken `here` bytes must not find fewer */
    }
    if (f.here < f.size)
        return 0;
    touch(f.payload, f.size);
    ring_pass(&rig.r, &f);
    CHECK(rig.r.offset < rig.r.size[rig.r.segment] && rig.r.offset % RING_UNIT == 0);
    (void)ring_release(&rig.r, rig.r.at, true);
    return 1;
}

static void place_reader(uint32_t segment, uint32_t offset, uint32_t at, bool mapped)
{
    rig.r.segment = segment;
    rig.r.offset = offset;
    rig.r.at = rig.r.head = rig.r.told = at;
    rig.r.memory[1] = mapped || segment == 1 ? rig.segment[1] : NULL;
    rig.r.size[1] = rig.size[1]; /* as if it had been there */
}

/* Every boundary value in every field, from every sort of place. */
static void test_rubbish_for_the_reader(void **state)
{
    static const uint32_t offsets[] = {0, 16, 2048, RING_LEAST - 16};
    static const uint32_t heads[] = {1, 2, 3, 4, 126, 127, 254, 255, 256, 764, 765, 766, COUNTS / 2, MASK};
    static const uint32_t sizes[] = {0,    1,    15,   16,   17,   1999, RING_BRIEF, 2001,  2016, 4048,
                                     4064, 4065, 4080, 8144, 8145, 8160, 12224,      65536, (1u << 28) - 1};
    static const uint32_t lengths[] = {0, 1, 2, 16, 17, RING_BRIEF, RING_LEAST, 2 * RING_LEAST, 2 * RING_LEAST + 16, 1u << 31, UINT32_MAX};
    static const uint32_t epochs[] = {0, 1, 31};
    (void)state;
    open_rig(RING_LEAST, 2 * RING_LEAST, 0);
    for (uint32_t place = 0; place < 2 * 2 * COUNT(offsets); place++)
        for (size_t h = 0; h < COUNT(heads); h++)
            for (size_t s = 0; s < COUNT(sizes); s++)
                for (uint32_t kind = 0; kind < 16; kind++)
                    for (size_t l = 0; l < COUNT(lengths); l++) {
                        uint32_t at = place & 2 ? MASK - 2 : 0, offset = offsets[place / 4];
                        uint32_t pick = (uint32_t)(h + s + kind + l);
                        uint32_t head = ((at + heads[h]) & MASK) | epochs[pick % 3] << 27 | (pick & 1) << 26;
                        ring_frame header = {.size_kind = sizes[s] << 4 | kind, .length = lengths[l]};
                        place_reader(place & 1, offset, at, pick & 4);
                        put_header(place & 1, offset, header);
                        put_header(0, 0, header); /* where a turn leads */
                        put_header(1, 0, header);
                        atomic_store(&rig.words->head, head);
                        if (read_hostile(head + heads[(h + s) % COUNT(heads)]) == 1)
                            (void)read_hostile(head);
                    }
    close_rig();
}

/* The same at random, on and on: what is valid by chance leads further in. */
static void test_random_rubbish_for_the_reader(void **state)
{
    enum { UNITS = RING_LEAST / RING_UNIT };
    (void)state;
    choose_seed();
    open_rig(RING_LEAST, 2 * RING_LEAST, 0);
    for (int round = 0; round < 10000; round++) {
        place_reader(number(2), number(UNITS) * RING_UNIT, number(COUNTS), chance(2));
        for (uint32_t segment = 0; segment < 2; segment++)
            for (uint32_t offset = 0; offset < rig.size[segment]; offset += RING_UNIT) {
                uint32_t kind = chance(4) ? RING_TURN : number(16), size = chance(20) ? number(1u << 28) : number(200);
                put_header(segment, offset, (ring_frame){.size_kind = size << 4 | kind, .length = chance(2) ? number(3) : number(2 * UNITS + 2) * RING_UNIT});
            }
        for (int n = 0, st = 1; n < 100 && st >= 0; n++) {
            uint32_t near = (rig.r.at + number(UNITS)) & MASK;
            atomic_store(&rig.words->head, chance(8) ? (uint32_t)(number(UINT32_MAX)) : near | (rig.r.head & ~0u << 27));
            st = read_hostile(chance(4) ? number(UINT32_MAX) : (near + number(UNITS)) | (rig.r.head & ~0u << 27));
        }
    }
    close_rig();
}

/* One look ends soon, even if each header of the ring sends the reader to its front again: it says so without going
 * round as often as the counts allow. */
static void test_turns_without_end(void **state)
{
    static const uint32_t lengths[] = {0, 1, 16, 1024, RING_LEAST - 16, RING_LEAST, RING_LEAST + 16, 2 * RING_LEAST - 16,
                                       2 * RING_LEAST, 2 * RING_LEAST + 16};
    (void)state;
    open_rig(RING_LEAST, 2 * RING_LEAST, 0);
    for (size_t l = 0; l < COUNT(lengths); l++)
        for (uint32_t offset = 0; offset < 2 * RING_LEAST; offset += RING_UNIT) {
            for (uint32_t at = 0; at < 2 * RING_LEAST; at += RING_UNIT) {
                if (at < RING_LEAST)
                    put_header(0, at, (ring_frame){.size_kind = RING_TURN, .length = lengths[l]});
                put_header(1, at, (ring_frame){.size_kind = RING_TURN, .length = lengths[l]});
            }
            place_reader(offset >= RING_LEAST, offset % RING_LEAST, 0, true);
            atomic_store(&rig.words->head, MASK);
            assert_int_equal(read_hostile(MASK), -1);
        }
    close_rig();
}

/* The writer reads one word of the other side's, and what it is told; nothing of it may lead him astray. */
static void test_rubbish_for_the_writer(void **state)
{
    static const uint32_t steps[] = {0, 1, 2, 3, 127, 128, 254, 255, 256, COUNTS / 2, MASK - 1, MASK};
    uint32_t broke = 0, found = 0;
    (void)state;
    choose_seed();
    for (int round = 0; round < 20000; round++) {
        open_rig(RING_LEAST, 2 * RING_LEAST, number(COUNTS));
        for (int n = 0; n < 60; n++) {
            uint32_t size = any_size(), near = (rig.w.word + number(270)) & MASK;
            bool broken = false;
            uint8_t *to;
            rig.seen = chance(2) ? rig.w.at : rig.w.at - steps[number(COUNT(steps))];
            if (chance(3))
                atomic_store(&rig.words->tail, chance(4)   ? number(UINT32_MAX)
                                               : chance(2) ? rig.w.at - steps[number(COUNT(steps))]
                                                           : near);
            if (chance(2) && write_again(size))
                continue;
            to = ring_reserve(&rig.w, size, rig.seen, &broken);
            if (!to) {
                if (broken) {
                    broke++;
                    break;
                }
                CHECK(!ring_has_room(&rig.w)); /* or it would look again for ever */
                if (chance(2) && rig.w.segment == 0) {
                    rig.w.memory[1] = rig.segment[1];
                    (void)ring_move(&rig.w);
                }
                continue;
            }
            CHECK(inside(to, size));
            found++;
            ring_begin(&rig.w, ring_header(size, RING_FIRST | RING_LAST, size, 0, 0));
            memset(to, 1, size);
            if (chance(4))
                ring_show(&rig.w, size / RING_UNIT * RING_UNIT);
            ring_commit(&rig.w, size);
            CHECK(rig.w.offset < rig.w.size[rig.w.segment]);
        }
        close_rig();
    }
    CHECK(broke > 1000 && found > 1000);
}

int main(int argc, char **argv)
{
    static const struct role roles[] = {{NULL, NULL}};
    const struct CMUnitTest tests[] = {
        TEST(test_random),
        TEST(test_conversation), TEST(test_room_after_reply),
        TEST(test_conversation_of_many_sizes),
        TEST(test_nothing_heard_for_long),
        TEST(test_full),
        TEST(test_held),
        TEST(test_two_threads),
        TEST(test_rubbish_for_the_reader),
        TEST(test_random_rubbish_for_the_reader),
        TEST(test_turns_without_end),
        TEST(test_rubbish_for_the_writer),
    };
    RUN(argc, argv, roles, tests);
}
