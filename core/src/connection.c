/* connection.c - connecting, and what a connection promises whatever its transport.
 *
 * Every call is a try inside one side of the handle (or both); HANDLE_BLOCK makes it wait. */
#include "connection.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "set.h"

enum { KEEP_MOST = 1 << 20 }; /* a larger buffer goes when messages that need it no longer come */

static ipcio_conn *conn_of(handle *h)
{
    return (ipcio_conn *)h;
}

static int not_connected(const ipcio_conn *c)
{
    return ipcio__fail(IPCIO_INVALID, "%s: it is not connected yet", c->base.text);
}

/* ------------------------------------------------------------------------------ a descriptor for others
 *
 * Reading ahead hides messages from the system, so the descriptor is a set of what the transport waits on and of
 * a bell, which rings while a message was read ahead; and of a timer where the system does not tell all.  They are made
 * when first asked for. */

static void close_fileno(ipcio_conn *c)
{
    os_close(c->in.epoll);
    os_close(c->in.bell);
    os_close(c->in.timer);
    c->in.epoll = c->in.bell = c->in.timer = OS_NONE;
}

/* Whether a reading call would get further with what was read ahead. */
static bool is_ready(ipcio_conn *c)
{
    bool has_end = c->in.state == READ_PIECES && !c->in.end_asked && (c->in.rest == 0 || text_converts(&c->options));
    return has_end || c->transport->ready(c);
}

static IPCIO_SLOW void tell_read_ahead(ipcio_conn *c)
{
    const transport *t = c->transport;
    if (is_ready(c) || (t->settle && t->settle(c, IPCIO_WANT_READ))) os_bell_ring(c->in.bell);
    else os_bell_clear(c->in.bell);
    if (c->in.timer != OS_NONE) os_timer_set(c->in.timer, c->base.look);
}

static inline void show_read_ahead(ipcio_conn *c)
{
    if (c->in.epoll != OS_NONE) tell_read_ahead(c);
}

static int open_fileno(ipcio_conn *c)
{
    if (c->in.epoll != OS_NONE) return 0;
    fork_forbid();
    int st = os_bell_new(&c->in.bell);
    if (st == 0) st = os_set_new(&c->in.epoll);
    if (st == 0 && c->base.look) st = os_timer_new(&c->in.timer);
    fork_allow();
    if (st == 0 && c->base.look) st = os_set_put(c->in.epoll, c->in.timer, IPCIO_WANT_READ, c);
    if (st == 0) st = os_set_put(c->in.epoll, c->in.bell, IPCIO_WANT_READ, c);
    if (st == 0) st = os_set_put(c->in.epoll, c->base.side[IPCIO_WANT_READ].fd, IPCIO_WANT_READ, c);
    if (st == 0) return 0;
    st = ipcio__fail_os(st, "%s: cannot make a descriptor", c->base.text);
    close_fileno(c);
    return st;
}

static int fileno_of(handle *h, os_fd *fd)
{
    ipcio_conn *c = conn_of(h);
    if (!c->connected) return not_connected(c);
    int st = open_fileno(c);
    if (st == 0) show_read_ahead(c);
    *fd = c->in.epoll;
    return st;
}

int ipcio_write_fileno(ipcio_conn *c)
{
    int st = handle_enter(&c->base, IPCIO_WANT_WRITE);
    if (st != 0) return st;
    if (c->connected) {
        os_fd fd = c->transport->write_fd ? c->transport->write_fd(c) : c->base.side[IPCIO_WANT_WRITE].fd;
        c->out.shown = true;
        if (c->transport->settle) (void)c->transport->settle(c, IPCIO_WANT_WRITE);
        st = fd == OS_NONE ? ipcio__fail(IPCIO_UNSUPPORTED, "%s: this side only reads", c->base.text) : (int)fd;
    } else {
        st = not_connected(c);
    }
    return handle_leave_with(&c->base, IPCIO_WANT_WRITE, st);
}

/* ------------------------------------------------------------------------------------ life of a handle */

static void wake(handle *h)
{
    if (conn_of(h)->connected) conn_of(h)->transport->wake(conn_of(h));
}

static void release(handle *h)
{
    ipcio_conn *c = conn_of(h);
    c->transport->close(c);
    close_fileno(c);
}

static void abandon(handle *h)
{
    ipcio_conn *c = conn_of(h);
    c->transport->abandon(c);
    close_fileno(c);
}

static bool arrived(handle *h, int want)
{
    ipcio_conn *c = conn_of(h);
    if (!c->connected) return false; /* the system tells */
    if (want == IPCIO_WANT_WRITE) return c->transport->arrived(c, want);
    bool news = c->in.given || c->transport->arrived(c, want); /* what was given out must not move */
    if (news) show_read_ahead(c);
    return news;
}

static inline void end_message(ipcio_conn *c)
{
    c->transport->end(c);
    c->in.state = READ_IDLE;
    c->in.given = false;
}

/* Ends both directions, for what could come next would be taken for something else. */
static void spoil(ipcio_conn *c, const char *why)
{
    atomic_store_explicit(&c->spoiled, why, memory_order_relaxed);
    c->transport->wake(c);
}

