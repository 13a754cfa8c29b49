/* test_file.c - open files that travel with messages. */
#include "helper.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/resource.h>

#define FILES "files=1"

/* An open file with this text, read from its start. */
static int file_of(const char *text)
{
    int fd = memfd_create("passed", MFD_CLOEXEC);
    CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) && lseek(fd, 0, SEEK_SET) == 0);
    return fd;
}

/* Reads the text from where the file stands, and closes it. */
static void check_file(intptr_t fd, const char *text, const char *file, int line)
{
    char got[64] = "";
    ssize_t n = read((int)fd, got, strlen(text));
    close((int)fd);
    if (n != (ssize_t)strlen(text) || strcmp(got, text) != 0)
        failed(file, line, text_of("\"%s\" was expected in the file, it has \"%s\"", text, got));
}

/* An empty text: whatever is in it. */
static void check_taken(ipcio_conn *conn, const char *text, const char *file, int line)
{
    intptr_t fd = -1;
    check_status(ipcio_take_file(conn, &fd), IPCIO_OK, "ipcio_take_file", file, line);
    CHECK(fcntl((int)fd, F_GETFD) == FD_CLOEXEC);
    check_file(fd, text, file, line);
}
#define TAKES(conn, text) check_taken((conn), (text), __FILE__, __LINE__)

static void no_file(ipcio_conn *conn)
{
    intptr_t fd = -1;
    FAILS(MISSING, ipcio_take_file(conn, &fd));
    CHECK(fd == -1);
}

/* Passes a file with this text, which is then closed here. */
static void check_sent(ipcio_conn *conn, const char *text, const char *message, const char *file, int line)
{
    int fd = file_of(text);
    check_status(ipcio_send_file(conn, fd, message, strlen(message), LONG_MS), IPCIO_OK, "ipcio_send_file", file, line);
    close(fd);
}
#define SENDS(conn, text, message) check_sent((conn), (text), (message), __FILE__, __LINE__)

static void open_taking_pair(struct pair *pair) { open_pair_at(pair, fresh(), FILES, FILES); }

/* ----------------------------------------------------------------------------------- two processes */

/* "worker" ADDRESS: reads 4 bytes of each file that comes and answers them; "count" asks how many descriptors it has;
 * "pipe" for the reading end of a pipe through which it then says something. */
static int work(void *context, ipcio_conn *conn, const void *request, size_t size)
{
    intptr_t file;
    int ends[2], st;
    char text[16] = "";
    (void)context;
    if (size == 5 && memcmp(request, "count", 5) == 0) {
        snprintf(text, sizeof text, "%d", count_descriptors());
        return ipcio_write(conn, text, strlen(text), LONG_MS);
    }
    if (size == 4 && memcmp(request, "pipe", 4) == 0) {
        CHECK(pipe2(ends, O_CLOEXEC) == 0);
        st = ipcio_send_file(conn, ends[0], "here", 4, LONG_MS);
        close(ends[0]);
        CHECK(write(ends[1], "through the pipe", 16) == 16);
        close(ends[1]);
        return st;
    }
    if (size == 6 && memcmp(request, "ignore", 6) == 0)
        return 0;
    OK(ipcio_take_file(conn, &file));
    CHECK(read((int)file, text, 4) == 4);
    close((int)file);
    return ipcio_write(conn, text, 4, LONG_MS);
}

static int worker_role(char **arguments)
{
    return serve_until_stop(arguments[0], FILES, work, "ready");
}

static struct child *start_worker(const char *address)
{
    struct child *worker = start("worker", address, NULL);
    hear(worker, "ready");
    return worker;
}

static void test_passed(void **state)
{
    const char *address = fresh();
    struct child *worker = start_worker(address);
    ipcio_conn *conn;
    const void *data;
    size_t size;
    int fd = file_of("0123456789");
    (void)state;
    OK(ipcio_connect(address, FILES, LONG_MS, &conn));
    no_file(conn);
    OK(ipcio_send_file(conn, fd, "read", 4, LONG_MS));
    READS(conn, "0123");
    no_file(conn);
    assert_int_equal(lseek(fd, 0, SEEK_CUR), 4); /* one open file, one offset */
    OK(ipcio_send_file(conn, fd, NULL, 0, LONG_MS));
    READS(conn, "4567");
    close(fd);
    OK(ipcio_call(conn, "pipe", 4, LONG_MS, &data, &size));
    TAKES(conn, "through the pipe");
    no_file(conn);
    ipcio_conn_free(conn);
    stop(worker);
}

