/* ring.c - see ring.h. */
#include "channel/ring.h"

#include <string.h>

#define COUNT_MASK ((1u << RING_COUNT_BITS) - 1)
#define EPOCH_ONE (2u << RING_COUNT_BITS)

enum {
    BESIDE = COPY_LINE - 2 * RING_UNIT, /* bytes of payload in the line of the head */
    /* Units of a frame in a stream for which its reader fetches as many further on, but not more than so many at once, */
    FETCH_LEAST = 256 / RING_UNIT,
    FETCH_MOST = 16384 / RING_UNIT,
    AHEAD = COPY_AHEAD / RING_UNIT,
    /* and its writer claims those of the next. */
    CLAIM_LEAST = 1024 / RING_UNIT,
    CLAIM_MOST = 4096 / RING_UNIT + 1
};

static uint32_t kind_of(const ring_frame *f)
{
    return f->size_kind & ((1 << RING_KIND_BITS) - 1);
}

static uint32_t payload_of(const ring_frame *f)
{
    return f->size_kind >> RING_KIND_BITS;
}

static uint32_t units(uint32_t bytes)
{
    return (bytes + RING_UNIT - 1) / RING_UNIT;
}

static uint32_t span(uint32_t payload)
{
    return 1 + units(payload);
}

static uint32_t between(uint32_t from, uint32_t to)
{
    return (to - from) & COUNT_MASK;
}

/* ------------------------------------------------------------------------------------------ writing */

static uint32_t place(const ring_writer *w, uint32_t count)
{
    return (count & COUNT_MASK) | w->epoch;
}

static uint32_t used(const ring_writer *w)
{
    return between(w->tail, w->at);
}

static bool see_tail(ring_writer *w)
{
    uint32_t word = atomic_load_explicit(w->tail_word, memory_order_acquire) & COUNT_MASK;
    if (between(w->word, word) > between(w->word, w->at)) return false;
    w->word = word;
    if (between(w->tail, word) <= used(w)) w->tail = word; /* what it has seen may be ahead of what it says */
    return true;
}

static void put(ring_writer *w, ring_frame f)
{
    memcpy(w->memory[w->segment] + w->offset, &f, sizeof f);
}

static void advance(ring_writer *w, uint32_t n)
{
    w->at = (w->at + n) & COUNT_MASK;
    w->offset += n * RING_UNIT;
    if (w->offset == w->size[w->segment]) w->offset = 0;
}

/* Of an epoch that begins in the segment where the writer is. */
static uint32_t next_epoch(const ring_writer *w)
{
    return ((w->epoch + EPOCH_ONE) & ~(EPOCH_ONE - 1)) | w->segment << RING_COUNT_BITS;
}

static void new_epoch(ring_writer *w)
{
    w->epoch = next_epoch(w);
    w->offset = 0;
    w->begun = w->at;
    w->room = 0;
}

/* The reader has seen all, and may still look at the last frame, unless he copied it (ring_hold): then an epoch begins.  Not for
 * a long frame: that many lines are better written where the reader's cache has lost them since the last round. */
static void start_again(ring_writer *w, uint32_t need)
{
    if (w->tail != w->at) w->tail = w->copied ? w->at : w->last;
    if (w->tail == w->at && w->offset != 0 && need <= span(RING_BRIEF)) new_epoch(w);
}

/* Whether a frame of `need` units fits, maybe at the front; else how much may be in use for it.  One unit stays
 * free, for ring_move. */
static bool fits(ring_writer *w, uint32_t need)
{
    uint32_t size = w->size[w->segment] / RING_UNIT, free = size - used(w), rest = size - w->offset / RING_UNIT;
    if (rest >= need && free > need) {
        w->room = rest < free ? rest : free - 1;
        return true;
    }
    if (need > size) return false;
    if (free == size) {
        new_epoch(w);
        w->room = need;
        return true;
    }
    uint32_t whole = 1 + (rest >= need ? need : rest + need);
    w->most = size - (whole > size / 8 ? whole : size / 8);
    if (rest >= need || free < whole) return false;
    put(w, (ring_frame){.size_kind = RING_TURN});
    advance(w, rest);
    w->room = need;
    return true;
}

uint8_t *ring_reserve(ring_writer *w, uint32_t payload, uint32_t seen, bool *broken)
{
    uint32_t need = span(payload);
    bool all_seen = ring_all_seen(w, seen);
    if (need <= w->room && !all_seen) return w->memory[w->segment] + w->offset + RING_UNIT;
    if (all_seen) start_again(w, need);
    if (!fits(w, need)) {
        *broken = !see_tail(w);
        if (between(w->tail, seen) > used(w)) w->stale = seen;
        if (*broken || !fits(w, need)) return NULL;
    }
    return w->memory[w->segment] + w->offset + RING_UNIT;
}

bool ring_has_room(const ring_writer *w)
{
    uint32_t in_use = between(atomic_load_explicit(w->tail_word, memory_order_seq_cst) & COUNT_MASK, w->at);
    return in_use <= w->most || between(w->word, w->at) < in_use; /* the latter is impossible, which ring_reserve says */
}

