/* test_udp.c - the transport `udp`: datagrams, one connection for many senders, groups, who may send, and ends. */
#include "helper.h"

#include <netinet/in.h>
#include <sys/resource.h>

enum { LONGEST = 65507 - 24 };

/* ------------------------------------------------------------------------------------------- roles */

/* "server" USER FOLDER ADDRESS OPTIONS: says its address, then answers each message with itself until stop(). */
static int server_role(char **arguments)
{
    become(arguments[0], arguments[1]);
    return serve_until_stop(arguments[2], arguments[3], echo_handler, NULL);
}

/* "hear" USER FOLDER OPTIONS: says its address, then each message that came, until it is killed. */
static int hear_role(char **arguments)
{
    ipcio_server *server;
    ipcio_conn *conn;
    const void *data;
    size_t size;
    become(arguments[0], arguments[1]);
    OK(ipcio_listen("udp://0", arguments[2], &server));
    tell(ipcio_server_address(server));
    wait_for("accept");
    while (ipcio_accept(server, LONG_MS, &conn) == 0) {
        while (ipcio_read(conn, LONG_MS, &data, &size) == 0) tell(text_of("%.*s", (int)size, (const char *)data));
        ipcio_conn_free(conn);
    }
    return 1;
}

/* "say" USER FOLDER ADDRESS OPTIONS MESSAGE: writes it and is gone. */
static int say_role(char **arguments)
{
    ipcio_conn *conn;
    become(arguments[0], arguments[1]);
    OK(ipcio_connect(arguments[2], arguments[3], LONG_MS, &conn));
    OK(ipcio_write(conn, arguments[4], strlen(arguments[4]), LONG_MS));
    ipcio_conn_free(conn);
    return 0;
}

/* "first" ADDRESS: a client that waits for its server. */
static int first_role(char **arguments)
{
    ipcio_conn *conn;
    const void *data;
    size_t size;
    FAILS(MISSING, ipcio_connect(arguments[0], NULL, 0, &conn));
    FAILS(TIMEOUT, ipcio_connect(arguments[0], NULL, 20, &conn));
    tell("ready");
    OK(ipcio_connect(arguments[0], NULL, LONG_MS, &conn));
    OK(ipcio_call(conn, "hello", 5, LONG_MS, &data, &size));
    CHECK(size == 7 && memcmp(data, "welcome", 7) == 0);
    ipcio_conn_free(conn);
    return 0;
}

/* "member" ADDRESS ANSWER: one of several servers of a group; says its address, then answers until stop(). */
static const char *answer_of_member;

static int member_handler(void *context, ipcio_conn *conn, const void *request, size_t size)
{
    (void)context, (void)request, (void)size;
    return ipcio_write(conn, answer_of_member, strlen(answer_of_member), LONG_MS);
}

static int member_role(char **arguments)
{
    answer_of_member = arguments[1];
    return serve_until_stop(arguments[0], "interface=lo", member_handler, NULL);
}

/* "forge" USER PORT: sends from an address that no machine here has, which everybody may. */
static int forge_role(char **arguments)
{
    const int on = 1;
    struct sockaddr_in6 from = {.sin6_family = AF_INET6, .sin6_addr = {{{0xfd, 0x99, [15] = 1}}}};
    struct sockaddr_in6 to = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT,
                              .sin6_port = htons((uint16_t)atoi(arguments[1]))};
    become(arguments[0], "");
    int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    CHECK(setsockopt(fd, IPPROTO_IPV6, IPV6_FREEBIND, &on, sizeof on) == 0);
    CHECK(bind(fd, (struct sockaddr *)&from, sizeof from) == 0);
    CHECK(sendto(fd, "forged", 6, 0, (struct sockaddr *)&to, sizeof to) == 6);
    close(fd);
    return 0;
}

static const struct role roles[] = {{"server", server_role}, {"hear", hear_role},     {"say", say_role},
                                    {"first", first_role},   {"member", member_role},
                                    {"forge", forge_role},   {NULL, NULL}};

/* ----------------------------------------------------------------------------------------- helpers */

static struct child *start_server(const char *user, const char *folder, const char *options, char address[256])
{
    struct child *child = start("server", user, folder, "udp://0", options, NULL);
    CHECK(read_line(child->out, address, 256));
    return child;
}

static const char *port_of(const char *address) { return strrchr(address, ':') + 1; }

static void says(const char *user, const char *folder, const char *address, const char *options, const char *text)
{
    finish(start("say", user, folder, address, options, text, NULL));
}

static void calls(ipcio_conn *conn, const char *request, const char *answer)
{
    const void *data;
    size_t size;
    OK(ipcio_call(conn, request, strlen(request), LONG_MS, &data, &size));
    CHECK(size == strlen(answer) && memcmp(data, answer, size) == 0);
}

