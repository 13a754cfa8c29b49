/* test_tcp.c - the transport `tcp`: ports, who may connect, what is known of a server before it accepts, and ends. */
#include "helper.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

/* ------------------------------------------------------------------------------------------- roles */

/* "server" USER FOLDER ADDRESS OPTIONS: says its address, then answers each message with itself until stop(). */
static int server_role(char **arguments)
{
    become(arguments[0], arguments[1]);
    return serve_until_stop(arguments[2], arguments[3], echo_handler, NULL);
}

/* "mapped" USER FOLDER: a server in a user namespace where it is called nobody, as all are who have no number there. */
enum { NO_NAMESPACE = 76 };

static int mapped_role(char **arguments)
{
    const char *map = text_of(NOBODY " %s 1", arguments[0]);
    become(arguments[0], arguments[1]);
    if (unshare(CLONE_NEWUSER) != 0) return NO_NAMESPACE;
    int fd = open("/proc/self/uid_map", O_WRONLY | O_CLOEXEC);
    CHECK(fd >= 0 && write(fd, map, strlen(map)) == (ssize_t)strlen(map) && close(fd) == 0);
    CHECK(geteuid() == (uid_t)atol(NOBODY));
    return serve_until_stop("tcp://0", NULL, echo_handler, NULL);
}

/* "later" USER FOLDER OPTIONS: accepts only when it is told to, and says what came. */
static int later_role(char **arguments)
{
    ipcio_server *server;
    ipcio_conn *conn;
    const void *data;
    size_t size;
    become(arguments[0], arguments[1]);
    OK(ipcio_listen("tcp://0", arguments[2], &server));
    tell(ipcio_server_address(server));
    wait_for("accept");
    OK(ipcio_accept(server, LONG_MS, &conn));
    OK(ipcio_read(conn, LONG_MS, &data, &size));
    tell(text_of("%.*s", (int)size, (const char *)data));
    FAILS(CLOSED, ipcio_read(conn, LONG_MS, &data, &size));
    ipcio_conn_free(conn);
    ipcio_server_free(server);
    return 0;
}

/* "ask" USER FOLDER ADDRESS OPTIONS: says the answer to "question", or the code of what went wrong. */
static int ask_role(char **arguments)
{
    ipcio_conn *conn;
    const void *data;
    size_t size;
    become(arguments[0], arguments[1]);
    OK(ipcio_connect(arguments[2], arguments[3], LONG_MS, &conn));
    int st = ipcio_call(conn, "question", 8, LONG_MS, &data, &size);
    tell(st == 0 ? text_of("%.*s", (int)size, (const char *)data) : ipcio_code(st));
    ipcio_conn_free(conn);
    return 0;
}

/* "leave" USER FOLDER ADDRESS: writes a message and is gone. */
static int leave_role(char **arguments)
{
    ipcio_conn *conn;
    become(arguments[0], arguments[1]);
    OK(ipcio_connect(arguments[2], NULL, LONG_MS, &conn));
    WRITES(conn, "farewell");
    ipcio_conn_free(conn);
    return 0;
}

enum { NO_NETWORK = 77 };

static const unsigned char knocking[] = {
    32, 0, 0, 0, 32, 0, 0, 0, 0, 0, 0, 0, 1, 0, 'i', 'p',                     /* HELLO */
    'i', 'p', 'c', 'i', 'o', 0, 1, 0, 255, 255, 255, 0, 0, 0, 0, 0,           /* the limit */
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2,                        /* the key, the verdict */
    1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 'i', 'p', 'x', 2,               /* a message */
};

/* Connects from an address of this machine to a port of 127.0.0.1. */
static int knock(const char *source, const char *port)
{
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = inet_addr(source)};
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atol(port)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(bind(fd, (struct sockaddr *)&from, sizeof from) == 0 && connect(fd, (struct sockaddr *)&at, sizeof at) == 0);
    CHECK(send(fd, knocking, sizeof knocking, MSG_NOSIGNAL) == sizeof knocking);
    return fd;
}

