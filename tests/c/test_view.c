/* test_view.c - messages written and read in place: where the two share memory, given up, converted, and held too long. */
#include "helper.h"

#include <stdbool.h>
#include <inttypes.h>

enum { MIB = 1 << 20 };
static const char *const schemes[] = {"pipe", "tcp", "shm"};

static const char *fresh_of(const char *scheme)
{
    return strcmp(scheme, "tcp") == 0 ? "tcp://127.0.0.1:0" : text_of("%s://%s", scheme, fresh_name());
}

static void open_pair_of(struct pair *pair, const char *scheme, const char *options)
{
    int connecting = 1, accepting = 1;
    pair->client = pair->peer = NULL;
    OK(ipcio_listen(fresh_of(scheme), options, &pair->server));
    while (connecting > 0 || accepting > 0) {
        if (connecting > 0)
            connecting = ipcio_connect(ipcio_server_address(pair->server), options, IPCIO_TRY, &pair->client);
        if (accepting > 0)
            accepting = ipcio_accept(pair->server, IPCIO_TRY, &pair->peer);
        sched_yield();
    }
    OK(connecting);
    OK(accepting);
}

static void *room_for(ipcio_conn *conn, size_t size)
{
    void *room = NULL;
    OK(ipcio_write_view(conn, size, LONG_MS, &room));
    CHECK(room != NULL);
    return room;
}

static int write_text(ipcio_conn *conn, const char *text)
{
    void *room;
    int st = ipcio_write_view(conn, strlen(text), LONG_MS, &room);
    if (st != 0)
        return st;
    memcpy(room, text, strlen(text));
    return ipcio_write_end(conn, LONG_MS);
}

static void write_in_place(ipcio_conn *conn, size_t size, size_t seed)
{
    fill(room_for(conn, size), size, seed);
    OK(ipcio_write_end(conn, LONG_MS));
}

static const void *reads_filled(ipcio_conn *conn, size_t want, size_t seed)
{
    const void *data;
    size_t size;
    OK(ipcio_read(conn, LONG_MS, &data, &size));
    CHECK(size == want && is_filled(data, size, seed));
    return data;
}

/* Which byte of which shared file an address shows: as "inode offset", or "" for memory of this process's own. */
static const char *byte_at(const void *address)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[512], share;
    const char *found = "";
    uintptr_t at = (uintptr_t)address, from, to;
    unsigned long long offset, inode;
    CHECK(maps != NULL);
    while (fgets(line, sizeof line, maps) != NULL)
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %*c%*c%*c%c %llx %*s %llu", &from, &to, &share, &offset, &inode) == 5 &&
            from <= at && at < to && share == 's')
            found = text_of("%llu %llu", inode, offset + (at - from));
    (void)fclose(maps);
    return found;
}

/* ------------------------------------------------------------------------------------------ in place */

/* Answers each message with where it lies, and "end" with the end. */
static int where_role(char **arguments)
{
    ipcio_conn *conn;
    const void *data;
    size_t size;
    OK(ipcio_connect(arguments[0], NULL, LONG_MS, &conn));
    for (size_t seed = 0; OK(ipcio_read(conn, LONG_MS, &data, &size)), size != 3; seed++) {
        CHECK(is_filled(data, size, seed));
        tell(byte_at(data));
    }
    ipcio_conn_free(conn);
    return 0;
}

/* Nobody copied what the reader finds in the very bytes that the writer filled in: no message but a brief one, at the
 * front of the ring. */
