/* walk.c - random walks over the calls of a connection, both ends in one thread, beside a model of what was written and
 * not read yet.  Each call answers what the model allows, whatever was begun, given up or half done before; what is there
 * is told by descriptors and sets; and behind a close all that was sent comes first. */
#include "faults.h"

enum { STEPS = 1000, OUTSTANDING = 40, LARGEST = 1 << 20 };
enum { READ = IPCIO_WANT_READ, WRITE = IPCIO_WANT_WRITE };
enum kind { PLAIN, CALL, ANSWER };

struct message {
    size_t size, number; /* what is in it follows from the latter */
    enum kind kind;
    unsigned call; /* which it is, or answers */
    enum { OPEN, SENT, GIVEN_UP } state;
};

struct side {
    ipcio_conn *conn;
    struct message *in; /* what was written to it; */
    size_t first, end;  /* from `first` on it was not read */

    enum { AT_REST, WHOLE, PIECES, IN_PLACE, CALLING } writing;
    struct message *out;
    size_t done, piece; /* of it in pieces; of that which is to be repeated */
    void *room;
    unsigned calls;     /* of this side */
    bool asked;         /* the last one is out */

    struct message *reading; /* in pieces, */
    size_t got;              /* so many bytes of it; */
    bool ended;              /* and its end */
    bool begun;              /* a read has begun to take a message */
    unsigned answering;      /* the call that was the last message read; 0: none */
    unsigned given_up;       /* answers up to that are dropped */
    struct {
        unsigned answering, given_up;
    } before;                /* what is read in pieces: it may be given up */
};

static struct side sides[2];
static struct message messages[2][STEPS]; /* at most one a step */
static unsigned char data[LARGEST], taken[LARGEST];
static uint64_t state;
static unsigned long long walked, sent, read_whole, read_in_pieces, given_up, answered; /* counts */

static unsigned below(unsigned n)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)((state >> 33) % n);
}

static struct side *peer_of(const struct side *s) { return &sides[s == sides]; }

/* ------------------------------------------------------------------------------------------- the model */

static bool is_late(const struct side *s, const struct message *m)
{
    return m->kind == ANSWER && m->call <= s->given_up;
}

/* What is to be read next, if anything. */
static struct message *next_in(const struct side *s)
{
    for (struct message *m = s->in + s->first; m < s->in + s->end; m++)
        if (m->state != GIVEN_UP && !is_late(s, m)) return m;
    return NULL;
}

static bool is_due(const struct side *s)
{
    const struct message *m = next_in(s);
    return m && m->state == SENT;
}

static void was_read(struct side *s, const struct message *m)
{
    s->first = (size_t)(m - s->in) + 1;
    s->begun = false;
    if (m->kind == ANSWER) s->given_up = m->call;
    s->answering = m->kind == CALL ? m->call : 0;
}

/* No two that are under way have one size, so that this tells them apart. */
static size_t new_size(const struct side *to)
{
    static const size_t sizes[] = {0, 1, 15, 16, 64, 1999, 2000, 4080, 14000, 28000, 65519, 65537, 200000, 700000};
    size_t size = below(3) ? below(100) : sizes[below(COUNT(sizes))];
    for (size_t i = to->first; i < to->end; i++)
        if (to->in[i].size == size) {
            size++;
            i = to->first - 1;
        }
    return size;
}

static struct message *begin_message(struct side *s, size_t size, bool calls)
{
    static size_t number;
    struct side *to = peer_of(s);
    struct message *m = &to->in[to->end++];
    *m = (struct message){.size = size, .number = ++number};
    if (calls) m->kind = CALL, m->call = ++s->calls;
    else if (s->answering) m->kind = ANSWER, m->call = s->answering;
    s->out = m;
    return m;
}

static void is_out(struct side *s)
{
    s->out->state = SENT;
    s->writing = AT_REST;
    if (s->out->kind == ANSWER && s->answering == s->out->call) s->answering = 0, answered++;
    sent++;
}

static void was_given_up(struct side *s)
{
    s->out->state = GIVEN_UP;
    s->writing = AT_REST;
    given_up++;
}

/* ------------------------------------------------------------------------------------------- writing */

/* A write, begun or repeated: with timeout 0 it is given up, else under way. */
static void go_on(struct side *s, int timeout)
{
    fill(data, s->out->size, s->out->number);
    int st = ipcio_write(s->conn, data, s->out->size, timeout);
    s->writing = WHOLE;
    if (st == 0) is_out(s);
    else if (st != WRITE) FAILS(TIMEOUT, st), was_given_up(s);
}

static void give_up(struct side *s, int want)
{
    FAILS(TIMEOUT, ipcio_give_up(s->conn, want, IPCIO_TIMEOUT, 0));
}

static void give_up_call(struct side *s, int want)
{
    give_up(s, want);
    if (s->asked) s->given_up = s->calls, s->writing = AT_REST;
    else was_given_up(s);
}

