/* server.c - listening, accepting, and answering many clients. */
#include <stdlib.h>

#include "connection.h"
#include "set.h"

static ipcio_server *server_of(handle *h)
{
    return (ipcio_server *)h;
}

static void wake(handle *h)
{
    os_bell_ring(server_of(h)->bell);
}

/* Clients that nobody was told of.  `end_conn` is the transport's close or abandon. */
static void drop_strangers(ipcio_server *s, void (*end_conn)(ipcio_conn *c))
{
    for (ipcio_conn *c; (c = s->strangers);) {
        s->strangers = c->next;
        end_conn(c);
        connection_delete(c);
    }
}

static void close_waiting(ipcio_server *s)
{
    os_close(s->epoll);
    os_close(s->bell);
    os_close(s->watch);
    s->epoll = s->bell = s->watch = OS_NONE;
}

static void release(handle *h)
{
    drop_strangers(server_of(h), server_of(h)->transport->close);
    server_of(h)->transport->unlisten(server_of(h));
    close_waiting(server_of(h));
}

static void abandon(handle *h)
{
    drop_strangers(server_of(h), server_of(h)->transport->abandon);
    server_of(h)->transport->abandon_server(server_of(h));
    close_waiting(server_of(h));
}

static const char *give_up(handle *h, int want)
{
    (void)want;
    return atomic_load_explicit(&server_of(h)->doubted, memory_order_relaxed)
               ? "no client but such as had gone before the system told whose they were (access=all admits them)"
               : "no client";
}

static const handle_kind server_kind = {.noun = "server", .wake = wake, .release = release, .abandon = abandon, .give_up = give_up};

/* What accept waits for: a client, or the bell. */
static int open_waiting(ipcio_server *s)
{
    int st = os_bell_new(&s->bell);
    if (st == 0) st = os_set_new(&s->epoll);
    if (st == 0) st = os_set_put(s->epoll, s->bell, IPCIO_WANT_READ, s);
    if (st == 0) st = os_set_put(s->epoll, s->listener, IPCIO_WANT_READ, s);
    if (st == 0 && s->watch != OS_NONE) st = os_set_put(s->epoll, s->watch, IPCIO_WANT_READ, s);
    s->base.side[IPCIO_WANT_READ].fd = s->epoll;
    s->base.side[IPCIO_WANT_READ].want = IPCIO_WANT_READ;
    return st == 0 ? 0 : ipcio__fail_os(st, "%s: cannot listen", s->address.text);
}

/* No fork may come between; the first handle of a process also makes that so. */
static int start(ipcio_server *s)
{
    int st = handle_open(&s->base, &server_kind, s->address.text);
    if (st != 0) return st;
    if ((st = s->transport->listen(s)) == 0) {
        s->base.text = s->address.text; /* which may now say what the system chose */
        if ((st = open_waiting(s)) == 0) return 0;
        release(&s->base);
    }
    handle_forget(&s->base);
    return st;
}

int ipcio_listen(const char *text, const char *opts, ipcio_server **server)
{
    address a;
    options o;
    const transport *t = NULL;
    ipcio_server *s = NULL;
    *server = NULL;
    int st = transport_find(text, opts, &a, &o, &t);
    if (st == 0 && !(s = calloc(1, t->server_size)))
        st = ipcio__fail(IPCIO_NOMEMORY, "%s: no memory for a server", a.text);
    if (st == 0) {
        s->transport = t;
        s->base.blocks = t->blocks;
        s->address = a;
        s->options = o;
        s->listener = s->epoll = s->bell = s->watch = OS_NONE;
        fork_forbid();
        st = start(s);
        fork_allow();
        if (st == 0) *server = s;
    }
    if (st != 0) {
        address_free(s ? &s->address : &a);
        free(s);
    }
    return st;
}

const char *ipcio_server_address(const ipcio_server *s)
{
    return s->address.text;
}

void ipcio_server_close(ipcio_server *s)
{
    handle_close(&s->base);
}

void ipcio_server_free(ipcio_server *s)
{
    if (!s) return;
    set_forget(&s->base);
    handle_close(&s->base);
    handle_forget(&s->base);
    if (s->spare) connection_delete(s->spare);
    address_free(&s->address);
    free(s);
}