/* A server and a client in this process; the server has accepted. */
static void meet(struct pair *pair, const char *options)
{
    OK(ipcio_listen("udp://0", options, &pair->server));
    OK(ipcio_connect(ipcio_server_address(pair->server), options, LONG_MS, &pair->client));
    if (options) WRITES(pair->client, "I am here"); /* in `raw` and `line` nothing else tells that */
    OK(ipcio_accept(pair->server, LONG_MS, &pair->peer));
    if (options) READS(pair->peer, "I am here");
}

/* A socket without ipcio, connected to the server's port. */
static int plain_socket(const ipcio_server *server)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                             .sin_port = htons((uint16_t)atoi(port_of(ipcio_server_address(server))))};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to) == 0);
    return fd;
}

static int is_readable(int fd)
{
    struct pollfd poll_fd = {fd, POLLIN, 0};
    return poll(&poll_fd, 1, 0) == 1;
}

/* ------------------------------------------------------------------------------------------- tests */

static void test_processes(void **state)
{
    static unsigned char message[LONGEST];
    static const size_t sizes[] = {0, 1, 1400, 9000, LONGEST};
    char address[256];
    ipcio_conn *conn;
    ipcio_peer peer;
    (void)state;
    struct child *child = start_server("", "", "", address);
    OK(ipcio_connect(address, NULL, LONG_MS, &conn));
    OK(ipcio_conn_peer(conn, &peer));
    assert_int_equal(peer.uid, geteuid());
    assert_int_equal(peer.pid, -1);
    for (size_t i = 0; i < COUNT(sizes); i++) {
        const void *data;
        size_t size;
        fill(message, sizes[i], i);
        OK(ipcio_call(conn, message, sizes[i], LONG_MS, &data, &size));
        assert_true(size == sizes[i] && is_filled(data, size, i));
    }
    ipcio_conn_free(conn);
    stop(child);
}

/* Nothing is sent of what one datagram does not hold, and the connection goes on. */
static void test_too_long(void **state)
{
    static unsigned char message[70000];
    static const struct {
        const char *options;
        size_t most;
    } cases[] = {{NULL, LONGEST}, {"framing=raw", 65507}, {"framing=line", 65506}, {"framing=raw&nul=1", 65506},
                 {"limit=100", 100}, {"limit=10000000", LONGEST}, {"framing=line&text=utf-16le", 65504}};
    const void *data;
    size_t size;
    (void)state;
    memset(message, 'x', sizeof message);
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct pair pair;
        size_t most = cases[i].most, script = i == 6 ? most / 2 : most;
        meet(&pair, cases[i].options);
        FAILS(TOOBIG, ipcio_write(pair.client, message, script + 1, LONG_MS));
        assert_non_null(strstr(ipcio_message(), "nothing was sent"));
        if (most == LONGEST) assert_non_null(strstr(ipcio_message(), "over udp's limit of 65483"));
        FAILS(TOOBIG, ipcio_write(pair.client, message, sizeof message, LONG_MS));
        if (!cases[i].options) FAILS(TOOBIG, ipcio_write_start(pair.client, most + 1, LONG_MS));
        OK(ipcio_write(pair.client, message, script, LONG_MS));
        OK(ipcio_read(pair.peer, LONG_MS, &data, &size));
        assert_true(size == script && memcmp(data, message, size) == 0);
        FAILS(TOOBIG, ipcio_write(pair.peer, message, script + 1, LONG_MS));
        OK(ipcio_write(pair.peer, message, script, LONG_MS));
        OK(ipcio_read(pair.client, LONG_MS, &data, &size));
        assert_true(size == script);
        free_pair(&pair);
    }
}

/* A reader whose limit is lower is told, and goes on. */
static void test_over_the_readers_limit(void **state)
{
    struct pair pair;
    const void *data;
    size_t size;
    (void)state;
    OK(ipcio_listen("udp://0", "limit=10", &pair.server));
    OK(ipcio_connect(ipcio_server_address(pair.server), NULL, LONG_MS, &pair.client));
    OK(ipcio_accept(pair.server, LONG_MS, &pair.peer));
    WRITES(pair.client, "eleven bytes");
    WRITES(pair.client, "ten bytes");
    FAILS(TOOBIG, ipcio_read(pair.peer, LONG_MS, &data, &size));
    READS(pair.peer, "ten bytes");
    free_pair(&pair);
}

