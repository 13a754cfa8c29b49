/* ring.h - frames through memory that two processes share, from one writer to one reader.  See docs/design/shm.md.
 *
 * Nothing here waits, calls the system, or believes the other side: what it wrote is read once and checked.
 *
 * A frame is a header and its payload, in one piece, and starts on 16 bytes.  Both sides count the 16-byte units that
 * were ever written; `head` says up to where frames are published, `tail` up to where their room is free again.  Where
 * a count lies in the ring each side knows by having followed it.  The ring starts again at its front, with the next
 * epoch, when the writer knows that the reader has seen all of it, and the last frame is brief, which the reader has copied then: so
 * a conversation stays in the same few cache lines.  `head` lies just before them: a message of 32 bytes is one line.  A frame
 * may also say that the next one lies in the other, larger segment: so a ring grows. */
#ifndef IPCIO_RING_H
#define IPCIO_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/copy.h"

enum {
    RING_UNIT = 16,
    RING_LEAST = 4096 - RING_UNIT, /* bytes of a segment, a multiple of RING_UNIT: a page and its head */
    RING_MOST = 1 << 28,
    RING_SEGMENTS = 2,
    RING_COUNT_BITS = 26,
    RING_KIND_BITS = 4,
    RING_BRIEF = 2000, /* bytes of payload; every ring has room for two such frames */
};

enum { /* kinds of frames, bits */
    RING_FIRST = 1,  /* of a message */
    RING_LAST = 2,
    RING_WHOLE = RING_FIRST | RING_LAST,
    RING_ANSWER = 4, /* the message answers a call */
    RING_ABORT = 8,  /* the message was given up; has no payload */
    RING_TURN = RING_FIRST | RING_ABORT /* the next frame lies at the front of this segment; with a `length` of 1, of the
                                           larger one */
};

typedef struct {
    uint32_t size_kind; /* payload << RING_KIND_BITS | kind */
    uint32_t length;    /* of the message, where it begins */
    uint32_t call;
    uint32_t read;      /* count up to where the frame's sender has seen the other ring */
} ring_frame;

static inline ring_frame ring_header(uint32_t payload, uint32_t kind, uint32_t length, uint32_t call, uint32_t read)
{
    return (ring_frame){.size_kind = payload << RING_KIND_BITS | kind, .length = length, .call = call, .read = read};
}

/* Both begin with what is not set to zero: the words, the sizes, and the first segment's memory; a writer also with
 * `stale`, UINT32_MAX. */
typedef struct {
    _Atomic uint32_t *head_word; /* a place: a count, 1 bit for the segment of the epoch's begin, 5 for the epoch */
    _Atomic uint32_t *tail_word; /* a count; in lines that the writer does not write: processors fetch them in pairs */
    uint8_t *memory[RING_SEGMENTS];
    uint32_t size[RING_SEGMENTS]; /* bytes; of the larger one 0: there is none */
    uint32_t segment;
    uint32_t epoch;  /* and the segment where it began: the upper bits of the head */
    uint32_t at;     /* count of the next frame */
    uint32_t begun;  /* where the epoch began */
    uint32_t last;   /* where the last frame did */
    uint32_t offset; /* where `at` is */
    uint32_t room;   /* units from `at` on that are known to be free, in one piece */
    uint32_t tail;   /* room is free up to there, as the reader's word said last, or as follows from what it has seen */
    uint32_t word;   /* the reader's word as last seen */
    uint32_t stale;  /* what was `seen` when the tail passed it: `at` comes round to the same count one day */
    uint32_t most;   /* units that may be in use when waiting for room ends */
    bool copied;     /* the last frame is brief and lies in the first segment: when the reader has seen it, nobody looks at it there */
    bool again;      /* the last frame is a whole message at the front of the first segment, and brief */
} ring_writer;

typedef struct {
    _Atomic uint32_t *head_word, *tail_word; /* as the writer's */
    uint8_t *memory[RING_SEGMENTS];
    uint32_t size[RING_SEGMENTS];
    uint32_t segment;
    uint32_t at, offset; /* the next frame */
    uint32_t head;       /* place as last seen, whose epoch is this one */
    uint32_t told;       /* tail as last published */
} ring_reader;

/* ---- writing */

/* Finds room in one piece for a frame of so many bytes, at most ring_frame_most: where its payload goes, or NULL; then
 * ring_has_room tells when to look again.  `seen` is what the reader last told of how far it came.  *broken: the
 * reader's word is impossible. */
