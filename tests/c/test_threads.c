/* test_threads.c - one reader and one writer at a time; closing wakes them; both directions at once. */
#include "helper.h"

static unsigned char big[5 << 20];

static int reading(void *conn)
{
    const void *data;
    size_t size;
    int st = ipcio_read(conn, -1, &data, &size);
    return st == 0 ? (int)size : st;
}

static int writing(void *conn) { return ipcio_write(conn, big, sizeof big, -1); }

static int accepting(void *server)
{
    ipcio_conn *conn;
    int st = ipcio_accept(server, -1, &conn);
    ipcio_conn_free(conn);
    return st;
}

static int serving(void *server) { return ipcio_serve(server, echo_handler, NULL); }

static void test_second_reader(void **state)
{
    struct pair pair;
    struct thread thread;
    const void *data;
    size_t size;
    (void)state;
    open_pair(&pair);
    begin(&thread, reading, pair.peer);
    until_waiting(&thread);
    FAILS(INVALID, ipcio_read(pair.peer, -1, &data, &size));
    FAILS(INVALID, ipcio_read(pair.peer, 0, &data, &size));
    FAILS(INVALID, ipcio_read_start(pair.peer, -1, &size));
    FAILS(INVALID, ipcio_call(pair.peer, "x", 1, -1, &data, &size));
    WRITES(pair.peer, "writing is free");
    READS(pair.client, "writing is free");
    WRITES(pair.client, "hello");
    assert_int_equal(end(&thread), 5);
    free_pair(&pair);
}

static void test_second_writer(void **state)
{
    struct pair pair;
    struct thread thread;
    const void *data;
    size_t size;
    (void)state;
    fill(big, sizeof big, 0);
    open_pair(&pair);
    begin(&thread, writing, pair.client);
    until_waiting(&thread);
    FAILS(INVALID, ipcio_write(pair.client, "x", 1, -1));
    FAILS(INVALID, ipcio_write_start(pair.client, 1, 0));
    FAILS(INVALID, ipcio_call(pair.client, "x", 1, -1, &data, &size));
    WRITES(pair.peer, "reading is free");
    READS(pair.client, "reading is free");
    OK(ipcio_read(pair.peer, LONG_MS, &data, &size));
    assert_true(size == sizeof big && is_filled(data, size, 0));
    OK(end(&thread));
    WRITES(pair.client, "after");
    READS(pair.peer, "after");
    free_pair(&pair);
}

static void test_second_accepter(void **state)
{
    struct thread thread;
    ipcio_server *server;
    ipcio_conn *conn;
    (void)state;
    OK(ipcio_listen(fresh(), NULL, &server));
    begin(&thread, accepting, server);
    until_waiting(&thread);
    FAILS(INVALID, ipcio_accept(server, -1, &conn));
    ipcio_server_close(server);
    assert_int_equal(end(&thread), IPCIO_INVALID);
    ipcio_server_free(server);
}

static void test_close_wakes_a_reader_and_a_writer(void **state)
{
    struct pair pair;
    struct thread reader, writer;
    const void *data;
    size_t size;
    (void)state;
    open_pair(&pair);
    begin(&reader, reading, pair.client);
    begin(&writer, writing, pair.client);
    until_waiting(&reader);
    until_waiting(&writer);
    ipcio_conn_close(pair.client);
    assert_int_equal(end(&reader), IPCIO_INVALID);
    assert_int_equal(end(&writer), IPCIO_INVALID);
    FAILS(CLOSED, ipcio_read(pair.peer, LONG_MS, &data, &size)); /* not half of the message */
    free_pair(&pair);
}

static void test_close_wakes_servers(void **state)
{
    struct thread thread;
    ipcio_server *server;
    (void)state;
    OK(ipcio_listen(fresh(), NULL, &server));
    begin(&thread, accepting, server);
    until_waiting(&thread);
    ipcio_server_close(server);
    assert_int_equal(end(&thread), IPCIO_INVALID);
    ipcio_server_free(server);

    OK(ipcio_listen(fresh(), NULL, &server));
    begin(&thread, serving, server);
    until_waiting(&thread);
    ipcio_server_close(server);
    assert_int_equal(end(&thread), IPCIO_OK);
    ipcio_server_free(server);
}

static void test_stop_wakes_serve(void **state)
{
    struct thread thread;
    ipcio_server *server;
    ipcio_conn *conn;
    const void *data;
    size_t size;
    const char *address = fresh();
    (void)state;
    OK(ipcio_listen(address, NULL, &server));
    ipcio_server_stop(server);
    OK(serving(server)); /* it was stopped before */
    for (int i = 0; i < 3; i++) {
        begin(&thread, serving, server);
        OK(ipcio_connect(address, NULL, LONG_MS, &conn));
        OK(ipcio_call(conn, "x", 1, LONG_MS, &data, &size));
        ipcio_server_stop(server);
        OK(end(&thread));
        ipcio_conn_free(conn);
    }
    ipcio_server_free(server);
}

/* However often: a close between try and wait must not be missed, nor is anything freed that the reader still leaves. */
static void test_close_races_a_reader(void **state)
{
    (void)state;
    for (int i = 0; i < 200; i++) {
        struct pair pair;
        struct thread thread;
        open_pair_at(&pair, text_of("%s://%s", i % 2 ? "shm" : "pipe", fresh_name()), NULL, NULL);
        begin(&thread, reading, pair.client);
        for (int k = 0; k < i / 2 % 20 * 50; k++)
            sched_yield();
        ipcio_conn_close(pair.client);
        ipcio_conn_forget(pair.client);
        assert_int_equal(end(&thread), IPCIO_INVALID);
        free_pair(&pair);
    }
}

