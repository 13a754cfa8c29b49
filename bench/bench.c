/* bench.c - messages between two real processes, timed.
 *
 *     bench BACKEND MODE SIZE [MS]
 *
 * BACKEND  ipcio ADDRESS   this library, such as: bench ipcio pipe://bench?buffer=4096 pp 64; tcp://0 for any port
 *          socket-unix, socket-tcp  a bare blocking socket: write all, read all; who reads is told the length
 *          spin-unix, spin-tcp      the same, but a reader looks again and again and never sleeps
 *          files           a bare file for each message, in a folder beside those of `ipcio file://bench`: written and
 *                          renamed, and a byte through a Unix socket tells of it; opened, read and removed
 *          limit           no library and no system call: a ring in shared memory, both sides spin; RING: its size,
 *                          a power of two up to 1 MiB
 *          peer FILE       another library, by a shared object made from one of peers/
 * MODE     pp              round trips
 *          paced:USEC      a round trip, then a busy pause of USEC microseconds, and so on
 *          crowd:N         ipcio only: round trips of one of N clients of ipcio_serve; the others have made one each
 *                          and are idle.  Each process needs N descriptors and some more: see `ulimit -n`
 *          stream          messages one way, the last one is answered
 *          self            ipcio only, and MS is a count: so many messages written and read by one process, to
 *                          count instructions and allocations; prints nothing
 *
 * COPY=1: ipcio's receiver copies messages to memory of its own, as programs do that keep them, and checks their
 * numbers only; else it reads every byte where it lies.
 * PIN=1 puts the client on processor 0 and the server on processor 1.  Prints BACKEND MODE SIZE p50 p99 mean
 * rate n: nanoseconds, messages a second, how many ("-" where it does not apply).
 *
 *     bench awake
 *
 * keeps processors 0 and 1 from sleeping until its standard input ends, and takes no time from others. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ipcio.h"
#include "peers/peer.h"

/* A way of talking.  Send copies from the caller's memory; receive answers where the message lies until the
 * next receive. */
typedef struct {
    const char *name;
    void (*prepare)(void);     /* before the fork */
    void (*serve)(FILE *ready); /* in the server; a line to `ready` says that clients may come, and to where */
    void (*connect)(const char *where);
    void (*send)(const void *data, size_t n);
    const void *(*receive)(size_t n);
    void (*close)(void); /* in the server after the client */
} backend;

static const char *address; /* what the command line gave */
static uint8_t *in;         /* room for a message */

static void die(const char *what, const char *why)
{
    fprintf(stderr, "bench: %s: %s\n", what, why);
    exit(2);
}

static void die_os(const char *what)
{
    die(what, strerror(errno));
}

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

static void nothing(void)
{
}

/* ------------------------------------------------------------------------------------------ sockets */

static int sock, receive_flags;

static int new_socket(int family)
{
    int s = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s < 0) die_os("socket");
    return s;
}

static int listen_at(const struct sockaddr *a, socklen_t size)
{
    int listener = new_socket(a->sa_family);
    if (bind(listener, a, size) != 0 || listen(listener, 1) != 0) die_os("listen");
    return listener;
}

static void accept_from(int listener)
{
    sock = accept(listener, NULL, NULL);
    if (sock < 0) die_os("accept");
    close(listener);
}

static void connect_at(const struct sockaddr *a, socklen_t size)
{
    sock = new_socket(a->sa_family);
    if (connect(sock, a, size) != 0) die_os("connect");
}

static struct sockaddr_un at_path(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    return a;
}

static void unix_serve(FILE *ready)
{
    char path[64];
    snprintf(path, sizeof path, "/tmp/ipcio-bench-%d.sock", (int)getpid());
    struct sockaddr_un a = at_path(path);
    int listener = listen_at((struct sockaddr *)&a, sizeof a);
    fprintf(ready, "%s\n", path);
    fflush(ready);
    accept_from(listener);
    unlink(path);
}

static void unix_connect(const char *where)
{
    struct sockaddr_un a = at_path(where);
    connect_at((struct sockaddr *)&a, sizeof a);
}

