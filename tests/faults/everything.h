/* everything.h - one process does, with itself, all that allocates or opens something: for what may be used up. */
#ifndef TESTS_EVERYTHING_H
#define TESTS_EVERYTHING_H

#include "faults.h"

#include <sys/time.h>

/* Repeats a try until it is through. */
#define UNTIL_DONE(st, call)                                                                                   \
    do                                                                                                         \
        (st) = (call);                                                                                         \
    while ((st) > 0 && sched_yield() == 0)

static ipcio_server *to_be_stopped;
static bool served; /* serve had enough for its client */

static inline int answer_and_stop(void *context, ipcio_conn *conn, const void *request, size_t size)
{
    (void)context;
    served = true;
    ipcio_server_stop(to_be_stopped);
    return ipcio_write(conn, request, size, LONG_MS);
}

static inline void stop_by_signal(int signal)
{
    (void)signal;
    ipcio_server_stop(to_be_stopped);
}

/* Serves one request of a client that has sent it before.  Serve goes on when there is not enough for a client: it is
 * dropped, or stays in the queue.  Then a timer ends it. */
static inline int serve_one(ipcio_server *server, const char *address)
{
    const struct itimerval soon = {{0, 200000}, {0, 200000}}, never = {{0, 0}, {0, 0}};
    struct sigaction action = {.sa_handler = stop_by_signal};
    ipcio_conn *client = NULL;
    const void *data;
    size_t size;
    int st;
    UNTIL_DONE(st, ipcio_connect(address, NULL, IPCIO_TRY, &client));
    if (st == 0)
        UNTIL_DONE(st, ipcio_write(client, "request", 7, IPCIO_TRY));
    to_be_stopped = server;
    served = false;
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &soon, NULL);
    if (st == 0)
        st = ipcio_serve(server, answer_and_stop, NULL);
    setitimer(ITIMER_REAL, &never, NULL);
    if (st == 0 && served)
        UNTIL_DONE(st, ipcio_read(client, IPCIO_TRY, &data, &size));
    ipcio_conn_free(client);
    return st;
}

static inline int wait_in_set(ipcio_conn *conn)
{
    ipcio_set *set;
    int st = ipcio_set_new(&set);
    if (st == 0)
        st = ipcio_set_add(set, conn, IPCIO_WANT_READ);
    ipcio_set_free(set);
    return st;
}

/* A large message, read whole or in pieces while it is written. */
static inline int exchange(ipcio_conn *writer, ipcio_conn *reader, bool pieces)
{
    static unsigned char message[300000], piece[50000];
    const void *data;
    size_t size, got = 1;
    int writing, st;
    do {
        writing = ipcio_write(writer, message, sizeof message, IPCIO_TRY);
        st = pieces ? ipcio_read_start(reader, IPCIO_TRY, &size) : ipcio_read(reader, IPCIO_TRY, &data, &size);
    } while (st > 0 && writing >= 0);
    while (st >= 0 && pieces && got > 0) {
        if (writing > 0)
            writing = ipcio_write(writer, message, sizeof message, IPCIO_TRY);
        st = writing < 0 ? writing : ipcio_read_buffer(reader, piece, sizeof piece, IPCIO_TRY, &got);
        if (st > 0)
            got = 1;
    }
    if (st == 0 && pieces)
        st = ipcio_read_end(reader, IPCIO_TRY);
    while (st == 0 && writing > 0)
        writing = ipcio_write(writer, message, sizeof message, IPCIO_TRY);
    if (writing > 0)
        (void)ipcio_give_up(writer, writing, IPCIO_TIMEOUT, 0);
    return writing < 0 ? writing : st;
}

static inline int write_in_pieces(ipcio_conn *conn)
{
    int st = ipcio_write_start(conn, 10, LONG_MS);
    if (st == 0)
        st = ipcio_write_buffer(conn, "half ", 5, LONG_MS);
    if (st == 0)
        st = ipcio_write_buffer(conn, "half.", 5, LONG_MS);
    return st == 0 ? ipcio_write_end(conn, LONG_MS) : st;
}

/* Listens, connects, talks and closes.  The first status that is not 0. */
static inline int everything(const char *address)
{
    ipcio_server *server = NULL;
    ipcio_conn *client = NULL, *peer = NULL;
    const void *data;
    size_t size;
    int st = ipcio_listen(address, NULL, &server), accepting = 1, fd;

    while (st >= 0 && accepting > 0) {
        if (st > 0 || client == NULL)
            st = ipcio_connect(address, NULL, IPCIO_TRY, &client);
        if (st >= 0)
            accepting = ipcio_accept(server, IPCIO_TRY, &peer);
        sched_yield();
    }
    while (st > 0)
        UNTIL_DONE(st, ipcio_connect(address, NULL, IPCIO_TRY, &client));
    st = st == 0 ? accepting : st;
    if (st == 0)
        st = wait_in_set(peer);
    if (st == 0)
        st = (fd = ipcio_fileno(peer)) < 0 ? fd : 0;
    if (st == 0)
        st = (fd = ipcio_write_fileno(client)) < 0 ? fd : 0;
    if (st == 0)
        st = exchange(client, peer, false);
    if (st == 0)
        st = exchange(peer, client, true);
    if (st == 0)
        st = write_in_pieces(peer);
    if (st == 0)
        UNTIL_DONE(st, ipcio_read(client, IPCIO_TRY, &data, &size));
    if (st == 0)
        st = serve_one(server, address);
    ipcio_conn_free(client);
    ipcio_conn_free(peer);
    ipcio_server_free(server);
    return st;
}

#endif