/* A server's first word goes with its HELLO, the file behind that. */
static void test_answer_first(void **state)
{
    const char *address = fresh();
    struct child *worker = start_worker(address);
    ipcio_conn *conn;
    (void)state;
    OK(ipcio_connect(address, FILES, LONG_MS, &conn));
    WRITES(conn, "pipe");
    READS(conn, "here");
    TAKES(conn, "through the pipe");
    ipcio_conn_free(conn);
    stop(worker);
}

static long count_of(ipcio_conn *conn)
{
    const void *data;
    size_t size;
    OK(ipcio_call(conn, "count", 5, LONG_MS, &data, &size));
    return atol(text_of("%.*s", (int)size, (const char *)data));
}

static void test_never_taken(void **state)
{
    const char *address = fresh();
    struct child *worker = start_worker(address);
    ipcio_conn *conn;
    long before;
    int fd = file_of("x");
    (void)state;
    OK(ipcio_connect(address, NULL, LONG_MS, &conn));
    before = count_of(conn);
    for (int i = 0; i < 1000; i++)
        OK(ipcio_send_file(conn, fd, "ignore", 6, LONG_MS));
    assert_int_equal(count_of(conn), before);
    close(fd);
    ipcio_conn_free(conn);
    stop(worker);
}

/* "sender" ADDRESS: passes a file and says so. */
static int sender_role(char **arguments)
{
    ipcio_conn *conn;
    OK(ipcio_connect(arguments[0], NULL, LONG_MS, &conn));
    SENDS(conn, "left behind", "testament");
    tell("sent");
    wait_for_end();
    return 0;
}

static void test_sender_killed(void **state)
{
    const char *address = fresh();
    struct child *sender;
    ipcio_server *server;
    ipcio_conn *conn;
    const void *data;
    size_t size;
    (void)state;
    OK(ipcio_listen(address, FILES, &server));
    sender = start("sender", address, NULL);
    OK(ipcio_accept(server, LONG_MS, &conn));
    hear(sender, "sent");
    kill9(sender);
    READS(conn, "testament");
    TAKES(conn, "left behind");
    FAILS(CLOSED, ipcio_read(conn, LONG_MS, &data, &size));
    no_file(conn);
    ipcio_conn_free(conn);
    ipcio_server_free(server);
}

/* "numbers" ADDRESS: messages of many sizes, every third with a file that has its number. */
enum { NUMBERS = 300 };
static size_t size_of(size_t i) { return i * i * 37 % 3000 + (i % 50 == 0 ? 200000 : 0); }

static int numbers_role(char **arguments)
{
    static unsigned char data[210000];
    ipcio_conn *conn;
    OK(ipcio_connect(arguments[0], NULL, LONG_MS, &conn));
    for (size_t i = 0; i < NUMBERS; i++) {
        fill(data, size_of(i), i);
        if (i % 3 == 0) {
            int fd = file_of(text_of("%zu", i));
            OK(ipcio_send_file(conn, fd, data, size_of(i), LONG_MS));
            close(fd);
        } else {
            OK(ipcio_write(conn, data, size_of(i), LONG_MS));
        }
    }
    ipcio_conn_free(conn);
    return 0;
}

