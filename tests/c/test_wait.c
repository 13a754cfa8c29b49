/* test_wait.c - waiting elsewhere: IPCIO_TRY, descriptors, deadlines, signals, sets. */
#include "helper.h"

#include <sys/time.h>

static unsigned char big[1 << 20];

static int readable(int fd)
{
    struct pollfd poll_fd = {fd, POLLIN, 0};
    CHECK(fd >= 0 && poll(&poll_fd, 1, 0) >= 0);
    return (poll_fd.revents & POLLIN) != 0;
}

static int writable(int fd)
{
    struct pollfd poll_fd = {fd, POLLOUT, 0};
    CHECK(fd >= 0 && poll(&poll_fd, 1, 0) >= 0);
    return (poll_fd.revents & POLLOUT) != 0;
}

/* There is no message.  What came instead, such as the peer's greeting, is taken in. */
static void nothing_to_read(ipcio_conn *conn)
{
    const void *data;
    size_t size;
    assert_int_equal(ipcio_read(conn, IPCIO_TRY, &data, &size), IPCIO_WANT_READ);
}

/* The descriptor for reading says what a read would find, also of messages that were read ahead. */
static void test_fileno(void **state)
{
    struct pair pair;
    const void *data;
    size_t size;
    int fd;
    (void)state;
    open_pair(&pair);
    fd = ipcio_fileno(pair.peer);
    nothing_to_read(pair.peer);
    assert_false(readable(fd));
    for (int i = 0; i < 5; i++)
        WRITES(pair.client, "message");
    OK(ipcio_write(pair.client, NULL, 0, LONG_MS));
    for (int i = 0; i < 5; i++) {
        assert_true(readable(fd));
        assert_true(readable(fd)); /* it is level-triggered */
        READS(pair.peer, "message");
    }
    assert_true(readable(fd));
    READS(pair.peer, "");
    assert_false(readable(fd));
    nothing_to_read(pair.peer);
    assert_false(readable(fd));
    assert_int_equal(ipcio_fileno(pair.peer), fd);
    WRITES(pair.client, "last");
    ipcio_conn_close(pair.client);
    READS(pair.peer, "last");
    assert_true(readable(fd)); /* the end */
    FAILS(CLOSED, ipcio_read(pair.peer, 0, &data, &size));
    assert_true(readable(fd));
    free_pair(&pair);
}

/* Asked for only when messages were read ahead already. */
static void test_fileno_asked_late(void **state)
{
    struct pair pair;
    (void)state;
    open_pair(&pair);
    WRITES(pair.client, "one");
    WRITES(pair.client, "two");
    READS(pair.peer, "one");
    assert_true(readable(ipcio_fileno(pair.peer)));
    READS(pair.peer, "two");
    assert_false(readable(ipcio_fileno(pair.peer)));
    free_pair(&pair);
}

/* Of half a message there is nothing to read yet, once a reading call has taken that in. */
static void test_fileno_of_half_a_message(void **state)
{
    static const size_t sizes[] = {60000, sizeof big};
    struct pair pair;
    const void *data;
    size_t size;
    (void)state;
    for (size_t i = 0; i < COUNT(sizes); i++) {
        int st;
        open_pair(&pair);
        fill(big, sizes[i], 0);
        while ((st = ipcio_write(pair.client, big, sizes[i], IPCIO_TRY)) == 0) continue;
        assert_int_equal(st, IPCIO_WANT_WRITE);
        while ((st = ipcio_read(pair.peer, IPCIO_TRY, &data, &size)) == 0) continue;
        assert_int_equal(st, IPCIO_WANT_READ);
        assert_false(readable(ipcio_fileno(pair.peer)));
        FAILS(TIMEOUT, ipcio_give_up(pair.client, IPCIO_WANT_WRITE, IPCIO_TIMEOUT, 0.5));
        free_pair(&pair);
    }
}

/* It is readable while the next piece is here, also of what was converted. */
static void test_fileno_between_pieces(void **state)
{
    static const char *const options[] = {NULL, "nul=1", "framing=line"};
    struct pair pair;
    char piece[8];
    size_t size, got;
    (void)state;
    for (size_t i = 0; i < COUNT(options); i++) {
        open_pair_at(&pair, fresh(), options[i], options[i]);
        int fd = ipcio_fileno(pair.peer);
        WRITES(pair.client, "hello world");
        OK(ipcio_read_start(pair.peer, LONG_MS, &size));
        do {
            assert_true(readable(fd)); /* also for the end */
            OK(ipcio_read_buffer(pair.peer, piece, 4, IPCIO_TRY, &got));
        } while (got > 0);
        assert_false(readable(fd));
        OK(ipcio_read_end(pair.peer, LONG_MS));
        nothing_to_read(pair.peer);
        assert_false(readable(fd));
        free_pair(&pair);
    }
}

