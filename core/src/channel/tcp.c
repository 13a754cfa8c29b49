/* tcp.c - the transport `tcp`: a byte stream between processes of this or of another machine.
 *
 * tcp://HOST:PORT; a PORT alone is this machine's.  On a port everybody can call, so accept hands out only clients of
 * this user, or root, where they are of this machine.  The kernel tells whose a live socket is, not whose one was that
 * was closed again.  So a server leaves a key, and how long a message it takes, in a file of ipcio's folder, and this
 * user's clients show the key in their HELLO.  Clients from elsewhere learn the limit by the server's HELLO. */
#include <string.h>

#include "channel/port.h"
#include "channel/stream.h"

_Static_assert((int)PORT_KEY == (int)STREAM_KEY, "HELLO has no room for the key");

typedef struct {
    ipcio_server base;
    namelock lock; /* of the record; not held where there is no folder for it */
    uint8_t key[PORT_KEY];
} tcp_server;

typedef struct {
    stream stream;
    /* while connecting: */
    os_endpoint endpoints[PORT_ENDPOINTS]; /* of the host, in the system's order */
    size_t count, next;
    os_fd trying; /* on its way to the one before `next`, */
    bool on_way;  /* if it is */
    /* of a server's client: */
    const uint8_t *key; /* the server's, valid until the client is greeted; NULL on the client's side */
    bool admitted;      /* whatever it says in HELLO */
    int user_known;     /* as os_tcp_user */
    int64_t user;
} tcp_conn;

static tcp_server *server_of(ipcio_server *s)
{
    return (tcp_server *)s;
}

static tcp_conn *conn_of(ipcio_conn *c)
{
    return (tcp_conn *)c;
}

/* ------------------------------------------------------------------------------------------ serving */

static int tcp_listen(ipcio_server *base)
{
    tcp_server *s = server_of(base);
    const char *text = base->address.text;
    os_endpoint endpoints[PORT_ENDPOINTS];
    size_t n;
    int st = port_resolve(&base->address, endpoints, &n);
    if (st != 0) return st;
    if ((st = os_random(s->key, sizeof s->key)) != 0) return ipcio__fail_os(st, "%s: there is no randomness", text);
    size_t i;
    int looks = 0;
    do {
        for (i = 0; i < n; i++)
            if ((st = os_tcp_listen(&endpoints[i], &base->listener)) == 0) break;
    } while (st == IPCIO_EXISTS && namelock_look_again(&looks));
    if (st == IPCIO_EXISTS) return ipcio__fail(st, "%s: the port is in use", text);
    if (st != 0) return ipcio__fail_os(st, "%s: cannot listen", text);
    if ((st = port_fill_in(&base->address, &endpoints[i])) != 0) {
        os_close(base->listener);
        base->listener = OS_NONE;
        return st;
    }
    port_publish(base, base->listener, &endpoints[i], s->key, &s->lock);
    return 0;
}

static void tcp_unlisten(ipcio_server *base)
{
    os_close(base->listener);
    namelock_drop(&server_of(base)->lock);
}

static void tcp_abandon_server(ipcio_server *base)
{
    os_close(base->listener);
    namelock_abandon(&server_of(base)->lock);
}

static int tcp_accept(ipcio_server *base, ipcio_conn *c)
{
    tcp_conn *t = conn_of(c);
    os_fd fd, spare; /* for asking who it is: without one the client stays in the queue */
    int st = os_bell_new(&spare);
    if (st == 0) {
        st = os_accept(base->listener, &fd);
        os_close(spare);
    }
    if (st < 0) return ipcio__fail_os(st, "%s: cannot accept", base->address.text);
    if (st > 0) return st;
    (void)os_tcp_tune(fd, base->options.keepalive); /* fails where the client has gone again */
    t->user_known = os_tcp_user(fd, false, &t->user);
    t->key = server_of(base)->key;
    t->admitted = c->options.access == ACCESS_ALL || t->user_known == IPCIO_UNSUPPORTED ||
                  (t->user_known == 0 && (t->user == os_user() || t->user == 0));
    stream_open(c, fd);
    return 0;
}