/* "knock" USER PORT: a program without ipcio that speaks its protocol; says how the connection ended. */
static int knock_role(char **arguments)
{
    char answer[256];
    ssize_t n, got = 0;
    become(arguments[0], "");
    int fd = knock("127.0.0.1", arguments[1]);
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    do {
        CHECK(poll(&poll_fd, 1, LONG_MS) == 1);
        n = recv(fd, answer, sizeof answer, 0);
        if (n > 0) got += n;
    } while (n > 0 && got < 49 + 18); /* the server's HELLO, and the echo */
    tell(n > 0 ? "answered" : got == 0 ? "refused" : "cut off");
    close(fd);
    return 0;
}

/* "apart" ADDRESS: serves it in a network of its own, with the same folder of names. */
static int apart_role(char **arguments)
{
    static const unsigned char data[1001];
    struct ifreq up = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    ipcio_server *server;
    ipcio_conn *conn;
    int any = unshare(CLONE_NEWNET) == 0 ? socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0) : -1;
    if (any < 0 || ioctl(any, SIOCSIFFLAGS, &up) != 0) return NO_NETWORK;
    close(any);
    OK(ipcio_listen(arguments[0], "limit=1000", &server));
    OK(ipcio_connect(arguments[0], NULL, LONG_MS, &conn));
    FAILS(TOOBIG, ipcio_write(conn, data, sizeof data, LONG_MS));
    ipcio_conn_free(conn);
    ipcio_server_free(server);
    return 0;
}

/* "silent" USER PORT: connects, says nothing, and is let go at once all the same. */
static int silent_role(char **arguments)
{
    char byte;
    become(arguments[0], "");
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atol(arguments[1])),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(connect(fd, (struct sockaddr *)&at, sizeof at) == 0);
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    tell(poll(&poll_fd, 1, AT_ONCE_MS) == 1 && recv(fd, &byte, 1, 0) <= 0 ? "refused" : "kept");
    close(fd);
    return 0;
}

/* "flee" USER SOURCE PORT: the same, but gone as soon as it has written. */
static int flee_role(char **arguments)
{
    become(arguments[0], "");
    close(knock(arguments[1], arguments[2]));
    return 0;
}

/* "outpost": in a network where the machine has another address than the loopback's. */
static int outpost_role(char **arguments)
{
    static const char *const names[] = {"127.0.0.1", "127.9.9.9", "10.9.9.9"};
    struct ifreq up = {.ifr_name = "lo", .ifr_flags = IFF_UP}, more = {.ifr_name = "lo:1"};
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = inet_addr(names[2])};
    memcpy(&more.ifr_addr, &own, sizeof own);
    (void)arguments;
    int any = unshare(CLONE_NEWNET) == 0 ? socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0) : -1;
    if (any < 0 || ioctl(any, SIOCSIFFLAGS, &up) != 0 || ioctl(any, SIOCSIFADDR, &more) != 0) return NO_NETWORK;
    close(any);
    for (int wide = 0; wide < 2; wide++) {
        ipcio_server *server;
        ipcio_conn *conn;
        OK(ipcio_listen(wide ? "tcp://0.0.0.0:0" : "tcp://0", NULL, &server));
        const char *port = strrchr(ipcio_server_address(server), ':') + 1;
        for (size_t i = 0; i < COUNT(names); i++) {
            finish(start("flee", NOBODY, names[i], port, NULL));
            FAILS(TIMEOUT, ipcio_accept(server, 0, &conn));
        }
        close(knock(names[2], port)); /* it is root's, but nothing shows it */
        FAILS(TIMEOUT, ipcio_accept(server, 0, &conn));
        int fd = knock(names[2], port);
        OK(ipcio_accept(server, LONG_MS, &conn));
        READS(conn, "x");
        close(fd);
        ipcio_conn_free(conn);
        ipcio_server_free(server);
    }
    return 0;
}

