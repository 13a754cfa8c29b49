/* test_conn.c - connections: messages, limits, timeouts, pieces, calls, closing, wrong order. */
#include "helper.h"

#include <stdbool.h>
#include <sys/resource.h>

static unsigned char big[5 << 20];

static const char *fresh_of(const char *scheme)
{
    bool ported = strcmp(scheme, "tcp") == 0 || strcmp(scheme, "udp") == 0;
    return ported ? text_of("%s://127.0.0.1:0", scheme) : text_of("%s://%s", scheme, fresh_name());
}

static void test_echo(void **state)
{
    static const size_t sizes[] = {0, 1, 2, 256, 10240, 65519, 65535, 65536, 65537, 131072, 1 << 20, 5 << 20};
    const char *address = fresh();
    struct child *server = start_echo(address);
    ipcio_conn *conn;
    const void *answer;
    size_t size;
    (void)state;
    OK(ipcio_connect(address, NULL, LONG_MS, &conn));
    for (size_t i = 0; i < COUNT(sizes); i++) {
        fill(big, sizes[i], i);
        OK(ipcio_call(conn, big, sizes[i], LONG_MS, &answer, &size));
        assert_int_equal(size, sizes[i]);
        assert_non_null(answer);
        assert_true(is_filled(answer, size, i));
    }
    ipcio_conn_free(conn);
    stop(server);
}

static void test_buffer_never_limits(void **state)
{
    struct pair pair;
    size_t size;
    unsigned char got[70000];
    (void)state;
    for (int i = 0; i < 2; i++) {
        open_pair_at(&pair, fresh(), "buffer=1024", i == 0 ? "buffer=1024" : "buffer=1073741824");
        fill(got, sizeof got, 3);
        OK(ipcio_write(pair.client, got, sizeof got, LONG_MS));
        OK(ipcio_write(pair.client, got, 1023, LONG_MS));
        for (int k = 0; k < 2; k++) {
            const void *data;
            OK(ipcio_read(pair.peer, LONG_MS, &data, &size));
            assert_int_equal(size, k == 0 ? sizeof got : 1023);
            assert_true(is_filled(data, size, 3));
        }
        free_pair(&pair);
    }
}

static void test_identity_and_address(void **state)
{
    const char *address = fresh();
    struct child *server = start_echo(address);
    ipcio_conn *conn;
    ipcio_peer peer;
    (void)state;
    OK(ipcio_connect(text_of("%s?limit=1000", address), NULL, LONG_MS, &conn));
    assert_string_equal(ipcio_conn_address(conn), address);
    OK(ipcio_conn_peer(conn, &peer));
    assert_int_equal(peer.pid, server->pid);
    assert_int_equal(peer.uid, geteuid());
    assert_int_equal(peer.gid, getegid());
    ipcio_conn_free(conn);
    stop(server);
}

static void test_second_server(void **state)
{
    const char *address = fresh();
    struct child *server = start_echo(address);
    ipcio_server *second;
    ipcio_conn *conn;
    const void *answer;
    size_t size;
    (void)state;
    OK(ipcio_connect(address, NULL, LONG_MS, &conn));
    FAILS(EXISTS, ipcio_listen(address, NULL, &second));
    assert_null(second);
    assert_non_null(strstr(ipcio_message(), address));
    OK(ipcio_call(conn, "still", 5, LONG_MS, &answer, &size)); /* the first goes on, for old and new clients */
    ipcio_conn_free(conn);
    OK(ipcio_connect(address, NULL, LONG_MS, &conn));
    OK(ipcio_call(conn, "still", 5, LONG_MS, &answer, &size));
    ipcio_conn_free(conn);
    stop(server);
    OK(ipcio_listen(address, NULL, &second));
    ipcio_server_free(second);
}

static void test_limits(void **state)
{
    struct pair pair;
    (void)state;
    open_pair_at(&pair, fresh(), "limit=1000", "limit=500");
    fill(big, 1001, 0);
    FAILS(TOOBIG, ipcio_write(pair.client, big, 1001, LONG_MS)); /* over both */
    FAILS(TOOBIG, ipcio_write(pair.client, big, 501, LONG_MS));  /* over its own */
    FAILS(TOOBIG, ipcio_write(pair.peer, big, 501, LONG_MS));    /* over the peer's */
    FAILS(TOOBIG, ipcio_write_start(pair.peer, 501, LONG_MS));
    assert_non_null(strstr(ipcio_message(), "500"));
    OK(ipcio_write(pair.client, big, 500, LONG_MS));
    WRITES(pair.peer, "after");
    READS(pair.client, "after");
    check_read(pair.peer, big, 500, __FILE__, __LINE__); /* the first that arrives */
    free_pair(&pair);
}

