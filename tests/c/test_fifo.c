/* test_fifo.c - the transport `fifo`, with the shell's echo and cat at the other end, and with ipcio. */
#include "helper.h"

#include <sys/resource.h>

#define FIFO(path) text_of("fifo://%s", (path))
#define READ(conn) ipcio_read((conn), LONG_MS, &(const void *){NULL}, &(size_t){0})
#define ENDS(conn) FAILS(CLOSED, READ(conn))

/* Starts a command of the shell. */
static pid_t shell(const char *command)
{
    char *arguments[] = {"sh", "-c", (char *)(uintptr_t)command, NULL};
    pid_t pid;
    CHECK(posix_spawn(&pid, "/bin/sh", NULL, NULL, arguments, environ) == 0);
    return pid;
}

/* Waits until it has ended well. */
static void shell_ended(pid_t pid)
{
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void run_shell(const char *command)
{
    shell_ended(shell(command));
}

/* The server's next connection. */
static ipcio_conn *accepted(ipcio_server *server)
{
    ipcio_conn *conn;
    OK(ipcio_accept(server, LONG_MS, &conn));
    return conn;
}

static int readable(int fd)
{
    return poll(&(struct pollfd){fd, POLLIN, 0}, 1, 0);
}

static int writable(int fd)
{
    struct pollfd p = {fd, POLLOUT, 0};
    return poll(&p, 1, 0) == 1 && p.revents & POLLOUT;
}

/* Each writer's end is told, and the server goes on. */
static void test_echo(void **state)
{
    const char *path = fresh_path();
    ipcio_server *server;
    struct stat st;
    (void)state;
    OK(ipcio_listen(FIFO(path), NULL, &server));
    assert_int_equal(lstat(path, &st), 0);
    assert_int_equal(st.st_mode, S_IFIFO | 0600);
    for (int i = 0; i < 3; i++) {
        run_shell(text_of("echo hello > %s", path));
        ipcio_conn *conn = accepted(server);
        READS(conn, "hello");
        ENDS(conn);
        ENDS(conn);
        ipcio_conn_free(conn);
    }
    pid_t writer = shell(text_of("{ echo one; echo; printf 'two\\r\\n'; printf cut; } > %s", path));
    ipcio_conn *conn = accepted(server);
    READS(conn, "one");
    READS(conn, "");
    READS(conn, "two");
    ENDS(conn); /* a line without its end is none */
    ipcio_conn_free(conn);
    shell_ended(writer);
    ipcio_server_free(server);
    assert_int_equal(lstat(path, &st), -1);
}

static void test_cat(void **state)
{
    const char *path = fresh_path();
    char text[64] = "";
    ipcio_conn *conn;
    (void)state;
    assert_int_equal(mkfifo(path, 0600), 0);
    FILE *cat = popen(text_of("cat %s", path), "re");
    OK(ipcio_connect(FIFO(path), NULL, LONG_MS, &conn));
    WRITES(conn, "one");
    WRITES(conn, "");
    WRITES(conn, "two");
    ipcio_conn_free(conn);
    size_t n = fread(text, 1, sizeof text, cat);
    assert_int_equal(pclose(cat), 0);
    assert_true(n == 9 && memcmp(text, "one\n\ntwo\n", 9) == 0);
    assert_int_equal(unlink(path), 0); /* it was not ipcio's to remove */
}

/* What others write into a FIFO of others; the writer may come later. */
static void test_read_as_client(void **state)
{
    const char *path = fresh_path();
    ipcio_conn *conn;
    struct stat st;
    (void)state;
    FAILS(MISSING, ipcio_connect(FIFO(path), "direction=read", 0, &conn));
    assert_non_null(strstr(ipcio_message(), ": there is no such FIFO"));
    FAILS(TIMEOUT, ipcio_connect(FIFO(path), "direction=read", 20, &conn));
    assert_non_null(strstr(ipcio_message(), ": there was no such FIFO within 0.02 s"));
    FAILS(TIMEOUT, ipcio_connect(FIFO(path), NULL, 20, &conn));
    assert_non_null(strstr(ipcio_message(), ": nobody had the FIFO open to read within 0.02 s"));
    assert_int_equal(mkfifo(path, 0640), 0);
    OK(ipcio_connect(FIFO(path), "direction=read", 0, &conn));
    FAILS(TIMEOUT, ipcio_read(conn, 0, &(const void *){NULL}, &(size_t){0}));
    FAILS(TIMEOUT, ipcio_read(conn, 20, &(const void *){NULL}, &(size_t){0}));
    int fd = ipcio_fileno(conn);
    assert_int_equal(readable(fd), 0);
    run_shell(text_of("echo late > %s", path));
    assert_int_equal(readable(fd), 1);
    READS(conn, "late");
    assert_int_equal(readable(fd), 1); /* the end */
    ENDS(conn);
    ipcio_conn_free(conn);
    assert_int_equal(lstat(path, &st), 0);
    assert_int_equal(st.st_mode, S_IFIFO | 0640);
    unlink(path);
}

/* A FIFO that lies there already is used, and stays as it was. */
static void test_foreign(void **state)
{
    const char *path = fresh_path();
    ipcio_server *server, *second;
    struct stat before, after;
    (void)state;
    assert_int_equal(mkfifo(path, 0640), 0);
    assert_int_equal(lstat(path, &before), 0);
    pid_t writer = shell(text_of("echo first > %s", path)); /* waits for a reader */
    for (int i = 0; i < 2; i++) {
        OK(ipcio_listen(FIFO(path), NULL, &server));
        FAILS(EXISTS, ipcio_listen(FIFO(path), NULL, &second));
        ipcio_conn *conn = accepted(server);
        if (i == 0) READS(conn, "first");
        else READS(conn, "second");
        ENDS(conn);
        ipcio_conn_free(conn);
        ipcio_server_free(server);
        shell_ended(writer);
        assert_int_equal(lstat(path, &after), 0);
        assert_true(before.st_ino == after.st_ino && before.st_mode == after.st_mode);
        assert_int_equal(access(text_of("%s.lock", path), F_OK), -1);
        if (i == 0) writer = shell(text_of("echo second > %s", path));
    }
    unlink(path);
}

/* What is no FIFO is neither replaced nor written to. */
static void test_no_fifo(void **state)
{
    const char *file = fresh_path(), *folder = fresh_path(), *socket_path = fresh_path();
    ipcio_server *server, *pipe_server;
    ipcio_conn *conn;
    struct stat st;
    (void)state;
    close(open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    assert_int_equal(mkdir(folder, 0700), 0);
    OK(ipcio_listen(at_path(socket_path), NULL, &pipe_server));
    const char *const paths[] = {file, folder, socket_path};
    for (size_t i = 0; i < COUNT(paths); i++) {
        FAILS(EXISTS, ipcio_listen(FIFO(paths[i]), NULL, &server));
        FAILS(INVALID, ipcio_connect(FIFO(paths[i]), NULL, LONG_MS, &conn));
        if (paths[i] != socket_path) FAILS(INVALID, ipcio_connect(FIFO(paths[i]), "direction=read", LONG_MS, &conn));
    }
    assert_int_equal(lstat(file, &st), 0);
    assert_int_equal(st.st_size, 0);
    ipcio_server_free(pipe_server);
    unlink(file);
    rmdir(folder);
}

static int listening(char **arguments)
{
    ipcio_server *server;
    OK(ipcio_listen(arguments[0], NULL, &server));
    tell("ready");
    wait_for_end();
    ipcio_server_free(server);
    return 0;
}

/* A dead server's FIFO: who waits to write to it is served by the next server, which removes it. */
static void test_server_killed(void **state)
{
    const char *path = fresh_path(), *name = text_of("fifo://%s", fresh_name());
    const char *const addresses[] = {FIFO(path), name};
    ipcio_server *server;
    ipcio_conn *client;
    (void)state;
    for (size_t i = 0; i < COUNT(addresses); i++) {
        struct child *child = start("listening", addresses[i], NULL);
        hear(child, "ready");
        OK(ipcio_connect(addresses[i], NULL, LONG_MS, &client));
        FAILS(EXISTS, ipcio_listen(addresses[i], NULL, &server));
        kill9(child);
        FAILS(CLOSED, ipcio_write(client, "x", 1, LONG_MS));
        ipcio_conn_free(client);
        FAILS(MISSING, ipcio_connect(addresses[i], NULL, 0, &client));
        pid_t writer = i == 0 ? shell(text_of("echo waited > %s", path)) : 0;
        if (writer) until_asleep(writer);
        OK(ipcio_listen(addresses[i], NULL, &server));
        if (writer) {
            ipcio_conn *conn = accepted(server);
            READS(conn, "waited");
            ENDS(conn);
            ipcio_conn_free(conn);
            shell_ended(writer);
        }
        ipcio_server_free(server);
    }
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(access(text_of("%s.lock", path), F_OK), -1);
    assert_int_equal(count_entries(getenv("IPCIO_DIR")), 0);
}

static int half_a_line(char **arguments)
{
    ipcio_conn *conn;
    OK(ipcio_connect(arguments[0], "framing=raw", LONG_MS, &conn));
    OK(ipcio_write(conn, "whole\nhal", 9, LONG_MS));
    tell("ready");
    wait_for_end();
    return 0;
}

/* Half a line of a dead writer is never a line, nor a part of the next writer's. */
static void test_writer_killed(void **state)
{
    const char *path = fresh_path();
    ipcio_server *server;
    (void)state;
    OK(ipcio_listen(FIFO(path), NULL, &server));
    struct child *child = start("half_a_line", FIFO(path), NULL);
    hear(child, "ready");
    ipcio_conn *conn = accepted(server);
    READS(conn, "whole");
    FAILS(TIMEOUT, ipcio_read(conn, 0, &(const void *){NULL}, &(size_t){0}));
    kill9(child);
    ENDS(conn);
    ipcio_conn_free(conn);
    run_shell(text_of("echo next > %s", path));
    conn = accepted(server);
    READS(conn, "next");
    ENDS(conn);
    ipcio_conn_free(conn);
    ipcio_server_free(server);
}

enum { WRITERS = 6, LINES = 200, LONGEST = 4095 }; /* with its line feed PIPE_BUF */

static int write_many(char **arguments)
{
    static char line[LONGEST];
    ipcio_conn *conn;
    OK(ipcio_connect(arguments[0], NULL, LONG_MS, &conn));
    memset(line, arguments[1][0], sizeof line);
    tell("ready");
    wait_for("go");
    for (size_t i = 0; i < LINES; i++) OK(ipcio_write(conn, line, i % 2 ? LONGEST : i + 1, LONG_MS));
    ipcio_conn_free(conn);
    return 0;
}

/* The lines of several writers at a time stay whole, and each writer's in order. */
static void test_many_writers(void **state)
{
    const char *path = fresh_path();
    struct child *writers[WRITERS];
    size_t seen[WRITERS] = {0};
    ipcio_server *server;
    const void *data;
    size_t size;
    int st;
    (void)state;
    OK(ipcio_listen(FIFO(path), NULL, &server));
    for (int i = 0; i < WRITERS; i++) {
        writers[i] = start("write_many", FIFO(path), text_of("%c", 'a' + i), NULL);
        hear(writers[i], "ready");
    }
    for (int i = 0; i < WRITERS; i++) say(writers[i], "go");
    ipcio_conn *conn = accepted(server);
    while ((st = ipcio_read(conn, LONG_MS, &data, &size)) == 0) {
        const char *line = data;
        assert_true(size > 0);
        size_t who = (size_t)(line[0] - 'a');
        assert_true(who < WRITERS && seen[who] < LINES);
        assert_int_equal(size, seen[who] % 2 ? LONGEST : seen[who] + 1);
        for (size_t i = 0; i < size; i++) assert_int_equal(line[i], line[0]);
        seen[who]++;
    }
    assert_int_equal(st, IPCIO_CLOSED);
    for (int i = 0; i < WRITERS; i++) {
        assert_int_equal(seen[i], LINES);
        finish(writers[i]);
    }
    ipcio_conn_free(conn);
    ipcio_server_free(server);
}

static int write_one(char **arguments)
{
    ipcio_conn *conn;
    tell("ready");
    OK(ipcio_connect(arguments[0], NULL, LONG_MS, &conn));
    WRITES(conn, "one");
    ipcio_conn_free(conn);
    return 0;
}

/* Whoever starts first waits: for the FIFO, for somebody who reads it. */
static void test_start_order(void **state)
{
    const char *path = fresh_path(), *name = text_of("fifo://%s", fresh_name());
    const char *const addresses[] = {FIFO(path), name};
    ipcio_server *server;
    ipcio_conn *conn;
    (void)state;
    for (size_t i = 0; i < COUNT(addresses); i++) {
        FAILS(MISSING, ipcio_connect(addresses[i], NULL, 0, &conn));
        FAILS(TIMEOUT, ipcio_connect(addresses[i], NULL, 10, &conn));
        struct child *child = start("write_one", addresses[i], NULL);
        hear(child, "ready");
        until_asleep(child->pid);
        OK(ipcio_listen(addresses[i], NULL, &server));
        conn = accepted(server);
        READS(conn, "one");
        ENDS(conn);
        ipcio_conn_free(conn);
        finish(child);
        ipcio_server_free(server);
    }
    assert_int_equal(mkfifo(path, 0600), 0);
    FAILS(MISSING, ipcio_connect(FIFO(path), NULL, 0, &conn));
    FAILS(TIMEOUT, ipcio_connect(FIFO(path), NULL, 10, &conn));
    struct child *child = start("write_one", FIFO(path), NULL);
    hear(child, "ready");
    until_asleep(child->pid);
    char text[8] = "";
    FILE *cat = popen(text_of("cat %s", path), "re");
    assert_int_equal(fread(text, 1, sizeof text, cat), 4);
    assert_string_equal(text, "one\n");
    assert_int_equal(pclose(cat), 0);
    finish(child);
    unlink(path);
}

/* The descriptors say what reading, accepting and writing would do, and nothing else. */
static void test_descriptors(void **state)
{
    const char *path = fresh_path();
    static char line[LONGEST];
    ipcio_server *server;
    ipcio_conn *client, *conn;
    int st, lines = 0;
    (void)state;
    memset(line, 'x', sizeof line);
    OK(ipcio_listen(FIFO(path), NULL, &server));
    int door = ipcio_fileno(server);
    assert_int_equal(readable(door), 0);
    for (int i = 0; i < 3; i++) { /* who came and wrote nothing is no client */
        run_shell(text_of(": > %s", path));
        FAILS(TIMEOUT, ipcio_accept(server, 0, &conn));
        assert_int_equal(readable(door), 0);
    }
    OK(ipcio_connect(FIFO(path), NULL, LONG_MS, &client));
    assert_int_equal(readable(door), 0);
    int out = ipcio_write_fileno(client), end_fd = ipcio_fileno(client);
    assert_true(writable(out));
    assert_int_equal(readable(end_fd), 0);
    while ((st = ipcio_write(client, line, sizeof line, 0)) == 0) lines++;
    assert_int_equal(st, IPCIO_TIMEOUT);
    assert_true(lines > 1 && !writable(out));
    FAILS(TIMEOUT, ipcio_write(client, line, sizeof line, 20));

    assert_int_equal(readable(door), 1);
    conn = accepted(server);
    assert_int_equal(readable(door), 0); /* one at a time */
    FAILS(TIMEOUT, ipcio_accept(server, 0, &(ipcio_conn *){NULL}));
    int in = ipcio_fileno(conn);
    for (; lines > 0; lines--) {
        assert_int_equal(readable(in), 1);
        OK(READ(conn));
    }
    assert_int_equal(readable(in), 0);
    assert_true(writable(out)); /* the line that did not fit left nothing behind, */
    WRITES(client, "last"); /* and the connection is usable */
    assert_int_equal(readable(in), 1);
    READS(conn, "last");
    assert_int_equal(readable(in), 0);

    ipcio_conn_free(client);
    assert_int_equal(readable(in), 1);
    ENDS(conn);
    assert_int_equal(readable(door), 0);
    OK(ipcio_connect(FIFO(path), NULL, LONG_MS, &client)); /* the end was read: the next one may come */
    WRITES(client, "next");
    assert_int_equal(readable(door), 1);
    ipcio_conn_free(conn);
    conn = accepted(server);
    READS(conn, "next");
    ipcio_server_free(server);
    assert_int_equal(readable(ipcio_fileno(client)), 0); /* the connection still reads */
    WRITES(client, "on");
    READS(conn, "on");
    ipcio_conn_free(conn);
    assert_int_equal(readable(ipcio_fileno(client)), 1); /* nobody reads any more */
    ipcio_conn_free(client);
}

/* What a connection has not read when it is closed, the next one reads. */
static void test_closed_early(void **state)
{
    const char *path = fresh_path();
    ipcio_server *server;
    ipcio_conn *client;
    (void)state;
    OK(ipcio_listen(FIFO(path), NULL, &server));
    OK(ipcio_connect(FIFO(path), NULL, LONG_MS, &client));
    WRITES(client, "first");
    ipcio_conn *conn = accepted(server);
    READS(conn, "first");
    WRITES(client, "second");
    ipcio_conn_free(conn);
    conn = accepted(server);
    READS(conn, "second");
    FAILS(TIMEOUT, ipcio_read(conn, 0, &(const void *){NULL}, &(size_t){0}));
    ipcio_conn_free(client);
    ENDS(conn);
    ipcio_conn_free(conn);
    ipcio_server_free(server);
}

/* A line of which a part is out, and that is given up, ends the connection. */
static void test_half_sent(void **state)
{
    const char *path = fresh_path();
    enum { LARGE = 1 << 20 };
    char *large = malloc(LARGE);
    ipcio_server *server;
    ipcio_conn *client;
    (void)state;
    memset(large, 'x', LARGE);
    OK(ipcio_listen(FIFO(path), NULL, &server));
    OK(ipcio_connect(FIFO(path), NULL, LONG_MS, &client));
    FAILS(TIMEOUT, ipcio_write(client, large, LARGE, 20));
    FAILS(CLOSED, ipcio_write(client, "x", 1, LONG_MS));
    ipcio_conn_free(client);
    ipcio_conn *conn = accepted(server);
    ENDS(conn);
    ipcio_conn_free(conn);
    ipcio_server_free(server);
    free(large);
}

static int read_in_thread(void *conn)
{
    return READ(conn);
}

static int write_in_thread(void *conn)
{
    static char large[1 << 20];
    return ipcio_write(conn, large, sizeof large, LONG_MS);
}

static int accept_in_thread(void *server)
{
    return ipcio_accept(server, LONG_MS, &(ipcio_conn *){NULL});
}

static int set_in_thread(void *set)
{
    return ipcio_set_wait(set, ipcio_deadline(LONG_MS / 1000.0), &(void *){NULL});
}

/* Closing wakes whoever waits. */
static void test_close_wakes(void **state)
{
    const char *path = fresh_path();
    ipcio_server *server;
    ipcio_conn *client, *conn;
    ipcio_set *set;
    struct thread thread;
    (void)state;
    OK(ipcio_listen(FIFO(path), "framing=raw", &server));
    for (int i = 0; i < 3; i++) {
        OK(ipcio_connect(FIFO(path), "framing=raw", LONG_MS, &client));
        WRITES(client, "x");
        conn = accepted(server);
        READS(conn, "x");
        OK(ipcio_set_new(&set));
        if (i == 2) OK(ipcio_set_add(set, conn, IPCIO_WANT_READ));
        begin(&thread, i == 0 ? read_in_thread : i == 1 ? write_in_thread : set_in_thread,
              i == 0 ? (void *)conn : i == 1 ? (void *)client : (void *)set);
        until_waiting(&thread);
        ipcio_conn_close(i == 1 ? client : conn);
        assert_int_equal(end(&thread), i == 2 ? 0 : IPCIO_INVALID);
        ipcio_set_free(set);
        if (i == 1) /* what the writer had sent */
            while (READ(conn) == 0) {
            }
        ipcio_conn_free(client);
        ipcio_conn_free(conn);
    }
    begin(&thread, accept_in_thread, server);
    until_waiting(&thread);
    ipcio_server_close(server);
    assert_int_equal(end(&thread), IPCIO_INVALID);
    ipcio_server_free(server);
}

/* That nobody reads any more is told without a signal, and a signal that waits already is not taken away. */
static void test_no_signal(void **state)
{
    const char *path = fresh_path();
    ipcio_server *server;
    ipcio_conn *client;
    sigset_t sigpipe, before, pending;
    (void)state;
    OK(ipcio_listen(FIFO(path), NULL, &server));
    OK(ipcio_connect(FIFO(path), NULL, LONG_MS, &client));
    ipcio_server_free(server);
    assert_ptr_equal(signal(SIGPIPE, SIG_DFL), SIG_DFL);
    FAILS(CLOSED, ipcio_write(client, "x", 1, LONG_MS));
    sigemptyset(&sigpipe);
    sigaddset(&sigpipe, SIGPIPE);
    assert_int_equal(pthread_sigmask(SIG_BLOCK, &sigpipe, &before), 0);
    FAILS(CLOSED, ipcio_write(client, "x", 1, LONG_MS));
    sigpending(&pending);
    assert_false(sigismember(&pending, SIGPIPE));
    raise(SIGPIPE);
    FAILS(CLOSED, ipcio_write(client, "x", 1, LONG_MS));
    assert_int_equal(sigtimedwait(&sigpipe, NULL, &(struct timespec){0}), SIGPIPE);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, &before, NULL), 0);
    ipcio_conn_free(client);
}