/* "first" ADDRESS: begins before its server. */
static int first_role(char **arguments)
{
    ipcio_conn *conn;
    tell("ready");
    OK(ipcio_connect(arguments[0], NULL, LONG_MS, &conn));
    WRITES(conn, "at last");
    ipcio_conn_free(conn);
    return 0;
}

/* "long" FOLDER ADDRESS: what a client does that cannot read the server's record.  The limit is 10000. */
static int long_role(char **arguments)
{
    unsigned char data[10001];
    ipcio_conn *conn;
    become("", arguments[0]);
    fill(data, sizeof data, 0);
    OK(ipcio_connect(arguments[1], NULL, LONG_MS, &conn));
    FAILS(TIMEOUT, ipcio_write(conn, data, 10001, 20));
    CHECK(strstr(ipcio_message(), "has not accepted"));
    FAILS(TIMEOUT, ipcio_write(conn, data, 5000, 0));
    OK(ipcio_write(conn, data, 4096, LONG_MS));
    tell("written");
    OK(ipcio_write(conn, data, 5000, LONG_MS)); /* waits for accept */
    FAILS(TOOBIG, ipcio_write(conn, data, 10001, LONG_MS));
    CHECK(strstr(ipcio_message(), "peer's limit of 10000"));
    OK(ipcio_write(conn, data, 10000, LONG_MS));
    wait_for("end");
    ipcio_conn_free(conn);
    return 0;
}

/* "rude" ADDRESS: closes with a message unread. */
static int rude_role(char **arguments)
{
    static unsigned char data[200000];
    ipcio_conn *conn;
    OK(ipcio_connect(arguments[0], NULL, LONG_MS, &conn));
    WRITES(conn, "here");
    wait_for("sent");
    fill(data, sizeof data, 1);
    OK(ipcio_write(conn, data, sizeof data, LONG_MS));
    WRITES(conn, "last");
    ipcio_conn_free(conn);
    return 0;
}

/* ----------------------------------------------------------------------------------------- helpers */

/* A server in another process, and its address. */
static struct child *start_server(const char *user, const char *folder, const char *options, char address[256])
{
    struct child *child = start("server", user, folder, "tcp://0", options, NULL);
    CHECK(read_line(child->out, address, 256));
    return child;
}

static void asks(const char *user, const char *folder, const char *address, const char *options, const char *answer)
{
    struct child *child = start("ask", user, folder, address, options, NULL);
    hear(child, answer);
    finish(child);
}

static const char *port_of(const char *address)
{
    return strrchr(address, ':') + 1;
}

/* An address of this process alone, as all of 127.0.0.0/8 is this machine. */
static const char *own_address(void)
{
    static int port = 20000;
    int pid = (int)getpid();
    return text_of("tcp://127.%d.%d.%d:%d", 64 + (pid >> 16 & 63), pid >> 8 & 255, pid & 255, port++);
}

static int count_records(void)
{
    int count = 0;
    DIR *folder = opendir(getenv("IPCIO_DIR"));
    CHECK(folder != NULL);
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        size_t n = strlen(entry->d_name);
        count += n > 9 && strcmp(entry->d_name + n - 9, ".tcp.lock") == 0;
    }
    closedir(folder);
    return count;
}

/* ------------------------------------------------------------------------------------------- tests */

static void meet(ipcio_server *server, const char *address)
{
    ipcio_conn *conn, *peer;
    OK(ipcio_connect(address, NULL, LONG_MS, &conn));
    WRITES(conn, "hello");
    OK(ipcio_accept(server, LONG_MS, &peer));
    READS(peer, "hello");
    ipcio_conn_free(conn);
    ipcio_conn_free(peer);
}

/* A bare system knows no host by name, itself included. */
static bool has_localhost(void)
{
    struct addrinfo *found = NULL;
    bool has = getaddrinfo("localhost", "80", NULL, &found) == 0;
    if (has)
        freeaddrinfo(found);
    return has;
}