static void write_pieces(struct side *s)
{
    size_t left = s->out->size - s->done;
    if (s->piece == 0 && left > 0 && below(10) == 0) {
        FAILS(INVALID, ipcio_write_end(s->conn, 0));
        was_given_up(s);
    } else if (left > 0) {
        if (s->piece == 0) s->piece = 1 + below((unsigned)left);
        fill(data, s->out->size, s->out->number);
        int st = ipcio_write_buffer(s->conn, data + s->done, s->piece, below(2) ? 0 : IPCIO_TRY);
        if (st == WRITE || st == IPCIO_TIMEOUT) return;
        OK(st);
        s->done += s->piece;
        s->piece = 0;
    } else {
        int st = ipcio_write_end(s->conn, below(2) ? 0 : IPCIO_TRY);
        if (st == WRITE || st == IPCIO_TIMEOUT) return;
        OK(st);
        is_out(s);
    }
}

static void end_in_place(struct side *s)
{
    struct message *m = begin_message(s, s->piece, false);
    fill(s->room, m->size, m->number);
    int st = ipcio_write_end(s->conn, 0);
    if (st == 0) is_out(s);
    else FAILS(TIMEOUT, st), was_given_up(s);
}

static void go_on_calling(struct side *s)
{
    const void *answer;
    size_t size;
    fill(data, s->out->size, s->out->number);
    const struct message *m = next_in(s);
    int st = ipcio_call(s->conn, data, s->out->size, below(2) ? IPCIO_TRY : IPCIO_SPIN, &answer, &size);
    if (st != WRITE && !s->asked) {
        is_out(s);
        s->writing = CALLING;
        s->asked = true;
    }
    if (st == 0) {
        CHECK(m && m->state == SENT && m->size == size && is_filled(answer, size, m->number));
        was_read(s, m);
        s->writing = AT_REST;
        return;
    }
    CHECK(st == WRITE || st == READ);
    s->begun |= s->asked;
    if (below(20) == 0) give_up_call(s, st);
}

static void start_writing(struct side *s)
{
    const struct side *to = peer_of(s);
    const size_t size = new_size(to);
    if (to->end - to->first > OUTSTANDING) return;
    switch (below(5)) {
    case 0: begin_message(s, size, false), go_on(s, 0); break;
    case 1: begin_message(s, size, false), go_on(s, IPCIO_TRY); break;
    case 2:
        begin_message(s, size, false);
        OK(ipcio_write_start(s->conn, size, LONG_MS));
        s->writing = PIECES;
        s->done = s->piece = 0;
        break;
    case 3: {
        int st = ipcio_write_view(s->conn, size, 0, &s->room);
        if (st == IPCIO_TIMEOUT) break;
        OK(st);
        s->piece = size;
        s->writing = IN_PLACE;
        break;
    }
    default:
        if (s->reading) break;
        begin_message(s, size, true);
        s->writing = CALLING;
        s->asked = false;
        go_on_calling(s);
    }
}

static void write_some(struct side *s)
{
    switch (s->writing) {
    case AT_REST: start_writing(s); break;
    case WHOLE:
        if (below(8)) go_on(s, IPCIO_TRY);
        else give_up(s, WRITE), was_given_up(s);
        break;
    case PIECES: write_pieces(s); break;
    case IN_PLACE: end_in_place(s); break;
    case CALLING: go_on_calling(s); break;
    }
}

/* ------------------------------------------------------------------------------------------- reading */

static bool readable(ipcio_conn *conn, int timeout)
{
    struct pollfd fd = {ipcio_fileno(conn), POLLIN, 0};
    CHECK(fd.fd >= 0);
    return poll(&fd, 1, timeout) == 1;
}

/* Where all that was sent is there at once, nothing is told but that. */
static bool tells_at_once(void)
{
    return strcmp(transport, "shm") == 0 || strcmp(transport, "pipe") == 0;
}

static void read_one(struct side *s)
{
    const struct message *m = next_in(s);
    const bool due = is_due(s);
    const void *message;
    size_t size;
    int st = ipcio_read(s->conn, due ? LONG_MS : below(2) ? 0 : IPCIO_TRY, &message, &size);
    if (due || st == 0) {
        OK(st);
        CHECK(due && size == m->size && is_filled(message, size, m->number));
        was_read(s, m);
        read_whole++;
    } else {
        CHECK(st == IPCIO_TIMEOUT || st == READ);
        s->begun = true;
        if (tells_at_once()) CHECK(!readable(s->conn, 0));
    }
}