/* The answer to the last call, should it still come, is late.  Inside both sides. */
static void forget_call(ipcio_conn *c)
{
    if (c->calling == CALL_READING && c->options.framing != FRAMING_MESSAGE) {
        spoil(c, "a call was given up, and this framing cannot tell its late answer from the next, so the connection was closed");
    } else if (c->calling == CALL_READING) {
        atomic_store_explicit(&c->given_up, c->out.calls, memory_order_relaxed);
        c->in.before.given_up = c->out.calls;
        if (c->in.state == READ_WHOLE && c->in.m.answer) end_message(c); /* it has begun to come: no later call's */
    }
    c->calling = CALL_IDLE;
}

static const char *give_up(handle *h, int want)
{
    ipcio_conn *c = conn_of(h);
    if (!c->connected) return c->missing ? c->missing : "nobody served the name";
    bool calling = atomic_load_explicit(&c->calling, memory_order_relaxed) != CALL_IDLE;
    /* Only a call owns both sides: the other one may have another thread inside, which must not find it taken. */
    if ((want == IPCIO_WANT_WRITE || calling) && handle_enter(h, IPCIO_WANT_WRITE) == 0) {
        if (want == IPCIO_WANT_WRITE && c->out.state == WRITE_WHOLE) {
            c->transport->abort(c);
            c->out.state = WRITE_IDLE;
            c->out.data = c->out.room = NULL;
        }
        if (calling && handle_enter(h, IPCIO_WANT_READ) == 0) {
            forget_call(c);
            handle_leave(h, IPCIO_WANT_READ);
        }
        handle_leave(h, IPCIO_WANT_WRITE);
    }
    if (want == IPCIO_WANT_WRITE) return "the peer did not take the message";
    return c->limit_comes && !c->peer_limit ? "the server has not accepted the connection" : "no message";
}

static bool ready(handle *h)
{
    return conn_of(h)->connected && is_ready(conn_of(h));
}

static bool settle(handle *h, int want)
{
    ipcio_conn *c = conn_of(h);
    return c->connected && c->transport->settle && c->transport->settle(c, want);
}

static int doze(handle *h, int want, int64_t deadline)
{
    ipcio_conn *c = conn_of(h);
    return c->connected && c->transport->doze ? c->transport->doze(c, want, deadline) : IPCIO_TIMEOUT;
}

static const handle_kind connection_kind = {"connection", wake,   release, abandon,   arrived,
                                            ready,        settle, doze,    fileno_of, give_up};

int connection_new(const transport *t, const char *text, ipcio_conn **conn)
{
    ipcio_conn *c = calloc(1, t->conn_size);
    if (!c) return ipcio__fail(IPCIO_NOMEMORY, "%s: no memory for a connection", text);
    c->transport = t;
    c->base.blocks = t->blocks;
    c->in.epoll = c->in.bell = c->in.timer = OS_NONE;
    for (int side = 0; side < 3; side++) c->base.side[side].fd = OS_NONE;
    *conn = c;
    return 0;
}

/* Frees all in which messages are viewed. */
static void forget(ipcio_conn *c)
{
    c->transport->forget(c);
    if (handle_torn(&c->base)) return;
    buffer_free(&c->in.collected);
    buffer_free(&c->in.text);
    buffer_free(&c->out.wire);
    buffer_free(&c->out.pieces);
}

void connection_delete(ipcio_conn *c)
{
    forget(c);
    address_free(&c->address);
    free(c);
}

static int create(const char *text, const char *opts, ipcio_conn **conn)
{
    address a;
    options o;
    const transport *t = NULL;
    int st = transport_find(text, opts, &a, &o, &t);
    if (st == 0) st = connection_new(t, a.text, conn);
    if (st == 0) {
        (*conn)->address = a;
        (*conn)->options = o;
        if ((st = handle_open(&(*conn)->base, &connection_kind, a.text)) == 0) return 0;
        (*conn)->address = (address){0};
        connection_delete(*conn);
        *conn = NULL;
    }
    address_free(&a);
    return st;
}

static void made(ipcio_conn *c)
{
    c->peer_known = c->transport->peer(c, &c->peer);
    c->in.whole = text_converts(&c->options) ? NULL : c->transport->whole;
    c->connected = true;
}

int connection_accepted(ipcio_conn *c, const char *text)
{
    size_t size = strlen(text) + 1;
    c->address.text = malloc(size);
    if (!c->address.text) return ipcio__fail(IPCIO_NOMEMORY, "%s: no memory for a connection", text);
    memcpy(c->address.text, text, size);
    made(c);
    return handle_open(&c->base, &connection_kind, c->address.text);
}

static int try_connect(ipcio_conn *c, int timeout)
{
    int st = handle_enter(&c->base, IPCIO_WANT_READ);
    if (st != 0) return st;
    fork_forbid();
    st = c->transport->connect(c);
    if (st == 0) made(c);
    fork_allow();
    handle_leave(&c->base, IPCIO_WANT_READ);
    return st == IPCIO_MISSING && timeout != 0 ? IPCIO_WANT_READ : st;
}