/* Each file comes with its own message, wherever the reads of the system end and however the message is read. */
static void each_with_its_own(const char *options)
{
    const char *address = fresh();
    struct child *sender = start("numbers", address, NULL);
    ipcio_server *server;
    ipcio_conn *conn;
    const void *data;
    size_t size;
    OK(ipcio_listen(address, options, &server));
    OK(ipcio_accept(server, LONG_MS, &conn));
    for (size_t i = 0; i < NUMBERS; i++) {
        if (i % 4 == 1) {
            unsigned char part[100];
            OK(ipcio_read_start(conn, LONG_MS, &size));
            OK(ipcio_read_buffer(conn, part, sizeof part, LONG_MS, &size));
        } else {
            OK(ipcio_read(conn, LONG_MS, &data, &size));
            assert_true(size == size_of(i) && is_filled(data, size, i));
        }
        if (i % 3 != 0)
            no_file(conn);
        else if (i % 2 == 0) /* the others are left */
            TAKES(conn, text_of("%zu", i));
        if (i % 4 == 1)
            OK(ipcio_read_end(conn, LONG_MS));
    }
    FAILS(CLOSED, ipcio_read(conn, LONG_MS, &data, &size));
    ipcio_conn_free(conn);
    ipcio_server_free(server);
    finish(sender);
}

static void test_each_with_its_own(void **state)
{
    (void)state;
    each_with_its_own(FILES);
    each_with_its_own(FILES "&buffer=1024");
}

/* What waits shows in the descriptor, and waiting takes no second file in. */
static void test_waiting(void **state)
{
    struct pair pair;
    struct pollfd readable;
    (void)state;
    open_taking_pair(&pair);
    readable = (struct pollfd){ipcio_fileno(pair.peer), POLLIN, 0};
    for (int i = 0; i < 5; i++)
        SENDS(pair.client, text_of("%d", i), "m");
    for (int i = 0; i < 5; i++) {
        for (int k = 0; k < 3; k++)
            OK(ipcio_wait(pair.peer, IPCIO_WANT_READ, ipcio_deadline(LONG_MS / 1000)));
        assert_int_equal(poll(&readable, 1, 0), 1);
        READS(pair.peer, "m");
        TAKES(pair.peer, text_of("%d", i));
    }
    assert_int_equal(poll(&readable, 1, 0), 0);
    free_pair(&pair);
}

/* ------------------------------------------------------------------------------- what is not passed */

static void refuses_file(ipcio_conn *conn, int status)
{
    int fd = file_of("x");
    check_status(ipcio_send_file(conn, fd, "x", 1, LONG_MS), status, "ipcio_send_file", __FILE__, __LINE__);
    close(fd);
}

static void test_unsupported(void **state)
{
    static const char *const options[] = {"", "files=1&framing=line", "files=1&framing=raw"};
    struct pair pair;
    (void)state;
    for (size_t i = 0; i < COUNT(options); i++) {
        open_pair_at(&pair, fresh(), options[i], options[i]);
        refuses_file(pair.client, IPCIO_UNSUPPORTED);
        refuses_file(pair.peer, IPCIO_UNSUPPORTED);
        WRITES(pair.client, "on");
        READS(pair.peer, "on");
        no_file(pair.peer);
        free_pair(&pair);
    }
    /* Each side decides for itself. */
    open_pair_at(&pair, fresh(), FILES, NULL);
    refuses_file(pair.peer, IPCIO_UNSUPPORTED);
    assert_non_null(strstr(ipcio_message(), "files=1"));
    SENDS(pair.client, "text", "on");
    READS(pair.peer, "on");
    TAKES(pair.peer, "text");
    free_pair(&pair);
}

static void test_tcp(void **state)
{
    ipcio_server *server;
    ipcio_conn *client, *peer;
    (void)state;
    OK(ipcio_listen("tcp://127.0.0.1:0", NULL, &server));
    OK(ipcio_connect(ipcio_server_address(server), NULL, LONG_MS, &client));
    OK(ipcio_accept(server, LONG_MS, &peer));
    refuses_file(client, IPCIO_UNSUPPORTED);
    refuses_file(peer, IPCIO_UNSUPPORTED);
    WRITES(client, "on");
    READS(peer, "on");
    no_file(peer);
    ipcio_conn_free(client);
    ipcio_conn_free(peer);
    ipcio_server_free(server);
}