static void test_one_direction(void **state)
{
    const char *path = fresh_path();
    ipcio_server *server;
    ipcio_conn *client;
    ipcio_peer peer;
    (void)state;
    FAILS(INVALID, ipcio_listen(FIFO(path), "framing=message", &server));
    FAILS(INVALID, ipcio_connect(FIFO(path), "framing=message", LONG_MS, &client));
    FAILS(INVALID, ipcio_connect(FIFO(path), "direction=both", LONG_MS, &client));
    FAILS(UNSUPPORTED, ipcio_listen(FIFO(path), "direction=write", &server));
    OK(ipcio_listen(FIFO(path), "direction=read&framing=line", &server));
    OK(ipcio_connect(FIFO(path), "direction=write", LONG_MS, &client));
    FAILS(UNSUPPORTED, READ(client));
    FAILS(UNSUPPORTED, ipcio_read_start(client, LONG_MS, &(size_t){0}));
    FAILS(UNSUPPORTED, ipcio_call(client, "ask", 3, LONG_MS, &(const void *){NULL}, &(size_t){0}));
    FAILS(UNSUPPORTED, ipcio_send_file(client, 0, "x", 1, LONG_MS));
    FAILS(UNSUPPORTED, ipcio_conn_peer(client, &peer));
    FAILS(INVALID, ipcio_write(client, "a\nb", 3, LONG_MS));
    WRITES(client, "only");
    ipcio_conn *conn = accepted(server);
    FAILS(UNSUPPORTED, ipcio_write(conn, "x", 1, LONG_MS));
    FAILS(UNSUPPORTED, ipcio_call(conn, "x", 1, LONG_MS, &(const void *){NULL}, &(size_t){0}));
    FAILS(UNSUPPORTED, ipcio_write_fileno(conn));
    READS(conn, "only");
    ipcio_conn_free(client);
    ENDS(conn);
    ipcio_conn_free(conn);
    ipcio_server_free(server);
}

