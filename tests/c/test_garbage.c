/* test_garbage.c - peers that break the rules: raw sockets that write rubbish, half a frame, wrong lengths.
 * They lose their connection, and nobody else notices.  The bytes are those of core/src/channel/message.c. */
#define RUNS_OVER(scheme) (strcmp(scheme, "pipe") == 0 || is_tcp(scheme)) /* it writes bytes of its own to a socket */
#include "../faults/faults.h"

#define LE0 "\0\0\0\0"
#define HEAD_OF_HELLO(kind, magic) "\x20\0\0\0" "\x20\0\0\0" LE0 kind "\0" magic
#define REST_OF_HELLO(magic, version) magic "\0" version "\0" "\0\0\0\4" LE0 LE0 LE0 LE0 LE0 "\2"
#define HELLO HEAD_OF_HELLO("\1", "ip") REST_OF_HELLO("ipcio", "\1")
#define FRAME "\5\0\0\0" "\5\0\0\0" LE0 "\2\0ip" "hello" "\2"
static const char valid[] = HELLO FRAME; /* without its last NUL, which is not sent */
enum { VALID = sizeof valid - 1, HELLO_LENGTH = sizeof HELLO - 1, HEADER_LENGTH = 16 };

static void raw_send(int fd, const void *data, size_t size)
{
    ssize_t n = send(fd, data, size, MSG_NOSIGNAL); /* it may be closed already */
    CHECK(n == (ssize_t)size || (n < 0 && (errno == EPIPE || errno == ECONNRESET)));
}

/* What the other side sends until it closes; the answer's text is looked for in it. */
static int answers(int fd, const char *text)
{
    static char got[1 << 16];
    size_t n = 0;
    for (;;) {
        struct pollfd poll_fd = {fd, POLLIN, 0};
        ssize_t r;
        CHECK(poll(&poll_fd, 1, LONG_MS) == 1);
        r = recv(fd, got + n, sizeof got - n, 0);
        if (r <= 0)
            break;
        n += (size_t)r;
    }
    return memmem(got, n, text, strlen(text)) != NULL;
}

static void still_serves(const char *address)
{
    ipcio_conn *conn;
    const void *answer;
    size_t size;
    OK(ipcio_connect(address, NULL, LONG_MS, &conn));
    OK(ipcio_call(conn, "real", 4, LONG_MS, &answer, &size));
    CHECK(size == 4 && memcmp(answer, "real", 4) == 0);
    ipcio_conn_free(conn);
}

/* The bytes above are right, or the other tests here mean nothing. */
static void test_valid(void **state)
{
    const char *address = new_address();
    struct child *server = start_echo(address);
    int fd = plain_socket(address, false);
    (void)state;
    raw_send(fd, valid, VALID);
    shutdown(fd, SHUT_WR);
    assert_true(answers(fd, "hello"));
    close(fd);
    stop(server);
}