void ipcio_server_stop(ipcio_server *s)
{
    atomic_store(&s->stop, true);
    if (atomic_load(&s->base.gate) & GATE_CLOSED || handle_enter(&s->base, IPCIO_WANT_WRITE) != 0) return;
    os_bell_ring(s->bell);
    handle_leave(&s->base, IPCIO_WANT_WRITE);
}

/* Takes in the next client from the queue. */
static int take_in(ipcio_server *s, ipcio_conn **to)
{
    int st = s->spare ? 0 : connection_new(s->transport, s->address.text, &s->spare);
    if (st != 0) return st;
    ipcio_conn *c = s->spare;
    c->base.text = s->address.text;
    c->options = s->options;
    if ((st = s->transport->accept(s, c)) > 0) return st;
    s->spare = NULL;
    *to = c;
    if (st == 0) return 0;
    c->transport->close(c);
    connection_delete(c);
    return st;
}

/* Hands out a client, unless it has still to introduce itself. */
static int hand_out(ipcio_server *s, ipcio_conn *c, ipcio_conn **conn)
{
    ipcio_conn **stranger = &s->strangers;
    while (*stranger && *stranger != c) stranger = &(*stranger)->next;
    bool known = *stranger == c;
    int st = c->transport->greeted(c);
    /* Want of memory or descriptors may pass.  Who has gone, or breaks the rules, is handed out, and reading tells it. */
    bool later = st > 0 || st == IPCIO_NOMEMORY || st == IPCIO_FULL, denied = st == IPCIO_DENIED || st == IPCIO_MISSING;
    if (st == IPCIO_MISSING) atomic_store_explicit(&s->doubted, true, memory_order_relaxed);
    if (st == IPCIO_FULL) st = IPCIO_SYSTEM;
    if (later && st < 0) {
        s->faulty = true;
        os_bell_ring(s->bell);
    }
    if (later && known) return st;
    if (later) {
        int put = os_set_put(s->epoll, c->base.side[IPCIO_WANT_READ].fd, IPCIO_WANT_READ, c);
        if (put == 0) {
            c->next = s->strangers;
            s->strangers = c;
            return st;
        }
        st = ipcio__fail_os(put, "%s: cannot accept", s->address.text);
    }
    if (known) {
        os_set_drop(s->epoll, c->base.side[IPCIO_WANT_READ].fd);
        *stranger = c->next;
    }
    if (!later && !denied && (st = connection_accepted(c, s->address.text)) == 0) {
        *conn = c;
        return 0;
    }
    c->transport->close(c);
    connection_delete(c);
    return denied ? IPCIO_WANT_READ : st; /* who may not come in is no affair of the script's */
}

/* It was stopped or closed: no client is taken in and no request begun any more. */
static bool ending(ipcio_server *s)
{
    return atomic_load(&s->stop) || atomic_load(&s->base.gate) & GATE_CLOSED;
}

/* The bell has been heard; but a stop, close or fault since then rings on. */
static void quiet_bell(ipcio_server *s)
{
    os_bell_clear(s->bell);
    if (ending(s) || s->faulty) os_bell_ring(s->bell);
}

/* After a fault: what a stranger sent may have been read, and the system does not tell of it any more. */
static int ask_again(ipcio_server *s, ipcio_conn **conn)
{
    int st = IPCIO_WANT_READ;
    ipcio_conn *next = s->strangers;
    s->faulty = false;
    for (ipcio_conn *c; st > 0 && (c = next);) {
        next = c->next;
        st = hand_out(s, c, conn);
    }
    if (next) s->faulty = true; /* the others' turn comes */
    return st;
}