static void test_port_0(void **state)
{
    static const struct {
        const char *address, *host;
    } cases[] = {
        {"tcp://0", "tcp://127.0.0.1:"},
        {"tcp://127.0.0.1:0", "tcp://127.0.0.1:"},
        {"tcp://127.0.0.1:0?limit=1000", "tcp://127.0.0.1:"},
        {"tcp://localhost:0", "tcp://localhost:"},
        {"tcp://0.0.0.0:0", "tcp://0.0.0.0:"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        ipcio_server *server;
        if (strstr(cases[i].address, "localhost") && !has_localhost()) continue;
        OK(ipcio_listen(cases[i].address, NULL, &server));
        const char *real = ipcio_server_address(server);
        size_t n = strlen(cases[i].host);
        assert_memory_equal(real, cases[i].host, n);
        assert_in_range(atol(real + n), 1, 65535);
        assert_string_equal(real + n, text_of("%ld", atol(real + n)));
        meet(server, real);
        if (has_localhost()) meet(server, text_of("tcp://localhost:%s", real + n));
        if (strcmp(cases[i].host, "tcp://localhost:") != 0) meet(server, text_of("tcp://%s", real + n));
        ipcio_server_free(server);
    }
}

static void test_ipv6(void **state)
{
    ipcio_server *server;
    struct sockaddr_in6 loopback = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int there = fd >= 0 && bind(fd, (struct sockaddr *)&loopback, sizeof loopback) == 0;
    (void)state;
    if (fd >= 0) close(fd);
    if (!there) {
        print_message("this machine has no IPv6\n");
        skip();
    }
    OK(ipcio_listen("tcp://[::1]:0", NULL, &server));
    assert_memory_equal(ipcio_server_address(server), "tcp://[::1]:", 12);
    meet(server, ipcio_server_address(server));
    meet(server, text_of("tcp://[0:0:0:0:0:0:0:1]:%s", port_of(ipcio_server_address(server))));
    ipcio_server_free(server);
    if (geteuid() == 0) { /* whose an IPv6 socket is */
        struct child *child = start("server", "", "", "tcp://[::1]:0", "", NULL);
        char address[256];
        CHECK(read_line(child->out, address, sizeof address));
        asks(NOBODY, folder_of(NOBODY), address, "", "closed");
        asks("", "", address, "", "question");
        stop(child);
    }
}

static void test_bad_addresses(void **state)
{
    static const char *const bad[] = {
        "tcp://",          "tcp://localhost", "tcp://:80",        "tcp://65536",      "tcp://127.0.0.1:65536",
        "tcp://::1:80",    "tcp://[::1]",     "tcp://[]:80",      "tcp://127.0.0.1:", "tcp://127.0.0.1:-1",
        "tcp:///8080",     "tcp://1e3",       "tcp://80:",        "tcp://+80",        "tcp://%2080",
        "tcp://127.0.0.1:http", "tcp://4294967297", "tcp://18446744073709551617", "tcp://[::1:80",
    };
    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        ipcio_server *server;
        ipcio_conn *conn;
        FAILS(INVALID, ipcio_listen(bad[i], NULL, &server));
        assert_null(server);
        FAILS(INVALID, ipcio_connect(bad[i], NULL, 0, &conn));
        assert_null(conn);
        assert_non_null(strstr(ipcio_message(), "tcp://"));
    }
    ipcio_server *server;
    FAILS(INVALID, ipcio_listen("tcp://127.0.0.1:70000", NULL, &server));
    assert_non_null(strstr(ipcio_message(), "tcp://127.0.0.1:70000: it must be tcp://HOST:PORT"));
}

/* The second fails, and the first goes on. */
static void test_second_server(void **state)
{
    char address[256];
    ipcio_server *second;
    ipcio_conn *conn;
    const void *data;
    size_t size;
    (void)state;
    struct child *child = start_server("", "", "", address);
    OK(ipcio_connect(address, NULL, LONG_MS, &conn));
    FAILS(EXISTS, ipcio_listen(address, NULL, &second));
    assert_null(second);
    assert_non_null(strstr(ipcio_message(), "the port is in use"));
    FAILS(EXISTS, ipcio_listen(text_of("tcp://%s", port_of(address)), NULL, &second));
    OK(ipcio_call(conn, "one", 3, LONG_MS, &data, &size));
    asks("", "", address, "", "question");
    ipcio_conn_free(conn);
    stop(child);
}

