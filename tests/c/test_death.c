/* test_death.c - processes that are killed: the others learn of it at once, get what was sent before, and
 * nothing stays behind. */
#include "../faults/faults.h"

static unsigned char big[5 << 20];

/* "victim" ADDRESS HABIT: a server of one client, which is to be killed. */
static int victim_role(char **arguments)
{
    const char *habit = arguments[1];
    ipcio_server *server;
    ipcio_conn *conn;
    const void *data;
    size_t size;

    OK(ipcio_listen(arguments[0], NULL, &server));
    tell("listening");
    OK(ipcio_accept(server, LONG_MS, &conn));
    if (strcmp(habit, "has sent") == 0) {
        for (int i = 0; i < 10; i++)
            WRITES(conn, "message");
    } else if (strcmp(habit, "has sent and not read") == 0) {
        WRITES(conn, "message");
        wait_for("written to you");
    } else if (strcmp(habit, "is writing") == 0) {
        fill(big, sizeof big, 0);
        tell("now");
        (void)ipcio_write(conn, big, sizeof big, -1);
    } else if (strcmp(habit, "is reading") == 0) {
        tell("now");
        (void)ipcio_read(conn, -1, &data, &size);
    } else if (strcmp(habit, "has a forked child") == 0) {
        pid_t child = fork();
        if (child == 0) { /* it does nothing, and lives until the test closes our standard input */
            wait_for_end();
            _exit(0);
        }
        tell_number(child);
    }
    tell("now");
    wait_for_end();
    return 0;
}

static struct child *start_victim(const char *address, const char *habit, ipcio_conn **conn)
{
    struct child *victim = start("victim", address, habit, NULL);
    hear(victim, "listening");
    OK(ipcio_connect(address, NULL, LONG_MS, conn));
    return victim;
}

/* Kills, but does not reap: the survivor must not need that. */
static int64_t kill_at(const struct child *victim)
{
    kill(victim->pid, SIGKILL);
    return now_ms();
}

static void check_at_once(int64_t killed) { assert_true(now_ms() - killed < AT_ONCE_MS); }

static void closed_at_once(ipcio_conn *conn, int64_t killed)
{
    const void *data;
    size_t size;
    FAILS(CLOSED, ipcio_read(conn, LONG_MS, &data, &size));
    check_at_once(killed);
    FAILS(CLOSED, ipcio_write(conn, "x", 1, LONG_MS));
    FAILS(CLOSED, ipcio_call(conn, "x", 1, LONG_MS, &data, &size));
    FAILS(CLOSED, ipcio_read_start(conn, LONG_MS, &size));
    check_at_once(killed);
}

/* The server is killed while it "is idle", ...; `sleeping`: in a call that waits. */
static void killed_while(const char *what, bool sleeping)
{
    ipcio_conn *conn;
    struct child *victim = start_victim(new_address(), what, &conn);
    int64_t killed;
    hear(victim, "now");
    if (sleeping)
        until_asleep(victim->pid);
    killed = kill_at(victim);
    closed_at_once(conn, killed);
    reap(victim);
    ipcio_conn_free(conn);
}

static void test_killed_while_idle(void **state)
{
    (void)state;
    killed_while("is idle", false);
}

static void test_killed_while_it_reads(void **state)
{
    (void)state;
    killed_while("is reading", true);
}

/* The half of a message that has come is nobody's. */
static void test_killed_while_it_writes(void **state)
{
    (void)state;
    killed_while("is writing", true);
}

static void test_killed_while_we_read_its_message(void **state)
{
    ipcio_conn *conn;
    struct child *victim = start_victim(new_address(), "is writing", &conn);
    size_t size, got;
    int64_t killed;
    int st;
    (void)state;
    hear(victim, "now");
    OK(ipcio_read_start(conn, LONG_MS, &size));
    assert_int_equal(size, sizeof big);
    until_asleep(victim->pid);
    killed = kill_at(victim);
    while ((st = ipcio_read_buffer(conn, big, 10000, LONG_MS, &got)) == IPCIO_OK)
        assert_true(got > 0);
    FAILS(CLOSED, st);
    check_at_once(killed);
    reap(victim);
    ipcio_conn_free(conn);
}