static void test_framings(void **state)
{
    const char *path = fresh_path();
    ipcio_server *server;
    ipcio_conn *client, *conn;
    char text[32] = "";
    (void)state;
    OK(ipcio_listen(FIFO(path), "framing=raw", &server));
    run_shell(text_of("printf 'a\\0b\\nc' > %s", path));
    conn = accepted(server);
    READS(conn, "a\0b\nc");
    ENDS(conn);
    ipcio_conn_free(conn);
    ipcio_server_free(server);

    OK(ipcio_listen(FIFO(path), "framing=raw&nul=1&text=utf-16le&limit=100", &server));
    OK(ipcio_connect(FIFO(path), NULL, LONG_MS, &client));
    FAILS(TOOBIG, ipcio_write(client, text_of("%101d", 1), 101, LONG_MS));
    ipcio_conn_free(client);
    run_shell(text_of("printf 'h\\0\\303\\0\\0\\0!\\0\\0\\0' > %s", path));
    conn = accepted(server);
    READS(conn, "h\xc3\x83");
    READS(conn, "!");
    ENDS(conn);
    ipcio_conn_free(conn);
    ipcio_server_free(server);

    assert_int_equal(mkfifo(path, 0600), 0);
    FILE *cat = popen(text_of("cat %s", path), "re");
    OK(ipcio_connect(FIFO(path), "framing=raw", LONG_MS, &client));
    WRITES(client, "a\nb");
    WRITES(client, "");
    WRITES(client, "c\0");
    ipcio_conn_free(client);
    assert_int_equal(fread(text, 1, sizeof text, cat), 5);
    assert_memory_equal(text, "a\nbc\0", 5);
    assert_int_equal(pclose(cat), 0);
    unlink(path);
}

