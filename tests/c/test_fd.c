/* test_fd.c - the transport `fd`: sockets that were open already. */
#include "helper.h"

#include <netinet/in.h>

#define FD(fd) text_of("fd://%d", (int)(fd))

static int echo_at_fd(char **arguments)
{
    ipcio_conn *conn;
    const void *data;
    size_t size;
    OK(ipcio_connect(arguments[0], NULL, 0, &conn));
    while (ipcio_read(conn, LONG_MS, &data, &size) == 0) OK(ipcio_write(conn, data, size, LONG_MS));
    ipcio_conn_free(conn);
    return 0;
}

/* A child that has one end of a socketpair, as it was forked with. */
static void test_pair(void **state)
{
    enum { SIZE = 3 << 20 };
    int ends[2];
    ipcio_conn *conn;
    ipcio_peer peer;
    const void *data;
    size_t size;
    unsigned char *large = malloc(SIZE);
    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    struct child *child = start("echo_at_fd", FD(ends[1]), NULL);
    close(ends[1]);
    OK(ipcio_connect(FD(ends[0]), NULL, 0, &conn));
    assert_int_equal(fcntl(ends[0], F_GETFL) & O_NONBLOCK, 0);
    assert_int_equal(fcntl(ends[0], F_GETFD), FD_CLOEXEC);
    OK(ipcio_conn_peer(conn, &peer));
    assert_int_equal(peer.uid, getuid());
    fill(large, SIZE, 7);
    OK(ipcio_call(conn, "small", 5, LONG_MS, &data, &size));
    assert_true(size == 5 && memcmp(data, "small", 5) == 0);
    OK(ipcio_call(conn, large, SIZE, LONG_MS, &data, &size));
    assert_true(size == SIZE && is_filled(data, SIZE, 7));
    ipcio_conn_free(conn);
    assert_int_equal(fcntl(ends[0], F_GETFD), -1); /* closed with the handle */
    finish(child);
    free(large);
}

/* Limits are told by HELLO; a long first message waits for it. */
static void test_limits(void **state)
{
    int ends[2];
    ipcio_conn *a, *b;
    static char large[10000];
    const void *data;
    size_t size;
    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    OK(ipcio_connect(FD(ends[0]), NULL, 0, &a));
    FAILS(TIMEOUT, ipcio_write(a, large, sizeof large, 1));
    OK(ipcio_write(a, "short", 5, LONG_MS));
    OK(ipcio_connect(FD(ends[1]), "limit=9999", 0, &b));
    FAILS(TOOBIG, ipcio_write(a, large, sizeof large, LONG_MS));
    OK(ipcio_write(a, large, sizeof large - 1, LONG_MS));
    READS(b, "short");
    OK(ipcio_read(b, LONG_MS, &data, &size));
    assert_int_equal(size, sizeof large - 1);
    ipcio_conn_free(a);
    ipcio_conn_free(b);
}

static int write_large(void *conn)
{
    static char large[10000];
    return ipcio_write(conn, large, sizeof large, LONG_MS);
}

static int read_short(void *conn)
{
    const void *data;
    size_t size;
    int st = ipcio_read(conn, LONG_MS, &data, &size);
    return st == IPCIO_OK && size != 5 ? IPCIO_PROTOCOL : st;
}

/* Who waits for HELLO to write does not keep another thread from reading. */
static void test_reading_while_a_write_waits(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++) {
        int ends[2];
        ipcio_conn *a, *b;
        struct thread writer, reader;
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
        OK(ipcio_connect(FD(ends[0]), NULL, 0, &a));
        begin(&writer, write_large, a);
        until_waiting(&writer);
        begin(&reader, read_short, a);
        OK(ipcio_connect(FD(ends[1]), NULL, 0, &b));
        OK(ipcio_write(b, "short", 5, LONG_MS));
        const void *data;
        size_t size;
        OK(ipcio_read(b, LONG_MS, &data, &size));
        assert_int_equal(end(&reader), IPCIO_OK);
        assert_int_equal(end(&writer), IPCIO_OK);
        ipcio_conn_free(a);
        ipcio_conn_free(b);
    }
}

/* A listening socket that somebody else has made, of either sort. */
static void test_listener(void **state)
{
    const char *path = fresh_path();
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof in;
    (void)state;
    memcpy(a.sun_path, path, strlen(path) + 1);
    for (int tcp = 0; tcp < 2; tcp++) {
        int fd = socket(tcp ? AF_INET : AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(fd, tcp ? (struct sockaddr *)&in : (struct sockaddr *)&a, tcp ? sizeof in : sizeof a), 0);
        assert_int_equal(listen(fd, 5), 0);
        if (tcp) assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &size), 0);
        ipcio_server *server;
        ipcio_conn *client, *conn;
        OK(ipcio_listen(FD(fd), NULL, &server));
        OK(ipcio_connect(tcp ? text_of("tcp://%d", ntohs(in.sin_port)) : at_path(path), NULL, LONG_MS, &client));
        WRITES(client, "ask");
        OK(ipcio_accept(server, LONG_MS, &conn));
        READS(conn, "ask");
        WRITES(conn, "answer");
        READS(client, "answer");
        ipcio_conn_free(client);
        ipcio_conn_free(conn);
        ipcio_server_free(server);
        assert_int_equal(fcntl(fd, F_GETFD), -1);
        struct stat st;
        if (!tcp) assert_int_equal(stat(path, &st), 0); /* not ours to remove */
    }
    unlink(path);
}

static void test_invalid(void **state)
{
    static const char *const bad[] = {"fd://", "fd://x", "fd://-1", "fd://1x", "fd:///1", "fd://99999999999", "fd://999999"};
    int ends[2], pipes[2], lone = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ipcio_conn *conn;
    ipcio_server *server;
    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++) FAILS(INVALID, ipcio_connect(bad[i], NULL, 0, &conn));
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends), 0);
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    FAILS(INVALID, ipcio_connect(FD(ends[0]), NULL, 0, &conn));
    FAILS(INVALID, ipcio_connect(FD(pipes[0]), NULL, 0, &conn));
    FAILS(INVALID, ipcio_connect(FD(lone), NULL, 0, &conn));
    FAILS(INVALID, ipcio_listen(FD(lone), NULL, &server));
    const int still_open[] = {ends[0], ends[1], pipes[0], pipes[1], lone};
    for (size_t i = 0; i < COUNT(still_open); i++) assert_int_equal(close(still_open[i]), 0);
}

int main(int argc, char **argv)
{
    static const struct role roles[] = {{"echo_at_fd", echo_at_fd}, {NULL, NULL}};
    const struct CMUnitTest tests[] = {TEST(test_pair), TEST(test_limits), TEST(test_reading_while_a_write_waits),
                                       TEST(test_listener), TEST(test_invalid)};
    RUN(argc, argv, roles, tests);
}