/* All of them have one connection of the server's; each gets its own answers. */
static void test_senders(void **state)
{
    enum { CLIENTS = 20 };
    ipcio_server *server;
    ipcio_conn *clients[CLIENTS], *conn;
    char senders[CLIENTS][64];
    const char *who;
    const void *data;
    size_t size;
    (void)state;
    OK(ipcio_listen("udp://0", NULL, &server));
    for (int i = 0; i < CLIENTS; i++) OK(ipcio_connect(ipcio_server_address(server), NULL, LONG_MS, &clients[i]));
    OK(ipcio_accept(server, LONG_MS, &conn));
    FAILS(TIMEOUT, ipcio_accept(server, 0, &(ipcio_conn *){NULL}));
    WRITES(conn, "welcome"); /* to the first, who has not written yet */
    FAILS(MISSING, ipcio_conn_sender(clients[0], &who));
    READS(clients[0], "welcome");
    OK(ipcio_conn_sender(clients[0], &who));
    assert_string_equal(who, ipcio_server_address(server));
    for (int i = 0; i < CLIENTS; i++) {
        const char *text = text_of("from %d", i);
        OK(ipcio_write(clients[i], text, strlen(text), LONG_MS));
        OK(ipcio_read(conn, LONG_MS, &data, &size));
        OK(ipcio_conn_sender(conn, &who));
        strcpy(senders[i], who);
        assert_memory_equal(who, "udp://127.0.0.1:", 16);
        for (int k = 0; k < i; k++) assert_string_not_equal(senders[k], senders[i]);
        OK(ipcio_write(conn, data, size, LONG_MS));
        OK(ipcio_write(conn, data, size, LONG_MS));
    }
    for (int i = 0; i < CLIENTS; i++)
        for (int k = 0; k < 2; k++) {
            const char *text = text_of("from %d", i);
            OK(ipcio_read(clients[i], LONG_MS, &data, &size));
            assert_true(size == strlen(text) && memcmp(data, text, size) == 0);
        }
    FAILS(UNSUPPORTED, ipcio_conn_peer(conn, &(ipcio_peer){0}));
    for (int i = 0; i < CLIENTS; i++) ipcio_conn_free(clients[i]);
    ipcio_conn_free(conn);
    ipcio_server_free(server);

    struct pair pair; /* of a transport with a peer only */
    open_pair(&pair);
    FAILS(UNSUPPORTED, ipcio_conn_sender(pair.peer, &who));
    assert_null(who);
    free_pair(&pair);
}

/* The connection can be closed and had again; it outlives its server, and only then the port is free. */
static void test_one_connection(void **state)
{
    struct pair pair;
    ipcio_server *second;
    ipcio_conn *again, *other;
    const char *address;
    const void *data;
    size_t size;
    (void)state;
    meet(&pair, NULL);
    address = text_of("%s", ipcio_server_address(pair.server));
    WRITES(pair.client, "one");
    FAILS(TIMEOUT, ipcio_accept(pair.server, 0, &again));
    assert_false(is_readable(ipcio_fileno(pair.server)));
    READS(pair.peer, "one");
    OK(ipcio_connect(address, NULL, LONG_MS, &other));
    WRITES(other, "two");
    ipcio_conn_close(pair.peer);
    FAILS(CLOSED, ipcio_read(pair.client, LONG_MS, &data, &size)); /* who was read last is told */
    FAILS(CLOSED, ipcio_write(pair.client, "x", 1, LONG_MS));
    assert_true(is_readable(ipcio_fileno(pair.server)));
    OK(ipcio_accept(pair.server, LONG_MS, &again));
    READS(again, "two");
    FAILS(EXISTS, ipcio_listen(address, NULL, &second));
    ipcio_server_close(pair.server);
    FAILS(EXISTS, ipcio_listen(address, NULL, &second));
    WRITES(again, "still here");
    READS(other, "still here");
    ipcio_conn_close(again);
    FAILS(CLOSED, ipcio_read(other, LONG_MS, &data, &size));
    ipcio_conn_free(other);
    OK(ipcio_listen(address, NULL, &second));
    ipcio_server_free(second);
    ipcio_conn_free(again);
    free_pair(&pair);
}

