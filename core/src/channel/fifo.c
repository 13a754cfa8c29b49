/* fifo.c - the transport `fifo`: a FIFO of the system, to meet `echo >` and `cat`.  See docs/design/fifo.md.
 *
 * A server makes the FIFO, or uses the one that is there, and reads.  Its client is whoever writes: a connection lasts
 * from the first byte until nobody has the FIFO open for writing, so several writers at a time are one client, and the
 * server waits for the next when it has read the end.  A client of ipcio writes, or reads what others write.
 *
 * A FIFO cannot be shut down to wake who waits for it.  So each side waits for a set of it and of a bell. */
#include "channel/rendezvous.h"
#include "channel/stream.h"

typedef struct fifo_conn fifo_conn;

typedef struct {
    rendezvous_server rendezvous;
    fifo_conn *client; /* of which the end was not read; under the process's lock */
} fifo_server;

struct fifo_conn {
    stream stream;
    rendezvous rendezvous;
    fifo_server *server; /* that waits for the end; NULL: none; under the process's lock */
    bool reads;
    _Atomic bool ended; /* by this side */
    bool waits; /* there are, or OS_NONE, */
    os_fd bell, set[IPCIO_WANT_WRITE + 1]; /* by side */
};

static fifo_server *server_of(ipcio_server *s)
{
    return (fifo_server *)s;
}

static fifo_conn *conn_of(ipcio_conn *c)
{
    return (fifo_conn *)c;
}

static int check_options(const options *o, const char *text)
{
    if (o->framing != FRAMING_MESSAGE) return 0;
    return ipcio__fail(IPCIO_INVALID, "%s: a FIFO has one direction, so framing=line or framing=raw is needed", text);
}

static int open_to_read(const char *path, os_fd *fd)
{
    return os_fifo_open(path, true, fd);
}

static int make_to_read(const char *path, os_fd *fd)
{
    int st = os_fifo_make(path);
    if (st != 0) return st;
    st = open_to_read(path, fd);
    if (st != 0) (void)os_file_remove(path);
    return st;
}

static int open_to_write(const char *path, os_fd *fd)
{
    return os_fifo_open(path, false, fd);
}

/* ------------------------------------------------------------------------------------- connections */

static void close_waiting(fifo_conn *f)
{
    if (!f->waits) return;
    os_close(f->bell);
    for (int side = IPCIO_WANT_READ; side <= IPCIO_WANT_WRITE; side++) os_close(f->set[side]);
    f->waits = false;
}

/* What to wait for `fd` with.  Of a reader, no one waits for the other side. */
static int open_waiting(fifo_conn *f, os_fd fd, const char *text)
{
    f->bell = f->set[IPCIO_WANT_READ] = f->set[IPCIO_WANT_WRITE] = OS_NONE;
    f->waits = true;
    int st = os_bell_new(&f->bell);
    for (int side = IPCIO_WANT_READ; st == 0 && side <= (f->reads ? IPCIO_WANT_READ : IPCIO_WANT_WRITE); side++) {
        st = os_set_new(&f->set[side]);
        if (st == 0) st = os_set_put(f->set[side], f->bell, IPCIO_WANT_READ, NULL);
        if (st == 0) st = os_set_put(f->set[side], fd, side, NULL);
    }
    return st == 0 ? 0 : ipcio__fail_os(st, "%s: cannot make descriptors to wait with", text);
}

static void use_waiting(fifo_conn *f)
{
    for (int side = IPCIO_WANT_READ; side <= IPCIO_WANT_WRITE; side++) {
        f->stream.conn.base.side[side].fd = f->set[side];
        f->stream.conn.base.side[side].want = IPCIO_WANT_READ;
    }
}