static int connect_until(ipcio_conn *c, int timeout)
{
    HANDLE_BLOCK(c, timeout, try_connect(c, timeout));
}

int ipcio_connect(const char *text, const char *opts, int timeout, ipcio_conn **conn)
{
    ipcio_conn *c = timeout == IPCIO_TRY ? *conn : NULL;
    bool repeated = c != NULL;
    int st = repeated ? 0 : create(text, opts, &c);
    if (st == 0) st = connect_until(c, timeout);
    if (st < 0 && repeated) ipcio_conn_close(c);
    if (st < 0 && !repeated) {
        ipcio_conn_free(c);
        c = NULL;
    }
    *conn = c;
    return st;
}

void ipcio_conn_close(ipcio_conn *c)
{
    handle_close(&c->base);
}

void ipcio_conn_forget(ipcio_conn *c)
{
    process_lock(); /* two threads may ask for it */
    if (atomic_load_explicit(&c->base.gate, memory_order_acquire) & GATE_RELEASED) forget(c);
    process_unlock();
}

void ipcio_conn_free(ipcio_conn *c)
{
    if (!c) return;
    set_forget(&c->base);
    handle_close(&c->base);
    handle_forget(&c->base);
    connection_delete(c);
}

const char *ipcio_conn_address(const ipcio_conn *c)
{
    return c->address.text;
}

/* Enters a side, or both, of a connection that is one by now. */
static inline int enter(ipcio_conn *c, int side)
{
    int st = handle_enter(&c->base, side);
    if (st != 0) return st;
    const char *spoiled = atomic_load_explicit(&c->spoiled, memory_order_relaxed);
    if (atomic_load_explicit(&c->connected, memory_order_acquire) && !spoiled) return 0;
    handle_leave(&c->base, side);
    return spoiled ? ipcio__fail(IPCIO_CLOSED, "%s: %s", c->base.text, spoiled) : not_connected(c);
}

static inline int enter_for(ipcio_conn *c, int side, int timeout, int least)
{
    if (timeout < least) return ipcio__fail(IPCIO_INVALID, "%d is not a timeout", timeout);
    return enter(c, side);
}

int ipcio_conn_peer(ipcio_conn *c, ipcio_peer *peer)
{
    if (atomic_load_explicit(&c->base.gate, memory_order_relaxed) & GATE_CLOSED) return handle_not_open(&c->base);
    if (!c->connected) return not_connected(c);
    if (c->peer_known != 0) return ipcio__fail(c->peer_known, "%s: the system cannot tell who the peer is", c->base.text);
    *peer = c->peer;
    return 0;
}

/* ------------------------------------------------------------------------------------------ reading */

enum { NOT_NOW = 100 }; /* no status, and nothing to wait for */

static IPCIO_RARE int too_big(ipcio_conn *c)
{
    uint64_t length = c->in.m.length;
    end_message(c);
    return ipcio__fail(IPCIO_TOOBIG, "%s: a message of %llu bytes came and was dropped; the limit is %u", c->base.text,
                       (unsigned long long)length, c->options.limit);
}

/* Whether message in.m, which has begun, is one for whoever reads.  NOT_NOW: it is nobody's, since it answers a call that was
 * given up, and was ended. */
static inline int judge(ipcio_conn *c)
{
    const message *m = &c->in.m;
    if (m->answer && (int32_t)(m->call - atomic_load_explicit(&c->given_up, memory_order_relaxed)) <= 0) {
        end_message(c);
        return NOT_NOW;
    }
    return m->length > c->options.limit ? too_big(c) : 0;
}

/* It is given out.  Not before that it is the last one read: its writer may still give it up. */
static inline void was_read(ipcio_conn *c)
{
    const message *m = &c->in.m;
    if (m->answer) atomic_store_explicit(&c->given_up, m->call, memory_order_relaxed); /* follows, so that it wraps */
    atomic_store_explicit(&c->answering, m->answer ? 0 : m->call, memory_order_relaxed);
}

/* Of what was read in pieces: its writer has given it up. */
static IPCIO_RARE void was_not_read(ipcio_conn *c)
{
    uint32_t call = c->in.m.call, answering = c->in.m.answer ? 0 : call;
    if (c->in.m.answer) (void)atomic_compare_exchange_strong(&c->given_up, &call, c->in.before.given_up);
    (void)atomic_compare_exchange_strong(&c->answering, &answering, c->in.before.answering);
}

static int start(ipcio_conn *c)
{
    int st;
    do {
        if (c->in.given) end_message(c);
        st = c->transport->start(c, &c->in.m);
        if (st != 0) return st;
    } while ((st = judge(c)) == NOT_NOW);
    return st;
}

/* The next message as most are: short, and all in one place.  NOT_NOW: it is not, or none came. */
static inline int read_at_once(ipcio_conn *c, const void **data, size_t *size, int timeout)
{
    if (!c->in.whole || c->in.state != READ_IDLE || !c->in.whole(c, &c->in.m, data, timeout)) return NOT_NOW;
    c->in.given = true;
    *size = (size_t)c->in.m.length;
    int st = judge(c);
    if (st == 0) was_read(c);
    return st;
}