/* The client for whom accept gave the connection ends it; others come and go, and are not lost by that. */
static void test_end(void **state)
{
    struct pair pair;
    ipcio_conn *other;
    const void *data;
    size_t size;
    (void)state;
    meet(&pair, NULL);
    OK(ipcio_connect(ipcio_server_address(pair.server), NULL, LONG_MS, &other));
    WRITES(other, "a guest's");
    ipcio_conn_free(other);
    OK(ipcio_connect(ipcio_server_address(pair.server), NULL, LONG_MS, &other));
    WRITES(pair.client, "the last");
    ipcio_conn_close(pair.client);
    WRITES(other, "another guest's");
    READS(pair.peer, "a guest's");
    READS(pair.peer, "the last");
    FAILS(CLOSED, ipcio_read(pair.peer, LONG_MS, &data, &size));
    FAILS(CLOSED, ipcio_read(pair.peer, LONG_MS, &data, &size));
    FAILS(CLOSED, ipcio_write(pair.peer, "x", 1, LONG_MS));
    assert_true(is_readable(ipcio_fileno(pair.peer)));
    ipcio_conn_free(pair.peer);
    OK(ipcio_accept(pair.server, LONG_MS, &pair.peer));
    READS(pair.peer, "another guest's");
    WRITES(pair.peer, "hello");
    READS(other, "hello"); /* whom the end of another was not told */
    ipcio_conn_free(other);
    FAILS(CLOSED, ipcio_read(pair.peer, LONG_MS, &data, &size));
    free_pair(&pair);
}

static void test_late_answers(void **state)
{
    struct pair pair;
    const void *data;
    size_t size;
    (void)state;
    meet(&pair, NULL);
    FAILS(TIMEOUT, ipcio_call(pair.client, "slow", 4, 1, &data, &size));
    READS(pair.peer, "slow");
    WRITES(pair.peer, "late");
    int st, want = ipcio_call(pair.client, "fast", 4, IPCIO_TRY, &data, &size);
    assert_int_equal(want, IPCIO_WANT_READ);
    READS(pair.peer, "fast");
    WRITES(pair.peer, "in time");
    while ((st = ipcio_call(pair.client, "fast", 4, IPCIO_TRY, &data, &size)) > 0)
        OK(ipcio_wait(pair.client, st, INT64_MAX));
    OK(st);
    assert_true(size == 7 && memcmp(data, "in time", 7) == 0);
    free_pair(&pair);
}

static void test_pieces(void **state)
{
    static unsigned char message[30000];
    struct pair pair;
    size_t size, got, all = 0;
    (void)state;
    meet(&pair, NULL);
    fill(message, sizeof message, 5);
    OK(ipcio_write_start(pair.client, 10, LONG_MS)); /* given up: never seen */
    OK(ipcio_write_buffer(pair.client, "half", 4, LONG_MS));
    FAILS(INVALID, ipcio_write_end(pair.client, LONG_MS));
    OK(ipcio_write_start(pair.client, sizeof message, LONG_MS));
    for (size_t at = 0; at < sizeof message; at += 7500)
        OK(ipcio_write_buffer(pair.client, message + at, 7500, LONG_MS));
    OK(ipcio_write_end(pair.client, LONG_MS));
    OK(ipcio_write_start(pair.client, 0, LONG_MS));
    OK(ipcio_write_end(pair.client, LONG_MS));
    WRITES(pair.client, "end");
    OK(ipcio_read_start(pair.peer, LONG_MS, &size));
    assert_int_equal(size, sizeof message);
    for (unsigned char piece[999];; all += got) {
        OK(ipcio_read_buffer(pair.peer, piece, sizeof piece, LONG_MS, &got));
        if (got == 0) break;
        assert_memory_equal(piece, message + all, got);
    }
    assert_int_equal(all, sizeof message);
    OK(ipcio_read_end(pair.peer, LONG_MS));
    READS(pair.peer, "");
    READS(pair.peer, "end");
    free_pair(&pair);
}

/* Several servers have a group; each answers, and to a call the first answer counts. */
static void test_multicast(void **state)
{
    char address[256], second[256];
    const char *who, *senders[2];
    ipcio_conn *conn;
    const void *data;
    size_t size;
    int heard = 0;
    (void)state;
    struct child *a = start("member", "udp://239.255.77.1:0", "one", NULL);
    CHECK(read_line(a->out, address, sizeof address));
    struct child *b = start("member", address, "two", NULL);
    CHECK(read_line(b->out, second, sizeof second));
    assert_string_equal(second, address);
    OK(ipcio_connect(address, "interface=lo", 0, &conn));
    WRITES(conn, "who is there?");
    for (int i = 0; i < 2; i++) {
        OK(ipcio_read(conn, LONG_MS, &data, &size));
        assert_int_equal(size, 3);
        heard |= memcmp(data, "one", 3) == 0 ? 1 : memcmp(data, "two", 3) == 0 ? 2 : 4;
        OK(ipcio_conn_sender(conn, &who));
        senders[i] = text_of("%s", who);
        assert_string_equal(port_of(who), port_of(address));
    }
    assert_int_equal(heard, 3);
    assert_string_equal(senders[0], senders[1]); /* of one machine: they have the port together */
    for (int i = 0; i < 20; i++) {
        OK(ipcio_call(conn, "who is first?", 13, LONG_MS, &data, &size));
        assert_int_equal(size, 3);
    }
    FAILS(UNSUPPORTED, ipcio_conn_peer(conn, &(ipcio_peer){0}));
    ipcio_conn_free(conn);
    stop(a);
    stop(b);

    FAILS(INVALID, ipcio_listen("udp://239.255.77.1:0?interface=nothing", NULL, &(ipcio_server *){NULL}));
    FAILS(INVALID, ipcio_connect("udp://239.255.77.1:9?interface=nothing", NULL, LONG_MS, &conn));
    assert_non_null(strstr(ipcio_message(), "there is no interface \"nothing\""));
    FAILS(INVALID, ipcio_connect("udp://239.255.77.1:9?interface=a-name-of-16-byte", NULL, LONG_MS, &conn));
}

