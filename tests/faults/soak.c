/* soak.c - for minutes clients connect, talk and are killed; afterwards the server, and a client that was there all the
 * time, have as many descriptors and as much memory as in the beginning, and the directory has as many entries. */
#include "faults.h"

#include <malloc.h>

enum { TALKERS = 6, ENDURING = TALKERS, BIG = 200000, ROUND_SECONDS = 10, ROUNDS_MOST = 1000 };

struct usage {
    long descriptors, heap, resident; /* the last two in bytes */
};

static struct scene {
    char address[512];
    _Atomic bool pause;      /* clients are to end their conversation: the killed ones' successors for good, */
    _Atomic bool idle, over; /* the enduring one until told to go on, or to end too */
    _Atomic long conversations, messages, bytes;
    struct usage enduring;
} *scene;

static void measure(struct usage *usage)
{
    struct mallinfo2 info = mallinfo2();
    FILE *file = fopen("/proc/self/statm", "re");
    long pages = 0;
    CHECK(file != NULL && fscanf(file, "%*d %ld", &pages) == 1);
    fclose(file);
    usage->descriptors = count_descriptors();
    usage->heap = (long)(info.uordblks + info.hblkhd);
    usage->resident = pages * sysconf(_SC_PAGESIZE);
}

/* ------------------------------------------------------------------------------------------- server */

static ipcio_server *server;

static void on_terminate(int signal)
{
    (void)signal;
    ipcio_server_stop(server);
}

static int answer(void *context, ipcio_conn *conn, const void *request, size_t size)
{
    struct usage usage;
    (void)context;
    if (size != 5 || memcmp(request, "usage", 5) != 0)
        return ipcio_write(conn, request, size, LONG_MS);
    measure(&usage);
    return ipcio_write(conn, &usage, sizeof usage, LONG_MS);
}

static void serve(void *context)
{
    struct sigaction action = {.sa_handler = on_terminate};
    (void)context;
    OK(ipcio_listen(scene->address, NULL, &server));
    sigaction(SIGTERM, &action, NULL);
    OK(ipcio_serve(server, answer, NULL));
    ipcio_server_free(server);
}

static struct usage ask_server(void)
{
    struct usage usage;
    ipcio_conn *conn;
    const void *data;
    size_t size;
    OK(ipcio_connect(scene->address, NULL, LONG_MS, &conn));
    OK(ipcio_call(conn, "usage", 5, LONG_MS, &data, &size));
    CHECK(size == sizeof usage);
    memcpy(&usage, data, size);
    ipcio_conn_free(conn);
    return usage;
}

/* ------------------------------------------------------------------------------------------ clients */

static unsigned char request[BIG];

static void write_whole_or_in_pieces(ipcio_conn *conn, size_t size, bool pieces)
{
    if (!pieces) {
        OK(ipcio_write(conn, request, size, LONG_MS));
        return;
    }
    OK(ipcio_write_start(conn, size, LONG_MS));
    OK(ipcio_write_buffer(conn, request, size / 2, LONG_MS));
    OK(ipcio_write_buffer(conn, request + size / 2, size - size / 2, LONG_MS));
    OK(ipcio_write_end(conn, LONG_MS));
}

static void converse(unsigned *seed)
{
    ipcio_conn *conn;
    int n = rand_r(seed) % 20;
    OK(ipcio_connect(scene->address, NULL, LONG_MS, &conn));
    for (int i = 0; i < n; i++) {
        size_t size = (size_t)rand_r(seed) % (i % 8 == 0 ? BIG : 500), got;
        const void *data;
        int how = rand_r(seed) % 4, st;
        fill(request, size, (size_t)i);
        if (how == 0) {
            st = ipcio_call(conn, request, size, 0, &data, &got); /* mostly given up, its answer dropped */
            if (st == IPCIO_TIMEOUT)
                continue;
            OK(st);
        } else {
            write_whole_or_in_pieces(conn, size, how == 1);
            OK(ipcio_read(conn, LONG_MS, &data, &got));
        }
        CHECK(got == size && is_filled(data, size, (size_t)i));
        atomic_fetch_add(&scene->messages, 2);
        atomic_fetch_add(&scene->bytes, (long)(2 * size));
    }
    ipcio_conn_free(conn);
    atomic_fetch_add(&scene->conversations, 1);
}

static void talk(void *seed)
{
    unsigned own = *(unsigned *)seed;
    while (!atomic_load(&scene->pause))
        converse(&own);
}