static void test_default_limit(void **state)
{
    struct pair pair;
    const void *answer;
    size_t size;
    (void)state;
    open_pair(&pair);
    FAILS(TOOBIG, ipcio_write(pair.client, big, ((size_t)64 << 20) + 1, LONG_MS));
    FAILS(TOOBIG, ipcio_call(pair.client, big, SIZE_MAX, LONG_MS, &answer, &size));
    WRITES(pair.client, "after");
    READS(pair.peer, "after");
    free_pair(&pair);
}

/* Each answers TIMEOUT, and not before its time. */
#define TIMES_OUT(ms, call)                                                                                    \
    do {                                                                                                       \
        int64_t began_ = now_ms();                                                                             \
        FAILS(TIMEOUT, call);                                                                                  \
        CHECK(now_ms() - began_ >= (ms) && now_ms() - began_ < (ms) + AT_ONCE_MS);                             \
    } while (0)

static void test_timeouts(void **state)
{
    struct pair pair;
    ipcio_conn *conn;
    const void *data;
    size_t size;
    const char *nobody = fresh();
    (void)state;
    open_pair(&pair);
    TIMES_OUT(0, ipcio_read(pair.client, 0, &data, &size));
    TIMES_OUT(60, ipcio_read(pair.client, 60, &data, &size));
    assert_non_null(strstr(ipcio_message(), "0.06"));
    assert_non_null(strstr(ipcio_message(), ipcio_conn_address(pair.client)));
    TIMES_OUT(60, ipcio_read_start(pair.client, 60, &size));
    TIMES_OUT(60, ipcio_accept(pair.server, 60, &conn));
    assert_null(conn);
    TIMES_OUT(0, ipcio_accept(pair.server, 0, &conn));
    TIMES_OUT(60, ipcio_connect(nobody, NULL, 60, &conn));
    assert_null(conn);
    FAILS(MISSING, ipcio_connect(nobody, NULL, 0, &conn));
    TIMES_OUT(60, ipcio_call(pair.client, "x", 1, 60, &data, &size));
    READS(pair.peer, "x");
    assert_int_equal(ipcio_read(pair.client, IPCIO_TRY, &data, &size), IPCIO_WANT_READ);
    assert_int_equal(ipcio_read(pair.client, IPCIO_SPIN, &data, &size), IPCIO_WANT_READ);
    assert_int_equal(ipcio_call(pair.client, "x", 1, IPCIO_SPIN, &data, &size), IPCIO_WANT_READ);
    assert_int_equal(ipcio_give_up(pair.client, IPCIO_WANT_READ, IPCIO_TIMEOUT, 0), IPCIO_TIMEOUT);
    READS(pair.peer, "x");
    WRITES(pair.client, "after");
    READS(pair.peer, "after");
    free_pair(&pair);
}

static void test_bad_timeouts(void **state)
{
    struct pair pair;
    const void *data;
    size_t size;
    (void)state;
    open_pair(&pair);
    FAILS(INVALID, ipcio_read(pair.client, IPCIO_SPIN - 1, &data, &size));
    FAILS(INVALID, ipcio_call(pair.client, "x", 1, IPCIO_SPIN - 1, &data, &size));
    FAILS(INVALID, ipcio_write(pair.client, "x", 1, IPCIO_SPIN));
    FAILS(INVALID, ipcio_write(pair.client, "x", 1, INT32_MIN));
    WRITES(pair.client, "after");
    READS(pair.peer, "after");
    free_pair(&pair);
}

/* A write that gave up half way is never seen, and neither side has to do anything about it. */
static void test_write_that_times_out(void **state)
{
    struct pair pair;
    (void)state;
    open_pair(&pair);
    fill(big, sizeof big, 1);
    TIMES_OUT(60, ipcio_write(pair.client, big, sizeof big, 60));
    TIMES_OUT(0, ipcio_write(pair.client, big, sizeof big, 0));
    for (int i = 0; i < 3; i++) {
        FAILS(TIMEOUT, ipcio_write(pair.client, "unseen", 6, 0)); /* there is no room yet */
        FAILS(TIMEOUT, ipcio_write(pair.client, big, sizeof big, 10));
    }
    {
        const void *data;
        size_t size;
        FAILS(TIMEOUT, ipcio_read(pair.peer, 60, &data, &size)); /* takes what came, and it is nothing */
    }
    WRITES(pair.client, "after");
    READS(pair.peer, "after");
    WRITES(pair.peer, "and back");
    READS(pair.client, "and back");
    free_pair(&pair);
}