static int fifo_connect(ipcio_conn *c)
{
    fifo_conn *f = conn_of(c);
    int st = check_options(&c->options, c->address.text);
    if (st != 0) return st;
    f->reads = c->options.direction == DIRECTION_READ;
    st = rendezvous_connect(c, &f->rendezvous, f->reads ? open_to_read : open_to_write, stream_open);
    if (st == IPCIO_EXISTS) return ipcio__fail(IPCIO_INVALID, "%s: what is there is not a FIFO", c->address.text);
    if (st == IPCIO_MISSING) {
        c->missing = f->reads ? "there was no such FIFO" : "nobody had the FIFO open to read";
        return ipcio__fail(st, f->reads ? "%s: there is no such FIFO" : "%s: nobody has the FIFO open to read", c->address.text);
    }
    if (st != 0) return st;
    st = open_waiting(f, f->stream.fd, c->address.text);
    if (st == 0) use_waiting(f);
    return st;
}

static int fifo_greeted(ipcio_conn *c)
{
    (void)c;
    return 0;
}

/* The server may look for the next client. */
static void give_back(fifo_server *s)
{
    s->client->server = NULL;
    s->client = NULL;
    ipcio_server *base = &s->rendezvous.base;
    os_fd next = OS_NONE;
    /* The listener has seen that client come and go, which is no news. */
    if (open_to_read(s->rendezvous.path, &next) == 0 && os_fifo_look(base->listener) == IPCIO_CLOSED) {
        os_close(base->listener);
        base->listener = next;
    } else {
        os_close(next);
    }
    if (next == OS_NONE || os_set_put(base->epoll, base->listener, IPCIO_WANT_READ, base) != 0)
        os_bell_ring(base->bell); /* accept tries again */
}

static void leave_server(fifo_conn *f)
{
    process_lock();
    if (f->server) give_back(f->server);
    process_unlock();
}

static int has_ended(const ipcio_conn *c)
{
    return ipcio__fail(IPCIO_CLOSED, "%s: this side has ended the connection", c->base.text);
}

static int fifo_start(ipcio_conn *c, message *m)
{
    fifo_conn *f = conn_of(c);
    if (!f->reads)
        return ipcio__fail(IPCIO_UNSUPPORTED, "%s: this side only writes; direction=read reads", c->base.text);
    if (atomic_load(&f->ended)) return has_ended(c);
    int st = stream_start(c, m);
    if (st == IPCIO_CLOSED) leave_server(f);
    return st;
}

static int fifo_write(ipcio_conn *c, bool last)
{
    if (conn_of(c)->reads) return ipcio__fail(IPCIO_UNSUPPORTED, "%s: this side only reads", c->base.text);
    if (c->out.m.call) return ipcio__fail(IPCIO_UNSUPPORTED, "%s: no answer can come; nothing was sent", c->base.text);
    if (atomic_load(&conn_of(c)->ended)) return has_ended(c);
    return stream_write(c, last);
}

static bool fifo_arrived(ipcio_conn *c, int want)
{
    return conn_of(c)->reads && stream_arrived(c, want);
}

static os_fd fifo_write_fd(ipcio_conn *c)
{
    return conn_of(c)->reads ? OS_NONE : conn_of(c)->stream.fd;
}

static int fifo_peer(ipcio_conn *c, ipcio_peer *peer)
{
    (void)c, (void)peer;
    return IPCIO_UNSUPPORTED;
}

static void fifo_wake(ipcio_conn *c)
{
    atomic_store(&conn_of(c)->ended, true);
    os_bell_ring(conn_of(c)->bell);
}

static void fifo_abandon(ipcio_conn *c)
{
    close_waiting(conn_of(c));
    stream_close(c);
    rendezvous_close(&conn_of(c)->rendezvous);
}

static void fifo_close(ipcio_conn *c)
{
    fifo_abandon(c);
    leave_server(conn_of(c));
}

/* ------------------------------------------------------------------------------------------ serving */

static int fifo_listen(ipcio_server *s)
{
    static const rendezvous_place place = {make_to_read, open_to_read};
    int st = check_options(&s->options, s->address.text);
    if (st != 0) return st;
    if (s->options.direction == DIRECTION_WRITE)
        return ipcio__fail(IPCIO_UNSUPPORTED, "%s: who listens reads; to write, connect", s->address.text);
    if ((st = rendezvous_listen_at(s, &place)) != 0) return st;
    (void)os_watch(server_of(s)->rendezvous.path, &s->watch); /* where nothing watches, accept looks when it is woken */
    return 0;
}

