/* test_shm.c - shared memory: peers that break its rules, die or stop in the middle, and are many; sleeping and waking;
 * what the system refuses.  The raw client here makes by hand what core/src/channel/shm.c makes; test_raw_client shows that
 * it makes it right. */
#include "helper.h"

#include <stdbool.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "channel/ring.h"

#ifdef SYS_futex_time64 /* what the library calls on 32 bits */
#undef SYS_futex
#define SYS_futex SYS_futex_time64
#endif

static const char *fresh_shm(void) { return text_of("shm://%s", fresh_name()); }

/* ------------------------------------------------------------------------------------- a client by hand */

enum { PAGE = 4096, SMALL = 7 * PAGE, LARGE = 64 * PAGE };
enum { CLIENT, SERVER };
enum { COUNT_MASK = (1 << RING_COUNT_BITS) - 1 };
#define GREETING "ipcio s1"

struct memory {
    char magic[8];
    uint32_t small, large, limit;
    struct {
        _Alignas(128) _Atomic uint32_t state;
    } side[2];
    struct {
        _Alignas(128) _Atomic uint32_t tail;
    } ring[2]; /* of what the client writes, and of what the server does */
};

/* What is handed over, and how it is made. */
struct made {
    const char *magic;
    uint32_t small, large, limit;
    off_t size_more; /* than the right size */
    int seals;
    const char *greeting; /* the first bytes on the socket */
};
#define RIGHT_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
#define RIGHT .magic = GREETING, .small = SMALL, .large = LARGE, .limit = 1 << 26, .seals = RIGHT_SEALS, .greeting = GREETING

struct raw {
    int fd, memfd;
    size_t size;
    struct memory *memory; /* with the two smaller segments */
    uint32_t at, offset;   /* of the next frame it writes */
    uint32_t read_at, read_offset;
};

static int raw_socket(const char *address)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int n = snprintf(name.sun_path, sizeof name.sun_path, "%s/%s.shm", getenv("IPCIO_DIR"), address + strlen("shm://"));
    CHECK(fd >= 0 && n < (int)sizeof name.sun_path);
    CHECK(connect(fd, (struct sockaddr *)&name, sizeof name) == 0);
    return fd;
}

/* Sends bytes and with them some descriptors. */
static void raw_hand(int fd, const char *bytes, size_t size, const int *files, int n)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(4 * sizeof(int))];
    } control = {0};
    struct iovec piece = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = size};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    if (n > 0) {
        struct cmsghdr *c;
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE((size_t)n * sizeof(int));
        c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN((size_t)n * sizeof(int));
        memcpy(CMSG_DATA(c), files, (size_t)n * sizeof(int));
    }
    CHECK(sendmsg(fd, &message, MSG_NOSIGNAL) == (ssize_t)size);
}

static off_t right_size(const struct made *made) { return PAGE + 2 * (off_t)made->small + 2 * (off_t)made->large; }

static void make_memory(struct raw *raw, const struct made *made)
{
    raw->memfd = memfd_create("raw", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    raw->size = PAGE + 2 * SMALL; /* is enough for the tests here; the memory may be less */
    CHECK(raw->memfd >= 0 && ftruncate(raw->memfd, right_size(made) + made->size_more) == 0);
    raw->memory = mmap(NULL, raw->size, PROT_READ | PROT_WRITE, MAP_SHARED, raw->memfd, 0);
    CHECK(raw->memory != MAP_FAILED);
    if (right_size(made) + made->size_more > 0) {
        memcpy(raw->memory->magic, made->magic, sizeof raw->memory->magic);
        raw->memory->small = made->small;
        raw->memory->large = made->large;
        raw->memory->limit = made->limit;
    }
    if (made->seals & F_SEAL_WRITE) { /* nobody may have it mapped */
        munmap(raw->memory, raw->size);
        raw->memory = NULL;
    }
    CHECK(made->seals == 0 || fcntl(raw->memfd, F_ADD_SEALS, made->seals) == 0);
}

static void raw_connect(struct raw *raw, const char *address, const struct made *made)
{
    *raw = (struct raw){0};
    make_memory(raw, made);
    raw->fd = raw_socket(address);
    if (made->greeting[0])
        raw_hand(raw->fd, made->greeting, strlen(made->greeting), &raw->memfd, 1);
}

static void raw_close(struct raw *raw)
{
    if (raw->memory)
        CHECK(munmap(raw->memory, raw->size) == 0);
    close(raw->memfd);
    if (raw->fd >= 0)
        close(raw->fd);
}

static _Atomic uint32_t *head_of(struct raw *raw, int side)
{
    return (_Atomic uint32_t *)(void *)((uint8_t *)raw->memory + PAGE + (size_t)side * SMALL);
}

static uint8_t *ring_of(struct raw *raw, int side) { return (uint8_t *)head_of(raw, side) + RING_UNIT; }

/* Publishes up to a count; epoch and segment stay 0. */
static void raw_head(struct raw *raw, uint32_t count)
{
    atomic_store(head_of(raw, CLIENT), count & COUNT_MASK);
}

/* A header at the place of the next frame. */
static void raw_header(struct raw *raw, uint32_t size, uint32_t kind, uint32_t length)
{
    ring_frame header = {.size_kind = size << 4 | kind, .length = length};
    memcpy(ring_of(raw, CLIENT) + raw->offset, &header, sizeof header);
}

/* Wakes the victim, wherever it sleeps. */
static void raw_bell(struct raw *raw) { (void)send(raw->fd, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT); }

/* A whole frame, which must fit before the segment's end. */
static void raw_frame(struct raw *raw, const void *data, uint32_t size, uint32_t kind, uint32_t length)
{
    uint32_t units = 1 + (size + RING_UNIT - 1) / RING_UNIT;
    CHECK(raw->offset + units * RING_UNIT <= SMALL - RING_UNIT);
    raw_header(raw, size, kind, length);
    memcpy(ring_of(raw, CLIENT) + raw->offset + sizeof(ring_frame), data, size);
    raw->at += units;
    raw->offset += units * RING_UNIT;
    raw_head(raw, raw->at);
    raw_bell(raw);
}

static void raw_message(struct raw *raw, const char *text)
{
    raw_frame(raw, text, (uint32_t)strlen(text), RING_FIRST | RING_LAST, (uint32_t)strlen(text));
}

/* The server's next message, of one frame in the first segment and epoch, without sleeping. */
static void raw_reads(struct raw *raw, const char *text)
{
    int64_t end = now_ms() + LONG_MS;
    ring_frame header;
    while ((atomic_load(head_of(raw, SERVER)) & COUNT_MASK) == raw->read_at) {
        CHECK(now_ms() < end);
        sched_yield();
    }
    memcpy(&header, ring_of(raw, SERVER) + raw->read_offset, sizeof header);
    CHECK(header.size_kind >> 4 == strlen(text));
    CHECK(memcmp(ring_of(raw, SERVER) + raw->read_offset + sizeof header, text, strlen(text)) == 0);
    raw->read_at += 1 + ((header.size_kind >> 4) + RING_UNIT - 1) / RING_UNIT;
    raw->read_offset = raw->read_at * RING_UNIT;
    atomic_store(&raw->memory->ring[SERVER].tail, raw->read_at);
}

static void still_serves(const char *address)
{
    ipcio_conn *conn;
    const void *answer;
    size_t size;
    OK(ipcio_connect(address, NULL, LONG_MS, &conn));
    OK(ipcio_call(conn, "real", 4, LONG_MS, &answer, &size));
    CHECK(size == 4 && memcmp(answer, "real", 4) == 0);
    ipcio_conn_free(conn);
}

/* What is made by hand is right, or the other tests here mean nothing. */
static void test_raw_client(void **state)
{
    const char *address = fresh_shm();
    struct child *server = start_echo(address);
    const struct made right = {RIGHT};
    struct raw raw;
    (void)state;
    raw_connect(&raw, address, &right);
    raw_message(&raw, "hello");
    raw_reads(&raw, "hello");
    raw_message(&raw, "again");
    raw_reads(&raw, "again");
    raw_close(&raw);
    still_serves(address);
    stop(server);
}

/* ---------------------------------------------------------------------------------------- what is refused */

static int count_mappings(void)
{
    int lines = 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    CHECK(maps != NULL);
    for (int c; (c = getc(maps)) != EOF;)
        lines += c == '\n';
    fclose(maps);
    return lines;
}

/* The server's side of a client that hands over something wrong: refused when it is read, and nothing is written.
 * Memory that the system does not map counts as gone. */
static void refused(ipcio_server *server, const char *what)
{
    ipcio_conn *conn;
    const void *data;
    size_t size;
    int st = ipcio_accept(server, LONG_MS, &conn);
    check_status(st, IPCIO_OK, what, __FILE__, __LINE__);
    st = ipcio_read(conn, LONG_MS, &data, &size);
    if (st != IPCIO_CLOSED)
        check_status(st, IPCIO_PROTOCOL, what, __FILE__, __LINE__);
    check_status(ipcio_read(conn, LONG_MS, &data, &size), st, what, __FILE__, __LINE__);
    check_status(ipcio_write(conn, "x", 1, LONG_MS), IPCIO_CLOSED, what, __FILE__, __LINE__);
    ipcio_conn_free(conn);
}

static void test_wrong_memory(void **state)
{
#define WRONG(...) {#__VA_ARGS__, {RIGHT, __VA_ARGS__}}
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverride-init"
    static const struct {
        const char *what;
        struct made made;
    } wrong[] = {
        WRONG(.seals = 0),
        WRONG(.seals = F_SEAL_SHRINK),
        WRONG(.seals = F_SEAL_GROW),
        WRONG(.seals = RIGHT_SEALS | F_SEAL_WRITE),
        WRONG(.seals = RIGHT_SEALS | F_SEAL_FUTURE_WRITE),
        WRONG(.magic = "ipcio s2"),
        WRONG(.magic = "ipcio p1"),
        WRONG(.magic = "\0\0\0\0\0\0\0\0"),
        WRONG(.greeting = "ipcio s2"),
        WRONG(.greeting = "ipcio s"),
        WRONG(.greeting = "x"),
        WRONG(.small = 0),
        WRONG(.small = 1),
        WRONG(.small = RING_LEAST),
        WRONG(.small = SMALL + 1),
        WRONG(.small = SMALL + RING_UNIT),
        WRONG(.small = RING_MOST + PAGE),
        WRONG(.small = 1u << 31),
        WRONG(.small = UINT32_MAX - PAGE + 1),
        WRONG(.large = PAGE), /* less than the smaller ones */
        WRONG(.large = SMALL - PAGE),
        WRONG(.large = LARGE + 1),
        WRONG(.large = RING_MOST + PAGE),
        WRONG(.large = UINT32_MAX),
        WRONG(.limit = 0),
        WRONG(.size_more = 1),
        WRONG(.size_more = -1),
        WRONG(.size_more = PAGE),
        WRONG(.size_more = -PAGE),
        WRONG(.size_more = -2 * LARGE),
        WRONG(.size_more = -2 * LARGE - 2 * SMALL),
        WRONG(.size_more = -2 * LARGE - 2 * SMALL - 1),
        WRONG(.size_more = -2 * LARGE - 2 * SMALL - PAGE), /* no byte */
        WRONG(.size_more = (off_t)1 << 40),
    };
#pragma GCC diagnostic pop
#undef WRONG
    const char *address = fresh_shm();
    ipcio_server *server;
    int mappings = 0;
    (void)state;
    OK(ipcio_listen(address, NULL, &server));
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < COUNT(wrong); i++) {
            struct raw raw;
            raw_connect(&raw, address, &wrong[i].made);
            refused(server, wrong[i].what);
            raw_close(&raw);
        }
        if (round == 1)
            mappings = count_mappings();
    }
    assert_in_range(count_mappings(), 0, mappings);
    ipcio_server_free(server);
}