enum { ROUNDS = 60 };

static int sending(void *conn)
{
    unsigned char *data = malloc(100000);
    int st = 0;
    for (size_t i = 0; i < ROUNDS && st == 0; i++) {
        size_t size = i * 7919 % 100000;
        fill(data, size, i);
        st = ipcio_write(conn, data, size, LONG_MS);
    }
    free(data);
    return st;
}

static int receiving(void *conn)
{
    for (size_t i = 0; i < ROUNDS; i++) {
        const void *data;
        size_t size;
        int st = ipcio_read(conn, LONG_MS, &data, &size);
        if (st != 0)
            return st;
        if (size != i * 7919 % 100000 || !is_filled(data, size, i))
            return IPCIO_PROTOCOL;
    }
    return 0;
}

/* "duplex" ADDRESS: the other side of the test. */
static int duplex_role(char **arguments)
{
    struct thread thread;
    ipcio_conn *conn;
    OK(ipcio_connect(arguments[0], NULL, LONG_MS, &conn));
    begin(&thread, sending, conn);
    OK(receiving(conn));
    OK(end(&thread));
    ipcio_conn_free(conn);
    return 0;
}

static void test_duplex(void **state)
{
    const char *address = fresh();
    struct child *child = start("duplex", address, NULL);
    struct thread thread;
    ipcio_server *server;
    ipcio_conn *conn;
    (void)state;
    OK(ipcio_listen(address, NULL, &server));
    OK(ipcio_accept(server, LONG_MS, &conn));
    begin(&thread, sending, conn);
    OK(receiving(conn));
    OK(end(&thread));
    finish(child);
    ipcio_conn_free(conn);
    ipcio_server_free(server);
}

static int reading_in_vain(void *opaque)
{
    const void *data;
    size_t size;
    for (int i = 0; i < 2000; i++) {
        int st = ipcio_read(opaque, 0, &data, &size);
        if (st != IPCIO_TIMEOUT) return st;
    }
    return 0;
}

/* A reader whose timeouts pass is no trouble to the one who writes. */
static void test_timeouts_of_a_reader(void **state)
{
    struct pair pair;
    struct thread thread;
    const void *data;
    size_t size;
    (void)state;
    open_pair(&pair);
    begin(&thread, reading_in_vain, pair.client);
    for (int i = 0; i < 2000; i++) {
        OK(ipcio_write(pair.client, "x", 1, LONG_MS));
        OK(ipcio_read(pair.peer, LONG_MS, &data, &size));
    }
    OK(end(&thread));
    free_pair(&pair);
}

static int calling(void *address)
{
    ipcio_conn *conn;
    unsigned char data[64];
    int st = ipcio_connect(address, NULL, LONG_MS, &conn);
    for (size_t i = 0; i < 200 && st == 0; i++) {
        const void *answer;
        size_t size;
        fill(data, sizeof data, i + (uintptr_t)conn % 251);
        st = ipcio_call(conn, data, sizeof data, LONG_MS, &answer, &size);
        if (st == 0 && (size != sizeof data || memcmp(answer, data, size) != 0))
            st = IPCIO_PROTOCOL;
    }
    ipcio_conn_free(conn);
    return st;
}

static void test_connections_are_independent(void **state)
{
    char *address = strdup(fresh());
    struct child *server = start_echo(address);
    struct thread threads[8];
    (void)state;
    for (size_t i = 0; i < COUNT(threads); i++)
        begin(&threads[i], calling, address);
    for (size_t i = 0; i < COUNT(threads); i++)
        OK(end(&threads[i]));
    stop(server);
    free(address);
}

/* Two threads of one process race for a name: one has it. */
static int listening(void *address)
{
    ipcio_server *server;
    int st = ipcio_listen(address, NULL, &server);
    if (st == 0)
        ipcio_server_close(server);
    ipcio_server_free(server);
    return st;
}

static void test_threads_race_for_a_name(void **state)
{
    char *address = strdup(fresh());
    (void)state;
    for (int i = 0; i < 100; i++) {
        struct thread threads[2];
        ipcio_server *server;
        for (int k = 0; k < 2; k++)
            begin(&threads[k], listening, address);
        for (int k = 0; k < 2; k++) {
            int st = end(&threads[k]);
            assert_true(st == IPCIO_OK || st == IPCIO_EXISTS);
        }
        OK(ipcio_listen(address, NULL, &server));
        ipcio_server_free(server);
    }
    free(address);
}

int main(int argc, char **argv)
{
    static const struct role roles[] = {{"echo", echo_role}, {"duplex", duplex_role}, {NULL, NULL}};
    const struct CMUnitTest tests[] = {
        TEST(test_second_reader),
        TEST(test_second_writer),
        TEST(test_second_accepter),
        TEST(test_close_wakes_a_reader_and_a_writer),
        TEST(test_close_wakes_servers),
        TEST(test_stop_wakes_serve),
        TEST(test_close_races_a_reader),
        TEST(test_duplex),
        TEST(test_timeouts_of_a_reader),
        TEST(test_connections_are_independent),
        TEST(test_threads_race_for_a_name),
    };
    RUN(argc, argv, roles, tests);
}