static int reading(void *conn)
{
    const void *data;
    size_t size;
    return ipcio_read(conn, -1, &data, &size);
}

static int writing(void *conn) { return ipcio_write(conn, big, sizeof big, -1); }

static void wakes(int (*run)(void *))
{
    ipcio_conn *conn;
    struct child *victim = start_victim(new_address(), "is idle", &conn);
    struct thread thread;
    int64_t killed;
    hear(victim, "now");
    begin(&thread, run, conn);
    until_waiting(&thread);
    killed = kill_at(victim);
    assert_int_equal(end(&thread), IPCIO_CLOSED);
    check_at_once(killed);
    closed_at_once(conn, killed);
    reap(victim);
    ipcio_conn_free(conn);
}

static void test_killed_while_the_client_reads(void **state)
{
    (void)state;
    wakes(reading);
}

static void test_killed_while_the_client_writes(void **state)
{
    (void)state;
    wakes(writing);
}

static void test_what_was_sent_is_delivered(void **state)
{
    ipcio_conn *conn;
    struct child *victim = start_victim(new_address(), "has sent", &conn);
    (void)state;
    hear(victim, "now");
    kill9(victim);
    for (int i = 0; i < 10; i++)
        READS(conn, "message");
    closed_at_once(conn, now_ms());
    ipcio_conn_free(conn);
}

/* Unread input of the dead must not push out what it had sent. */
static void test_what_was_sent_is_delivered_though_it_had_not_read(void **state)
{
    ipcio_conn *conn;
    struct child *victim = start_victim(new_address(), "has sent and not read", &conn);
    (void)state;
    WRITES(conn, "never read");
    say(victim, "written to you");
    hear(victim, "now");
    kill9(victim);
    /* Without a system call a writer learns it some milliseconds later. */
    int64_t killed = now_ms();
    int st;
    do st = ipcio_write(conn, "too late", 8, LONG_MS);
    while (st == 0 && strcmp(transport, "shm") == 0 && now_ms() - killed < 1000);
    FAILS(CLOSED, st);
    READS(conn, "message");
    closed_at_once(conn, now_ms());
    ipcio_conn_free(conn);
}

/* A forked child keeps what it inherited, but neither the connection nor the name. */
static void test_forked_child_lives_on(void **state)
{
    const char *address = new_address();
    ipcio_conn *conn;
    struct child *victim = start_victim(address, "has a forked child", &conn);
    pid_t forked = (pid_t)hear_number(victim);
    ipcio_server *server;
    int64_t killed;
    (void)state;
    hear(victim, "now");
    killed = kill_at(victim);
    closed_at_once(conn, killed);
    until_asleep(forked); /* it does live */
    while (waitid(P_PID, (id_t)victim->pid, &(siginfo_t){0}, WEXITED | WNOWAIT) != 0) {
    }
    OK(ipcio_listen(address, NULL, &server));
    ipcio_server_free(server);
    assert_int_equal(kill(forked, 0), 0);
    reap(victim);
    ipcio_conn_free(conn);
}

/* The name is free as soon as the process is gone; nobody has to clean up. */
static void test_name_is_free_at_once(void **state)
{
    const char *address = new_address();
    ipcio_server *server;
    ipcio_conn *conn = NULL;
    (void)state;
    for (int i = 0; i < 20; i++) {
        kill9(start_echo(address));
        if (i % 2 == 0) {
            FAILS(MISSING, ipcio_connect(address, NULL, 0, &conn));
        } else {
            OK(ipcio_listen(address, NULL, &server));
            ipcio_server_free(server);
        }
    }
}

