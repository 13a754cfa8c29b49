/* peer.c - one side of a conformance case, in C: peer server|client ADDRESS CASE, or peer transports|cases.
 *
 * A server prints "ready ADDRESS" once clients may come; each side ends with "ok CASE".  run.py says what a case
 * is.  Handles are left to the end of the process: each side is one short conversation. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipcio.h"

enum { LONG = 30000, LARGEST = 32 << 20 };
static const size_t sizes[] = {0, 1, 256, 10240, 65000}; /* one datagram holds the longest */
static const size_t long_sizes[] = {65535, 65536, 65537, 1 << 20, 5 << 20};
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* ------------------------------------------------------------------------------------------- checks */

static void check(int good, const char *what, int line)
{
    if (good)
        return;
    fprintf(stderr, "peer.c:%d: %s; message: %s\n", line, what, ipcio_message());
    exit(1);
}

#define CHECK(condition) check((condition), #condition, __LINE__)
#define OK(call) CHECK((call) == IPCIO_OK)
#define FAILS(name, call) CHECK((call) == IPCIO_##name)

/* Every byte value; the prime period shows pieces that were exchanged. */
static void fill(unsigned char *to, size_t size, size_t seed)
{
    for (size_t i = 0; i < size; i++)
        to[i] = (unsigned char)((i + seed) % 257);
}

static unsigned char *pattern(size_t size, size_t seed)
{
    static unsigned char room[LARGEST];
    fill(room, size, seed);
    return room;
}

static int is_pattern(const void *data, size_t size, size_t seed)
{
    const unsigned char *bytes = data;
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != (unsigned char)((i + seed) % 257))
            return 0;
    return 1;
}

/* ----------------------------------------------------------------------------------------- messages */

static void send_pattern(ipcio_conn *conn, size_t size, size_t seed)
{
    OK(ipcio_write(conn, pattern(size, seed), size, LONG));
}

static void expect_pattern(ipcio_conn *conn, size_t size, size_t seed)
{
    const void *data;
    size_t got;
    OK(ipcio_read(conn, LONG, &data, &got));
    CHECK(got == size && is_pattern(data, size, seed));
}

static void send_text(ipcio_conn *conn, const char *text) { OK(ipcio_write(conn, text, strlen(text), LONG)); }

static int is_text(const void *data, size_t size, const char *text)
{
    return size == strlen(text) && memcmp(data, text, size) == 0;
}

static void expect_text(ipcio_conn *conn, const char *text)
{
    const void *data;
    size_t size;
    OK(ipcio_read(conn, LONG, &data, &size));
    if (!is_text(data, size, text))
        fprintf(stderr, "got %zu bytes %.*s, expected %s\n", size, (int)(size < 40 ? size : 40), (const char *)data,
                text);
    CHECK(is_text(data, size, text));
}

static void call_text(ipcio_conn *conn, const char *text, const char *wanted)
{
    const void *answer;
    size_t size;
    OK(ipcio_call(conn, text, strlen(text), LONG, &answer, &size));
    CHECK(is_text(answer, size, wanted));
}

static void reads(int status, ipcio_conn *conn, int timeout)
{
    const void *data;
    size_t size;
    CHECK(ipcio_read(conn, timeout, &data, &size) == status);
}

static void ready(const char *address)
{
    printf("ready %s\n", address);
    fflush(stdout);
}

static ipcio_server *listen_with(const char *address, const char *options)
{
    ipcio_server *server;
    OK(ipcio_listen(address, options, &server));
    ready(ipcio_server_address(server));
    return server;
}

static ipcio_conn *accept_one(ipcio_server *server)
{
    ipcio_conn *conn;
    OK(ipcio_accept(server, LONG, &conn));
    return conn;
}

static ipcio_conn *only_client(const char *address) { return accept_one(listen_with(address, NULL)); }

static ipcio_conn *connect_with(const char *address, const char *options)
{
    ipcio_conn *conn;
    OK(ipcio_connect(address, options, LONG, &conn));
    return conn;
}

static ipcio_conn *connect_to(const char *address) { return connect_with(address, NULL); }

/* -------------------------------------------------------------------------------------------- cases */

static void echo_of(const char *address, const size_t *of, size_t n)
{
    ipcio_conn *conn = only_client(address);
    for (size_t i = 0; i < n; i++) {
        expect_pattern(conn, of[i], i);
        send_pattern(conn, of[i], i + 100);
    }
    reads(IPCIO_CLOSED, conn, LONG);
}

