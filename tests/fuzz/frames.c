/* frames.c - fuzz target: what a peer may send, in every framing, over a socket that a connection has adopted.
 *
 * Whatever it is, reading gives messages, a status that the header names, and an end; and the same messages and the same
 * end whether all comes at once or byte by byte, whether they are read whole or in pieces.
 *
 * An input is two bytes that say how, and the bytes that the peer sends. */
#include "fuzz.h"

#include <sys/socket.h>

enum { FRAMING = 3, UTF16 = 4, NUL = 8, SMALL_LIMIT = 16, GREETED = 32 }; /* of the first byte */
enum { HEAD = 2, LIMIT = 200 };

static const char hello[] = "\x20\0\0\0" "\x20\0\0\0" "\0\0\0\0" "\1\0ip" "ipcio\0" "\1\0" "\0\0\0\4" "\0\0\0\0"
                            "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0" "\2";

static unsigned long streams, messages, refused, toobig; /* counts */

static void options_of(uint8_t how, char *to, size_t size)
{
    static const char *const framing[] = {"message", "line", "raw", "message"};
    snprintf(to, size, "buffer=1024&framing=%s&text=%s&nul=%d%s", framing[how & FRAMING],
             how & UTF16 ? "utf-16le" : "utf-8", (how & NUL) != 0, how & SMALL_LIMIT ? "&limit=200" : "");
}

