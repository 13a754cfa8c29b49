/* udp.c - the transport `udp`: whole datagrams, which may be lost.
 *
 * udp://HOST:PORT; a PORT alone is this machine's.  A message is one datagram.  A server has one connection for all its
 * senders: writing answers who sent what was read last.  While it is open the next accept waits.  docs/design/udp.md
 * tells why.  In the framing `message` a datagram begins with
 *
 *     0   2  magic     "iu"
 *     2   1  version   1
 *     3   1  flags     1: `call` is the number of the call that this answers
 *                      2: HELLO, which is no message: a client lets the server accept and write first
 *                      4: BYE, none either: the sender closes
 *     4   4  call      the number of a call, 0 for none, little-endian
 *     8   16 key       of the server's record, which shows that the sender is this user; or zeros
 *
 * and what does not is dropped, since it can be anybody's.  In `raw` and `line` there is nothing but the message. */
#include <stdio.h>
#include <string.h>

#include "channel/line.h"
#include "channel/port.h"

enum { HEADER = 24, VERSION = 1, FLAG_ANSWER = 1, FLAG_HELLO = 2, FLAG_BYE = 4 };
enum {
    ROOM = 65536,     /* for a datagram */
    UNREAD = 4 << 20, /* for those that nobody has read, if the system gives as much */
    LOOKS = 64        /* datagrams to look at in one try, should they all be dropped */
};

typedef struct udp_conn udp_conn;

typedef struct {
    ipcio_server base; /* whose listener is a set: it shows the socket while no connection has it */
    os_fd socket;
    os_endpoint at;
    bool shared;   /* a group, where others may listen as well */
    udp_conn *out; /* the connection that has the socket; under the process's lock */
    namelock lock; /* of the record; not held where there is no folder for it */
    uint8_t key[PORT_KEY];
} udp_server;

struct udp_conn {
    ipcio_conn conn;
    os_fd fd;
    bool open;             /* there is fd to give back */
    bool shared;           /* it is not connected: each datagram names where it goes, and everybody is heard */
    uint8_t key[PORT_KEY]; /* a client's to show, a server's to see */
    const char *_Atomic over; /* why nothing more is sent or comes, or NULL */
    /* of a client's: */
    os_endpoint to;
    int user_known; /* as os_udp_user */
    int64_t user;
    /* of a server's: */
    bool serves;
    udp_server *server; /* gets the socket back; NULL when it is closed; under the process's lock */
    os_fd set, bell;    /* what reading waits for: the socket, and the bell that wakes */
    bool asks;          /* not everybody may send */
    os_endpoint at;
    os_endpoint opener; /* whose BYE ends it */

    os_mutex lock;
    os_endpoint sender; /* of the message started last, or who opened it; size 0: none.  Under the lock */

    struct { /* inside the reading side */
        buffer datagram; /* the last that came, */
        bool have;       /* of which something is still to be started */
        os_endpoint from;
        uint32_t call;
        bool answer;
        bool inside; /* a message was started and its end not passed: */
        const uint8_t *at;
        size_t left;
        char text[3 * ADDRESS_NAME_MAX];
    } in;

    struct { /* inside the writing side */
        bool begun;
        os_endpoint to;
        buffer pieces; /* of a message whose last is still to come */
    } out;
};

static udp_server *server_of(ipcio_server *s)
{
    return (udp_server *)s;
}

static udp_conn *conn_of(ipcio_conn *c)
{
    return (udp_conn *)c;
}

/* Datagrams hold lines; or, with raw and nul=1, what a NUL ends. */
static bool is_cut(const ipcio_conn *c)
{
    return c->options.framing == FRAMING_LINE || (c->options.framing == FRAMING_RAW && c->options.nul);
}

/* ------------------------------------------------------------------------------------------ reading */

static const char no_port[] = "nobody has the port any more";