static void call_of(const char *address, const size_t *of, size_t n)
{
    ipcio_conn *conn = connect_to(address);
    for (size_t i = 0; i < n; i++) {
        const void *answer;
        size_t size;
        OK(ipcio_call(conn, pattern(of[i], i), of[i], LONG, &answer, &size));
        CHECK(size == of[i] && is_pattern(answer, size, i + 100));
    }
    ipcio_conn_close(conn);
}

static void echo_server(const char *address) { echo_of(address, sizes, COUNT(sizes)); }
static void echo_client(const char *address) { call_of(address, sizes, COUNT(sizes)); }
static void long_server(const char *address) { echo_of(address, long_sizes, COUNT(long_sizes)); }
static void long_client(const char *address) { call_of(address, long_sizes, COUNT(long_sizes)); }

static void empty_server(const char *address)
{
    ipcio_conn *conn = only_client(address);
    for (int i = 0; i < 1000; i++)
        expect_text(conn, "");
    expect_text(conn, "x");
    send_text(conn, "1000");
}

static void empty_client(const char *address)
{
    ipcio_conn *conn = connect_to(address);
    for (int i = 0; i < 1000; i++)
        send_text(conn, "");
    send_text(conn, "x");
    expect_text(conn, "1000");
}

static uint32_t checksum(uint32_t value, const char *message, size_t size)
{
    for (size_t i = 0; i < size; i++)
        value = value * 31 + (unsigned char)message[i];
    return value;
}

static void many_server(const char *address)
{
    ipcio_conn *conn = only_client(address);
    uint32_t value = 0;
    char answer[64];
    for (int count = 0;; count++) {
        const void *data;
        size_t size;
        OK(ipcio_read(conn, LONG, &data, &size));
        if (is_text(data, size, "sum")) {
            snprintf(answer, sizeof answer, "%d %u", count, value);
            send_text(conn, answer);
            return;
        }
        value = checksum(value, data, size);
    }
}

static void many_client(const char *address)
{
    ipcio_conn *conn = connect_to(address);
    uint32_t value = 0;
    char text[64];
    for (int i = 1; i <= 10000; i++) {
        snprintf(text, sizeof text, "number %d", i * i);
        value = checksum(value, text, strlen(text));
        send_text(conn, text);
    }
    snprintf(text, sizeof text, "10000 %u", value);
    call_text(conn, "sum", text);
}

static void send_in_order(ipcio_conn *conn)
{
    for (size_t i = 0; i < 200; i++)
        send_pattern(conn, i * 7919 % 70000, i);
}

static void receive_in_order(ipcio_conn *conn)
{
    for (size_t i = 0; i < 200; i++)
        expect_pattern(conn, i * 7919 % 70000, i);
}

static void order_server(const char *address)
{
    ipcio_conn *conn = only_client(address);
    receive_in_order(conn);
    send_in_order(conn);
}

static void order_client(const char *address)
{
    ipcio_conn *conn = connect_to(address);
    send_in_order(conn);
    receive_in_order(conn);
}

static void late_server(const char *address)
{
    ipcio_server *server = listen_with(address, NULL);
    ipcio_conn *conn = accept_one(server), *other = accept_one(server);
    expect_text(conn, "slow");
    expect_text(other, "gave up");
    send_text(conn, "late");
    expect_text(conn, "fast");
    send_text(conn, "in time");
}

static void late_client(const char *address)
{
    ipcio_conn *conn = connect_to(address), *other = connect_to(address);
    const void *answer;
    size_t size;
    FAILS(TIMEOUT, ipcio_call(conn, "slow", 4, 50, &answer, &size));
    send_text(other, "gave up");
    call_text(conn, "fast", "in time");
}

static void limit_server(const char *address)
{
    ipcio_conn *conn = accept_one(listen_with(address, "limit=1000"));
    expect_pattern(conn, 500, 1);
    FAILS(TOOBIG, ipcio_write(conn, pattern(501, 2), 501, LONG));
    send_pattern(conn, 500, 2);
    expect_text(conn, "end");
}

static void limit_client(const char *address)
{
    char with_option[512];
    ipcio_conn *conn, *other;
    snprintf(with_option, sizeof with_option, "%s?limit=500", address);
    conn = connect_to(with_option);
    other = connect_with(address, "limit=5000");
    FAILS(TOOBIG, ipcio_write(conn, pattern(501, 1), 501, LONG));
    FAILS(TOOBIG, ipcio_write(other, pattern(1001, 1), 1001, LONG));
    send_pattern(conn, 500, 1);
    expect_pattern(conn, 500, 2);
    send_text(conn, "end");
}