static void test_pieces(void **state)
{
    struct pair pair;
    unsigned char got[40000], piece[977];
    size_t size, n, done = 0, written = 0;
    (void)state;
    open_pair(&pair);
    fill(big, sizeof got, 5);
    OK(ipcio_write_start(pair.client, sizeof got, LONG_MS));
    for (size_t i = 0; written < sizeof got; i++, written += n) {
        n = i * 331 % 3000;
        n = n < sizeof got - written ? n : sizeof got - written;
        OK(ipcio_write_buffer(pair.client, big + written, n, LONG_MS));
    }
    OK(ipcio_write_end(pair.client, LONG_MS));
    OK(ipcio_write_start(pair.client, 0, LONG_MS)); /* an empty message in no pieces */
    OK(ipcio_write_end(pair.client, LONG_MS));

    OK(ipcio_read_start(pair.peer, LONG_MS, &size));
    assert_int_equal(size, sizeof got);
    for (;;) {
        OK(ipcio_read_buffer(pair.peer, piece, sizeof piece, LONG_MS, &n));
        if (n == 0)
            break;
        assert_true(n <= sizeof piece && done + n <= sizeof got);
        memcpy(got + done, piece, n);
        done += n;
    }
    OK(ipcio_read_end(pair.peer, LONG_MS));
    assert_int_equal(done, sizeof got);
    assert_true(is_filled(got, done, 5));
    OK(ipcio_read_start(pair.peer, LONG_MS, &size));
    assert_int_equal(size, 0);
    OK(ipcio_read_buffer(pair.peer, piece, sizeof piece, LONG_MS, &n));
    assert_int_equal(n, 0);
    OK(ipcio_read_end(pair.peer, LONG_MS));
    free_pair(&pair);
}

static void test_pieces_dropped(void **state)
{
    struct pair pair;
    unsigned char piece[100];
    size_t size, n;
    (void)state;
    open_pair(&pair);
    fill(big, 50000, 5);
    for (int i = 0; i < 3; i++) {
        OK(ipcio_write(pair.client, big, 50000, LONG_MS));
        OK(ipcio_read_start(pair.peer, LONG_MS, &size));
        if (i == 1)
            OK(ipcio_read_buffer(pair.peer, piece, sizeof piece, LONG_MS, &n));
        OK(ipcio_read_end(pair.peer, LONG_MS)); /* drops the rest */
        WRITES(pair.client, "next");
        READS(pair.peer, "next");
    }
    free_pair(&pair);
}

static void test_pieces_in_the_wrong_order(void **state)
{
    struct pair pair;
    char piece[10];
    const void *data;
    size_t size, n;
    (void)state;
    open_pair(&pair);
    FAILS(INVALID, ipcio_read_buffer(pair.peer, piece, sizeof piece, LONG_MS, &n));
    FAILS(INVALID, ipcio_read_end(pair.peer, LONG_MS));
    FAILS(INVALID, ipcio_write_buffer(pair.client, "x", 1, LONG_MS));
    FAILS(INVALID, ipcio_write_end(pair.client, LONG_MS));

    OK(ipcio_write_start(pair.client, 5, LONG_MS));
    FAILS(INVALID, ipcio_write_start(pair.client, 5, LONG_MS));
    FAILS(INVALID, ipcio_write(pair.client, "x", 1, LONG_MS));
    FAILS(INVALID, ipcio_call(pair.client, "x", 1, LONG_MS, &data, &n));
    OK(ipcio_write_buffer(pair.client, "wh", 2, LONG_MS));
    FAILS(INVALID, ipcio_write_buffer(pair.client, "ole!", 4, LONG_MS)); /* more than was announced */
    OK(ipcio_write_buffer(pair.client, "ole", 3, LONG_MS));
    OK(ipcio_write_end(pair.client, LONG_MS));

    OK(ipcio_read_start(pair.peer, LONG_MS, &size));
    FAILS(INVALID, ipcio_read_start(pair.peer, LONG_MS, &size));
    FAILS(INVALID, ipcio_read(pair.peer, LONG_MS, &data, &size));
    WRITES(pair.peer, "the other way is free");
    READS(pair.client, "the other way is free");
    OK(ipcio_read_buffer(pair.peer, piece, sizeof piece, LONG_MS, &n));
    OK(ipcio_read_end(pair.peer, LONG_MS));
    WRITES(pair.client, "after");
    READS(pair.peer, "after");
    free_pair(&pair);
}

