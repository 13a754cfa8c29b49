/* stop.c - one side of a conversation is stopped at each of its system calls, as by SIGSTOP.  While a server stands still
 * its clients' calls time out; while a client does nobody else is held up.  Then it goes on, and nothing is lost, mixed up
 * or left behind; nor is the answer of a server that has gone meanwhile. */
#include "trace.h"

static struct {
    char address[512];
    long places;           /* where the victim was stopped */
    _Atomic bool done;     /* the victim has nothing more to do, */
    _Atomic bool ended;    /* nor its client */
    _Atomic int timeouts;  /* that its client saw */
} *scene;

static char where[600];
static long place, every;

enum { BIG = 300000, CALLS = 6 };

static void on_alarm(int signal)
{
    (void)signal;
    fprintf(stderr, "hung: %s\n", where);
    _exit(1);
}

static ipcio_server *server;

/* The request's number is that of its answer; the last number ends the server. */

static int answer(void *context, ipcio_conn *conn, const void *request, size_t size)
{
    int number;
    (void)context;
    CHECK(size >= sizeof number);
    memcpy(&number, request, sizeof number);
    CHECK(is_filled((const char *)request + sizeof number, size - sizeof number, (size_t)number));
    if (number == CALLS)
        ipcio_server_stop(server);
    return number == CALLS ? IPCIO_OK : ipcio_write(conn, &number, sizeof number, LONG_MS);
}

static void serve(void *context)
{
    int descriptors = count_descriptors();
    if (context != NULL)
        be_traced();
    OK(ipcio_listen(scene->address, NULL, &server));
    OK(ipcio_serve(server, answer, NULL));
    ipcio_server_free(server);
    atomic_store(&scene->done, context != NULL);
    sched_yield(); /* where whoever traces it sees that */
    CHECK(count_descriptors() == descriptors);
}

/* Repeats what times out. */
#define UNTIL(st, call)                                                                                        \
    do {                                                                                                       \
        while (((st) = (call)) == IPCIO_TIMEOUT)                                                               \
            atomic_fetch_add(&scene->timeouts, 1);                                                             \
        OK(st);                                                                                                \
    } while (0)

/* Calls of all sizes, each with so many ms. */
static void talk(int timeout, bool ends_server)
{
    static unsigned char request[sizeof(int) + BIG];
    ipcio_conn *conn;
    int st;
    UNTIL(st, ipcio_connect(scene->address, NULL, timeout, &conn));
    for (int i = 0; i < CALLS; i++) {
        const void *data;
        size_t size, length = i % 2 == 0 ? 5 : BIG;
        memcpy(request, &i, sizeof i);
        fill(request + sizeof i, length, (size_t)i);
        UNTIL(st, ipcio_call(conn, request, sizeof i + length, timeout, &data, &size));
        CHECK(size == sizeof i && memcmp(data, &i, size) == 0);
    }
    if (ends_server)
        UNTIL(st, ipcio_write(conn, &(int){CALLS}, sizeof(int), timeout));
    ipcio_conn_free(conn);
}

static void impatient(void *context)
{
    int descriptors = count_descriptors();
    (void)context;
    talk(5, true);
    atomic_store(&scene->ended, true);
    CHECK(count_descriptors() == descriptors);
}

static void patient(void *context)
{
    int descriptors = count_descriptors();
    if (context != NULL)
        be_traced();
    talk(LONG_MS, false);
    atomic_store(&scene->done, context != NULL);
    sched_yield();
    CHECK(count_descriptors() == descriptors);
}

/* Lets the victim run to this round's place and stops it there; false: its life was over before. */
static bool runs_to_its_place(const struct child *victim)
{
    stop_place at;
    alarm(2 * LONG_MS / 1000);
    snprintf(where, sizeof where, "%s: stopped at %ld", scene->address, place);
    for (long i = 0; i < place; i++) {
        next_stop(victim, PTRACE_SYSCALL, &at);
        assert_int_not_equal(at.at, STOP_END);
        if (atomic_load(&scene->done))
            return false;
    }
    return true;
}

static void sweep(bool (*round)(void))
{
    bool reached = true;
    signal(SIGALRM, on_alarm);
    scene->places = -1;
    for (place = 1 + every / 2; reached; place += every) {
        atomic_store(&scene->done, false);
        atomic_store(&scene->ended, false);
        reached = round();
        alarm(0);
        scene->places++;
    }
}

static int timeouts;