static void send_pieces(ipcio_conn *conn)
{
    const unsigned char *message = pattern(300000, 3);
    OK(ipcio_write_start(conn, 300000, LONG));
    for (size_t at = 0; at < 300000; at += 7000)
        OK(ipcio_write_buffer(conn, message + at, at + 7000 < 300000 ? 7000 : 300000 - at, LONG));
    OK(ipcio_write_end(conn, LONG));
}

static void receive_pieces(ipcio_conn *conn)
{
    size_t length, n, done = 0;
    unsigned char part[999];
    OK(ipcio_read_start(conn, LONG, &length));
    CHECK(length == 300000);
    do {
        OK(ipcio_read_buffer(conn, part, sizeof part, LONG, &n));
        CHECK(n <= sizeof part && is_pattern(part, n, 3 + done));
        done += n;
    } while (n > 0);
    OK(ipcio_read_end(conn, LONG));
    CHECK(done == 300000);
}

static void pieces_server(const char *address)
{
    ipcio_conn *conn = only_client(address);
    unsigned char part[10];
    size_t n;
    receive_pieces(conn);
    send_pieces(conn);
    OK(ipcio_read_start(conn, LONG, &n));
    CHECK(n == 300000);
    OK(ipcio_read_buffer(conn, part, sizeof part, LONG, &n));
    OK(ipcio_read_end(conn, LONG)); /* drops the rest */
    expect_text(conn, "end");
}

static void pieces_client(const char *address)
{
    ipcio_conn *conn = connect_to(address);
    send_pieces(conn);
    receive_pieces(conn);
    send_pattern(conn, 300000, 3);
    send_text(conn, "end");
}

static void send_in_place(ipcio_conn *conn, size_t size, size_t seed)
{
    void *room;
    OK(ipcio_write_view(conn, size / 2, LONG, &room)); /* is given up */
    OK(ipcio_write_view(conn, size, LONG, &room));
    fill(room, size, seed);
    FAILS(INVALID, ipcio_write(conn, "in between", 10, LONG));
    OK(ipcio_write_end(conn, LONG));
}

static void view_server(const char *address)
{
    ipcio_conn *conn = only_client(address);
    for (size_t i = 0; i < COUNT(sizes); i++) {
        expect_pattern(conn, sizes[i], i); /* ipcio_read gives it in place */
        send_in_place(conn, sizes[i], i + 100);
    }
    reads(IPCIO_CLOSED, conn, LONG);
}

static void view_client(const char *address)
{
    ipcio_conn *conn = connect_to(address);
    for (size_t i = 0; i < COUNT(sizes); i++) {
        send_in_place(conn, sizes[i], i);
        expect_pattern(conn, sizes[i], i + 100);
    }
}

static void give_up(ipcio_conn *conn, size_t length, size_t given)
{
    OK(ipcio_write_start(conn, length, LONG));
    OK(ipcio_write_buffer(conn, pattern(given, 0), given, LONG));
    if (length > 1 << 20)
        expect_text(conn, "begun");
    FAILS(INVALID, ipcio_write_end(conn, LONG));
}

static void abort_server(const char *address)
{
    ipcio_conn *conn = only_client(address);
    unsigned char part[10000];
    size_t n;
    int st;
    expect_text(conn, "one");
    expect_text(conn, "two");
    OK(ipcio_read_start(conn, LONG, &n));
    CHECK(n == 2 << 20);
    send_text(conn, "begun");
    while ((st = ipcio_read_buffer(conn, part, sizeof part, LONG, &n)) == IPCIO_OK && n > 0) {
    }
    FAILS(ABORTED, st);
    OK(ipcio_read_end(conn, LONG));
    expect_text(conn, "three");
}

static void abort_client(const char *address)
{
    ipcio_conn *conn = connect_to(address);
    give_up(conn, 10, 5);
    send_text(conn, "one");
    give_up(conn, 1 << 20, 1 << 19);
    send_text(conn, "two");
    give_up(conn, 2 << 20, 1 << 10);
    send_text(conn, "three");
}

