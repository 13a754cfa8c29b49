/* test_plain.c - the framings `line` and `raw`, and texts that are converted: what a program that knows nothing of ipcio
 * sends and gets.  That program is the client, whose raw framing moves bytes as they are. */
#include "helper.h"

#define BYTES(text) text, sizeof(text) - 1

/* Each is tested over both. */
enum { PIPE, TCP, TRANSPORTS };

static void open_plain(struct pair *pair, size_t transport, const char *server_options, const char *client_options)
{
    if (transport == PIPE) {
        open_pair_at(pair, fresh(), server_options, client_options);
        return;
    }
    int connecting = 1, accepting = 1;
    pair->client = pair->peer = NULL;
    OK(ipcio_listen("tcp://0", server_options, &pair->server));
    while (connecting > 0 || accepting > 0) {
        if (connecting > 0)
            connecting = ipcio_connect(ipcio_server_address(pair->server), client_options, IPCIO_TRY, &pair->client);
        if (accepting > 0) accepting = ipcio_accept(pair->server, IPCIO_TRY, &pair->peer);
        sched_yield();
    }
    OK(connecting);
    OK(accepting);
}

static void sends(ipcio_conn *conn, const char *bytes, size_t size)
{
    OK(ipcio_write(conn, bytes, size, LONG_MS));
}

/* Reads raw bytes, in however many pieces they come. */
static void gets(ipcio_conn *conn, const char *bytes, size_t size)
{
    while (size > 0) {
        const void *data;
        size_t n;
        OK(ipcio_read(conn, LONG_MS, &data, &n));
        assert_true(n > 0 && n <= size);
        assert_memory_equal(data, bytes, n);
        bytes += n;
        size -= n;
    }
}

static void fails_to_read(ipcio_conn *conn, int status, const char *why)
{
    const void *data;
    size_t size;
    check_status(ipcio_read(conn, LONG_MS, &data, &size), status, "ipcio_read", __FILE__, __LINE__);
    if (!strstr(ipcio_message(), why)) failed(__FILE__, __LINE__, ipcio_message());
}

static void test_lines(void **state)
{
    (void)state;
    for (size_t i = 0; i < TRANSPORTS; i++) {
        struct pair pair;
        open_plain(&pair, i, "framing=line", "framing=raw");
        sends(pair.client, BYTES("one\ntwo\r\n\n\r\nl\rast\0!\nbeg"));
        READS(pair.peer, "one");
        READS(pair.peer, "two");
        READS(pair.peer, "");
        READS(pair.peer, "");
        check_read(pair.peer, BYTES("l\rast\0!"), __FILE__, __LINE__);
        const void *data;
        size_t size;
        FAILS(TIMEOUT, ipcio_read(pair.peer, 0, &data, &size));
        sends(pair.client, BYTES("un\n"));
        READS(pair.peer, "begun");

        WRITES(pair.peer, "answer");
        WRITES(pair.peer, "");
        FAILS(INVALID, ipcio_write(pair.peer, BYTES("a\nb"), LONG_MS));
        FAILS(INVALID, ipcio_write(pair.peer, BYTES("a\r"), LONG_MS));
        OK(ipcio_write_start(pair.peer, 2, LONG_MS));
        FAILS(INVALID, ipcio_write_buffer(pair.peer, BYTES("a\r"), LONG_MS)); /* and is given up */
        OK(ipcio_write_start(pair.peer, 3, LONG_MS));
        OK(ipcio_write_buffer(pair.peer, BYTES("e\r"), LONG_MS));
        OK(ipcio_write_buffer(pair.peer, BYTES("d"), LONG_MS));
        OK(ipcio_write_end(pair.peer, LONG_MS));
        gets(pair.client, BYTES("answer\n\ne\rd\n"));

        sends(pair.client, BYTES("whole\nhalf"));
        ipcio_conn_close(pair.client);
        READS(pair.peer, "whole");
        fails_to_read(pair.peer, IPCIO_CLOSED, "in the middle of a message");
        FAILS(CLOSED, ipcio_read(pair.peer, LONG_MS, &data, &size));
        free_pair(&pair);
    }
}