/* Something else instead of the memory: no descriptor, several, or one of another sort. */
static void test_wrong_descriptors(void **state)
{
    const char *address = fresh_shm(), *path = fresh_path();
    const struct made right = {RIGHT};
    struct raw raw = {.fd = -1};
    int ends[2], files[4], descriptors;
    char link[64];
    ipcio_server *server;
    (void)state;
    CHECK(pipe2(ends, O_CLOEXEC) == 0);
    make_memory(&raw, &right);
    snprintf(link, sizeof link, "/proc/self/fd/%d", raw.memfd);
    const int others[] = {ends[0], ends[1], open("/dev/null", O_RDWR | O_CLOEXEC), open("/dev/zero", O_RDWR | O_CLOEXEC),
                          open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC), open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600),
                          open("/", O_PATH | O_CLOEXEC), socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0),
                          open(link, O_RDONLY | O_CLOEXEC)}; /* the last is the right memory, not to be written */
    OK(ipcio_listen(address, NULL, &server));
    descriptors = count_descriptors();
    for (size_t i = 0; i < COUNT(others); i++) {
        int fd = raw_socket(address);
        CHECK(others[i] >= 0);
        raw_hand(fd, GREETING, strlen(GREETING), &others[i], 1);
        refused(server, text_of("descriptor %zu", i));
        close(fd);
        assert_int_equal(count_descriptors(), descriptors);
    }
    for (int n = 0; n < 4; n++)
        files[n] = raw.memfd;
    for (int n = 0; n <= 4; n++) {
        int fd = raw_socket(address);
        if (n == 1)
            raw_hand(fd, "", 1, NULL, 0); /* it comes too late */
        raw_hand(fd, GREETING, strlen(GREETING), files, n);
        refused(server, text_of("%d descriptors", n));
        close(fd);
        assert_int_equal(count_descriptors(), descriptors); /* the server has closed all that came */
    }
    for (size_t i = 0; i < COUNT(others); i++)
        close(others[i]);
    raw_close(&raw);
    unlink(path);
    ipcio_server_free(server);
}

/* Descriptors that are sent when none is expected are not kept. */
static void test_descriptors_later(void **state)
{
    const char *address = fresh_shm();
    const struct made right = {RIGHT};
    struct raw raw;
    ipcio_server *server;
    ipcio_conn *conn;
    const void *data;
    size_t size;
    int descriptors;
    (void)state;
    OK(ipcio_listen(address, NULL, &server));
    raw_connect(&raw, address, &right);
    OK(ipcio_accept(server, LONG_MS, &conn));
    descriptors = count_descriptors();
    for (int i = 0; i < 100; i++) {
        int files[2] = {raw.memfd, raw.fd};
        raw_hand(raw.fd, "x", 1, files, 2);
        raw_hand(raw.fd, GREETING, strlen(GREETING), files, 1);
        FAILS(TIMEOUT, ipcio_read(conn, 1, &data, &size));
    }
    assert_int_equal(count_descriptors(), descriptors);
    raw_message(&raw, "hello");
    READS(conn, "hello");
    raw_close(&raw);
    ipcio_conn_free(conn);
    ipcio_server_free(server);
}

/* ------------------------------------------------------------------------------------ rubbish in the ring */

/* Both sides of a connection whose client is made by hand, in this process. */
struct attack {
    ipcio_server *server;
    ipcio_conn *conn;
    struct raw raw;
};

static void open_attack(struct attack *a)
{
    const char *address = fresh_shm();
    const struct made right = {RIGHT};
    OK(ipcio_listen(address, NULL, &a->server));
    raw_connect(&a->raw, address, &right);
    OK(ipcio_accept(a->server, LONG_MS, &a->conn));
}

static void close_attack(struct attack *a)
{
    raw_close(&a->raw);
    ipcio_conn_free(a->conn);
    ipcio_server_free(a->server);
}

/* The connection is at its end, and stays so. */
static void broken(struct attack *a, const char *what)
{
    const void *data;
    size_t size;
    for (int i = 0; i < 2; i++)
        check_status(ipcio_read(a->conn, LONG_MS, &data, &size), IPCIO_PROTOCOL, what, __FILE__, __LINE__);
    check_status(ipcio_write(a->conn, "x", 1, LONG_MS), IPCIO_CLOSED, what, __FILE__, __LINE__);
}