static void unread_server(const char *address)
{
    ipcio_server *server = listen_with(address, NULL);
    ipcio_conn *conn = accept_one(server), *other = accept_one(server);
    expect_text(other, "gave up");
    expect_text(conn, "after");
    send_text(conn, "and back");
}

static void unread_client(const char *address)
{
    ipcio_conn *conn = connect_to(address), *other = connect_to(address);
    FAILS(TIMEOUT, ipcio_write(conn, pattern(LARGEST, 0), LARGEST, 100));
    send_text(other, "gave up");
    send_text(conn, "after");
    expect_text(conn, "and back");
}

static void timeout_server(const char *address)
{
    ipcio_server *server;
    ipcio_conn *conn;
    OK(ipcio_listen(address, NULL, &server));
    FAILS(TIMEOUT, ipcio_accept(server, 0, &conn));
    FAILS(TIMEOUT, ipcio_accept(server, 50, &conn));
    ready(ipcio_server_address(server));
    conn = accept_one(server);
    expect_text(conn, "no answer");
    expect_text(conn, "go on");
    send_text(conn, "gone on");
}

static void timeout_client(const char *address)
{
    ipcio_conn *conn = connect_to(address);
    const void *answer;
    size_t size;
    reads(IPCIO_TIMEOUT, conn, 0);
    reads(IPCIO_TIMEOUT, conn, 50);
    FAILS(TIMEOUT, ipcio_call(conn, "no answer", 9, 50, &answer, &size));
    send_text(conn, "go on");
    expect_text(conn, "gone on");
}

static void first_server(const char *address)
{
    ipcio_conn *conn = only_client(address);
    expect_text(conn, "hello");
    send_text(conn, "welcome");
}

static void first_client(const char *address)
{
    ipcio_conn *conn;
    FAILS(MISSING, ipcio_connect(address, NULL, 0, &conn));
    FAILS(TIMEOUT, ipcio_connect(address, NULL, 50, &conn));
    ready(address);
    call_text(connect_to(address), "hello", "welcome");
}

static int clients_left = 8;

static int clients_handler(void *server, ipcio_conn *conn, const void *request, size_t size)
{
    char answer[128] = "you said ";
    size_t start = strlen(answer);
    CHECK(size < sizeof answer - start);
    memcpy(answer + start, request, size);
    if (is_text(request, size, "bye") && --clients_left == 0)
        ipcio_server_stop(server);
    return ipcio_write(conn, answer, start + size, LONG);
}

static void clients_server(const char *address)
{
    ipcio_server *server = listen_with(address, NULL);
    OK(ipcio_serve(server, clients_handler, server));
}

static void clients_client(const char *address)
{
    ipcio_conn *conn = connect_to(address);
    char answer[64], *request = answer + strlen("you said ");
    for (int i = 0; i < 50; i++) {
        snprintf(answer, sizeof answer, "you said %d of %d", i, (int)getpid());
        call_text(conn, request, answer);
    }
    for (int i = 0; i < 50; i++) {
        snprintf(answer, sizeof answer, "you said %d", i);
        send_text(conn, request);
    }
    for (int i = 0; i < 50; i++) {
        snprintf(answer, sizeof answer, "you said %d", i);
        expect_text(conn, answer);
    }
    call_text(conn, "bye", "you said bye");
}

static void close_server(const char *address)
{
    ipcio_server *server = listen_with(address, NULL);
    ipcio_conn *conn = accept_one(server), *other = accept_one(server);
    char text[32];
    expect_text(other, "closed");
    for (int i = 0; i < 100; i++) {
        snprintf(text, sizeof text, "message %d", i);
        expect_text(conn, text);
    }
    reads(IPCIO_CLOSED, conn, LONG);
    reads(IPCIO_CLOSED, conn, LONG);
    FAILS(CLOSED, ipcio_write(conn, "x", 1, LONG));
    for (size_t i = 0; i < 50; i++)
        send_pattern(other, 1000, i);
}

static void close_client(const char *address)
{
    ipcio_conn *conn = connect_to(address), *other = connect_to(address);
    char text[32];
    for (int i = 0; i < 100; i++) {
        snprintf(text, sizeof text, "message %d", i);
        send_text(conn, text);
    }
    ipcio_conn_close(conn);
    ipcio_conn_close(conn);
    reads(IPCIO_INVALID, conn, LONG);
    FAILS(INVALID, ipcio_write(conn, "x", 1, LONG));
    send_text(other, "closed");
    for (size_t i = 0; i < 50; i++)
        expect_pattern(other, 1000, i);
    reads(IPCIO_CLOSED, other, LONG);
}

