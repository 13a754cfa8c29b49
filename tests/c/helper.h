/* helper.h - what the C tests share: unique names, a private directory, second processes, threads.
 *
 * A test that needs another process starts its own program again in a role: start("echo", address, NULL).
 * The two talk in lines: the role's standard output is read with hear(), its standard input is written with
 * say().  A role says "ready" when the test may go on, so no test sleeps to be in step.
 *
 * Each test is checked for descriptors it left open, and each program runs in an IPCIO_DIR of its own.
 * `test_x PATTERN` runs the tests whose names match. */
#ifndef TESTS_HELPER_H
#define TESTS_HELPER_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "ipcio.h"

#if defined(__has_feature)
#define HAS_FEATURE(x) __has_feature(x)
#else
#define HAS_FEATURE(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || HAS_FEATURE(address_sanitizer) ||         \
    HAS_FEATURE(thread_sanitizer)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif
#if defined(__SANITIZE_THREAD__) || HAS_FEATURE(thread_sanitizer)
#define THREAD_SANITIZED 1
#else
#define THREAD_SANITIZED 0
#endif

#define LONG_MS 30000   /* nothing that works takes so long */
#define AT_ONCE_MS 2000 /* "at once", on a machine that is busy with other tests */
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* ------------------------------------------------------------------------------------------- checks
 * They work in tests and in roles, but not in a second thread: cmocka leaves a test by longjmp. */

static int in_role;

static inline void failed(const char *file, int line, const char *text)
{
    if (in_role) {
        fprintf(stderr, "%s:%d: in a role: %s\n", file, line, text);
        _exit(99);
    }
    print_error("%s\n", text);
    _fail(file, line);
}

static inline void check_status(int got, int want, const char *call, const char *file, int line)
{
    char text[2048];
    if (got == want)
        return;
    snprintf(text, sizeof text, "%s: got %d %s, expected %d %s; message: %s", call, got, ipcio_code(got), want,
             ipcio_code(want), ipcio_message());
    failed(file, line, text);
}

#define OK(call) check_status((call), IPCIO_OK, #call, __FILE__, __LINE__)
#define FAILS(name, call) check_status((call), IPCIO_##name, #call, __FILE__, __LINE__)
#define CHECK(condition) ((condition) ? (void)0 : failed(__FILE__, __LINE__, "not true: " #condition))

static inline int64_t now_ms(void) { return ipcio_now() / 1000000; }

/* A message that is easy to make and to check, of every byte value; the prime period shows pieces that
 * were exchanged. */
static inline void fill(unsigned char *data, size_t size, size_t seed)
{
    for (size_t i = 0; i < size; i++)
        data[i] = (unsigned char)((i + seed) % 257);
}

static inline int is_filled(const void *data, size_t size, size_t seed)
{
    for (size_t i = 0; i < size; i++)
        if (((const unsigned char *)data)[i] != (unsigned char)((i + seed) % 257))
            return 0;
    return 1;
}

/* Reads the next message and checks it. */
static inline void check_read(ipcio_conn *conn, const void *want, size_t want_size, const char *file, int line)
{
    const void *data;
    size_t size;
    check_status(ipcio_read(conn, LONG_MS, &data, &size), IPCIO_OK, "ipcio_read", file, line);
    if (size != want_size || memcmp(data, want, size) != 0)
        failed(file, line, "another message was expected");
}
#define READS(conn, text) check_read((conn), "" text, sizeof(text) - 1, __FILE__, __LINE__)
#define WRITES(conn, text) OK(ipcio_write((conn), "" text, sizeof(text) - 1, LONG_MS))

/* ------------------------------------------------------------------------------- names, directories */

static char directory[64]; /* this program's own; $IPCIO_DIR is "ipc" in it */

/* A formatted text; valid until 64 more were made. */
__attribute__((format(printf, 1, 2))) static inline char *text_of(const char *format, ...)
{
    static char buffers[64][512];
    static unsigned next;
    char *text = buffers[next++ % COUNT(buffers)];
    va_list list;
    int n;
    va_start(list, format);
    n = vsnprintf(text, sizeof buffers[0], format, list);
    va_end(list);
    CHECK(n < (int)sizeof buffers[0]);
    return text;
}

