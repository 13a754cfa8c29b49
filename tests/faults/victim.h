/* victim.h - a conversation in which the process on one side, under trace, meets its fault, and those that survive it.
 *
 * The two sides are A and B, and each of them may be the client.  Every message tells who wrote it and which step of
 * the conversation it is, so that what the victim has sent and what has arrived can be compared when it is over.
 *
 * A victim that serves has a client that begins anew each time it is told that its server has gone, until it has
 * spoken to the successor.  A victim that connects has a server that lives on, and after it comes another client. */
#ifndef TESTS_VICTIM_H
#define TESTS_VICTIM_H

#include "trace.h"

enum { SUCCESSOR = 15, ATTEMPTS = 2 }; /* who writes: attempt 0 or 1 of the victim, a survivor, a successor */
enum { SURVIVOR = 14 };

enum phase { PHASE_START, PHASE_LISTEN, PHASE_CONNECT, PHASE_ACCEPT, PHASE_READ, PHASE_WRITE, PHASE_CALL, PHASE_CLOSE,
             PHASE_DONE, PHASES };
static const char *const phase_name[] = {"", "listen", "connect", "accept", "read", "write", "call", "close", ""};

static struct scene {
    char address[512];
    bool serves, is_a;               /* of the victim */
    bool faulty;                     /* its system calls may fail: it repeats calls that do */
    _Atomic int phase;               /* what the victim is about */
    _Atomic int sent[ATTEMPTS];      /* messages its writes have returned for, by its attempts */
    _Atomic int received[ATTEMPTS];  /* and those that came */
    _Atomic bool killed;             /* the victim is being killed */
    _Atomic bool connected;          /* the surviving client is */
    _Atomic bool claimed;            /* who will listen next is decided */
    _Atomic bool serving;            /* the successor, or the surviving server, is */
    _Atomic int told, taken_over;    /* how often the surviving client saw the end, and then had the name */
    _Atomic int failures, gave_up;   /* errors that the victim was told; whether it could not go on */
} *scene;

enum kind { WHOLE, PIECES, CALL };
enum { BIG = 300000, STEPS = 7 };
static const struct {
    bool by_a;
    enum kind kind;
    size_t size;
    int how; /* the reader waits by 0 the call itself, 1 a set, 2 the descriptor */
} steps[STEPS] = {
    {true, WHOLE, 5, 1},        {true, WHOLE, BIG, 0},   {false, WHOLE, 5, 2}, {false, WHOLE, BIG, 0},
    {true, PIECES, BIG / 2, 0}, {false, PIECES, BIG / 2, 0}, {true, CALL, 5, 0},
};

struct side {
    ipcio_conn *conn;
    int id;              /* ATTEMPT, SURVIVOR, SUCCESSOR */
    int peer;            /* the id of the other side, -1 while nothing of it has come */
    int count;           /* messages read */
    bool to_the_end;     /* all but the closing is done */
    unsigned char *data; /* room for a message */
};

static inline bool is_victim(int id) { return id < ATTEMPTS; }

static inline void enter_phase(const struct side *side, enum phase phase)
{
    if (is_victim(side->id))
        atomic_store(&scene->phase, phase);
}