/* The two ends of a socketpair learn by HELLO what the other takes. */
static void test_fd(void **state)
{
    ipcio_conn *a, *b;
    int ends[2], fd = file_of("text"), st;
    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    OK(ipcio_connect(text_of("fd://%d", ends[0]), NULL, 0, &a));
    st = ipcio_send_file(a, fd, "x", 1, IPCIO_TRY);
    assert_int_equal(st, IPCIO_WANT_READ); /* not told yet */
    OK(ipcio_connect(text_of("fd://%d", ends[1]), FILES, 0, &b));
    OK(ipcio_send_file(a, fd, "x", 1, LONG_MS));
    READS(b, "x");
    TAKES(b, "text");
    FAILS(UNSUPPORTED, ipcio_send_file(b, fd, "x", 1, LONG_MS));
    close(fd);
    ipcio_conn_free(a);
    ipcio_conn_free(b);
}

/* An adopted socket need not be one that passes files. */
static void test_fd_of_tcp(void **state)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof name;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ipcio_conn *a, *b;
    (void)state;
    assert_int_equal(bind(listener, (struct sockaddr *)&name, size), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&name, &size), 0);
    assert_int_equal(connect(one, (struct sockaddr *)&name, size), 0);
    OK(ipcio_connect(text_of("fd://%d", one), FILES, 0, &a));
    OK(ipcio_connect(text_of("fd://%d", accept4(listener, NULL, NULL, SOCK_CLOEXEC)), FILES, 0, &b));
    refuses_file(a, IPCIO_UNSUPPORTED);
    WRITES(a, "on");
    READS(b, "on");
    ipcio_conn_free(a);
    ipcio_conn_free(b);
    close(listener);
}

static int reading(void *conn)
{
    const void *data;
    size_t size;
    int st;
    do
        st = ipcio_read(conn, LONG_MS, &data, &size);
    while (st == 0);
    return st;
}

/* One thread waits for the first message; another cannot wait for what the peer takes. */
static void test_fd_with_a_reader(void **state)
{
    struct thread thread;
    ipcio_conn *a, *b;
    int ends[2], fd = file_of("text");
    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    OK(ipcio_connect(text_of("fd://%d", ends[0]), NULL, 0, &a));
    begin(&thread, reading, a);
    until_waiting(&thread);
    FAILS(INVALID, ipcio_send_file(a, fd, "x", 1, LONG_MS));
    OK(ipcio_connect(text_of("fd://%d", ends[1]), FILES, 0, &b));
    while (ipcio_send_file(a, fd, "x", 1, LONG_MS) == IPCIO_INVALID)
        sched_yield();
    READS(b, "x");
    TAKES(b, "text");
    ipcio_conn_close(a);
    assert_int_equal(end(&thread), IPCIO_INVALID);
    close(fd);
    ipcio_conn_free(a);
    ipcio_conn_free(b);
}

