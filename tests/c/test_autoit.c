/* test_autoit.c - the AutoIt names: their life cycle, sleep functions, steps, and what a binding needs. */
#include "helper.h"

static int init(const char *name) { return ipcio_InitConnection(ipcio_cNamedPipe, name, 1, NULL, NULL, 65536); }
static int open_(const char *name) { return ipcio_OpenConnection(ipcio_cNamedPipe, name, 1, NULL, NULL, 65536); }

static void read_text(int fd, const char *text)
{
    const void *data;
    size_t size;
    OK(ipcio_ReadData(fd, &data, &size));
    CHECK(size == strlen(text) && memcmp(data, text, size) == 0);
}

static void write_text(int fd, const char *text) { OK(ipcio_WriteData(fd, text, strlen(text))); }

/* "greeter" NAME CLIENTS: a server as seed scripts write it. */
static int greeter_role(char **arguments)
{
    const char *name = strcmp(arguments[0], "default") == 0 ? NULL : arguments[0];
    int fd = init(name);
    CHECK(fd > 0);
    tell("ready");
    for (int i = atoi(arguments[1]); i > 0; i--) {
        OK(ipcio_StartConnection(fd));
        read_text(fd, "world");
        write_text(fd, "hello world");
        OK(ipcio_StopConnection(fd));
    }
    OK(ipcio_EndConnection(fd));
    return 0;
}

static void greet(const char *name)
{
    int fd = open_(name);
    CHECK(fd > 0);
    write_text(fd, "world");
    read_text(fd, "hello world");
    OK(ipcio_CloseConnection(fd));
}

static void test_life_cycle(void **state)
{
    const char *name = fresh_name();
    struct child *server = start("greeter", name, "2", NULL);
    (void)state;
    hear(server, "ready");
    greet(name);
    greet(text_of("pipe://%s", name)); /* an address is a resource as well */
    finish(server);
}

static void test_default_resource(void **state)
{
    struct child *server = start("greeter", "default", "2", NULL);
    (void)state;
    hear(server, "ready");
    greet(NULL);
    greet("");
    finish(server);
}

static void test_client_first(void **state)
{
    const char *name = fresh_name();
    struct child *server = start("greeter", name, "1", NULL);
    (void)state;
    greet(name); /* whether or not it is there yet */
    finish(server);
}

static void test_wrong_order(void **state)
{
    const char *name = fresh_name();
    int server = init(name), client;
    const void *data;
    size_t size;
    char piece[8];
    (void)state;
    assert_true(server > 0);
    FAILS(INVALID, ipcio_ReadData(server, &data, &size)); /* no client yet */
    FAILS(INVALID, ipcio_WriteData(server, "x", 1));
    FAILS(INVALID, ipcio_StopConnection(server));
    FAILS(INVALID, ipcio_CloseConnection(server)); /* a client's call */
    FAILS(INVALID, ipcio_ReadStart(server));

    client = open_(name);
    assert_true(client > 0);
    FAILS(INVALID, ipcio_StartConnection(client)); /* a server's calls */
    FAILS(INVALID, ipcio_StopConnection(client));
    FAILS(INVALID, ipcio_EndConnection(client));
    OK(ipcio_StartConnection(server));
    FAILS(INVALID, ipcio_StartConnection(server)); /* it has one */

    FAILS(INVALID, ipcio_ReadSize(client, &size));
    FAILS(INVALID, ipcio_ReadBuffer(client, piece, 1, &size));
    FAILS(INVALID, ipcio_ReadEnd(client));
    FAILS(INVALID, ipcio_WriteSize(client, 1));
    FAILS(INVALID, ipcio_WriteBuffer(client, "x", 1));
    FAILS(INVALID, ipcio_WriteEnd(client));
    OK(ipcio_WriteStart(client));
    FAILS(INVALID, ipcio_WriteBuffer(client, "x", 1)); /* before its size */
    OK(ipcio_WriteSize(client, 1));
    FAILS(INVALID, ipcio_WriteData(client, "x", 1));
    OK(ipcio_WriteBuffer(client, "x", 1));
    OK(ipcio_WriteEnd(client));
    read_text(server, "x");

    OK(ipcio_StopConnection(server));
    FAILS(INVALID, ipcio_StopConnection(server));
    FAILS(INVALID, ipcio_ReadData(server, &data, &size));
    FAILS(CLOSED, ipcio_ReadData(client, &data, &size));
    OK(ipcio_CloseConnection(client));
    OK(ipcio_EndConnection(server));
}

