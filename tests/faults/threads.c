/* threads.c - threads in each other's way: one reads while another writes, others wait and ask, and one more closes; and
 * a fork while all of them are busy.  Under the thread sanitizer it is told who races. */
#include "faults.h"

static _Atomic long messages; /* what got through, over all rounds */
static _Atomic bool over;     /* threads that begin anew are to end */

/* Between the threads of a round only moments differ; these go through them. */
static void moment(int round)
{
    for (int i = 0; i < round % 16 * round % 97; i++)
        sched_yield();
}

/* The thread ended since the connection was closed, on either side; a last message may be lost with it, none is torn. */
static void ends(struct thread *thread)
{
    int st = end(thread);
    if (st != IPCIO_CLOSED)
        FAILS(INVALID, st);
}

enum { LONGEST = 200000 };

static size_t size_of(size_t number) { return number * 7919 % LONGEST; }

static int writes(void *conn)
{
    unsigned char *data = malloc(LONGEST);
    int st = 0;
    for (size_t i = 0; st == 0; i++) {
        fill(data, size_of(i), i);
        st = ipcio_write(conn, data, size_of(i), LONG_MS);
    }
    free(data);
    return st;
}

static int writes_in_pieces(void *conn)
{
    unsigned char *data = malloc(LONGEST);
    int st = 0;
    for (size_t i = 0; st == 0; i++) {
        size_t size = size_of(i), half = size / 2;
        fill(data, size, i);
        st = ipcio_write_start(conn, size, LONG_MS);
        if (st == 0)
            st = ipcio_write_buffer(conn, data, half, LONG_MS);
        if (st == 0)
            st = ipcio_write_buffer(conn, data + half, size - half, LONG_MS);
        if (st == 0)
            st = ipcio_write_end(conn, LONG_MS);
    }
    free(data);
    return st;
}

/* The bytes themselves lie in the connection, which another thread may end. */
static int reads(void *conn)
{
    const void *data;
    size_t size;
    int st = 0;
    for (size_t i = 0; st == 0; i++) {
        st = ipcio_read(conn, LONG_MS, &data, &size);
        if (st == 0 && size != size_of(i))
            return IPCIO_PROTOCOL;
        atomic_fetch_add(&messages, st == 0);
    }
    return st;
}

static int reads_pieces_by_set(void *conn)
{
    ipcio_set *set;
    void *which;
    size_t size, got, number = 0;
    unsigned char *data = malloc(LONGEST);
    int st = ipcio_set_new(&set);
    while (st == 0) {
        size_t have = 0;
        if ((st = ipcio_set_add(set, conn, IPCIO_WANT_READ)) == 0)
            st = ipcio_set_wait(set, ipcio_deadline(LONG_MS / 1000), &which);
        if (st == 0)
            st = ipcio_read_start(conn, LONG_MS, &size);
        while (st == 0 && (st = ipcio_read_buffer(conn, data + have, LONGEST - have, LONG_MS, &got)) == 0 && got > 0)
            have += got;
        if (st == 0)
            st = ipcio_read_end(conn, LONG_MS);
        if (st == 0 && (have != size_of(number) || size != have || !is_filled(data, have, number)))
            st = IPCIO_PROTOCOL;
        atomic_fetch_add(&messages, st == 0);
        number++;
    }
    ipcio_set_remove(set, conn);
    ipcio_set_free(set);
    free(data);
    return st;
}

/* What may be asked while others read and write. */
static int asks(void *conn)
{
    ipcio_peer peer;
    int st;
    do {
        if ((st = ipcio_conn_peer(conn, &peer)) == 0 && ipcio_conn_address(conn)[0] == '\0')
            st = IPCIO_PROTOCOL;
        sched_yield();
    } while (st == 0 || st == IPCIO_UNSUPPORTED);
    return st;
}

static int closes(void *conn)
{
    ipcio_conn_close(conn);
    return 0;
}

static void test_one_reads_one_writes_one_closes(void **state)
{
    int rounds = full ? 300 : 20;
    (void)state;
    atomic_store(&messages, 0);
    for (int round = 0; round < rounds; round++) {
        struct pair pair;
        struct thread here[4], there[2], closing[2];
        bool by_set = round % 2 == 0, pieces = round % 3 == 0;
        open_pair_at(&pair, new_address(), NULL, NULL);
        begin(&here[0], by_set ? reads_pieces_by_set : reads, pair.client);
        begin(&here[1], pieces ? writes_in_pieces : writes, pair.client);
        begin(&here[2], asks, pair.client);
        begin(&here[3], asks, pair.client);
        begin(&there[0], reads, pair.peer);
        begin(&there[1], writes, pair.peer);
        moment(round);
        begin(&closing[0], closes, pair.client); /* two at once */
        begin(&closing[1], closes, round % 5 == 0 ? pair.peer : pair.client);
        for (size_t i = 0; i < COUNT(closing); i++)
            OK(end(&closing[i]));
        for (size_t i = 0; i < COUNT(here); i++)
            ends(&here[i]);
        for (size_t i = 0; i < COUNT(there); i++)
            ends(&there[i]);
        free_pair(&pair);
    }
    one_line("%d connections closed while two threads read, two write and two ask: %ld messages, none torn, 0 hung",
             rounds, atomic_load(&messages));
}

/* ------------------------------------------------------------------------------------------- servers */

static int serves(void *server) { return ipcio_serve(server, echo_handler, NULL); }