/* Connections that were open, idle or full, keep the port of a dead server from nobody. */
static void test_port_of_a_killed_server(void **state)
{
    char address[256];
    ipcio_conn *conns[8];
    ipcio_server *server;
    const void *data;
    size_t size;
    (void)state;
    for (int round = 0; round < 10; round++) {
        struct child *child = start_server("", "", "", address);
        for (size_t i = 0; i < COUNT(conns); i++) {
            OK(ipcio_connect(address, NULL, LONG_MS, &conns[i]));
            if (i % 2) OK(ipcio_call(conns[i], "x", 1, LONG_MS, &data, &size));
            if (i % 3) OK(ipcio_write(conns[i], "y", 1, LONG_MS));
        }
        kill9(child);
        OK(ipcio_listen(address, NULL, &server));
        meet(server, address);
        for (size_t i = 0; i < COUNT(conns); i++) ipcio_conn_free(conns[i]);
        ipcio_server_free(server);
    }
}

static void test_client_first(void **state)
{
    const char *address = own_address();
    ipcio_server *server;
    ipcio_conn *conn;
    (void)state;
    struct child *child = start("first", address, NULL);
    hear(child, "ready");
    until_asleep(child->pid);
    OK(ipcio_listen(address, NULL, &server));
    OK(ipcio_accept(server, LONG_MS, &conn));
    READS(conn, "at last");
    ipcio_conn_free(conn);
    ipcio_server_free(server);
    finish(child);
}

static void test_nobody_there(void **state)
{
    ipcio_conn *conn;
    const char *address = own_address();
    (void)state;
    FAILS(MISSING, ipcio_connect(address, NULL, 0, &conn));
    assert_null(conn);
    assert_non_null(strstr(ipcio_message(), "nobody serves the port"));
    FAILS(TIMEOUT, ipcio_connect(address, NULL, 20, &conn));
    assert_null(conn);
}

/* A client's own port comes from a range, one after the other.  Nobody listens on one of these, and a client that gets
 * it for its own has reached itself, as far as the kernel is concerned. */
static void test_never_itself(void **state)
{
    int low = 0, high = 0;
    FILE *range = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re");
    (void)state;
    CHECK(range && fscanf(range, "%d %d", &low, &high) == 2);
    fclose(range);
    int port = low + (int)getpid() % ((high - low) / 2) * 2; /* the kernel prefers every second */
    for (int i = 0; i < 30000; i++) {
        struct sockaddr_in mine, other;
        socklen_t size = sizeof mine, other_size = sizeof other;
        ipcio_conn *conn;
        int st = ipcio_connect(text_of("tcp://%d", port), NULL, 0, &conn);
        if (st != 0) {
            FAILS(MISSING, st);
            continue;
        }
        /* Another program of this machine has taken the port meanwhile. */
        int fd = ipcio_write_fileno(conn);
        CHECK(getsockname(fd, (struct sockaddr *)&mine, &size) == 0);
        if (getpeername(fd, (struct sockaddr *)&other, &other_size) == 0) CHECK(mine.sin_port != other.sin_port);
        ipcio_conn_free(conn);
    }
}