/* Collects a message that lies in no one place. */
static IPCIO_SLOW int collect(ipcio_conn *c, const void **data)
{
    buffer *b = &c->in.collected;
    if (b->capacity > KEEP_MOST && c->in.m.length < b->capacity / 4) buffer_free(b);
    for (;;) {
        /* Memory grows with what came, not with what was announced. */
        size_t have = buffer_size(b), left = (size_t)(c->in.m.length - have), got = 0;
        size_t step = have > KEEP_MOST ? have : KEEP_MOST;
        int st = b->capacity - b->tail ? 0 : buffer_reserve(b, (left < step ? left : step) + 1);
        if (st != 0) return st;
        size_t room = b->capacity - b->tail;
        st = c->transport->take(c, b->bytes + b->tail, room < left ? room : left ? left : 1, &got);
        if (st != 0) return st;
        *data = b->bytes;
        if (got == 0) return 0;
        b->tail += got;
    }
}

static IPCIO_RARE int in_pieces(const ipcio_conn *c)
{
    return ipcio__fail(IPCIO_INVALID, "%s: a message is being read in pieces; end that first", c->base.text);
}

static int read_whole(ipcio_conn *c, const void **data, size_t *size)
{
    for (;;) {
        int st = 0;
        if (c->in.state == READ_PIECES) return in_pieces(c);
        *data = NULL;
        if (c->in.state == READ_IDLE) {
            if ((st = start(c)) != 0) return st;
            c->in.state = READ_WHOLE;
            c->in.collected.head = c->in.collected.tail = 0;
        }
        if (buffer_size(&c->in.collected) == 0) st = c->transport->view(c, data);
        if (st == 0 && !*data) st = collect(c, data);
        /* What hinders the system for a moment must not cost the message: a repeated read goes on where this one was. */
        if (st != 0 && st != IPCIO_ABORTED && st != IPCIO_CLOSED && st != IPCIO_PROTOCOL) return st;
        c->in.state = READ_IDLE;
        c->in.given = true;
        *size = (size_t)c->in.m.length;
        if (st == 0) was_read(c);
        if (st != IPCIO_ABORTED) return st;
        end_message(c); /* nobody saw it begin */
    }
}

/* The next message, as this side has it.  `timeout`: as transport.whole's. */
static IPCIO_SLOW int read_message(ipcio_conn *c, const void **data, size_t *size, int timeout)
{
    int st = read_at_once(c, data, size, timeout);
    if (st != NOT_NOW) return st;
    st = read_whole(c, data, size);
    if (st != 0 || !text_converts(&c->options)) return st;
    st = text_from_wire(&c->options, *data, *size, &c->in.text);
    if (st == IPCIO_PROTOCOL) {
        spoil(c, "what the peer sent is not UTF-16");
        return ipcio__fail(st, "%s: %s", c->base.text, c->spoiled);
    }
    *data = c->in.text.bytes;
    *size = buffer_size(&c->in.text);
    return st;
}

static int read_step(ipcio_conn *c, const void **data, size_t *size)
{
    int st = read_message(c, data, size, IPCIO_TRY);
    show_read_ahead(c);
    return st;
}

static int read_until(ipcio_conn *c, int timeout, const void **data, size_t *size, int want)
{
    HANDLE_BLOCK_INSIDE(&c->base, IPCIO_WANT_READ, timeout, want, read_step(c, data, size));
}

/* What was not read at once, because of `st`. */
static IPCIO_SLOW int read_on(ipcio_conn *c, int timeout, const void **data, size_t *size, int st)
{
    st = st < 0 ? st : read_step(c, data, size);
    if (st > 0 && timeout > IPCIO_TRY) return read_until(c, timeout, data, size, st);
    return handle_leave_with(&c->base, IPCIO_WANT_READ, st);
}

int ipcio_read(ipcio_conn *c, int timeout, const void **data, size_t *size)
{
    int st = enter_for(c, IPCIO_WANT_READ, timeout, IPCIO_SPIN);
    if (st != 0) return st;
    if ((st = read_at_once(c, data, size, timeout)) != 0) return read_on(c, timeout, data, size, st);
    show_read_ahead(c);
    handle_leave(&c->base, IPCIO_WANT_READ);
    return 0;
}

static int take_file(ipcio_conn *c, os_fd *file)
{
    bool read = c->in.given || c->in.state == READ_PIECES;
    if (read && c->transport->take_file) return c->transport->take_file(c, file);
    return ipcio__fail(IPCIO_MISSING, "%s: no file came", c->base.text);
}

int ipcio_take_file(ipcio_conn *c, intptr_t *file)
{
    int st = enter(c, IPCIO_WANT_READ);
    if (st != 0) return st;
    return handle_leave_with(&c->base, IPCIO_WANT_READ, take_file(c, file));
}

static int sender(ipcio_conn *c, const char **who)
{
    if (c->transport->sender) return c->transport->sender(c, who);
    return ipcio__fail(IPCIO_UNSUPPORTED, "%s: all messages are the one peer's", c->base.text);
}