static bool server_stops(void)
{
    struct child *victim = traced(serve, scene), *client = forked(impatient, NULL);
    bool reached;
    int before;
    atomic_store(&scene->timeouts, 0);
    reached = runs_to_its_place(victim);
    before = atomic_load(&scene->timeouts);
    while (reached && atomic_load(&scene->timeouts) == before && !atomic_load(&scene->ended))
        sched_yield();
    timeouts += atomic_load(&scene->timeouts) - before;
    let_go(victim);
    finish(client);
    finish(victim);
    return reached;
}

static void test_server_stops(void **state)
{
    int names;
    (void)state;
    every = full ? 1 : 7;
    timeouts = 0;
    snprintf(scene->address, sizeof scene->address, "%s", new_address());
    names = count_entries(getenv("IPCIO_DIR"));
    sweep(server_stops);
    assert_true(timeouts > 0);
    assert_int_equal(count_entries(getenv("IPCIO_DIR")), names);
    one_line("server stopped at %ld entries and exits of system calls: %d timeouts told, every call answered in the end",
             scene->places, timeouts);
}

static bool client_stops(void)
{
    struct child *victim = traced(patient, scene);
    bool reached = runs_to_its_place(victim);
    if (reached)
        finish(forked(patient, NULL)); /* somebody else */
    let_go(victim);
    finish(victim);
    return reached;
}

static void ends_server(void *context)
{
    (void)context;
    talk(LONG_MS, true);
}

static void test_client_stops(void **state)
{
    struct child *echo;
    (void)state;
    every = full ? 1 : 7;
    snprintf(scene->address, sizeof scene->address, "%s", new_address());
    echo = forked(serve, NULL);
    sweep(client_stops);
    finish(forked(ends_server, NULL));
    finish(echo);
    one_line("client stopped at %ld entries and exits of system calls: another was served meanwhile, then it was",
             scene->places);
}

/* ------------------------------------------------------------------------------ answered, and gone */

static const size_t asked[] = {5, BIG, 5};

static void answers_and_goes(void *context)
{
    ipcio_conn *conn;
    (void)context;
    OK(ipcio_listen(scene->address, NULL, &server));
    OK(ipcio_accept(server, LONG_MS, &conn));
    for (size_t i = 0; i < COUNT(asked); i++) {
        const void *data;
        size_t size;
        OK(ipcio_read(conn, LONG_MS, &data, &size));
        CHECK(size == asked[i] && is_filled(data, size, i));
        WRITES(conn, "answer");
    }
    ipcio_conn_free(conn);
    ipcio_server_free(server);
    atomic_store(&scene->ended, true);
}

/* Each write went well, and is answered; the end is told after that. */
static void asks(void *context)
{
    static unsigned char request[BIG];
    ipcio_conn *conn;
    const void *data;
    size_t size;
    (void)context;
    be_traced();
    OK(ipcio_connect(scene->address, NULL, LONG_MS, &conn));
    for (size_t i = 0; i < COUNT(asked); i++) {
        fill(request, asked[i], i);
        OK(ipcio_write(conn, request, asked[i], LONG_MS));
        READS(conn, "answer");
    }
    CHECK(ipcio_read(conn, LONG_MS, &data, &size) == IPCIO_CLOSED);
    ipcio_conn_free(conn);
    atomic_store(&scene->done, true);
    sched_yield();
}

static int gone;

static bool server_goes(void)
{
    struct child *echo = forked(answers_and_goes, NULL), *victim = traced(asks, NULL);
    bool reached = runs_to_its_place(victim);
    while (reached && !atomic_load(&scene->ended) && strchr("SZ", state_of(echo->pid)) == NULL)
        sched_yield();
    gone += reached && atomic_load(&scene->ended);
    let_go(victim);
    finish(victim);
    finish(echo);
    return reached;
}

static void test_answered_and_gone(void **state)
{
    (void)state;
    every = 1;
    gone = 0;
    snprintf(scene->address, sizeof scene->address, "%s", new_address());
    sweep(server_goes);
    assert_true(gone > 0);
    one_line("client stopped at %ld entries and exits of system calls: its server had gone %d times then, and each answer was read",
             scene->places, gone);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {TEST(test_server_stops), TEST(test_client_stops), TEST(test_answered_and_gone)};
    if (!may_trace()) {
        puts("skipped: this system does not let a process trace another");
        return SKIPPED;
    }
    scene = share(sizeof *scene);
    RUN_OVER_TRANSPORTS(argc, argv, NULL, tests);
}