static void test_message_given_up(void **state)
{
    struct pair pair;
    char piece[100];
    size_t size, n;
    int st;
    (void)state;
    open_pair(&pair);
    fill(big, 100000, 0);
    OK(ipcio_write_start(pair.client, 10, LONG_MS)); /* nothing of it was sent */
    FAILS(INVALID, ipcio_write_end(pair.client, LONG_MS));
    OK(ipcio_write_start(pair.client, 200000, LONG_MS)); /* some was */
    OK(ipcio_write_buffer(pair.client, big, 100000, LONG_MS));
    FAILS(INVALID, ipcio_write_end(pair.client, LONG_MS));
    WRITES(pair.client, "after");
    READS(pair.peer, "after");

    OK(ipcio_write_start(pair.client, 200000, LONG_MS)); /* and the reader has begun to read it in pieces */
    OK(ipcio_write_buffer(pair.client, big, 100000, LONG_MS));
    OK(ipcio_read_start(pair.peer, LONG_MS, &size));
    assert_int_equal(size, 200000);
    FAILS(INVALID, ipcio_write_end(pair.client, LONG_MS));
    WRITES(pair.client, "after");
    while ((st = ipcio_read_buffer(pair.peer, piece, sizeof piece, LONG_MS, &n)) == IPCIO_OK)
        assert_true(n > 0);
    FAILS(ABORTED, st);
    OK(ipcio_read_end(pair.peer, LONG_MS));
    READS(pair.peer, "after");
    free_pair(&pair);
}

static void test_late_answer_is_dropped(void **state)
{
    struct pair pair;
    const void *answer;
    size_t size;
    (void)state;
    open_pair(&pair);
    for (int i = 0; i < 3; i++) {
        FAILS(TIMEOUT, ipcio_call(pair.client, "slow", 4, 10, &answer, &size));
        READS(pair.peer, "slow");
        WRITES(pair.peer, "late");
        FAILS(TIMEOUT, ipcio_read(pair.client, 10, &answer, &size)); /* no plain read gets it either */
        FAILS(TIMEOUT, ipcio_call(pair.client, "fast", 4, 0, &answer, &size));
        READS(pair.peer, "fast");
        WRITES(pair.peer, "late as well");
    }
    WRITES(pair.peer, "news");
    READS(pair.client, "news");
    free_pair(&pair);
}

/* Its beginning was there when the call was given up. */
static void test_late_answer_that_had_begun(void **state)
{
    struct pair pair;
    const void *answer;
    size_t size;
    (void)state;
    open_pair(&pair);
    assert_int_equal(ipcio_call(pair.client, "slow", 4, IPCIO_TRY, &answer, &size), IPCIO_WANT_READ);
    READS(pair.peer, "slow");
    OK(ipcio_write_start(pair.peer, 4, LONG_MS));
    OK(ipcio_write_buffer(pair.peer, "la", 2, LONG_MS));
    assert_int_equal(ipcio_call(pair.client, "slow", 4, IPCIO_TRY, &answer, &size), IPCIO_WANT_READ);
    FAILS(TIMEOUT, ipcio_give_up(pair.client, IPCIO_WANT_READ, IPCIO_TIMEOUT, 1));
    OK(ipcio_write_buffer(pair.peer, "te", 2, LONG_MS));
    OK(ipcio_write_end(pair.peer, LONG_MS));
    FAILS(TIMEOUT, ipcio_call(pair.client, "fast", 4, 0, &answer, &size));
    READS(pair.peer, "fast");
    WRITES(pair.peer, "late as well");
    WRITES(pair.peer, "news");
    READS(pair.client, "news");
    free_pair(&pair);
}

static const char *const ways[] = {"pipe", "shm"}; /* one that lays messages on a socket, and one that lays them in memory */

/* The client has asked and waits, the peer has read it. */
static void open_asked(struct pair *pair, const char *way)
{
    const void *answer;
    size_t size;
    open_pair_at(pair, fresh_of(way), NULL, NULL);
    assert_int_equal(ipcio_call(pair->client, "slow", 4, IPCIO_TRY, &answer, &size), IPCIO_WANT_READ);
    READS(pair->peer, "slow");
}