static void fifo_unlisten(ipcio_server *base)
{
    fifo_server *s = server_of(base);
    process_lock();
    if (s->client) s->client->server = NULL;
    s->client = NULL;
    process_unlock();
    rendezvous_unlisten(base);
}

/* Nobody wrote: another end takes the place of the listener, which goes on telling that a writer came and went. */
static int renew(ipcio_server *s, os_fd next)
{
    int st = os_set_put(s->epoll, next, IPCIO_WANT_READ, s);
    if (st != 0) return ipcio__fail_os(st, "%s: cannot accept", s->address.text);
    os_set_drop(s->epoll, s->listener);
    os_close(s->listener);
    s->listener = next;
    return IPCIO_WANT_READ;
}

/* The client gets the listener, which sees its end for certain, and the server the next end. */
static int hand_over(ipcio_server *s, fifo_conn *f, os_fd next)
{
    f->reads = true;
    int st = open_waiting(f, s->listener, s->address.text);
    if (st != 0) return st;
    stream_open(&f->stream.conn, s->listener);
    use_waiting(f);
    f->server = server_of(s);
    f->server->client = f;
    os_set_drop(s->epoll, s->listener);
    s->listener = next;
    return 0;
}

/* Whether the FIFO may have been removed since it was asked last, or another put in its place. */
static bool may_be_gone(ipcio_server *s)
{
    if (s->watch != OS_NONE && !os_watch_clear(s->watch)) return false;
    if (s->watch != OS_NONE) os_set_drop(s->epoll, s->watch);
    os_close(s->watch);
    s->watch = OS_NONE;
    if (os_watch(server_of(s)->rendezvous.path, &s->watch) == 0)
        (void)os_set_put(s->epoll, s->watch, IPCIO_WANT_READ, s);
    return true;
}

static int find_writer(ipcio_server *base, ipcio_conn *c)
{
    fifo_server *s = server_of(base);
    os_fd next = OS_NONE;
    bool news = may_be_gone(base);
    if (s->client) return IPCIO_WANT_READ; /* whose end has this looked at again */
    int st = os_set_put(base->epoll, base->listener, IPCIO_WANT_READ, base);
    if (st != 0) return ipcio__fail_os(st, "%s: cannot accept", base->address.text);
    if (!news && os_fifo_look(base->listener) == IPCIO_WANT_READ) return IPCIO_WANT_READ;
    /* Before looking again, so that it sees whoever comes later. */
    st = open_to_read(s->rendezvous.path, &next);
    if (st == IPCIO_MISSING || st == IPCIO_EXISTS) {
        os_bell_ring(base->bell); /* to tell it again */
        return ipcio__fail(IPCIO_ORPHANED, "%s: the FIFO was removed; listen again to make a new one", base->address.text);
    }
    if (st != 0) return ipcio__fail_os(st, "%s: cannot accept", base->address.text);
    st = os_fifo_look(base->listener) == 0 ? hand_over(base, conn_of(c), next) : renew(base, next);
    if (st < 0) os_close(next);
    return st;
}

static int fifo_accept(ipcio_server *s, ipcio_conn *c)
{
    process_lock();
    int st = find_writer(s, c);
    process_unlock();
    return st;
}

const transport transport_fifo = {
    .scheme = "fifo",
    .options = OWN_DIRECTION,
    .framing = FRAMING_LINE,
    .server_size = sizeof(fifo_server),
    .conn_size = sizeof(fifo_conn),
    .listen = fifo_listen,
    .accept = fifo_accept,
    .unlisten = fifo_unlisten,
    .abandon_server = rendezvous_abandon_server,
    .connect = fifo_connect,
    .greeted = fifo_greeted,
    .start = fifo_start,
    .view = stream_view,
    .take = stream_take,
    .end = stream_end,
    .write = fifo_write,
    .abort = stream_abort,
    .arrived = fifo_arrived,
    .ready = stream_ready,
    .write_fd = fifo_write_fd,
    .peer = fifo_peer,
    .wake = fifo_wake,
    .close = fifo_close,
    .abandon = fifo_abandon,
    .forget = stream_forget,
};