/* Whoever made the socket may have asked for more news than files. */
static void test_credentials_too(void **state)
{
    ipcio_conn *a, *b;
    int ends[2];
    const int on = 1;
    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    assert_int_equal(setsockopt(ends[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on), 0);
    OK(ipcio_connect(text_of("fd://%d", ends[0]), NULL, 0, &a));
    OK(ipcio_connect(text_of("fd://%d", ends[1]), FILES, 0, &b));
    WRITES(a, "without");
    SENDS(a, "text", "with");
    READS(b, "without");
    no_file(b);
    READS(b, "with");
    TAKES(b, "text");
    ipcio_conn_free(a);
    ipcio_conn_free(b);
}

static void test_misuse(void **state)
{
    struct pair pair;
    intptr_t taken;
    int fd = file_of("x");
    size_t size;
    (void)state;
    open_taking_pair(&pair);
    FAILS(INVALID, ipcio_send_file(pair.client, -1, "x", 1, LONG_MS));
    FAILS(INVALID, ipcio_send_file(pair.client, 1 << 20, "x", 1, LONG_MS));
    OK(ipcio_write_start(pair.client, 1, LONG_MS));
    FAILS(INVALID, ipcio_send_file(pair.client, fd, "x", 1, LONG_MS));
    OK(ipcio_write_buffer(pair.client, "y", 1, LONG_MS));
    OK(ipcio_write_end(pair.client, LONG_MS));
    READS(pair.peer, "y");
    FAILS(INVALID, ipcio_send_file(pair.peer, 1 << 20, "x", 1, LONG_MS)); /* as its first word */
    WRITES(pair.peer, "z");
    READS(pair.client, "z");
    SENDS(pair.client, "text", "on");
    OK(ipcio_read_start(pair.peer, LONG_MS, &size));
    OK(ipcio_read_end(pair.peer, LONG_MS));
    no_file(pair.peer);
    ipcio_conn_close(pair.client);
    FAILS(INVALID, ipcio_send_file(pair.client, fd, "x", 1, LONG_MS));
    FAILS(INVALID, ipcio_take_file(pair.client, &taken));
    close(fd);
    free_pair(&pair);
}

/* The file of an answer that comes too late goes with it. */
static void test_late_answer(void **state)
{
    struct pair pair;
    const void *data;
    size_t size;
    (void)state;
    open_taking_pair(&pair);
    FAILS(TIMEOUT, ipcio_call(pair.client, "slow", 4, 0, &data, &size));
    READS(pair.peer, "slow");
    SENDS(pair.peer, "late", "too late");
    SENDS(pair.peer, "file", "in time");
    READS(pair.client, "in time");
    TAKES(pair.client, "file");
    no_file(pair.client);
    free_pair(&pair);
}

static void test_timed_out(void **state)
{
    enum { LARGE = 4 << 20 };
    unsigned char *large = calloc(1, LARGE);
    struct pair pair;
    int fd = file_of("x");
    (void)state;
    for (int begun = 0; begun < 2; begun++) {
        const void *data;
        size_t size;
        int waiting = 0;
        open_taking_pair(&pair);
        if (!begun) /* small ones until there is no room at all */
            while (ipcio_write(pair.client, large, 500, 0) == 0)
                waiting++;
        FAILS(TIMEOUT, ipcio_send_file(pair.client, fd, large, LARGE, 0));
        for (; waiting > 0; waiting--) {
            OK(ipcio_read(pair.peer, LONG_MS, &data, &size));
            assert_int_equal(size, 500);
        }
        FAILS(TIMEOUT, ipcio_read(pair.peer, 0, &data, &size)); /* makes room for what is owed */
        SENDS(pair.client, "text", "after");
        READS(pair.peer, "after");
        TAKES(pair.peer, "text");
        free_pair(&pair);
    }
    close(fd);
    free(large);
}

/* A write that is repeated is the same one, its file included. */
static void test_another_file(void **state)
{
    enum { LARGE = 4 << 20 };
    unsigned char *large = calloc(1, LARGE);
    struct pair pair;
    int fd = file_of("x"), other = file_of("y"), want;
    (void)state;
    open_taking_pair(&pair);
    want = ipcio_send_file(pair.client, fd, large, LARGE, IPCIO_TRY);
    assert_int_equal(want, IPCIO_WANT_WRITE);
    FAILS(INVALID, ipcio_send_file(pair.client, other, large, LARGE, IPCIO_TRY));
    FAILS(INVALID, ipcio_write(pair.client, large, LARGE, IPCIO_TRY));
    assert_int_equal(ipcio_send_file(pair.client, fd, large, LARGE, IPCIO_TRY), IPCIO_WANT_WRITE);
    FAILS(TIMEOUT, ipcio_give_up(pair.client, want, IPCIO_TIMEOUT, 0));
    close(fd);
    close(other);
    free(large);
    free_pair(&pair);
}

/* ---------------------------------------------------------------------------------------- used up */

/* "full" FD: passes files over the socket that nobody receives, as a user who may not pass any number. */
static int full_role(char **arguments)
{
    const struct rlimit few = {40, 40};
    ipcio_conn *conn;
    int st = 0, fd = file_of("x"), count = 0;
    if (getuid() == 0)
        CHECK(setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0);
    CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
    OK(ipcio_connect(arguments[0], NULL, 0, &conn));
    for (; st == 0 && count < 1000; count++)
        st = ipcio_send_file(conn, fd, "x", 1, LONG_MS);
    FAILS(FULL, st);
    OK(ipcio_write(conn, "full", 4, LONG_MS));
    tell_number(count - 1);
    wait_for("received");
    OK(ipcio_send_file(conn, fd, "again", 5, LONG_MS));
    ipcio_conn_free(conn);
    return 0;
}

static void test_too_many_on_their_way(void **state)
{
    struct child *sender;
    ipcio_conn *conn;
    long count;
    int ends[2];
    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    sender = start("full", text_of("fd://%d", ends[1]), NULL);
    close(ends[1]);
    OK(ipcio_connect(text_of("fd://%d", ends[0]), FILES, 0, &conn));
    count = hear_number(sender);
    assert_true(count > 0 && count < 1000);
    for (; count > 0; count--) {
        READS(conn, "x");
        TAKES(conn, "");
    }
    READS(conn, "full");
    no_file(conn);
    say(sender, "received");
    READS(conn, "again");
    TAKES(conn, "");
    finish(sender);
    ipcio_conn_free(conn);
}

/* A file that this process has no descriptor for is lost, not passed over in silence; its message is not lost. */
static void test_no_descriptor_left(void **state)
{
    struct pair pair;
    struct rlimit usual, none;
    intptr_t fd;
    (void)state;
    open_taking_pair(&pair);
    SENDS(pair.client, "lost", "one");
    SENDS(pair.client, "lost", "two");
    getrlimit(RLIMIT_NOFILE, &usual);
    none = usual;
    none.rlim_cur = 0;
    setrlimit(RLIMIT_NOFILE, &none);
    for (int i = 0; i < 2; i++) {
        if (i == 0) READS(pair.peer, "one");
        else READS(pair.peer, "two");
        FAILS(SYSTEM, ipcio_take_file(pair.peer, &fd));
        FAILS(SYSTEM, ipcio_take_file(pair.peer, &fd));
    }
    setrlimit(RLIMIT_NOFILE, &usual);
    SENDS(pair.client, "text", "three");
    READS(pair.peer, "three");
    TAKES(pair.peer, "text");
    free_pair(&pair);
}

/* ------------------------------------------------------------------------------- peers that break the rules */

#define LE(n) n "\0\0\0"
#define HELLO LE("\x20") LE("\x20") LE("\0") "\1\0ip" "ipcio\0" "\1\0" "\0\0\0\4" LE("\1") LE("\0") LE("\0") LE("\0") LE("\0") "\2"
#define FRAME(kind, flags, total, verdict) LE("\5") LE(total) LE("\0") kind flags "ip" "hello" verdict
#define PLAIN FRAME("\2", "\0", "\5", "\2")
#define ANNOUNCES FRAME("\2", "\2", "\5", "\2")

/* Sends the bytes with so many files. */
static void raw_send(int to, const void *bytes, size_t size, int files)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(8 * sizeof(int))];
    } control = {.room = {0}};
    struct iovec all = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = size};
    struct msghdr message = {.msg_iov = &all, .msg_iovlen = 1};
    int fd = file_of("passed"), fds[8];
    for (int i = 0; i < files; i++)
        fds[i] = fd;
    if (files) {
        control.header = (struct cmsghdr){.cmsg_len = CMSG_LEN((size_t)files * sizeof(int)), .cmsg_level = SOL_SOCKET,
                                          .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(&control.header), fds, (size_t)files * sizeof(int));
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE((size_t)files * sizeof(int));
    }
    CHECK(sendmsg(to, &message, MSG_NOSIGNAL) == (ssize_t)size);
    close(fd);
}
#define RAW(to, bytes, files) raw_send((to), bytes, sizeof(bytes) - 1, (files))

