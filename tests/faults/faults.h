/* faults.h - what the fault tests share besides ../c/helper.h: addresses of every transport, processes that are
 * forked and share memory, and the arguments of the programs:
 *
 *     PROGRAM [--full] [--over TRANSPORT]... [--seconds N] [PATTERN]
 *
 * runs the tests whose names match, a sample of the faults or all of them, over these transports, else over all
 * that the build has; a soak for so long. */
#ifndef TESTS_FAULTS_H
#define TESTS_FAULTS_H

#include "../c/helper.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/mman.h>

enum { SKIPPED = 77 }; /* the exit code of a program that cannot test anything here */

static bool full;              /* all of the faults, not a sample */
static int seconds;            /* how long a soak takes; 0: not said */
static const char *transport;  /* what the tests run over now */

/* ---------------------------------------------------------------------------------------- addresses */

/* A port is kept from others by a socket that is bound to it and does not listen; SO_REUSEADDR lets a server in.  So
 * an address is known, and nobody's, before there is a server. */
enum { PORTS = 32 };
static struct {
    int fd, number;
} ports[PORTS];

static inline void open_ports(void)
{
    for (int i = 0; i < PORTS; i++) {
        struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t size = sizeof name;
        const int on = 1;
        int fd = ports[i].fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        CHECK(fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0);
        CHECK(bind(fd, (struct sockaddr *)&name, sizeof name) == 0);
        CHECK(getsockname(fd, (struct sockaddr *)&name, &size) == 0);
        ports[i].number = ntohs(name.sin_port);
    }
}

static inline void close_ports(void)
{
    for (int i = 0; i < PORTS; i++)
        close(ports[i].fd);
}

static inline bool is_tcp(const char *address) { return strncmp(address, "tcp", 3) == 0; }

static const char quiet[] = "file-quiet"; /* `file` where something lies in the place of the server's socket */

static inline const char *new_folder(void)
{
    const char *path = fresh_path();
    CHECK(mkdir(path, 0700) == 0);
    return path;
}

/* An address that nobody has; of TCP's the last PORTS. */
static inline const char *new_address(void)
{
    static unsigned next;
    if (is_tcp(transport))
        return text_of("tcp://127.0.0.1:%d", ports[next++ % PORTS].number);
    if (strcmp(transport, quiet) != 0)
        return text_of("%s://%s", transport, fresh_name());
    const char *path = new_folder();
    CHECK(mkdir(text_of("%s/ipcio.bell", path), 0700) == 0);
    return text_of("file://%s", path);
}

/* A plain socket that connects to where a server of ipcio listens, or, `serve`, listens there itself. */
static inline int plain_socket(const char *address, bool serve)
{
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    struct sockaddr_in port = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    bool tcp = is_tcp(address);
    struct sockaddr *name = tcp ? (void *)&port : (void *)&local;
    socklen_t size = tcp ? sizeof port : sizeof local;
    const int on = 1;
    int fd = socket(name->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const char *path = strstr(address, "://") + 3;
    CHECK(fd >= 0);
    if (tcp) {
        port.sin_port = htons((uint16_t)atoi(strrchr(address, ':') + 1));
        CHECK(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0);
    } else { /* a name of letters, digits and '-' is that of its file */
        bool named = *path != '/';
        int n = snprintf(local.sun_path, sizeof local.sun_path, "%s%s%s%s%.*s", named ? getenv("IPCIO_DIR") : "",
                         named ? "/" : "", path, named ? "." : "", named ? (int)(path - address) - 3 : 0, address);
        CHECK(n < (int)sizeof local.sun_path);
    }
    CHECK(serve ? bind(fd, name, size) == 0 && listen(fd, 16) == 0 : connect(fd, name, size) == 0);
    return fd;
}

/* ---------------------------------------------------------------------------- processes with shared memory */

static inline void *share(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    return memory;
}

/* What a forked child begins with. */
static inline void be_child(void)
{
    static const int crashes[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGSYS}; /* cmocka would go on in the child */
    for (size_t i = 0; i < COUNT(crashes); i++)
        signal(crashes[i], SIG_DFL);
    in_role = 1;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

/* A process that runs `run`, and ends with 0 if that checked nothing wrong; a child like those of start().  This
 * process must have no handles of ipcio, which are no use after a fork. */
static inline struct child *forked(void (*run)(void *context), void *context)
{
    struct child *child = children;
    while (child->pid != 0)
        child++;
    CHECK(child < children + COUNT(children));
    fflush(NULL);
    child->in = child->out = -1;
    child->pid = fork();
    CHECK(child->pid >= 0);
    if (child->pid == 0) {
        be_child();
        run(context);
        exit(0);
    }
    return child;
}

/* ------------------------------------------------------------------------------------------- running */

static inline void one_line(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A line of counts, which is what these programs are for. */
static inline void one_line(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    printf("%s: ", transport);
    vprintf(format, list);
    putchar('\n');
    fflush(stdout);
    va_end(list);
}

static inline int before_transport(void **state)
{
    if (before_all(state) != 0)
        return -1;
    if (is_tcp(transport))
        open_ports();
    return 0;
}

static inline int after_transport(void **state)
{
    if (is_tcp(transport))
        close_ports();
    return after_all(state);
}

static const char *const schemes[] = {"shm", "pipe", "tcp", "file", quiet}; /* what new_address() knows */
static bool chosen[COUNT(schemes)]; /* by the arguments; none: all but the quiet one, which tells nothing at once */
static bool any_chosen;

static inline void take_arguments(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--full") == 0) {
            full = true;
        } else if (strcmp(argv[i], "--seconds") == 0 && i + 1 < argc) {
            seconds = atoi(argv[++i]);
        } else if (strcmp(argv[i], "--over") == 0 && i + 1 < argc) {
            any_chosen = true;
            i++;
            for (size_t k = 0; k < COUNT(schemes); k++)
                chosen[k] |= strcmp(schemes[k], argv[i]) == 0;
        } else {
            cmocka_set_test_filter(argv[i]);
        }
}

/* Defined by a program that is not for all of them. */
#ifndef RUNS_OVER
#define RUNS_OVER(scheme) true
#endif

/* Sets `transport` to the next that the tests are to run over. */
static inline bool next_transport(void)
{
    static size_t next;
    for (; next < COUNT(schemes); next++) {
        if ((any_chosen ? chosen[next] : schemes[next] != quiet) && RUNS_OVER(schemes[next])) {
            transport = schemes[next++];
            return true;
        }
    }
    return false;
}

/* The body of main, instead of RUN's. */
#define RUN_OVER_TRANSPORTS(argc, argv, roles, tests)                                                          \
    do {                                                                                                       \
        int wrong_ = 0;                                                                                        \
        if ((argc) > 2 && strcmp((argv)[1], "--role") == 0)                                                    \
            return run_role(roles, (argv) + 2);                                                                \
        take_arguments(argc, argv);                                                                            \
        while (next_transport())                                                                               \
            wrong_ += cmocka_run_group_tests_name(transport, tests, before_transport, after_transport);        \
        return wrong_ != 0;                                                                                    \
    } while (0)

#endif