static void test_shm_copies_nothing(void **state)
{
    static const size_t sizes[] = {2001, 2100, 10000, MIB, MIB, 1000, MIB, 1 << 14, (1 << 21) - 33, MIB, 0, MIB, MIB};
    const char *address = text_of("shm://%s", fresh_name());
    struct child *reader;
    ipcio_server *server;
    ipcio_conn *conn;

    (void)state;
    OK(ipcio_listen(address, NULL, &server));
    reader = start("where", address, NULL);
    OK(ipcio_accept(server, LONG_MS, &conn));
    for (size_t i = 0; i < COUNT(sizes); i++) {
        void *room = room_for(conn, sizes[i]);
        const char *where = byte_at(room);
        CHECK(where[0] != '\0');
        fill(room, sizes[i], i);
        OK(ipcio_write_end(conn, LONG_MS));
        hear(reader, where);
    }
    WRITES(conn, "end");
    finish(reader);
    ipcio_conn_free(conn);
    ipcio_server_free(server);
}

/* A stream, then a conversation, and again: the ring grows at once and goes back.  What the reader looks at stays as it is
 * while rooms are given up. */
static void test_shm_goes_back(void **state)
{
    enum { LARGER = (1 + 2 * 7) * 4096 }; /* where the larger segments lie, behind the control page and the small rings */
    struct pair pair;
    (void)state;
    open_pair_of(&pair, "shm", NULL);
    for (int round = 0; round < 3; round++) {
        const void *seen = NULL;
        const char *place, *first = "", *late = "", *last = "";
        for (size_t i = 0; i < 5; i++) {
            write_in_place(pair.client, MIB, i);
            place = byte_at(reads_filled(pair.peer, MIB, i));
            CHECK(place[0] != '\0');
        }
        first = place;
        for (size_t i = 0; i < 1100; i++) {
            write_in_place(pair.client, 500, i);
            CHECK(i == 0 || is_filled(seen, 500, i - 1));
            seen = reads_filled(pair.peer, 500, i);
            late = i == 100 ? byte_at(seen) : late;
            last = i > 1090 ? byte_at(seen) : last;
            OK(write_text(pair.peer, "seen"));
            READS(pair.client, "seen");
            for (int given_up = 0; given_up < 2; given_up++) {
                memset(room_for(pair.client, 700), 0xee, 700);
                CHECK(is_filled(seen, 500, i));
            }
        }
        CHECK(atol(strchr(first, ' ')) > LARGER && atol(strchr(late, ' ')) > LARGER && last[0] == '\0'); /* at the front, so copied */
    }
    free_pair(&pair);
}

/* What is longer than half a ring, or goes over another transport, is this side's own until it is sent. */
static void test_room_of_its_own(void **state)
{
    static const struct {
        const char *scheme, *options;
        size_t size;
    } cases[] = {{"shm", NULL, 3 << 20}, {"shm", "buffer=4096", 2048}, {"pipe", NULL, 100}, {"tcp", NULL, 100}};
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct pair pair;
        open_pair_of(&pair, cases[i].scheme, cases[i].options);
        CHECK(byte_at(room_for(pair.client, cases[i].size))[0] == '\0');
        free_pair(&pair);
    }
}

/* No memory of the process goes to a peer because a caller filled in too little. */
static void test_own_room_is_blank(void **state)
{
    enum { SIZE = 50000 };
    static const unsigned char blank[SIZE];
    (void)state;
    for (size_t i = 0; i < COUNT(schemes); i++) {
        struct pair pair;
        unsigned char *other = malloc(SIZE);
        open_pair_of(&pair, schemes[i], NULL);
        CHECK(other != NULL);
        fill(other, SIZE, 1);
        free(other);
        (void)room_for(pair.client, SIZE);
        OK(ipcio_write_end(pair.client, LONG_MS));
        check_read(pair.peer, blank, SIZE, __FILE__, __LINE__);
        free_pair(&pair);
    }
}

static void test_all_sizes_over_all_transports(void **state)
{
    static const size_t sizes[] = {0, 1, 256, 10240, 65535, 65536, 65537, MIB, 5 * MIB, 3};
    (void)state;
    for (size_t s = 0; s < COUNT(schemes); s++) {
        const char *address = fresh_of(schemes[s]);
        ipcio_server *server;
        struct child *echo;
        ipcio_conn *conn;
        if (strcmp(schemes[s], "tcp") == 0) { /* a port that is free */
            OK(ipcio_listen(address, NULL, &server));
            address = text_of("%s", ipcio_server_address(server));
            ipcio_server_free(server);
        }
        echo = start_echo(address);
        OK(ipcio_connect(address, NULL, LONG_MS, &conn));
        for (size_t i = 0; i < COUNT(sizes); i++) {
            write_in_place(conn, sizes[i], i);
            reads_filled(conn, sizes[i], i);
        }
        ipcio_conn_free(conn);
        stop(echo);
    }
}