bool ring_past(ring_writer *w)
{
    return see_tail(w) && between(w->begun, w->at) >= used(w);
}

bool ring_move(ring_writer *w)
{
    if (used(w) == w->size[w->segment] / RING_UNIT) return false;
    put(w, (ring_frame){.size_kind = RING_TURN, .length = 1});
    advance(w, 1);
    w->segment = 1;
    w->offset = 0;
    w->last = w->begun = w->at;
    w->room = 0;
    w->copied = w->again = false;
    return true;
}

bool ring_return(ring_writer *w, uint32_t seen)
{
    if (!ring_all_seen(w, seen) || between(w->last, w->at) > w->size[0] / RING_UNIT / 2) return false;
    w->tail = w->last;
    w->copied = false; /* it lies in the other */
    w->segment = 0;
    new_epoch(w);
    return true;
}

void ring_begin(ring_writer *w, ring_frame header)
{
    put(w, header);
    w->again = w->offset == 0 && w->segment == 0 && payload_of(&header) <= RING_BRIEF && (kind_of(&header) & RING_WHOLE) == RING_WHOLE;
}

void ring_show(ring_writer *w, uint32_t bytes)
{
    atomic_store_explicit(w->head_word, place(w, w->at + 1 + bytes / RING_UNIT), memory_order_release);
}

/* In a stream the next message is probably as long as this one was: claims its lines, as far as they are known to be free.
 * Shorter ones are written sooner than that. */
static inline void claim_next(const ring_writer *w, uint32_t units)
{
    if (units < CLAIM_LEAST || units > CLAIM_MOST) return;
    copy_fetch(w->memory[w->segment] + w->offset, (units < w->room ? units : w->room) * RING_UNIT, COPY_WRITE);
}

void ring_commit(ring_writer *w, uint32_t payload)
{
    uint32_t n = span(payload);
    atomic_store_explicit(w->head_word, place(w, w->at + n), memory_order_release);
    w->last = w->at;
    w->copied = w->segment == 0 && payload <= RING_BRIEF;
    w->room -= n;
    advance(w, n);
    claim_next(w, n);
}

bool ring_put_again(ring_writer *w, ring_frame header, const void *payload)
{
    uint32_t size = payload_of(&header), n = span(size), at = w->at;
    uint8_t *front = w->memory[0];
    if (!w->again || size > RING_BRIEF) return false;
    /* The line of the head last: the reader takes it back as soon as any of it is written. */
    if (size > BESIDE) copy_brief(front + RING_UNIT + BESIDE, (const uint8_t *)payload + BESIDE, size - BESIDE);
    copy_brief(front + RING_UNIT, payload, size < BESIDE ? size : BESIDE);
    memcpy(front, &header, sizeof header);
    w->epoch = next_epoch(w);
    w->at = (at + n) & COUNT_MASK;
    atomic_store_explicit(w->head_word, w->at | w->epoch, memory_order_release);
    /* A new epoch, as new_epoch begins it; but the reader waits for the head, not for this. */
    w->tail = w->begun = w->last = at;
    w->room = 0;
    w->offset = n * RING_UNIT;
    return true;
}

/* ------------------------------------------------------------------------------------------ reading */

/* The header that lies there, read once. */
static ring_frame read_header(const uint8_t *at)
{
    const volatile uint64_t *from = (const volatile uint64_t *)(const void *)at;
    uint64_t words[2] = {from[0], from[1]};
    ring_frame f;
    memcpy(&f, words, sizeof f);
    return f;
}

/* Whether the reader can go to the front of a segment: 1, or as ring_look. */
static int go_to(ring_reader *r, uint32_t segment)
{
    if (r->size[segment] == 0) return -1;
    if (!r->memory[segment]) return -2;
    r->segment = segment;
    r->offset = 0;
    return 1;
}

/* Units from the reader on that are published. */
static uint32_t there(const ring_reader *r)
{
    return between(r->at, r->head & COUNT_MASK);
}

/* Sees what was published.  All of an epoch was read, or the writer would not have begun another. */
static int see_head(ring_reader *r)
{
    uint32_t head = atomic_load_explicit(r->head_word, memory_order_acquire);
    if (between(r->at, head & COUNT_MASK) > (r->size[0] + r->size[1]) / RING_UNIT) return -1;
    if ((head ^ r->head) >= EPOCH_ONE) {
        int st = go_to(r, head >> RING_COUNT_BITS & 1);
        if (st < 0) return st;
    }
    r->head = head;
    return 1;
}

static uint32_t here(const ring_reader *r, uint32_t size)
{
    uint32_t published = (there(r) - 1) * RING_UNIT;
    return published < size ? published : size;
}

/* Whether it is a message, and one that may be. */
static bool is_whole(const ring_frame *h)
{
    uint32_t kind = kind_of(h);
    return (kind == RING_WHOLE || (kind == (RING_WHOLE | RING_ANSWER) && h->call)) && payload_of(h) == h->length;
}