/* Inside the reading side, after fork_forbid: a fork must not come between a client and its place in a list. */
static int accept_one(ipcio_server *s, ipcio_conn **conn)
{
    if (atomic_exchange(&s->stop, false)) {
        quiet_bell(s);
        return ipcio__fail(IPCIO_INTERRUPTED, "%s: the server was stopped", s->address.text);
    }
    int st = s->faulty ? ask_again(s, conn) : IPCIO_WANT_READ;
    if (st <= 0) return st;
    void *ready[16]; /* the server itself, or a stranger */
    int n = os_set_wait(s->epoll, ready, 16, 0);
    st = n < 0 && n != IPCIO_TIMEOUT ? ipcio__fail_os(n, "%s: cannot accept", s->address.text) : IPCIO_WANT_READ;
    bool queued = false;
    for (int i = 0; st > 0 && i < n; i++)
        if (ready[i] == s) queued = true;
        else st = hand_out(s, ready[i], conn);
    if (st <= 0 || !queued) return st;
    ipcio_conn *c; /* last, since those who are in may hold what there is too little of: descriptors */
    if ((st = take_in(s, &c)) > 0) quiet_bell(s); /* of a stop that was answered before it rang */
    return st == 0 ? hand_out(s, c, conn) : st;
}

static int try_accept(ipcio_server *s, ipcio_conn **conn)
{
    *conn = NULL;
    int st = handle_enter(&s->base, IPCIO_WANT_READ);
    if (st != 0) return st;
    fork_forbid();
    st = accept_one(s, conn);
    fork_allow();
    return handle_leave_with(&s->base, IPCIO_WANT_READ, st);
}

int ipcio_accept(ipcio_server *s, int timeout, ipcio_conn **conn)
{
    HANDLE_BLOCK(s, timeout, try_accept(s, conn));
}

/* Answers what one client has asked; below 0 when it is to go. */
static int answer(ipcio_server *s, ipcio_conn *c, ipcio_handler *handler, void *context, int *failed)
{
    enum { FAIR = 64 }; /* then the others have their turn */
    for (int i = 0; i < FAIR && !ending(s); i++) {
        const void *request;
        size_t size;
        int st = ipcio_read(c, IPCIO_TRY, &request, &size);
        if (st == IPCIO_TOOBIG) continue;
        if (st != 0) return st;
        st = handler(context, c, request, size);
        if (st == IPCIO_CLOSED || st == IPCIO_INVALID) return st;
        if (st < 0) return *failed = st;
    }
    return 0;
}

/* Takes a new client into the set.  0: done, or there is none; 1: not now, it stays in the queue. */
static int welcome(ipcio_server *s, ipcio_set *set)
{
    ipcio_conn *c;
    int st = ipcio_accept(s, IPCIO_TRY, &c);
    if (st == 0 && (st = ipcio_set_add(set, c, IPCIO_WANT_READ)) != 0) ipcio_conn_free(c);
    if (st == IPCIO_SYSTEM || st == IPCIO_NOMEMORY) return 1;
    return st > 0 ? 0 : st;
}

int ipcio_serve(ipcio_server *s, ipcio_handler *handler, void *context)
{
    enum { RETRY = 10 }; /* ms, when descriptors or memory are used up: clients that leave give some back */
    ipcio_set *set;
    int failed = 0, st = ipcio_set_new(&set);
    bool listening = false;
    while (st == 0 && failed == 0) {
        void *which;
        if (!listening && (st = ipcio_set_add(set, s, IPCIO_WANT_READ)) != 0) break;
        listening = true;
        st = ipcio_set_wait(set, DEADLINE_NEVER, &which);
        if (st == IPCIO_INTERRUPTED) {
            st = 0;
        } else if (st == 0 && which == s) {
            if ((st = welcome(s, set)) <= 0) continue;
            ipcio_set_remove(set, s);
            listening = false;
            st = ipcio_set_wait(set, os_now() + RETRY * MILLISECOND, &which);
            if (st == IPCIO_TIMEOUT || st == IPCIO_INTERRUPTED) st = 0;
        }
        if (st == 0 && which && which != s &&
            (answer(s, which, handler, context, &failed) < 0 || ipcio_set_add(set, which, IPCIO_WANT_READ) != 0))
            ipcio_conn_free(which);
    }
    for (void *h; set && (h = set_first(set, s));) ipcio_conn_free(h);
    ipcio_set_free(set);
    if (failed) return failed;
    bool closed = atomic_load(&s->base.gate) & GATE_CLOSED;
    return st == IPCIO_INTERRUPTED || (st == IPCIO_INVALID && closed) ? 0 : st;
}