/* -------------------------------------------------------------------------------------- order of calls */

static void test_order_of_calls(void **state)
{
    (void)state;
    for (size_t s = 0; s < COUNT(schemes); s++) {
        struct pair pair;
        const void *answer;
        size_t size;
        void *room;

        open_pair_of(&pair, schemes[s], NULL);
        FAILS(INVALID, ipcio_write_end(pair.client, 0));
        memcpy(room_for(pair.client, 4), "room", 4);
        FAILS(INVALID, ipcio_write(pair.client, "no", 2, LONG_MS));
        FAILS(INVALID, ipcio_send_file(pair.client, 0, "no", 2, LONG_MS));
        FAILS(INVALID, ipcio_call(pair.client, "no", 2, LONG_MS, &answer, &size));
        FAILS(INVALID, ipcio_write_start(pair.client, 2, LONG_MS));
        FAILS(INVALID, ipcio_write_buffer(pair.client, "no", 2, LONG_MS));
        FAILS(INVALID, ipcio_write_buffer(pair.client, "", 0, LONG_MS));
        OK(ipcio_write_end(pair.client, LONG_MS)); /* none of these disturbed it */
        FAILS(INVALID, ipcio_write_end(pair.client, LONG_MS));
        READS(pair.peer, "room");

        OK(ipcio_write_start(pair.client, 2, LONG_MS));
        FAILS(INVALID, ipcio_write_view(pair.client, 2, LONG_MS, &room));
        OK(ipcio_write_buffer(pair.client, "ok", 2, LONG_MS));
        OK(ipcio_write_end(pair.client, LONG_MS));
        READS(pair.peer, "ok");
        free_pair(&pair);
    }
}

static void test_given_up(void **state)
{
    (void)state;
    for (size_t s = 0; s < COUNT(schemes); s++) {
        struct pair pair;
        void *room;

        open_pair_of(&pair, schemes[s], "limit=100000");
        memcpy(room_for(pair.client, 50000), "first", 5);
        OK(write_text(pair.client, "second"));
        READS(pair.peer, "second");

        (void)room_for(pair.client, 10);
        FAILS(TOOBIG, ipcio_write_view(pair.client, 100001, LONG_MS, &room));
        FAILS(INVALID, ipcio_write_end(pair.client, LONG_MS));
        WRITES(pair.client, "next");
        READS(pair.peer, "next");

        memset(room_for(pair.client, 4), 'x', 4);
        ipcio_conn_close(pair.client);
        FAILS(INVALID, ipcio_write_end(pair.client, LONG_MS));
        FAILS(INVALID, ipcio_write_view(pair.client, 4, LONG_MS, &room));
        FAILS(CLOSED, ipcio_read(pair.peer, LONG_MS, &(const void *){NULL}, &(size_t){0}));
        FAILS(CLOSED, write_text(pair.peer, "late"));
        free_pair(&pair);
    }
}

