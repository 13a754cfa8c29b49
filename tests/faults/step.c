/* step.c - one side is killed, or stopped, after each instruction of a send and of a receive over shared memory, most
 * of which make no system call.  The other side has all that was published, whole and in order, and is then told of the
 * end at once; when the victim was only stopped, its calls time out meanwhile and nothing is lost. */
#define RUNS_OVER(scheme) (strcmp(scheme, "shm") == 0)
#include "trace.h"

/* A longer copy than of LONG's frames, of a quarter of a small ring, is one instruction that stops at each byte. */
enum { WARM_UP = 4, WORDS = 20, LONG = 3000, LARGER = 100000 };

/* What the victim does under trace, and before and after it. */
static const struct act {
    const char *name, *options; /* of the client */
    size_t size;
    int writes, reads, stepped; /* messages; how many of those are read under trace */
    bool in_place, call;
} acts[] = {
    {"a write", NULL, WORDS, 1, 0, 0, false, false},
    {"a write of some frames", "buffer=4096", LONG, 1, 0, 0, false, false},
    {"a write in place, for which the ring grows", NULL, LARGER, 1, 0, 0, true, false},
    {"two reads", NULL, WORDS, 0, 2, 2, false, false},
    {"a read of some frames", "buffer=4096", LONG, 0, 1, 1, false, false},
    {"reads that make room for a writer who waits", "buffer=8192", LONG, 0, 40, 6, false, false},
    {"a call", NULL, WORDS, 1, 1, 1, false, true},
};

static struct {
    char address[512];
    bool serves;                /* the victim */
    bool kills;                 /* or it is only stopped */
    const struct act *act;
    _Atomic int sent, received; /* what the victim's writes have returned for, and what came of it */
    _Atomic pid_t survivor;
    _Atomic bool prepared;      /* the victim may begin */
    _Atomic bool done;          /* its act is over */
    _Atomic int timeouts;       /* that the survivor saw */
    _Atomic int64_t killed, told;
} *scene;

static char where[700];
static long place, every;

static void on_alarm(int signal)
{
    (void)signal;
    fprintf(stderr, "hung: %s\n", where);
    _exit(1);
}

/* ------------------------------------------------------------------------------------------ the two sides */

static ipcio_conn *meet(bool serves)
{
    ipcio_server *server;
    ipcio_conn *conn;
    if (!serves) {
        OK(ipcio_connect(scene->address, scene->act->options, LONG_MS, &conn));
        return conn;
    }
    OK(ipcio_listen(scene->address, NULL, &server));
    OK(ipcio_accept(server, LONG_MS, &conn));
    ipcio_server_free(server);
    return conn;
}

/* What both know by heart: a conversation. */
static void warm_up(ipcio_conn *conn, bool begins)
{
    for (int i = 0; i < WARM_UP; i++) {
        if (begins) WRITES(conn, "warm");
        READS(conn, "warm");
        if (!begins) WRITES(conn, "warm");
    }
}

static void act_out(ipcio_conn *conn, const unsigned char *data)
{
    const struct act *act = scene->act;
    const void *got;
    size_t size;
    void *room;
    if (act->call) {
        OK(ipcio_call(conn, data, act->size, LONG_MS, &got, &size));
        return;
    }
    if (act->in_place) {
        OK(ipcio_write_view(conn, act->size, LONG_MS, &room));
        memcpy(room, data, WORDS); /* more would be so many steps of memcpy's */
        OK(ipcio_write_end(conn, LONG_MS));
    } else if (act->writes) {
        OK(ipcio_write(conn, data, act->size, LONG_MS));
    }
    atomic_store(&scene->sent, act->writes);
    for (int i = 0; i < act->stepped; i++) {
        OK(ipcio_read(conn, LONG_MS, &got, &size));
        CHECK(size == act->size);
    }
}

static void live(void *context)
{
    static unsigned char data[LARGER];
    const struct act *act = scene->act;
    int descriptors = count_descriptors();
    ipcio_conn *conn = meet(scene->serves);
    (void)context;
    warm_up(conn, true);
    fill(data, act->size, 0);
    while (!atomic_load(&scene->prepared)) sched_yield();
    if (act->reads > act->stepped) until_asleep(atomic_load(&scene->survivor));
    be_traced();
    act_out(conn, data);
    atomic_store(&scene->done, true);
    for (int i = act->stepped; i < act->reads; i++) {
        fill(data, act->size, (size_t)i);
        check_read(conn, data, act->size, __FILE__, __LINE__);
    }
    ipcio_conn_free(conn);
    CHECK(count_descriptors() == descriptors);
}

/* Repeats what times out, which only a victim that stands still lets happen. */
#define UNTIL(st, call)                                                                                        \
    while (((st) = (call)) == IPCIO_TIMEOUT && !scene->kills)                                                  \
        atomic_fetch_add(&scene->timeouts, 1)

static int answer_all(ipcio_conn *conn, int timeout)
{
    const struct act *act = scene->act;
    const void *data;
    size_t size;
    int st;
    for (;;) {
        UNTIL(st, ipcio_read(conn, timeout, &data, &size));
        if (st != IPCIO_OK) return st;
        CHECK(size == act->size && is_filled(data, act->in_place ? WORDS : size, 0));
        atomic_fetch_add(&scene->received, 1);
        if (act->call) UNTIL(st, ipcio_write(conn, data, size, timeout));
        if (st != IPCIO_OK) return st;
    }
}