static void test_broadcast(void **state)
{
    ipcio_server *server;
    ipcio_conn *conn, *client;
    const char *who;
    (void)state;
    OK(ipcio_listen("udp://0.0.0.0:0", NULL, &server));
    const char *port = port_of(ipcio_server_address(server));
    OK(ipcio_connect(text_of("udp://127.255.255.255:%s", port), NULL, LONG_MS, &client));
    WRITES(client, "all of you");
    OK(ipcio_accept(server, LONG_MS, &conn));
    READS(conn, "all of you");
    WRITES(conn, "here");
    READS(client, "here");
    OK(ipcio_conn_sender(client, &who));
    assert_string_equal(who, text_of("udp://127.0.0.1:%s", port));
    WRITES(client, "more");
    READS(conn, "more");
    ipcio_conn_free(conn);
    ipcio_conn_free(client);
    ipcio_server_free(server);
}

/* What is no ipcio's is dropped, and disturbs nobody. */
static void test_rubbish(void **state)
{
    static const unsigned char rubbish[][32] = {"", "iu", "iu\2", "iu\1", "xx\1", {0}};
    static const size_t sizes[] = {0, 2, 24, 23, 24, 24};
    struct pair pair;
    (void)state;
    meet(&pair, NULL);
    int fd = plain_socket(pair.server);
    for (int round = 0; round < 100; round++)
        for (size_t i = 0; i < COUNT(sizes); i++) CHECK(send(fd, rubbish[i], sizes[i], 0) == (ssize_t)sizes[i]);
    WRITES(pair.client, "a message");
    READS(pair.peer, "a message");
    WRITES(pair.peer, "an answer"); /* to its sender, not to that of the rubbish */
    READS(pair.client, "an answer");
    CHECK(send(fd, "iu\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0right", 29, 0) == 29);
    READS(pair.peer, "right");
    WRITES(pair.peer, "");
    unsigned char answer[64] = {0};
    CHECK(recv(fd, answer, sizeof answer, 0) == 24);
    assert_memory_equal(answer, "iu\1", 4);
    for (int i = 8; i < 24; i++) assert_int_equal(answer[i], 0); /* the key is shown to no client */

    for (int i = 0; i < 3; i++) CHECK(send(fd, "rubbish", 7, 0) == 7);
    ipcio_conn_close(pair.peer); /* accept does not take it for a client either */
    ipcio_conn_free(pair.peer);
    FAILS(TIMEOUT, ipcio_accept(pair.server, 0, &pair.peer));
    close(fd);
    free_pair(&pair);
}