/* A call of which only a part has come is not the last message read. */
static void test_answer_while_the_next_call_comes(void **state)
{
    struct pair pair;
    const void *answer, *data;
    size_t size;
    (void)state;
    for (size_t i = 0; i < COUNT(ways); i++) {
        open_asked(&pair, ways[i]);
        FAILS(TIMEOUT, ipcio_give_up(pair.client, IPCIO_WANT_READ, IPCIO_TIMEOUT, 1));
        int st = ipcio_call(pair.client, big, sizeof big, IPCIO_TRY, &answer, &size);
        assert_int_equal(st, IPCIO_WANT_WRITE);
        FAILS(TIMEOUT, ipcio_read(pair.peer, 0, &data, &size));
        WRITES(pair.peer, "late");
        while (ipcio_read(pair.peer, IPCIO_TRY, &data, &size) > 0)
            st = ipcio_call(pair.client, big, sizeof big, IPCIO_TRY, &answer, &size);
        WRITES(pair.peer, "answer");
        while (st > 0) st = ipcio_call(pair.client, big, sizeof big, IPCIO_TRY, &answer, &size);
        OK(st);
        assert_int_equal(size, 6);
        assert_memory_equal(answer, "answer", 6);
        free_pair(&pair);
    }
}

/* An answer that could not be written is still to be given: what is written next is it, and can be late. */
static void test_answer_given_up_and_repeated(void **state)
{
    struct pair pair;
    const void *answer;
    size_t size;
    (void)state;
    for (size_t i = 0; i < COUNT(ways); i++) {
        open_asked(&pair, ways[i]);
        FAILS(TIMEOUT, ipcio_write(pair.peer, big, sizeof big, 0));
        OK(ipcio_write_start(pair.peer, 9, LONG_MS));
        FAILS(INVALID, ipcio_write_end(pair.peer, LONG_MS));
        FAILS(TIMEOUT, ipcio_give_up(pair.client, IPCIO_WANT_READ, IPCIO_TIMEOUT, 1));
        FAILS(TIMEOUT, ipcio_read(pair.client, 0, &answer, &size));
        WRITES(pair.peer, "late");
        WRITES(pair.peer, "news"); /* it was answered */
        READS(pair.client, "news");
        free_pair(&pair);
    }
}

/* What was begun to be read in pieces, and is given up, was not read: neither the call nor the answer. */
static void test_given_up_while_read_in_pieces(void **state)
{
    struct pair pair;
    const void *data;
    char piece[8];
    size_t size, got;
    (void)state;
    for (size_t i = 0; i < COUNT(ways); i++) {
        open_asked(&pair, ways[i]);
        OK(ipcio_write_start(pair.peer, 8, LONG_MS));
        OK(ipcio_write_buffer(pair.peer, "half", 4, LONG_MS));
        OK(ipcio_read_start(pair.client, LONG_MS, &size));
        OK(ipcio_read_buffer(pair.client, piece, 4, LONG_MS, &got));
        FAILS(INVALID, ipcio_write_end(pair.peer, LONG_MS));
        while ((got = 0, ipcio_read_buffer(pair.client, piece, 4, LONG_MS, &got)) == 0) continue; /* zeros may come */
        FAILS(ABORTED, ipcio_read_buffer(pair.client, piece, 4, LONG_MS, &got));
        OK(ipcio_read_end(pair.client, LONG_MS));
        WRITES(pair.peer, "answer");
        OK(ipcio_call(pair.client, "slow", 4, LONG_MS, &data, &size));
        assert_int_equal(size, 6);

        assert_int_equal(ipcio_call(pair.client, big, sizeof big, IPCIO_TRY, &data, &size), IPCIO_WANT_WRITE);
        OK(ipcio_read_start(pair.peer, LONG_MS, &size));
        FAILS(TIMEOUT, ipcio_give_up(pair.client, IPCIO_WANT_WRITE, IPCIO_TIMEOUT, 1));
        while (ipcio_read_buffer(pair.peer, big, sizeof big, 0, &got) == 0) continue;
        (void)ipcio_call(pair.client, "two", 3, IPCIO_TRY, &data, &size); /* pushes the end of the first out */
        while (ipcio_read_buffer(pair.peer, big, sizeof big, LONG_MS, &got) == 0) continue;
        FAILS(TIMEOUT, ipcio_give_up(pair.client, IPCIO_WANT_READ, IPCIO_TIMEOUT, 1));
        OK(ipcio_read_end(pair.peer, LONG_MS));
        WRITES(pair.peer, "news"); /* answers nothing */
        READS(pair.client, "news");
        free_pair(&pair);
    }
}