int ipcio_conn_sender(ipcio_conn *c, const char **who)
{
    *who = NULL;
    int st = enter(c, IPCIO_WANT_READ);
    if (st != 0) return st;
    return handle_leave_with(&c->base, IPCIO_WANT_READ, sender(c, who));
}

/* ------------------------------------------------------------------------------------------ writing */

/* Whether the peer has introduced itself; inside the reading side, which tells of errors. */
static int greeting(ipcio_conn *c)
{
    int st = c->transport->greeted(c);
    return st > 0 ? st : 0;
}

/* Waits until a peer that has to has told its limit, unless the message is so short that hardly a limit forbids it: who
 * connects to a server of his own thread may write before that accepts. */
static int know_limit(ipcio_conn *c, uint64_t size, bool file)
{
    enum { UNASKED = 4096 };
    if (!c->limit_comes || (size <= UNASKED && !file) || atomic_load_explicit(&c->peer_limit, memory_order_acquire)) return 0;
    if (c->calling != CALL_IDLE) return greeting(c); /* inside the reading side already */
    _Atomic bool *lent = &c->base.side[IPCIO_WANT_READ].lent;
    atomic_store_explicit(lent, true, memory_order_relaxed);
    int st = handle_enter(&c->base, IPCIO_WANT_READ);
    if (st == 0) {
        st = greeting(c);
        handle_leave(&c->base, IPCIO_WANT_READ);
    }
    if (st > 0) return st;
    atomic_store_explicit(lent, false, memory_order_release);
    return 0; /* also if another thread reads, which will learn it */
}

static int check_size(ipcio_conn *c, uint64_t size, bool file)
{
    int st = know_limit(c, size, file);
    if (st != 0) return st;
    /* Raw bytes are no message to the peer. */
    uint32_t peer = c->options.framing == FRAMING_RAW ? 0 : atomic_load_explicit(&c->peer_limit, memory_order_acquire);
    uint32_t limit = peer && peer < c->options.limit ? peer : c->options.limit;
    if (c->carries && c->carries < limit) limit = c->carries;
    if ((peer || !c->limit_comes) && !text_converts(&c->options)) c->out.too_long = (uint64_t)limit + 1;
    if (size <= limit) return 0;
    const bool own = limit == c->options.limit, way = !own && limit == c->carries;
    return ipcio__fail(IPCIO_TOOBIG, "%s: a message of %llu bytes is over %s's limit of %u; nothing was sent", c->base.text,
                       (unsigned long long)size, own ? "this side" : way ? c->transport->scheme : "the peer", limit);
}

/* Whether the peer takes a file. */
static int check_file(ipcio_conn *c)
{
    if (!c->transport->take_file || c->options.framing != FRAMING_MESSAGE)
        return ipcio__fail(IPCIO_UNSUPPORTED, "%s: no file can be passed this way", c->base.text);
    if (c->limit_comes && !atomic_load_explicit(&c->peer_limit, memory_order_acquire))
        return ipcio__fail(IPCIO_INVALID, "%s: another thread reads, and the peer has not told yet whether it takes files",
                           c->base.text);
    if (atomic_load_explicit(&c->peer_files, memory_order_relaxed)) return 0;
    return ipcio__fail(IPCIO_UNSUPPORTED, "%s: the peer takes no files; it needs the option files=1", c->base.text);
}

static inline void begin_message(ipcio_conn *c, uint64_t length, uint32_t call)
{
    uint32_t answers = call ? 0 : atomic_load_explicit(&c->answering, memory_order_relaxed);
    c->out.m = (message){.length = length, .call = call ? call : answers, .answer = answers != 0};
    c->out.done = 0;
    c->out.data = NULL;
}

/* What a message's last part answered.  Only when all is out a call is answered; another thread may have read the next. */
static inline int was_written(ipcio_conn *c, int st)
{
    uint32_t call = c->out.m.call;
    if (st == 0 && c->out.m.answer)
        (void)atomic_compare_exchange_strong_explicit(&c->answering, &call, 0, memory_order_relaxed, memory_order_relaxed);
    return st;
}

/* Moves the rest of data[0, n), which is the same in every repeated call.  Where the transport fails, the message is
 * given up: a frame of it may be half out. */
static inline int write_some(ipcio_conn *c, const void *data, size_t n, bool last)
{
    if (!data) data = "";
    if (!c->out.data) {
        c->out.data = data;
        c->out.size = n;
        c->out.taken = 0;
    } else if (n != c->out.size || data != c->out.data) {
        return ipcio__fail(IPCIO_INVALID, "%s: another write is not finished; repeat that with the same data", c->base.text);
    }
    int st = c->transport->write(c, last);
    if (st <= 0) c->out.data = NULL;
    if (st < 0) {
        c->transport->abort(c);
        c->out.state = WRITE_IDLE;
    }
    return st;
}