/* A line over the limit is told with its length and dropped; those beside it are not. */
static void test_long_lines(void **state)
{
    enum { SIZE = 3 << 20, LIMIT = 1 << 20 };
    static char line[SIZE + 1];
    (void)state;
    memset(line, 'x', SIZE);
    line[SIZE] = '\n';
    for (size_t i = 0; i < TRANSPORTS; i++) {
        struct pair pair;
        open_plain(&pair, i, "framing=line&limit=1048576&buffer=1024", "framing=raw");
        ipcio_conn *ends[] = {pair.client, pair.peer};
        const size_t lengths[] = {SIZE, LIMIT, LIMIT + 1, 5000};
        for (size_t l = 0; l < COUNT(lengths); l++) {
            size_t taken = SIZE - lengths[l], size = 0;
            const void *data;
            int got = 1, put = 1;
            while (got > 0) { /* both ends in one thread */
                if (put > 0) put = ipcio_write(ends[0], line + taken, SIZE + 1 - taken, IPCIO_TRY);
                got = ipcio_read(ends[1], IPCIO_TRY, &data, &size);
            }
            OK(put);
            check_status(got, lengths[l] > LIMIT ? IPCIO_TOOBIG : IPCIO_OK, "ipcio_read", __FILE__, __LINE__);
            if (got == 0) assert_true(size == lengths[l] && memchr(data, '\n', size) == NULL);
            else assert_non_null(strstr(ipcio_message(), text_of("%zu bytes", lengths[l])));
        }
        free_pair(&pair);
    }
}

static void test_raw(void **state)
{
    (void)state;
    for (size_t i = 0; i < TRANSPORTS; i++) {
        struct pair pair;
        const void *data;
        size_t size;
        open_plain(&pair, i, "framing=raw&limit=4", "framing=raw");
        sends(pair.client, BYTES("123456"));
        READS(pair.peer, "1234");
        READS(pair.peer, "56");
        sends(pair.client, "", 0);
        FAILS(TIMEOUT, ipcio_read(pair.peer, 0, &data, &size));
        FAILS(TOOBIG, ipcio_write(pair.peer, "12345", 5, LONG_MS));

        sends(pair.client, BYTES("abcd"));
        OK(ipcio_read_start(pair.peer, LONG_MS, &size));
        char piece[8];
        size_t got;
        assert_int_equal(size, 4);
        OK(ipcio_read_buffer(pair.peer, piece, 3, LONG_MS, &got));
        assert_true(got == 3 && memcmp(piece, "abc", 3) == 0);
        OK(ipcio_read_end(pair.peer, LONG_MS));

        sends(pair.client, BYTES("last"));
        ipcio_conn_close(pair.client);
        READS(pair.peer, "last");
        FAILS(CLOSED, ipcio_read(pair.peer, LONG_MS, &data, &size));
        free_pair(&pair);
    }
}

/* An answer that comes too late could be taken for that of the next call. */
static void test_late_answer(void **state)
{
    (void)state;
    for (size_t i = 0; i < TRANSPORTS; i++) {
        struct pair pair;
        const void *data;
        size_t size;
        open_plain(&pair, i, "framing=line", "framing=line");
        FAILS(TIMEOUT, ipcio_call(pair.client, "one", 3, 1, &data, &size));
        FAILS(CLOSED, ipcio_call(pair.client, "two", 3, LONG_MS, &data, &size));
        READS(pair.peer, "one");
        FAILS(CLOSED, ipcio_read(pair.peer, LONG_MS, &data, &size));
        free_pair(&pair);
    }
}

/* What is half out cannot be taken back, so that nothing may follow it. */
static void test_half_sent(void **state)
{
    enum { SIZE = 32 << 20 };
    char *large = calloc(1, SIZE);
    (void)state;
    assert_non_null(large);
    for (size_t i = 0; i < TRANSPORTS; i++) {
        struct pair pair;
        const void *data;
        size_t size, all = 0;
        int st;
        open_plain(&pair, i, "framing=raw", "framing=line");
        FAILS(TIMEOUT, ipcio_write(pair.client, large, SIZE, 1));
        FAILS(CLOSED, ipcio_write(pair.client, "x", 1, LONG_MS));
        while ((st = ipcio_read(pair.peer, LONG_MS, &data, &size)) == 0) all += size;
        FAILS(CLOSED, st);
        assert_in_range(all, 1, SIZE - 1);
        free_pair(&pair);
    }
    free(large);
}