/* Programs that know nothing of ipcio. */
static void test_plain_peers(void **state)
{
    ipcio_server *server;
    ipcio_conn *conn;
    char got[64];
    (void)state;
    OK(ipcio_listen("udp://0?framing=raw", NULL, &server));
    int fd = plain_socket(server);
    CHECK(send(fd, "", 0, 0) == 0 && send(fd, "a\0b\n", 4, 0) == 4);
    OK(ipcio_accept(server, LONG_MS, &conn));
    READS(conn, "");
    READS(conn, "a\0b\n");
    WRITES(conn, "c");
    CHECK(recv(fd, got, sizeof got, 0) == 1 && got[0] == 'c');
    WRITES(conn, ""); /* a datagram too */
    CHECK(recv(fd, got, sizeof got, 0) == 0);
    close(fd);
    ipcio_conn_free(conn);
    ipcio_server_free(server);

    OK(ipcio_listen("udp://0?framing=line", NULL, &server));
    fd = plain_socket(server);
    CHECK(send(fd, "one\ntwo\r\n\nfour", 14, 0) == 14 && send(fd, "five\n", 5, 0) == 5);
    OK(ipcio_accept(server, LONG_MS, &conn));
    READS(conn, "one");
    assert_true(is_readable(ipcio_fileno(conn)));
    READS(conn, "two");
    READS(conn, "");
    READS(conn, "four");
    READS(conn, "five");
    assert_false(is_readable(ipcio_fileno(conn)));
    WRITES(conn, "six");
    CHECK(recv(fd, got, sizeof got, 0) == 4 && memcmp(got, "six\n", 4) == 0);
    FAILS(INVALID, ipcio_write(conn, "a\nb", 3, LONG_MS));
    FAILS(INVALID, ipcio_write(conn, "a\r", 2, LONG_MS));
    CHECK(send(fd, "seven", 5, 0) == 5);
    READS(conn, "seven");
    close(fd);
    ipcio_conn_free(conn);
    ipcio_server_free(server);

    OK(ipcio_listen("udp://0?framing=raw&nul=1&text=utf-16le", NULL, &server));
    fd = plain_socket(server);
    CHECK(send(fd, "a\0\0\0b\0\0\0", 8, 0) == 8);
    OK(ipcio_accept(server, LONG_MS, &conn));
    READS(conn, "a");
    READS(conn, "b");
    WRITES(conn, "c");
    CHECK(recv(fd, got, sizeof got, 0) == 4 && memcmp(got, "c\0\0\0", 4) == 0);
    OK(ipcio_write(conn, "", 0, LONG_MS));
    CHECK(recv(fd, got, sizeof got, 0) == 2);
    close(fd);
    ipcio_conn_free(conn);
    ipcio_server_free(server);
}

/* Only this user's messages are heard, also of one who is gone; root's are; and all, where that is asked for. */
static void test_other_users(void **state)
{
    char address[256];
    (void)state;
    need_root();
    struct child *child = start("hear", NOBODY, folder_of(NOBODY), "", NULL);
    CHECK(read_line(child->out, address, sizeof address));
    says(SOMEBODY, folder_of(SOMEBODY), address, "", "somebody's");
    says(SOMEBODY, folder_of(SOMEBODY), address, "framing=raw", "somebody's");
    says(NOBODY, folder_of(NOBODY), address, "", "my own"); /* which the key shows: the system cannot any more */
    say(child, "accept");
    hear(child, "my own");
    ipcio_conn *conn; /* root, who lives, without the key */
    OK(ipcio_connect(address, NULL, LONG_MS, &conn));
    WRITES(conn, "root's");
    hear(child, "root's");
    ipcio_conn_free(conn);
    kill9(child);

    child = start("hear", NOBODY, folder_of(NOBODY), "framing=raw", NULL);
    CHECK(read_line(child->out, address, sizeof address));
    OK(ipcio_connect(address, "framing=raw", LONG_MS, &conn));
    says(SOMEBODY, folder_of(SOMEBODY), address, "framing=raw", "somebody's");
    WRITES(conn, "root's");
    say(child, "accept");
    hear(child, "root's");
    ipcio_conn_free(conn);
    kill9(child);

    child = start("hear", NOBODY, folder_of(NOBODY), "access=all", NULL);
    CHECK(read_line(child->out, address, sizeof address));
    says(SOMEBODY, folder_of(SOMEBODY), address, "", "somebody's");
    say(child, "accept");
    hear(child, "somebody's");
    kill9(child);
}

/* What comes to the loopback is of this machine, whatever it says of where it comes from. */
static void test_forged_sender(void **state)
{
    ipcio_server *server;
    ipcio_conn *conn, *client;
    (void)state;
    need_root();
    if (ipcio_listen("udp://[::1]:0", "framing=raw", &server) != 0) {
        print_message("this machine has no IPv6\n");
        skip();
    }
    finish(start("forge", NOBODY, port_of(ipcio_server_address(server)), NULL));
    FAILS(TIMEOUT, ipcio_accept(server, 0, &conn));
    OK(ipcio_connect(ipcio_server_address(server), "framing=raw", LONG_MS, &client));
    WRITES(client, "root's");
    OK(ipcio_accept(server, LONG_MS, &conn));
    READS(conn, "root's");
    ipcio_conn_free(client);
    ipcio_conn_free(conn);
    ipcio_server_free(server);
}