static int tcp_greeted(ipcio_conn *c)
{
    tcp_conn *t = conn_of(c);
    bool refused = t->key && !t->admitted && t->user_known == 0; /* known to be another's, whatever it says */
    int st = refused ? IPCIO_DENIED : stream_greeted(c);
    if (st > 0 || !t->key) return st;
    bool shown = st == 0 && memcmp(t->stream.in.key, t->key, STREAM_KEY) == 0;
    if (shown && t->user_known == IPCIO_MISSING) {
        t->user_known = 0;
        t->user = os_user();
    }
    if (!shown && !t->admitted)
        return ipcio__fail(refused ? IPCIO_DENIED : IPCIO_MISSING, "%s: the client is not this user's; access=all admits others",
                           c->base.text);
    /* Who has the key has read the limit beside it. */
    return st == 0 && !shown ? stream_hello(c) : st;
}

/* -------------------------------------------------------------------------------------- connecting */

/* What the server at the endpoint tells this user's clients; others have to wait for its HELLO. */
static void read_record(tcp_conn *t, const os_endpoint *at)
{
    port_record r;
    if (!port_ask(&t->stream.conn, t->trying, at, &r)) return;
    atomic_store_explicit(&t->stream.conn.peer_limit, r.limit, memory_order_relaxed);
    memcpy(t->stream.out.key, r.key, sizeof r.key);
}

static void stop_trying(tcp_conn *t)
{
    if (t->on_way) os_close(t->trying);
    t->on_way = false;
}

/* One step to an endpoint: 0, WANT_WRITE, or why not. */
static int step(tcp_conn *t)
{
    int st = 0;
    if (!t->on_way) {
        st = os_tcp_connect(&t->endpoints[t->next++], &t->trying);
        t->on_way = st == 0;
    }
    if (st == 0) st = os_tcp_connected(t->trying);
    if (st == 0) st = os_tcp_tune(t->trying, t->stream.conn.options.keepalive);
    if (st < 0) stop_trying(t);
    return st;
}

static int open_stream(ipcio_conn *c)
{
    tcp_conn *t = conn_of(c);
    c->base.side[IPCIO_WANT_READ].pause = 0;
    t->on_way = false;
    t->user_known = os_tcp_user(t->trying, true, &t->user);
    read_record(t, &t->endpoints[t->next - 1]);
    c->limit_comes = c->options.framing == FRAMING_MESSAGE && !c->peer_limit;
    stream_open(c, t->trying);
    return stream_hello(c);
}

static int tcp_connect(ipcio_conn *c)
{
    tcp_conn *t = conn_of(c);
    int st = t->count ? 0 : port_resolve(&c->address, t->endpoints, &t->count);
    if (st != 0 && st != IPCIO_MISSING) return st;
    while (t->next < t->count || t->on_way) {
        if ((st = step(t)) == 0) return open_stream(c);
        if (st > 0) {
            c->base.side[IPCIO_WANT_READ].fd = t->trying;
            c->base.side[IPCIO_WANT_READ].want = IPCIO_WANT_WRITE;
            c->base.side[IPCIO_WANT_READ].pause = 0;
            return IPCIO_WANT_READ;
        }
    }
    t->next = t->count = 0;
    port_look_again(c);
    if (st == IPCIO_MISSING) return ipcio__fail_os(st, "%s: nobody serves the port", c->base.text);
    return ipcio__fail_os(st, "%s: cannot connect", c->base.text);
}

static int tcp_peer(ipcio_conn *c, ipcio_peer *peer)
{
    *peer = (ipcio_peer){.pid = -1, .uid = conn_of(c)->user, .gid = -1};
    return conn_of(c)->user_known == 0 ? 0 : IPCIO_UNSUPPORTED;
}

static void tcp_abandon(ipcio_conn *c)
{
    stream_close(c);
    stop_trying(conn_of(c));
}

static void tcp_close(ipcio_conn *c)
{
    if (conn_of(c)->stream.open) os_tcp_finish(conn_of(c)->stream.fd);
    tcp_abandon(c);
}

const transport transport_tcp = {
    .scheme = "tcp",
    .options = OWN_KEEPALIVE | OWN_ACCESS,
    .server_size = sizeof(tcp_server),
    .conn_size = sizeof(tcp_conn),
    .listen = tcp_listen,
    .accept = tcp_accept,
    .unlisten = tcp_unlisten,
    .abandon_server = tcp_abandon_server,
    .connect = tcp_connect,
    .greeted = tcp_greeted,
    .start = stream_start,
    .view = stream_view,
    .take = stream_take,
    .end = stream_end,
    .write = stream_write,
    .abort = stream_abort,
    .arrived = stream_arrived,
    .ready = stream_ready,
    .peer = tcp_peer,
    .wake = stream_wake,
    .close = tcp_close,
    .abandon = tcp_abandon,
    .forget = stream_forget,
};