uint8_t *ring_reserve(ring_writer *w, uint32_t payload, uint32_t seen, bool *broken);

/* The most that a frame can hold so that two find room. */
static inline uint32_t ring_frame_most(const ring_writer *w)
{
    return w->size[w->segment] / 2 - 2 * RING_UNIT;
}

/* Fills in the header of the frame that was reserved.  The reader does not see it yet. */
void ring_begin(ring_writer *w, ring_frame header);

/* Publishes so many bytes of its payload; all of it with ring_commit. */
void ring_show(ring_writer *w, uint32_t bytes);
void ring_commit(ring_writer *w, uint32_t payload);

/* All of that at once for a whole message that is brief and replaces another such, when the reader has seen all.  False:
 * nothing was done, for it is none. */
bool ring_put_again(ring_writer *w, ring_frame header, const void *payload);

/* Whether ring_reserve, which found no room, is to look again.  Not before an eighth of the ring is free: a writer who
 * used each bit at once would wait for each. */
bool ring_has_room(const ring_writer *w);

/* Whether the reader has read all: `seen` says so, and is news. */
static inline bool ring_all_seen(const ring_writer *w, uint32_t seen)
{
    return seen == w->at && seen != w->stale;
}

/* Whether the reader looks at no frame any more that lies before the epoch or the segment. */
bool ring_past(ring_writer *w);

/* Goes on in the larger segment, whose memory is set, if there is room to say so. */
bool ring_move(ring_writer *w);

/* Goes on in the first one, when the reader has seen all, which `seen` says: no frame of the other is awaited any more, though the
 * last may still be looked at. */
bool ring_return(ring_writer *w, uint32_t seen);

/* ---- reading */

typedef struct {
    uint32_t kind, size, length, call, read; /* as in its header, checked against the ring */
    const uint8_t *payload;
    uint32_t here; /* bytes of the payload that are published */
} ring_found;

/* The frame at the front.  1: found; 0: nothing there; -1: what is there is impossible; -2: it lies in the segment whose
 * memory[] is not set. */
int ring_look(ring_reader *r, ring_found *f);

/* Where a whole message is next, and here: ring_look and ring_hold in one.  False: ring_look tells what is next, if anything. */
bool ring_take(ring_reader *r, ring_found *f, uint8_t copy[RING_BRIEF]);

/* The same for one that is brief and replaces another such, all of which was passed. */
bool ring_take_again(ring_reader *r, ring_found *f, uint8_t copy[RING_BRIEF]);

/* How much more of it is here now.  0, or -1. */
int ring_look_again(ring_reader *r, ring_found *f);

/* Whether there is a frame behind those that were passed, as far as was looked. */
static inline bool ring_has_frame(const ring_reader *r)
{
    return ((r->head - r->at) & ((1u << RING_COUNT_BITS) - 1)) != 0;
}

/* Whether anything was published since ring_look came to `head`. */
static inline bool ring_arrived(const ring_reader *r)
{
    return atomic_load_explicit(r->head_word, memory_order_seq_cst) != r->head;
}

/* Asks for the lines of a message that comes to the front and is as long as the one that was read there last, but for the head's,
 * which is looked for meanwhile.  Whether there are any. */
static inline bool ring_fetch_front(const ring_reader *r)
{
    enum { LONGEST = 9 * COPY_LINE }; /* of longer ones lines would be asked for that are just being written */
    uint32_t end = RING_UNIT + r->offset;
    if (end <= COPY_LINE || end > LONGEST) return false;
    copy_fetch(r->memory[0] - RING_UNIT + COPY_LINE, end - COPY_LINE, COPY_READ);
    return true;
}

/* Units that were published behind the count `passed`.  For any thread. */
static inline uint32_t ring_published(const ring_reader *r, uint32_t passed)
{
    return (atomic_load_explicit(r->head_word, memory_order_relaxed) - passed) & ((1u << RING_COUNT_BITS) - 1);
}

/* Goes on behind the frame that was found.  It still holds its room. */
void ring_pass(ring_reader *r, const ring_found *f);

/* The same for one that is here, whose payload is looked at until the next is passed: copies it where that may come into its
 * place, which is where nothing lies behind it yet. */
void ring_hold(ring_reader *r, ring_found *f, uint8_t copy[RING_BRIEF]);

/* Gives back the room of all frames before the count `upto`, at the latest when `now`.  True: a writer who waits for room
 * is to be looked for; it was a full memory barrier. */
bool ring_release(ring_reader *r, uint32_t upto, bool now);

#endif