/* An empty message waits for room like others, also where it is not empty on its way. */
static void test_empty_message_that_waits(void **state)
{
    struct pair pair;
    const void *data;
    size_t size;
    (void)state;
    for (size_t i = 0; i < COUNT(ways); i++) {
        unsigned all = 1, got = 0;
        int st;
        open_pair_at(&pair, fresh_of(ways[i]), "nul=1", "nul=1");
        for (size_t n = 4096; n > 0; n /= 2) {
            memset(big, 'a', n);
            for (; (st = ipcio_write(pair.client, big, n - 1, IPCIO_TRY)) == 0; all++) continue;
            if (n > 1) FAILS(TIMEOUT, ipcio_give_up(pair.client, IPCIO_WANT_WRITE, IPCIO_TIMEOUT, 0));
        }
        assert_int_equal(st, IPCIO_WANT_WRITE);
        for (; got < all; got++) {
            while (ipcio_read(pair.peer, IPCIO_TRY, &data, &size) > 0) assert_true(st > 0);
            if (st > 0) st = ipcio_write(pair.client, big, 0, IPCIO_TRY);
            assert_true(st >= 0);
        }
        OK(st);
        assert_int_equal(size, 0);
        WRITES(pair.client, "after");
        READS(pair.peer, "after");
        free_pair(&pair);
    }
}

/* What may be called while a connect is still waiting: nothing that needs the peer. */
static void test_not_connected_yet(void **state)
{
    ipcio_conn *conn = NULL;
    ipcio_peer peer;
    ipcio_set *set;
    const void *data;
    size_t size;
    (void)state;
    assert_int_equal(ipcio_connect(fresh(), NULL, IPCIO_TRY, &conn), IPCIO_WANT_READ);
    FAILS(INVALID, ipcio_read(conn, 0, &data, &size));
    FAILS(INVALID, ipcio_write(conn, "x", 1, 0));
    FAILS(INVALID, ipcio_call(conn, "x", 1, 0, &data, &size));
    FAILS(INVALID, ipcio_write_start(conn, 1, 0));
    FAILS(INVALID, ipcio_conn_peer(conn, &peer));
    FAILS(INVALID, ipcio_fileno(conn));
    OK(ipcio_set_new(&set));
    FAILS(INVALID, ipcio_set_add(set, conn, IPCIO_WANT_READ));
    ipcio_set_free(set);
    ipcio_conn_free(conn);
}

static void test_call_step_by_step(void **state)
{
    struct pair pair;
    const void *answer;
    size_t size;
    int st;
    (void)state;
    open_pair(&pair);
    while ((st = ipcio_call(pair.client, "question", 8, IPCIO_TRY, &answer, &size)) == IPCIO_WANT_WRITE) {
    }
    assert_int_equal(st, IPCIO_WANT_READ);
    READS(pair.peer, "question");
    WRITES(pair.peer, "answer");
    OK(ipcio_wait(pair.client, IPCIO_WANT_READ, ipcio_deadline(30)));
    while ((st = ipcio_call(pair.client, "question", 8, IPCIO_TRY, &answer, &size)) > 0) {
    }
    OK(st);
    assert_int_equal(size, 6);
    assert_memory_equal(answer, "answer", 6);
    free_pair(&pair);
}

/* A write that is under way goes on with what it began with, and nothing else comes between. */
static void test_write_step_by_step(void **state)
{
    static const char *const options[] = {NULL, "text=utf-16le"};
    static const unsigned char other[sizeof big];
    struct pair pair;
    const void *data;
    size_t size;
    (void)state;
    memset(big, 'a', sizeof big);
    for (size_t i = 0; i < COUNT(options); i++) {
        open_pair_at(&pair, fresh(), options[i], options[i]);
        int st = ipcio_write(pair.client, big, sizeof big, IPCIO_TRY), got = IPCIO_WANT_READ;
        assert_int_equal(st, IPCIO_WANT_WRITE);
        FAILS(INVALID, ipcio_write(pair.client, big, sizeof big - 1, IPCIO_TRY));
        FAILS(INVALID, ipcio_write(pair.client, other, sizeof big, IPCIO_TRY));
        FAILS(INVALID, ipcio_send_file(pair.client, 0, big, sizeof big, IPCIO_TRY));
        assert_non_null(strstr(ipcio_message(), "not finished"));
        while (st > 0 || got > 0) {
            if (st > 0) st = ipcio_write(pair.client, big, sizeof big, IPCIO_TRY);
            if (got > 0) got = ipcio_read(pair.peer, IPCIO_TRY, &data, &size);
        }
        OK(st);
        OK(got);
        assert_int_equal(size, sizeof big);
        assert_memory_equal(data, big, sizeof big);
        WRITES(pair.client, "after");
        READS(pair.peer, "after");
        free_pair(&pair);
    }
}