/* The peer reads nothing. */
static void test_no_room(void **state)
{
    (void)state;
    for (size_t s = 0; s < COUNT(schemes); s++) {
        struct pair pair;
        size_t written = 0, size;
        const void *data;
        void *room;
        int st;

        open_pair_of(&pair, schemes[s], NULL);
        for (;; written++) {
            if ((st = ipcio_write_view(pair.client, 300000, 20, &room)) != 0)
                break;
            fill(room, 300000, written);
            if ((st = ipcio_write_end(pair.client, 20)) != 0)
                break;
        }
        FAILS(TIMEOUT, st);
        FAILS(INVALID, ipcio_write_end(pair.client, 20));
        CHECK(strcmp(schemes[s], "shm") != 0 || written > 8); /* a ring of 4 MiB */
        for (size_t i = 0; i < written; i++)
            reads_filled(pair.peer, 300000, i);
        fill(room_for(pair.client, 1000), 1000, 77);
        while ((st = ipcio_write_end(pair.client, IPCIO_TRY)) > 0)
            CHECK(ipcio_read(pair.peer, IPCIO_TRY, &data, &size) > 0); /* takes in what was given up half way */
        OK(st);
        reads_filled(pair.peer, 1000, 77);
        free_pair(&pair);
    }
}

/* A piece that was half out when its message was given up is no part of the next ones. */
static void test_after_half_a_piece(void **state)
{
    enum { SIZE = 8 << 20 };
    unsigned char *data = calloc(1, SIZE);
    (void)state;
    for (size_t s = 0; s < COUNT(schemes); s++) {
        struct pair pair;
        const void *seen;
        void *room;
        size_t size;
        int st;
        open_pair_of(&pair, schemes[s], NULL);
        OK(ipcio_write_start(pair.client, 2 * SIZE, LONG_MS));
        FAILS(TIMEOUT, ipcio_write_buffer(pair.client, data, SIZE, 20));
        FAILS(INVALID, ipcio_write_end(pair.client, LONG_MS));
        while ((st = ipcio_write_view(pair.client, 1000, IPCIO_TRY, &room)) > 0)
            CHECK(ipcio_read(pair.peer, IPCIO_TRY, &seen, &size) > 0);
        OK(st);
        fill(room, 1000, 77);
        while ((st = ipcio_write_end(pair.client, IPCIO_TRY)) > 0)
            CHECK(ipcio_read(pair.peer, IPCIO_TRY, &seen, &size) > 0);
        OK(st);
        reads_filled(pair.peer, 1000, 77);
        WRITES(pair.client, "next");
        READS(pair.peer, "next");
        free_pair(&pair);
    }
    free(data);
}

/* An event loop's calls: each is repeated until it is through, and the peer reads meanwhile. */
static void test_without_waiting(void **state)
{
    (void)state;
    for (size_t s = 0; s < COUNT(schemes); s++) {
        struct pair pair;
        size_t written = 0, read = 0;
        bool filled = false;
        open_pair_of(&pair, schemes[s], "limit=4000000");
        while (read < 20) {
            size_t size = written * 150001 % 3000000;
            void *room;
            const void *data;
            int st = filled ? 0 : ipcio_write_view(pair.client, size, IPCIO_TRY, &room);
            if (st == 0 && !filled && written < 20) {
                fill(room, size, written);
                filled = true;
            }
            if (filled && (st = ipcio_write_end(pair.client, IPCIO_TRY)) == 0) {
                filled = false;
                written++;
            }
            CHECK(st >= 0);
            st = ipcio_read(pair.peer, IPCIO_TRY, &data, &size);
            CHECK(st >= 0);
            if (st == 0) {
                CHECK(size == read * 150001 % 3000000 && is_filled(data, size, read));
                read++;
            }
        }
        free_pair(&pair);
    }
}

/* So many at a time that the ring grows for their pace alone, in the middle of any of its calls. */
static void test_stream_in_place(void **state)
{
    enum { MESSAGES = 150000, AT_ONCE = 100, SIZE = 32 };
    struct pair pair;
    (void)state;
    open_pair_of(&pair, "shm", NULL);
    for (size_t i = 0; i < MESSAGES; i++) {
        write_in_place(pair.client, SIZE, i);
        for (size_t seed = i + 1 - AT_ONCE; (i + 1) % AT_ONCE == 0 && seed <= i; seed++)
            reads_filled(pair.peer, SIZE, seed);
    }
    free_pair(&pair);
}