static void test_other_users(void **state)
{
    static const char *const framings[] = {"framing=message", "framing=line"};
    (void)state;
    need_root();
    for (size_t i = 0; i < COUNT(framings); i++) {
        char address[256];
        const char *options = framings[i];
        struct child *child = start_server("", "", options, address);
        asks(NOBODY, folder_of(NOBODY), address, options, "closed");
        struct child *stranger = start("knock", NOBODY, port_of(address), NULL);
        hear(stranger, "refused");
        finish(stranger);
        asks("", "", address, options, "question");
        asks("", folder_of("0"), address, options, "question"); /* cannot read the record, but is the same user */
        stop(child);

        child = start_server("", "", text_of("%s&access=all", options), address);
        asks(NOBODY, folder_of(NOBODY), address, options, "question");
        asks("", "", address, options, "question");
        if (i == 0) {
            stranger = start("knock", NOBODY, port_of(address), NULL);
            hear(stranger, "answered");
            finish(stranger);
        }
        stop(child);

        child = start_server(NOBODY, folder_of(NOBODY), options, address);
        asks(SOMEBODY, folder_of(SOMEBODY), address, options, "closed");
        asks(NOBODY, folder_of(NOBODY), address, options, "question");
        asks("", "", address, options, "question"); /* root always may */
        stop(child);
    }
}

static void test_user_namespace(void **state)
{
    char address[256];
    (void)state;
    need_root();
    struct child *child = start("mapped", SOMEBODY, folder_of(SOMEBODY), NULL);
    if (!read_line(child->out, address, sizeof address)) {
        int status = reap(child);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == NO_NAMESPACE);
        print_message("no user namespace can be made here\n");
        skip();
    }
    struct child *stranger = start("knock", NOBODY, port_of(address), NULL);
    hear(stranger, "refused");
    finish(stranger);
    asks(SOMEBODY, folder_of(SOMEBODY), address, "", "question"); /* who shows the key */
    stop(child);
}

/* Strangers who say nothing keep nobody waiting; another user's are let go at once. */
static void test_silent_strangers(void **state)
{
    char address[256];
    int fds[32];
    (void)state;
    struct child *child = start_server("", "", "", address);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atol(port_of(address))),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (size_t i = 0; i < COUNT(fds); i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(fds[i], (struct sockaddr *)&at, sizeof at), 0);
    }
    asks("", "", address, "", "question");
    if (geteuid() == 0) {
        struct child *silent = start("silent", NOBODY, port_of(address), NULL);
        hear(silent, "refused");
        finish(silent);
    }
    for (size_t i = 0; i < COUNT(fds); i++) close(fds[i]);
    stop(child);
}

/* A client that had written, and ended, before the server accepted. */
static void test_gone_before_accept(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        const char *user = i == 0 ? "" : NOBODY;
        if (i == 1) need_root();
        const char *folder = i == 0 ? "" : folder_of(user);
        char address[256];
        struct child *server = start("later", user, folder, "", NULL);
        CHECK(read_line(server->out, address, sizeof address));
        finish(start("leave", user, folder, address, NULL));
        say(server, "accept");
        hear(server, "farewell");
        finish(server);
    }
}

/* Who is of this machine is asked for, wherever he says that he comes from. */
static void test_other_addresses(void **state)
{
    (void)state;
    need_root();
    int status = reap(start("outpost", NULL));
    if (WIFEXITED(status) && WEXITSTATUS(status) == NO_NETWORK) {
        print_message("no network can be made here\n");
        skip();
    }
    assert_int_equal(status, 0);
}

/* Who comes when there is no descriptor left to ask who it is waits for one. */
static void test_no_descriptors(void **state)
{
    struct rlimit limit, low;
    ipcio_server *server;
    ipcio_conn *conn;
    (void)state;
    OK(ipcio_listen("tcp://0", NULL, &server));
    int fd = knock("127.0.0.1", port_of(ipcio_server_address(server)));
    getrlimit(RLIMIT_NOFILE, &limit);
    int next = dup(0);
    close(next);
    low = (struct rlimit){.rlim_cur = (rlim_t)next + 1, .rlim_max = limit.rlim_max};
    setrlimit(RLIMIT_NOFILE, &low);
    int st = ipcio_accept(server, 0, &conn);
    setrlimit(RLIMIT_NOFILE, &limit);
    FAILS(SYSTEM, st);
    OK(ipcio_accept(server, LONG_MS, &conn));
    READS(conn, "x");
    close(fd);
    ipcio_conn_free(conn);
    ipcio_server_free(server);
}