static const char *is_over(udp_conn *u)
{
    return atomic_load_explicit(&u->over, memory_order_acquire);
}

/* Ends both directions, and wakes who waits. */
static void end(udp_conn *u, const char *why)
{
    const char *before = NULL;
    (void)atomic_compare_exchange_strong(&u->over, &before, why);
    if (u->serves) os_bell_ring(u->bell); /* the socket goes on */
    else os_shutdown(u->fd);
}

static int over(udp_conn *u)
{
    return ipcio__fail(IPCIO_CLOSED, "%s: %s", u->conn.base.text, is_over(u));
}

/* Whether the datagram that came is of one who may send, as far as the system tells; `key` is what he shows. */
static bool admitted(const udp_conn *u, const uint8_t *key)
{
    int64_t user;
    if (!u->asks || (key && memcmp(key, u->key, PORT_KEY) == 0)) return true;
    int st = os_udp_user(&u->in.from, &u->at, &user);
    return st == IPCIO_UNSUPPORTED || (st == 0 && (user == os_user() || user == 0));
}

enum { RUBBISH, HELLO, BYE, MESSAGE };

/* Takes the header off the datagram. */
static int look(udp_conn *u)
{
    buffer *b = &u->in.datagram;
    const uint8_t *h = b->bytes;
    if (u->conn.options.framing != FRAMING_MESSAGE) return admitted(u, NULL) ? MESSAGE : RUBBISH;
    if (b->tail < HEADER || h[0] != 'i' || h[1] != 'u' || h[2] != VERSION || !admitted(u, h + 8)) return RUBBISH;
    if (h[3] & (FLAG_HELLO | FLAG_BYE)) return h[3] & FLAG_HELLO ? HELLO : BYE;
    u->in.answer = h[3] & FLAG_ANSWER;
    u->in.call = (uint32_t)h[4] | (uint32_t)h[5] << 8 | (uint32_t)h[6] << 16 | (uint32_t)h[7] << 24;
    b->head = HEADER;
    return MESSAGE;
}

static bool same(const os_endpoint *a, const os_endpoint *b)
{
    return a->size == b->size && memcmp(a->bytes, b->bytes, a->size) == 0;
}

static void set_sender(udp_conn *u)
{
    os_lock(&u->lock);
    u->sender = u->in.from;
    os_unlock(&u->lock);
}

static os_endpoint get_sender(udp_conn *u)
{
    os_lock(&u->lock);
    os_endpoint e = u->sender;
    os_unlock(&u->lock);
    return e;
}

/* Receives one datagram: what it is, or a status. */
static int receive_one(udp_conn *u, int *what)
{
    buffer *b = &u->in.datagram;
    *what = RUBBISH;
    b->head = b->tail = 0;
    int st = os_udp_receive(u->fd, b->bytes, b->capacity, &b->tail, &u->in.from);
    if (st == 0) *what = look(u);
    if (*what == BYE && !(u->serves ? same(&u->in.from, &u->opener) : !u->shared)) *what = RUBBISH;
    return st;
}

/* Receives until there is a message to start; or, in accept, who opens the connection. */
static int receive(udp_conn *u, bool opening)
{
    int st = u->in.datagram.capacity ? 0 : buffer_reserve(&u->in.datagram, ROOM);
    if (st == 0 && u->serves && is_over(u)) return over(u); /* what comes now is for the next */
    for (int i = 0; st == 0 && i < LOOKS; i++) {
        int what;
        st = receive_one(u, &what);
        if (what == BYE) end(u, "the peer has closed the connection");
        if (what == BYE || (st > 0 && is_over(u))) return over(u);
        if (st == IPCIO_CLOSED) { /* which is told once, and before what came earlier */
            end(u, no_port);
            st = 0;
            continue;
        }
        if (st < 0) return ipcio__fail_os(st, "%s: cannot read", u->conn.base.text);
        u->in.have = what == MESSAGE;
        if (opening && what != RUBBISH) set_sender(u);
        if (what == MESSAGE || (what == HELLO && opening)) return 0;
    }
    return st == 0 ? IPCIO_WANT_READ : st;
}