/* A process whose descriptors are used up cannot ask the system who sent. */
static void test_no_descriptors(void **state)
{
    static const char *const options[] = {"framing=raw", NULL};
    (void)state;
    need_root();
    for (size_t i = 0; i < COUNT(options); i++) {
        struct pair pair;
        struct rlimit limit, low;
        const void *data;
        size_t size;
        meet(&pair, options[i]);
        says(NOBODY, folder_of(NOBODY), ipcio_server_address(pair.server), options[i] ? options[i] : "", "nobody's");
        if (i == 1) WRITES(pair.client, "known by the key");
        getrlimit(RLIMIT_NOFILE, &limit);
        low = (struct rlimit){.rlim_cur = 0, .rlim_max = limit.rlim_max};
        setrlimit(RLIMIT_NOFILE, &low);
        if (i == 1) READS(pair.peer, "known by the key");
        int st = ipcio_read(pair.peer, 0, &data, &size);
        setrlimit(RLIMIT_NOFILE, &limit);
        FAILS(TIMEOUT, st);
        WRITES(pair.client, "root's");
        READS(pair.peer, "root's");
        free_pair(&pair);
    }
}

static void test_client_first(void **state)
{
    ipcio_server *server;
    ipcio_conn *conn;
    (void)state;
    OK(ipcio_listen("udp://0", NULL, &server));
    const char *address = text_of("%s", ipcio_server_address(server));
    ipcio_server_free(server);
    struct child *child = start("first", address, NULL);
    hear(child, "ready");
    until_asleep(child->pid);
    OK(ipcio_listen(address, NULL, &server));
    OK(ipcio_accept(server, LONG_MS, &conn));
    READS(conn, "hello");
    WRITES(conn, "welcome");
    finish(child);
    ipcio_conn_free(conn);
    ipcio_server_free(server);
}

/* What came before is read first; then whoever writes learns that the server has gone, and whoever reads. */
static void test_server_killed(void **state)
{
    char address[256];
    ipcio_conn *conn;
    const void *data;
    size_t size;
    (void)state;
    struct child *child = start_server("", "", "", address);
    OK(ipcio_connect(address, NULL, LONG_MS, &conn));
    calls(conn, "one", "one");
    WRITES(conn, "two");
    READS(conn, "two");
    WRITES(conn, "three");
    struct pollfd poll_fd = {ipcio_fileno(conn), POLLIN, 0};
    CHECK(poll(&poll_fd, 1, LONG_MS) == 1); /* its answer is here */
    kill9(child);
    int st;
    while ((st = ipcio_write(conn, "four", 4, LONG_MS)) == 0) sched_yield();
    FAILS(CLOSED, st);
    READS(conn, "three");
    FAILS(CLOSED, ipcio_read(conn, LONG_MS, &data, &size));
    FAILS(CLOSED, ipcio_write(conn, "x", 1, LONG_MS));
    FAILS(CLOSED, ipcio_call(conn, "x", 1, LONG_MS, &data, &size));
    assert_true(is_readable(ipcio_fileno(conn)));
    ipcio_conn_free(conn);

    child = start_server("", "", "", address);
    OK(ipcio_connect(address, NULL, LONG_MS, &conn));
    calls(conn, "one", "one");
    WRITES(conn, "two");
    poll_fd.fd = ipcio_fileno(conn);
    CHECK(poll(&poll_fd, 1, LONG_MS) == 1);
    kill9(child);
    WRITES(conn, "anybody?"); /* the system tells the next call that this went nowhere, before it gives out what came */
    READS(conn, "two");
    FAILS(CLOSED, ipcio_read(conn, LONG_MS, &data, &size));
    ipcio_conn_free(conn);

    child = start_server("", "", "", address);
    OK(ipcio_connect(address, NULL, LONG_MS, &conn));
    calls(conn, "one", "one");
    kill9(child);
    FAILS(CLOSED, ipcio_call(conn, "anybody?", 8, LONG_MS, &data, &size));
    ipcio_conn_free(conn);
    ipcio_server *server; /* the port is free at once */
    OK(ipcio_listen(address, NULL, &server));
    ipcio_server_free(server);
}

/* What nobody reads is dropped from the end, and the connection goes on. */
static void test_unread(void **state)
{
    struct pair pair;
    const void *data;
    size_t size;
    int count = 0, st;
    (void)state;
    OK(ipcio_listen("udp://0", "buffer=20000", &pair.server));
    OK(ipcio_connect(ipcio_server_address(pair.server), NULL, LONG_MS, &pair.client));
    OK(ipcio_accept(pair.server, LONG_MS, &pair.peer));
    for (int i = 0; i < 10000; i++) OK(ipcio_write(pair.client, &i, sizeof i, LONG_MS));
    while ((st = ipcio_read(pair.peer, 0, &data, &size)) == 0) {
        assert_int_equal(size, sizeof count);
        assert_memory_equal(data, &count, sizeof count);
        count++;
    }
    FAILS(TIMEOUT, st);
    assert_in_range(count, 1, 9999);
    WRITES(pair.client, "go on");
    READS(pair.peer, "go on");
    free_pair(&pair);
}

