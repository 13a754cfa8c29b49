/* ring.c - fuzz target: what the other side may write into the memory of a ring, between any two steps of this side.
 *
 * Whatever it is, the reader finds frames that lie in the ring, or that it is rubbish; the writer finds room in the
 * ring, or that there is none, and then is not told to look again for nothing.
 *
 * An input is the steps, a byte for each and what belongs to it: what the other side writes, and what this side does. */
#include "fuzz.h"

#include "channel/ring.h"

enum { SMALL = RING_LEAST, LARGE = 2 * RING_LEAST };

typedef struct {
    const uint8_t *at;
    size_t left;
} input;

static uint32_t take(input *in, size_t n)
{
    uint32_t value = 0;
    for (size_t i = 0; i < n && in->left > 0; i++, in->at++, in->left--)
        value |= (uint32_t)*in->at << 8 * i;
    return value;
}

struct words {
    _Alignas(128) _Atomic uint32_t head;
    _Alignas(128) _Atomic uint32_t tail;
};

static struct {
    struct words *words;
    uint8_t *segment[2];
    ring_reader reader;
    ring_writer writer;
    ring_found found;
    bool have; /* the reader has found a frame and not passed it */
} ring;

static volatile uint8_t sum; /* of bytes that are read, so that they are */
static unsigned long inputs, frames, refused; /* counts */

static void open_ring(uint32_t start)
{
    memset(&ring, 0, sizeof ring);
    ring.words = aligned_alloc(_Alignof(struct words), sizeof *ring.words);
    ring.segment[0] = calloc(1, SMALL);
    ring.segment[1] = calloc(1, LARGE);
    MUST(ring.words != NULL && ring.segment[0] != NULL && ring.segment[1] != NULL);
    start &= (1u << RING_COUNT_BITS) - 1;
    atomic_init(&ring.words->head, start);
    atomic_init(&ring.words->tail, start);
    ring.reader = (ring_reader){.head_word = &ring.words->head, .tail_word = &ring.words->tail,
                                .memory = {ring.segment[0]}, .size = {SMALL, LARGE}, .at = start, .head = start,
                                .told = start};
    ring.writer = (ring_writer){.head_word = &ring.words->head, .tail_word = &ring.words->tail,
                                .memory = {ring.segment[0]}, .size = {SMALL, LARGE}, .at = start, .begun = start,
                                .last = start, .tail = start, .word = start, .stale = UINT32_MAX};
}

static void close_ring(void)
{
    free(ring.words);
    free(ring.segment[0]);
    free(ring.segment[1]);
}

static void in_ring(const uint8_t *payload, uint32_t size)
{
    bool first = payload >= ring.segment[0] + RING_UNIT && payload + size <= ring.segment[0] + SMALL;
    MUST(first || (payload >= ring.segment[1] + RING_UNIT && payload + size <= ring.segment[1] + LARGE));
}

static void look_at_frame(void)
{
    MUST(ring.found.here <= ring.found.size);
    in_ring(ring.found.payload, ring.found.size);
    for (uint32_t i = 0; i < ring.found.size; i += 64)
        sum = (uint8_t)(sum + ring.found.payload[i]);
}

/* False: the reader has given up. */
static bool read_step(bool again)
{
    uint32_t before = ring.found.here;
    bool brief;
    int st;
    if (ring.have) {
        if (ring.found.here < ring.found.size && ring_look_again(&ring.reader, &ring.found) < 0)
            return false;
        MUST(ring.found.here >= before);
    } else {
        uint8_t copy[RING_BRIEF];
        brief = again && ring_take_again(&ring.reader, &ring.found, copy);
        if (brief)
            MUST(ring.found.payload == copy && ring.reader.offset <= RING_UNIT + RING_BRIEF);
        if (brief || (again && ring_take(&ring.reader, &ring.found, copy))) {
            MUST(ring.found.here == ring.found.size);
            if (ring.found.payload == copy)
                MUST(ring.found.size <= sizeof copy);
            else
                in_ring(ring.found.payload, ring.found.size);
            for (uint32_t i = 0; i < ring.found.size; i++)
                sum = (uint8_t)(sum + ring.found.payload[i]);
            frames++;
            MUST(ring.reader.offset < ring.reader.size[ring.reader.segment] && ring.reader.offset % RING_UNIT == 0);
            return true;
        }
        st = ring_look(&ring.reader, &ring.found);
        if (st == -2) {
            MUST(ring.reader.memory[1] == NULL);
            ring.reader.memory[1] = ring.segment[1];
            st = ring_look(&ring.reader, &ring.found);
        }
        MUST(st >= -1 && st <= 1);
        if (st <= 0)
            return st == 0;
        ring.have = true;
    }
    look_at_frame();
    if (ring.found.here < ring.found.size)
        return true;
    ring_pass(&ring.reader, &ring.found);
    frames++;
    MUST(ring.reader.offset < ring.reader.size[ring.reader.segment] && ring.reader.offset % RING_UNIT == 0);
    ring.have = false;
    return true;
}