static int accepts(void *server)
{
    ipcio_conn *conn;
    int st;
    while ((st = ipcio_accept(server, LONG_MS, &conn)) == 0)
        ipcio_conn_free(conn);
    return st;
}

/* Connects and calls, until told to stop; servers come and go. */
static int calls(void *address)
{
    int st = 0;
    while (st == 0 && !atomic_load(&over)) {
        ipcio_conn *conn = NULL;
        const void *data;
        size_t size;
        st = ipcio_connect(address, NULL, 10, &conn);
        if (st == 0)
            st = ipcio_call(conn, "call", 4, LONG_MS, &data, &size);
        atomic_fetch_add(&messages, st == 0);
        ipcio_conn_free(conn);
        if (st == IPCIO_CLOSED || st == IPCIO_TIMEOUT)
            st = 0;
    }
    return st;
}

static int closes_server(void *server)
{
    ipcio_server_close(server);
    return 0;
}

static int stops_server(void *server)
{
    ipcio_server_stop(server);
    return 0;
}

static void test_servers_end_in_the_middle(void **state)
{
    int rounds = full ? 300 : 20;
    char address[512];
    struct thread clients[2];
    (void)state;
    atomic_store(&messages, 0);
    atomic_store(&over, false);
    snprintf(address, sizeof address, "%s", new_address());
    for (size_t i = 0; i < COUNT(clients); i++)
        begin(&clients[i], calls, address);
    for (int round = 0; round < rounds; round++) {
        struct thread serving, ending[2];
        ipcio_server *server;
        bool stop = round % 3 == 0, accept = round % 4 == 3;
        int st;
        OK(ipcio_listen(address, NULL, &server));
        begin(&serving, accept ? accepts : serves, server);
        moment(round);
        begin(&ending[0], stop ? stops_server : closes_server, server);
        begin(&ending[1], closes_server, server);
        for (size_t i = 0; i < COUNT(ending); i++)
            OK(end(&ending[i]));
        st = end(&serving);
        assert_true(accept ? st == IPCIO_INVALID || st == IPCIO_INTERRUPTED : st == IPCIO_OK || st == IPCIO_INVALID);
        ipcio_server_free(server);
    }
    atomic_store(&over, true);
    for (size_t i = 0; i < COUNT(clients); i++)
        OK(end(&clients[i]));
    one_line("%d servers closed and stopped by two threads while they serve: %ld calls answered, 0 hung", rounds,
             atomic_load(&messages));
}

/* ---------------------------------------------------------------------------------------------- fork */

/* In the child: whatever the parent's threads are in the middle of, handles are FORKED and can be freed. */
static int child(struct pair *pair, const char *address)
{
    struct pair own;
    const void *data;
    size_t size;
    bool forked_all;
    int descriptors;
    be_child();
    alarm(LONG_MS / 1000); /* a net */
    forked_all = ipcio_read(pair->client, -1, &data, &size) == IPCIO_FORKED &&
                 ipcio_write(pair->client, "x", 1, -1) == IPCIO_FORKED &&
                 ipcio_read(pair->peer, -1, &data, &size) == IPCIO_FORKED &&
                 ipcio_accept(pair->server, -1, &own.peer) == IPCIO_FORKED;
    free_pair(pair);
    descriptors = count_descriptors();
    open_pair_at(&own, address, NULL, NULL);
    WRITES(own.client, "of the child's own");
    READS(own.peer, "of the child's own");
    free_pair(&own);
    return forked_all && count_descriptors() == descriptors ? 0 : 1;
}

static void test_fork_in_the_middle(void **state)
{
    int forks = full ? 300 : 15;
    char address[512], childs[512];
    struct pair pair;
    struct thread threads[4], serving, clients[2];
    ipcio_server *echo;
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || HAS_FEATURE(address_sanitizer)
    skip(); /* its allocator has locks that no fork takes: a child waits for ever for a thread that it does not have */
#endif
    atomic_store(&messages, 0);
    atomic_store(&over, false);
    snprintf(address, sizeof address, "%s", new_address());
    snprintf(childs, sizeof childs, "%s", new_address());
    open_pair_at(&pair, new_address(), NULL, NULL);
    OK(ipcio_listen(address, NULL, &echo));
    begin(&serving, serves, echo);
    begin(&threads[0], reads, pair.client);
    begin(&threads[1], writes, pair.client);
    begin(&threads[2], reads, pair.peer);
    begin(&threads[3], writes_in_pieces, pair.peer);
    for (size_t i = 0; i < COUNT(clients); i++)
        begin(&clients[i], calls, address);
    for (int i = 0; i < forks; i++) {
        int status = -1;
        pid_t pid;
        moment(i);
        if ((pid = fork()) == 0)
            _exit(child(&pair, childs));
        assert_true(waitpid(pid, &status, 0) == pid);
        assert_int_equal(status, 0);
    }
    atomic_store(&over, true);
    for (size_t i = 0; i < COUNT(clients); i++)
        OK(end(&clients[i]));
    ipcio_server_stop(echo);
    OK(end(&serving));
    ipcio_conn_close(pair.client);
    for (size_t i = 0; i < COUNT(threads); i++)
        ends(&threads[i]);
    free_pair(&pair);
    ipcio_server_free(echo);
    one_line("%d forks while 7 threads read, write, connect and serve: %ld messages, none torn; each child freed all",
             forks, atomic_load(&messages));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {TEST(test_one_reads_one_writes_one_closes), TEST(test_servers_end_in_the_middle),
                                       TEST(test_fork_in_the_middle)};
    RUN_OVER_TRANSPORTS(argc, argv, NULL, tests);
}