/* All that was sent arrives, then the end, again and again. */
static void test_close_delivers_first(void **state)
{
    struct pair pair;
    const void *data;
    size_t size;
    (void)state;
    open_pair(&pair);
    for (int i = 0; i < 100; i++)
        WRITES(pair.client, "message");
    OK(ipcio_write(pair.client, NULL, 0, LONG_MS));
    ipcio_conn_close(pair.client);
    for (int i = 0; i < 100; i++)
        READS(pair.peer, "message");
    READS(pair.peer, "");
    for (int i = 0; i < 3; i++)
        FAILS(CLOSED, ipcio_read(pair.peer, LONG_MS, &data, &size));
    FAILS(CLOSED, ipcio_write(pair.peer, "x", 1, LONG_MS));
    FAILS(CLOSED, ipcio_call(pair.peer, "x", 1, LONG_MS, &data, &size));
    free_pair(&pair);
}

/* The end also waits behind what a closing side had not read. */
static void test_close_with_unread_input(void **state)
{
    struct pair pair;
    const void *data;
    size_t size;
    (void)state;
    open_pair(&pair);
    WRITES(pair.peer, "never read");
    WRITES(pair.client, "one");
    WRITES(pair.client, "two");
    ipcio_conn_close(pair.client);
    FAILS(CLOSED, ipcio_write(pair.peer, "too late", 8, LONG_MS));
    READS(pair.peer, "one");
    READS(pair.peer, "two");
    FAILS(CLOSED, ipcio_read(pair.peer, LONG_MS, &data, &size));
    free_pair(&pair);
}

static void test_use_after_close(void **state)
{
    struct pair pair;
    ipcio_conn *conn;
    ipcio_peer peer;
    char piece[10];
    const void *data;
    size_t size;
    (void)state;
    open_pair(&pair);
    for (int i = 0; i < 2; i++) {
        ipcio_conn_close(pair.client);
        FAILS(INVALID, ipcio_read(pair.client, -1, &data, &size));
        FAILS(INVALID, ipcio_write(pair.client, "x", 1, -1));
        FAILS(INVALID, ipcio_call(pair.client, "x", 1, -1, &data, &size));
        FAILS(INVALID, ipcio_read_start(pair.client, -1, &size));
        FAILS(INVALID, ipcio_read_buffer(pair.client, piece, 1, -1, &size));
        FAILS(INVALID, ipcio_read_end(pair.client, -1));
        FAILS(INVALID, ipcio_write_start(pair.client, 1, -1));
        FAILS(INVALID, ipcio_write_buffer(pair.client, "x", 1, -1));
        FAILS(INVALID, ipcio_write_end(pair.client, -1));
        FAILS(INVALID, ipcio_conn_peer(pair.client, &peer));
        FAILS(INVALID, ipcio_fileno(pair.client));
        FAILS(INVALID, ipcio_write_fileno(pair.client));
        FAILS(INVALID, ipcio_wait(pair.client, IPCIO_WANT_READ, ipcio_deadline(-1)));
        assert_non_null(strstr(ipcio_conn_address(pair.client), "pipe://"));
        ipcio_server_close(pair.server);
        FAILS(INVALID, ipcio_accept(pair.server, -1, &conn));
        FAILS(INVALID, ipcio_fileno(pair.server));
        FAILS(INVALID, ipcio_wait(pair.server, IPCIO_WANT_READ, ipcio_deadline(-1)));
        assert_non_null(strstr(ipcio_server_address(pair.server), "pipe://"));
    }
    free_pair(&pair);
    ipcio_conn_free(NULL);
    ipcio_server_free(NULL);
    ipcio_set_free(NULL);
}

static void test_connection_outlives_its_server(void **state)
{
    struct pair pair;
    ipcio_conn *conn;
    (void)state;
    open_pair(&pair);
    ipcio_server_free(pair.server);
    pair.server = NULL;
    FAILS(MISSING, ipcio_connect(ipcio_conn_address(pair.client), NULL, 0, &conn));
    WRITES(pair.client, "hello");
    READS(pair.peer, "hello");
    assert_string_equal(ipcio_conn_address(pair.client), ipcio_conn_address(pair.peer));
    free_pair(&pair);
}

/* "early" ADDRESS WORD: leaves a word and goes. */
static int early_role(char **arguments)
{
    ipcio_conn *conn;
    OK(ipcio_connect(arguments[0], NULL, LONG_MS, &conn));
    OK(ipcio_write(conn, arguments[1], strlen(arguments[1]), LONG_MS));
    ipcio_conn_free(conn);
    return 0;
}