static bool write_step(uint32_t payload, uint32_t seen)
{
    ring_writer *w = &ring.writer;
    uint32_t most = ring_frame_most(w);
    bool broken = false;
    uint8_t *to;
    payload %= most + 1;
    if (ring_all_seen(w, seen)) {
        static const uint8_t bytes[RING_BRIEF];
        uint32_t brief = payload % (RING_BRIEF + 1);
        if (ring_put_again(w, ring_header(brief, RING_FIRST | RING_LAST, brief, 0, 0), bytes)) {
            MUST(w->segment == 0 && w->offset <= RING_UNIT + RING_BRIEF);
            return true;
        }
    }
    to = ring_reserve(w, payload, seen, &broken);
    if (broken)
        return false;
    if (to == NULL) {
        MUST(!ring_has_room(w));
        return true;
    }
    in_ring(to, payload);
    ring_begin(w, ring_header(payload, RING_FIRST | RING_LAST, payload, 0, 0));
    memset(to, 1, payload);
    ring_show(w, payload / 2 / RING_UNIT * RING_UNIT);
    ring_commit(w, payload);
    MUST(w->offset < w->size[w->segment]);
    return true;
}

static void move_step(uint32_t seen)
{
    ring_writer *w = &ring.writer;
    if (w->segment == 1) {
        (void)ring_return(w, seen);
        return;
    }
    w->memory[1] = ring.segment[1];
    if (ring_past(w))
        (void)ring_move(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input in = {data, size};
    bool reads = true, writes = true;
    open_ring(take(&in, 4));
    while (in.left > 0 && (reads || writes)) {
        uint32_t what = take(&in, 1), which = what / 16 % 2, at, bytes[4];
        switch (what % 10) {
        case 0: /* the other side */
            atomic_store(&ring.words->head, take(&in, 4));
            break;
        case 1:
            atomic_store(&ring.words->head, ring.reader.head + take(&in, 1));
            break;
        case 2:
            atomic_store(&ring.words->tail, take(&in, 4));
            break;
        case 3:
            atomic_store(&ring.words->tail, ring.writer.word + take(&in, 1));
            break;
        case 4:
        case 5: /* a header, anywhere or where the reader will look */
            at = what % 10 == 4 ? take(&in, 1) * RING_UNIT % (which ? LARGE : SMALL) : ring.reader.offset;
            if (what % 10 == 5)
                which = ring.reader.segment;
            for (size_t i = 0; i < 4; i++)
                bytes[i] = take(&in, i < 2 ? 2 : 1);
            if (what & 128)
                bytes[0] <<= 16;
            memcpy(ring.segment[which] + at, bytes, sizeof bytes);
            break;
        case 6: /* this side */
        case 7:
            reads = reads && read_step(what & 32);
            if (reads && !ring.have && what & 64)
                (void)ring_release(&ring.reader, ring.reader.at, what & 128);
            break;
        case 8:
            at = take(&in, 2);
            writes = writes && write_step(at, what & 64 ? ring.writer.at : take(&in, 4));
            break;
        default:
            if (writes)
                move_step(what & 64 ? ring.writer.at : take(&in, 4));
        }
    }
    close_ring();
    inputs++;
    refused += !reads || !writes;
    return 0;
}

static void print_counts(void)
{
    printf("ring: %lu inputs of %lu frames that were read; in %lu the other side was found out\n", inputs, frames,
           refused);
}

/* An honest exchange to begin with. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static const uint8_t exchange[] = {0,  0, 0, 0, 5,  0x43, 6, 4, 0, 1, 0, 1, 6, 0xc6, 8,    100,  0,    0, 0, 0,
                                       0,  3, 8, 8, 50, 0,    1, 2, 3, 4, 9, 0, 0, 0,    0xc8, 0x48, 0x10, 1, 3, 4};
    take_corpus(*argc, *argv);
    atexit(print_counts);
    seed("exchange", exchange, sizeof exchange);
    return 0;
}