static void test_unknown_ids(void **state)
{
    const char *name = fresh_name();
    int server = init(name), client = open_(name), again;
    int ids[] = {0, -1, INT32_MIN, INT32_MAX, 0, 0};
    const void *data;
    size_t size;
    (void)state;
    assert_true(server > 0 && client > 0 && server != client);
    OK(ipcio_CloseConnection(client));
    OK(ipcio_EndConnection(server));
    ids[4] = client;
    ids[5] = server;
    again = init(name);
    assert_true(again > server && again > client); /* a number is never given twice */
    for (size_t i = 0; i < COUNT(ids); i++) {
        FAILS(INVALID, ipcio_StartConnection(ids[i]));
        FAILS(INVALID, ipcio_ReadData(ids[i], &data, &size));
        FAILS(INVALID, ipcio_WriteData(ids[i], "x", 1));
        FAILS(INVALID, ipcio_StopConnection(ids[i]));
        FAILS(INVALID, ipcio_EndConnection(ids[i]));
        FAILS(INVALID, ipcio_CloseConnection(ids[i]));
        FAILS(INVALID, ipcio_ReadStart(ids[i]));
        FAILS(INVALID, ipcio_WriteStart(ids[i]));
        FAILS(INVALID, ipcio_FinishOpenConnection(ids[i]));
        FAILS(INVALID, ipcio_SleepConnection(ids[i], IPCIO_WANT_READ, 0));
    }
    OK(ipcio_EndConnection(again));
}

static void test_many_ids(void **state)
{
    int last = 0, fds[100];
    (void)state;
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < COUNT(fds); i++) {
            fds[i] = init(fresh_name());
            assert_true(fds[i] > last);
            last = fds[i];
        }
        for (size_t i = 0; i < COUNT(fds); i++)
            OK(ipcio_EndConnection(fds[i * 37 % COUNT(fds)]));
    }
}

static void test_bad_arguments(void **state)
{
    const char *name = fresh_name();
    (void)state;
    FAILS(INVALID, ipcio_InitConnection(-1, name, 1, NULL, NULL, 65536));
    FAILS(INVALID, ipcio_InitConnection(5, name, 1, NULL, NULL, 65536));
    FAILS(INVALID, ipcio_InitConnection(ipcio_cNamedPipe, name, 1, NULL, NULL, 1023));
    FAILS(INVALID, ipcio_OpenConnection(ipcio_cNamedPipe, name, 1, NULL, NULL, -1));
    FAILS(INVALID, ipcio_InitConnection(ipcio_cNamedPipe, "a\xff", 1, NULL, NULL, 65536));
    FAILS(INVALID, ipcio_OpenConnection(ipcio_cNamedPipe, "pipe://", 1, NULL, NULL, 65536));
}

static void test_second_server(void **state)
{
    const char *name = fresh_name();
    int fd = init(name);
    (void)state;
    FAILS(EXISTS, init(name));
    OK(ipcio_EndConnection(fd));
}

/* Not blocking: what would have to wait answers at once. */
static void test_not_blocking(void **state)
{
    const char *name = fresh_name();
    int server, client;
    const void *data;
    size_t size;
    (void)state;
    FAILS(MISSING, ipcio_OpenConnection(ipcio_cNamedPipe, name, 0, NULL, NULL, 65536));
    server = ipcio_InitConnection(ipcio_cNamedPipe, name, 0, NULL, NULL, 65536);
    FAILS(TIMEOUT, ipcio_StartConnection(server));
    client = ipcio_OpenConnection(ipcio_cNamedPipe, name, 0, NULL, NULL, 65536);
    assert_true(client > 0);
    OK(ipcio_StartConnection(server));
    FAILS(TIMEOUT, ipcio_ReadData(server, &data, &size));
    write_text(client, "hello");
    read_text(server, "hello");
    OK(ipcio_CloseConnection(client));
    OK(ipcio_EndConnection(server));
}