/* A name, an address, a path in the program's directory that nobody has. */
static inline const char *fresh_name(void)
{
    static unsigned count;
    return text_of("test-%d-%u", (int)getpid(), ++count);
}

static inline const char *fresh(void) { return text_of("pipe://%s", fresh_name()); }
static inline const char *fresh_path(void) { return text_of("%s/%s", directory, fresh_name()); }
static inline const char *at_path(const char *path) { return text_of("pipe://%s", path); }

static inline int count_entries(const char *path)
{
    int count = 0;
    DIR *dir = opendir(path);
    CHECK(dir != NULL);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(dir);
    return count;
}

static inline int count_descriptors(void) { return count_entries("/proc/self/fd") - 1; }

static inline int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

/* ----------------------------------------------------------------------------------- other processes */

struct child {
    pid_t pid;
    int in, out; /* its standard input and output */
};
static struct child children[128]; /* pid 0: free */

struct role {
    const char *name;
    int (*run)(char **arguments);
};

extern char **environ;

/* Starts this program again in a role; the arguments end with NULL. */
static inline struct child *start(const char *role, ...)
{
    char *arguments[16] = {"", "--role", (char *)(uintptr_t)role};
    struct child *child = children;
    posix_spawn_file_actions_t actions;
    int in[2], out[2], n = 3;
    va_list list;

    va_start(list, role);
    while (n < 15 && (arguments[n] = va_arg(list, char *)) != NULL)
        n++;
    va_end(list);
    while (child->pid != 0)
        child++;
    CHECK(child < children + COUNT(children));
    CHECK(pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in[0], 0);
    posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    CHECK(posix_spawn(&child->pid, "/proc/self/exe", &actions, NULL, arguments, environ) == 0);
    posix_spawn_file_actions_destroy(&actions);
    close(in[0]);
    close(out[1]);
    child->in = in[1];
    child->out = out[0];
    return child;
}

/* One line without its end; 0 when there is none any more. */
static inline int read_line(int fd, char *line, size_t size)
{
    size_t n = 0;
    for (;;) {
        struct pollfd poll_fd = {fd, POLLIN, 0};
        CHECK(poll(&poll_fd, 1, LONG_MS) == 1);
        if (read(fd, line + n, 1) != 1)
            return 0;
        if (line[n] == '\n')
            break;
        CHECK(++n < size);
    }
    line[n] = '\0';
    return 1;
}

static inline void write_line(int fd, const char *line)
{
    const char *text = text_of("%s\n", line);
    CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
}

/* In the test: the next line from the child, which must be this one. */
static inline void hear(struct child *child, const char *line)
{
    char text[256] = "(it ended)";
    (void)read_line(child->out, text, sizeof text);
    if (strcmp(text, line) != 0)
        print_error("the role said \"%s\", not \"%s\"\n", text, line);
    CHECK(strcmp(text, line) == 0);
}

static inline long hear_number(struct child *child)
{
    char text[256];
    CHECK(read_line(child->out, text, sizeof text));
    return atol(text);
}

static inline void say(struct child *child, const char *line) { write_line(child->in, line); }

/* In a role: the other ends of hear and say. */
static inline void tell(const char *line) { write_line(1, line); }

static inline void tell_number(long number)
{
    tell(text_of("%ld", number));
}

static inline void wait_for(const char *line)
{
    char text[256] = "(end)";
    (void)read_line(0, text, sizeof text);
    CHECK(strcmp(text, line) == 0);
}

/* Until the test has closed our standard input; it does so too when it dies. */
static inline void wait_for_end(void)
{
    char c;
    while (read(0, &c, 1) > 0) {
    }
}

/* Waits for the child's end and gives its wait status. */
static inline int reap(struct child *child)
{
    int status = -1;
    close(child->in);
    close(child->out);
    while (waitpid(child->pid, &status, 0) < 0 && errno == EINTR) {
    }
    child->pid = 0;
    return status;
}

