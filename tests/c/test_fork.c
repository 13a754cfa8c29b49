/* test_fork.c - handles in a forked child answer FORKED and never disturb the parent's; nothing passes exec. */
#include "../faults/faults.h"

struct everything {
    struct pair pair;
    ipcio_server *server;
    ipcio_set *set;
    ipcio_conn *connecting;
    int autoit;
};

/* The number of calls that did not answer FORKED. */
static int not_forked(struct everything *all)
{
    ipcio_conn *conn = all->pair.client, *other;
    int wrong = 0;
    ipcio_peer peer;
    char piece[8];
    const void *data;
    size_t size;
    void *which;

#define FORKED(call)                                                                                           \
    do {                                                                                                       \
        int st_ = (call);                                                                                      \
        if (st_ != IPCIO_FORKED) {                                                                             \
            fprintf(stderr, "%s: %d %s\n", #call, st_, ipcio_code(st_));                                       \
            wrong++;                                                                                           \
        }                                                                                                      \
    } while (0)
    FORKED(ipcio_read(conn, -1, &data, &size));
    FORKED(ipcio_write(conn, "x", 1, -1));
    FORKED(ipcio_call(conn, "x", 1, -1, &data, &size));
    FORKED(ipcio_read_start(conn, -1, &size));
    FORKED(ipcio_read_buffer(conn, piece, 1, -1, &size));
    FORKED(ipcio_read_end(conn, -1));
    FORKED(ipcio_write_start(conn, 1, -1));
    FORKED(ipcio_write_buffer(conn, "x", 1, -1));
    FORKED(ipcio_write_end(conn, -1));
    FORKED(ipcio_conn_peer(conn, &peer));
    FORKED(ipcio_fileno(conn));
    FORKED(ipcio_write_fileno(conn));
    FORKED(ipcio_wait(conn, IPCIO_WANT_READ, ipcio_deadline(-1)));
    FORKED(ipcio_accept(all->server, -1, &other));
    FORKED(ipcio_serve(all->server, echo_handler, NULL));
    FORKED(ipcio_fileno(all->server));
    FORKED(ipcio_set_wait(all->set, ipcio_deadline(-1), &which));
    FORKED(ipcio_set_add(all->set, conn, IPCIO_WANT_READ));
    FORKED(ipcio_connect("pipe://x", NULL, IPCIO_TRY, &all->connecting));
    FORKED(ipcio_StartConnection(all->autoit));
#undef FORKED
    if (strstr(ipcio_message(), "fork") == NULL)
        wrong++;
    return wrong;
}

static void open_everything(struct everything *all)
{
    open_pair_at(&all->pair, new_address(), NULL, NULL);
    OK(ipcio_listen(new_address(), NULL, &all->server));
    OK(ipcio_set_new(&all->set));
    OK(ipcio_set_add(all->set, all->pair.client, IPCIO_WANT_READ));
    all->connecting = NULL;
    CHECK(ipcio_connect(new_address(), NULL, IPCIO_TRY, &all->connecting) > 0);
    CHECK(ipcio_fileno(all->pair.peer) >= 0);
    CHECK(ipcio_write_fileno(all->pair.peer) >= 0);
    all->autoit = ipcio_InitConnection(ipcio_cNamedPipe, fresh_name(), 1, NULL, NULL, 65536);
    CHECK(all->autoit > 0);
}

static void free_everything(struct everything *all)
{
    free_pair(&all->pair);
    ipcio_server_free(all->server);
    ipcio_set_free(all->set);
    ipcio_conn_free(all->connecting);
    (void)ipcio_EndConnection(all->autoit);
}

/* A child's result is its exit code; it must not go back into cmocka. */
static int child_result(pid_t pid)
{
    int status = -1;
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void works(struct everything *all)
{
    ipcio_server *second;
    WRITES(all->pair.client, "hello");
    READS(all->pair.peer, "hello");
    WRITES(all->pair.peer, "back");
    READS(all->pair.client, "back");
    FAILS(EXISTS, ipcio_listen(ipcio_server_address(all->server), NULL, &second));
}

static void test_handles_answer_forked(void **state)
{
    struct everything all;
    pid_t pid;
    (void)state;
    open_everything(&all);
    if ((pid = fork()) == 0)
        _exit(not_forked(&all));
    assert_int_equal(child_result(pid), 0);
    works(&all);
    free_everything(&all);
}

static void test_child_closes_and_frees(void **state)
{
    struct everything all;
    pid_t pid;
    (void)state;
    open_everything(&all);
    WRITES(all.pair.client, "sent before");
    if ((pid = fork()) == 0) {
        ipcio_conn_close(all.pair.client);
        ipcio_server_close(all.server);
        ipcio_server_stop(all.server);
        free_everything(&all);
        _exit(0);
    }
    assert_int_equal(child_result(pid), 0);
    READS(all.pair.peer, "sent before");
    works(&all);
    free_everything(&all);
}

static void test_child_has_no_descriptors(void **state)
{
    struct everything all;
    int before = count_descriptors();
    pid_t pid;
    (void)state;
    open_everything(&all);
    if ((pid = fork()) == 0)
        _exit(count_descriptors() > before);
    assert_int_equal(child_result(pid), 0);
    free_everything(&all);
}

/* What the child opens itself is its own, with a forked child in turn. */
static void test_child_has_its_own(void **state)
{
    struct everything all;
    pid_t pid;
    (void)state;
    open_everything(&all);
    if ((pid = fork()) == 0) {
        struct everything own;
        in_role = 1;
        open_everything(&own);
        works(&own);
        if ((pid = fork()) == 0)
            _exit(not_forked(&own) + not_forked(&all));
        CHECK(child_result(pid) == 0);
        works(&own);
        free_everything(&own);
        free_everything(&all);
        _exit(0);
    }
    assert_int_equal(child_result(pid), 0);
    works(&all);
    free_everything(&all);
}

static int reading(void *conn)
{
    const void *data;
    size_t size;
    int st = ipcio_read(conn, LONG_MS, &data, &size);
    return st == 0 ? (int)size : st;
}

/* A thread that waits at the fork does not exist in the child, and stops nothing there. */
static void test_fork_while_a_thread_waits(void **state)
{
    struct everything all;
    struct thread thread;
    pid_t pid;
    (void)state;
    open_everything(&all);
    begin(&thread, reading, all.pair.peer);
    until_waiting(&thread);
    if ((pid = fork()) == 0) {
        int wrong;
        alarm(20);
        wrong = not_forked(&all);
        free_everything(&all);
        _exit(wrong);
    }
    assert_int_equal(child_result(pid), 0);
    WRITES(all.pair.client, "hello");
    assert_int_equal(end(&thread), 5);
    works(&all);
    free_everything(&all);
}

/* The parent's close reaches its peers though the child lives. */
static void test_parent_closes_before_its_child_ends(void **state)
{
    struct everything all;
    const void *data;
    size_t size;
    int hold[2];
    pid_t pid;
    ipcio_server *again;
    char *address;
    (void)state;
    assert_int_equal(pipe2(hold, O_CLOEXEC), 0);
    open_everything(&all);
    if ((pid = fork()) == 0) {
        char c;
        close(hold[1]);
        _exit(read(hold[0], &c, 1) != 0);
    }
    ipcio_conn_close(all.pair.client);
    FAILS(CLOSED, ipcio_read(all.pair.peer, LONG_MS, &data, &size));
    address = strdup(ipcio_server_address(all.server));
    ipcio_server_close(all.server);
    OK(ipcio_listen(address, NULL, &again));
    ipcio_server_free(again);
    free(address);
    close(hold[1]);
    assert_int_equal(child_result(pid), 0);
    close(hold[0]);
    free_everything(&all);
}

static int descriptors_role(char **arguments)
{
    (void)arguments;
    tell_number(count_descriptors());
    return 0;
}

static void test_nothing_passes_exec(void **state)
{
    struct everything all;
    struct child *child = start("descriptors", NULL);
    long before = hear_number(child);
    (void)state;
    finish(child);
    open_everything(&all);
    child = start("descriptors", NULL);
    assert_int_equal(hear_number(child), before);
    finish(child);
    free_everything(&all);
}

int main(int argc, char **argv)
{
    static const struct role roles[] = {{"descriptors", descriptors_role}, {NULL, NULL}};
    const struct CMUnitTest tests[] = {
        TEST(test_handles_answer_forked),
        TEST(test_child_closes_and_frees),
        TEST(test_child_has_no_descriptors),
        TEST(test_child_has_its_own),
        TEST(test_fork_while_a_thread_waits),
        TEST(test_parent_closes_before_its_child_ends),
        TEST(test_nothing_passes_exec),
    };
    RUN_OVER_TRANSPORTS(argc, argv, roles, tests);
}