/* Of one that is given up its beginning may come all the same. */
static void start_reading(struct side *s)
{
    struct message *m = next_in(s);
    const bool due = is_due(s), begun = s->begun;
    size_t size;
    int st = ipcio_read_start(s->conn, due ? LONG_MS : 0, &size);
    if (st == IPCIO_INVALID && begun) return;
    if (st == IPCIO_TIMEOUT && !due) return;
    OK(st);
    for (struct message *other = s->in + s->first; other < s->in + s->end && other != m; other++)
        if (other->state == GIVEN_UP && other->size == size) m = other;
    CHECK(m && m->size == size);
    s->before.answering = s->answering;
    s->before.given_up = s->given_up;
    was_read(s, m);
    s->reading = m;
    s->got = 0;
    s->ended = false;
}

static void read_piece(struct side *s)
{
    const struct message *m = s->reading;
    size_t most = 1 + below(below(2) ? 50 : 100000), got;
    if (below(30) == 0 || s->ended) {
        OK(ipcio_read_end(s->conn, 0));
        s->reading = NULL;
        read_in_pieces += s->got == m->size;
        return;
    }
    if (m->state == SENT || (m->state == GIVEN_UP && strcmp(transport, "shm") == 0)) CHECK(readable(s->conn, LONG_MS));
    int st = ipcio_read_buffer(s->conn, taken, most, m->state == SENT ? LONG_MS : 0, &got);
    if (st == IPCIO_TIMEOUT && m->state != SENT) return;
    if (st == IPCIO_ABORTED) {
        CHECK(m->state == GIVEN_UP);
        const unsigned call = m->kind == CALL ? m->call : 0;
        if (s->answering == call) s->answering = s->before.answering;
        if (m->kind == ANSWER && s->given_up == m->call) s->given_up = s->before.given_up;
        OK(ipcio_read_end(s->conn, 0));
        s->reading = NULL;
        return;
    }
    OK(st);
    CHECK(got <= most && got <= m->size - s->got && (got > 0 || (s->got == m->size && m->state == SENT)));
    CHECK(m->state == GIVEN_UP || is_filled(taken, got, m->number + s->got)); /* else zeros may have come */
    s->got += got;
    s->ended = got == 0;
}

static void wait_for_due(const struct side *s)
{
    ipcio_set *set;
    void *which;
    if (below(2)) {
        CHECK(readable(s->conn, LONG_MS));
        return;
    }
    OK(ipcio_set_new(&set));
    OK(ipcio_set_add(set, s->conn, READ));
    OK(ipcio_set_wait(set, ipcio_deadline(LONG_MS / 1000), &which));
    CHECK(which == s->conn);
    ipcio_set_free(set);
}

static void read_some(struct side *s)
{
    if (s->writing == CALLING) go_on_calling(s);
    else if (s->reading) read_piece(s);
    else if (is_due(s) && below(4) == 0) wait_for_due(s);
    else if (below(3)) read_one(s);
    else start_reading(s);
}

/* ------------------------------------------------------------------------------------------- walking */

/* One side closes: the other reads all that was sent, and then hears of it; over TCP unless more is on its way to the
 * former. */
static void leave(struct side *s)
{
    struct side *other = peer_of(s);
    const void *message;
    size_t size;
    if (is_tcp(transport) && (other->writing || is_due(s))) return;
    ipcio_conn_close(s->conn);
    if (other->writing == CALLING) give_up_call(other, other->asked ? READ : WRITE);
    if (other->reading) OK(ipcio_read_end(other->conn, 0));
    while (is_due(other))
        read_one(other);
    FAILS(CLOSED, ipcio_read(other->conn, LONG_MS, &message, &size));
}

static void walk(uint64_t seed)
{
    struct pair pair;
    open_pair_at(&pair, new_address(), NULL, NULL);
    for (int i = 0; i < 2; i++)
        sides[i] = (struct side){.conn = i ? pair.peer : pair.client, .in = messages[i]};
    state = seed;
    for (int step = 0; step < STEPS; step++, walked++) {
        struct side *s = &sides[below(2)];
        if (below(2)) write_some(s);
        else read_some(s);
    }
    leave(&sides[below(2)]);
    free_pair(&pair);
}

/* The walk that went wrong is the last one named; it is the same each time. */
static void test_walks(void **context)
{
    enum { SAMPLE = 15 };
    const int64_t until = now_ms() + 1000 * (seconds ? seconds : 30);
    (void)context;
    walked = sent = read_whole = read_in_pieces = given_up = answered = 0;
    for (uint64_t seed = 1; full ? now_ms() < until : seed <= SAMPLE; seed++) {
        print_message("%s: walk %llu\n", transport, (unsigned long long)seed);
        walk(seed);
    }
    one_line("%llu steps: %llu messages sent, %llu read whole, %llu in pieces, %llu given up, %llu calls answered", walked, sent,
             read_whole, read_in_pieces, given_up, answered);
}

int main(int argc, char **argv)
{
    static const struct role roles[] = {{NULL, NULL}};
    const struct CMUnitTest tests[] = {TEST(test_walks)};
    RUN_OVER_TRANSPORTS(argc, argv, roles, tests);
}