static void test_wrong_frames(void **state)
{
    static const struct {
        const char *what;
        struct {
            uint32_t size, kind, length;
        } frames[2];
        uint32_t head; /* 0: as is right */
    } wrong[] = {
        {"a frame that goes on with no message", {{4, RING_LAST, 4}}, 0},
        {"a frame of no kind", {{4, 0, 4}}, 0},
        {"a message given up before it began", {{0, RING_ABORT, 0}}, 0},
        {"more than its length", {{8, RING_FIRST | RING_LAST, 4}}, 0},
        {"less than its length", {{4, RING_FIRST | RING_LAST, 8}}, 0},
        {"more than its length in the second frame", {{4, RING_FIRST, 8}, {8, RING_LAST, 8}}, 0},
        {"less than its length in the second frame", {{4, RING_FIRST, 8}, {2, RING_LAST, 8}}, 0},
        {"a message within a message", {{4, RING_FIRST, 8}, {4, RING_FIRST | RING_LAST, 4}}, 0},
        {"an empty frame", {{0, RING_FIRST, 8}}, 0},
        {"an empty frame in a message", {{4, RING_FIRST, 8}, {0, 0, 8}}, 0},
        {"an answer to no call", {{4, RING_FIRST | RING_LAST | RING_ANSWER, 4}}, 0},
        {"a frame that is longer than the ring", {{SMALL, RING_FIRST | RING_LAST, SMALL}}, 2},
        {"a frame of the greatest size", {{(1u << 28) - 1, RING_FIRST | RING_LAST, (1u << 28) - 1}}, 2},
        {"more frames than the rings hold", {{4, RING_FIRST | RING_LAST, 4}}, (SMALL + LARGE) / RING_UNIT + 1},
        {"a head behind the reader", {{4, RING_FIRST | RING_LAST, 4}}, COUNT_MASK},
        {"a turn to a larger segment than there is", {{0, RING_TURN, LARGE + RING_UNIT}}, 1},
        {"a turn to a segment that ends within a unit", {{0, RING_TURN, LARGE - 1}}, 1},
        {"a turn to another segment behind the head", {{0, RING_TURN, 0}}, 1},
        {"turns without end", {{0, RING_TURN, 0}}, COUNT_MASK},
        {"a turn to an empty segment, and much is said to be there", {{0, RING_TURN, 1}}, COUNT_MASK},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(wrong); i++) {
        struct attack a;
        uint32_t at = 0, used = 0;
        open_attack(&a);
        for (int k = 0; k < 2; k++) {
            uint32_t size = wrong[i].frames[k].size;
            if (k == 1 && wrong[i].frames[1].length == 0)
                break;
            raw_header(&a.raw, size, wrong[i].frames[k].kind, wrong[i].frames[k].length);
            used = 1 + (size + RING_UNIT - 1) / RING_UNIT;
            at += used;
            a.raw.offset = at * RING_UNIT;
        }
        raw_head(&a.raw, wrong[i].head ? wrong[i].head : at);
        raw_bell(&a.raw);
        broken(&a, wrong[i].what);
        close_attack(&a);
    }
}

/* A frame that is read in pieces while it still comes: its end may not move back to before what was taken. */
static void test_head_goes_back(void **state)
{
    enum { SIZE = 20480, SHOWN = 4096, TO = 1 << 20 }; /* a shorter one is awaited */
    static const uint32_t heads[] = {0, 1, 2, 100, 256, COUNT_MASK, COUNT_MASK - 1000, 1u << 26, 1u << 27};
    unsigned char *to = malloc(TO);
    (void)state;
    for (size_t i = 0; i < COUNT(heads); i++) {
        struct attack a;
        size_t size, got, all = 0;
        int st = 0;
        open_attack(&a);
        raw_header(&a.raw, SIZE, RING_FIRST | RING_LAST, SIZE);
        raw_head(&a.raw, 1 + SHOWN / RING_UNIT);
        OK(ipcio_read_start(a.conn, LONG_MS, &size));
        OK(ipcio_read_buffer(a.conn, to, TO, LONG_MS, &got));
        assert_int_equal(got, SHOWN);
        for (int k = 0; k < 5 && st != IPCIO_PROTOCOL; k++) {
            atomic_store(head_of(&a.raw, CLIENT), heads[i]);
            st = ipcio_read_buffer(a.conn, to, TO, 0, &got);
            CHECK(st == IPCIO_PROTOCOL || st == IPCIO_TIMEOUT || st == IPCIO_OK);
            if (st == IPCIO_OK)
                all += got;
            assert_in_range(all, 0, SIZE - SHOWN);
        }
        close_attack(&a);
    }
    free(to);
}

/* Who reads in pieces gets no byte more than he was told would come. */
static void test_more_than_told(void **state)
{
    unsigned char to[100];
    struct attack a;
    size_t size, got;
    (void)state;
    open_attack(&a);
    raw_frame(&a.raw, "four", 4, RING_FIRST, 6);
    raw_frame(&a.raw, "too much", 8, RING_LAST, 6);
    OK(ipcio_read_start(a.conn, LONG_MS, &size));
    assert_int_equal(size, 6);
    OK(ipcio_read_buffer(a.conn, to, sizeof to, LONG_MS, &got));
    assert_int_equal(got, 4);
    FAILS(PROTOCOL, ipcio_read_buffer(a.conn, to, sizeof to, LONG_MS, &got));
    close_attack(&a);
}

/* A tail of rubbish: the writer ends, and neither goes on for ever nor beside the ring. */
static void test_wrong_tail(void **state)
{
    static const uint32_t tails[] = {0, 1, 1791, 1792, 1793, 1u << 25, COUNT_MASK, 1u << 26, UINT32_MAX};
    static unsigned char big[10 * SMALL];
    (void)state;
    for (size_t i = 0; i < COUNT(tails); i++)
        for (uint32_t before = 0; before < 3; before++) {
            struct attack a;
            int st;
            open_attack(&a);
            for (uint32_t n = 0; n < before; n++)
                OK(ipcio_write(a.conn, big, 3000, LONG_MS));
            atomic_store(&a.raw.memory->ring[SERVER].tail, tails[i]);
            for (int n = 0; n < 100; n++) {
                st = ipcio_write(a.conn, big, sizeof big, 0);
                CHECK(st == IPCIO_OK || st == IPCIO_TIMEOUT || st == IPCIO_PROTOCOL || st == IPCIO_CLOSED);
            }
            close_attack(&a);
        }
}

/* Every flag that a peer can set in its own word, and in the victim's. */
static void test_wrong_flags(void **state)
{
    (void)state;
    for (uint32_t mine = 0; mine < 64; mine++)
        for (uint32_t theirs = mine % 5; theirs < 64; theirs += 5) {
            struct attack a;
            const void *data;
            size_t size;
            int st;
            open_attack(&a);
            raw_message(&a.raw, "hello");
            atomic_store(&a.raw.memory->side[CLIENT].state, mine == 63 ? UINT32_MAX : mine);
            atomic_store(&a.raw.memory->side[SERVER].state, theirs == 63 ? UINT32_MAX : theirs);
            READS(a.conn, "hello");
            st = ipcio_write(a.conn, "hi", 2, 0);
            CHECK(st == IPCIO_OK || st == IPCIO_CLOSED);
            st = ipcio_read(a.conn, 1, &data, &size);
            CHECK(st == IPCIO_TIMEOUT || st == IPCIO_CLOSED);
            close_attack(&a);
        }
}

/* "vandal" ADDRESS SEED: clients that write what they like, while the other side reads and writes. */
enum { VANDALS = SANITIZED ? 60 : 150, BLOWS = 4000 };

static uint64_t vandal_seed;

static uint32_t some(uint32_t below)
{
    vandal_seed ^= vandal_seed << 13;
    vandal_seed ^= vandal_seed >> 7;
    vandal_seed ^= vandal_seed << 17;
    return (uint32_t)((vandal_seed >> 32) % below);
}

static uint32_t some_count(uint32_t near)
{
    return some(4) ? near + some(40) : some(2) ? near - some(40) : some(UINT32_MAX);
}

