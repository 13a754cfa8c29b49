/* test_alloc.c - the hot path allocates nothing, and every allocation elsewhere may fail.
 *
 * malloc and its kin are defined here, before glibc's, which remain reachable by their inner names.  A
 * sanitizer does the same for itself, so there is nothing to test under one. */
#include "../faults/everything.h"

#if defined(__GLIBC__) && !SANITIZED

static _Atomic long allocations, frees, refused, fail_at = -1; /* fail_at: how many may succeed; -1: all */
static bool once;                                     /* then one fails, not all */

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void __libc_free(void *);

static int may(void)
{
    if (atomic_load(&fail_at) == 0) {
        if (once)
            atomic_store(&fail_at, -1);
        atomic_fetch_add(&refused, 1);
        errno = ENOMEM;
        return 0;
    }
    if (atomic_load(&fail_at) > 0)
        atomic_fetch_sub(&fail_at, 1);
    atomic_fetch_add(&allocations, 1);
    return 1;
}

void *malloc(size_t size) { return may() ? __libc_malloc(size) : NULL; }

void *calloc(size_t n, size_t size) { return may() ? __libc_calloc(n, size) : NULL; }

void *realloc(void *memory, size_t size)
{
    if (!may())
        return NULL;
    if (memory != NULL)
        atomic_fetch_add(&frees, 1);
    return __libc_realloc(memory, size);
}

void free(void *memory)
{
    if (memory != NULL)
        atomic_fetch_add(&frees, 1);
    __libc_free(memory);
}

static long allocated(void) { return atomic_load(&allocations); }
static long held(void) { return atomic_load(&allocations) - atomic_load(&frees); }

static void round_trips(struct pair *pair, size_t size, int n)
{
    static unsigned char message[1 << 20];
    const void *data;
    size_t got;
    for (int i = 0; i < n; i++) {
        int st = IPCIO_WANT_WRITE, read = IPCIO_WANT_READ;
        while (st > 0 || read > 0) {
            if (st > 0)
                st = ipcio_write(pair->client, message, size, IPCIO_TRY);
            if (read > 0)
                read = ipcio_read(pair->peer, IPCIO_TRY, &data, &got);
        }
        OK(st);
        OK(read);
        assert_int_equal(got, size);
        WRITES(pair->peer, "answer");
        READS(pair->client, "answer");
    }
}

static void test_round_trips_allocate_nothing(void **state)
{
    static const size_t sizes[] = {0, 64, 10240, 65536, 1 << 20};
    struct pair pair;
    (void)state;
    open_pair_at(&pair, new_address(), NULL, NULL);
    for (size_t i = 0; i < COUNT(sizes); i++) {
        long before;
        round_trips(&pair, sizes[i], 2);
        before = allocated();
        round_trips(&pair, sizes[i], 100);
        assert_int_equal(allocated() - before, 0);
    }
    free_pair(&pair);
}

/* "counter" ADDRESS: an echo server that answers "count" with how often it has allocated. */
static int counting(void *context, ipcio_conn *conn, const void *request, size_t size)
{
    (void)context;
    if (size == 5 && memcmp(request, "count", 5) == 0) {
        char text[32];
        int n = snprintf(text, sizeof text, "%ld", allocated());
        return ipcio_write(conn, text, (size_t)n, LONG_MS);
    }
    return ipcio_write(conn, request, size, LONG_MS);
}

static int counter_role(char **arguments)
{
    return serve_until_stop(arguments[0], NULL, counting, "ready");
}

static long ask_count(ipcio_conn *conn)
{
    char text[32] = "";
    const void *answer;
    size_t size;
    OK(ipcio_call(conn, "count", 5, LONG_MS, &answer, &size));
    memcpy(text, answer, size);
    return atol(text);
}

static void test_calls_and_serve_allocate_nothing(void **state)
{
    static unsigned char message[100000];
    const char *address = new_address();
    struct child *server = start("counter", address, NULL);
    ipcio_conn *conn;
    long here = 0, there = 0;
    (void)state;
    hear(server, "ready");
    OK(ipcio_connect(address, NULL, LONG_MS, &conn));
    for (int i = 0; i < 600; i++) {
        const void *answer;
        size_t size;
        if (i == 100) {
            there = ask_count(conn);
            here = allocated();
        }
        OK(ipcio_call(conn, message, i % 10 == 0 ? sizeof message : 64, LONG_MS, &answer, &size));
    }
    assert_int_equal(allocated() - here, 0);
    assert_int_equal(ask_count(conn) - there, 0);
    ipcio_conn_free(conn);
    stop(server);
}

static int everything_autoit(const char *name)
{
    int type = is_tcp(transport) ? ipcio_cTCP : ipcio_cNamedPipe;
    int server = ipcio_InitConnection(type, name, 1, NULL, NULL, 65536);
    int client = server < 0 ? server : ipcio_OpenConnection(type, name, 1, NULL, NULL, 65536);
    int st = client < 0 ? client : ipcio_StartConnection(server);
    if (client > 0)
        (void)ipcio_CloseConnection(client);
    if (server > 0)
        (void)ipcio_EndConnection(server);
    return st;
}

/* One more may succeed each time, until all did; returns how many that were.  Each failure leaves nothing behind, and
 * its status is NOMEMORY. */
static long fails_well(int (*run)(const char *), const char *name, long *told)
{
    int st = IPCIO_NOMEMORY, descriptors;
    bool reached = true;
    long n;
    OK(run(name)); /* what is made once per process is made now */
    descriptors = count_descriptors();
    for (n = 0; reached; n++) {
        long before = held(), refused_before = atomic_load(&refused);
        assert_true(n < 1000);
        atomic_store(&fail_at, n);
        st = run(name);
        atomic_store(&fail_at, -1);
        reached = atomic_load(&refused) > refused_before;
        if (st != IPCIO_OK)
            FAILS(NOMEMORY, st);
        *told += st != IPCIO_OK;
        assert_int_equal(held(), before);
        assert_int_equal(count_descriptors(), descriptors);
    }
    OK(st);
    return n - 1;
}

static void every_allocation_fails(const char *what, int (*run)(const char *), const char *name)
{
    for (int i = 0; i < 2; i++) {
        long n, told = 0;
        once = i == 0;
        n = fails_well(run, name, &told);
        assert_true(n > 5 && told > 5);
        one_line("%s: each of %ld allocations failing %s: %ld told, %ld did without, 0 left behind", what, n,
                 once ? "once" : "for good", told, n - told);
    }
}

static void test_every_allocation_may_fail(void **state)
{
    (void)state;
    every_allocation_fails("everything", everything, new_address());
}

static void test_every_autoit_allocation_may_fail(void **state)
{
    const char *address = new_address();
    (void)state;
    every_allocation_fails("the AutoIt names", everything_autoit, strrchr(address, is_tcp(address) ? ':' : '/') + 1);
}

int main(int argc, char **argv)
{
    static const struct role roles[] = {{"counter", counter_role}, {NULL, NULL}};
    const struct CMUnitTest tests[] = {
        TEST(test_round_trips_allocate_nothing),
        TEST(test_calls_and_serve_allocate_nothing),
        TEST(test_every_allocation_may_fail),
        TEST(test_every_autoit_allocation_may_fail),
    };
    RUN_OVER_TRANSPORTS(argc, argv, roles, tests);
}

#else

int main(void)
{
    puts("skipped: a sanitizer, or another C library, has malloc");
    return 0;
}

#endif