static void *duplex_sender(void *conn)
{
    static unsigned char data[200040];
    for (size_t i = 0; i < 40; i++) {
        fill(data, 200000 + i, i);
        OK(ipcio_write(conn, data, 200000 + i, LONG));
    }
    return NULL;
}

static void duplex_both(ipcio_conn *conn)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, duplex_sender, conn) == 0);
    for (size_t i = 0; i < 40; i++)
        expect_pattern(conn, 200000 + i, i);
    CHECK(pthread_join(thread, NULL) == 0);
}

static void duplex_server(const char *address) { duplex_both(only_client(address)); }
static void duplex_client(const char *address) { duplex_both(connect_to(address)); }

static void me(char text[64]) { snprintf(text, 64, "%d %d %d", (int)getpid(), (int)geteuid(), (int)getegid()); }

/* The user is what the other side says, and what else the system can tell. */
static void is_peer(ipcio_conn *conn, const void *data, size_t size)
{
    ipcio_peer peer;
    char text[64];
    long long pid, uid, gid;
    OK(ipcio_conn_peer(conn, &peer));
    snprintf(text, sizeof text, "%.*s", (int)size, (const char *)data);
    CHECK(sscanf(text, "%lld %lld %lld", &pid, &uid, &gid) == 3);
    CHECK((peer.pid == -1 || peer.pid == pid) && peer.uid == uid && (peer.gid == -1 || peer.gid == gid));
}

static void peer_server(const char *address)
{
    ipcio_conn *conn = only_client(address);
    char text[64];
    const void *data;
    size_t size;
    OK(ipcio_read(conn, LONG, &data, &size));
    is_peer(conn, data, size);
    me(text);
    send_text(conn, text);
}

static void peer_client(const char *address)
{
    ipcio_conn *conn = connect_to(address);
    char text[64];
    const void *data;
    size_t size;
    me(text);
    OK(ipcio_call(conn, text, strlen(text), LONG, &data, &size));
    is_peer(conn, data, size);
}

static int passes_files(const char *address)
{
    return strncmp(address, "pipe:", 5) == 0;
}

/* A message with an open file; the message alone where the transport passes no files. */
static void send_file(ipcio_conn *conn, const char *text)
{
    FILE *file = tmpfile();
    CHECK(file != NULL && fputs(text, file) >= 0 && fseek(file, 0, SEEK_SET) == 0);
    if (passes_files(ipcio_conn_address(conn))) {
        OK(ipcio_send_file(conn, fileno(file), "file", 4, LONG));
    } else {
        FAILS(UNSUPPORTED, ipcio_send_file(conn, fileno(file), "file", 4, LONG));
        send_text(conn, "file");
    }
    fclose(file);
}

static void expect_file(ipcio_conn *conn, const char *text)
{
    char got[64];
    intptr_t fd;
    expect_text(conn, "file");
    if (passes_files(ipcio_conn_address(conn))) {
        OK(ipcio_take_file(conn, &fd));
        CHECK(is_text(got, (size_t)read((int)fd, got, sizeof got), text));
        close((int)fd);
    }
    FAILS(MISSING, ipcio_take_file(conn, &fd));
}

static void file_server(const char *address)
{
    ipcio_conn *conn = accept_one(listen_with(address, passes_files(address) ? "files=1" : NULL));
    expect_file(conn, "there");
    send_file(conn, "back");
}

static void file_client(const char *address)
{
    ipcio_conn *conn = connect_with(address, passes_files(address) ? "files=1" : NULL);
    send_file(conn, "there");
    expect_file(conn, "back");
}

static void exists_server(const char *address)
{
    ipcio_conn *conn = only_client(address);
    expect_text(conn, "still");
    send_text(conn, "here");
}

static void exists_client(const char *address)
{
    ipcio_server *server;
    FAILS(EXISTS, ipcio_listen(address, NULL, &server));
    call_text(connect_to(address), "still", "here");
}

static void die_when_told(ipcio_conn *conn)
{
    char text[32];
    for (int i = 0; i < 20; i++) {
        snprintf(text, sizeof text, "message %d", i);
        send_text(conn, text);
    }
    expect_text(conn, "die");
    kill(getpid(), SIGKILL);
}