static int heard;

static int hear_line(void *server, ipcio_conn *conn, const void *request, size_t size)
{
    (void)conn, (void)request;
    heard++;
    if (size == 4) ipcio_server_stop(server);
    return 0;
}

static void test_serve(void **state)
{
    const char *path = fresh_path();
    ipcio_server *server;
    (void)state;
    heard = 0;
    OK(ipcio_listen(FIFO(path), NULL, &server));
    pid_t writers =
        shell(text_of("for i in 1 2 3 4 5 6 7 8 9 10; do echo $i$i$i > %s; done; echo last > %s", path, path));
    OK(ipcio_serve(server, hear_line, server));
    assert_int_equal(heard, 11);
    shell_ended(writers);
    ipcio_server_free(server);
}

/* A forked child that lives on keeps neither the reader from seeing the end nor the name. */
static void test_fork(void **state)
{
    const char *path = fresh_path();
    ipcio_server *server;
    ipcio_conn *client, *conn;
    int life[2];
    (void)state;
    OK(ipcio_listen(FIFO(path), NULL, &server));
    OK(ipcio_connect(FIFO(path), NULL, LONG_MS, &client));
    WRITES(client, "x");
    conn = accepted(server);
    READS(conn, "x");
    assert_int_equal(pipe2(life, O_CLOEXEC), 0);
    pid_t child = fork();
    if (child == 0) {
        char c;
        close(life[1]);
        int st = ipcio_write(client, "x", 1, 0) == IPCIO_FORKED && READ(conn) == IPCIO_FORKED &&
                 ipcio_accept(server, 0, &(ipcio_conn *){NULL}) == IPCIO_FORKED;
        ipcio_conn_free(client);
        ipcio_conn_free(conn);
        ipcio_server_free(server);
        (void)!read(life[0], &c, 1);
        _exit(st ? 0 : 1);
    }
    close(life[0]);
    WRITES(client, "y");
    READS(conn, "y");
    ipcio_conn_free(client);
    ENDS(conn);
    ipcio_conn_free(conn);
    ipcio_server_free(server);
    assert_int_equal(access(path, F_OK), -1);
    close(life[1]);
    shell_ended(child);
}