/* Whether a call that failed is worth repeating; its error must be a clear one: no false reason, and on which name. */
static inline bool repeatable(const struct side *side, int st, const char *what)
{
    if (st == IPCIO_OK || !is_victim(side->id) || !scene->faulty)
        return false;
    if (st >= 0 || strcmp(ipcio_code(st), "unknown") == 0 ||
        (strstr(ipcio_message(), scene->address) == NULL && strstr(ipcio_message(), "a set") == NULL) ||
        st == IPCIO_TIMEOUT || st == IPCIO_INVALID || st == IPCIO_PROTOCOL || st == IPCIO_ABORTED)
        check_status(st, IPCIO_SYSTEM, what, __FILE__, __LINE__);
    atomic_fetch_add(&scene->failures, 1);
    return st != IPCIO_CLOSED;
}
#define TWICE(side, st, call)                                                                                  \
    do {                                                                                                       \
        (st) = (call);                                                                                         \
        if (repeatable(side, st, #call)) {                                                                     \
            (st) = (call);                                                                                     \
            (void)repeatable(side, st, #call);                                                                 \
        }                                                                                                      \
    } while (0)

/* ---------------------------------------------------------------------------------------- a message */

static inline size_t seed_of(int id, int step) { return (size_t)id * 16 + (size_t)step; }

static inline void check_message(struct side *side, const unsigned char *data, size_t size, int step)
{
    int id = data[0] / 16;
    CHECK(size == steps[step].size && is_filled(data, size, seed_of(id, step)));
    CHECK(side->peer == -1 || side->peer == id);
    side->peer = id;
    side->count++;
    if (is_victim(id))
        atomic_store(&scene->received[id], side->count);
}

static inline int wait_by_set(ipcio_conn *conn)
{
    ipcio_set *set;
    void *which;
    int st = ipcio_set_new(&set);
    if (st == 0)
        st = ipcio_set_add(set, conn, IPCIO_WANT_READ);
    if (st == 0)
        do st = ipcio_set_wait(set, ipcio_deadline(LONG_MS / 1000), &which);
        while (st == IPCIO_INTERRUPTED);
    ipcio_set_free(set);
    return st;
}

static inline int wait_by_descriptor(ipcio_conn *conn)
{
    int fd = ipcio_fileno(conn);
    struct pollfd item = {fd, POLLIN, 0};
    if (fd >= 0)
        (void)poll(&item, 1, LONG_MS);
    return fd < 0 ? fd : 0;
}

static inline int read_in_pieces(struct side *side, int step)
{
    size_t size, got, have;
    int st;
    do {
        TWICE(side, st, ipcio_read_start(side->conn, LONG_MS, &size));
        CHECK(st != 0 || size == steps[step].size);
        for (have = 0; st == 0 && have < size; have += got)
            TWICE(side, st, ipcio_read_buffer(side->conn, side->data + have, 60000, LONG_MS, &got));
        if (st == 0)
            TWICE(side, st, ipcio_read_buffer(side->conn, side->data + have, 1, LONG_MS, &got));
        if (st == 0 || st == IPCIO_ABORTED) { /* the victim may have to begin again */
            int end;
            TWICE(side, end, ipcio_read_end(side->conn, LONG_MS));
            st = st == 0 ? end : st;
        }
    } while (st == IPCIO_ABORTED);
    if (st == 0)
        check_message(side, side->data, have, step);
    return st;
}

static inline int read_step(struct side *side, int step)
{
    const void *data;
    size_t size;
    int st = 0;
    enter_phase(side, PHASE_READ);
    if (steps[step].kind == PIECES)
        return read_in_pieces(side, step);
    if (steps[step].how == 1)
        TWICE(side, st, wait_by_set(side->conn));
    if (steps[step].how == 2)
        TWICE(side, st, wait_by_descriptor(side->conn));
    if (st == 0)
        TWICE(side, st, ipcio_read(side->conn, LONG_MS, &data, &size));
    if (st == 0)
        check_message(side, data, size, step);
    return st;
}

static inline int write_in_pieces(struct side *side, size_t size)
{
    int st = ipcio_write_start(side->conn, size, LONG_MS);
    for (size_t n, done = 0; st == 0 && done < size; done += n) {
        n = size - done < 70000 ? size - done : 70000;
        st = ipcio_write_buffer(side->conn, side->data + done, n, LONG_MS);
    }
    return st == 0 ? ipcio_write_end(side->conn, LONG_MS) : st;
}

static inline int write_step(struct side *side, int step)
{
    size_t size = steps[step].size;
    int st;
    enter_phase(side, PHASE_WRITE);
    fill(side->data, size, seed_of(side->id, step));
    if (steps[step].kind == PIECES)
        TWICE(side, st, write_in_pieces(side, size));
    else
        TWICE(side, st, ipcio_write(side->conn, side->data, size, LONG_MS));
    if (st == 0 && is_victim(side->id))
        atomic_fetch_add(&scene->sent[side->id], 1);
    return st;
}

static inline int call_step(struct side *side, int step)
{
    const void *answer;
    size_t size;
    int st;
    enter_phase(side, PHASE_CALL);
    fill(side->data, steps[step].size, seed_of(side->id, step));
    TWICE(side, st, ipcio_call(side->conn, side->data, steps[step].size, LONG_MS, &answer, &size));
    if (st == 0)
        check_message(side, answer, size, step);
    return st;
}

/* --------------------------------------------------------------------------------- the conversation */

/* Answers one call after the other until the peer has gone. */
static inline int answer_calls(struct side *side, int step)
{
    int st, count = side->count;
    side->to_the_end = true;
    while ((st = read_step(side, step)) == 0) {
        side->count = count; /* a repeated call is no other message */
        if ((st = write_step(side, step)) != 0)
            return st;
    }
    return st;
}

/* 0 when it came to its end, else what ended it.  A closes at the end, and B is told so. */
static inline int converse(struct side *side, bool a)
{
    int st = 0;
    side->peer = -1;
    side->count = 0;
    side->to_the_end = false;
    side->data = malloc(BIG);
    CHECK(side->data != NULL);
    for (int i = 0; st == 0 && i < STEPS; i++)
        if (steps[i].kind == CALL)
            st = a ? call_step(side, i) : answer_calls(side, i);
        else
            st = steps[i].by_a == a ? write_step(side, i) : read_step(side, i);
    free(side->data);
    return st == IPCIO_CLOSED && side->to_the_end ? 0 : st;
}

/* ------------------------------------------------------------------------------------- the processes */

static inline int serve_once(int id)
{
    struct side side = {.id = id};
    ipcio_server *server;
    int st;
    enter_phase(&side, PHASE_LISTEN);
    TWICE(&side, st, ipcio_listen(scene->address, NULL, &server));
    if (st != 0)
        return st;
    enter_phase(&side, PHASE_ACCEPT);
    TWICE(&side, st, ipcio_accept(server, LONG_MS, &side.conn));
    if (st == 0) {
        st = converse(&side, scene->is_a);
        enter_phase(&side, PHASE_CLOSE);
        ipcio_conn_free(side.conn);
    }
    enter_phase(&side, PHASE_CLOSE);
    ipcio_server_free(server);
    return st;
}

static inline int connect_once(int id)
{
    struct side side = {.id = id};
    int st;
    enter_phase(&side, PHASE_CONNECT);
    TWICE(&side, st, ipcio_connect(scene->address, NULL, LONG_MS, &side.conn));
    if (st != 0)
        return st;
    st = converse(&side, scene->is_a);
    enter_phase(&side, PHASE_CLOSE);
    ipcio_conn_free(side.conn);
    return st;
}

/* The victim.  A fault that does not kill it must leave it able to begin anew. */
static inline void live(void *context)
{
    int st = IPCIO_SYSTEM, descriptors = count_descriptors();
    (void)context;
    be_traced();
    for (int attempt = 0; st != 0 && attempt < ATTEMPTS; attempt++)
        st = scene->serves ? serve_once(attempt) : connect_once(attempt);
    atomic_store(&scene->phase, PHASE_DONE);
    sched_yield(); /* where whoever traces it sees that */
    CHECK(st == 0 || scene->faulty);
    if (st != 0)
        atomic_fetch_add(&scene->gave_up, 1);
    CHECK(count_descriptors() == descriptors);
}

/* Whose server was killed can have the name at once. */
static inline void take_over(void)
{
    ipcio_server *server;
    atomic_fetch_add(&scene->told, 1);
    if (atomic_load(&scene->phase) == PHASE_CLOSE || atomic_exchange(&scene->claimed, true))
        return;
    OK(ipcio_listen(scene->address, NULL, &server));
    ipcio_server_free(server);
    atomic_fetch_add(&scene->taken_over, 1);
    atomic_store(&scene->claimed, false);
}

/* The client of a victim that serves. */
static inline void surviving_client(void *context)
{
    struct side side = {.id = SURVIVOR, .peer = -1};
    int st, descriptors = count_descriptors();
    (void)context;
    while (side.peer != SUCCESSOR) {
        OK(ipcio_connect(scene->address, NULL, LONG_MS, &side.conn));
        atomic_store(&scene->connected, true);
        st = converse(&side, !scene->is_a);
        if (st != IPCIO_CLOSED || side.peer == SUCCESSOR)
            check_status(st, IPCIO_OK, "the survivor's conversation", __FILE__, __LINE__);
        ipcio_conn_free(side.conn);
        if (st == IPCIO_CLOSED && atomic_load(&scene->killed))
            take_over();
        atomic_store(&scene->connected, false);
    }
    CHECK(count_descriptors() == descriptors);
}

static ipcio_server *surviving;

static inline void on_stop(int signal)
{
    (void)signal;
    ipcio_server_stop(surviving);
}

/* Serves one client after the other until SIGTERM: a successor, or the server of victims that connect. */
static inline void serve_many(void *context)
{
    struct side side = {.id = context != NULL ? SUCCESSOR : SURVIVOR};
    struct sigaction action = {.sa_handler = on_stop};
    bool a = context != NULL ? scene->is_a : !scene->is_a;
    int st, descriptors = count_descriptors();
    OK(ipcio_listen(scene->address, NULL, &surviving));
    sigaction(SIGTERM, &action, NULL);
    atomic_store(&scene->serving, true);
    while ((st = ipcio_accept(surviving, -1, &side.conn)) == 0) {
        st = converse(&side, a);
        if (st != IPCIO_CLOSED)
            check_status(st, IPCIO_OK, "the survivor's conversation", __FILE__, __LINE__);
        ipcio_conn_free(side.conn);
    }
    FAILS(INTERRUPTED, st);
    signal(SIGTERM, SIG_IGN);
    ipcio_server_free(surviving);
    CHECK(count_descriptors() == descriptors);
}

/* A client after a victim that connected: the server must be free for it. */
static inline void next_client(void *context)
{
    (void)context;
    OK(connect_once(SUCCESSOR));
}

/* ---------------------------------------------------------------------------------------- a round */

/* Traces the victim until its fault has come, and says whether it has: false when its life was over before. */
typedef bool bring_fault(const struct child *victim);

static char where[700]; /* the round, for what is left of one that fails */

static inline void on_alarm(int signal)
{
    const char *phase = phase_name[atomic_load(&scene->phase)];
    (void)signal;
    fprintf(stderr, "hung: %s, in %s\n", where, phase); /* this process is stuck in a wait of its own */
    _exit(1);
}

static inline void ends_well(struct child *child)
{
    int status = reap(child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        print_error("%s, in %s: a process ended with status %x\n", where, phase_name[atomic_load(&scene->phase)],
                    (unsigned)status);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* False: the child has ended, which ends_well looks into. */
static inline bool lives(const struct child *child)
{
    siginfo_t info = {0};
    assert_int_equal(waitid(P_PID, (id_t)child->pid, &info, WEXITED | WNOHANG | WNOWAIT), 0);
    sched_yield();
    return info.si_pid == 0;
}

static inline void until_serving(const struct child *child)
{
    while (!atomic_load(&scene->serving) && lives(child))
        continue;
}

static inline void victim_ends(struct child *victim)
{
    if (atomic_load(&scene->killed))
        assert_int_equal(reap(victim), SIGKILL);
    else
        ends_well(victim);
}

static inline bool play_server(bring_fault *fault)
{
    struct child *server = traced(live, NULL), *client = forked(surviving_client, NULL), *successor;
    bool reached = fault(server);
    victim_ends(server);
    while ((atomic_load(&scene->connected) || atomic_exchange(&scene->claimed, true)) && lives(client))
        continue;
    successor = forked(serve_many, scene);
    ends_well(client);
    until_serving(successor);
    kill(successor->pid, SIGTERM);
    ends_well(successor);
    return reached;
}

static inline bool play_client(bring_fault *fault)
{
    struct child *client = traced(live, NULL);
    bool reached = fault(client);
    victim_ends(client);
    ends_well(forked(next_client, NULL));
    return reached;
}

/* The same as `fault` answered. */
static inline bool play(bring_fault *fault)
{
    struct scene again = {.serves = scene->serves, .is_a = scene->is_a, .faulty = scene->faulty};
    bool reached;
    memcpy(again.address, scene->address, sizeof again.address);
    atomic_init(&again.serving, !scene->serves);
    *scene = again;
    alarm(4 * LONG_MS / 1000);
    reached = scene->serves ? play_server(fault) : play_client(fault);
    alarm(0);
    for (int i = 0; i < ATTEMPTS; i++)
        assert_true(atomic_load(&scene->received[i]) >= atomic_load(&scene->sent[i]));
    return reached;
}

/* Calls `sweep`, which plays rounds, for both sides of the conversation at one address. */
static inline void play_both_sides(const char *address, bool serves, bool faulty, void (*sweep)(void))
{
    snprintf(scene->address, sizeof scene->address, "%s", address);
    scene->serves = serves;
    scene->faulty = faulty;
    for (int is_a = 0; is_a < 2; is_a++) {
        struct child *server = NULL;
        int names, files;
        scene->is_a = is_a;
        atomic_store(&scene->serving, false);
        if (!serves) {
            server = forked(serve_many, NULL);
            until_serving(server);
        }
        names = count_entries(getenv("IPCIO_DIR"));
        files = count_entries(directory);
        sweep();
        assert_int_equal(count_entries(getenv("IPCIO_DIR")), names);
        assert_int_equal(count_entries(directory), files);
        if (server != NULL) {
            kill(server->pid, SIGTERM);
            ends_well(server);
        }
    }
}

/* A name and a path lead through different files. */
static inline void play_everywhere(bool serves, bool faulty, void (*sweep)(void))
{
    signal(SIGALRM, on_alarm);
    play_both_sides(new_address(), serves, faulty, sweep);
    if (strcmp(transport, "file") == 0)
        play_both_sides(text_of("file://%s", new_folder()), serves, faulty, sweep);
    else if (!is_tcp(transport) && strcmp(transport, quiet) != 0)
        play_both_sides(text_of("%s://%s", transport, fresh_path()), serves, faulty, sweep);
}

#endif