static void test_limit_before_accept(void **state)
{
    unsigned char data[101] = {0};
    ipcio_server *server;
    ipcio_conn *conn, *peer;
    const void *got;
    size_t size;
    (void)state;
    OK(ipcio_listen("tcp://0", "limit=100", &server));
    OK(ipcio_connect(ipcio_server_address(server), NULL, LONG_MS, &conn));
    FAILS(TOOBIG, ipcio_write(conn, data, 101, LONG_MS));
    assert_non_null(strstr(ipcio_message(), "peer's limit of 100"));
    OK(ipcio_write(conn, data, 100, LONG_MS));
    OK(ipcio_accept(server, LONG_MS, &peer));
    OK(ipcio_read(peer, LONG_MS, &got, &size));
    assert_int_equal(size, 100);
    FAILS(TIMEOUT, ipcio_read(peer, 0, &got, &size));
    ipcio_conn_free(conn);
    ipcio_conn_free(peer);
    ipcio_server_free(server);
}

static void test_limit_by_hello(void **state)
{
    static const size_t sizes[] = {4096, 5000, 10000};
    ipcio_server *server;
    ipcio_conn *conn;
    const void *data;
    size_t size;
    (void)state;
    OK(ipcio_listen("tcp://0", "limit=10000", &server));
    struct child *child = start("long", folder_of("0"), ipcio_server_address(server), NULL);
    hear(child, "written");
    until_asleep(child->pid);
    OK(ipcio_accept(server, LONG_MS, &conn));
    for (size_t i = 0; i < COUNT(sizes); i++) {
        OK(ipcio_read(conn, LONG_MS, &data, &size));
        assert_int_equal(size, sizes[i]);
        assert_true(is_filled(data, size, 0));
    }
    FAILS(TIMEOUT, ipcio_read(conn, 0, &data, &size));
    say(child, "end");
    FAILS(CLOSED, ipcio_read(conn, LONG_MS, &data, &size));
    finish(child);
    ipcio_conn_free(conn);
    ipcio_server_free(server);
}

static void test_peer(void **state)
{
    struct ipcio_server *server;
    ipcio_conn *conn, *accepted;
    ipcio_peer peer;
    (void)state;
    OK(ipcio_listen("tcp://0", "access=all", &server));
    OK(ipcio_connect(ipcio_server_address(server), NULL, LONG_MS, &conn));
    OK(ipcio_conn_peer(conn, &peer)); /* the listener's, which has not accepted */
    assert_true(peer.uid == (int64_t)geteuid() && peer.pid == -1 && peer.gid == -1);
    OK(ipcio_accept(server, LONG_MS, &accepted));
    OK(ipcio_conn_peer(accepted, &peer));
    assert_true(peer.uid == (int64_t)geteuid());
    ipcio_conn_free(conn);
    FAILS(INVALID, (ipcio_conn_close(accepted), ipcio_conn_peer(accepted, &peer)));
    ipcio_conn_free(accepted);
    if (geteuid() == 0) {
        struct child *child = start("ask", NOBODY, folder_of(NOBODY), ipcio_server_address(server), "", NULL);
        OK(ipcio_accept(server, LONG_MS, &accepted));
        OK(ipcio_conn_peer(accepted, &peer));
        assert_int_equal(peer.uid, atol(NOBODY));
        READS(accepted, "question");
        WRITES(accepted, "answer");
        hear(child, "answer");
        finish(child);
        ipcio_conn_free(accepted);
    }
    ipcio_server_free(server);
}