static struct sockaddr_in at_port(int port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void tcp_tune(void)
{
    if (setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)) != 0) die_os("TCP_NODELAY");
}

static void tcp_serve(FILE *ready)
{
    struct sockaddr_in a = at_port(0);
    socklen_t size = sizeof a;
    int listener = listen_at((struct sockaddr *)&a, size);
    if (getsockname(listener, (struct sockaddr *)&a, &size) != 0) die_os("getsockname");
    fprintf(ready, "%d\n", ntohs(a.sin_port));
    fflush(ready);
    accept_from(listener);
    tcp_tune();
}

static void tcp_connect(const char *where)
{
    struct sockaddr_in a = at_port(atoi(where));
    connect_at((struct sockaddr *)&a, sizeof a);
    tcp_tune();
}

static void socket_send(const void *data, size_t n)
{
    for (size_t done = 0; done < n;) {
        ssize_t r = send(sock, (const char *)data + done, n - done, MSG_NOSIGNAL);
        if (r < 0) die_os("send");
        done += (size_t)r;
    }
}

static const void *socket_receive(size_t n)
{
    for (size_t got = 0; got < n;) {
        ssize_t r = recv(sock, in + got, n - got, receive_flags);
        if (r == 0 || (r < 0 && errno != EAGAIN)) die_os("recv");
        if (r > 0) got += (size_t)r;
    }
    return in;
}

static void spin(void)
{
    receive_flags = MSG_DONTWAIT;
}

/* -------------------------------------------------------------------------------------------- files */

static char folder_path[256];
static int folder;
static struct {
    char side;
    unsigned long number;
} own, other;

