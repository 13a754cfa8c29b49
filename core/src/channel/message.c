/* message.c - the framing `message`: whole messages of any bytes, calls and their answers, between two ipcio.
 *
 * On the wire a message is one frame or several, all numbers little-endian:
 *
 *     0   4  length    of this frame's payload
 *     4   4  total     length of the whole message; the same in each of its frames
 *     8   4  call      the number of a call, 0 for none
 *     12  1  kind      FRAME_HELLO, FRAME_FIRST, FRAME_NEXT
 *     13  1  flags     1: `call` is the number of the call that this answers
 *                      2: an open file comes with the first byte of this header; in FRAME_FIRST only
 *     14  2  magic     "ip"
 *     16     payload
 *     then 1 verdict   VERDICT_ABORT, VERDICT_MORE, VERDICT_END
 *
 * The verdict stands behind the payload so that a writer who gives up in the middle of a frame can still take
 * the message back: it owes the rest of the frame, sends zeros, and a zero verdict is ABORT.
 *
 * Each side begins with a HELLO, whose payload is "ipcio", NUL, the protocol's version, a zero, and
 *
 *     8   4  limit     the longest message it takes
 *     12  4  takes     1: files may be passed to it
 *     16  16 key       what shows a server that a client is this user's, or zeros
 *
 * A client sends it at once.  A server sends it with its first frame where clients know what it tells from
 * elsewhere, so that their descriptor is readable only when there is a message. */
#include <string.h>

#include "channel/stream.h"

enum { FRAME_HELLO = 1, FRAME_FIRST, FRAME_NEXT };
enum { VERDICT_ABORT, VERDICT_MORE, VERDICT_END };
enum { GATHER = (OS_PIECES_MAX - 1) / 2 }; /* frames that one system call sends */
enum { FLAG_ANSWER = 1, FLAG_FILE = 2, TAKES_FILES = 1, HELLO_SIZE = STREAM_HELLO - STREAM_HEADER - 1 };

static void put32(uint8_t *to, uint32_t v)
{
    for (int i = 0; i < 4; i++) to[i] = (uint8_t)(v >> 8 * i);
}

