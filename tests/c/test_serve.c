/* test_serve.c - ipcio_serve: many clients, handlers that answer several times or not, how it ends. */
#include "helper.h"

#include <sys/resource.h>

/* "caller" ADDRESS CALLS: starts when it likes and makes its calls. */
static int caller_role(char **arguments)
{
    ipcio_conn *conn;
    const void *answer;
    size_t size;
    OK(ipcio_connect(arguments[0], NULL, 2 * LONG_MS, &conn));
    for (int i = 0; i < atoi(arguments[1]); i++) {
        char text[32];
        int n = snprintf(text, sizeof text, "%d of %d", i, (int)getpid());
        OK(ipcio_call(conn, text, (size_t)n, 2 * LONG_MS, &answer, &size));
        CHECK(size == (size_t)n && memcmp(answer, text, size) == 0);
    }
    ipcio_conn_free(conn);
    return 0;
}

/* A hundred processes that start at once, most of them before their server. */
static void test_hundred_processes(void **state)
{
    const char *address = fresh();
    struct child *clients[100], *server = NULL;
    (void)state;
    for (int i = 0; i < 100; i++) {
        clients[i] = start("caller", address, "5", NULL);
        if (i == 80)
            server = start("echo", address, NULL);
    }
    hear(server, "ready");
    for (int i = 0; i < 100; i++)
        finish(clients[i]);
    stop(server);
}

static void test_thousand_connections(void **state)
{
    enum { N = 1000 };
    static ipcio_conn *conns[N];
    const char *address = fresh();
    struct rlimit limit, wanted;
    struct child *server;
    const void *answer;
    size_t size;
    (void)state;
    getrlimit(RLIMIT_NOFILE, &limit);
    wanted = limit;
    if (wanted.rlim_cur < 4 * N)
        wanted.rlim_cur = wanted.rlim_max < 4 * N ? wanted.rlim_max : 4 * N;
    setrlimit(RLIMIT_NOFILE, &wanted);
    server = start_echo(address);
    for (int i = 0; i < N; i++)
        OK(ipcio_connect(address, NULL, LONG_MS, &conns[i]));
    for (int i = 0; i < N; i++)
        OK(ipcio_write(conns[i], &i, sizeof i, LONG_MS));
    for (int i = 0; i < N; i++)
        check_read(conns[i], &i, sizeof i, __FILE__, __LINE__);
    for (int i = 0; i < N; i += 2)
        ipcio_conn_free(conns[i]);
    for (int i = 1; i < N; i += 2) {
        OK(ipcio_call(conns[i], &i, sizeof i, LONG_MS, &answer, &size));
        assert_memory_equal(answer, &i, sizeof i);
        ipcio_conn_free(conns[i]);
    }
    stop(server);
    setrlimit(RLIMIT_NOFILE, &limit);
}