static void test_write_fileno(void **state)
{
    struct pair pair;
    const void *data;
    size_t size;
    int fd, st;
    (void)state;
    open_pair(&pair);
    fd = ipcio_write_fileno(pair.client);
    assert_true(writable(fd));
    fill(big, sizeof big, 0);
    assert_int_equal(ipcio_write(pair.client, big, sizeof big, IPCIO_TRY), IPCIO_WANT_WRITE);
    assert_false(writable(fd));
    while ((st = ipcio_write(pair.client, big, sizeof big, IPCIO_TRY)) > 0) {
        nothing_to_read(pair.peer); /* it takes in what is there, and makes room */
        assert_true(writable(fd));
    }
    OK(st);
    OK(ipcio_read(pair.peer, LONG_MS, &data, &size));
    assert_true(size == sizeof big && is_filled(data, size, 0));
    assert_true(writable(fd));
    free_pair(&pair);
}

static void test_server_fileno(void **state)
{
    const char *address = fresh();
    ipcio_server *server;
    ipcio_conn *conn, *client = NULL;
    (void)state;
    OK(ipcio_listen(address, NULL, &server));
    assert_false(readable(ipcio_fileno(server)));
    (void)ipcio_connect(address, NULL, IPCIO_TRY, &client);
    assert_true(readable(ipcio_fileno(server)));
    OK(ipcio_accept(server, 0, &conn));
    assert_false(readable(ipcio_fileno(server)));
    ipcio_conn_free(client);
    ipcio_conn_free(conn);
    ipcio_server_free(server);
}

static void test_give_up(void **state)
{
    struct pair pair;
    const void *data;
    size_t size;
    (void)state;
    open_pair(&pair);
    fill(big, sizeof big, 0);
    assert_int_equal(ipcio_write(pair.client, big, sizeof big, IPCIO_TRY), IPCIO_WANT_WRITE);
    FAILS(TIMEOUT, ipcio_give_up(pair.client, IPCIO_WANT_WRITE, IPCIO_TIMEOUT, 2.5));
    assert_non_null(strstr(ipcio_message(), "2.5"));
    assert_non_null(strstr(ipcio_message(), ipcio_conn_address(pair.client)));
    FAILS(TIMEOUT, ipcio_read(pair.peer, 0, &data, &size));
    WRITES(pair.client, "after");
    READS(pair.peer, "after");

    assert_int_equal(ipcio_call(pair.client, "slow", 4, IPCIO_TRY, &data, &size), IPCIO_WANT_READ);
    FAILS(INTERRUPTED, ipcio_give_up(pair.client, IPCIO_WANT_READ, IPCIO_INTERRUPTED, -1));
    READS(pair.peer, "slow");
    WRITES(pair.peer, "late");
    assert_int_equal(ipcio_call(pair.client, "fast", 4, IPCIO_TRY, &data, &size), IPCIO_WANT_READ);
    READS(pair.peer, "fast");
    WRITES(pair.peer, "in time");
    OK(ipcio_wait(pair.client, IPCIO_WANT_READ, ipcio_deadline(30)));
    OK(ipcio_call(pair.client, "fast", 4, IPCIO_TRY, &data, &size));
    assert_int_equal(size, 7);
    free_pair(&pair);
}

static void test_connect_given_up(void **state)
{
    ipcio_conn *conn = NULL;
    int st = ipcio_connect(fresh(), NULL, IPCIO_TRY, &conn);
    (void)state;
    assert_true(st > 0);
    assert_non_null(conn);
    OK(ipcio_wait(conn, st, ipcio_deadline(30))); /* it looks now and then */
    FAILS(TIMEOUT, ipcio_give_up(conn, st, IPCIO_TIMEOUT, 0.02));
    assert_non_null(strstr(ipcio_message(), "0.02"));
    ipcio_conn_free(conn);
}

static void test_deadlines(void **state)
{
    int64_t now = ipcio_now(), in_a_second = ipcio_deadline(1);
    (void)state;
    assert_true(in_a_second >= now + 1000000000 && in_a_second < now + 30000000000);
    assert_true(ipcio_deadline(0) >= now && ipcio_deadline(0) <= ipcio_now());
    assert_true(ipcio_deadline(1e-9) >= now);
    assert_true(ipcio_deadline(-1) == ipcio_deadline(1e300));
    assert_true(ipcio_deadline(-1) == ipcio_deadline(9.3e9)); /* 294 years */
    assert_true(ipcio_deadline(-1) > ipcio_deadline(9e9));
}