static void test_rubbish_to_a_server(void **state)
{
    static const struct {
        const char *bytes;
        size_t size;
    } rubbish[] = {
#define BYTES(text) {text, sizeof(text) - 1}
        BYTES(""),
        BYTES("x"),
        BYTES("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        BYTES("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
        BYTES("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
        BYTES(FRAME),                                                              /* no hello */
        BYTES(HELLO HELLO),                                                        /* two */
        BYTES(HEAD_OF_HELLO("\1", "ip") REST_OF_HELLO("ipcio", "\2")),            /* another version */
        BYTES(HEAD_OF_HELLO("\1", "ip") REST_OF_HELLO("other", "\1")),            /* another magic */
        BYTES(HEAD_OF_HELLO("\1", "xx") REST_OF_HELLO("ipcio", "\1")),
        BYTES(HEAD_OF_HELLO("\2", "ip") REST_OF_HELLO("ipcio", "\1")),
        BYTES(HELLO "\5\0\0\0" "\5\0\0\0" LE0 "\3\0ip" "hello" "\2"),              /* no first frame */
        BYTES(HELLO "\5\0\0\0" "\5\0\0\0" LE0 "\2\0xx" "hello" "\2"),              /* a wrong magic */
        BYTES(HELLO "\xff\xff\xff\xff" "\xff\xff\xff\xff" LE0 "\2\0ip" "hello" "\2"), /* a huge length */
        BYTES(HELLO "\0\0\0\x80" "\0\0\0\x80" LE0 "\2\0ip" "hello" "\2"),        /* the least negative, */
        BYTES(HELLO "\1\0\1\0" "\1\0\1\0" LE0 "\2\0ip" "hello" "\2"),            /* one byte over a frame's */
        BYTES(HELLO "\5\0\0\0" "\xff\xff\xff\xff" LE0 "\2\0ip" "hello" "\1"),      /* a huge message */
        BYTES(HELLO "\5\0\0\0" "\4\0\0\0" LE0 "\2\0ip" "hello" "\2"),              /* more than the message */
        BYTES(HELLO "\5\0\0\0" "\6\0\0\0" LE0 "\2\0ip" "hello" "\2"),              /* an end before its end */
        BYTES(HELLO "\5\0\0\0" "\5\0\0\0" LE0 "\2\0ip" "hello" "\3"),              /* no such verdict */
        BYTES(HELLO "\0\0\0\0" "\5\0\0\0" LE0 "\2\0ip" "\1"),                      /* a frame of nothing */
#undef BYTES
    };
    const char *address = new_address();
    struct child *server = start_echo(address);
    (void)state;
    for (size_t i = 0; i < COUNT(rubbish); i++) {
        int fd = plain_socket(address, false);
        raw_send(fd, rubbish[i].bytes, rubbish[i].size);
        raw_send(fd, valid, VALID); /* what follows is lost with it */
        if (i < 2)
            shutdown(fd, SHUT_WR);
        still_serves(address);
        if (i > 0)
            assert_false(answers(fd, "hello"));
        close(fd);
    }
    stop(server);
}

/* What is cut short anywhere is no message. */
static void test_cut_anywhere(void **state)
{
    const char *address = new_address();
    struct child *server = start_echo(address);
    (void)state;
    for (size_t n = 0; n < VALID; n++) {
        int fd = plain_socket(address, false);
        raw_send(fd, valid, n);
        shutdown(fd, SHUT_WR);
        assert_false(answers(fd, "hello"));
        close(fd);
    }
    still_serves(address);
    stop(server);
}

/* Byte for byte: any other value leads to the right message, another, or the end; never further. */
static void test_changed_anywhere(void **state)
{
    static const unsigned char changes[] = {0x01, 0x80, 0xff};
    const char *address = new_address();
    struct child *server = start_echo(address);
    (void)state;
    for (size_t at = 0; at < VALID; at++)
        for (size_t k = 0; k < COUNT(changes); k++) {
            char bytes[VALID];
            int fd = plain_socket(address, false);
            memcpy(bytes, valid, VALID);
            bytes[at] = (char)((unsigned char)bytes[at] ^ changes[k]);
            raw_send(fd, bytes, VALID);
            shutdown(fd, SHUT_WR);
            (void)answers(fd, "hello");
            close(fd);
        }
    still_serves(address);
    stop(server);
}

static void test_random(void **state)
{
    const char *address = new_address();
    struct child *server = start_echo(address);
    unsigned number = 1; /* the same sequence in every run */
    (void)state;
    for (int i = 0; i < 300; i++) {
        unsigned char bytes[200];
        int fd = plain_socket(address, false);
        for (size_t k = 0; k < sizeof bytes; k++) {
            number = number * 1103515245 + 12345;
            bytes[k] = (unsigned char)(number >> 16);
        }
        if (i % 2 == 0)
            raw_send(fd, HELLO, HELLO_LENGTH);
        raw_send(fd, bytes, (size_t)i % sizeof bytes);
        shutdown(fd, SHUT_WR);
        (void)answers(fd, "hello");
        close(fd);
    }
    still_serves(address);
    stop(server);
}

static void test_silent_peer(void **state)
{
    const char *address = new_address();
    struct child *server = start_echo(address);
    int silent = plain_socket(address, false), slow = plain_socket(address, false);
    (void)state;
    for (size_t i = 0; i < VALID; i++) {
        raw_send(slow, valid + i, 1);
        if (i % 10 == 0)
            still_serves(address);
    }
    shutdown(slow, SHUT_WR);
    assert_true(answers(slow, "hello"));
    close(slow);
    close(silent);
    stop(server);
}

/* The same to a client: a raw server answers it. */
static void test_rubbish_to_a_client(void **state)
{
    static const struct {
        const char *bytes;
        size_t size;
        int status;
    } cases[] = {
#define BYTES(text, status) {text, sizeof(text) - 1, status}
        BYTES(HELLO FRAME, IPCIO_OK),
        BYTES("", IPCIO_CLOSED),
        BYTES(HELLO, IPCIO_CLOSED),
        BYTES("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", IPCIO_PROTOCOL),
        BYTES("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", IPCIO_PROTOCOL),
        BYTES(FRAME, IPCIO_PROTOCOL),
        BYTES(HELLO "\5\0\0\0" "\5\0\0\0" LE0 "\2\0ip" "hel", IPCIO_CLOSED),
        BYTES(HELLO "\xff\xff\xff\xff" "\xff\xff\xff\xff" LE0 "\2\0ip" "hello" "\2", IPCIO_PROTOCOL),
        BYTES(HELLO "\5\0\0\0" "\5\0\0\0" LE0 "\2\0ip" "hello" "\7", IPCIO_PROTOCOL),
        BYTES(HELLO "\5\0\0\0" "\5\0\0\0" LE0 "\2\0ip" "hello" "\0" FRAME, IPCIO_OK), /* given up, then sent */
#undef BYTES
    };
    const char *address = new_address();
    int listener = plain_socket(address, true);
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        ipcio_conn *conn;
        const void *data;
        size_t size;
        int fd;
        OK(ipcio_connect(address, NULL, LONG_MS, &conn));
        fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        raw_send(fd, cases[i].bytes, cases[i].size);
        shutdown(fd, SHUT_WR);
        check_status(ipcio_read(conn, LONG_MS, &data, &size), cases[i].status, cases[i].bytes, __FILE__, __LINE__);
        if (cases[i].status == IPCIO_PROTOCOL) {
            FAILS(PROTOCOL, ipcio_read(conn, LONG_MS, &data, &size)); /* and so it stays */
            FAILS(CLOSED, ipcio_write(conn, "x", 1, LONG_MS));
        }
        ipcio_conn_free(conn);
        close(fd);
    }
    close(listener);
}

/* A peer that does not keep to the limit it was told: the message is dropped, the connection goes on. */
static void test_over_our_limit(void **state)
{
    static const char big[] = HELLO "\5\0\0\0" "\5\0\0\0" LE0 "\2\0ip" "first" "\2" FRAME
                                    "\3\0\0\0" "\3\0\0\0" LE0 "\2\0ip" "end" "\2";
    const char *address = new_address();
    ipcio_server *server;
    ipcio_conn *conn;
    const void *data;
    size_t size;
    int fd;
    (void)state;
    OK(ipcio_listen(address, "limit=4", &server));
    fd = plain_socket(address, false);
    raw_send(fd, big, sizeof big - 1);
    OK(ipcio_accept(server, LONG_MS, &conn));
    FAILS(TOOBIG, ipcio_read(conn, LONG_MS, &data, &size));
    FAILS(TOOBIG, ipcio_read_start(conn, LONG_MS, &size));
    READS(conn, "end");
    close(fd);
    FAILS(CLOSED, ipcio_read(conn, LONG_MS, &data, &size));
    ipcio_conn_free(conn);
    ipcio_server_free(server);
}

/* A client stops after any byte, for as long as it likes: the others are served meanwhile, and it may go on. */
static void test_client_stops_anywhere(void **state)
{
    const char *address = new_address();
    ipcio_server *server;
    (void)state;
    OK(ipcio_listen(address, NULL, &server));
    for (size_t n = 0; n < VALID; n++) {
        ipcio_conn *conn = NULL, *other, *peer;
        const void *data;
        size_t size;
        int fd = plain_socket(address, false);
        raw_send(fd, valid, n);
        if (n < HELLO_LENGTH)
            FAILS(TIMEOUT, ipcio_accept(server, 0, &conn));
        else
            OK(ipcio_accept(server, LONG_MS, &conn));
        OK(ipcio_connect(address, NULL, LONG_MS, &other));
        WRITES(other, "real");
        OK(ipcio_accept(server, LONG_MS, &peer));
        READS(peer, "real");
        if (conn != NULL)
            FAILS(TIMEOUT, ipcio_read(conn, 0, &data, &size));
        raw_send(fd, valid + n, VALID - n);
        if (conn == NULL)
            OK(ipcio_accept(server, LONG_MS, &conn));
        READS(conn, "hello");
        close(fd);
        FAILS(CLOSED, ipcio_read(conn, LONG_MS, &data, &size));
        ipcio_conn_free(conn);
        ipcio_conn_free(other);
        ipcio_conn_free(peer);
    }
    ipcio_server_free(server);
}

/* A server that says one byte at a time, and that is looked for after each. */
static void test_server_says_byte_after_byte(void **state)
{
    const char *address = new_address();
    int listener = plain_socket(address, true), fd;
    ipcio_conn *conn;
    const void *data;
    size_t size;
    (void)state;
    OK(ipcio_connect(address, NULL, LONG_MS, &conn));
    fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    for (size_t i = 0; i < VALID; i++) {
        if (i % 2 == 0)
            FAILS(TIMEOUT, ipcio_read(conn, 0, &data, &size));
        else
            FAILS(TIMEOUT, ipcio_call(conn, "x", 1, 0, &data, &size));
        raw_send(fd, valid + i, 1);
    }
    READS(conn, "hello");
    close(fd);
    close(listener);
    ipcio_conn_free(conn);
}

/* A server that says nothing at all: not even that it has accepted. */
static void test_silent_server(void **state)
{
    const char *address = new_address();
    int listener = plain_socket(address, true);
    ipcio_conn *conn;
    const void *data;
    size_t size;
    (void)state;
    for (int accepted = 0; accepted < 2; accepted++) {
        int fd = -1;
        OK(ipcio_connect(address, NULL, LONG_MS, &conn));
        if (accepted)
            fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        FAILS(TIMEOUT, ipcio_read(conn, 10, &data, &size));
        FAILS(TIMEOUT, ipcio_call(conn, "hello?", 6, 10, &data, &size));
        FAILS(TIMEOUT, ipcio_read_start(conn, 10, &size));
        WRITES(conn, "hello?");
        ipcio_conn_free(conn);
        if (accepted)
            close(fd);
        else
            close(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
    }
    close(listener);
}

enum { LARGE = 300000, MESSAGES = 200 };

/* "writer" ADDRESS: writes large messages without a pause. */
static int writer_role(char **arguments)
{
    static unsigned char large[LARGE];
    ipcio_conn *conn;
    OK(ipcio_connect(arguments[0], NULL, LONG_MS, &conn));
    for (size_t i = 0; i < MESSAGES; i++) {
        fill(large, sizeof large, i);
        OK(ipcio_write(conn, large, sizeof large, -1));
    }
    ipcio_conn_free(conn);
    return 0;
}

/* A writer is stopped and goes on, again and again: its reader sees a pause, never another message. */
static void test_stopped_writer(void **state)
{
    const char *address = new_address();
    struct child *writer = start("writer", address, NULL);
    ipcio_server *server;
    ipcio_conn *conn;
    size_t count = 0;
    int st = 0;
    (void)state;
    OK(ipcio_listen(address, NULL, &server));
    OK(ipcio_accept(server, LONG_MS, &conn));
    while (st != IPCIO_CLOSED) {
        const void *data;
        size_t size;
        bool stopped = kill(writer->pid, SIGSTOP) == 0 &&
                       waitid(P_PID, (id_t)writer->pid, &(siginfo_t){0}, WSTOPPED | WEXITED | WNOWAIT) == 0;
        assert_true(stopped);
        while ((st = ipcio_read(conn, 0, &data, &size)) == IPCIO_OK) {
            assert_true(size == LARGE && is_filled(data, size, count));
            count++;
        }
        assert_true(st == IPCIO_TIMEOUT || st == IPCIO_CLOSED);
        kill(writer->pid, SIGCONT);
        if (st == IPCIO_TIMEOUT)
            OK(ipcio_wait(conn, IPCIO_WANT_READ, ipcio_deadline(LONG_MS / 1000)));
    }
    assert_int_equal(count, MESSAGES);
    finish(writer);
    ipcio_conn_free(conn);
    ipcio_server_free(server);
}

/* A message of many frames of one byte. */
static void test_small_frames(void **state)
{
    enum { N = 1000 };
    const char *address = new_address();
    struct child *server = start_echo(address);
    char frame[HEADER_LENGTH + 2] = "\1\0\0\0" "\0\0\0\0" LE0 "\2\0ip" "a" "\1";
    char all[N + 1];
    int fd = plain_socket(address, false);
    (void)state;
    memset(all, 'a', N);
    all[N] = '\0';
    frame[4] = (char)(N & 255);
    frame[5] = N >> 8;
    raw_send(fd, HELLO, HELLO_LENGTH);
    for (int i = 0; i < N; i++) {
        frame[12] = i == 0 ? 2 : 3;
        frame[17] = i == N - 1 ? 2 : 1;
        raw_send(fd, frame, sizeof frame);
    }
    shutdown(fd, SHUT_WR);
    assert_true(answers(fd, all));
    close(fd);
    stop(server);
}

int main(int argc, char **argv)
{
    static const struct role roles[] = {{"echo", echo_role}, {"writer", writer_role}, {NULL, NULL}};
    const struct CMUnitTest tests[] = {
        TEST(test_valid),
        TEST(test_rubbish_to_a_server),
        TEST(test_cut_anywhere),
        TEST(test_changed_anywhere),
        TEST(test_random),
        TEST(test_silent_peer),
        TEST(test_rubbish_to_a_client),
        TEST(test_over_our_limit),
        TEST(test_client_stops_anywhere),
        TEST(test_server_says_byte_after_byte),
        TEST(test_silent_server),
        TEST(test_stopped_writer),
        TEST(test_small_frames),
    };
    RUN_OVER_TRANSPORTS(argc, argv, roles, tests);
}