static void test_rules_broken(void **state)
{
    static const struct {
        const char *bytes;
        size_t size;
        int files;
        const char *options;
        int good; /* messages that are read before, */
        int with; /* the last of them with a file? */
        int then; /* what the next read answers */
    } cases[] = {
#define BYTES(text) text, sizeof(text) - 1
        {BYTES(ANNOUNCES), 1, FILES, 1, 1, IPCIO_OK}, /* as it should be */
        {BYTES(PLAIN ANNOUNCES), 1, FILES, 2, 1, IPCIO_OK},
        {BYTES(ANNOUNCES), 0, FILES, 0, 0, IPCIO_PROTOCOL},
        {BYTES(ANNOUNCES), 2, FILES, 0, 0, IPCIO_PROTOCOL},
        {BYTES(ANNOUNCES), 8, FILES, 0, 0, IPCIO_PROTOCOL},
        {BYTES(ANNOUNCES), 0, "", 0, 0, IPCIO_PROTOCOL},
        {BYTES(ANNOUNCES), 1, "", 0, 0, IPCIO_PROTOCOL},
        {BYTES(PLAIN), 1, "", 1, 0, IPCIO_OK}, /* the system closes it */
        {BYTES(PLAIN), 1, FILES, 1, 0, IPCIO_PROTOCOL},
        {BYTES(PLAIN PLAIN), 1, FILES, 2, 0, IPCIO_PROTOCOL},
        {BYTES(ANNOUNCES ANNOUNCES), 1, FILES, 1, 1, IPCIO_PROTOCOL},
        {BYTES(ANNOUNCES PLAIN), 3, FILES, 0, 0, IPCIO_PROTOCOL},
        {BYTES(ANNOUNCES), 1, FILES "&limit=4", 0, 0, IPCIO_TOOBIG},
        {BYTES(FRAME("\2", "\2", "\xa", "\1") FRAME("\3", "\2", "\xa", "\2")), 1, FILES, 0, 0, IPCIO_PROTOCOL},
        {BYTES(FRAME("\2", "\2", "\xa", "\1") FRAME("\3", "\0", "\xa", "\0")), 1, FILES, 0, 0, IPCIO_OK}, /* given up */
        {BYTES(FRAME("\2", "\4", "\5", "\2")), 1, FILES, 0, 0, IPCIO_PROTOCOL},
#undef BYTES
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        ipcio_conn *conn;
        const void *data;
        size_t size;
        int ends[2], before;
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
        before = count_descriptors();
        OK(ipcio_connect(text_of("fd://%d", ends[0]), cases[i].options, 0, &conn));
        RAW(ends[1], HELLO, 0);
        raw_send(ends[1], cases[i].bytes, cases[i].size, cases[i].files);
        RAW(ends[1], PLAIN, 0);
        for (int n = 1; n <= cases[i].good; n++) {
            READS(conn, "hello");
            if (cases[i].with && n == cases[i].good)
                TAKES(conn, "passed");
            else
                no_file(conn);
        }
        check_status(ipcio_read(conn, LONG_MS, &data, &size), cases[i].then, text_of("case %zu", i), __FILE__, __LINE__);
        no_file(conn);
        ipcio_conn_close(conn);
        assert_int_equal(count_descriptors(), before - 1);
        ipcio_conn_free(conn);
        close(ends[1]);
    }
}