/* Clients are accepted in order, and those that have gone again are no error. */
static void test_clients_before_accept(void **state)
{
    const char *address = fresh();
    ipcio_server *server;
    ipcio_conn *conn;
    const void *data;
    size_t size;
    (void)state;
    OK(ipcio_listen(address, NULL, &server));
    finish(start("early", address, "one", NULL));
    finish(start("early", address, "two", NULL));
    OK(ipcio_accept(server, LONG_MS, &conn));
    READS(conn, "one");
    FAILS(CLOSED, ipcio_read(conn, LONG_MS, &data, &size));
    ipcio_conn_free(conn);
    OK(ipcio_accept(server, LONG_MS, &conn));
    READS(conn, "two");
    ipcio_conn_free(conn);
    ipcio_server_free(server);
}

static void test_client_before_server(void **state)
{
    const char *address = fresh();
    struct child *client = start("early", address, "hello", NULL);
    ipcio_server *server;
    ipcio_conn *conn;
    (void)state;
    until_asleep(client->pid);
    OK(ipcio_listen(address, NULL, &server));
    OK(ipcio_accept(server, LONG_MS, &conn));
    READS(conn, "hello");
    ipcio_conn_free(conn);
    ipcio_server_free(server);
    finish(client);
}

static const char *const all_schemes[] = {"pipe", "shm", "tcp", "file", "udp"};

/* "bare" ADDRESS: was started without standard descriptors, as daemons are.  None of ipcio's takes their place: what is printed
 * would go into it. */
static int bare_role(char **arguments)
{
    ipcio_server *server;
    ipcio_conn *conn, *peer;
    for (int fd = 0; fd <= 2; fd++) close(fd);
    OK(ipcio_listen(arguments[0], NULL, &server));
    OK(ipcio_connect(ipcio_server_address(server), NULL, LONG_MS, &conn));
    WRITES(conn, "there");
    OK(ipcio_accept(server, LONG_MS, &peer));
    READS(peer, "there");
    for (int fd = 0; fd <= 2; fd++) CHECK(fcntl(fd, F_GETFD) == -1);
    ipcio_conn_free(conn);
    ipcio_conn_free(peer);
    ipcio_server_free(server);
    return 0;
}

static void test_no_standard_descriptors(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(all_schemes); i++) finish(start("bare", fresh_of(all_schemes[i]), NULL));
}

/* "limited" ADDRESS: may write no file of the size of a connection's memory, and is not to die of it. */
static int limited_role(char **arguments)
{
    const struct rlimit limit = {65536, 65536};
    ipcio_conn *conn;
    CHECK(signal(SIGXFSZ, SIG_DFL) != SIG_ERR);
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    FAILS(SYSTEM, ipcio_connect(arguments[0], NULL, LONG_MS, &conn));
    CHECK(ipcio_system_error() == EFBIG);
    return 0;
}

static void test_limited_files(void **state)
{
    const char *address = fresh_of("shm");
    struct child *server = start_echo(address);
    (void)state;
    finish(start("limited", address, NULL));
    stop(server);
}

int main(int argc, char **argv)
{
    static const struct role roles[] = {{"echo", echo_role}, {"early", early_role}, {"bare", bare_role}, {"limited", limited_role},
                                        {NULL, NULL}};
    const struct CMUnitTest tests[] = {
        TEST(test_echo),
        TEST(test_buffer_never_limits),
        TEST(test_identity_and_address),
        TEST(test_second_server),
        TEST(test_limits),
        TEST(test_default_limit),
        TEST(test_timeouts),
        TEST(test_bad_timeouts),
        TEST(test_write_that_times_out),
        TEST(test_pieces),
        TEST(test_pieces_dropped),
        TEST(test_pieces_in_the_wrong_order),
        TEST(test_message_given_up),
        TEST(test_late_answer_is_dropped),
        TEST(test_late_answer_that_had_begun),
        TEST(test_answer_while_the_next_call_comes),
        TEST(test_answer_given_up_and_repeated),
        TEST(test_given_up_while_read_in_pieces),
        TEST(test_empty_message_that_waits),
        TEST(test_not_connected_yet),
        TEST(test_call_step_by_step),
        TEST(test_write_step_by_step),
        TEST(test_close_delivers_first),
        TEST(test_close_with_unread_input),
        TEST(test_use_after_close),
        TEST(test_connection_outlives_its_server),
        TEST(test_clients_before_accept),
        TEST(test_client_before_server),
        TEST(test_no_standard_descriptors),
        TEST(test_limited_files),
    };
    RUN(argc, argv, roles, tests);
}