/* A program may end its own direction and still take answers, as nc -N does. */
static void test_half_closed(void **state)
{
    ipcio_server *server;
    ipcio_conn *conn;
    const void *data;
    size_t size;
    char answer[16];
    const char *path = fresh_path();
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    (void)state;
    OK(ipcio_listen(at_path(path), "framing=line", &server));
    memcpy(a.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(write(fd, "ask\n", 4), 4);
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    OK(ipcio_accept(server, LONG_MS, &conn));
    READS(conn, "ask");
    FAILS(CLOSED, ipcio_read(conn, LONG_MS, &data, &size));
    WRITES(conn, "told");
    assert_int_equal(read(fd, answer, sizeof answer), 5);
    assert_memory_equal(answer, "told\n", 5);
    close(fd);
    ipcio_conn_free(conn);
    ipcio_server_free(server);
}

static void test_utf16(void **state)
{
    static const char greek[] = "\xce\xb1\xf0\x9f\x98\x80"; /* alpha, and a character of two units */
    (void)state;
    for (size_t i = 0; i < TRANSPORTS; i++) {
        struct pair pair;
        open_plain(&pair, i, "framing=line&text=utf-16le", "framing=raw");
        sends(pair.client, BYTES("a\0\r\0\n\0" "\xb1\3\x3d\xd8\0\xde\n\0" "\x0a\x0a\n\0"));
        READS(pair.peer, "a");
        check_read(pair.peer, greek, sizeof greek - 1, __FILE__, __LINE__);
        check_read(pair.peer, "\xe0\xa8\x8a", 3, __FILE__, __LINE__); /* U+0A0A is no line feed */
        OK(ipcio_write(pair.peer, greek, sizeof greek - 1, LONG_MS));
        gets(pair.client, BYTES("\xb1\3\x3d\xd8\0\xde\n\0"));
        FAILS(INVALID, ipcio_write(pair.peer, "\xff", 1, LONG_MS));
        FAILS(INVALID, ipcio_write(pair.peer, "\xed\xa0\x80", 3, LONG_MS));
        WRITES(pair.peer, "b");
        gets(pair.client, BYTES("b\0\n\0"));
        sends(pair.client, BYTES("\0\xdc\n\0"));
        fails_to_read(pair.peer, IPCIO_PROTOCOL, "not UTF-16");
        fails_to_read(pair.peer, IPCIO_CLOSED, "not UTF-16");
        free_pair(&pair);
    }
}

/* No character is cut where bytes have no bounds. */
static void test_raw_utf16(void **state)
{
    struct pair pair;
    const void *data;
    size_t size;
    (void)state;
    open_plain(&pair, PIPE, "framing=raw&text=utf-16le", "framing=raw");
    sends(pair.client, BYTES("a\0\x3d\xd8\0"));
    READS(pair.peer, "a");
    FAILS(TIMEOUT, ipcio_read(pair.peer, 0, &data, &size));
    sends(pair.client, BYTES("\xde"));
    READS(pair.peer, "\xf0\x9f\x98\x80");
    sends(pair.client, "b", 1);
    ipcio_conn_close(pair.client);
    fails_to_read(pair.peer, IPCIO_CLOSED, "in the middle of a character");
    free_pair(&pair);
}

static void test_nul(void **state)
{
    static const struct {
        const char *options, *sent, *first, *second, *wire;
        size_t sent_size, wire_size, unit;
    } cases[] = {
        {"framing=raw&nul=1", "one\0two\0", "one", "two", "x\0", 8, 2, 1},
        {"framing=raw&nul=1&text=utf-16le", "o\0\0\0t\0\0\0", "o", "t", "x\0\0\0", 8, 4, 2},
        {"framing=line&nul=1", "one\0\ntwo\n", "one", "two", "x\0\n", 9, 3, 1},
        {"framing=line&nul=1&text=utf-16le", "o\0\0\0\n\0t\0\n\0", "o", "t", "x\0\0\0\n\0", 10, 6, 2},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct pair pair;
        open_plain(&pair, i % TRANSPORTS, cases[i].options, "framing=raw");
        sends(pair.client, cases[i].sent, cases[i].sent_size);
        check_read(pair.peer, cases[i].first, strlen(cases[i].first), __FILE__, __LINE__);
        check_read(pair.peer, cases[i].second, strlen(cases[i].second), __FILE__, __LINE__);
        WRITES(pair.peer, "x");
        gets(pair.client, cases[i].wire, cases[i].wire_size);
        WRITES(pair.peer, "");
        gets(pair.client, cases[i].wire + cases[i].unit, cases[i].wire_size - cases[i].unit);
        FAILS(INVALID, ipcio_write(pair.peer, "a\0b", 3, LONG_MS));
        free_pair(&pair);
    }
}

/* Whole messages are converted too, also when they are read and written in pieces, and calls. */
static void test_converted_messages(void **state)
{
    struct pair pair;
    size_t size, got;
    char piece[16];
    const void *data;
    (void)state;
    open_plain(&pair, PIPE, "text=utf-16le&nul=1", NULL);
    OK(ipcio_write_start(pair.peer, 4, LONG_MS));
    OK(ipcio_write_buffer(pair.peer, "a\xce", 2, LONG_MS));
    OK(ipcio_write_buffer(pair.peer, "\xb1z", 2, LONG_MS));
    OK(ipcio_write_end(pair.peer, LONG_MS));
    check_read(pair.client, BYTES("a\0\xb1\3z\0\0\0"), __FILE__, __LINE__);

    OK(ipcio_write(pair.client, BYTES("a\0\xb1\3z\0\0\0rest"), LONG_MS));
    OK(ipcio_read_start(pair.peer, LONG_MS, &size));
    assert_int_equal(size, 4);
    OK(ipcio_read_buffer(pair.peer, piece, 3, LONG_MS, &got));
    assert_int_equal(got, 3);
    OK(ipcio_read_buffer(pair.peer, piece + 3, 13, LONG_MS, &got));
    assert_true(got == 1 && memcmp(piece, "a\xce\xb1z", 4) == 0);
    OK(ipcio_read_buffer(pair.peer, piece, sizeof piece, LONG_MS, &got));
    assert_int_equal(got, 0);
    OK(ipcio_read_end(pair.peer, LONG_MS));

    FAILS(TIMEOUT, ipcio_call(pair.peer, "q", 1, 1, &data, &size));
    check_read(pair.client, BYTES("q\0\0\0"), __FILE__, __LINE__);
    OK(ipcio_write(pair.client, BYTES("1\0"), LONG_MS)); /* late, so dropped */
    OK(ipcio_write(pair.client, BYTES("2\0"), LONG_MS));
    READS(pair.peer, "2");
    OK(ipcio_write_start(pair.peer, 3, LONG_MS));
    FAILS(INVALID, ipcio_write_end(pair.peer, LONG_MS));
    WRITES(pair.peer, "y");
    check_read(pair.client, BYTES("y\0\0\0"), __FILE__, __LINE__);
    free_pair(&pair);
}

/* Of pieces too, each call may be repeated; what is on its way meanwhile is not given up. */
static void test_converted_piece_by_piece(void **state)
{
    enum { SIZE = 3 << 20 };
    struct pair pair;
    const void *data = NULL;
    size_t size = 0, timeouts = 0;
    int written = IPCIO_TIMEOUT, read = IPCIO_WANT_READ;
    char *text = malloc(SIZE);
    (void)state;
    memset(text, 'a', SIZE);
    open_plain(&pair, PIPE, "text=utf-16le", NULL);
    OK(ipcio_write_start(pair.peer, SIZE, LONG_MS));
    OK(ipcio_write_buffer(pair.peer, text, SIZE, LONG_MS));
    while (read > 0) {
        if (written != 0) written = ipcio_write_end(pair.peer, 0);
        CHECK(written == 0 || written == IPCIO_TIMEOUT);
        if (timeouts++ == 0) {
            FAILS(INVALID, ipcio_write_buffer(pair.peer, text, 0, 0));
            FAILS(INVALID, ipcio_write(pair.peer, "other", 5, 0));
            FAILS(INVALID, ipcio_write_start(pair.peer, 1, 0));
        }
        read = ipcio_read(pair.client, IPCIO_TRY, &data, &size);
    }
    OK(read);
    OK(written);
    CHECK(size == 2 * SIZE && timeouts > 1);
    for (size_t i = 0; i < SIZE; i++) CHECK(memcmp((const char *)data + 2 * i, "a", 2) == 0);
    WRITES(pair.peer, "next");
    check_read(pair.client, BYTES("n\0e\0x\0t\0"), __FILE__, __LINE__);
    free(text);
    free_pair(&pair);
}

static void test_options(void **state)
{
    ipcio_server *server;
    (void)state;
    static const char *const bad[] = {"framing=lines", "framing=", "text=latin1", "nul=2", "framing=raw&text=utf-16le&limit=3"};
    static const char *const bad_of_tcp[] = {"keepalive=-1", "access=group"};
    for (size_t i = 0; i < COUNT(bad); i++) FAILS(INVALID, ipcio_listen(fresh(), bad[i], &server));
    for (size_t i = 0; i < COUNT(bad_of_tcp); i++) FAILS(INVALID, ipcio_listen("tcp://0", bad_of_tcp[i], &server));
    FAILS(INVALID, ipcio_listen(fresh(), "framing=lines", &server));
    assert_non_null(strstr(ipcio_message(), "message, line, raw"));
}

int main(int argc, char **argv)
{
    static const struct role roles[] = {{NULL, NULL}};
    const struct CMUnitTest tests[] = {
        TEST(test_lines),       TEST(test_long_lines),  TEST(test_raw),   TEST(test_late_answer),
        TEST(test_half_sent),   TEST(test_half_closed), TEST(test_utf16), TEST(test_raw_utf16),
        TEST(test_nul),         TEST(test_converted_messages), TEST(test_converted_piece_by_piece), TEST(test_options),
    };
    RUN(argc, argv, roles, tests);
}