/* A connection, and the socket of its peer. */
static ipcio_conn *open_conn(uint8_t how, int *peer)
{
    char address[32], options[128];
    ipcio_conn *conn;
    int ends[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    snprintf(address, sizeof address, "fd://%d", ends[0]);
    options_of(how, options, sizeof options);
    MUST(ipcio_connect(address, options, 0, &conn) == IPCIO_OK);
    *peer = ends[1];
    return conn;
}

/* What reading gave, as a number that no other reading is likely to have. */
typedef struct {
    uint64_t hash;
    unsigned long messages, toobig;
    int end;
} story;

static void tell(story *s, const void *data, size_t size)
{
    const uint8_t *p = data;
    for (size_t i = 0; i < size; i++)
        s->hash = (s->hash ^ p[i]) * UINT64_C(0x100000001b3);
}

static bool is_raw(uint8_t how) { return (how & FRAMING) == 2 && !(how & NUL); }

/* Raw bytes have no bounds that could be told. */
static void tell_end(story *s, uint8_t how, size_t size)
{
    if (is_raw(how))
        return;
    tell(s, &size, sizeof size);
    s->messages++;
}

static int read_whole(ipcio_conn *conn, uint8_t how, story *s)
{
    const void *data;
    size_t size;
    int st = ipcio_read(conn, 0, &data, &size);
    if (st != IPCIO_OK)
        return st;
    MUST(!(how & SMALL_LIMIT) || size <= LIMIT * 2); /* UTF-8 may be longer than what came */
    tell(s, data, size);
    tell_end(s, how, size);
    return st;
}

static int read_pieces(ipcio_conn *conn, uint8_t how, size_t n, story *s, bool *inside, size_t *length, size_t *have)
{
    uint8_t piece[64];
    size_t got = 1;
    int st = *inside ? IPCIO_OK : ipcio_read_start(conn, 0, length);
    if (st == IPCIO_OK && !*inside)
        *have = 0;
    *inside |= st == IPCIO_OK;
    while (*inside && st == IPCIO_OK && got > 0) {
        static uint8_t all[1 << 16];
        st = ipcio_read_buffer(conn, piece, n, 0, &got);
        if (st != IPCIO_OK)
            break;
        MUST(got <= n && *have + got <= *length && *have + got <= sizeof all);
        memcpy(all + *have, piece, got);
        *have += got;
        if (got == 0) { /* an aborted message is none, so it is told only now */
            MUST(*have == *length);
            tell(s, all, *have);
            tell_end(s, how, *have);
        }
    }
    if (st == IPCIO_TIMEOUT)
        return st;
    if (*inside && (st == IPCIO_OK || st == IPCIO_ABORTED)) {
        *inside = false;
        MUST(ipcio_read_end(conn, 0) == IPCIO_OK);
        return IPCIO_OK;
    }
    return st;
}

/* The peer sends the bytes in pieces of `chunk`, and after each is read what there is; 0: all at once. */
static story run(uint8_t how, const uint8_t *data, size_t size, size_t chunk, size_t piece)
{
    story s = {.hash = UINT64_C(0xcbf29ce484222325)};
    bool inside = false;
    size_t length = 0, have = 0;
    int peer, st = IPCIO_TIMEOUT;
    ipcio_conn *conn = open_conn(how, &peer);
    if (how & GREETED && (how & FRAMING) % 3 == 0)
        MUST(send(peer, hello, sizeof hello - 1, MSG_NOSIGNAL) == sizeof hello - 1);
    for (size_t sent = 0; sent <= size && (st == IPCIO_TIMEOUT || st == IPCIO_OK);) {
        size_t n = chunk == 0 || size - sent < chunk ? size - sent : chunk;
        if (sent == size) {
            shutdown(peer, SHUT_WR);
            sent++;
        } else {
            MUST(send(peer, data + sent, n, MSG_NOSIGNAL) == (ssize_t)n);
            sent += n;
        }
        do {
            st = piece ? read_pieces(conn, how, piece, &s, &inside, &length, &have) : read_whole(conn, how, &s);
            s.toobig += st == IPCIO_TOOBIG;
        } while (st == IPCIO_OK || st == IPCIO_TOOBIG);
    }
    MUST(st == IPCIO_CLOSED || st == IPCIO_PROTOCOL);
    s.end = st;
    st = ipcio_write(conn, "x", 1, 0);
    MUST(st == IPCIO_OK || st == IPCIO_CLOSED || st == IPCIO_TOOBIG || st == IPCIO_INVALID);
    ipcio_conn_free(conn);
    close(peer);
    return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    story first, other;
    size_t chunk, piece;
    if (size < HEAD)
        return -1;
    chunk = data[1] % 16 + 1;
    piece = data[1] / 16 + 1;
    first = run(data[0], data + HEAD, size - HEAD, 0, 0);
    for (int i = 0; i < 3; i++) {
        other = run(data[0], data + HEAD, size - HEAD, i == 1 ? 0 : chunk, i == 0 ? 0 : piece);
        MUST(other.end == first.end && other.toobig == first.toobig);
        if (is_raw(data[0]) && first.end == IPCIO_PROTOCOL)
            continue; /* how much of what is no UTF-16 was given out before depends on how it came */
        MUST(other.hash == first.hash && other.messages == first.messages);
    }
    streams++;
    messages += first.messages;
    toobig += first.toobig;
    refused += first.end == IPCIO_PROTOCOL;
    return 0;
}

static void print_counts(void)
{
    printf("frames: %lu streams of %lu messages, read in four ways each: the same; %lu too long, %lu broke the rules\n",
           streams, messages, toobig, refused);
}

/* Inputs to begin with are what a connection sends. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    take_corpus(*argc, *argv);
    atexit(print_counts);
    for (unsigned how = 0; corpus != NULL && how < 32; how++) {
        uint8_t bytes[HEAD + 4096] = {(uint8_t)how, (uint8_t)(how * 7)};
        char name[16];
        const void *data;
        size_t size;
        ssize_t n;
        int peer;
        ipcio_conn *conn = open_conn((uint8_t)how, &peer);
        (void)ipcio_write(conn, "hello", 5, 0);
        (void)ipcio_write(conn, "", 0, 0);
        (void)ipcio_write_start(conn, 9, 0);
        (void)ipcio_write_buffer(conn, "gr\xc3\xbc\xc3\x9f", 6, 0);
        (void)ipcio_write_buffer(conn, " ok", 3, 0);
        (void)ipcio_write_end(conn, 0);
        (void)ipcio_call(conn, "a call", 6, 0, &data, &size);
        if ((how & FRAMING) % 3 == 0) {
            (void)ipcio_write_start(conn, 100, 0);
            (void)ipcio_write_buffer(conn, "given up", 8, 0);
            (void)ipcio_write_end(conn, 0);
        }
        n = recv(peer, bytes + HEAD, sizeof bytes - HEAD, MSG_DONTWAIT);
        MUST(n >= 0);
        snprintf(name, sizeof name, "%u", how);
        seed(name, bytes, HEAD + (size_t)n);
        ipcio_conn_free(conn);
        close(peer);
    }
    return 0;
}
