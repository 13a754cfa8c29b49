/* plain.c - the framings `line` and `raw`, to meet programs that know nothing of ipcio.
 *
 * line   A message is a line: the bytes before a line feed, without a carriage return before that.  What cannot be
 *        one, since it holds a line feed or ends in a carriage return, is refused before anything is sent.
 * raw    No bounds: writing sends bytes, and reading gives those that have come.  With nul=1 a message is the bytes
 *        before a NUL, as a line is those before a line feed.
 *
 * With text=utf-16le a character has two bytes or four, and none is cut. */
#include <string.h>

#include "channel/line.h"
#include "channel/stream.h"

/* How many of n bytes received are whole characters. */
static size_t whole_characters(const uint8_t *bytes, size_t n, size_t unit)
{
    n -= n % unit;
    bool half = unit == 2 && n >= 2 && (bytes[n - 1] & 0xfc) == 0xd8; /* the first unit of a pair */
    return half ? n - 2 : n;
}

/* ------------------------------------------------------------------------------------------ reading */

/* Forgets the n first bytes of `ahead`, but leaves them where they lie: they may have been given out. */
static void pass(stream *s, size_t n)
{
    s->in.ahead.head += n;
}

/* The message, or the rest of it, was given out. */
static void through(stream *s)
{
    pass(s, s->in.left + s->in.behind);
    s->in.left = s->in.behind = 0;
    s->in.over = true;
}

static int greeted(stream *s)
{
    (void)s;
    return 0;
}

static int begin(stream *s, uint64_t length, size_t here, size_t behind, message *m)
{
    s->in.inside = true;
    s->in.over = false;
    s->in.left = here;
    s->in.behind = behind;
    s->in.looked = 0;
    *m = s->in.m = (message){.length = length};
    return 0;
}

static void end_last(stream *s)
{
    if (s->in.inside) through(s);
    s->in.inside = false;
    buffer_take(&s->in.ahead, 0);
}

/* At the end of what comes, `here` bytes are left that are no message. */
static int cut_short(stream *s, int st, size_t here, const char *why)
{
    if (st != IPCIO_CLOSED || here == 0) return st;
    pass(s, here);
    return stream_over(s, IPCIO_CLOSED, why);
}

static int start_line(stream *s, message *m)
{
    const size_t u = line_unit(&s->conn);
    end_last(s);
    for (;;) {
        size_t here = buffer_size(&s->in.ahead), at = line_find_end(&s->conn, stream_front(s), s->in.looked, here);
        if (at < here) {
            size_t length = at - (line_ends_in_return(&s->conn, stream_front(s), at) ? u : 0);
            uint64_t dropped = s->in.dropped;
            s->in.dropped = 0;
            return begin(s, dropped + length, length, at + u - length, m);
        }
        s->in.looked = here - here % u;
        /* Of a line over the limit only its length is kept, and a last character that may be a carriage return. */
        if (here > (uint64_t)s->conn.options.limit + 2 * u && s->in.looked > u) {
            s->in.dropped += s->in.looked - u;
            pass(s, s->in.looked - u);
            s->in.looked = u;
            here = buffer_size(&s->in.ahead);
        }
        int st = stream_fill(s, here + 1);
        if (st != 0)
            return cut_short(s, st, buffer_size(&s->in.ahead),
                             "the peer has closed the connection in the middle of a message, which was dropped");
    }
}

static int start_raw(stream *s, message *m)
{
    const uint32_t limit = s->conn.options.limit;
    end_last(s);
    for (;;) {
        size_t here = buffer_size(&s->in.ahead), most = here < limit ? here : limit;
        size_t n = whole_characters(stream_front(s), most, line_unit(&s->conn));
        if (n > 0) return begin(s, n, n, 0, m);
        int st = stream_fill(s, here + 1);
        if (st != 0)
            return cut_short(s, st, here, "the peer has closed the connection in the middle of a character");
    }
}

static int view(stream *s, const void **data)
{
    *data = stream_front(s);
    through(s);
    return 0;
}

static int take(stream *s, void *to, size_t n, size_t *got)
{
    if (s->in.over || n == 0) return 0;
    if (n > s->in.left) n = s->in.left;
    if (n > 0) memcpy(to, stream_front(s), n);
    pass(s, n);
    s->in.left -= n;
    *got = n;
    if (n == 0) through(s);
    return 0;
}

static bool line_ready(const stream *s)
{
    size_t here = buffer_size(&s->in.ahead);
    return here > 0 && (s->in.inside || line_find_end(&s->conn, stream_front(s), s->in.looked, here) < here);
}

static bool raw_ready(const stream *s)
{
    size_t here = buffer_size(&s->in.ahead);
    return here > 0 && (s->in.inside || whole_characters(stream_front(s), here, line_unit(&s->conn)) > 0);
}

static size_t any(const stream *s, size_t need)
{
    (void)s, (void)need;
    return SIZE_MAX;
}

/* ------------------------------------------------------------------------------------------ writing */

static int half_sent(stream *s)
{
    return ipcio__fail(IPCIO_CLOSED, "%s: a message was left half sent, which ended the connection", s->conn.base.text);
}

/* Sends data[*taken, n) and then the `size` bytes of `end`. */
static int write_with(stream *s, const uint8_t *data, size_t n, size_t *taken, const char *end, size_t size)
{
    if (s->out.ended) return half_sent(s);
    while (*taken < n || s->out.sent < size) {
        os_piece pieces[2] = {{(void *)(uintptr_t)(data + *taken), n - *taken},
                              {(void *)(uintptr_t)(end + s->out.sent), size - s->out.sent}};
        size_t sent;
        int st = stream_send(s, pieces, size ? 2 : 1, &sent);
        if (st != 0) return st;
        s->out.begun = true;
        size_t of_data = sent < n - *taken ? sent : n - *taken;
        *taken += of_data;
        s->out.sent += sent - of_data;
    }
    s->out.sent = 0;
    return 0;
}

static int write_raw(stream *s, const message *m, const void *data, size_t n, bool last, size_t *taken)
{
    (void)m;
    int st = write_with(s, data, n, taken, "", 0);
    if (st == 0 && last) s->out.begun = false;
    return st;
}

static int write_line(stream *s, const message *m, const void *data, size_t n, bool last, size_t *taken)
{
    const char end[2] = {line_terminator(&s->conn), 0};
    const bool ends = last || s->conn.out.done + n == m->length; /* of pieces the last one */
    int st = *taken == 0 && s->out.sent == 0 ? line_check(&s->conn, data, n, ends) : 0;
    if (st == 0) st = write_with(s, data, n, taken, end, last ? line_unit(&s->conn) : 0);
    if (st == 0 && last) s->out.begun = false;
    return st;
}

/* What is out cannot be taken back, so that nothing may follow it. */
static void abort_plain(stream *s)
{
    if (!s->out.begun) return;
    s->out.ended = true;
    os_shutdown(s->fd);
}

const framing framing_line = {
    .hello = greeted,
    .greeted = greeted,
    .start = start_line,
    .view = view,
    .take = take,
    .ready = line_ready,
    .most = any,
    .write = write_line,
    .abort = abort_plain,
};

const framing framing_raw = {
    .hello = greeted,
    .greeted = greeted,
    .start = start_raw,
    .view = view,
    .take = take,
    .ready = raw_ready,
    .most = any,
    .write = write_raw,
    .abort = abort_plain,
};