static int slept; /* how often the sleep function was called */

static int counting(void *context)
{
    CHECK(context == &slept);
    slept++;
    return 0;
}

static int ending(void *context)
{
    return ++*(int *)context == 3;
}

static void test_sleep_function(void **state)
{
    const char *name = fresh_name();
    int server = ipcio_InitConnection(ipcio_cNamedPipe, name, 1, ending, &slept, 65536);
    int client, was = ipcio_SleepInterval(5);
    int64_t began = now_ms();
    const void *data;
    size_t size;
    (void)state;
    assert_int_equal(was, 10);
    assert_int_equal(ipcio_SleepInterval(0), 5);
    slept = 0;
    FAILS(INTERRUPTED, ipcio_StartConnection(server));
    assert_int_equal(slept, 3);
    assert_true(now_ms() - began >= 10 && now_ms() - began < AT_ONCE_MS);

    client = open_(name);
    OK(ipcio_StartConnection(server)); /* the wait ended, the server did not */
    slept = 0;
    FAILS(INTERRUPTED, ipcio_ReadData(server, &data, &size));
    assert_int_equal(slept, 3);
    slept = 0;
    write_text(client, "hello");
    read_text(server, "hello");
    assert_int_equal(slept, 0); /* nothing had to wait */
    for (int type = ipcio_cNamedPipe; type < ipcio_cMailSlot; type++) {
        slept = 0;
        FAILS(INTERRUPTED, ipcio_OpenConnection(type, type == ipcio_cTCP ? "1" : fresh_name(), 1, ending, &slept, 65536));
        assert_int_equal(slept, 3);
    }
    assert_int_equal(ipcio_SleepInterval(was), 5);
    (void)ipcio_SleepInterval(1001); /* changes nothing */
    (void)ipcio_SleepInterval(-5);
    assert_int_equal(ipcio_SleepInterval(0), was);
    OK(ipcio_CloseConnection(client));
    OK(ipcio_EndConnection(server));
}

/* It goes on being called until what was waited for is there. */
static void test_sleep_function_goes_on(void **state)
{
    const char *name = fresh_name();
    int client;
    struct child *server;
    (void)state;
    slept = 0;
    server = start("greeter", name, "1", NULL);
    client = ipcio_OpenConnection(ipcio_cNamedPipe, name, 1, counting, &slept, 65536);
    assert_true(client > 0);
    write_text(client, "world");
    read_text(client, "hello world");
    OK(ipcio_CloseConnection(client));
    finish(server);
}

static void test_steps(void **state)
{
    const char *name = fresh_name();
    int server = init(name), client = open_(name);
    static unsigned char message[50000], got[50000];
    size_t size, n, done = 0;
    (void)state;
    OK(ipcio_StartConnection(server));
    fill(message, sizeof message, 9);
    OK(ipcio_WriteStart(client));
    OK(ipcio_WriteSize(client, sizeof message));
    for (size_t i = 0; i < sizeof message; i += 1000)
        OK(ipcio_WriteBuffer(client, message + i, 1000));
    OK(ipcio_WriteEnd(client));
    OK(ipcio_ReadStart(server));
    OK(ipcio_ReadSize(server, &size));
    assert_int_equal(size, sizeof message);
    for (;;) {
        OK(ipcio_ReadBuffer(server, got + done, sizeof got - done < 777 ? sizeof got - done : 777, &n));
        if ((done += n) == sizeof got)
            break;
        assert_true(n > 0);
    }
    OK(ipcio_ReadBuffer(server, got, 1, &n));
    assert_int_equal(n, 0);
    OK(ipcio_ReadEnd(server));
    assert_memory_equal(got, message, sizeof got);
    write_text(client, "after");
    read_text(server, "after");
    OK(ipcio_CloseConnection(client));
    OK(ipcio_EndConnection(server));
}