/* Makes of a message what the peer is to have; once, however often its write is repeated. */
static int convert(ipcio_conn *c, const void **data, size_t *size)
{
    buffer *wire = &c->out.wire;
    if (c->out.state == WRITE_WHOLE && (*data != c->out.given || *size != c->out.given_size))
        return ipcio__fail(IPCIO_INVALID, "%s: another write is not finished; repeat that with the same data", c->base.text);
    int st = c->out.state == WRITE_WHOLE ? 0 : text_to_wire(&c->options, *data, *size, wire);
    if (st == IPCIO_INVALID)
        return ipcio__fail(st, "%s: the message %s; nothing was sent", c->base.text,
                           c->options.text == TEXT_UTF8 ? "has a NUL in it" : "is not UTF-8, or has a NUL in it");
    c->out.given = *data;
    c->out.given_size = *size;
    *data = wire->bytes;
    *size = buffer_size(wire);
    return st;
}

/* Sees that a whole message may be begun, or goes on. */
static int admit(ipcio_conn *c, const void **data, size_t *size, uint32_t call, os_fd file)
{
    int st = 0;
    if (c->out.state == WRITE_PIECES)
        return ipcio__fail(IPCIO_INVALID, c->out.room ? "%s: a message is being written in place: end it, or ask for room again"
                                                      : "%s: a message is being written in pieces; end that first",
                           c->base.text);
    if (text_converts(&c->options) && (st = convert(c, data, size)) != 0) return st;
    if (c->out.state == WRITE_IDLE) {
        if ((st = check_size(c, *size, file != OS_NONE)) != 0) return st;
        if (file != OS_NONE && (st = check_file(c)) != 0) return st;
        begin_message(c, *size, call);
        c->out.file = file;
        c->out.m.file = file != OS_NONE;
    } else if (file != c->out.file) {
        return ipcio__fail(IPCIO_INVALID, "%s: another write is not finished; repeat that with the same data", c->base.text);
    }
    return 0;
}

static inline int write_whole(ipcio_conn *c, const void *data, size_t size, uint32_t call, os_fd file)
{
    if (c->out.state == WRITE_IDLE && size < c->out.too_long && file == OS_NONE) {
        begin_message(c, size, call);
        if (c->transport->put) {
            int st = c->transport->put(c, &c->out.m, data);
            if (st <= 0) return was_written(c, st);
        }
        c->out.file = OS_NONE;
    } else {
        int st = admit(c, &data, &size, call, file);
        if (st != 0) return st;
    }
    int st = write_some(c, data, size, true);
    c->out.state = c->out.data ? WRITE_WHOLE : WRITE_IDLE; /* unfinished, maybe another */
    return was_written(c, st);
}

static IPCIO_SLOW int write_until(ipcio_conn *c, const void *data, size_t size, int timeout, os_fd file, int want)
{
    HANDLE_BLOCK_INSIDE(&c->base, IPCIO_WANT_WRITE, timeout, want, write_whole(c, data, size, 0, file));
}

static inline int write_with(ipcio_conn *c, const void *data, size_t size, int timeout, os_fd file)
{
    int st = enter_for(c, IPCIO_WANT_WRITE, timeout, IPCIO_TRY);
    if (st != 0) return st;
    st = write_whole(c, data, size, 0, file);
    if (st > 0 && timeout != IPCIO_TRY) return write_until(c, data, size, timeout, file, st);
    return handle_leave_with(&c->base, IPCIO_WANT_WRITE, st);
}

int ipcio_write(ipcio_conn *c, const void *data, size_t size, int timeout)
{
    return write_with(c, data, size, timeout, OS_NONE);
}

int ipcio_send_file(ipcio_conn *c, intptr_t file, const void *data, size_t size, int timeout)
{
    if (file < 0) return ipcio__fail(IPCIO_INVALID, "%s: %lld is not an open file", c->base.text, (long long)file);
    return write_with(c, data, size, timeout, file);
}

/* ------------------------------------------------------------------------------------------ calling */

/* Inside both sides. */
static int call_step(ipcio_conn *c, const void *data, size_t size, int timeout, const void **answer, size_t *answer_size)
{
    int st;
    if (c->in.state == READ_PIECES) return in_pieces(c); /* before anything is sent */
    if (c->calling == CALL_IDLE) {
        if (++c->out.calls == 0) c->out.calls = 1;
        c->calling = CALL_WRITING;
    }
    if (c->calling == CALL_WRITING) {
        if ((st = write_whole(c, data, size, c->out.calls, OS_NONE)) != 0) return st;
        c->calling = CALL_READING;
    }
    return read_message(c, answer, answer_size, timeout);
}

static int try_call(ipcio_conn *c, const void *data, size_t size, int timeout, const void **answer, size_t *answer_size)
{
    int st = enter(c, IPCIO_WANT_WRITE);
    if (st != 0) return st;
    if ((st = enter(c, IPCIO_WANT_READ)) == 0) {
        st = call_step(c, data, size, timeout, answer, answer_size);
        if (st < 0) forget_call(c);
        if (st == 0) c->calling = CALL_IDLE;
        show_read_ahead(c);
        handle_leave(&c->base, IPCIO_WANT_READ);
    }
    return handle_leave_with(&c->base, IPCIO_WANT_WRITE, st);
}

