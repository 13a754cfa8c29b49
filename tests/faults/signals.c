/* signals.c - signals in the middle of everything change nothing: a storm of them on both sides of a conversation, and
 * SIGPIPE, which nobody here asked for. */
#include "victim.h"

#include <sys/time.h>

static _Atomic long *caught;

static void count_signal(int signal)
{
    (void)signal;
    atomic_fetch_add_explicit(caught, 1, memory_order_relaxed);
}

/* Every 50 us, and system calls are not restarted. */
static void begin_storm(void)
{
    const struct itimerval often = {{0, 50}, {0, 50}};
    struct sigaction action = {.sa_handler = count_signal};
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
}

static void end_storm(void)
{
    const struct itimerval never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &never, NULL);
}

static void server_in_storm(void *context)
{
    begin_storm();
    serve_many(context);
    end_storm();
}

static void clients_in_storm(void *rounds)
{
    begin_storm();
    for (int i = 0; i < *(int *)rounds; i++)
        OK(connect_once(SUCCESSOR));
    end_storm();
}

static void test_storm(void **state)
{
    int rounds = full ? 2000 : 40;
    long all = 0;
    (void)state;
    for (int is_a = 0; is_a < 2; is_a++) {
        struct child *server, *client;
        *scene = (struct scene){.is_a = is_a};
        snprintf(scene->address, sizeof scene->address, "%s", new_address());
        atomic_store(caught, 0);
        client = forked(clients_in_storm, &rounds); /* it waits for its server first */
        server = forked(server_in_storm, NULL);
        finish(client);
        until_serving(server);
        stop(server);
        assert_true(atomic_load(caught) > rounds);
        all += atomic_load(caught);
    }
    one_line("%ld signals during %d conversations: nothing lost, nothing interrupted", all, 2 * rounds);
}

/* ------------------------------------------------------------------------------------------ SIGPIPE */

static void is_default(void)
{
    struct sigaction now;
    sigset_t blocked;
    sigaction(SIGPIPE, NULL, &now);
    sigprocmask(SIG_BLOCK, NULL, &blocked);
    CHECK(now.sa_handler == SIG_DFL && !sigismember(&blocked, SIGPIPE));
}

/* Calls until the peer's end is told. */
#define UNTIL_CLOSED(call)                                                                                     \
    do {                                                                                                       \
        int st_;                                                                                               \
        while ((st_ = (call)) == IPCIO_OK)                                                                     \
            continue;                                                                                          \
        FAILS(CLOSED, st_);                                                                                    \
    } while (0)

static void die(ipcio_conn *conn)
{
    const void *data;
    size_t size;
    OK(ipcio_read(conn, LONG_MS, &data, &size));
    kill(getpid(), SIGKILL);
}

/* A server that dies of each first message. */
static void mortal(void *context)
{
    ipcio_server *server;
    ipcio_conn *conn;
    (void)context;
    OK(ipcio_listen(scene->address, NULL, &server));
    OK(ipcio_accept(server, LONG_MS, &conn));
    die(conn);
}

static int write_pieces(ipcio_conn *conn)
{
    static const char piece[1000];
    int st = ipcio_write_start(conn, 3 * sizeof piece, LONG_MS);
    for (int i = 0; st == 0 && i < 3; i++)
        st = ipcio_write_buffer(conn, piece, sizeof piece, LONG_MS);
    return st == 0 ? ipcio_write_end(conn, LONG_MS) : st;
}

static int give_up(ipcio_conn *conn)
{
    int st = ipcio_write_start(conn, 1000, LONG_MS);
    if (st == 0)
        st = ipcio_write_buffer(conn, "half", 4, LONG_MS);
    if (st == 0 && (st = ipcio_write_end(conn, LONG_MS)) == IPCIO_INVALID) /* too early: it is given up */
        st = 0;
    return st;
}

enum { WAYS = 5 };

static void writer(void *way)
{
    static unsigned char large[1 << 20];
    ipcio_conn *conn;
    const void *data;
    size_t size;
    signal(SIGPIPE, SIG_DFL);
    OK(ipcio_connect(scene->address, NULL, LONG_MS, &conn));
    OK(ipcio_write(conn, "die", 3, LONG_MS));
    switch (*(int *)way) {
    case 0: UNTIL_CLOSED(ipcio_write(conn, "small", 5, LONG_MS)); break;
    case 1: UNTIL_CLOSED(ipcio_write(conn, large, sizeof large, LONG_MS)); break;
    case 2: UNTIL_CLOSED(write_pieces(conn)); break;
    case 3: UNTIL_CLOSED(give_up(conn)); break;
    default: UNTIL_CLOSED(ipcio_call(conn, "call", 4, LONG_MS, &data, &size)); break;
    }
    ipcio_conn_free(conn);
    is_default();
}

static void mortal_client(void *context)
{
    ipcio_conn *conn;
    (void)context;
    OK(ipcio_connect(scene->address, NULL, LONG_MS, &conn));
    OK(ipcio_write(conn, "I shall not read your answer", 28, LONG_MS));
    kill(getpid(), SIGKILL);
}

static int answer_much(void *context, ipcio_conn *conn, const void *request, size_t size)
{
    static unsigned char large[1 << 20];
    (void)context, (void)request, (void)size;
    UNTIL_CLOSED(ipcio_write(conn, large, sizeof large, LONG_MS));
    atomic_fetch_add(caught, 1);
    return IPCIO_CLOSED;
}

static void answering(void *context)
{
    (void)context;
    struct sigaction action = {.sa_handler = on_stop};
    signal(SIGPIPE, SIG_DFL);
    OK(ipcio_listen(scene->address, NULL, &surviving));
    sigaction(SIGTERM, &action, NULL);
    OK(ipcio_serve(surviving, answer_much, NULL));
    signal(SIGTERM, SIG_IGN);
    ipcio_server_free(surviving);
    is_default();
}

static void test_nobody_dies_of_a_broken_pipe(void **state)
{
    struct child *server;
    (void)state;
    *scene = (struct scene){0};
    for (int way = 0; way < WAYS; way++) {
        struct child *client;
        snprintf(scene->address, sizeof scene->address, "%s", new_address());
        client = forked(writer, &way);
        assert_int_equal(reap(forked(mortal, NULL)), SIGKILL);
        finish(client);
    }
    snprintf(scene->address, sizeof scene->address, "%s", new_address());
    server = forked(answering, NULL);
    atomic_store(caught, 0);
    while (atomic_load(caught) < 20) /* of a client that died early tcp may show nothing */
        assert_int_equal(reap(forked(mortal_client, NULL)), SIGKILL);
    stop(server);
    one_line("%d ways of writing to the dead: told each time, SIGPIPE never raised", WAYS + 1);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {TEST(test_storm), TEST(test_nobody_dies_of_a_broken_pipe)};
    scene = share(sizeof *scene);
    caught = share(sizeof *caught);
    RUN_OVER_TRANSPORTS(argc, argv, NULL, tests);
}