static volatile sig_atomic_t signals;

static void on_alarm(int signal)
{
    (void)signal;
    signals++;
}

static void signals_every(int ms)
{
    struct itimerval timer = {{0, ms * 1000}, {0, ms * 1000}};
    struct sigaction action = {.sa_handler = ms > 0 ? on_alarm : SIG_DFL};
    signals = 0;
    if (ms > 0)
        sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &timer, NULL);
    if (ms == 0)
        signal(SIGALRM, SIG_IGN);
}

/* A signal ends ipcio_wait, and no other call: their deadline goes on. */
static void test_signals(void **state)
{
    struct pair pair;
    const void *data;
    size_t size;
    ipcio_set *set;
    ipcio_conn *conn;
    void *which;
    int64_t began;
    (void)state;
    open_pair(&pair);
    nothing_to_read(pair.client);
    OK(ipcio_set_new(&set));
    OK(ipcio_set_add(set, pair.client, IPCIO_WANT_READ));
    signals_every(20);
    FAILS(INTERRUPTED, ipcio_wait(pair.client, IPCIO_WANT_READ, ipcio_deadline(30)));
    FAILS(INTERRUPTED, ipcio_set_wait(set, ipcio_deadline(30), &which));
    began = now_ms();
    signals = 0;
    FAILS(TIMEOUT, ipcio_read(pair.client, 100, &data, &size));
    FAILS(TIMEOUT, ipcio_accept(pair.server, 100, &conn));
    assert_true(signals >= 2);
    assert_true(now_ms() - began >= 200 && now_ms() - began < 200 + AT_ONCE_MS);
    signals_every(0);
    ipcio_set_free(set);
    free_pair(&pair);
}

static void test_wait_misused(void **state)
{
    struct pair pair;
    (void)state;
    open_pair(&pair);
    FAILS(INVALID, ipcio_wait(pair.client, 0, ipcio_deadline(0)));
    FAILS(INVALID, ipcio_wait(pair.client, 77, ipcio_deadline(0)));
    free_pair(&pair);
}

static void test_set(void **state)
{
    struct pair pairs[3];
    ipcio_set *set;
    void *which;
    const char *address = fresh();
    ipcio_conn *conn, *client = NULL;
    ipcio_server *server;
    (void)state;
    OK(ipcio_set_new(&set));
    OK(ipcio_listen(address, NULL, &server));
    OK(ipcio_set_add(set, server, IPCIO_WANT_READ));
    for (int i = 0; i < 3; i++) {
        open_pair(&pairs[i]);
        nothing_to_read(pairs[i].peer);
        OK(ipcio_set_add(set, pairs[i].peer, IPCIO_WANT_READ));
    }
    FAILS(TIMEOUT, ipcio_set_wait(set, ipcio_deadline(0), &which));
    FAILS(TIMEOUT, ipcio_set_wait(set, ipcio_deadline(0.03), &which));

    WRITES(pairs[1].client, "one");
    for (int i = 0; i < 2; i++) {
        OK(ipcio_set_wait(set, ipcio_deadline(30), &which));
        assert_ptr_equal(which, pairs[1].peer);
    }
    READS(pairs[1].peer, "one");
    nothing_to_read(pairs[1].peer);
    FAILS(TIMEOUT, ipcio_set_wait(set, ipcio_deadline(0), &which));

    (void)ipcio_connect(address, NULL, IPCIO_TRY, &client);
    OK(ipcio_set_wait(set, ipcio_deadline(30), &which));
    assert_ptr_equal(which, server);
    OK(ipcio_accept(server, 0, &conn));

    OK(ipcio_set_add(set, pairs[2].peer, IPCIO_WANT_WRITE)); /* now for writing, and that it can */
    OK(ipcio_set_wait(set, ipcio_deadline(30), &which));
    assert_ptr_equal(which, pairs[2].peer);
    ipcio_set_remove(set, pairs[2].peer);
    WRITES(pairs[2].client, "not looked at");
    FAILS(TIMEOUT, ipcio_set_wait(set, ipcio_deadline(0.03), &which));

    ipcio_conn_close(pairs[0].client); /* the peer's end is news */
    OK(ipcio_set_wait(set, ipcio_deadline(30), &which));
    assert_ptr_equal(which, pairs[0].peer);
    ipcio_set_remove(set, pairs[0].peer);
    FAILS(TIMEOUT, ipcio_set_wait(set, ipcio_deadline(0), &which));
    ipcio_server_close(server); /* so is a close on this side */
    OK(ipcio_set_wait(set, ipcio_deadline(30), &which));
    assert_ptr_equal(which, server);
    ipcio_server_free(server); /* and it leaves the set */
    FAILS(TIMEOUT, ipcio_set_wait(set, ipcio_deadline(0.03), &which));
    ipcio_conn_close(pairs[0].peer);
    FAILS(INVALID, ipcio_set_add(set, pairs[0].peer, IPCIO_WANT_READ));
    ipcio_set_free(set);
    WRITES(pairs[1].client, "after");
    READS(pairs[1].peer, "after");
    ipcio_conn_free(client);
    ipcio_conn_free(conn);
    for (int i = 0; i < 3; i++)
        free_pair(&pairs[i]);
}