static void survive(void *context)
{
    static unsigned char data[LARGER];
    const struct act *act = scene->act;
    int descriptors = count_descriptors(), timeout = scene->kills ? LONG_MS : 5, st = IPCIO_OK;
    ipcio_conn *conn = meet(!scene->serves);
    (void)context;
    warm_up(conn, false);
    atomic_store(&scene->survivor, getpid());
    if (act->reads == act->stepped && !act->call)
        for (int i = 0; i < act->reads; i++) {
            fill(data, act->size, (size_t)i);
            OK(ipcio_write(conn, data, act->size, LONG_MS));
        }
    atomic_store(&scene->prepared, true);
    for (int i = 0; act->reads > act->stepped && i < act->reads && st == IPCIO_OK; i++) {
        fill(data, act->size, (size_t)i);
        UNTIL(st, ipcio_write(conn, data, act->size, timeout));
    }
    if (st == IPCIO_OK) st = answer_all(conn, timeout);
    FAILS(CLOSED, st);
    atomic_store(&scene->told, ipcio_now());
    CHECK(atomic_load(&scene->killed) || atomic_load(&scene->done));
    FAILS(CLOSED, ipcio_write(conn, "x", 1, LONG_MS));
    ipcio_conn_free(conn);
    CHECK(count_descriptors() == descriptors);
}

/* ------------------------------------------------------------------------------------------------ a round */

static int unreturned;  /* messages that came of a write which did not return */
static int timeouts;
static int64_t longest; /* ns from a victim's death until the other was told */

static void ends_well(struct child *child)
{
    int status = reap(child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        print_error("%s: a process ended with status %x\n", where, (unsigned)status);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* False: its act was over before. */
static bool runs_to_its_place(const struct child *victim)
{
    stop_place at;
    for (long i = 0; i < place; i++) {
        next_stop(victim, PTRACE_SINGLESTEP, &at);
        assert_int_not_equal(at.at, STOP_END);
        if (atomic_load(&scene->done)) return false;
    }
    return true;
}

static bool play(void)
{
    struct child *survivor, *victim;
    bool reached;
    int before;
    snprintf(where, sizeof where, "%s: %s, %s at instruction %ld", scene->address, scene->act->name,
             scene->kills ? "killed" : "stopped", place);
    atomic_store(&scene->sent, 0);
    atomic_store(&scene->received, 0);
    atomic_store(&scene->prepared, false);
    atomic_store(&scene->done, false);
    atomic_store(&scene->killed, 0);
    alarm(4 * LONG_MS / 1000);
    survivor = forked(survive, NULL);
    victim = traced(live, NULL);
    reached = runs_to_its_place(victim);
    if (reached && scene->kills) {
        atomic_store(&scene->killed, ipcio_now());
        kill(victim->pid, SIGKILL);
        assert_int_equal(reap(victim), SIGKILL);
        ends_well(survivor);
        int64_t took = atomic_load(&scene->told) - atomic_load(&scene->killed);
        longest = took > longest ? took : longest;
    } else {
        before = atomic_load(&scene->timeouts);
        while (reached && atomic_load(&scene->timeouts) == before) sched_yield();
        timeouts += reached;
        let_go(victim);
        ends_well(victim);
        ends_well(survivor);
        assert_int_equal(atomic_load(&scene->received), scene->act->writes);
    }
    alarm(0);
    assert_in_range(atomic_load(&scene->received), atomic_load(&scene->sent), scene->act->writes);
    if (reached) unreturned += atomic_load(&scene->received) - atomic_load(&scene->sent);
    return reached;
}

static void step_through(bool kills)
{
    signal(SIGALRM, on_alarm);
    scene->kills = kills;
    for (size_t i = 0; i < COUNT(acts); i++) {
        long places = 0;
        unreturned = timeouts = 0;
        longest = 0;
        scene->act = &acts[i];
        every = !full ? 199 : kills ? 1 : 7;
        for (int serves = 0; serves < 2; serves++) {
            scene->serves = serves;
            snprintf(scene->address, sizeof scene->address, "%s", new_address());
            for (place = 1 + every / 2; play(); place += every) places++;
        }
        assert_true(places > 0);
        if (kills)
            one_line("killed at %ld instructions of %s, %d of them after all was published and before it returned: "
                     "the other told each time, at the latest after %.1f ms",
                     places, acts[i].name, unreturned, (double)longest / 1e6);
        else
            one_line("stopped at %ld instructions of %s: nothing lost", places, acts[i].name);
    }
}

static void test_killed(void **state)
{
    (void)state;
    step_through(true);
}

static void test_stopped(void **state)
{
    (void)state;
    step_through(false);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {TEST(test_killed), TEST(test_stopped)};
    if (!may_trace()) {
        puts("skipped: this system does not let a process trace another");
        return SKIPPED;
    }
    scene = share(sizeof *scene);
    RUN_OVER_TRANSPORTS(argc, argv, NULL, tests);
}