/* Who waits is told that the FIFO has lost its name, as often as he asks; one that takes its place is heard. */
static void test_removed_while_waiting(void **state)
{
    const char *path = fresh_path(), *other = fresh_path();
    ipcio_server *server;
    struct thread thread;
    (void)state;
    OK(ipcio_listen(FIFO(path), NULL, &server));
    for (int i = 0; i < 2; i++) {
        begin(&thread, accept_in_thread, server);
        until_waiting(&thread);
        run_shell(text_of("rm %s", path));
        assert_int_equal(end(&thread), IPCIO_ORPHANED);
        FAILS(ORPHANED, ipcio_accept(server, LONG_MS, &(ipcio_conn *){NULL}));
        run_shell(text_of("mkfifo %s; echo another > %s &", path, path));
        ipcio_conn *conn = accepted(server);
        READS(conn, "another");
        ENDS(conn);
        ipcio_conn_free(conn);
    }
    run_shell(text_of("mkfifo %s; mv %s %s; echo moved > %s &", other, other, path, path));
    ipcio_conn *conn = accepted(server);
    READS(conn, "moved");
    run_shell(text_of("rm %s", path)); /* while there is a client */
    ENDS(conn);
    ipcio_conn_free(conn);
    FAILS(ORPHANED, ipcio_accept(server, LONG_MS, &conn));
    ipcio_server_free(server);
}