/* Rooms that are sent, rooms that are given up, and writes, some of which find no room, in any order. */
static void test_in_any_order(void **state)
{
    static const char *const options[] = {NULL, "buffer=4096", "buffer=65536"};
    (void)state;
    for (size_t o = 0; o < COUNT(options); o++) {
        struct pair pair;
        uint32_t random = 12345;
        size_t lengths[64], written = 0, read = 0, size;
        const void *data;
        static unsigned char bytes[1 << 21];
        bool open = false;
        void *room;
        int st;

        open_pair_of(&pair, "shm", options[o]);
        for (int step = 0; step < 60000; step++) {
            random = random * 1664525 + 1013904223;
            size_t most = step % 97 == 0 ? sizeof bytes : step / 1000 % 2 ? 200 : 5000;
            size_t kind = random >> 28, length = (random >> 8) % most;
            if (kind >= 11 || written - read == COUNT(lengths)) {
                for (size_t n = kind == 15 ? 64 : 1; n > 0 && (st = ipcio_read(pair.peer, 0, &data, &size)) == 0; n--) {
                    CHECK(read < written && size == lengths[read % COUNT(lengths)] && is_filled(data, size, read));
                    read++;
                }
            } else if (kind < 3 && !open) {
                fill(bytes, length, written);
                st = ipcio_write(pair.client, bytes, length, 0);
                if (st == 0)
                    lengths[written++ % COUNT(lengths)] = length;
            } else if ((st = ipcio_write_view(pair.client, length, 0, &room)) == 0) {
                fill(room, length, kind < 8 ? written : 1);
                if (kind < 8 && (st = ipcio_write_end(pair.client, 0)) == 0)
                    lengths[written++ % COUNT(lengths)] = length;
                open = kind >= 8;
            } else {
                open = false;
            }
            CHECK(st == 0 || st == IPCIO_TIMEOUT);
        }
        for (; read < written; read++)
            reads_filled(pair.peer, lengths[read % COUNT(lengths)], read);
        FAILS(TIMEOUT, ipcio_read(pair.peer, 0, &data, &size));
        CHECK(written > 10000);
        free_pair(&pair);
    }
}

/* ---------------------------------------------------------------------------------- calls, conversion */

static void test_answers_a_call(void **state)
{
    (void)state;
    for (size_t s = 0; s < COUNT(schemes); s++) {
        struct pair pair;
        const void *answer;
        size_t size;

        open_pair_of(&pair, schemes[s], NULL);
        FAILS(TIMEOUT, ipcio_call(pair.client, "slow", 4, 10, &answer, &size));
        READS(pair.peer, "slow");
        OK(write_text(pair.peer, "late"));
        CHECK(ipcio_call(pair.client, "fast", 4, IPCIO_TRY, &answer, &size) > 0);
        READS(pair.peer, "fast");
        OK(write_text(pair.peer, "in time"));
        OK(ipcio_call(pair.client, "fast", 4, LONG_MS, &answer, &size));
        CHECK(size == 7 && memcmp(answer, "in time", 7) == 0);
        free_pair(&pair);
    }
}

static void test_converted(void **state)
{
    static const char *const over[] = {"pipe", "tcp", "shm"};
    (void)state;
    for (size_t s = 0; s < COUNT(over); s++) {
        char text[4001] = "";
        struct pair pair;

        open_pair_of(&pair, over[s], "text=utf-16le&nul=1");
        OK(write_text(pair.client, "gr\xc3\xbc\xc3\x9f"));
        READS(pair.peer, "gr\xc3\xbc\xc3\x9f");

        FAILS(INVALID, write_text(pair.client, "\xff\xff"));
        FAILS(INVALID, ipcio_write_end(pair.client, LONG_MS));
        /* Short enough to be sent unasked, but no more when it is converted. */
        memset(text, 'a', sizeof text - 1);
        OK(write_text(pair.client, text));
        check_read(pair.peer, text, sizeof text - 1, __FILE__, __LINE__);
        free_pair(&pair);
    }
}

