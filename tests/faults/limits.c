/* limits.c - more of everything than the system gives: clients in the queue, descriptors. */
#include "everything.h"

#include <sys/resource.h>
#include <sys/syscall.h>

/* A queue of thousands takes thousands to fill: so listen is defined here, before the C library's, and its is short. */
static int queue = 4;

int listen(int fd, int length)
{
    return (int)syscall(SYS_listen, fd, length < queue ? length : queue);
}

enum { CALLS = 3 };

static int call(ipcio_conn *conn, int number)
{
    const void *answer;
    size_t size;
    int st = ipcio_call(conn, &number, sizeof number, -1, &answer, &size);
    CHECK(st != 0 || (size == sizeof number && memcmp(answer, &number, size) == 0));
    return st;
}

/* "caller" ADDRESS: some calls, after waiting for as long as it takes.  TCP forgets clients of a full queue that it has
 * told to be connected: they learn it by a reset. */
static int caller_role(char **arguments)
{
    ipcio_conn *conn = NULL;
    int st;
    do {
        ipcio_conn_free(conn);
        OK(ipcio_connect(arguments[0], NULL, -1, &conn));
        st = call(conn, 0);
    } while (st == IPCIO_CLOSED && is_tcp(arguments[0]));
    OK(st);
    for (int i = 1; i < CALLS; i++)
        OK(call(conn, i));
    ipcio_conn_free(conn);
    return 0;
}

/* Until so many clients have made their last call. */
static ipcio_server *queued;
static int clients_left;

static int count_calls(void *context, ipcio_conn *conn, const void *request, size_t size)
{
    int number;
    (void)context;
    CHECK(size == sizeof number);
    memcpy(&number, request, size);
    if (number == CALLS - 1 && --clients_left == 0)
        ipcio_server_stop(queued);
    return ipcio_write(conn, request, size, LONG_MS);
}

static void test_full_queue(void **state)
{
    enum { MOST = 100 };
    const char *address = new_address();
    struct child *callers[MOST];
    int n = !full ? 12 : is_tcp(address) ? 40 : MOST; /* of TCP's some wait for seconds */
    ipcio_conn *conn;
    int st;
    (void)state;
    OK(ipcio_listen(address, NULL, &queued));
    for (int i = 0; i < n; i++)
        callers[i] = start("caller", address, NULL);
    for (int i = 0; i < n; i++)
        until_asleep(callers[i]->pid);
    st = ipcio_connect(address, NULL, 100, &conn); /* one who does not wait for so long is told so */
    FAILS(TIMEOUT, st);
    assert_non_null(strstr(ipcio_message(), address));
    clients_left = n;
    OK(ipcio_serve(queued, count_calls, NULL));
    for (int i = 0; i < n; i++)
        finish(callers[i]);
    ipcio_server_free(queued);
    one_line("%d clients and a queue of %d: all were served", n, queue);
}

/* Descriptors end after each number of them. */
static void test_no_descriptors(void **state)
{
    const char *address = new_address();
    struct rlimit limit, low;
    int told = 0, n, st = IPCIO_SYSTEM, before;
    bool enough = false;
    (void)state;
    OK(everything(address)); /* what is opened once per process is open now */
    before = count_descriptors();
    getrlimit(RLIMIT_NOFILE, &limit);
    for (n = 0; !enough; n++) {
        int spare[1024], count = 0, free = 0;
        assert_true(n < 64);
        low = limit;
        low.rlim_cur = (rlim_t)before + 64;
        setrlimit(RLIMIT_NOFILE, &low);
        while (count < 1024 && (spare[count] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
            count++;
        while (free < n)
            close(spare[count - ++free]);
        st = everything(address);
        enough = st == IPCIO_OK && served;
        if (st != IPCIO_OK) {
            FAILS(SYSTEM, st);
            assert_int_equal(ipcio_system_error(), EMFILE);
            assert_non_null(strstr(ipcio_message(), "open files"));
            told++;
        }
        for (int i = 0; i < count - free; i++)
            close(spare[i]);
        setrlimit(RLIMIT_NOFILE, &limit);
        assert_int_equal(count_descriptors(), before);
        OK(everything(address));
    }
    assert_true(told > 5);
    one_line("0 to %d descriptors left: %d times told, %d times served later, 0 left open", n - 2, told, n - 1 - told);
}

static ipcio_server *poor;

static void on_terminate(int signal)
{
    (void)signal;
    ipcio_server_stop(poor);
}

/* "poor" ADDRESS: serves, with descriptors for four clients. */
static int poor_role(char **arguments)
{
    struct sigaction action = {.sa_handler = on_terminate};
    struct rlimit low;
    OK(ipcio_listen(arguments[0], NULL, &poor));
    sigaction(SIGTERM, &action, NULL);
    getrlimit(RLIMIT_NOFILE, &low);
    rlim_t each = strncmp(arguments[0], "file", 4) == 0 ? 4 : 1; /* a client's */
    low.rlim_cur = (rlim_t)count_descriptors() + 3 + 1 + 4 * each; /* the standard ones, the set and clients */
    setrlimit(RLIMIT_NOFILE, &low);
    tell("ready");
    OK(ipcio_serve(poor, echo_handler, NULL));
    signal(SIGTERM, SIG_IGN);
    ipcio_server_free(poor);
    return 0;
}

/* A server whose descriptors are used up leaves clients in the queue, until others have gone. */
static void test_poor_server(void **state)
{
    enum { CLIENTS = 20, ROUNDS = 3 };
    const char *address = new_address();
    struct child *server = start("poor", address, NULL);
    (void)state;
    hear(server, "ready");
    for (int round = 0; round < ROUNDS; round++) {
        struct child *callers[CLIENTS];
        ipcio_conn *busy;
        const void *answer;
        size_t size;
        OK(ipcio_connect(address, NULL, LONG_MS, &busy));
        OK(ipcio_call(busy, "first", 5, LONG_MS, &answer, &size));
        for (int i = 0; i < CLIENTS; i++)
            callers[i] = start("caller", address, NULL);
        for (int i = 0; i < 100; i++) /* it is served meanwhile as if nothing were */
            OK(ipcio_call(busy, "busy", 4, LONG_MS, &answer, &size));
        for (int i = 0; i < CLIENTS; i++)
            finish(callers[i]);
        ipcio_conn_free(busy);
    }
    stop(server);
    one_line("%d clients of a server with few descriptors: all were served", ROUNDS * CLIENTS);
}

int main(int argc, char **argv)
{
    static const struct role roles[] = {{"caller", caller_role}, {"poor", poor_role}, {NULL, NULL}};
    const struct CMUnitTest tests[] = {TEST(test_full_queue), TEST(test_no_descriptors), TEST(test_poor_server)};
    RUN_OVER_TRANSPORTS(argc, argv, roles, tests);
}