/* Out of descriptors: accept says so, and the client is served once there is room. */
static void test_out_of_descriptors(void **state)
{
    const char *address = fresh();
    struct child *client = start("caller", address, "1", NULL);
    struct rlimit limit, low;
    ipcio_server *server;
    ipcio_conn *conn;
    const void *data;
    size_t size;
    int spare[64], n = 0;
    (void)state;
    OK(ipcio_listen(address, NULL, &server));
    OK(ipcio_wait(server, IPCIO_WANT_READ, ipcio_deadline(30)));
    getrlimit(RLIMIT_NOFILE, &limit);
    low = limit;
    low.rlim_cur = (rlim_t)count_descriptors() + 8;
    setrlimit(RLIMIT_NOFILE, &low);
    while (n < 64 && (spare[n] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
        n++;
    FAILS(SYSTEM, ipcio_accept(server, 1000, &conn));
    assert_int_equal(ipcio_system_error(), EMFILE);
    assert_null(conn);
    while (n > 0)
        close(spare[--n]);
    setrlimit(RLIMIT_NOFILE, &limit);
    OK(ipcio_accept(server, LONG_MS, &conn));
    OK(ipcio_read(conn, LONG_MS, &data, &size));
    OK(ipcio_write(conn, data, size, LONG_MS));
    finish(client);
    ipcio_conn_free(conn);
    ipcio_server_free(server);
}

/* A handler that does what the request says. */
static int obeying(void *context, ipcio_conn *conn, const void *request, size_t size)
{
    const char *word = request;
    ipcio_server *server = context;
    if (size == 4 && memcmp(word, "none", 4) == 0)
        return 0;
    if (size == 4 && memcmp(word, "fail", 4) == 0)
        return IPCIO_NOTOWNER;
    if (size == 4 && memcmp(word, "stop", 4) == 0)
        ipcio_server_stop(server);
    if (size == 5 && memcmp(word, "close", 5) == 0)
        ipcio_server_close(server);
    if (size == 4 && memcmp(word, "drop", 4) == 0)
        ipcio_conn_close(conn);
    if (size == 5 && memcmp(word, "twice", 5) == 0)
        OK(ipcio_write(conn, "first", 5, LONG_MS));
    return ipcio_write(conn, word, size, LONG_MS);
}

/* "obey" ADDRESS: says what each serve returned, until the server is closed. */
static int obey_role(char **arguments)
{
    ipcio_server *server;
    OK(ipcio_listen(arguments[0], NULL, &server));
    tell("ready");
    do
        tell(ipcio_code(ipcio_serve(server, obeying, server)));
    while (ipcio_fileno(server) >= 0);
    ipcio_server_free(server);
    return 0;
}

static void test_handlers(void **state)
{
    const char *address = fresh();
    struct child *server = start("obey", address, NULL);
    ipcio_conn *conn, *other;
    const void *data;
    size_t size;
    (void)state;
    hear(server, "ready");
    OK(ipcio_connect(address, NULL, LONG_MS, &conn));
    WRITES(conn, "none");
    WRITES(conn, "twice");
    READS(conn, "first");
    READS(conn, "twice");

    OK(ipcio_connect(address, NULL, LONG_MS, &other));
    WRITES(other, "drop"); /* closes that client only, though it then wrote */
    FAILS(CLOSED, ipcio_read(other, LONG_MS, &data, &size));
    ipcio_conn_free(other);
    WRITES(conn, "still");
    READS(conn, "still");

    WRITES(conn, "stop");
    READS(conn, "stop");
    hear(server, "ok");
    FAILS(CLOSED, ipcio_read(conn, LONG_MS, &data, &size));
    ipcio_conn_free(conn);

    OK(ipcio_connect(address, NULL, LONG_MS, &conn)); /* the name was kept: it serves again */
    WRITES(conn, "fail");
    hear(server, "notowner");
    ipcio_conn_free(conn);
    OK(ipcio_connect(address, NULL, LONG_MS, &conn));
    WRITES(conn, "close");
    READS(conn, "close");
    hear(server, "ok");
    ipcio_conn_free(conn);
    finish(server);
    FAILS(MISSING, ipcio_connect(address, NULL, 0, &conn));
}

struct ending {
    ipcio_server *server;
    void (*end)(ipcio_server *server);
    int handled;
};

static int ending(void *context, ipcio_conn *conn, const void *request, size_t size)
{
    struct ending *e = context;
    e->handled++;
    e->end(e->server);
    return ipcio_write(conn, request, size, LONG_MS);
}

/* No other request is begun, neither of that client nor of another, though all had come before. */
static void test_end_in_a_handler(void **state)
{
    enum { N = 20 };
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct ending e = {.end = i == 0 ? ipcio_server_stop : ipcio_server_close};
        ipcio_conn *clients[N];
        const char *address = fresh();
        int answered = 0;
        OK(ipcio_listen(address, NULL, &e.server));
        for (int n = 0; n < N; n++) {
            OK(ipcio_connect(address, NULL, LONG_MS, &clients[n]));
            WRITES(clients[n], "one");
            WRITES(clients[n], "two");
        }
        OK(ipcio_serve(e.server, ending, &e));
        ipcio_server_free(e.server); /* and the queue goes */
        for (int n = 0; n < N; n++) {
            const void *data;
            size_t size;
            while (ipcio_read(clients[n], LONG_MS, &data, &size) == 0)
                answered++;
            ipcio_conn_free(clients[n]);
        }
        assert_int_equal(e.handled, 1);
        assert_int_equal(answered, 1);
    }
}

/* More requests than are answered in a turn, all of them sent before the first answer is read. */
static void test_many_requests_at_once(void **state)
{
    enum { N = 200 }; /* as many as the system holds for a client that does not read yet */
    const char *address = fresh();
    struct child *server = start_echo(address);
    ipcio_conn *conn;
    (void)state;
    OK(ipcio_connect(address, NULL, LONG_MS, &conn));
    for (int i = 0; i < N; i++)
        OK(ipcio_write(conn, &i, sizeof i, LONG_MS));
    for (int i = 0; i < N; i++)
        check_read(conn, &i, sizeof i, __FILE__, __LINE__);
    ipcio_conn_free(conn);
    stop(server);
}

/* One that neither reads nor closes does not keep the others waiting for their requests. */
static void test_silent_clients(void **state)
{
    const char *address = fresh();
    struct child *server = start_echo(address);
    ipcio_conn *silent, *half, *conn;
    const void *answer;
    size_t size;
    (void)state;
    OK(ipcio_connect(address, NULL, LONG_MS, &silent));
    OK(ipcio_connect(address, NULL, LONG_MS, &half));
    OK(ipcio_write_start(half, 10, LONG_MS));
    OK(ipcio_write_buffer(half, "01234", 5, LONG_MS));
    for (int i = 0; i < 10; i++) {
        OK(ipcio_connect(address, NULL, LONG_MS, &conn));
        OK(ipcio_call(conn, "x", 1, LONG_MS, &answer, &size));
        ipcio_conn_free(conn);
    }
    OK(ipcio_write_buffer(half, "56789", 5, LONG_MS));
    OK(ipcio_write_end(half, LONG_MS));
    READS(half, "0123456789");
    ipcio_conn_free(half);
    ipcio_conn_free(silent);
    stop(server);
}

int main(int argc, char **argv)
{
    static const struct role roles[] = {{"echo", echo_role},
                                        {"caller", caller_role},
                                        {"obey", obey_role},
                                        {NULL, NULL}};
    const struct CMUnitTest tests[] = {
        TEST(test_hundred_processes), TEST(test_thousand_connections), TEST(test_out_of_descriptors),
        TEST(test_handlers),          TEST(test_end_in_a_handler),      TEST(test_many_requests_at_once),
        TEST(test_silent_clients),
    };
    RUN(argc, argv, roles, tests);
}