static void test_leftovers_are_swept(void **state)
{
    const char *ipc = getenv("IPCIO_DIR"), *paths[3];
    ipcio_server *server;
    (void)state;
    assert_int_equal(count_entries(ipc), 0);
    for (int i = 0; i < 5; i++)
        kill9(start_echo(new_address()));
    OK(ipcio_listen(new_address(), NULL, &server)); /* another name altogether */
    ipcio_server_free(server);
    assert_int_equal(count_entries(ipc), 0);

    for (int i = 0; i < 3; i++) { /* what lies there besides is not touched */
        paths[i] = text_of("%s/%s", ipc, i == 0 ? "notes" : i == 1 ? "x.sock" : ".lock");
        close(open(paths[i], O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    }
    OK(ipcio_listen(new_address(), NULL, &server));
    ipcio_server_free(server);
    assert_int_equal(access(paths[0], F_OK), 0);
    for (int i = 0; i < 3; i++)
        unlink(paths[i]);
}

/* "speaker" ADDRESS: a client that is to be killed; it says a word and waits. */
static int speaker_role(char **arguments)
{
    ipcio_conn *conn;
    const void *data;
    size_t size;
    OK(ipcio_connect(arguments[0], NULL, LONG_MS, &conn));
    OK(ipcio_call(conn, "word", 4, LONG_MS, &data, &size));
    tell("now");
    (void)ipcio_read(conn, -1, &data, &size);
    return 0;
}

static void test_killed_client(void **state)
{
    const char *address = new_address();
    struct child *client = start("speaker", address, NULL);
    ipcio_server *server;
    ipcio_conn *conn;
    int64_t killed;
    (void)state;
    OK(ipcio_listen(address, NULL, &server));
    OK(ipcio_accept(server, LONG_MS, &conn));
    READS(conn, "word");
    WRITES(conn, "answer");
    hear(client, "now");
    killed = kill_at(client);
    closed_at_once(conn, killed);
    reap(client);
    ipcio_conn_free(conn);
    ipcio_server_free(server);
}

static void test_serve_goes_on_without_killed_clients(void **state)
{
    const char *address = new_address();
    struct child *server = start_echo(address);
    ipcio_conn *conn;
    const void *data;
    size_t size;
    (void)state;
    OK(ipcio_connect(address, NULL, LONG_MS, &conn));
    for (int i = 0; i < 10; i++) {
        struct child *client = start("speaker", address, NULL);
        hear(client, "now");
        kill9(client);
        OK(ipcio_call(conn, "still", 5, LONG_MS, &data, &size));
    }
    ipcio_conn_free(conn);
    stop(server);
}

/* "faithful" ADDRESS COUNT: calls until the server has died COUNT times, and connects again each time. */
static int faithful_role(char **arguments)
{
    const void *data;
    size_t size;
    for (int i = 0; i < atoi(arguments[1]); i++) {
        ipcio_conn *conn;
        int st, calls = 0;
        OK(ipcio_connect(arguments[0], NULL, LONG_MS, &conn));
        while ((st = ipcio_call(conn, "word", 4, LONG_MS, &data, &size)) == IPCIO_OK) {
            CHECK(size == 4 && memcmp(data, "word", 4) == 0);
            if (calls++ == 0)
                tell("connected");
        }
        FAILS(CLOSED, st);
        ipcio_conn_free(conn);
        if (calls == 0) /* it was connected to a server that died before it answered */
            i--;
    }
    return 0;
}

static void test_killed_in_the_middle_of_calls(void **state)
{
    const char *address = new_address();
    struct child *client = start("faithful", address, "20", NULL);
    (void)state;
    for (int i = 0; i < 20; i++) {
        struct child *server = start_echo(address);
        hear(client, "connected");
        kill9(server);
    }
    finish(client);
}

int main(int argc, char **argv)
{
    static const struct role roles[] = {{"echo", echo_role},
                                        {"victim", victim_role},
                                        {"speaker", speaker_role},
                                        {"faithful", faithful_role},
                                        {NULL, NULL}};
    const struct CMUnitTest tests[] = {
        TEST(test_killed_while_idle),
        TEST(test_killed_while_it_reads),
        TEST(test_killed_while_it_writes),
        TEST(test_killed_while_we_read_its_message),
        TEST(test_killed_while_the_client_reads),
        TEST(test_killed_while_the_client_writes),
        TEST(test_what_was_sent_is_delivered),
        TEST(test_what_was_sent_is_delivered_though_it_had_not_read),
        TEST(test_forked_child_lives_on),
        TEST(test_name_is_free_at_once),
        TEST(test_leftovers_are_swept),
        TEST(test_killed_client),
        TEST(test_serve_goes_on_without_killed_clients),
        TEST(test_killed_in_the_middle_of_calls),
    };
    RUN_OVER_TRANSPORTS(argc, argv, roles, tests);
}