int ipcio_call(ipcio_conn *c, const void *data, size_t size, int timeout, const void **answer, size_t *answer_size)
{
    if (timeout == IPCIO_SPIN) return try_call(c, data, size, timeout, answer, answer_size);
    HANDLE_BLOCK(c, timeout, try_call(c, data, size, timeout, answer, answer_size));
}

/* ----------------------------------------------------------------------------- in pieces, in place */

enum piece { READ_START, READ_BUFFER, READ_END, WRITE_START, WRITE_BUFFER, WRITE_END, WRITE_VIEW };

typedef struct {
    enum piece what;
    void *to;
    const void *data;
    uint64_t n;
    size_t *got;
    void **room;
} piece;

/* The next piece of what was converted. */
static int take_text(buffer *b, const piece *p)
{
    size_t n = buffer_size(b) < p->n ? buffer_size(b) : (size_t)p->n;
    if (n) memcpy(p->to, b->bytes + b->head, n);
    b->head += n;
    *p->got = n;
    return 0;
}

/* Conversion needs the whole of a message, whose pieces are then those of the result. */
static int start_text(ipcio_conn *c, size_t *size)
{
    const void *data;
    return read_message(c, &data, size, IPCIO_TRY);
}

static int start_pieces(ipcio_conn *c, size_t *size)
{
    int st = start(c);
    if (st != 0) return st;
    c->in.before.given_up = atomic_load_explicit(&c->given_up, memory_order_relaxed);
    c->in.before.answering = atomic_load_explicit(&c->answering, memory_order_relaxed);
    was_read(c);
    *size = (size_t)c->in.m.length;
    return 0;
}

static int read_next(ipcio_conn *c, const piece *p)
{
    if (c->in.rest == 0) c->in.end_asked = true;
    int st = text_converts(&c->options) ? take_text(&c->in.text, p) : c->transport->take(c, p->to, (size_t)p->n, p->got);
    if (st == 0) c->in.rest -= *p->got;
    if (st == IPCIO_ABORTED) was_not_read(c);
    return st;
}

static inline int read_piece(ipcio_conn *c, const piece *p)
{
    bool open = c->in.state == READ_PIECES, converts = text_converts(&c->options);
    int st;
    switch (p->what) {
    case READ_START:
        if (open || (c->in.state == READ_WHOLE && !converts))
            return ipcio__fail(IPCIO_INVALID,
                               open ? "%s: a message is being read already; end that first"
                                    : "%s: a read has begun to take the message; read it whole",
                               c->base.text);
        if ((st = converts ? start_text(c, p->got) : start_pieces(c, p->got)) != 0) return st;
        c->in.state = READ_PIECES;
        c->in.rest = *p->got;
        c->in.end_asked = false;
        return 0;
    case READ_BUFFER:
        if (open) return read_next(c, p);
        break;
    default:
        if (!open) break;
        end_message(c);
        return 0;
    }
    return ipcio__fail(IPCIO_INVALID, "%s: no message is being read in pieces; start one first", c->base.text);
}

static int keep_piece(ipcio_conn *c, const piece *p)
{
    buffer *b = &c->out.pieces;
    int st = buffer_reserve(b, (size_t)p->n);
    if (st != 0) return st;
    if (p->n) memcpy(b->bytes + b->tail, p->data, (size_t)p->n);
    b->tail += (size_t)p->n;
    c->out.done += p->n;
    return 0;
}

/* Sends what was collected, or filled in.  The former is this side's own, so it stays under way when the time is up. */
static int end_whole(ipcio_conn *c)
{
    size_t size = c->out.room ? c->out.room_size : buffer_size(&c->out.pieces);
    int st;
    c->out.state = c->out.data ? WRITE_WHOLE : WRITE_IDLE;
    if (c->out.room && c->out.room != c->out.pieces.bytes) {
        begin_message(c, size, 0);
        st = was_written(c, c->transport->commit(c, &c->out.m));
    } else {
        st = write_whole(c, c->out.pieces.bytes, size, 0, OS_NONE);
        bool unasked = c->out.state == WRITE_IDLE; /* the peer's limit is waited for */
        if (st > 0 && (unasked || !c->out.room)) c->out.state = WRITE_PIECES;
    }
    if (st <= 0) c->out.room = NULL;
    return st;
}

/* Room of this side's own.  The peer must not get what else was in this process's memory. */
static void *own_room(buffer *b, size_t n)
{
    if (!b->bytes || b->capacity < n || (b->capacity > KEEP_MOST && n < b->capacity / 4)) {
        buffer_free(b);
        if (!(b->bytes = calloc(1, n ? n : 1))) return NULL;
        b->capacity = n;
    }
    return b->bytes;
}

static int make_room(ipcio_conn *c, uint64_t n, void **room)
{
    if (c->out.state == WRITE_PIECES && c->out.room) c->out.state = WRITE_IDLE;
    if (c->out.state != WRITE_IDLE)
        return ipcio__fail(IPCIO_INVALID, "%s: a message is being written already; end that first", c->base.text);
    c->out.data = c->out.room = *room = NULL;
    int st = check_size(c, n, false);
    if (st == 0 && c->transport->reserve && !text_converts(&c->options)) st = c->transport->reserve(c, n, room);
    if (st != 0) return st;
    if (!*room && !(*room = own_room(&c->out.pieces, (size_t)n)))
        return ipcio__fail(IPCIO_NOMEMORY, "%s: no memory for a message of %llu bytes", c->base.text,
                           (unsigned long long)n);
    c->out.room = *room;
    c->out.room_size = (size_t)n;
    c->out.state = WRITE_PIECES;
    return 0;
}