static void files_prepare(void)
{
    const char *names = getenv("IPCIO_DIR");
    snprintf(folder_path, sizeof folder_path, "%s/bench-files-%d", names ? names : "/dev/shm", (int)getpid());
    if (mkdir(folder_path, 0700) != 0 || (folder = open(folder_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        die_os(folder_path);
}

static void files_serve(FILE *ready)
{
    unix_serve(ready);
    own.side = 's';
    other.side = 'c';
}

static void files_connect(const char *where)
{
    unix_connect(where);
    own.side = 'c';
    other.side = 's';
}

static void files_send(const void *data, size_t n)
{
    char draft[] = {own.side, 0}, name[32];
    snprintf(name, sizeof name, "%c%016lx", own.side, ++own.number);
    int f = openat(folder, draft, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (f < 0 || write(f, data, n) != (ssize_t)n || close(f) != 0 || renameat(folder, draft, folder, name) != 0)
        die_os("send");
    socket_send("", 1);
}

static const void *files_receive(size_t n)
{
    char name[32];
    snprintf(name, sizeof name, "%c%016lx", other.side, ++other.number);
    (void)socket_receive(1);
    int f = openat(folder, name, O_RDONLY | O_CLOEXEC);
    if (f < 0 || read(f, in, n) != (ssize_t)n || close(f) != 0 || unlinkat(folder, name, 0) != 0) die_os("receive");
    return in;
}

static void files_close(void)
{
    (void)rmdir(folder_path); /* by the last of the two */
}

/* -------------------------------------------------------------------------------------------- limit */

enum { RING = 1 << 20 };

static size_t ring_size = RING;

typedef struct {
    _Alignas(128) _Atomic uint64_t head;
    _Alignas(128) _Atomic uint64_t tail;
    _Alignas(4096) uint8_t data[RING];
} ring;

static ring *rings, *to, *from;
static uint64_t head, tail_seen, tail, head_seen;

static void limit_prepare(void)
{
    const char *asked = getenv("RING");
    if (asked) ring_size = strtoul(asked, NULL, 0);
    if (ring_size < 128 || ring_size > RING || (ring_size & (ring_size - 1))) die("RING", "a power of two up to 1 MiB");
    rings = mmap(NULL, 2 * sizeof *rings, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (rings == MAP_FAILED) die_os("mmap");
}

static void limit_serve(FILE *ready)
{
    to = rings;
    from = rings + 1;
    fputs("\n", ready);
    fflush(ready);
}

static void limit_connect(const char *where)
{
    (void)where;
    to = rings + 1;
    from = rings;
}

/* How much of `left` bytes lies in one place from `position` on, and the room it takes. */
static size_t piece(uint64_t position, size_t left, size_t *room)
{
    size_t n = ring_size - (size_t)(position & (ring_size - 1));
    if (n > ring_size / 2) n = ring_size / 2;
    if (n > left) n = left;
    *room = (n + 63) & ~(size_t)63;
    return n;
}

static void limit_send(const void *data, size_t n)
{
    for (size_t done = 0, room, k; done < n; done += k) {
        k = piece(head, n - done, &room);
        while (head + room - tail_seen > ring_size) {
            tail_seen = atomic_load_explicit(&to->tail, memory_order_acquire);
            relax();
        }
        memcpy(to->data + (head & (ring_size - 1)), (const uint8_t *)data + done, k);
        head += room;
        atomic_store_explicit(&to->head, head, memory_order_release);
    }
}

static const void *limit_receive(size_t n)
{
    for (size_t got = 0, room, k; got < n; got += k) {
        k = piece(tail, n - got, &room);
        while (head_seen - tail < room) {
            head_seen = atomic_load_explicit(&from->head, memory_order_acquire);
            if (head_seen - tail < room) relax();
        }
        memcpy(in + got, from->data + (tail & (ring_size - 1)), k);
        tail += room;
        atomic_store_explicit(&from->tail, tail, memory_order_release);
    }
    return in;
}

/* -------------------------------------------------------------------------------------------- ipcio */

static ipcio_conn *conn;
static ipcio_server *server;

static void must(int st)
{
    if (st < 0) die(ipcio_code(st), ipcio_message());
}

static void ipcio_begin(FILE *ready)
{
    must(ipcio_listen(address, NULL, &server));
    fprintf(ready, "%s\n", ipcio_server_address(server));
    fflush(ready);
}

static void ipcio_serve_one(FILE *ready)
{
    ipcio_begin(ready);
    must(ipcio_accept(server, IPCIO_FOREVER, &conn));
    ipcio_server_free(server);
}

static void ipcio_connect_to(const char *where)
{
    must(ipcio_connect(where, strchr(address, '?') ? strchr(address, '?') + 1 : NULL, IPCIO_FOREVER, &conn));
}

static void ipcio_send(const void *data, size_t n)
{
    must(ipcio_write(conn, data, n, IPCIO_FOREVER));
}

static uint8_t *copied; /* where messages are copied to */

static bool in_pieces; /* set elsewhere: of a length with a known bound gcc copies by `rep movs` */

/* Calling memcpy would cost as much as copying a short one. */
static void copy(uint8_t *into, const uint8_t *data, size_t n)
{
    enum { STEP = 16, FEW = 6 * STEP };
    if (n % STEP || n > FEW) memcpy(into, data, n);
    else
        for (; n > 0; into += STEP, data += STEP, n -= STEP) memcpy(into, data, STEP);
}

/* A long one in pieces: the first is copied while the last is still being written.  A shorter one is sooner read at once. */
static void ipcio_copy(size_t n)
{
    const void *data;
    size_t size, got = 0;
    if (in_pieces) {
        must(ipcio_read_start(conn, IPCIO_FOREVER, &size));
        for (size_t at = 0; at < size && at < n; at += got)
            must(ipcio_read_buffer(conn, copied + at, n - at, IPCIO_FOREVER, &got));
        must(ipcio_read_end(conn, IPCIO_FOREVER));
    } else {
        must(ipcio_read(conn, IPCIO_FOREVER, &data, &size));
        copy(copied, data, size < n ? size : n);
    }
    if (size != n) die("ipcio", "a message of another length came");
}

static const void *ipcio_receive(size_t n)
{
    const void *data;
    size_t size;
    if (copied) {
        ipcio_copy(n);
        return copied;
    }
    must(ipcio_read(conn, IPCIO_FOREVER, &data, &size));
    if (size != n) die("ipcio", "a message of another length came");
    return data;
}

/* Both ends in one process.  A message may be longer than what fits between them. */
static void ipcio_self(const void *data, size_t n, long count)
{
    ipcio_conn *peer;
    must(ipcio_listen(address, NULL, &server));
    must(ipcio_connect(ipcio_server_address(server), NULL, IPCIO_FOREVER, &conn));
    must(ipcio_accept(server, IPCIO_FOREVER, &peer));
    while (count-- > 0) {
        const void *got;
        size_t size;
        int writing, reading;
        do {
            must(writing = ipcio_write(conn, data, n, IPCIO_TRY));
            must(reading = ipcio_read(peer, IPCIO_TRY, &got, &size));
        } while (writing > 0);
        while (reading > 0) must(reading = ipcio_read(peer, IPCIO_TRY, &got, &size));
    }
    ipcio_conn_free(peer);
    ipcio_conn_free(conn);
    ipcio_server_free(server);
}

static void ipcio_close(void)
{
    ipcio_conn_free(conn);
}

/* --------------------------------------------------------------------------------------------- peer */

static const peer_library *library;
static size_t message_size;
static void *linked;

static void peer_prepare(void)
{
    void *file = dlopen(address, RTLD_NOW);
    library = file ? dlsym(file, "bench_peer") : NULL;
    if (!library) die("peer", dlerror());
}

static void peer_serve(FILE *ready)
{
    char name[64];
    snprintf(name, sizeof name, "ipcio-bench-%d", (int)getpid());
    fprintf(ready, "%s\n", name);
    fflush(ready);
    linked = library->open(name, true, message_size);
}

static void peer_connect(const char *where)
{
    linked = library->open(where, false, message_size);
}

static void peer_send(const void *data, size_t n)
{
    library->send(linked, data, n);
}

static const void *peer_receive(size_t n)
{
    library->receive(linked, in, n);
    return in;
}

static void peer_close(void)
{
    library->close(linked);
}

static const backend backends[] = {
    {"ipcio", nothing, ipcio_serve_one, ipcio_connect_to, ipcio_send, ipcio_receive, ipcio_close},
    {"socket-unix", nothing, unix_serve, unix_connect, socket_send, socket_receive, nothing},
    {"spin-unix", spin, unix_serve, unix_connect, socket_send, socket_receive, nothing},
    {"socket-tcp", nothing, tcp_serve, tcp_connect, socket_send, socket_receive, nothing},
    {"spin-tcp", spin, tcp_serve, tcp_connect, socket_send, socket_receive, nothing},
    {"files", files_prepare, files_serve, files_connect, files_send, files_receive, files_close},
    {"limit", limit_prepare, limit_serve, limit_connect, limit_send, limit_receive, nothing},
    {"peer", peer_prepare, peer_serve, peer_connect, peer_send, peer_receive, peer_close},
};

/* ----------------------------------------------------------------------------------------- messages
 * Byte 0 says whether it is the last one; bytes 8 to 15 are its number.  Who receives a message reads every
 * byte of it and checks the sum. */

enum { FILL = 3 };

static void mark(uint8_t *message, size_t n, uint64_t number, bool last)
{
    if (n >= 16) memcpy(message + 8, &number, 8);
    message[0] = last;
}

static uint64_t word(const uint8_t *p)
{
    uint64_t w;
    memcpy(&w, p, 8);
    return w;
}

static uint64_t sum(const uint8_t *p, size_t n)
{
    uint64_t a = 0, b = 0, c = 0, d = 0;
    for (; n >= 32; p += 32, n -= 32) {
        a += word(p);
        b += word(p + 8);
        c += word(p + 16);
        d += word(p + 24);
    }
    for (; n >= 8; p += 8, n -= 8) a += word(p);
    for (; n > 0; p++, n--) a += *p;
    return a + b + c + d;
}

static uint64_t plain; /* the sum of a message whose byte 0 and number are 0 */

/* Answers whether it is the last one. */
static bool check(const uint8_t *message, size_t n, uint64_t number)
{
    bool right = copied ? n < 16 || word(message + 8) == number
                        : sum(message, n) == plain + message[0] + (n >= 16 ? number : 0);
    if (!right) die("check", "a wrong message came");
    return message[0];
}

static void serve(const backend *b, size_t n, bool answer)
{
    for (uint64_t number = 1;; number++) {
        const uint8_t *message = b->receive(n);
        bool last = check(message, n, number);
        if (answer || last) b->send(message, n);
        if (last) return;
    }
}

static int answer_crowd(void *size, ipcio_conn *client, const void *request, size_t n)
{
    static uint64_t number;
    if (n != *(const size_t *)size) die("ipcio", "a message of another length came");
    bool last = check(request, n, ++number);
    must(ipcio_write(client, request, n, IPCIO_FOREVER));
    if (last) ipcio_server_stop(server);
    return 0;
}

static void serve_crowd(FILE *ready, size_t n)
{
    ipcio_begin(ready);
    must(ipcio_serve(server, answer_crowd, &n));
    ipcio_server_free(server);
}

static uint64_t number;

static void send_next(const backend *b, uint8_t *out, size_t n, bool last)
{
    mark(out, n, ++number, last);
    b->send(out, n);
}

static void round_trip(const backend *b, uint8_t *out, size_t n, bool last)
{
    send_next(b, out, n, last);
    (void)check(b->receive(n), n, number);
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void time_round_trips(const backend *b, const char *mode, uint8_t *out, size_t n, int64_t ms, int64_t gap)
{
    enum { MOST = 1 << 21 };
    uint32_t *times = malloc(MOST * sizeof *times);
    if (!times) die_os("malloc");
    memset(times, 1, MOST * sizeof *times); /* no page fault while the time runs */

    int64_t warm = now() + ms * 200000;
    do round_trip(b, out, n, false);
    while (now() < warm);

    size_t k = 0;
    int64_t begin = now(), end = begin + ms * 1000000, total = 0;
    do {
        round_trip(b, out, n, false);
        int64_t then = now();
        times[k++] = (uint32_t)(then - begin);
        total += then - begin;
        for (begin = then; begin < then + gap; begin = now()) relax();
    } while (begin < end && k < MOST);
    round_trip(b, out, n, true);

    qsort(times, k, sizeof *times, compare);
    printf("%s %s %zu %u %u %.0f %.0f %zu\n", b->name, mode, n, times[k / 2], times[k * 99 / 100],
           (double)total / (double)k, 1e9 * (double)k / (double)total, k);
    free(times);
}

static void time_stream(const backend *b, uint8_t *out, size_t n, int64_t ms)
{
    int burst = n <= 1024 ? 256 : n <= 65536 ? 16 : 1; /* between two looks at the clock */
    int64_t warm = now() + ms * 200000;
    while (now() < warm)
        for (int i = 0; i < burst; i++) send_next(b, out, n, false);

    uint64_t before = number;
    int64_t begin = now(), end = begin + ms * 1000000;
    while (now() < end)
        for (int i = 0; i < burst; i++) send_next(b, out, n, false);
    round_trip(b, out, n, true); /* the answer comes when all have been read */
    double seconds = (double)(now() - begin) / 1e9, count = (double)(number - before);
    printf("%s stream %zu - - - %.0f %.0f\n", b->name, n, count / seconds, count);
}

/* ---------------------------------------------------------------------------------------- processes */

static void die_with_parent(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

static void pin(int processor)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)processor, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0) die_os("sched_setaffinity");
}

static void pin_if_asked(int processor)
{
    const char *asked = getenv("PIN");
    if (asked && strcmp(asked, "1") == 0) pin(processor);
}

static int keep_awake(void)
{
    for (int processor = 0; processor < 2; processor++) {
        if (fork() != 0) continue;
        die_with_parent();
        pin(processor);
        if (sched_setscheduler(0, SCHED_IDLE, &(struct sched_param){0}) != 0) die_os("sched_setscheduler");
        for (;;) relax();
    }
    while (getchar() != EOF) continue;
    return 0;
}

static int run(const backend *b, const char *mode, size_t n, int64_t ms)
{
    bool stream = strcmp(mode, "stream") == 0;
    int64_t gap = strncmp(mode, "paced:", 6) == 0 ? atoll(mode + 6) * 1000 : 0;
    long crowd = strncmp(mode, "crowd:", 6) == 0 ? atol(mode + 6) : 0;
    size_t room = (n + 8191) & ~(size_t)4095;
    uint8_t *out = aligned_alloc(4096, room);
    in = aligned_alloc(4096, room);
    if (!out || !in) die_os("malloc");
    memset(in, 0, room);
    memset(out, FILL, n);
    mark(out, n, 0, false);
    plain = sum(out, n);
    if (strcmp(mode, "self") == 0) {
        ipcio_self(out, n, (long)ms);
        return 0;
    }

    int ready[2], done[2];
    char where[4096];
    if (pipe(ready) != 0 || pipe(done) != 0) die_os("pipe");
    message_size = n;
    b->prepare();
    unsigned patience = (unsigned)(ms / 500) + 30;
    pid_t child = fork();
    if (child < 0) die_os("fork");
    alarm(patience); /* nothing here may hang */
    if (child == 0) {
        die_with_parent();
        pin_if_asked(1);
        close(ready[0]);
        close(done[1]);
        FILE *f = fdopen(ready[1], "w");
        if (!f) die_os("fdopen");
        if (crowd) {
            serve_crowd(f, n);
        } else {
            b->serve(f);
            serve(b, n, !stream);
        }
        while (read(done[0], where, 1) > 0) continue; /* the last answer may still be on its way */
        b->close();
        exit(0);
    }
    pin_if_asked(0);
    close(ready[1]);
    close(done[0]);
    FILE *f = fdopen(ready[0], "r");
    if (!f || !fgets(where, sizeof where, f)) die("server", "it did not start");
    fclose(f);
    where[strcspn(where, "\n")] = 0;
    b->connect(where);
    while (--crowd > 0) { /* the connections before the last stay open till the end of the process */
        round_trip(b, out, n, false);
        b->connect(where);
    }
    if (stream) time_stream(b, out, n, ms);
    else time_round_trips(b, mode, out, n, ms, gap);
    b->close();
    close(done[1]);
    int status;
    return waitpid(child, &status, 0) == child && status == 0 ? 0 : 2;
}

static int usage(void)
{
    fputs("usage: bench ipcio ADDRESS|socket-unix|socket-tcp|spin-unix|spin-tcp|files|limit|peer FILE\n"
          "             pp|paced:USEC|stream SIZE [MS]\n"
          "       bench ipcio ADDRESS crowd:N|self SIZE [MS]\n"
          "       bench awake\n", stderr);
    return 1;
}

static bool can(const backend *b, const char *mode)
{
    if (strncmp(mode, "crowd:", 6) == 0) return b == backends && atol(mode + 6) > 0;
    if (strcmp(mode, "self") == 0) return b == backends;
    return strcmp(mode, "pp") == 0 || strcmp(mode, "stream") == 0 || strncmp(mode, "paced:", 6) == 0;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "awake") == 0) return keep_awake();
    const backend *b = NULL;
    for (size_t i = 0; argc > 1 && i < sizeof backends / sizeof *backends; i++)
        if (strcmp(argv[1], backends[i].name) == 0) b = backends + i;
    if (b && (b == backends || b->prepare == peer_prepare)) {
        address = argv[2];
        argv++;
        argc--;
    }
    if (!b || argc < 4 || argc > 5) return usage();
    size_t n = strtoul(argv[3], NULL, 0);
    int64_t ms = argc > 4 ? atoll(argv[4]) : 200;
    const char *copy = getenv("COPY");
    if (copy && strcmp(copy, "1") == 0 && !(copied = aligned_alloc(64, (n + 63) / 64 * 64))) die_os("malloc");
    in_pieces = n > 4096;
    return can(b, argv[2]) && n > 0 && ms > 0 ? run(b, argv[2], n, ms) : usage();
}