static void strike(struct raw *raw)
{
    static const uint32_t kinds[] = {3, 3, 3, 3, 1, 2, 0, RING_TURN, RING_ABORT, 7, 15};
    uint32_t offset = some(SMALL / RING_UNIT - 1) * RING_UNIT;
    switch (some(12)) {
    case 0:
        atomic_store(head_of(raw, CLIENT), some(UINT32_MAX));
        break;
    case 1:
        raw_head(raw, some_count(atomic_load(&raw->memory->ring[CLIENT].tail)));
        break;
    case 2:
        atomic_store(&raw->memory->ring[SERVER].tail, some(UINT32_MAX));
        break;
    case 3:
        atomic_store(&raw->memory->ring[SERVER].tail, some_count(atomic_load(head_of(raw, SERVER))) & COUNT_MASK);
        break;
    case 4:
        atomic_store(&raw->memory->side[some(2)].state, some(2) ? some(4) : some(256) & ~4u);
        break;
    case 5:
        raw_bell(raw);
        break;
    case 6:
        (void)!recv(raw->fd, &(char[100]){0}, 100, MSG_DONTWAIT);
        break;
    case 7:
        for (int side = 0; side < 2; side++) {
            ring_frame header = {some(UINT32_MAX), some(UINT32_MAX), some(UINT32_MAX), some(UINT32_MAX)};
            memcpy(ring_of(raw, side) + offset, &header, sizeof header);
        }
        break;
    default: { /* what may be right, and leads further in */
        ring_frame header = {some(300) << 4 | kinds[some(COUNT(kinds))], some(300), 0, some_count(0)};
        if (some(2))
            header.length = header.size_kind >> 4;
        memcpy(ring_of(raw, CLIENT) + raw->offset, &header, sizeof header);
        raw->at += 1 + ((header.size_kind >> 4) + RING_UNIT - 1) / RING_UNIT;
        raw->offset = raw->at * RING_UNIT % (SMALL - RING_UNIT);
        raw_head(raw, raw->at);
    }
    }
}

static int vandal_role(char **arguments)
{
    const struct made right = {RIGHT};
    vandal_seed = strtoull(arguments[1], NULL, 10);
    for (int i = 0; i < VANDALS; i++) {
        struct raw raw;
        raw_connect(&raw, arguments[0], &right);
        for (uint32_t n = some(BLOWS); n > 0; n--)
            strike(&raw);
        raw_close(&raw);
    }
    return 0;
}

static void test_vandals(void **state)
{
    static unsigned char data[3 * SMALL], to[2 * SMALL];
    const char *text = getenv("IPCIO_TEST_SEED"), *address = fresh_shm();
    struct child *vandal;
    ipcio_server *server;
    int ends[2] = {0, 0}; /* by PROTOCOL, by CLOSED */
    (void)state;
    text = text_of("%s", text ? text : text_of("%llu", (unsigned long long)ipcio_now() | 1));
    print_message("IPCIO_TEST_SEED=%s\n", text);
    OK(ipcio_listen(address, NULL, &server));
    vandal = start("vandal", address, text, NULL);
    for (int i = 0; i < VANDALS; i++) {
        ipcio_conn *conn;
        const void *message;
        size_t size, got;
        int st = 0;
        OK(ipcio_accept(server, LONG_MS, &conn));
        for (int n = 0; st != IPCIO_CLOSED && st != IPCIO_PROTOCOL; n++) {
            int wrote;
            if (n % 3) {
                st = ipcio_read(conn, n % 2, &message, &size);
            } else if ((st = ipcio_read_start(conn, n % 2, &size)) == IPCIO_OK) {
                do
                    st = ipcio_read_buffer(conn, to, n % 4 ? sizeof to : 10, 1, &got);
                while (st == IPCIO_OK && got > 0);
                if (st != IPCIO_CLOSED && st != IPCIO_PROTOCOL)
                    OK(ipcio_read_end(conn, 0));
            } else if (st == IPCIO_INVALID) { /* half of a message has come to ipcio_read, which must go on with it */
                st = IPCIO_TIMEOUT;
            }
            if (st != IPCIO_TIMEOUT && st != IPCIO_ABORTED && st != IPCIO_TOOBIG && st != IPCIO_CLOSED &&
                st != IPCIO_PROTOCOL)
                OK(st);
            wrote = ipcio_write(conn, data, n % 5 ? 20 : sizeof data, 0);
            if (wrote != IPCIO_TIMEOUT && wrote != IPCIO_CLOSED && wrote != IPCIO_PROTOCOL)
                OK(wrote);
        }
        ends[st == IPCIO_CLOSED]++;
        ipcio_conn_free(conn);
    }
    finish(vandal);
    assert_int_equal(ends[0] + ends[1], VANDALS);
    assert_true(ends[0] > VANDALS / 10);
    ipcio_server_free(server);
}

/* ------------------------------------------------------------------------------------- death in the middle */

/* "half" ADDRESS: publishes two messages and a part of a third, in one frame or two, and waits to be killed. */
static int half_role(char **arguments)
{
    const struct made right = {RIGHT};
    struct raw raw;
    raw_connect(&raw, arguments[0], &right);
    raw_message(&raw, "first");
    raw_message(&raw, "second");
    if (arguments[1][0] == 'f') {
        raw_frame(&raw, "the first frame", 15, RING_FIRST, 30);
    } else {
        raw_header(&raw, 100, RING_FIRST | RING_LAST, 100);
        raw_head(&raw, raw.at + 3);
    }
    raw_bell(&raw);
    tell("ready");
    wait_for_end();
    return 0;
}

static void test_killed_half_way(void **state)
{
    static const char *const parts[] = {"frame", "part"};
    const void *data;
    size_t size;
    (void)state;
    for (size_t i = 0; i < 2 * COUNT(parts); i++) {
        const char *address = fresh_shm();
        ipcio_server *server;
        ipcio_conn *conn;
        struct child *child;
        OK(ipcio_listen(address, NULL, &server));
        child = start("half", address, parts[i % 2], NULL);
        OK(ipcio_accept(server, LONG_MS, &conn));
        hear(child, "ready");
        if (i >= 2) { /* the reader has begun with it, and waits */
            READS(conn, "first");
            READS(conn, "second");
            FAILS(TIMEOUT, ipcio_read(conn, 5, &data, &size));
        }
        kill9(child);
        if (i < 2) {
            READS(conn, "first");
            READS(conn, "second");
        }
        FAILS(CLOSED, ipcio_read(conn, LONG_MS, &data, &size));
        FAILS(CLOSED, ipcio_read(conn, LONG_MS, &data, &size));
        FAILS(CLOSED, ipcio_write(conn, "x", 1, LONG_MS));
        ipcio_conn_free(conn);
        ipcio_server_free(server);
    }
}

static int read_in_thread(void *context)
{
    const void *data;
    size_t size;
    return ipcio_read(context, -1, &data, &size);
}

static int write_in_thread(void *context)
{
    static unsigned char big[10 * SMALL];
    int st;
    while ((st = ipcio_write(context, big, sizeof big, -1)) == IPCIO_OK) {
    }
    return st;
}

/* "silent" ADDRESS: a client that never reads. */
static int silent_role(char **arguments)
{
    ipcio_conn *conn;
    OK(ipcio_connect(arguments[0], arguments[1], LONG_MS, &conn));
    tell("ready");
    wait_for_end();
    ipcio_conn_free(conn);
    return 0;
}

/* Who sleeps, for a message or for room, is told at once that the peer was killed; and so is who does not sleep yet. */
static void test_killed_while_waited_for(void **state)
{
    static const char *const options[] = {NULL, "buffer=4096"};
    (void)state;
    for (size_t i = 0; i < 2 * COUNT(options); i++)
        for (int reading = 0; reading < 2; reading++) {
            const char *address = fresh_shm();
            ipcio_server *server;
            ipcio_conn *conn;
            struct thread thread;
            struct child *child;
            OK(ipcio_listen(address, NULL, &server));
            child = start("silent", address, options[i / 2], NULL);
            OK(ipcio_accept(server, LONG_MS, &conn));
            hear(child, "ready");
            begin(&thread, reading ? read_in_thread : write_in_thread, conn);
            if (i % 2)
                until_waiting(&thread);
            kill9(child);
            assert_int_equal(end(&thread), IPCIO_CLOSED);
            ipcio_conn_free(conn);
            ipcio_server_free(server);
        }
}

static _Atomic long exchanged;

static int converse_in_thread(void *context)
{
    const void *data;
    size_t size;
    int st = IPCIO_OK;
    while (st == IPCIO_OK) {
        if ((st = ipcio_write(context, "x", 1, -1)) == IPCIO_OK)
            st = ipcio_read(context, -1, &data, &size);
        atomic_fetch_add(&exchanged, 1);
    }
    return st;
}

/* Which system call a thread sleeps in. */
static long sleeps_in(const struct thread *thread)
{
    char text[256];
    int fd = open(text_of("/proc/self/task/%d/syscall", (int)atomic_load(&thread->tid)), O_RDONLY | O_CLOEXEC);
    ssize_t n = read(fd, text, sizeof text - 1);
    CHECK(fd >= 0 && n > 0);
    close(fd);
    text[n] = '\0';
    return strtol(text, NULL, 10); /* "running" is no number, and 0 is read */
}

/* Who has slept briefly sleeps on a word first, and nothing ends that but the peer: yet he is told that the peer was killed, and
 * his own process's close. */