static void test_framings(void **state)
{
    struct pair pair;
    (void)state;
    open_pair_of(&pair, "pipe", "framing=line");
    FAILS(INVALID, write_text(pair.client, "a\nb\r\n"));
    OK(write_text(pair.client, "a line"));
    READS(pair.peer, "a line");
    free_pair(&pair);

    open_pair_of(&pair, "pipe", "framing=raw");
    OK(write_text(pair.client, "bytes"));
    READS(pair.peer, "bytes");
    free_pair(&pair);
}

/* ------------------------------------------------------------------------------------- life and death */

static int holds_role(char **arguments)
{
    ipcio_conn *conn;
    OK(ipcio_connect(arguments[0], NULL, LONG_MS, &conn));
    WRITES(conn, "before");
    memset(room_for(conn, MIB), 'x', MIB);
    tell("filled in");
    wait_for_end();
    return 0;
}

static void test_killed_before_the_end(void **state)
{
    static const char *const over[] = {"pipe", "shm"};
    (void)state;
    for (size_t i = 0; i < COUNT(over); i++) {
        const char *address = fresh_of(over[i]);
        struct child *holder;
        ipcio_server *server;
        ipcio_conn *conn;
        const void *data;
        size_t size;

        OK(ipcio_listen(address, NULL, &server));
        holder = start("holds", address, NULL);
        OK(ipcio_accept(server, LONG_MS, &conn));
        hear(holder, "filled in");
        kill9(holder);
        READS(conn, "before");
        FAILS(CLOSED, ipcio_read(conn, LONG_MS, &data, &size));
        FAILS(CLOSED, write_text(conn, "late"));
        ipcio_conn_free(conn);
        ipcio_server_free(server);
    }
}

/* What was viewed stays readable until the connection is freed; a child finds zero bytes, or what the parent saw. */
static void test_views_outlive_the_connection(void **state)
{
    (void)state;
    for (size_t s = 0; s < COUNT(schemes); s++)
        for (int closed = 0; closed < 2; closed++) {
            struct pair pair;
            const unsigned char *seen;
            unsigned char *room;
            int status = -1;
            pid_t pid;

            open_pair_of(&pair, schemes[s], NULL);
            write_in_place(pair.client, 10000, 1);
            seen = reads_filled(pair.peer, 10000, 1);
            room = room_for(pair.client, MIB);
            fill(room, MIB, 2);
            if (closed) {
                ipcio_conn_close(pair.client);
                ipcio_conn_close(pair.peer);
            }
            pid = fork();
            if (pid == 0) {
                bool same = is_filled(seen, 10000, 1), zero = true;
                for (size_t i = 0; i < 10000; i++)
                    zero = zero && seen[i] == 0;
                memset(room, 'x', MIB);
                ipcio_conn_free(pair.client);
                ipcio_conn_free(pair.peer);
                _exit(same || zero ? 0 : 1);
            }
            CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
            CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
            CHECK(is_filled(seen, 10000, 1) && (closed || is_filled(room, MIB, 2)));
            free_pair(&pair);
        }
}

int main(int argc, char **argv)
{
    static const struct role roles[] = {{"echo", echo_role}, {"where", where_role}, {"holds", holds_role}, {NULL, NULL}};
    static const struct CMUnitTest tests[] = {
        TEST(test_shm_copies_nothing),
        TEST(test_shm_goes_back),
        TEST(test_room_of_its_own),
        TEST(test_own_room_is_blank),
        TEST(test_all_sizes_over_all_transports),
        TEST(test_order_of_calls),
        TEST(test_given_up),
        TEST(test_no_room),
        TEST(test_after_half_a_piece),
        TEST(test_without_waiting),
        TEST(test_stream_in_place),
        TEST(test_in_any_order),
        TEST(test_answers_a_call),
        TEST(test_converted),
        TEST(test_framings),
        TEST(test_killed_before_the_end),
        TEST(test_views_outlive_the_connection),
    };
    RUN(argc, argv, roles, tests);
}