/* What was read ahead is seen by who adds the connection again; also when nothing was read since. */
static void test_set_sees_what_was_read_ahead(void **state)
{
    struct pair pair;
    ipcio_set *set;
    void *which;
    (void)state;
    open_pair(&pair);
    OK(ipcio_set_new(&set));
    for (int i = 0; i < 3; i++)
        WRITES(pair.client, "message");
    for (int i = 0; i < 3; i++) {
        OK(ipcio_set_add(set, pair.peer, IPCIO_WANT_READ));
        OK(ipcio_set_add(set, pair.peer, IPCIO_WANT_READ));
        OK(ipcio_set_wait(set, ipcio_deadline(30), &which));
        assert_ptr_equal(which, pair.peer);
        READS(pair.peer, "message");
    }
    nothing_to_read(pair.peer);
    OK(ipcio_set_add(set, pair.peer, IPCIO_WANT_READ));
    FAILS(TIMEOUT, ipcio_set_wait(set, ipcio_deadline(0.03), &which));
    ipcio_set_free(set);
    free_pair(&pair);
}

/* All that are ready get their turn, however busy one of them is. */
static void test_set_is_fair(void **state)
{
    struct pair pairs[3];
    int seen[3] = {0};
    ipcio_set *set;
    (void)state;
    OK(ipcio_set_new(&set));
    for (int i = 0; i < 3; i++) {
        open_pair(&pairs[i]);
        OK(ipcio_set_add(set, pairs[i].peer, IPCIO_WANT_READ));
        WRITES(pairs[i].client, "x");
    }
    for (int k = 0; k < 30; k++) {
        void *which;
        OK(ipcio_set_wait(set, ipcio_deadline(30), &which));
        for (int i = 0; i < 3; i++)
            if (which == pairs[i].peer) {
                seen[i]++;
                READS(pairs[i].peer, "x");
                nothing_to_read(pairs[i].peer);
                WRITES(pairs[i].client, "x");
            }
    }
    for (int i = 0; i < 3; i++) {
        assert_true(seen[i] > 0);
        free_pair(&pairs[i]);
    }
    ipcio_set_free(set);
}

static void test_sets_and_their_handles_end_in_any_order(void **state)
{
    struct pair pair;
    ipcio_set *one, *other;
    (void)state;
    open_pair(&pair);
    OK(ipcio_set_new(&one));
    OK(ipcio_set_new(&other));
    OK(ipcio_set_add(one, pair.peer, IPCIO_WANT_READ));
    OK(ipcio_set_add(other, pair.client, IPCIO_WANT_READ));
    OK(ipcio_set_add(other, pair.server, IPCIO_WANT_READ));
    ipcio_set_free(one);
    free_pair(&pair);
    ipcio_set_free(other);
}

int main(int argc, char **argv)
{
    static const struct role roles[] = {{NULL, NULL}};
    const struct CMUnitTest tests[] = {
        TEST(test_fileno),
        TEST(test_fileno_asked_late),
        TEST(test_fileno_of_half_a_message),
        TEST(test_fileno_between_pieces),
        TEST(test_write_fileno),
        TEST(test_server_fileno),
        TEST(test_give_up),
        TEST(test_connect_given_up),
        TEST(test_deadlines),
        TEST(test_signals),
        TEST(test_wait_misused),
        TEST(test_set),
        TEST(test_set_sees_what_was_read_ahead),
        TEST(test_set_is_fair),
        TEST(test_sets_and_their_handles_end_in_any_order),
    };
    RUN(argc, argv, roles, tests);
}