static void test_removed(void **state)
{
    const char *path = fresh_path();
    ipcio_server *server;
    ipcio_conn *client, *conn;
    (void)state;
    OK(ipcio_listen(FIFO(path), NULL, &server));
    OK(ipcio_connect(FIFO(path), NULL, LONG_MS, &client));
    assert_int_equal(unlink(path), 0);
    WRITES(client, "x");
    FAILS(ORPHANED, ipcio_accept(server, LONG_MS, &conn));
    assert_int_equal(mkfifo(path, 0640), 0); /* another's: it is used, and stays */
    conn = accepted(server);
    READS(conn, "x");
    ipcio_conn_free(client);
    ENDS(conn);
    ipcio_conn_free(conn);
    run_shell(text_of("echo new > %s", path));
    conn = accepted(server);
    READS(conn, "new");
    ipcio_conn_free(conn);
    ipcio_server_free(server);
    assert_int_equal(unlink(path), 0);
}

/* The process's descriptors, of which `more` than are open now are allowed. */
static void allow(rlim_t more)
{
    struct rlimit now;
    getrlimit(RLIMIT_NOFILE, &now);
    int next = dup(0);
    close(next);
    now.rlim_cur = more == RLIM_INFINITY ? now.rlim_max : (rlim_t)next + more;
    CHECK(setrlimit(RLIMIT_NOFILE, &now) == 0);
}