/* A message that its writer gave up in the middle: its reader, who has seen the beginning, does not get the file. */
static void test_given_up_in_pieces(void **state)
{
    static const char begun[] = FRAME("\2", "\2", "\xa", "\1"), given_up[] = FRAME("\3", "\0", "\xa", "\0");
    unsigned char piece[5];
    ipcio_conn *conn;
    size_t size;
    int ends[2];
    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    OK(ipcio_connect(text_of("fd://%d", ends[0]), FILES, 0, &conn));
    RAW(ends[1], HELLO, 0);
    RAW(ends[1], begun, 1);
    OK(ipcio_read_start(conn, LONG_MS, &size));
    OK(ipcio_read_buffer(conn, piece, sizeof piece, LONG_MS, &size));
    RAW(ends[1], given_up, 0);
    OK(ipcio_read_buffer(conn, piece, sizeof piece, LONG_MS, &size));
    FAILS(ABORTED, ipcio_read_buffer(conn, piece, sizeof piece, LONG_MS, &size));
    no_file(conn);
    OK(ipcio_read_end(conn, LONG_MS));
    no_file(conn);
    ipcio_conn_free(conn);
    close(ends[1]);
}

/* One who passes a file with every byte fills no table: he loses the connection. */
static void test_flooded(void **state)
{
    ipcio_conn *conn;
    const void *data;
    size_t size;
    int ends[2], before;
    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    before = count_descriptors();
    OK(ipcio_connect(text_of("fd://%d", ends[0]), FILES, 0, &conn));
    RAW(ends[1], HELLO, 0);
    for (size_t i = 0; i < sizeof PLAIN - 1; i++)
        raw_send(ends[1], &PLAIN[i], 1, 1);
    FAILS(PROTOCOL, ipcio_read(conn, LONG_MS, &data, &size));
    assert_int_equal(count_descriptors(), before);
    ipcio_conn_free(conn);
    close(ends[1]);
}