/* TCP itself throws away what is under way when a side closes that has unread data. */
static void test_sent_before_closing(void **state)
{
    ipcio_server *server;
    ipcio_conn *conn;
    const void *data;
    size_t size;
    (void)state;
    OK(ipcio_listen("tcp://0", NULL, &server));
    struct child *child = start("rude", ipcio_server_address(server), NULL);
    OK(ipcio_accept(server, LONG_MS, &conn));
    READS(conn, "here");
    WRITES(conn, "never read");
    say(child, "sent");
    finish(child);
    OK(ipcio_read(conn, LONG_MS, &data, &size));
    assert_int_equal(size, 200000);
    assert_true(is_filled(data, size, 1));
    READS(conn, "last");
    FAILS(CLOSED, ipcio_read(conn, LONG_MS, &data, &size));
    ipcio_conn_free(conn);
    ipcio_server_free(server);
}

static void test_records(void **state)
{
    char address[256];
    ipcio_server *server;
    (void)state;
    int before = count_records();
    struct child *one = start_server("", "", "", address), *two = start_server("", "", "", address);
    assert_int_equal(count_records(), before + 2);
    kill9(one);
    kill9(two);
    assert_int_equal(count_records(), before + 2);
    OK(ipcio_listen("tcp://0", NULL, &server));
    assert_int_equal(count_records(), 1);
    ipcio_server_free(server);
    assert_int_equal(count_records(), 0);
}

static void test_two_networks(void **state)
{
    ipcio_server *server;
    (void)state;
    need_root();
    OK(ipcio_listen("tcp://0", NULL, &server));
    int status = reap(start("apart", ipcio_server_address(server), NULL));
    meet(server, ipcio_server_address(server));
    ipcio_server_free(server);
    if (WIFEXITED(status) && WEXITSTATUS(status) == NO_NETWORK) {
        print_message("no network can be made here\n");
        skip();
    }
    assert_int_equal(status, 0);
}

static void test_keepalive(void **state)
{
    static const int seconds[] = {0, 1, 32767};
    (void)state;
    for (size_t i = 0; i < COUNT(seconds); i++) {
        const char *options = text_of("keepalive=%d", seconds[i]);
        ipcio_server *server;
        ipcio_conn *ends[2];
        OK(ipcio_listen("tcp://0", options, &server));
        OK(ipcio_connect(text_of("%s?%s", ipcio_server_address(server), options), NULL, LONG_MS, &ends[0]));
        WRITES(ends[0], "x");
        OK(ipcio_accept(server, LONG_MS, &ends[1]));
        READS(ends[1], "x");
        for (int e = 0; e < 2; e++) {
            int on = -1, idle = -1, fd = ipcio_write_fileno(ends[e]);
            socklen_t size = sizeof on;
            assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, &size), 0);
            assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, &size), 0);
            assert_int_equal(on, seconds[i] != 0);
            if (on) assert_int_equal(idle, seconds[i]);
            ipcio_conn_free(ends[e]);
        }
        ipcio_server_free(server);
    }
    ipcio_server *server;
    FAILS(INVALID, ipcio_listen("tcp://0", "keepalive=32768", &server));
}

int main(int argc, char **argv)
{
    static const struct role roles[] = {
        {"server", server_role}, {"later", later_role}, {"ask", ask_role},   {"leave", leave_role}, {"knock", knock_role},
        {"first", first_role},   {"long", long_role},   {"rude", rude_role}, {"flee", flee_role},
        {"outpost", outpost_role}, {"mapped", mapped_role}, {"silent", silent_role}, {"apart", apart_role}, {NULL, NULL},
    };
    const struct CMUnitTest tests[] = {
        TEST(test_port_0),           TEST(test_ipv6),
        TEST(test_bad_addresses),    TEST(test_second_server),
        TEST(test_port_of_a_killed_server), TEST(test_client_first),
        TEST(test_nobody_there),     TEST(test_never_itself),
        TEST(test_other_users),      TEST(test_silent_strangers),
        TEST(test_gone_before_accept), TEST(test_limit_before_accept),
        TEST(test_limit_by_hello),   TEST(test_peer),
        TEST(test_sent_before_closing), TEST(test_records),
        TEST(test_keepalive),        TEST(test_other_addresses),
        TEST(test_no_descriptors),   TEST(test_user_namespace),
        TEST(test_two_networks),
    };
    RUN(argc, argv, roles, tests);
}