/* Without descriptors nothing is lost, neither the name nor the bytes, and what was opened in vain is closed. */
static void test_no_descriptors(void **state)
{
    const char *path = fresh_path();
    ipcio_server *server = NULL;
    ipcio_conn *client = NULL, *conn = NULL;
    int st, failed_calls = 0;
    (void)state;
    for (rlim_t more = 0; server == NULL; more++) {
        allow(more);
        st = ipcio_listen(FIFO(path), NULL, &server);
        allow(RLIM_INFINITY);
        if (st != 0) assert_true(st == IPCIO_SYSTEM && access(path, F_OK) != 0 && ++failed_calls);
    }
    for (rlim_t more = 0; client == NULL; more++) {
        allow(more);
        st = ipcio_connect(FIFO(path), NULL, LONG_MS, &client);
        allow(RLIM_INFINITY);
        if (st != 0) assert_true(st == IPCIO_SYSTEM && ++failed_calls);
    }
    WRITES(client, "kept");
    ipcio_conn_free(client);
    for (rlim_t more = 0; conn == NULL; more++) {
        int before = count_descriptors();
        allow(more);
        st = ipcio_accept(server, LONG_MS, &conn);
        allow(RLIM_INFINITY);
        if (st != 0) assert_true(st == IPCIO_SYSTEM && count_descriptors() == before && ++failed_calls);
    }
    assert_true(failed_calls >= 3 + 4 + 3);
    READS(conn, "kept");
    ENDS(conn);
    ipcio_conn_free(conn);
    run_shell(text_of("echo next > %s", path));
    conn = accepted(server);
    READS(conn, "next");
    ipcio_conn_free(conn);
    ipcio_server_free(server);
    assert_int_equal(access(path, F_OK), -1);
}

int main(int argc, char **argv)
{
    static const struct role roles[] = {{"listening", listening},   {"half_a_line", half_a_line},
                                        {"write_many", write_many}, {"write_one", write_one},
                                        {NULL, NULL}};
    const struct CMUnitTest tests[] = {
        TEST(test_echo),          TEST(test_cat),           TEST(test_read_as_client), TEST(test_foreign),
        TEST(test_no_fifo),       TEST(test_server_killed), TEST(test_writer_killed),  TEST(test_many_writers),
        TEST(test_start_order),   TEST(test_descriptors),   TEST(test_closed_early),   TEST(test_half_sent),
        TEST(test_close_wakes),   TEST(test_no_signal),     TEST(test_one_direction),  TEST(test_framings),
        TEST(test_serve),         TEST(test_fork),          TEST(test_removed),
        TEST(test_removed_while_waiting),
        TEST(test_no_descriptors)};
    RUN(argc, argv, roles, tests);
}