/* All of which is here. */
static ring_found found(const ring_frame *h, const uint8_t *payload)
{
    uint32_t size = payload_of(h);
    return (ring_found){.kind = kind_of(h), .size = size, .length = h->length, .call = h->call, .read = h->read,
                        .payload = payload, .here = size};
}

int ring_look(ring_reader *r, ring_found *f)
{
    int st = there(r) ? 1 : see_head(r);
    for (;;) {
        uint32_t size = r->size[r->segment], rest = (size - r->offset) / RING_UNIT, n = there(r);
        if (st < 0 || n == 0) return st < 0 ? st : 0;
        ring_frame h = read_header(r->memory[r->segment] + r->offset);
        f->kind = kind_of(&h);
        f->size = payload_of(&h);
        f->length = h.length;
        f->call = h.call;
        f->read = h.read;
        if (f->kind == RING_TURN) {
            uint32_t skipped = h.length ? 1 : rest;
            if (n < skipped || h.length > 1) return -1;
            st = h.length ? go_to(r, 1) : 1;
            if (st < 0) return st;
            r->at = (r->at + skipped) & COUNT_MASK;
            r->offset = 0;
            continue;
        }
        if (span(f->size) > rest) return -1;
        f->payload = r->memory[r->segment] + r->offset + RING_UNIT;
        f->here = here(r, f->size);
        return 1;
    }
}

int ring_look_again(ring_reader *r, ring_found *f)
{
    uint32_t head = r->head, before = f->here;
    if (see_head(r) < 0 || (r->head ^ head) >= EPOCH_ONE || there(r) == 0) return -1;
    f->here = here(r, f->size);
    return f->here < before ? -1 : 0;
}

bool ring_take_again(ring_reader *r, ring_found *f, uint8_t copy[RING_BRIEF])
{
    uint32_t head = atomic_load_explicit(r->head_word, memory_order_acquire), at = head & COUNT_MASK;
    if (there(r) || (head ^ r->head) < EPOCH_ONE || head >> RING_COUNT_BITS & 1) return false;
    ring_frame h = read_header(r->memory[0]);
    uint32_t size = payload_of(&h);
    if (size > RING_BRIEF || !is_whole(&h) || between(r->at, at) != span(size)) return false;
    /* From where no place depends on the size, which is still on its way: so all lines come at once. */
    for (uint32_t i = 0; i < size; i += RING_UNIT) memcpy(copy + i, r->memory[0] + RING_UNIT + i, RING_UNIT);
    *f = found(&h, copy);
    r->head = head;
    r->segment = 0;
    r->at = at;
    r->offset = span(size) * RING_UNIT;
    return true;
}

void ring_pass(ring_reader *r, const ring_found *f)
{
    uint32_t n = span(f->size), end = r->offset + n * RING_UNIT;
    if (end == r->size[r->segment]) end = 0;
    r->at = (r->at + n) & COUNT_MASK;
    r->offset = end;
}

void ring_hold(ring_reader *r, ring_found *f, uint8_t copy[RING_BRIEF])
{
    if (r->segment == 0 && f->size <= RING_BRIEF && there(r) == span(f->size)) f->payload = memcpy(copy, f->payload, f->size);
    ring_pass(r, f);
}

/* In a stream: asks for as many lines as were just taken, so far on that they come before they are read, if they are published. */
static void fetch_ahead(const ring_reader *r, uint32_t units)
{
    uint32_t rest = (r->size[r->segment] - r->offset) / RING_UNIT, n = there(r);
    if (n > rest) n = rest;
    if (units < FETCH_LEAST || n <= AHEAD) return;
    n -= AHEAD;
    if (n > units) n = units;
    if (n > FETCH_MOST) n = FETCH_MOST;
    copy_fetch(r->memory[r->segment] + r->offset + COPY_AHEAD, n * RING_UNIT, COPY_READ_LATER);
}

bool ring_take(ring_reader *r, ring_found *f, uint8_t copy[RING_BRIEF])
{
    if (there(r) == 0 && (see_head(r) < 0 || there(r) == 0)) return false;
    const uint8_t *at = r->memory[r->segment] + r->offset;
    ring_frame h = read_header(at);
    uint32_t need = span(payload_of(&h));
    if (!is_whole(&h) || need > there(r) || need > (r->size[r->segment] - r->offset) / RING_UNIT) return false;
    *f = found(&h, at + RING_UNIT);
    ring_hold(r, f, copy);
    fetch_ahead(r, need);
    return true;
}

bool ring_release(ring_reader *r, uint32_t upto, bool now)
{
    uint32_t given = between(r->told, upto);
    if (given == 0 || (!now && given < r->size[r->segment] / RING_UNIT / 8)) return false;
    r->told = upto;
    atomic_exchange_explicit(r->tail_word, upto, memory_order_seq_cst);
    return true;
}