static void test_killed_while_dozing(void **state)
{
    int dozed[2] = {0, 0};
    (void)state;
    for (int attempt = 0; attempt < 200 && (dozed[0] < 3 || dozed[1] < 3); attempt++) {
        const char *address = fresh_shm();
        struct child *child = start_echo(address);
        struct thread thread;
        ipcio_conn *conn;
        long from = atomic_load(&exchanged);
        bool closes = attempt % 2;
        OK(ipcio_connect(address, NULL, LONG_MS, &conn));
        begin(&thread, converse_in_thread, conn);
        while (atomic_load(&exchanged) < from + 100)
            sched_yield();
        CHECK(kill(child->pid, SIGSTOP) == 0 && waitpid(child->pid, NULL, WUNTRACED) == child->pid);
        until_waiting(&thread);
        dozed[closes] += sleeps_in(&thread) == SYS_futex;
        if (closes) {
            ipcio_conn_close(conn);
            CHECK(kill(child->pid, SIGCONT) == 0);
            assert_int_equal(end(&thread), IPCIO_INVALID);
            stop(child);
        } else {
            kill9(child);
            assert_int_equal(end(&thread), IPCIO_CLOSED);
        }
        ipcio_conn_free(conn);
    }
    print_message("dozed %d and %d times\n", dozed[0], dozed[1]);
    CHECK(dozed[0] && dozed[1]); /* or nothing was tested */
}

/* Who was told so while there was room in the ring is not told otherwise by the next write. */
static void test_end_stays(void **state)
{
    const char *address = fresh_shm();
    ipcio_server *server;
    ipcio_conn *conn;
    struct child *child;
    int st;
    (void)state;
    OK(ipcio_listen(address, NULL, &server));
    child = start("silent", address, NULL);
    OK(ipcio_accept(server, LONG_MS, &conn));
    hear(child, "ready");
    kill9(child);
    while ((st = ipcio_write(conn, "x", 1, LONG_MS)) == IPCIO_OK) {
    }
    FAILS(CLOSED, st);
    for (int i = 0; i < 10; i++)
        FAILS(CLOSED, ipcio_write(conn, "x", 1, LONG_MS));
    ipcio_conn_free(conn);
    ipcio_server_free(server);
}

/* A stopped peer is a slow one: the others are served, and afterwards it gets everything. */
static void test_stopped_peer(void **state)
{
    enum { SIZE = 1000 };
    const char *address = fresh_shm();
    struct child *child = start_echo(address);
    unsigned char message[SIZE];
    size_t sent = 0, back = 0, size;
    const void *data;
    ipcio_conn *conn;
    (void)state;
    OK(ipcio_connect(address, "buffer=8192", LONG_MS, &conn));
    for (int round = 0; round < 20; round++) {
        int st;
        CHECK(kill(child->pid, SIGSTOP) == 0 && waitpid(child->pid, NULL, WUNTRACED) == child->pid);
        for (;;) {
            fill(message, SIZE, sent);
            if ((st = ipcio_write(conn, message, SIZE, 0)) != IPCIO_OK)
                break;
            sent++;
        }
        check_status(st, IPCIO_TIMEOUT, "write to a stopped peer", __FILE__, __LINE__);
        CHECK(kill(child->pid, SIGCONT) == 0);
        for (; back < sent; back++) {
            OK(ipcio_read(conn, LONG_MS, &data, &size));
            CHECK(size == SIZE && is_filled(data, size, back));
        }
        FAILS(TIMEOUT, ipcio_read(conn, 0, &data, &size));
    }
    CHECK(sent > 20 * 4);
    ipcio_conn_free(conn);
    stop(child);
}

/* -------------------------------------------------------------------------------------- sleeping and waking */

enum { WAKE_UPS = SANITIZED ? 2500 : 25000 }; /* in each of four ways */
enum how { BLOCKING, POLLING, WAYS }; /* the library waits; the caller does, with the descriptors */

/* A few instructions or a few thousand, so that both sides meet at every moment of the other's going to sleep. */
static void dawdle(void)
{
    static uint32_t next = 1;
    next = next * 1664525 + 1013904223;
    for (volatile uint32_t n = next >> 30 ? next >> 24 : next >> 18; n > 0; n--) {
    }
}

static void poll_for(ipcio_conn *conn, int want)
{
    struct pollfd item = {.fd = want == IPCIO_WANT_READ ? ipcio_fileno(conn) : ipcio_write_fileno(conn),
                          .events = want == IPCIO_WANT_READ ? POLLIN : POLLOUT};
    CHECK(item.fd >= 0 && poll(&item, 1, LONG_MS) == 1);
}

static void read_how(ipcio_conn *conn, enum how how, const void **data, size_t *size)
{
    int st;
    while ((st = ipcio_read(conn, how == POLLING ? IPCIO_SPIN : LONG_MS, data, size)) > 0)
        poll_for(conn, st);
    OK(st);
}

static void write_how(ipcio_conn *conn, enum how how, const void *data, size_t size)
{
    int st;
    while ((st = ipcio_write(conn, data, size, how == POLLING ? IPCIO_TRY : LONG_MS)) > 0)
        poll_for(conn, st);
    OK(st);
}

/* On one processor nobody is awake while the other runs. */
static void bind_to_one(bool one)
{
    static cpu_set_t all;
    cpu_set_t first;
    if (!CPU_COUNT(&all))
        CHECK(sched_getaffinity(0, sizeof all, &all) == 0);
    CPU_ZERO(&first);
    for (int i = 0; i < CPU_SETSIZE && !CPU_COUNT(&first); i++)
        if (CPU_ISSET((size_t)i, &all))
            CPU_SET((size_t)i, &first);
    CHECK(sched_setaffinity(0, sizeof all, one ? &first : &all) == 0);
}

static long times_slept(void)
{
    struct rusage usage;
    CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
    return usage.ru_nvcsw;
}

static size_t flood_size(size_t n) { return n * 2654435761u % 1500; }

/* "other" ADDRESS HOW ONE WHAT: answers WAKE_UPS messages, or reads them. */
static int other_role(char **arguments)
{
    enum how how = (enum how)atoi(arguments[1]);
    ipcio_conn *conn;
    bind_to_one(arguments[2][0] == '1');
    OK(ipcio_connect(arguments[0], "buffer=4096", LONG_MS, &conn));
    for (size_t i = 0; i < WAKE_UPS; i++) {
        const void *data;
        size_t size;
        dawdle();
        read_how(conn, how, &data, &size);
        if (arguments[3][0] == 'a')
            write_how(conn, how, data, size);
        else
            CHECK(size == flood_size(i) && is_filled(data, size, i));
    }
    tell("done");
    wait_for_end();
    ipcio_conn_free(conn);
    return 0;
}

static void wake_ups(bool answers, enum how how, bool one)
{
    static unsigned char message[1500];
    const char *address = fresh_shm();
    struct child *child;
    ipcio_server *server;
    ipcio_conn *conn;
    long slept;
    OK(ipcio_listen(address, NULL, &server));
    child = start("other", address, text_of("%d", how), one ? "1" : "0", answers ? "answer" : "read", NULL);
    OK(ipcio_accept(server, LONG_MS, &conn));
    bind_to_one(one);
    slept = times_slept();
    for (size_t i = 0; i < WAKE_UPS; i++) {
        size_t size = answers ? sizeof i : flood_size(i);
        const void *data;
        dawdle();
        fill(message, size, i);
        write_how(conn, how, message, size);
        if (!answers)
            continue;
        read_how(conn, how, &data, &size);
        CHECK(size == sizeof i && is_filled(data, size, i));
    }
    slept = times_slept() - slept;
    bind_to_one(false);
    hear(child, "done");
    print_message("%s, %s, %s: slept %ld times\n", answers ? "answers" : "no answers", how == POLLING ? "polling" : "blocking",
                  one ? "one processor" : "all processors", slept);
    if (one)
        CHECK(slept > WAKE_UPS / (answers ? 4 : 40)); /* or nothing was tested */
    close(child->in);
    child->in = open("/dev/null", O_WRONLY | O_CLOEXEC);
    finish(child);
    ipcio_conn_free(conn);
    ipcio_server_free(server);
}

static void test_wake_ups(void **state)
{
    (void)state;
    for (enum how how = BLOCKING; how < WAYS; how++)
        for (int one = 0; one < 2; one++)
            wake_ups(true, how, one);
}

