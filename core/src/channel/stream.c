/* stream.c - see stream.h. */
#include "channel/stream.h"

enum { AHEAD = 65536 }; /* bytes that are read ahead */

static const char gone[] = "the peer has closed the connection";

static stream *stream_of(ipcio_conn *c)
{
    return (stream *)c;
}

/* ------------------------------------------------------------------------------------------ reading */

static int ended(stream *s)
{
    return ipcio__fail(s->in.ended, "%s: %s", s->conn.base.text, s->in.why);
}

static void close_file(os_fd *file)
{
    if (*file != OS_LOST) os_close(*file);
    *file = OS_NONE;
}

/* A child forked in the middle would keep it. */
static void drop_file(os_fd *file)
{
    fork_forbid();
    close_file(file);
    fork_allow();
}

int stream_over(stream *s, int status, const char *why)
{
    s->in.ended = status;
    s->in.why = why;
    if (status == IPCIO_PROTOCOL) {
        s->conn.transport->wake(&s->conn);
        buffer_take(&s->in.ahead, buffer_size(&s->in.ahead));
        if (s->in.coming != OS_NONE) drop_file(&s->in.coming);
        if (s->in.file != OS_NONE) drop_file(&s->in.file);
    }
    return ended(s);
}

int stream_broken(stream *s, const char *why)
{
    return stream_over(s, IPCIO_PROTOCOL, why);
}

int stream_not_received(stream *s, int st)
{
    if (st > 0) return st;
    if (s->in.ended) return ended(s);
    if (st == IPCIO_PROTOCOL) return stream_broken(s, "a file came that no message announces");
    if (st != IPCIO_CLOSED) return ipcio__fail_os(st, "%s: cannot read", s->conn.base.text);
    /* Programs that know nothing of ipcio may end one direction alone. */
    if (s->framing == &framing_message) atomic_store_explicit(&s->peer_gone, true, memory_order_relaxed);
    return stream_over(s, st, gone);
}

/* A file comes with bytes that begin its message, so it is announced by what is in `ahead` then. */
int stream_receive_file(stream *s, const os_piece *pieces, int n, size_t *got)
{
    if (s->in.coming != OS_NONE && buffer_size(&s->in.ahead) == 0) return IPCIO_PROTOCOL;
    os_fd file;
    fork_forbid();
    int st = os_receive_file(s->fd, pieces, n, got, &file);
    if (file != OS_NONE && s->in.coming != OS_NONE) {
        close_file(&file);
        st = IPCIO_PROTOCOL;
    } else if (file != OS_NONE) {
        s->in.coming = file;
    }
    fork_allow();
    return st;
}

/* Receives once into `ahead`, which is to hold `need` bytes in the end. */
static int receive_ahead(stream *s, size_t need)
{
    if (s->in.ended) return ended(s);
    buffer *a = &s->in.ahead;
    size_t room = a->capacity == 0 ? s->in.room : buffer_size(a) == a->capacity ? a->capacity : need - buffer_size(a);
    int st = buffer_reserve(a, room);
    if (st != 0) return st;
    size_t got = 0, room_left = a->capacity - a->tail, most = s->framing->most(s, need);
    st = stream_receive(s, &(os_piece){a->bytes + a->tail, most < room_left ? most : room_left}, 1, &got);
    a->tail += got;
    return st == 0 ? 0 : stream_not_received(s, st);
}

int stream_fill(stream *s, size_t need)
{
    int st = 0;
    while (st == 0 && buffer_size(&s->in.ahead) < need) st = receive_ahead(s, need);
    s->in.needed = st > 0 ? need : 0;
    return st;
}

int stream_greeted(ipcio_conn *c)
{
    return stream_of(c)->framing->greeted(stream_of(c));
}

int stream_start(ipcio_conn *c, message *m)
{
    return stream_of(c)->framing->start(stream_of(c), m);
}

int stream_view(ipcio_conn *c, const void **data)
{
    *data = NULL;
    return stream_of(c)->framing->view(stream_of(c), data);
}

int stream_take(ipcio_conn *c, void *to, size_t n, size_t *got)
{
    stream *s = stream_of(c);
    *got = 0;
    return s->in.ended == IPCIO_PROTOCOL ? ended(s) : s->framing->take(s, to, n, got);
}

int stream_expect_file(stream *s)
{
    if (s->in.coming == OS_NONE) return stream_broken(s, "a message announces a file that did not come");
    fork_forbid();
    s->in.file = s->in.coming;
    s->in.coming = OS_NONE;
    fork_allow();
    return 0;
}