/* What a binding does: nothing waits but SleepConnection. */
static void test_suspend(void **state)
{
    const char *name = fresh_name();
    int server, client = ipcio_OpenConnection(ipcio_cNamedPipe, name, 1, IPCIO_SUSPEND, NULL, 65536), want;
    const void *data;
    size_t size;
    (void)state;
    assert_true(client > 0); /* though nobody serves yet */
    do /* until the interval has passed */
        assert_true((want = ipcio_FinishOpenConnection(client)) > 0);
    while ((want = ipcio_SleepConnection(client, want, 0)) == IPCIO_OK);
    FAILS(TIMEOUT, want);
    server = ipcio_InitConnection(ipcio_cNamedPipe, name, 1, IPCIO_SUSPEND, NULL, 65536);
    while ((want = ipcio_FinishOpenConnection(client)) > 0)
        (void)ipcio_SleepConnection(client, want, 0);
    OK(want);
    while ((want = ipcio_StartConnection(server)) > 0)
        (void)ipcio_SleepConnection(server, want, 0);
    OK(want);
    assert_int_equal(ipcio_ReadData(server, &data, &size), IPCIO_WANT_READ);
    FAILS(INTERRUPTED, ipcio_GiveUpConnection(server, IPCIO_WANT_READ, IPCIO_INTERRUPTED));
    write_text(client, "hello");
    assert_int_equal(ipcio_SleepConnection(server, IPCIO_WANT_READ, 0), IPCIO_OK);
    read_text(server, "hello");
    OK(ipcio_CloseConnection(client));
    OK(ipcio_EndConnection(server));
}

static void test_suspended_open_given_up(void **state)
{
    int client = ipcio_OpenConnection(ipcio_cNamedPipe, fresh_name(), 1, IPCIO_SUSPEND, NULL, 65536), want;
    (void)state;
    assert_true(client > 0);
    assert_true((want = ipcio_FinishOpenConnection(client)) > 0);
    FAILS(INTERRUPTED, ipcio_GiveUpConnection(client, want, IPCIO_INTERRUPTED));
    (void)ipcio_CloseConnection(client);
    FAILS(INVALID, ipcio_CloseConnection(client));
}

static void test_types_of_this_build(void **state)
{
    static const char *const schemes[] = {"pipe", "file", "tcp", "shm", "mailslot"};
    (void)state;
    for (int type = ipcio_cNamedPipe; type <= ipcio_cMailSlot; type++) {
        const char *const *transport = ipcio_transports();
        int fd;
        while (*transport != NULL && strcmp(*transport, schemes[type]) != 0)
            transport++;
        fd = ipcio_InitConnection(type, NULL, 1, NULL, NULL, 65536);
        if (*transport != NULL) {
            assert_true(fd > 0);
            OK(ipcio_EndConnection(fd));
        } else {
            FAILS(UNSUPPORTED, fd);
        }
    }
}

static int leaves(char **arguments)
{
    static const int types[] = {ipcio_cNamedPipe, ipcio_cFile, ipcio_cSharedMem};
    for (size_t i = 0; i < COUNT(types); i++) {
        CHECK(ipcio_InitConnection(types[i], arguments[0], 1, NULL, NULL, 65536) > 0);
        CHECK(ipcio_OpenConnection(types[i], arguments[0], 1, NULL, NULL, 65536) > 0);
    }
    exit(0); /* as at the end of main */
}

/* What a program did not end leaves nothing behind. */
static void test_exit(void **state)
{
    int before = count_entries(getenv("IPCIO_DIR"));
    (void)state;
    struct child *child = start("leaves", fresh_name(), NULL);
    finish(child);
    assert_int_equal(count_entries(getenv("IPCIO_DIR")), before);
}

int main(int argc, char **argv)
{
    static const struct role roles[] = {{"greeter", greeter_role}, {"leaves", leaves}, {NULL, NULL}};
    const struct CMUnitTest tests[] = {
        TEST(test_life_cycle),     TEST(test_default_resource),       TEST(test_client_first),
        TEST(test_wrong_order),    TEST(test_unknown_ids),            TEST(test_many_ids),
        TEST(test_bad_arguments),  TEST(test_second_server),          TEST(test_not_blocking),
        TEST(test_sleep_function), TEST(test_sleep_function_goes_on), TEST(test_steps),
        TEST(test_suspend),        TEST(test_suspended_open_given_up), TEST(test_types_of_this_build),
        TEST(test_exit),
    };
    RUN(argc, argv, roles, tests);
}