/* The role ends by itself, and well. */
static inline void finish(struct child *child)
{
    int status = reap(child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* Ends a server that serves until then; it has freed everything.  gcc's thread sanitizer holds a signal that comes just
 * before ppoll back until that returns, so there it is sent until it was noticed. */
static inline void stop(struct child *child)
{
    siginfo_t ended = {0};
    do {
        kill(child->pid, SIGTERM);
        for (int ms = 0; THREAD_SANITIZED && ms < 1000 && ended.si_pid == 0; ms++) {
            CHECK(waitid(P_PID, (id_t)child->pid, &ended, WEXITED | WNOWAIT | WNOHANG) == 0);
            poll(NULL, 0, 1);
        }
    } while (THREAD_SANITIZED && ended.si_pid == 0);
    finish(child);
}

static inline void kill9(struct child *child)
{
    kill(child->pid, SIGKILL);
    reap(child);
}

static ipcio_server *echo_server;

static inline void on_term(int signal)
{
    (void)signal;
    ipcio_server_stop(echo_server);
}

static inline int echo_handler(void *context, ipcio_conn *conn, const void *request, size_t size)
{
    (void)context;
    return ipcio_write(conn, request, size, LONG_MS);
}

/* In a role: answers until stop().  Tells the test first that it is `ready`; NULL: its address. */
static inline int serve_until_stop(const char *address, const char *options, ipcio_handler *handler, const char *ready)
{
    struct sigaction action = {.sa_handler = on_term};
    OK(ipcio_listen(address, options, &echo_server));
    sigaction(SIGTERM, &action, NULL);
    tell(ready != NULL ? ready : ipcio_server_address(echo_server));
    OK(ipcio_serve(echo_server, handler, NULL));
    signal(SIGTERM, SIG_IGN);
    ipcio_server_free(echo_server);
    return 0;
}

/* The role "echo" ADDRESS [OPTIONS]: a server that answers each message with itself. */
static inline int echo_role(char **arguments)
{
    return serve_until_stop(arguments[0], arguments[1], echo_handler, "ready");
}

static inline struct child *start_echo(const char *address)
{
    struct child *child = start("echo", address, NULL);
    hear(child, "ready");
    return child;
}

/* What the system says a role or thread does: 'S' it sleeps, 'Z' it has ended. */
static inline char state_of(pid_t tid)
{
    char path[64], text[512], *state;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)tid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    CHECK(n > 0);
    text[n] = '\0';
    state = strrchr(text, ')');
    CHECK(state != NULL);
    return state[2];
}

/* Nothing else tells that it has come as far as its wait. */
static inline void until_asleep(pid_t tid)
{
    int64_t end = now_ms() + LONG_MS;
    while (state_of(tid) != 'S') {
        CHECK(now_ms() < end);
        sched_yield();
    }
}

/* --------------------------------------------------------------------------------------- other users */

#define NOBODY "65534"
#define SOMEBODY "65533"

/* A folder of its own for each user who needs one; what a test gives is never seen by another folder's. */
static inline const char *folder_of(const char *user)
{
    const char *path = text_of("%s/%s", directory, user);
    if (mkdir(path, 0700) == 0 && geteuid() == 0)
        CHECK(chmod(directory, 0711) == 0 && chown(path, (uid_t)atol(user), 0) == 0);
    return path;
}

static inline void need_root(void)
{
    if (geteuid() == 0) return;
    print_message("only root can start programs of other users\n");
    skip();
}

/* In a role: goes on as this user, with this $IPCIO_DIR; "" changes nothing. */
static inline void become(const char *user, const char *folder)
{
    if (*folder) CHECK(setenv("IPCIO_DIR", folder, 1) == 0);
    if (*user && atol(user) != 0) {
        uid_t uid = (uid_t)atol(user);
        CHECK(setgroups(0, NULL) == 0 && setgid(uid) == 0 && setuid(uid) == 0);
        CHECK(prctl(PR_SET_DUMPABLE, 1) == 0); /* the leak check looks into the process */
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    }
}

/* ------------------------------------------------------------------------------------------- threads */

struct thread {
    pthread_t id;
    _Atomic pid_t tid;
    int (*run)(void *context);
    void *context;
    int status;
};

static inline void *thread_main(void *argument)
{
    struct thread *thread = argument;
    atomic_store(&thread->tid, gettid());
    thread->status = thread->run(thread->context);
    return NULL;
}

static inline void begin(struct thread *thread, int (*run)(void *), void *context)
{
    thread->run = run;
    thread->context = context;
    atomic_store(&thread->tid, 0);
    CHECK(pthread_create(&thread->id, NULL, thread_main, thread) == 0);
}

/* Returns when the thread sleeps in its call. */
static inline void until_waiting(struct thread *thread)
{
    while (atomic_load(&thread->tid) == 0)
        sched_yield();
    until_asleep(atomic_load(&thread->tid));
}

static inline int end(struct thread *thread)
{
    CHECK(pthread_join(thread->id, NULL) == 0);
    return thread->status;
}

/* --------------------------------------------------------------------------------- both ends at once */

struct pair {
    ipcio_server *server;
    ipcio_conn *client, *peer; /* what connect gave, and what accept gave */
};

static inline void open_pair_at(struct pair *pair, const char *address, const char *server_options,
                                const char *client_options)
{
    int connecting = 1, accepting = 1;
    pair->client = pair->peer = NULL;
    OK(ipcio_listen(address, server_options, &pair->server));
    while (connecting > 0 || accepting > 0) {
        if (connecting > 0)
            connecting = ipcio_connect(address, client_options, IPCIO_TRY, &pair->client);
        if (accepting > 0)
            accepting = ipcio_accept(pair->server, IPCIO_TRY, &pair->peer);
        sched_yield();
    }
    OK(connecting);
    OK(accepting);
}

static inline void open_pair(struct pair *pair) { open_pair_at(pair, fresh(), NULL, NULL); }

static inline void free_pair(struct pair *pair)
{
    ipcio_conn_free(pair->client);
    ipcio_conn_free(pair->peer);
    ipcio_server_free(pair->server);
}

/* ------------------------------------------------------------------------------------------- running */

static inline int before_test(void **state)
{
    static int descriptors;
    descriptors = count_descriptors();
    *state = &descriptors;
    return 0;
}

static inline int after_test(void **state)
{
    int before = *(int *)*state, after;
    for (size_t i = 0; i < COUNT(children); i++)
        if (children[i].pid != 0)
            kill9(&children[i]);
    after = count_descriptors();
    if (after != before)
        print_error("%d descriptors before the test, %d after it\n", before, after);
    return after != before;
}

static inline int before_all(void **state)
{
    struct pair pair;
    const char *ipc;
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/ipcio-test-XXXXXX");
    CHECK(mkdtemp(directory) != NULL);
    ipc = text_of("%s/ipc", directory);
    CHECK(mkdir(ipc, 0700) == 0 && setenv("IPCIO_DIR", ipc, 1) == 0);
    open_pair(&pair); /* what the library opens once per process is not counted as a test's */
    free_pair(&pair);
    return 0;
}

static inline int after_all(void **state)
{
    (void)state;
    return nftw(directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static inline int run_role(const struct role *roles, char **arguments)
{
    in_role = 1;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (; roles->name != NULL; roles++)
        if (strcmp(roles->name, arguments[0]) == 0)
            return roles->run(arguments + 1);
    return 98;
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, before_test, after_test)

/* The body of main.  `roles` ends with {NULL, NULL}. */
#define RUN(argc, argv, roles, tests)                                                                          \
    do {                                                                                                       \
        if ((argc) > 2 && strcmp((argv)[1], "--role") == 0)                                                    \
            return run_role(roles, (argv) + 2);                                                                \
        if ((argc) > 1)                                                                                        \
            cmocka_set_test_filter((argv)[1]);                                                                 \
        return cmocka_run_group_tests(tests, before_all, after_all);                                           \
    } while (0)

#endif