static inline int write_piece(ipcio_conn *c, const piece *p)
{
    bool open = c->out.state == WRITE_PIECES, converts = text_converts(&c->options);
    int st;
    switch (p->what) {
    case WRITE_START:
        if (c->out.state != WRITE_IDLE)
            return ipcio__fail(IPCIO_INVALID, "%s: a message is being written already; end that first", c->base.text);
        if ((st = check_size(c, p->n, false)) != 0) return st;
        if (converts) {
            c->out.m.length = p->n;
            c->out.done = c->out.pieces.head = c->out.pieces.tail = 0;
        } else {
            begin_message(c, p->n, 0);
        }
        c->out.state = WRITE_PIECES;
        return 0;
    case WRITE_VIEW:
        return make_room(c, p->n, p->room);
    case WRITE_BUFFER:
        if (!open || c->out.room || (converts && c->out.data)) break;
        if (p->n > c->out.m.length - c->out.done)
            return ipcio__fail(IPCIO_INVALID, "%s: %llu bytes are more than the %llu that are left of the message",
                               c->base.text, (unsigned long long)p->n,
                               (unsigned long long)(c->out.m.length - c->out.done));
        if (converts) return keep_piece(c, p);
        if ((st = write_some(c, p->data, (size_t)p->n, false)) == 0) c->out.done += p->n;
        return st;
    default:
        if (c->out.room) return end_whole(c);
        if (converts && (c->out.data || (open && c->out.done == c->out.m.length))) return end_whole(c);
        if (!open) break;
        if (c->out.done == c->out.m.length) {
            st = was_written(c, write_some(c, NULL, 0, true));
        } else {
            if (!converts) c->transport->abort(c);
            c->out.data = NULL;
            st = ipcio__fail(IPCIO_INVALID, "%s: %llu bytes of the message were still to come; it was given up",
                             c->base.text, (unsigned long long)(c->out.m.length - c->out.done));
        }
        if (st <= 0) c->out.state = WRITE_IDLE;
        return st;
    }
    return ipcio__fail(IPCIO_INVALID,
                       !open         ? "%s: no message is being written in pieces; start one first"
                       : c->out.room ? "%s: a message is being written in place: fill in its room, and end it"
                                     : "%s: all of the message is there; end it",
                       c->base.text);
}

static inline int piece_step(ipcio_conn *c, int side, const piece *p)
{
    if (side == IPCIO_WANT_WRITE) return write_piece(c, p);
    int st = read_piece(c, p);
    show_read_ahead(c);
    return st;
}

static IPCIO_SLOW int piece_until(ipcio_conn *c, int side, int timeout, const piece *p, int want)
{
    HANDLE_BLOCK_INSIDE(&c->base, side, timeout, want, piece_step(c, side, p));
}

/* By its address: copied, it would be loaded wider than it was just stored, for which processors wait. */
static inline int move_piece(ipcio_conn *c, int side, int timeout, const piece *p)
{
    int st = enter_for(c, side, timeout, IPCIO_TRY);
    if (st != 0) return st;
    st = piece_step(c, side, p);
    if (st > 0 && timeout != IPCIO_TRY) return piece_until(c, side, timeout, p, st);
    return handle_leave_with(&c->base, side, st);
}

int ipcio_read_start(ipcio_conn *c, int timeout, size_t *size)
{
    return move_piece(c, IPCIO_WANT_READ, timeout, &(piece){.what = READ_START, .got = size});
}

int ipcio_read_buffer(ipcio_conn *c, void *to, size_t n, int timeout, size_t *got)
{
    return move_piece(c, IPCIO_WANT_READ, timeout, &(piece){.what = READ_BUFFER, .to = to, .n = n, .got = got});
}

int ipcio_read_end(ipcio_conn *c, int timeout)
{
    return move_piece(c, IPCIO_WANT_READ, timeout, &(piece){.what = READ_END});
}

int ipcio_write_start(ipcio_conn *c, size_t length, int timeout)
{
    return move_piece(c, IPCIO_WANT_WRITE, timeout, &(piece){.what = WRITE_START, .n = length});
}

int ipcio_write_buffer(ipcio_conn *c, const void *data, size_t n, int timeout)
{
    return move_piece(c, IPCIO_WANT_WRITE, timeout, &(piece){.what = WRITE_BUFFER, .data = data, .n = n});
}

int ipcio_write_end(ipcio_conn *c, int timeout)
{
    return move_piece(c, IPCIO_WANT_WRITE, timeout, &(piece){.what = WRITE_END});
}

int ipcio_write_view(ipcio_conn *c, size_t length, int timeout, void **to)
{
    return move_piece(c, IPCIO_WANT_WRITE, timeout, &(piece){.what = WRITE_VIEW, .n = length, .room = to});
}