static void survive(ipcio_conn *conn)
{
    char text[32];
    send_text(conn, "die");
    for (int i = 0; i < 20; i++) {
        snprintf(text, sizeof text, "message %d", i);
        expect_text(conn, text);
    }
    reads(IPCIO_CLOSED, conn, LONG);
}

static void server_killed_server(const char *address) { die_when_told(only_client(address)); }
static void server_killed_client(const char *address) { survive(connect_to(address)); }
static void client_killed_server(const char *address) { survive(only_client(address)); }
static void client_killed_client(const char *address) { die_when_told(connect_to(address)); }

static int autoit_type(const char *address)
{
    static const char *const schemes[] = {"pipe:", "file:", "tcp:", "shm:", "mailslot:"}; /* as enum ipcio_type */
    int type = 0;
    while (strncmp(address, schemes[type], strlen(schemes[type])) != 0)
        type++;
    return type;
}

static int go_on(void *context)
{
    (void)context;
    return 0;
}

static void autoit_server(const char *address)
{
    int fd = ipcio_InitConnection(autoit_type(address), address, 1, go_on, NULL, 65536);
    CHECK(fd > 0);
    ready(address);
    for (int i = 0; i < 2; i++) {
        const void *data;
        size_t size, n, done = 0;
        char part[999];
        OK(ipcio_StartConnection(fd));
        OK(ipcio_ReadData(fd, &data, &size));
        CHECK(size == 10240 && is_pattern(data, size, 4));
        OK(ipcio_WriteData(fd, pattern(70000, 5), 70000));
        OK(ipcio_ReadStart(fd));
        OK(ipcio_ReadSize(fd, &size));
        CHECK(size == 5000);
        do {
            OK(ipcio_ReadBuffer(fd, part, sizeof part, &n));
            CHECK(is_pattern(part, n, 6 + done));
            done += n;
        } while (n > 0);
        OK(ipcio_ReadEnd(fd));
        CHECK(done == size);
        OK(ipcio_WriteStart(fd));
        OK(ipcio_WriteSize(fd, 3));
        OK(ipcio_WriteBuffer(fd, "en", 2));
        OK(ipcio_WriteBuffer(fd, "d", 1));
        OK(ipcio_WriteEnd(fd));
        OK(ipcio_StopConnection(fd));
    }
    OK(ipcio_EndConnection(fd));
    FAILS(INVALID, ipcio_StartConnection(fd));
}

static void autoit_client(const char *address)
{
    for (int i = 0; i < 2; i++) {
        int fd = ipcio_OpenConnection(autoit_type(address), address, 1, NULL, NULL, 65536);
        const void *data;
        size_t size;
        CHECK(fd > 0);
        OK(ipcio_WriteData(fd, pattern(10240, 4), 10240));
        OK(ipcio_ReadData(fd, &data, &size));
        CHECK(size == 70000 && is_pattern(data, size, 5));
        OK(ipcio_WriteData(fd, pattern(5000, 6), 5000));
        OK(ipcio_ReadData(fd, &data, &size));
        CHECK(is_text(data, size, "end"));
        OK(ipcio_CloseConnection(fd));
        FAILS(INVALID, ipcio_ReadData(fd, &data, &size));
    }
}

static const struct {
    const char *name;
    void (*server)(const char *address), (*client)(const char *address);
} cases[] = {
#define CASE(name) {#name, name##_server, name##_client}
    CASE(echo), CASE(long), CASE(empty), CASE(many), CASE(order), CASE(late), CASE(limit),
    CASE(pieces), CASE(abort), CASE(unread), CASE(timeout), CASE(first), CASE(clients), CASE(close),
    CASE(duplex), CASE(view), CASE(peer), CASE(file), CASE(exists), CASE(server_killed), CASE(client_killed),
    CASE(autoit),
};

int main(int argc, char **argv)
{
    const char *role = argc > 1 ? argv[1] : "";
    if (strcmp(role, "transports") == 0)
        for (const char *const *scheme = ipcio_transports(); *scheme != NULL; scheme++)
            printf("%s ", *scheme);
    for (size_t i = 0; i < COUNT(cases); i++) {
        if (strcmp(role, "cases") == 0) {
            printf("%s ", cases[i].name);
        } else if (argc == 4 && strcmp(argv[3], cases[i].name) == 0) {
            (strcmp(role, "server") == 0 ? cases[i].server : cases[i].client)(argv[2]);
            printf("ok %s\n", cases[i].name);
        }
    }
    return 0;
}