static int udp_start(ipcio_conn *c, message *m)
{
    udp_conn *u = conn_of(c);
    buffer *b = &u->in.datagram;
    int st = u->in.have ? 0 : receive(u, false);
    if (st != 0) return st;
    set_sender(u);
    u->in.inside = true;
    u->in.at = b->bytes + b->head;
    u->in.left = buffer_size(b);
    u->in.have = false;
    if (is_cut(c)) {
        const size_t unit = line_unit(c), length = line_find_end(c, u->in.at, 0, u->in.left);
        bool ends = length < u->in.left;
        b->head += length + (ends ? unit : 0);
        u->in.have = b->head < b->tail;
        u->in.left = ends && line_ends_in_return(c, u->in.at, length) ? length - unit : length;
    }
    *m = (message){.length = u->in.left, .call = u->in.call, .answer = u->in.answer};
    return 0;
}

static int udp_view(ipcio_conn *c, const void **data)
{
    udp_conn *u = conn_of(c);
    *data = u->in.at;
    u->in.left = 0;
    return 0;
}

static int udp_take(ipcio_conn *c, void *to, size_t n, size_t *got)
{
    udp_conn *u = conn_of(c);
    *got = n < u->in.left ? n : u->in.left;
    if (*got) memcpy(to, u->in.at, *got);
    u->in.at += *got;
    u->in.left -= *got;
    return 0;
}

static void udp_end(ipcio_conn *c)
{
    conn_of(c)->in.inside = false;
}

static int udp_sender(ipcio_conn *c, const char **who)
{
    udp_conn *u = conn_of(c);
    char plain[ADDRESS_NAME_MAX];
    if (u->sender.size == 0) return ipcio__fail(IPCIO_MISSING, "%s: no message was read yet", c->base.text);
    int n = snprintf(u->in.text, sizeof u->in.text, "%s://", c->transport->scheme);
    if (os_endpoint_text(&u->sender, plain, sizeof plain) != 0 ||
        !address_encode(plain, u->in.text + n, sizeof u->in.text - (size_t)n))
        return ipcio__fail(IPCIO_SYSTEM, "%s: the sender's address cannot be written", c->base.text);
    *who = u->in.text;
    return 0;
}

static bool udp_ready(ipcio_conn *c)
{
    const udp_conn *u = conn_of(c);
    return u->in.have || (u->in.inside && u->in.left > 0);
}

static bool udp_arrived(ipcio_conn *c, int want)
{
    udp_conn *u = conn_of(c);
    if (want == IPCIO_WANT_WRITE) return false;
    return u->in.inside || u->in.have || receive(u, false) <= 0;
}

/* ------------------------------------------------------------------------------------------ writing */

static size_t make_header(const udp_conn *u, uint32_t call, int flags, uint8_t h[HEADER])
{
    memset(h, 0, HEADER);
    h[0] = 'i', h[1] = 'u', h[2] = VERSION, h[3] = (uint8_t)flags;
    for (int i = 0; i < 4; i++) h[4 + i] = (uint8_t)(call >> 8 * i);
    if (!u->serves) memcpy(h + 8, u->key, PORT_KEY);
    return HEADER;
}

/* A datagram that is no message.  Like all that is sent it may be lost. */
static void send_flag(udp_conn *u, int flag)
{
    uint8_t header[HEADER];
    const os_piece piece = {header, make_header(u, 0, flag, header)};
    os_endpoint to = u->serves ? get_sender(u) : u->to;
    if (u->conn.options.framing == FRAMING_MESSAGE) (void)os_udp_send(u->fd, u->shared ? &to : NULL, &piece, 1);
}