int stream_take_file(ipcio_conn *c, os_fd *file)
{
    stream *s = stream_of(c);
    if (s->in.file == OS_NONE || s->in.aborted)
        return ipcio__fail(IPCIO_MISSING, "%s: no file came with the message%s", s->conn.base.text,
                           s->in.files ? "" : "; this side takes files with the option files=1");
    if (s->in.file == OS_LOST)
        return ipcio__fail(IPCIO_SYSTEM, "%s: this process had no descriptor free for the file that came", s->conn.base.text);
    *file = s->in.file;
    s->in.file = OS_NONE;
    return 0;
}

void stream_end(ipcio_conn *c)
{
    stream *s = stream_of(c);
    if (s->in.over) s->in.inside = false;
    buffer_take(&s->in.ahead, 0);
    /* A line as long as the limit leaves a buffer that others need not keep. */
    if (s->in.ahead.capacity > 4 * s->in.room && buffer_size(&s->in.ahead) == 0) buffer_free(&s->in.ahead);
    if (s->in.file != OS_NONE) drop_file(&s->in.file);
}

bool stream_ready(ipcio_conn *c)
{
    const stream *s = stream_of(c);
    return s->in.ended || s->framing->ready(s);
}

bool stream_arrived(ipcio_conn *c, int want)
{
    if (want == IPCIO_WANT_WRITE) return false; /* spinning would take the processor that the peer needs to read */
    stream *s = stream_of(c);
    size_t here = buffer_size(&s->in.ahead);
    bool full = here >= s->in.room;
    if (full && stream_ready(c)) return true;
    if (full || s->framing->most(s, here + 1) != SIZE_MAX)
        return os_poll(&(os_wait){s->fd, IPCIO_WANT_READ}, 1, 0) != IPCIO_TIMEOUT;
    return receive_ahead(s, here + 1) <= 0;
}

/* ------------------------------------------------------------------------------------------ writing */

static bool is_gone(stream *s)
{
    return atomic_load_explicit(&s->peer_gone, memory_order_relaxed);
}

static int not_sent(const stream *s, int st)
{
    if (st == IPCIO_CLOSED) return ipcio__fail(st, "%s: %s", s->conn.base.text, gone);
    if (st == IPCIO_ORPHANED) return ipcio__fail(st, "%s: what carries the connection was removed", s->conn.base.text);
    return ipcio__fail_os(st, "%s: cannot write", s->conn.base.text);
}

int stream_send(stream *s, const os_piece *pieces, int n, size_t *sent)
{
    int st = is_gone(s) ? IPCIO_CLOSED : stream_pass(s, pieces, n, sent);
    return st >= 0 ? st : not_sent(s, st);
}

int stream_send_file(stream *s, const os_piece *pieces, int n, os_fd file, size_t *sent)
{
    int st = is_gone(s) ? IPCIO_CLOSED : os_send_file(s->fd, pieces, n, file, sent);
    return st >= 0 ? st : not_sent(s, st);
}

int stream_write(ipcio_conn *c, bool last)
{
    return stream_of(c)->framing->write(stream_of(c), &c->out.m, c->out.data, c->out.size, last, &c->out.taken);
}

void stream_abort(ipcio_conn *c)
{
    stream_of(c)->framing->abort(stream_of(c));
}

/* ------------------------------------------------------------------------------------------ both */

void stream_open(ipcio_conn *c, os_fd fd)
{
    static const framing *const framings[] = {
        [FRAMING_MESSAGE] = &framing_message, [FRAMING_LINE] = &framing_line, [FRAMING_RAW] = &framing_raw};
    stream *s = stream_of(c);
    /* With raw bytes nothing but the NUL ends a message. */
    s->framing = c->options.framing == FRAMING_RAW && c->options.nul ? &framing_line : framings[c->options.framing];
    s->fd = fd;
    s->open = true;
    s->in.coming = s->in.file = OS_NONE;
    s->takes_files = c->options.files != 0;
    s->in.room = (c->options.buffer ? c->options.buffer : AHEAD) + STREAM_HEADER + 1;
    c->base.side[IPCIO_WANT_READ].fd = c->base.side[IPCIO_WANT_WRITE].fd = fd;
    c->base.side[IPCIO_WANT_READ].want = IPCIO_WANT_READ;
    c->base.side[IPCIO_WANT_WRITE].want = IPCIO_WANT_WRITE;
}

int stream_hello(ipcio_conn *c)
{
    return stream_of(c)->framing->hello(stream_of(c));
}

void stream_wake(ipcio_conn *c)
{
    os_shutdown(stream_of(c)->fd);
}

void stream_close(ipcio_conn *c)
{
    stream *s = stream_of(c);
    if (s->open) {
        os_close(s->fd);
        close_file(&s->in.coming);
        close_file(&s->in.file);
    }
    s->open = false;
}

void stream_forget(ipcio_conn *c)
{
    if (!handle_torn(&c->base)) buffer_free(&stream_of(c)->in.ahead);
}