/* ------------------------------------------------------------------------------------------- fork */

static bool is_open_here(const char *target)
{
    char path[64], found[256];
    for (int fd = 0; fd < 256; fd++) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(path, found, sizeof found - 1);
        if (n > 0 && memmem(found, (size_t)n, target, strlen(target)))
            return true;
    }
    return false;
}

static int result_of(pid_t pid)
{
    int status = -1;
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static void test_fork(void **state)
{
    struct pair pair;
    size_t size;
    pid_t pid;
    (void)state;
    open_taking_pair(&pair);
    SENDS(pair.client, "one", "1");
    SENDS(pair.client, "two", "2");
    OK(ipcio_read_start(pair.peer, LONG_MS, &size));
    assert_true(is_open_here("memfd:passed"));
    if ((pid = fork()) == 0) {
        intptr_t fd;
        int wrong = is_open_here("memfd:passed");
        wrong += ipcio_take_file(pair.peer, &fd) != IPCIO_FORKED;
        wrong += ipcio_send_file(pair.client, 0, "x", 1, -1) != IPCIO_FORKED;
        free_pair(&pair);
        _exit(wrong);
    }
    assert_int_equal(result_of(pid), 0);
    TAKES(pair.peer, "one");
    OK(ipcio_read_end(pair.peer, LONG_MS));
    READS(pair.peer, "2");
    TAKES(pair.peer, "two");
    free_pair(&pair);
}

/* "stream" ADDRESS: passes files until nobody takes them. */
static int stream_role(char **arguments)
{
    ipcio_conn *conn;
    int fd = file_of("x");
    OK(ipcio_connect(arguments[0], NULL, LONG_MS, &conn));
    while (ipcio_send_file(conn, fd, "x", 1, LONG_MS) == 0) {
    }
    ipcio_conn_free(conn);
    return 0;
}

/* A child that is forked while files arrive has none of them. */
static void test_fork_while_files_arrive(void **state)
{
    const char *address = fresh();
    struct child *stream = start("stream", address, NULL);
    struct thread thread;
    ipcio_server *server;
    ipcio_conn *conn;
    (void)state;
    OK(ipcio_listen(address, FILES, &server));
    OK(ipcio_accept(server, LONG_MS, &conn));
    begin(&thread, reading, conn);
    for (int i = 0; i < 200; i++) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(is_open_here("memfd:passed"));
        assert_int_equal(result_of(pid), 0);
    }
    ipcio_conn_close(conn);
    assert_int_equal(end(&thread), IPCIO_INVALID);
    ipcio_conn_free(conn);
    ipcio_server_free(server);
    finish(stream);
}

int main(int argc, char **argv)
{
    static const struct role roles[] = {{"worker", worker_role},   {"sender", sender_role}, {"numbers", numbers_role},
                                        {"full", full_role},       {"stream", stream_role}, {NULL, NULL}};
    const struct CMUnitTest tests[] = {
        TEST(test_passed),
        TEST(test_answer_first),
        TEST(test_never_taken),
        TEST(test_sender_killed),
        TEST(test_each_with_its_own),
        TEST(test_waiting),
        TEST(test_unsupported),
        TEST(test_tcp),
        TEST(test_fd),
        TEST(test_fd_of_tcp),
        TEST(test_fd_with_a_reader),
        TEST(test_credentials_too),
        TEST(test_misuse),
        TEST(test_late_answer),
        TEST(test_timed_out),
        TEST(test_another_file),
        TEST(test_too_many_on_their_way),
        TEST(test_no_descriptor_left),
        TEST(test_rules_broken),
        TEST(test_given_up_in_pieces),
        TEST(test_flooded),
        TEST(test_fork),
        TEST(test_fork_while_files_arrive),
    };
    RUN(argc, argv, roles, tests);
}