static int send_message(udp_conn *u, const message *m, const uint8_t *data, size_t n)
{
    ipcio_conn *c = &u->conn;
    uint8_t header[HEADER], behind[2] = {(uint8_t)line_terminator(c), 0};
    size_t before = 0;
    int st = is_cut(c) ? line_check(c, data, n, true) : 0;
    if (st != 0) return st;
    if (c->options.framing == FRAMING_MESSAGE) before = make_header(u, m->call, m->answer ? FLAG_ANSWER : 0, header);
    if (is_over(u)) return over(u);
    const os_piece pieces[] = {{header, before}, {(void *)(uintptr_t)data, n}, {behind, is_cut(c) ? line_unit(c) : 0}};
    st = os_udp_send(u->fd, u->shared ? &u->out.to : NULL, pieces, 3);
    if (st == IPCIO_CLOSED) {
        end(u, no_port);
        return over(u);
    }
    if (st == IPCIO_TOOBIG)
        return ipcio__fail(st, "%s: a message of %zu bytes is too long for the network; nothing was sent",
                           c->base.text, n);
    return st >= 0 ? st : ipcio__fail_os(st, "%s: cannot write", c->base.text);
}

static void udp_abort(ipcio_conn *c)
{
    udp_conn *u = conn_of(c);
    u->out.begun = false;
    buffer_free(&u->out.pieces);
}

static int udp_write(ipcio_conn *c, bool last)
{
    udp_conn *u = conn_of(c);
    buffer *b = &u->out.pieces;
    const message *m = &c->out.m;
    size_t n = c->out.size;
    int st = 0;
    if (!u->out.begun) u->out.to = u->serves ? get_sender(u) : u->to;
    u->out.begun = true;
    if (last && n == m->length) {
        if ((st = send_message(u, m, c->out.data, n)) == 0) c->out.taken = n;
    } else {
        if ((st = buffer_reserve(b, n)) != 0) return st;
        size_t left = n - c->out.taken;
        if (left) memcpy(b->bytes + b->tail, (const uint8_t *)c->out.data + c->out.taken, left);
        b->tail += left;
        c->out.taken = n;
        if (last) st = send_message(u, m, b->bytes + b->head, buffer_size(b));
    }
    if (last && st == 0) udp_abort(c); /* all of it is out */
    return st;
}

/* ------------------------------------------------------------------------------------------ serving */

/* What the framing leaves of the longest datagram. */
static void limit_length(ipcio_conn *c)
{
    uint32_t most = OS_DATAGRAM_MAX;
    if (c->options.framing == FRAMING_MESSAGE) most -= HEADER;
    else if (is_cut(c)) most -= (uint32_t)line_unit(c);
    c->carries = most;
}

static int no_interface(const char *text, const options *o)
{
    return ipcio__fail(IPCIO_INVALID, "%s: there is no interface \"%s\"", text, o->network);
}

/* The socket is shown to accept. */
static int show(udp_server *s)
{
    return os_set_put(s->base.listener, s->socket, IPCIO_WANT_READ, s);
}

static int udp_listen(ipcio_server *base)
{
    udp_server *s = server_of(base);
    os_endpoint endpoints[PORT_ENDPOINTS];
    size_t n;
    int looks = 0, st = port_resolve(&base->address, endpoints, &n);
    if (st != 0) return st;
    s->socket = OS_NONE;
    if ((st = os_random(s->key, sizeof s->key)) != 0)
        return ipcio__fail_os(st, "%s: there is no randomness", base->address.text);
    do {
        for (size_t i = 0; i < n; i++) {
            s->at = endpoints[i];
            if ((st = os_udp_listen(&s->at, base->options.network, &s->shared, &s->socket)) == 0) break;
        }
        if (st == 0 && (st = os_set_new(&base->listener)) == 0) st = show(s);
    } while (st == IPCIO_EXISTS && namelock_look_again(&looks));
    if (st == IPCIO_EXISTS) st = ipcio__fail(st, "%s: the port is in use", base->address.text);
    else if (st == IPCIO_INVALID) st = no_interface(base->address.text, &base->options);
    else if (st != 0) st = ipcio__fail_os(st, "%s: cannot listen", base->address.text);
    else st = port_fill_in(&base->address, &s->at);
    if (st != 0) {
        os_close(s->socket);
        os_close(base->listener);
        base->listener = OS_NONE;
        return st;
    }
    os_udp_room(s->socket, base->options.buffer ? base->options.buffer : UNREAD);
    if (!s->shared) port_publish(base, s->socket, &s->at, s->key, &s->lock);
    return 0;
}