static void test_wake_ups_for_room(void **state)
{
    (void)state;
    for (enum how how = BLOCKING; how < WAYS; how++)
        for (int one = 0; one < 2; one++)
            wake_ups(false, how, one);
}

/* -------------------------------------------------------------------------------------------- much, and many */

static void test_longest_message(void **state)
{
    enum { LONGEST = 1 << 26 };
    const char *address = fresh_shm();
    struct child *server = start_echo(address);
    unsigned char *message = malloc(LONGEST);
    const void *answer;
    size_t size;
    ipcio_conn *conn;
    (void)state;
    OK(ipcio_connect(address, NULL, LONG_MS, &conn));
    for (size_t i = 0; i < 2; i++) {
        fill(message, LONGEST, i);
        OK(ipcio_call(conn, message, LONGEST, LONG_MS, &answer, &size));
        CHECK(size == LONGEST && is_filled(answer, size, i));
        OK(ipcio_call(conn, "short", 5, LONG_MS, &answer, &size));
        CHECK(size == 5 && memcmp(answer, "short", 5) == 0);
    }
    ipcio_conn_free(conn);
    free(message);
    stop(server);
}

enum { BOTH_WAYS = 100, BIG = 300000 };

static int write_big(void *context)
{
    static unsigned char message[BIG];
    for (size_t i = 0; i < BOTH_WAYS; i++) {
        int st;
        fill(message, BIG, i);
        if ((st = ipcio_write(context, message, BIG - i * 7, LONG_MS)) != IPCIO_OK)
            return st;
    }
    return 0;
}

/* "both" ADDRESS: reads and writes at the same time, as the test does. */
static int both_role(char **arguments)
{
    struct thread writer;
    const void *data;
    size_t size;
    ipcio_conn *conn;
    OK(ipcio_connect(arguments[0], arguments[1], LONG_MS, &conn));
    begin(&writer, write_big, conn);
    for (size_t i = 0; i < BOTH_WAYS; i++) {
        OK(ipcio_read(conn, LONG_MS, &data, &size));
        CHECK(size == BIG - i * 7 && is_filled(data, size, i));
    }
    OK(end(&writer));
    ipcio_conn_free(conn);
    return 0;
}

static void test_both_ways(void **state)
{
    static const char *const options[] = {NULL, "buffer=1024", "buffer=100000"};
    (void)state;
    for (size_t i = 0; i < COUNT(options); i++) {
        const char *address = fresh_shm();
        struct thread writer;
        struct child *child;
        ipcio_server *server;
        ipcio_conn *conn;
        OK(ipcio_listen(address, NULL, &server));
        child = start("both", address, options[i], NULL);
        OK(ipcio_accept(server, LONG_MS, &conn));
        begin(&writer, write_big, conn);
        for (size_t k = 0; k < BOTH_WAYS; k++) {
            const void *data;
            size_t size;
            OK(ipcio_read(conn, LONG_MS, &data, &size));
            CHECK(size == BIG - k * 7 && is_filled(data, size, k));
        }
        OK(end(&writer));
        finish(child);
        ipcio_conn_free(conn);
        ipcio_server_free(server);
    }
}

/* Writes a long message, which the other end reads. */
static void stream_one(struct pair *pair, const void *message, size_t length)
{
    int wrote = 1, got = 1;
    const void *data;
    size_t size = 0;
    while (wrote > 0 || got > 0) {
        if (wrote > 0)
            wrote = ipcio_write(pair->client, message, length, IPCIO_TRY);
        if (got > 0)
            got = ipcio_read(pair->peer, IPCIO_TRY, &data, &size);
    }
    OK(wrote);
    OK(got);
    CHECK(size == length && memcmp(data, message, length) == 0);
}

static void test_connections_leave_nothing(void **state)
{
    enum { CONNECTIONS = 1000, EARLY = 100, STREAM = 40 };
    static unsigned char big[1 << 20];
    const char *address = fresh_shm();
    ipcio_server *server;
    int descriptors = 0, mappings = 0;
    (void)state;
    OK(ipcio_listen(address, NULL, &server));
    for (int i = 0; i < CONNECTIONS; i++) {
        ipcio_conn *client, *peer;
        OK(ipcio_connect(address, NULL, LONG_MS, &client));
        OK(ipcio_accept(server, LONG_MS, &peer));
        WRITES(client, "hello");
        READS(peer, "hello");
        for (int n = 0; i % 50 == 0 && n < STREAM; n++) /* so that a ring grows */
            stream_one(&(struct pair){.client = client, .peer = peer}, big, sizeof big);
        ipcio_conn_free(client);
        ipcio_conn_free(peer);
        if (i == EARLY) {
            descriptors = count_descriptors();
            mappings = count_mappings();
        }
    }
    assert_int_equal(count_descriptors(), descriptors);
    assert_in_range(count_mappings(), 0, mappings + 2); /* malloc's own come and go */
    ipcio_server_free(server);
}

/* The bytes that the memories of this process's connections really have. */
static long shared_bytes(int *memories)
{
    DIR *dir = opendir("/proc/self/fd");
    long bytes = 0;
    CHECK(dir != NULL);
    *memories = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        const char *path = text_of("/proc/self/fd/%s", entry->d_name);
        char link[64] = "";
        struct stat st;
        if (readlink(path, link, sizeof link - 1) < 0 || strncmp(link, "/memfd:ipcio", 12) != 0) continue;
        CHECK(stat(path, &st) == 0);
        bytes += st.st_blocks * 512;
        ++*memories;
    }
    closedir(dir);
    return bytes;
}

/* Each has called once, and is still there. */
static void test_idle_clients(void **state)
{
    enum { CLIENTS = 1000, SPARE = 100, MOST = 64 << 10 };
    static ipcio_conn *idle[CLIENTS];
    const char *address = fresh_shm();
    struct rlimit before;
    struct child *server;
    int memories;
    long bytes;
    (void)state;
    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
    if (before.rlim_max < 2 * CLIENTS + SPARE) skip();
    CHECK(setrlimit(RLIMIT_NOFILE, &(struct rlimit){before.rlim_max, before.rlim_max}) == 0);
    server = start_echo(address);
    for (int i = 0; i < CLIENTS; i++) {
        const void *answer;
        size_t size;
        OK(ipcio_connect(address, NULL, LONG_MS, &idle[i]));
        OK(ipcio_call(idle[i], "hello", 5, LONG_MS, &answer, &size));
    }
    bytes = shared_bytes(&memories);
    print_message("%d idle clients hold %ld bytes each\n", memories, bytes / memories);
    assert_int_equal(memories, CLIENTS);
    assert_in_range(bytes, 1, (long)CLIENTS * MOST);
    for (int i = 0; i < CLIENTS; i++) ipcio_conn_free(idle[i]);
    stop(server);
    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
}

/* A message that is held in place stays as it is while the writer goes on, whatever the ring did before: it grows for a
 * stream, and becomes small again in a conversation of about a thousand messages. */
static void test_held_message(void **state)
{
    enum { STREAM = 40, BEFORE = 985, AFTER = 1015, SIZE = 500 };
    static unsigned char big[1 << 20];
    size_t all = 0;
    (void)state;
    fill(big, sizeof big, 0);
    for (int calm = BEFORE; calm < AFTER; calm++) {
        unsigned char message[SIZE];
        struct pair pair;
        const void *held, *data;
        size_t size, sent = 0;
        open_pair_at(&pair, fresh_shm(), NULL, NULL);
        for (int i = 0; i < STREAM; i++)
            stream_one(&pair, big, sizeof big);
        for (int i = 0; i <= calm; i++) {
            fill(message, SIZE, (size_t)i);
            OK(ipcio_write(pair.client, message, SIZE, 0));
            OK(ipcio_read(pair.peer, 0, &held, &size));
            CHECK(size == SIZE && is_filled(held, SIZE, (size_t)i));
            WRITES(pair.peer, "yes");
            READS(pair.client, "yes");
        }
        for (int full = 0; full < 50; full++) /* the last of them is held */
            for (;;) {
                fill(message, SIZE, sent + 1000);
                if (ipcio_write(pair.client, message, SIZE, 0) != IPCIO_OK)
                    break;
                sent++;
                CHECK(is_filled(held, SIZE, (size_t)calm));
            }
        for (size_t i = 0; i < sent; i++) {
            OK(ipcio_read(pair.peer, LONG_MS, &data, &size));
            CHECK(size == SIZE && is_filled(data, SIZE, i + 1000));
        }
        all += sent;
        free_pair(&pair);
    }
    CHECK(all > (AFTER - BEFORE) * SMALL / SIZE / 2);
}