static int read_for_ever(void *conn)
{
    const void *data;
    size_t size;
    return ipcio_read(conn, IPCIO_FOREVER, &data, &size);
}

static int accept_for_ever(void *server)
{
    ipcio_conn *conn;
    return ipcio_accept(server, IPCIO_FOREVER, &conn);
}

static void test_close_wakes(void **state)
{
    struct pair pair;
    struct thread thread;
    (void)state;
    for (int which = 0; which < 3; which++) {
        meet(&pair, NULL);
        void *of = which == 0 ? (void *)pair.client : which == 1 ? (void *)pair.peer : (void *)pair.server;
        begin(&thread, which == 2 ? accept_for_ever : read_for_ever, of);
        until_waiting(&thread);
        if (which == 2) ipcio_server_close(of);
        else ipcio_conn_close(of);
        FAILS(INVALID, end(&thread));
        free_pair(&pair);
    }
    ipcio_conn *client; /* that is not connected to one address */
    OK(ipcio_connect("udp://239.255.77.2:9?interface=lo", NULL, LONG_MS, &client));
    begin(&thread, read_for_ever, client);
    until_waiting(&thread);
    ipcio_conn_close(client);
    FAILS(INVALID, end(&thread));
    ipcio_conn_free(client);
}

/* The child's copies are gone and the parent's go on. */
static void test_fork(void **state)
{
    struct pair pair;
    const void *data;
    size_t size;
    int status;
    (void)state;
    meet(&pair, NULL);
    pid_t child = fork();
    if (child == 0) {
        int good = ipcio_read(pair.peer, 0, &data, &size) == IPCIO_FORKED &&
                   ipcio_write(pair.client, "x", 1, 0) == IPCIO_FORKED &&
                   ipcio_accept(pair.server, 0, &(ipcio_conn *){NULL}) == IPCIO_FORKED;
        free_pair(&pair);
        _exit(good ? 0 : 1);
    }
    CHECK(waitpid(child, &status, 0) == child);
    assert_int_equal(status, 0);
    WRITES(pair.client, "to");
    READS(pair.peer, "to");
    WRITES(pair.peer, "and fro");
    READS(pair.client, "and fro");
    ipcio_conn_free(pair.peer);
    ipcio_conn_free(pair.client);
    OK(ipcio_connect(ipcio_server_address(pair.server), NULL, LONG_MS, &pair.client));
    OK(ipcio_accept(pair.server, LONG_MS, &pair.peer));
    free_pair(&pair);
}

/* In `raw` and `line` no late answer can be told from the next: the connection is closed, and the server's can be had
 * again. */
static void test_call_given_up(void **state)
{
    struct pair pair;
    const void *data;
    size_t size;
    (void)state;
    meet(&pair, "framing=raw");
    FAILS(TIMEOUT, ipcio_call(pair.client, "x", 1, 1, &data, &size));
    FAILS(CLOSED, ipcio_read(pair.client, 0, &data, &size));
    READS(pair.peer, "x");
    FAILS(TIMEOUT, ipcio_call(pair.peer, "y", 1, 1, &data, &size));
    FAILS(CLOSED, ipcio_read(pair.peer, 0, &data, &size));
    ipcio_conn_free(pair.peer);
    ipcio_conn_free(pair.client);
    OK(ipcio_connect(ipcio_server_address(pair.server), "framing=raw", LONG_MS, &pair.client));
    WRITES(pair.client, "again");
    OK(ipcio_accept(pair.server, LONG_MS, &pair.peer));
    free_pair(&pair);
}

static void test_bad_addresses(void **state)
{
    static const char *const bad[] = {"udp://", "udp://localhost", "udp://65536", "udp:///8080", "udp://::1:80",
                                      "udp://239.255.77.1:9?ttl=0", "udp://9?ttl=256"};
    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        FAILS(INVALID, ipcio_listen(bad[i], NULL, &(ipcio_server *){NULL}));
        FAILS(INVALID, ipcio_connect(bad[i], NULL, 0, &(ipcio_conn *){NULL}));
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(test_processes),      TEST(test_too_long),    TEST(test_over_the_readers_limit), TEST(test_senders),
        TEST(test_one_connection), TEST(test_end),         TEST(test_late_answers),           TEST(test_pieces),
        TEST(test_multicast),      TEST(test_broadcast),   TEST(test_rubbish),                TEST(test_plain_peers),
        TEST(test_other_users),    TEST(test_forged_sender), TEST(test_client_first),         TEST(test_server_killed),
        TEST(test_unread),         TEST(test_no_descriptors),
        TEST(test_close_wakes),    TEST(test_fork),        TEST(test_call_given_up),          TEST(test_bad_addresses),
    };
    RUN(argc, argv, roles, tests);
}