static void close_listener(udp_server *s)
{
    os_close(s->base.listener);
    if (!s->out) os_close(s->socket);
}

static void udp_unlisten(ipcio_server *base)
{
    udp_server *s = server_of(base);
    process_lock();
    close_listener(s);
    if (s->out) s->out->server = NULL;
    process_unlock();
    namelock_drop(&s->lock);
}

static void udp_abandon_server(ipcio_server *base)
{
    close_listener(server_of(base));
    namelock_abandon(&server_of(base)->lock);
}

static int open_reading(udp_conn *u)
{
    u->set = u->bell = OS_NONE;
    int st = os_bell_new(&u->bell);
    if (st == 0) st = os_set_new(&u->set);
    if (st == 0) st = os_set_put(u->set, u->bell, IPCIO_WANT_READ, u);
    if (st == 0) st = os_set_put(u->set, u->fd, IPCIO_WANT_READ, u);
    return st;
}

static void close_reading(udp_conn *u)
{
    os_close(u->set);
    os_close(u->bell);
}

static void set_sides(udp_conn *u, os_fd reading)
{
    ipcio_conn *c = &u->conn;
    c->base.side[IPCIO_WANT_READ].fd = reading;
    c->base.side[IPCIO_WANT_WRITE].fd = u->fd;
    c->base.side[IPCIO_WANT_READ].want = IPCIO_WANT_READ;
    c->base.side[IPCIO_WANT_WRITE].want = IPCIO_WANT_WRITE;
    c->base.side[IPCIO_WANT_READ].pause = 0;
    u->open = true;
}

/* A client is known by what it sends first. */
static int lend_socket(ipcio_server *base, ipcio_conn *c)
{
    udp_server *s = server_of(base);
    udp_conn *u = conn_of(c);
    if (s->out) return IPCIO_WANT_READ;
    u->fd = s->socket;
    u->serves = u->shared = true;
    u->at = s->at;
    u->asks = c->options.access != ACCESS_ALL && !s->shared;
    memcpy(u->key, s->key, sizeof u->key);
    limit_length(c);
    int st = open_reading(u);
    if (st != 0) st = ipcio__fail_os(st, "%s: cannot accept", base->address.text);
    if (st == 0) st = receive(u, true);
    if (st != 0) {
        close_reading(u);
        return st;
    }
    u->opener = u->in.from;
    u->server = s;
    s->out = u;
    os_set_mute(base->listener, s->socket);
    set_sides(u, u->set);
    return 0;
}

static int udp_accept(ipcio_server *base, ipcio_conn *c)
{
    process_lock();
    int st = lend_socket(base, c);
    process_unlock();
    return st;
}

static int udp_greeted(ipcio_conn *c)
{
    (void)c;
    return 0;
}

/* -------------------------------------------------------------------------------------- connecting */

static void close_socket(udp_conn *u)
{
    if (u->open) os_close(u->fd);
    u->open = false;
}