static uint32_t get32(const uint8_t *from)
{
    return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

/* ------------------------------------------------------------------------------------------ reading */

/* Takes HELLO, the first thing that each side sends. */
static int take_hello(stream *s)
{
    static const char strange[] = "the peer does not speak ipcio";
    int st = stream_fill(s, 4); /* others may send less than a header, and wait */
    if (st == 0 && get32(stream_front(s)) != HELLO_SIZE) return stream_broken(s, strange);
    if (st == 0) st = stream_fill(s, STREAM_HEADER);
    if (st != 0) return st;
    const uint8_t *h = stream_front(s);
    if (h[12] != FRAME_HELLO || h[14] != 'i' || h[15] != 'p') return stream_broken(s, strange);
    if ((st = stream_fill(s, STREAM_HELLO)) != 0) return st;
    const uint8_t *hello = stream_front(s) + STREAM_HEADER;
    if (memcmp(hello, "ipcio", 6) != 0) return stream_broken(s, strange);
    if (hello[6] != STREAM_VERSION) return stream_broken(s, "the peer speaks another version of ipcio's protocol");
    atomic_store_explicit(&s->conn.peer_files, get32(hello + 12) & TAKES_FILES, memory_order_relaxed);
    atomic_store_explicit(&s->conn.peer_limit, get32(hello + 8), memory_order_release);
    memcpy(s->in.key, hello + 16, sizeof s->in.key);
    s->in.greeted = true;
    s->in.files = s->takes_files;
    buffer_take(&s->in.ahead, STREAM_HELLO);
    return 0;
}

static int greeted(stream *s)
{
    return s->in.greeted ? 0 : take_hello(s);
}

/* Reads the header of the next frame of `kind`. */
static int frame_header(stream *s, int kind)
{
    int st = s->in.greeted ? 0 : take_hello(s);
    if (st == 0) st = stream_fill(s, STREAM_HEADER);
    if (st != 0) return st;
    const uint8_t *h = stream_front(s);
    uint32_t length = get32(h), total = get32(h + 4);
    bool file = h[13] & FLAG_FILE;
    if (h[12] != kind || h[13] > (FLAG_ANSWER | (kind == FRAME_FIRST ? FLAG_FILE : 0)) || h[14] != 'i' || h[15] != 'p')
        return stream_broken(s, "a frame of the wrong kind came");
    if (kind == FRAME_FIRST) {
        s->in.m = (message){.length = total, .call = get32(h + 8), .answer = h[13] & FLAG_ANSWER, .file = file};
        s->in.got = 0;
        s->in.inside = true;
        s->in.over = s->in.aborted = false;
    }
    if (total != s->in.m.length || length > total - s->in.got || length > STREAM_FRAME_MAX)
        return stream_broken(s, "a frame with a wrong length came");
    s->in.left = length;
    s->in.empty = length == 0;
    s->in.verdict_due = true;
    buffer_take(&s->in.ahead, STREAM_HEADER);
    return file ? stream_expect_file(s) : 0;
}

static int aborted(stream *s)
{
    return ipcio__fail(IPCIO_ABORTED, "%s: the writer gave the message up", s->conn.base.text);
}

/* Acts on the verdict behind a frame's payload.  ABORTED for a message that was given up. */
static int judge(stream *s, uint8_t verdict)
{
    s->in.verdict_due = false;
    if (verdict == VERDICT_MORE && !s->in.empty) return 0;
    s->in.over = true;
    s->in.aborted = verdict == VERDICT_ABORT;
    if (s->in.aborted) return aborted(s);
    if (verdict == VERDICT_END && s->in.got == s->in.m.length) return 0;
    return stream_broken(s, "a frame with a wrong verdict came");
}

/* Goes on to the message's next payload: 0 with `left` above 0, or with `over`. */
static int advance(stream *s)
{
    int st = 0;
    while (st == 0 && s->in.left == 0 && !s->in.over) {
        if (!s->in.verdict_due) {
            st = frame_header(s, FRAME_NEXT);
        } else if ((st = stream_fill(s, 1)) == 0) {
            uint8_t verdict = *stream_front(s);
            buffer_take(&s->in.ahead, 1);
            st = judge(s, verdict);
        }
    }
    return st;
}

/* Counts n bytes of payload as taken. */
static void count(stream *s, size_t n)
{
    s->in.left -= n;
    s->in.got += n;
}

/* Reads over the rest of a message whose reader had enough of it. */
static int skip(stream *s)
{
    while (!s->in.over) {
        int st = advance(s);
        if (st == IPCIO_ABORTED) break;
        if (st == 0 && s->in.left) st = stream_fill(s, 1);
        if (st != 0) return st;
        size_t n = buffer_size(&s->in.ahead);
        if (n > s->in.left) n = s->in.left;
        count(s, n);
        buffer_take(&s->in.ahead, n);
    }
    s->in.inside = false;
    return 0;
}

static int start(stream *s, message *m)
{
    int st = s->in.inside ? skip(s) : 0;
    if (st == 0) st = frame_header(s, FRAME_FIRST);
    if (st == 0) *m = s->in.m;
    return st;
}

static int view(stream *s, const void **data)
{
    size_t size = s->in.left;
    if (s->in.got || size != s->in.m.length || !s->in.verdict_due || size + 1 > s->in.room) return 0;
    int st = stream_fill(s, size + 1);
    if (st != 0) return st;
    uint8_t verdict = stream_front(s)[size];
    if (verdict == VERDICT_MORE) return 0; /* its end is in another frame */
    *data = stream_front(s);
    count(s, size);
    s->in.ahead.head += size + 1; /* buffer_take would let the next bytes overwrite what was given out */
    return judge(s, verdict);
}

static int take(stream *s, void *to, size_t n, size_t *got)
{
    int st = s->in.aborted ? aborted(s) : advance(s);
    if (st != 0 || s->in.over || n == 0) return st;
    if (n > s->in.left) n = s->in.left;

    buffer *a = &s->in.ahead;
    size_t here = buffer_size(a);
    if (here == 0 && n >= 4096 && !s->in.ended) {
        /* Straight to where it belongs, and ahead what comes behind it: up to the next payload of this message. */
        if ((st = buffer_reserve(a, s->in.room)) != 0) return st;
        size_t r = 0, behind = a->capacity - a->tail;
        if (n == s->in.left && s->in.got + n < s->in.m.length) behind = 1 + STREAM_HEADER;
        os_piece pieces[2] = {{to, n}, {a->bytes + a->tail, behind}};
        if ((st = stream_receive(s, pieces, 2, &r)) != 0) return stream_not_received(s, st);
        *got = r < n ? r : n;
        a->tail += r - *got;
    } else {
        if ((st = stream_fill(s, 1)) != 0) return st;
        here = buffer_size(a);
        *got = here < n ? here : n;
        memcpy(to, stream_front(s), *got);
        buffer_take(a, *got);
    }
    count(s, *got);
    return 0;
}

static bool ready(const stream *s)
{
    size_t here = buffer_size(&s->in.ahead);
    if (here < STREAM_HEADER || s->in.inside) return s->in.inside && here > 0 && here >= s->in.needed;
    return here >= STREAM_HEADER + (size_t)get32(stream_front(s)) + 1;
}

/* ------------------------------------------------------------------------------------------ writing */

static uint8_t zeros[STREAM_FRAME_MAX]; /* never written */

static void put_frame(uint8_t *h, const message *m, int kind, size_t size)
{
    put32(h, (uint32_t)size);
    put32(h + 4, (uint32_t)m->length);
    put32(h + 8, m->call);
    h[12] = (uint8_t)kind;
    h[13] = m->answer ? FLAG_ANSWER : 0;
    h[14] = 'i';
    h[15] = 'p';
}

static size_t put_hello(stream *s, uint8_t *to)
{
    uint8_t *h = to + STREAM_HEADER;
    put_frame(to, &(message){.length = HELLO_SIZE}, FRAME_HELLO, HELLO_SIZE);
    memset(h, 0, HELLO_SIZE);
    memcpy(h, "ipcio", 6);
    h[6] = STREAM_VERSION;
    put32(h + 8, s->conn.options.limit);
    put32(h + 12, s->takes_files ? TAKES_FILES : 0);
    memcpy(h + 16, s->out.key, sizeof s->out.key);
    h[HELLO_SIZE] = VERDICT_END;
    return STREAM_HELLO;
}

/* Makes a frame of message `m` the one under way, behind HELLO if none of that is out yet. */
static inline void frame(stream *s, const message *m, int kind, size_t size, uint8_t verdict)
{
    size_t hello = s->out.greeted ? 0 : put_hello(s, s->out.head);
    put_frame(s->out.head + hello, m, kind, size);
    s->out.head_size = hello + STREAM_HEADER;
    s->out.m = *m;
    s->out.size = size;
    s->out.sent = 0;
    s->out.verdict = verdict;
    s->out.frame = true;
    s->out.file = m->file && kind == FRAME_FIRST;
    if (s->out.file) s->out.head[hello + 13] |= FLAG_FILE;
    s->out.zeros = false;
}

/* What the next frame takes of the `left` bytes at hand; `last`: they end the message.  False: there is none. */
static bool next_frame(size_t left, bool last, size_t *size, uint8_t *verdict)
{
    *size = left < STREAM_FRAME_MAX ? left : STREAM_FRAME_MAX;
    *verdict = last && *size == left ? VERDICT_END : VERDICT_MORE;
    return *size > 0 || *verdict == VERDICT_END;
}

/* Sends once the beginning of a message that has a file.  HELLO goes before it and alone: its reader looks for none yet. */
static int send_with_file(stream *s, const os_piece *pieces, int n, size_t *sent)
{
    size_t hello = s->out.head_size - STREAM_HEADER;
    if (s->out.sent < hello)
        return stream_send(s, &(os_piece){s->out.head + s->out.sent, hello - s->out.sent}, 1, sent);
    int st = stream_send_file(s, pieces, n, s->conn.out.file, sent);
    if (st == 0) s->out.file = false;
    return st;
}

/* Sends once: what is left of the frame under way, whose payload lies at `data`, and with it the frames behind it,
 * whose payload follows there, `behind` bytes. */
static int push(stream *s, const uint8_t *data, size_t behind, bool last)
{
    uint8_t joints[GATHER][1 + STREAM_HEADER]; /* a frame's verdict and the next one's header */
    os_piece all[OS_PIECES_MAX] = {{s->out.head, s->out.head_size}, {(void *)(uintptr_t)data, s->out.size}};
    size_t size = s->out.size, done = s->out.sent, sent = 0;
    uint8_t verdict = s->out.verdict;
    int n = 2, first = 0;
    for (int i = 0; i < GATHER; i++) {
        joints[i][0] = verdict;
        all[n++] = (os_piece){joints[i], 1};
        data += size;
        if (verdict != VERDICT_MORE || i == GATHER - 1 || !next_frame(behind, last, &size, &verdict)) break;
        put_frame(joints[i] + 1, &s->out.m, FRAME_NEXT, size);
        all[n - 1].size += STREAM_HEADER;
        all[n++] = (os_piece){(void *)(uintptr_t)data, size};
        behind -= size;
    }
    while (done >= all[first].size) done -= all[first++].size;
    all[first].bytes = (uint8_t *)all[first].bytes + done;
    all[first].size -= done;
    int st = s->out.file ? send_with_file(s, all + first, n - first, &sent)
                         : stream_send(s, all + first, n - first, &sent);
    if (st != 0) return st;
    s->out.sent += sent;
    s->out.greeted = true;
    return 0;
}

/* Sends what an abort left to be sent. */
static int push_zeros(stream *s)
{
    int st = 0;
    size_t whole = s->out.head_size + s->out.size + 1;
    while (st == 0 && s->out.sent < whole) st = push(s, zeros, 0, false);
    if (st == 0) s->out.frame = false;
    return st;
}

static int write(stream *s, const message *m, const void *data, size_t n, bool last, size_t *taken)
{
    int st = s->out.frame && s->out.zeros ? push_zeros(s) : 0;
    size_t over = 0; /* bytes that are out of the frame that is next */
    while (st == 0) {
        if (!s->out.frame) {
            size_t size;
            uint8_t verdict;
            if (!next_frame(n - *taken, last, &size, &verdict)) break;
            frame(s, m, s->out.begun ? FRAME_NEXT : FRAME_FIRST, size, verdict);
            s->out.sent = over;
        }
        size_t whole = s->out.head_size + s->out.size + 1;
        if (s->out.sent < whole) {
            st = push(s, (const uint8_t *)data + *taken, n - *taken - s->out.size, last);
            continue;
        }
        over = s->out.sent - whole;
        *taken += s->out.size;
        s->out.frame = false;
        s->out.begun = s->out.verdict != VERDICT_END;
        if (!s->out.begun) break;
    }
    return st;
}

static void abort_message(stream *s)
{
    if (s->out.frame && s->out.zeros) return;
    if (!s->out.frame || s->out.sent == 0) { /* no frame is half out */
        s->out.frame = false;
        if (!s->out.begun) return;
        frame(s, &s->out.m, FRAME_NEXT, 0, VERDICT_ABORT);
    }
    if (s->out.file) s->out.head[s->out.head_size - STREAM_HEADER + 13] &= (uint8_t)~FLAG_FILE; /* it stays here */
    s->out.file = false;
    s->out.verdict = VERDICT_ABORT;
    s->out.zeros = true;
    s->out.begun = false;
    (void)push_zeros(s);
}

/* Sends HELLO at once. */
static int hello(stream *s)
{
    uint8_t bytes[STREAM_HELLO];
    os_piece piece = {bytes, put_hello(s, bytes)};
    size_t sent = 0;
    int st = stream_pass(s, &piece, 1, &sent);
    s->out.greeted = true;
    /* A peer that has gone already is no error here: what it sent before can still be read. */
    if (st == IPCIO_CLOSED || (st == 0 && sent == piece.size)) return 0;
    return st < 0 ? ipcio__fail_os(st, "%s: cannot write", s->conn.base.text)
                  : ipcio__fail(IPCIO_SYSTEM, "%s: a new connection takes no data", s->conn.base.text);
}

/* Nothing is read ahead of a message in several frames, so that take can receive the next payload to its place, nor
 * behind HELLO, so that a new connection's descriptor still shows its first message, nor while a file waits for its
 * message to be started, so that no second one comes. */
static size_t exactly(const stream *s, size_t need)
{
    if (!s->in.greeted) return STREAM_HELLO - buffer_size(&s->in.ahead);
    bool free = s->in.coming == OS_NONE;
    if (free && (!s->in.inside || s->in.over || s->in.m.length <= STREAM_FRAME_MAX)) return SIZE_MAX;
    size_t left = need - buffer_size(&s->in.ahead);
    return s->in.left > left ? s->in.left : left; /* the payload that is asked for */
}

const framing framing_message = {
    .hello = hello,
    .greeted = greeted,
    .start = start,
    .view = view,
    .take = take,
    .ready = ready,
    .most = exactly,
    .write = write,
    .abort = abort_message,
};