/* Writes as much as there is room for, growing where that may be: the number of messages. */
static int fill_ring(ipcio_conn *conn)
{
    static const char message[1000];
    int n = 0;
    for (int vain = 0; vain < 20; vain++) {
        int st = ipcio_write(conn, message, sizeof message, 0);
        CHECK(st == 0 || st == IPCIO_TIMEOUT);
        if (st != 0)
            continue;
        n++;
        vain = 0;
    }
    return n;
}

static void read_many(ipcio_conn *conn, int n)
{
    const void *data;
    size_t size;
    while (n-- > 0)
        OK(ipcio_read(conn, LONG_MS, &data, &size));
}

/* After a thousand short messages that were read one by one the ring goes back to its smaller segment.  It does not grow
 * again while the reader still looks at the last message in the larger one. */
static void test_held_while_it_grows_again(void **state)
{
    enum { CALM = 1000 };
    struct pair pair;
    int n, refused = 0;
    (void)state;
    open_pair_at(&pair, fresh_shm(), NULL, NULL);
    n = fill_ring(pair.client);
    CHECK(n > 1000); /* it has grown */
    read_many(pair.peer, n);
    for (int i = 0; i < CALM + 3; i++) {
        const void *held;
        size_t size;
        OK(ipcio_write(pair.client, &i, sizeof i, LONG_MS));
        OK(ipcio_read(pair.peer, LONG_MS, &held, &size));
        WRITES(pair.peer, "read");
        READS(pair.client, "read");
        n = i < CALM - 3 ? 0 : fill_ring(pair.client);
        refused += n > 0 && n < 1000;
        CHECK(size == sizeof i && memcmp(held, &i, size) == 0);
        read_many(pair.peer, n);
    }
    CHECK(refused == 1); /* just after it had gone back */
    free_pair(&pair);
}

/* ---------------------------------------------------------------------------------------------------- fork */

/* What the child sees of a message that lies in the shared memory: zeros, in this and in a larger segment. */
static void test_fork(void **state)
{
    unsigned char message[RING_BRIEF + 1]; /* what is brief is copied */
    struct pair pair;
    const void *data;
    size_t size;
    pid_t pid;
    int status;
    (void)state;
    fill(message, sizeof message, 1);
    open_pair_at(&pair, fresh_shm(), NULL, NULL);
    OK(ipcio_write(pair.client, message, sizeof message, 0));
    OK(ipcio_read(pair.peer, LONG_MS, &data, &size));
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        const void *other;
        int wrong = 0;
        for (size_t i = 0; i < size; i++)
            wrong |= ((const char *)data)[i] != 0;
        memset((char *)(uintptr_t)data, 'x', size); /* and what it writes is its own */
        wrong |= ipcio_read(pair.peer, 0, &other, &size) != IPCIO_FORKED;
        wrong |= ipcio_write(pair.client, "x", 1, 0) != IPCIO_FORKED;
        ipcio_conn_free(pair.client);
        ipcio_conn_free(pair.peer);
        ipcio_server_free(pair.server);
        _exit(wrong ? 1 : 0);
    }
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    CHECK(size == sizeof message && is_filled(data, size, 1));
    WRITES(pair.client, "again");
    READS(pair.peer, "again");
    WRITES(pair.peer, "and back");
    READS(pair.client, "and back");
    free_pair(&pair);
}

/* ---------------------------------------------------------------------------------- what the system refuses */

static struct rlimit lower(unsigned what, rlim_t to)
{
    struct rlimit before, now;
    CHECK(getrlimit(what, &before) == 0);
    now = before;
    now.rlim_cur = to;
    CHECK(setrlimit(what, &now) == 0);
    return before;
}

static rlim_t next_descriptor(void)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    close(fd);
    return (rlim_t)fd;
}

/* There is a descriptor left for the client's socket, but none for its memory: it is taken in when there is. */
static void test_no_descriptor_for_the_memory(void **state)
{
    const char *address = fresh_shm();
    const struct made right = {RIGHT};
    ipcio_server *server;
    ipcio_conn *conn = NULL;
    struct raw raw;
    struct rlimit before;
    (void)state;
    OK(ipcio_listen(address, NULL, &server));
    raw_connect(&raw, address, &right);
    raw_message(&raw, "hello");
    before = lower(RLIMIT_NOFILE, next_descriptor() + 1);
    for (int i = 0; i < 3; i++) {
        int st = ipcio_accept(server, LONG_MS, &conn);
        if (st != IPCIO_SYSTEM)
            CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
        check_status(st, IPCIO_SYSTEM, "ipcio_accept", __FILE__, __LINE__);
        assert_int_equal(ipcio_system_error(), EMFILE);
    }
    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
    OK(ipcio_accept(server, LONG_MS, &conn));
    READS(conn, "hello");
    WRITES(conn, "and back");
    raw_reads(&raw, "and back");
    ipcio_conn_free(conn);
    raw_close(&raw);
    ipcio_server_free(server);
}

/* Clients that have connected and not greeted yet do not take the descriptors that their own memory will need. */
static void test_silent_clients_and_few_descriptors(void **state)
{
    enum { CLIENTS = 4 };
    const char *address = fresh_shm();
    struct made silent = {RIGHT};
    ipcio_server *server;
    ipcio_conn *conn;
    struct raw raw[CLIENTS];
    struct rlimit before;
    int served = 0;
    (void)state;
    silent.greeting = "";
    OK(ipcio_listen(address, NULL, &server));
    for (int i = 0; i < CLIENTS; i++)
        raw_connect(&raw[i], address, &silent);
    before = lower(RLIMIT_NOFILE, next_descriptor() + CLIENTS);
    for (int i = 0; i < CLIENTS + 1; i++)
        CHECK(ipcio_accept(server, 1, &conn) < 0);
    for (int i = 0; i < CLIENTS; i++) {
        raw_hand(raw[i].fd, GREETING, strlen(GREETING), &raw[i].memfd, 1);
        raw_message(&raw[i], "hello");
    }
    for (int i = 0; i < 10 * CLIENTS && served < CLIENTS; i++) {
        if (ipcio_accept(server, LONG_MS, &conn) != IPCIO_OK)
            continue;
        READS(conn, "hello");
        ipcio_conn_free(conn);
        served++;
    }
    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
    assert_int_equal(served, CLIENTS);
    for (int i = 0; i < CLIENTS; i++)
        raw_close(&raw[i]);
    ipcio_server_free(server);
}

/* The client's memory cannot be made: connecting says so, leaves nothing, and works when it can. */
static void test_no_memory_for_a_client(void **state)
{
    static const struct {
        unsigned what;
        bool descriptors; /* `left` counts from the next; else bytes */
        rlim_t left;
        int status;
    } limits[] = {
        {RLIMIT_NOFILE, true, 0, IPCIO_SYSTEM},
        {RLIMIT_NOFILE, true, 1, IPCIO_SYSTEM},
        {RLIMIT_FSIZE, false, 0, IPCIO_SYSTEM},
        {RLIMIT_FSIZE, false, PAGE, IPCIO_SYSTEM},
        {RLIMIT_AS, false, PAGE, IPCIO_NOMEMORY},
    };
    const char *address = fresh_shm();
    ipcio_server *server;
    ipcio_conn *conn, *peer;
    const void *data;
    size_t size;
    int descriptors;
    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    OK(ipcio_listen(address, NULL, &server));
    descriptors = count_descriptors();
    for (size_t i = 0; i < COUNT(limits) - SANITIZED; i++) {
        struct rlimit before = lower(limits[i].what, limits[i].left + (limits[i].descriptors ? next_descriptor() : 0));
        int st = ipcio_connect(address, "buffer=16777216", LONG_MS, &conn);
        CHECK(setrlimit(limits[i].what, &before) == 0);
        check_status(st, limits[i].status, text_of("limit %zu", i), __FILE__, __LINE__);
        assert_null(conn);
        assert_non_null(strstr(ipcio_message(), address));
        assert_int_equal(count_descriptors(), descriptors);
    }
    OK(ipcio_connect(address, NULL, LONG_MS, &conn));
    WRITES(conn, "hello");
    do /* those who did not get so far may be in the queue */
        OK(ipcio_accept(server, LONG_MS, &peer));
    while (ipcio_read(peer, LONG_MS, &data, &size) == IPCIO_CLOSED && (ipcio_conn_free(peer), true));
    ipcio_conn_free(conn);
    ipcio_conn_free(peer);
    ipcio_server_free(server);
    signal(SIGXFSZ, SIG_DFL);
}