/* To an endpoint where somebody is, as far as the system can tell. */
static int try_endpoint(udp_conn *u, os_endpoint *to)
{
    os_endpoint own;
    os_fd fd;
    int st = os_udp_connect(to, u->conn.options.network, u->conn.options.ttl, &u->shared, &fd);
    if (st != 0) return st;
    u->user_known = IPCIO_UNSUPPORTED;
    if (!u->shared && (st = os_endpoint_own(fd, &own)) == 0) u->user_known = os_udp_user(to, &own, &u->user);
    if (u->user_known == IPCIO_MISSING) st = IPCIO_MISSING;
    if (st != 0) {
        os_close(fd);
        return st;
    }
    u->to = *to;
    u->fd = fd;
    set_sides(u, fd);
    return 0;
}

static void greet(udp_conn *u)
{
    port_record r;
    if (u->conn.options.framing == FRAMING_MESSAGE && !u->shared && port_ask(&u->conn, u->fd, &u->to, &r))
        memcpy(u->key, r.key, sizeof u->key);
    send_flag(u, FLAG_HELLO);
}

static int udp_connect(ipcio_conn *c)
{
    udp_conn *u = conn_of(c);
    os_endpoint endpoints[PORT_ENDPOINTS];
    size_t n = 0;
    int st = port_resolve(&c->address, endpoints, &n);
    if (st != 0 && st != IPCIO_MISSING) return st;
    for (size_t i = 0; i < n; i++)
        if ((st = try_endpoint(u, &endpoints[i])) == 0) break;
    if (st == 0) {
        os_udp_room(u->fd, c->options.buffer ? c->options.buffer : UNREAD);
        limit_length(c);
        greet(u);
        return 0;
    }
    port_look_again(c);
    if (st == IPCIO_MISSING) return ipcio__fail_os(st, "%s: nobody serves the port", c->base.text);
    if (st == IPCIO_INVALID) return no_interface(c->base.text, &c->options);
    return ipcio__fail_os(st, "%s: cannot connect", c->base.text);
}

static int udp_peer(ipcio_conn *c, ipcio_peer *peer)
{
    udp_conn *u = conn_of(c);
    *peer = (ipcio_peer){.pid = -1, .uid = u->user, .gid = -1};
    return !u->serves && u->user_known == 0 ? 0 : IPCIO_UNSUPPORTED;
}

/* ------------------------------------------------------------------------------------------- both */

static void udp_wake(ipcio_conn *c)
{
    udp_conn *u = conn_of(c);
    if (!is_over(u)) send_flag(u, FLAG_BYE); /* before the socket is shut */
    end(u, "it was closed");
}

static void udp_close(ipcio_conn *c)
{
    udp_conn *u = conn_of(c);
    if (u->open && u->serves) close_reading(u);
    process_lock();
    if (u->open && u->server) {
        u->server->out = NULL;
        (void)show(u->server);
        u->open = false;
    }
    process_unlock();
    close_socket(u);
}

static void udp_abandon(ipcio_conn *c)
{
    udp_conn *u = conn_of(c);
    if (u->open && u->serves) close_reading(u);
    close_socket(u);
}

static void udp_forget(ipcio_conn *c)
{
    if (handle_torn(&c->base)) return;
    buffer_free(&conn_of(c)->in.datagram);
    buffer_free(&conn_of(c)->out.pieces);
}

const transport transport_udp = {
    .scheme = "udp",
    .options = OWN_ACCESS | OWN_INTERFACE | OWN_TTL,
    .server_size = sizeof(udp_server),
    .conn_size = sizeof(udp_conn),
    .listen = udp_listen,
    .accept = udp_accept,
    .unlisten = udp_unlisten,
    .abandon_server = udp_abandon_server,
    .connect = udp_connect,
    .greeted = udp_greeted,
    .start = udp_start,
    .view = udp_view,
    .take = udp_take,
    .end = udp_end,
    .sender = udp_sender,
    .write = udp_write,
    .abort = udp_abort,
    .arrived = udp_arrived,
    .ready = udp_ready,
    .peer = udp_peer,
    .wake = udp_wake,
    .close = udp_close,
    .abandon = udp_abandon,
    .forget = udp_forget,
};