static void endure(void *seed)
{
    unsigned own = *(unsigned *)seed;
    while (!atomic_load(&scene->over)) {
        converse(&own);
        if (!atomic_load(&scene->pause))
            continue;
        measure(&scene->enduring);
        atomic_store(&scene->idle, true);
        while (atomic_load(&scene->pause))
            poll(NULL, 0, 1);
    }
}

/* ---------------------------------------------------------------------------------------------- test */

static int killed;
static unsigned next_seed; /* of the next child */

/* Clients talk for so long, and one after the other is killed in the middle of something. */
static void one_round(int64_t ms)
{
    struct child *talkers[TALKERS];
    int64_t until = now_ms() + ms;
    for (int i = 0; i < TALKERS; i++, next_seed++)
        talkers[i] = forked(talk, &next_seed);
    while (now_ms() < until) {
        int victim = rand_r(&next_seed) % TALKERS;
        poll(NULL, 0, rand_r(&next_seed) % 20);
        kill(talkers[victim]->pid, SIGKILL);
        assert_int_equal(reap(talkers[victim]), SIGKILL);
        killed++;
        next_seed++;
        talkers[victim] = forked(talk, &next_seed);
    }
    atomic_store(&scene->pause, true);
    for (int i = 0; i < TALKERS; i++)
        finish(talkers[i]);
}

static void check_flat(const char *who, const struct usage *first, struct usage now)
{
    int spread = full ? 2 << 20 : 8 << 20; /* of what lies free in the heap, which in a few seconds has not seen its most */
    if (now.descriptors > first->descriptors || now.heap > first->heap + (128 << 10) ||
        now.resident > first->resident + spread) {
        print_error("%s: descriptors %ld, then %ld; heap %ld, then %ld; resident %ld, then %ld\n", who,
                    first->descriptors, now.descriptors, first->heap, now.heap, first->resident, now.resident);
        fail();
    }
}

static void raise_to(struct usage *most, struct usage now)
{
    most->descriptors = now.descriptors > most->descriptors ? now.descriptors : most->descriptors;
    most->heap = now.heap > most->heap ? now.heap : most->heap;
    most->resident = now.resident > most->resident ? now.resident : most->resident;
}

static void test_soak(void **state)
{
    int64_t all = (seconds > 0 ? seconds : full ? 300 : 4) * INT64_C(1000);
    int64_t each = all / 8 < ROUND_SECONDS * 1000 ? all / 8 : ROUND_SECONDS * 1000; /* at least eight rounds */
    struct usage begin, there = {0}, here = {0}, now;
    struct child *serving, *enduring;
    int names, rounds = (int)(all / each);
    (void)state;
    *scene = (struct scene){.address = ""};
    snprintf(scene->address, sizeof scene->address, "%s", new_address());
    killed = 0;
    serving = forked(serve, NULL);
    begin = now = ask_server();
    names = count_entries(getenv("IPCIO_DIR"));
    enduring = forked(endure, &next_seed);
    for (int round = 0; round < rounds; round++) {
        int64_t net = now_ms() + 2 * LONG_MS;
        one_round(each);
        while (!atomic_load(&scene->idle) && now_ms() < net)
            poll(NULL, 0, 1);
        assert_true(atomic_load(&scene->idle));
        do /* it may have ends of clients still to see */
            now = ask_server();
        while (now.descriptors > begin.descriptors && now_ms() < net);
        assert_int_equal(now.descriptors, begin.descriptors);
        assert_int_equal(count_entries(getenv("IPCIO_DIR")), names);
        if (round < (rounds + 3) / 4) { /* buffers have grown as far as they do */
            raise_to(&there, now);
            raise_to(&here, scene->enduring);
        } else {
            check_flat("the server", &there, now);
            check_flat("a client", &here, scene->enduring);
        }
        atomic_store(&scene->over, round == rounds - 1);
        atomic_store(&scene->idle, false);
        atomic_store(&scene->pause, false);
    }
    finish(enduring);
    kill(serving->pid, SIGTERM);
    finish(serving);
    one_line("%d s: %ld conversations, %ld messages, %ld MB, %d clients killed; flat: the server's descriptors %ld, heap "
             "%ld kB, memory %ld kB, a client's %ld, %ld kB, %ld kB, %d entries",
             (int)(all / 1000), atomic_load(&scene->conversations), atomic_load(&scene->messages),
             atomic_load(&scene->bytes) / 1000000, killed, now.descriptors, now.heap / 1000, now.resident / 1000,
             scene->enduring.descriptors, scene->enduring.heap / 1000, scene->enduring.resident / 1000, names);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {TEST(test_soak)};
    scene = share(sizeof *scene);
    RUN_OVER_TRANSPORTS(argc, argv, NULL, tests);
}