enum { NO_MOUNT = 77 };

/* "crowded" FOLDER: both sides, in a folder of names that becomes full, as /dev/shm may be. */
static int crowded_role(char **arguments)
{
    static unsigned char big[1 << 20];
    ipcio_server *other;
    struct pair pair;
    int fd;
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", arguments[0], "tmpfs", 0, "size=16k,mode=700") != 0)
        return NO_MOUNT;
    CHECK(setenv("IPCIO_DIR", arguments[0], 1) == 0);
    OK(ipcio_listen("shm://crowded", NULL, &pair.server));
    fd = open(text_of("%s/filler", arguments[0]), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    while (write(fd, big, 1) == 1) {
    }
    CHECK(errno == ENOSPC);
    OK(ipcio_connect("shm://crowded", NULL, LONG_MS, &pair.client));
    OK(ipcio_accept(pair.server, LONG_MS, &pair.peer));
    for (int i = 0; i < 40; i++) /* so that the ring grows */
        stream_one(&pair, big, sizeof big);
    FAILS(SYSTEM, ipcio_listen("shm://one-more", NULL, &other));
    CHECK(ipcio_system_error() == ENOSPC && strstr(ipcio_message(), "shm://one-more") != NULL);
    CHECK(unlink(text_of("%s/filler", arguments[0])) == 0 && close(fd) == 0);
    OK(ipcio_listen("shm://one-more", NULL, &other));
    ipcio_server_free(other);
    free_pair(&pair);
    return 0;
}

static void test_full_folder(void **state)
{
    const char *folder = fresh_path();
    int status;
    (void)state;
    CHECK(mkdir(folder, 0700) == 0);
    status = reap(start("crowded", folder, NULL));
    CHECK(rmdir(folder) == 0 && WIFEXITED(status));
    if (WEXITSTATUS(status) == NO_MOUNT) {
        print_message("this user may not mount\n");
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* Writes to a file of the system's; false where it does not let us. */
static bool set_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0) close(fd);
    return done;
}

static long number_in(const char *path)
{
    char text[64] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0 && read(fd, text, sizeof text - 1) > 0);
    close(fd);
    return atol(text);
}

/* A group of processes whose memory may have an end, of version 1 or 2; NULL where none can be made. */
static const char *memory_group(void)
{
    static const char *const parents[] = {"/sys/fs/cgroup/memory", "/sys/fs/cgroup"};
    static const char *const limits[] = {"memory.limit_in_bytes", "memory.max"};
    for (int i = 0; i < 2; i++) {
        const char *group = text_of("%s/ipcio-%s", parents[i], fresh_name());
        if (mkdir(group, 0700) != 0) continue;
        if (access(text_of("%s/%s", group, limits[i]), W_OK) == 0) return group;
        rmdir(group);
    }
    return NULL;
}

enum { TIGHT = 3 << 20, STREAMED = 2000, PIECE = 3000 };

/* "streamer" ADDRESS: a client that has room for small rings, but not for larger ones. */
static int streamer_role(char **arguments)
{
    static unsigned char message[PIECE];
    const void *data;
    size_t size;
    ipcio_conn *conn;
    OK(ipcio_connect(arguments[0], NULL, LONG_MS, &conn)); /* so what all that takes is counted before */
    OK(ipcio_call(conn, "ready", 5, LONG_MS, &data, &size));
    tell("ready");
    wait_for("go");
    if (arguments[1]) {
        ipcio_conn *other;
        FAILS(NOMEMORY, ipcio_connect(arguments[0], "buffer=4194304", LONG_MS, &other));
        CHECK(strstr(ipcio_message(), arguments[0]) != NULL);
    }
    for (size_t i = 0; i < STREAMED; i++) {
        fill(message, PIECE, i);
        OK(ipcio_write(conn, message, PIECE, LONG_MS));
    }
    ipcio_conn_free(conn);
    return 0;
}

/* The client's memory group has no room for what a stream would like.  Where the kernel says so, connecting with large rings
 * does, and a stream goes on in the small one; where it ends a process instead, the server is told, and has whole
 * messages.  Nobody meets a page that cannot be had. */
static void test_tight_memory_group(void **state)
{
    (void)state;
    if (SANITIZED) {
        print_message("a sanitizer takes more memory than the group has\n");
        skip();
    }
    for (int told = 0; told < 2; told++) {
        const char *group = memory_group(), *address = fresh_shm();
        const char *limit, *usage;
        unsigned char message[PIECE];
        struct child *client;
        ipcio_server *server;
        ipcio_conn *conn;
        const void *data;
        size_t size, got = 0;
        int st, status;
        bool version1;
        if (group == NULL) {
            print_message("no memory group can be made here\n");
            skip();
        }
        version1 = access(text_of("%s/memory.limit_in_bytes", group), F_OK) == 0;
        limit = text_of("%s/%s", group, version1 ? "memory.limit_in_bytes" : "memory.max");
        usage = text_of("%s/%s", group, version1 ? "memory.usage_in_bytes" : "memory.current");
        if (told && !set_file(text_of("%s/memory.oom_control", group), "1")) { /* version 2 always ends one */
            rmdir(group);
            break;
        }
        OK(ipcio_listen(address, NULL, &server));
        client = start("streamer", address, told ? "told" : NULL, NULL);
        CHECK(set_file(text_of("%s/cgroup.procs", group), text_of("%d", (int)client->pid)));
        OK(ipcio_accept(server, LONG_MS, &conn));
        READS(conn, "ready");
        WRITES(conn, "ready");
        hear(client, "ready");
        CHECK(set_file(limit, text_of("%ld", number_in(usage) + TIGHT)));
        say(client, "go");
        while ((st = ipcio_read(conn, LONG_MS, &data, &size)) == IPCIO_OK) {
            fill(message, PIECE, got++);
            CHECK(size == PIECE && memcmp(data, message, PIECE) == 0);
        }
        FAILS(CLOSED, st);
        print_message("%s: %zu of %d messages\n", told ? "told" : "not told", got, STREAMED);
        if (told) { /* and it was not asked again for each message, which costs a millisecond */
            long refused_pages = number_in(text_of("%s/memory.failcnt", group));
            print_message("refused %ld times\n", refused_pages);
            assert_in_range(refused_pages, 1, 10 * STREAMED);
        }
        status = reap(client);
        if (!told && WIFSIGNALED(status)) {
            assert_int_equal(WTERMSIG(status), SIGKILL);
        } else {
            assert_int_equal(status, 0);
            assert_int_equal(got, STREAMED);
        }
        ipcio_conn_free(conn);
        ipcio_server_free(server);
        CHECK(rmdir(group) == 0);
    }
}

int main(int argc, char **argv)
{
    static const struct role roles[] = {{"echo", echo_role},     {"vandal", vandal_role}, {"half", half_role},
                                        {"silent", silent_role}, {"other", other_role},   {"both", both_role},
                                        {"streamer", streamer_role}, {"crowded", crowded_role}, {NULL, NULL}};
    const struct CMUnitTest tests[] = {
        TEST(test_raw_client),
        TEST(test_wrong_memory),
        TEST(test_wrong_descriptors),
        TEST(test_descriptors_later),
        TEST(test_wrong_frames),
        TEST(test_head_goes_back),
        TEST(test_more_than_told),
        TEST(test_wrong_tail),
        TEST(test_wrong_flags),
        TEST(test_vandals),
        TEST(test_killed_half_way),
        TEST(test_killed_while_waited_for),
        TEST(test_killed_while_dozing),
        TEST(test_end_stays),
        TEST(test_stopped_peer),
        TEST(test_wake_ups),
        TEST(test_wake_ups_for_room),
        TEST(test_longest_message),
        TEST(test_both_ways),
        TEST(test_connections_leave_nothing),
        TEST(test_idle_clients),
        TEST(test_held_message), TEST(test_held_while_it_grows_again),
        TEST(test_fork),
        TEST(test_no_descriptor_for_the_memory),
        TEST(test_silent_clients_and_few_descriptors),
        TEST(test_no_memory_for_a_client),
        TEST(test_full_folder),
        TEST(test_tight_memory_group),
    };
    RUN(argc, argv, roles, tests);
}
