/* file.c - the transport `file`: a byte stream of files in a folder that both sides reach, from different hosts too.
 *
 * A file is complete when its name appears: its writer makes it under another name and renames it.  Files are numbered,
 * and opened by their number; their reader removes them.  file.h says what lies where.
 *
 * Whoever reaches the server's socket tells it there which connection is his.  The socket then is a bell, as that of shm.c:
 * a byte says that there is a file, its end that the peer is gone, and who waits for room stuffs it, so that it is writable
 * again when the peer has emptied it.  Without a socket (on another host, in a folder that can have none) the server looks
 * for new clients, and either side for files and for room, after pauses that grow; that the peer is gone is then seen by
 * its lock, or where locks are not shared by its file, which it has to touch before its lease is over.
 * docs/design/file.md tells why. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "channel/file.h"
#include "channel/rendezvous.h"
#include "channel/stream.h"

#define SUFFIX ".file"
#define SECOND (1000 * MILLISECOND)
#define PAUSE_LEAST (MILLISECOND / 5)
#define PAUSE_MOST (100 * MILLISECOND)
#define LOOK (250 * MILLISECOND) /* for the folder itself, where the socket tells of all else */
enum {
    LEASE_PARTS = 4,    /* how often a file is touched in a lease */
    MARKS = 4, MARK_FILES = 128, MARK_BYTES = 1 << 20 /* see file_conn.out */
};

enum { CLIENT, SERVER };
static const char *const life_name[] = {"client", "server"}, *const draft_name[] = {"c.new", "s.new"};
static const char letter[] = {'c', 's'}, no_folder[] = "the folder was removed";

/* What a side knows of its peer's life. */
typedef struct {
    bool locked;     /* its lock was seen held: locks are shared */
    int64_t looked, touched; /* when it was looked for; when the own file was touched, for the peer to see */
} watch;

typedef struct {
    rendezvous_server base;
    file_record record;
    os_fd folder, bell, timer, set; /* the set is of the bell and the timer */
    bool named;           /* the folder is in ipcio's own */
    char path[RENDEZVOUS_PATH];
    int64_t owner, pause, touched;
    char passed[FILE_NAME_SIZE], found[FILE_NAME_SIZE]; /* the client that was taken in last of those who wait; the next */
} file_server;

/* A connection's descriptors: its folder, the lock in it, and without a bell the timers of reading and of writing and one
 * that is always writable. */
enum { FOLDER, LIFE, READ_TIMER, WRITE_TIMER, ALWAYS, FDS };

typedef struct {
    stream stream;
    rendezvous rendezvous;
    int me;
    bool open, bell;        /* there are descriptors to close; the socket is there */
    bool named;             /* as the server's */
    bool here;              /* the peer is in the same place */
    char *path;             /* of the address's folder */
    char name[FILE_NAME_SIZE]; /* of the connection's, when it was made */
    os_fd fd[FDS];
    file_record own;
    _Atomic bool gone;      /* the peer is */
    _Atomic unsigned woken;
    _Atomic bool accepted;  /* the server has a file in the connection's folder */
    file_server *server;    /* of a client that has not introduced itself, */
    size_t introduced;      /* of whose name so many bytes came */
    int64_t dead;           /* when the server touched its lock that was found dead */

    struct { /* inside the reading side */
        watch peer;
        uint64_t number; /* of the next file */
        bool maybe;      /* it may be there */
        buffer bytes;    /* of the one before, that were not taken */
        int64_t pause;
    } in;
    /* Inside the writing side.  Every so many files or bytes a file is a mark.  As long as MARKS of them lie in the folder
     * nothing is written; when its reader removes one it empties the socket. */
    struct {
        watch peer;
        uint64_t number;
        uint64_t mark[MARKS]; /* their numbers, oldest first */
        int marks;
        size_t files, bytes;  /* since the last one */
        buffer file;
        bool starved;         /* WANT_WRITE was answered last */
        int64_t pause;
    } out;
} file_conn;

static file_conn *conn_of(ipcio_conn *c)
{
    return (file_conn *)c;
}

static file_server *server_of(ipcio_server *s)
{
    return (file_server *)s;
}

/* ------------------------------------------------------------------------------------- names, records */

static bool hexadecimal(const char *text, size_t n)
{
    return strlen(text) == n && strspn(text, "0123456789abcdef") == n;
}

/* Of a connection's folder, and of the file that says that it waits to be found. */
enum { CONNECTION = 'c', WAITING = 'w' };

static bool is_name(const char *name, char kind)
{
    size_t n = strlen(FILE_PREFIX);
    return strncmp(name, FILE_PREFIX, n) == 0 && name[n] == kind && hexadecimal(name + n + 1, FILE_KEY);
}

static void name_as(char to[FILE_NAME_SIZE], const char *name, char kind)
{
    memcpy(to, name, FILE_NAME_SIZE);
    to[strlen(FILE_PREFIX)] = kind;
}

static void number_name(char name[FILE_NUMBER + 2], int side, uint64_t number)
{
    (void)snprintf(name, FILE_NUMBER + 2, "%c%016llx", letter[side], (unsigned long long)number);
}

/* 0, MISSING, or that it cannot be told. */
static int has(os_fd folder, const char *name)
{
    int64_t owner, time;
    return os_folder_about(folder, name, &owner, &time);
}

/* 0, MISSING, PROTOCOL: it is none, or what the system says. */
static int get_record(os_fd folder, const char *name, file_record *r)
{
    size_t got;
    int st = os_folder_get(folder, name, r, sizeof *r, &got);
    return st == 0 && (got != sizeof *r || r->magic != FILE_MAGIC_RECORD) ? IPCIO_PROTOCOL : st;
}

/* Says to the folder that somebody is there, and takes the lock that a death ends.  EXISTS: a sweep has it. */
static int take_life(os_fd folder, int side, os_fd *file)
{
    int st = os_folder_file(folder, life_name[side], OS_FOLDER_ANY, file);
    return st == 0 ? os_file_lock(*file, 0) : st;
}

/* Whether the holder of the lock `file` lives, whose record is `r`; `now` is by the clock that stamps files, 0 where it is
 * not known.  What does not answer kills nobody. */
static bool holder_lives(os_fd folder, const char *file, const file_record *r, const uint8_t place[OS_PLACE], int64_t now,
                         bool *locked)
{
    os_fd lock;
    int64_t owner, touched;
    int st = os_folder_file(folder, file, OS_FOLDER_OLD, &lock);
    if (st != 0) return st != IPCIO_MISSING;
    bool held = os_file_locked(lock, 0) != 0;
    os_close(lock);
    if (held) return *locked = true;
    if (*locked || memcmp(r->place, place, OS_PLACE) == 0) return false;
    return r->lease == 0 || now == 0 || os_folder_about(folder, file, &owner, &touched) != 0 ||
           now - touched < r->lease * SECOND;
}

/* The same of a side of the connection in `folder`.  One that died before it wrote its record did so here: elsewhere it
 * would find out that its folder has gone (enter). */
static bool side_lives(os_fd folder, int side, const uint8_t place[OS_PLACE], int64_t now, bool *locked)
{
    char name[FILE_NUMBER + 2];
    file_record r = {0};
    number_name(name, side, 0);
    int st = get_record(folder, name, &r);
    if (st == IPCIO_MISSING || st == IPCIO_PROTOCOL) memcpy(r.place, place, OS_PLACE);
    return (st != 0 && st != IPCIO_MISSING && st != IPCIO_PROTOCOL) ||
           holder_lives(folder, life_name[side], &r, place, now, locked);
}

/* ------------------------------------------------------------------------------------------ cleaning */

static void remove_own(const char *name, void *folder)
{
    bool number = (name[0] == letter[CLIENT] || name[0] == letter[SERVER]) && hexadecimal(name + 1, FILE_NUMBER);
    if (number || strcmp(name, draft_name[CLIENT]) == 0 || strcmp(name, draft_name[SERVER]) == 0)
        (void)os_folder_unlink(*(os_fd *)folder, name);
}

/* Removes a connection's folder, but no file that ipcio did not make.  Those whose locks are held last. */
static void remove_connection(os_fd top, os_fd folder, os_fd *life, int lives, const char *name)
{
    char waiting[FILE_NAME_SIZE];
    name_as(waiting, name, WAITING);
    (void)os_folder_unlink(top, waiting);
    (void)os_folder_list(folder, remove_own, &folder);
    for (int side = CLIENT; side <= SERVER; side++) (void)os_folder_unlink(folder, life_name[side]);
    for (int i = 0; i < lives; i++) { /* network folders keep a file that is open under another name */
        os_close(life[i]);
        life[i] = OS_NONE;
    }
    (void)os_folder_remove(top, name);
}

struct sweep {
    os_fd top;
    uint8_t place[OS_PLACE];
    int64_t now;
};

/* Who is being born finds its lock taken, and begins anew elsewhere. */
static void sweep_one(const char *name, void *context)
{
    const struct sweep *s = context;
    os_fd folder, life[] = {OS_NONE, OS_NONE};
    bool locked = false;
    if (!is_name(name, CONNECTION) || os_folder_open(s->top, name, &folder) != 0) return;
    if (!side_lives(folder, CLIENT, s->place, s->now, &locked) && !side_lives(folder, SERVER, s->place, s->now, &locked) &&
        take_life(folder, CLIENT, &life[CLIENT]) == 0 && take_life(folder, SERVER, &life[SERVER]) == 0)
        remove_connection(s->top, folder, life, 2, name);
    for (int side = CLIENT; side <= SERVER; side++) os_close(life[side]);
    os_close(folder);
}

/* Removes the connections whose sides are both dead. */
static void sweep(os_fd top, int64_t now)
{
    struct sweep s = {.top = top, .now = now};
    if (os_folder_place(top, s.place) == 0) (void)os_folder_list(top, sweep_one, &s);
}

/* Removes what a dead server left of a name in ipcio's folder. */
static void sweep_name(const char *name, void *ipcio_folder)
{
    char path[RENDEZVOUS_PATH];
    size_t n = strlen(name), suffix = strlen(SUFFIX);
    os_fd top;
    if (n <= suffix || strcmp(name + n - suffix, SUFFIX) != 0) return;
    if (snprintf(path, sizeof path, "%s/%s", (const char *)ipcio_folder, name) >= (int)sizeof path) return;
    if (os_folder_open(OS_NONE, path, &top) != 0) return;
    rendezvous_sweep(path, ".lock");
    if (has(top, FILE_LOCK) == IPCIO_MISSING) sweep(top, 0); /* else its server lives, and did so when it began */
    os_close(top);
    (void)os_folder_remove(OS_NONE, path);
}

/* ----------------------------------------------------------------------------------- life of the peer */

/* Whether a server has taken the client in. */
static bool is_accepted(file_conn *c)
{
    char name[FILE_NUMBER + 2];
    number_name(name, SERVER, 0);
    if (!atomic_load_explicit(&c->accepted, memory_order_relaxed) && has(c->fd[FOLDER], name) == 0)
        atomic_store_explicit(&c->accepted, true, memory_order_relaxed);
    return atomic_load_explicit(&c->accepted, memory_order_relaxed);
}

/* Asks the folder.  A client that was not accepted yet looks at the server's name. */
static bool peer_lives(file_conn *c, bool *locked, int64_t now)
{
    os_fd top;
    file_record r;
    bool other = false;
    if (!is_accepted(c)) {
        int st = os_folder_open(OS_NONE, c->path, &top);
        if (st != 0) return st != IPCIO_MISSING;
        if (get_record(top, FILE_SERVER, &r) != 0) r = c->own; /* a socket is enough for servers that are here */
        bool lives = holder_lives(top, FILE_LOCK, &r, c->own.place, now, &other);
        os_close(top);
        if (lives || !is_accepted(c)) return lives; /* else it accepted and then closed its name */
    }
    return side_lives(c->fd[FOLDER], !c->me, c->own.place, now, locked);
}

static bool peer_gone(file_conn *c, watch *w)
{
    if (atomic_load_explicit(&c->woken, memory_order_relaxed)) return true; /* by this side */
    int64_t now = os_now(), owner, stamp;
    if (c->bell || now - w->looked < PAUSE_MOST) return atomic_load_explicit(&c->gone, memory_order_acquire);
    w->looked = now;
    if (c->own.lease && now - w->touched >= c->own.lease * SECOND / LEASE_PARTS) {
        w->touched = now;
        (void)os_folder_touch(c->fd[FOLDER], life_name[c->me]);
    }
    if (c->own.lease == 0 || os_folder_about(c->fd[FOLDER], life_name[c->me], &owner, &stamp) != 0) stamp = 0;
    if (!peer_lives(c, &w->locked, stamp)) atomic_store_explicit(&c->gone, true, memory_order_release);
    return atomic_load_explicit(&c->gone, memory_order_acquire);
}

/* The socket has ended; unless it was this side that ended it. */
static void lose(file_conn *c)
{
    if (!atomic_load(&c->woken)) atomic_store_explicit(&c->gone, true, memory_order_release);
}

/* Takes in what the socket has, which says only: look. */
static void drain(file_conn *c)
{
    uint8_t bytes[512];
    size_t got = sizeof bytes;
    int st = 0;
    while (c->bell && st == 0 && got == sizeof bytes) {
        st = os_receive(c->stream.fd, &(os_piece){bytes, sizeof bytes}, 1, &got);
        if (st <= 0) c->in.maybe = true; /* after the end too, for what the peer wrote before */
    }
    if (st == IPCIO_CLOSED) lose(c);
}

/* Tells the peer that nothing more comes, and wakes this side's threads. */
static void file_wake(ipcio_conn *base)
{
    file_conn *c = conn_of(base);
    bool already = atomic_exchange(&c->woken, true);
    if (c->fd[FOLDER] != OS_NONE) (void)os_folder_unlink(c->fd[FOLDER], life_name[c->me]);
    if (c->bell) {
        if (!already && os_ended(c->stream.fd)) atomic_store_explicit(&c->gone, true, memory_order_release);
        os_shutdown(c->stream.fd);
    } else {
        for (int i = READ_TIMER; i <= WRITE_TIMER; i++) os_timer_set(c->fd[i], 0);
    }
}

/* 0, CLOSED, or why the bell cannot be rung. */
static int ring(file_conn *c)
{
    int st = c->bell ? rendezvous_ring(c->stream.fd) : 0;
    if (st == IPCIO_CLOSED) lose(c);
    return st;
}

/* ------------------------------------------------------------------------------------------ reading */

static uint64_t mix(uint64_t sum, const uint8_t *bytes, size_t n)
{
    uint64_t word = 0;
    memcpy(&word, bytes, n);
    sum = (sum ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    return sum ^ sum >> 29;
}

/* Any single change of a word changes it; against a torn file, not against a forger.  The four do not wait for each
 * other's products; as an array they would be made vectors of, which multiply more slowly. */
uint64_t file_sum(const file_head *h, const uint8_t *bytes)
{
    uint64_t a = h->number ^ h->size << 20 ^ h->mark, b = 0, c = 0, d = 0;
    size_t left = (size_t)h->size;
    for (; left >= 32; left -= 32, bytes += 32) {
        a = mix(a, bytes, 8);
        b = mix(b, bytes + 8, 8);
        c = mix(c, bytes + 16, 8);
        d = mix(d, bytes + 24, 8);
    }
    for (size_t n; left > 0; left -= n, bytes += n) a = mix(a, bytes, n = left < 8 ? left : 8);
    a = mix(a, (const uint8_t *)&b, 8);
    a = mix(a, (const uint8_t *)&c, 8);
    return mix(a, (const uint8_t *)&d, 8);
}

static int orphaned(file_conn *c)
{
    file_wake(&c->stream.conn); /* the peer may sleep, and has to be told */
    return stream_over(&c->stream, IPCIO_ORPHANED, no_folder);
}

static int broken(file_conn *c)
{
    return stream_broken(&c->stream, "there is a file in the folder that is none of this connection");
}

/* Reads the next file, if it is there, and takes it out of the folder: 0, MISSING. */
static int get_file(file_conn *c)
{
    char name[FILE_NUMBER + 2];
    buffer *b = &c->in.bytes;
    file_head h;
    number_name(name, !c->me, c->in.number);
    size_t room = b->capacity ? b->capacity : 4096, got, most = sizeof h + FILE_MOST;
    for (;;) {
        int st = buffer_reserve(b, room);
        if (st == 0) st = os_folder_get(c->fd[FOLDER], name, b->bytes, room, &got);
        if (st != 0) return st == IPCIO_PROTOCOL ? broken(c) : st;
        if (got < room || room > most) break;
        room = most + 1;
    }
    if (got < sizeof h || got > most) return broken(c);
    memcpy(&h, b->bytes, sizeof h);
    if (h.magic != FILE_MAGIC_BYTES || h.number != c->in.number || h.size != got - sizeof h || h.size == 0 ||
        h.sum != file_sum(&h, b->bytes + sizeof h))
        return broken(c);
    (void)os_folder_unlink(c->fd[FOLDER], name);
    b->head = sizeof h;
    b->tail = got;
    c->in.number++;
    c->in.pause = 0;
    if (h.mark) drain(c);
    return 0;
}

/* With a bell: whether there is anything to look for, which may be that the folder was removed. */
static bool maybe(file_conn *c)
{
    if (!c->in.maybe) drain(c);
    if (c->in.maybe || os_now() - c->in.peer.looked < LOOK) return c->in.maybe;
    c->in.peer.looked = os_now();
    if (os_folder_look(c->fd[FOLDER]) != IPCIO_MISSING) return false;
    lose(c);
    return c->in.maybe = true;
}

static int next_file(file_conn *c)
{
    if (c->bell && !maybe(c)) return IPCIO_WANT_READ;
    bool gone = peer_gone(c, &c->in.peer); /* before the look: what it wrote was there then */
    if ((!c->bell || gone) && os_folder_look(c->fd[FOLDER]) == IPCIO_MISSING) return orphaned(c);
    int st = get_file(c);
    if (st != IPCIO_MISSING) return st;
    if (gone) return IPCIO_CLOSED;
    c->in.maybe = false;
    return IPCIO_WANT_READ;
}

static int file_receive(stream *s, const os_piece *pieces, int n, size_t *got)
{
    file_conn *c = conn_of(&s->conn);
    buffer *b = &c->in.bytes;
    int st = buffer_size(b) ? 0 : next_file(c);
    if (st != 0) return st;
    *got = 0;
    for (int i = 0; i < n && buffer_size(b); i++) {
        size_t some = pieces[i].size < buffer_size(b) ? pieces[i].size : buffer_size(b);
        memcpy(pieces[i].bytes, b->bytes + b->head, some);
        buffer_take(b, some);
        *got += some;
    }
    return 0;
}

static bool file_ready(ipcio_conn *base)
{
    file_conn *c = conn_of(base);
    char name[FILE_NUMBER + 2];
    if (stream_ready(base) || buffer_size(&c->in.bytes)) return true;
    if (c->bell && !maybe(c)) return false;
    number_name(name, !c->me, c->in.number);
    if (!c->bell) (void)os_folder_look(c->fd[FOLDER]);
    return c->in.maybe = has(c->fd[FOLDER], name) != IPCIO_MISSING || atomic_load_explicit(&c->gone, memory_order_acquire);
}

/* ------------------------------------------------------------------------------------------ writing */

static bool has_room(file_conn *c)
{
    char name[FILE_NUMBER + 2];
    int gone = 0;
    if (c->out.marks < MARKS) return true;
    if (!c->bell) (void)os_folder_look(c->fd[FOLDER]);
    for (; gone < c->out.marks; gone++) {
        number_name(name, c->me, c->out.mark[gone]);
        if (has(c->fd[FOLDER], name) != IPCIO_MISSING) break;
    }
    c->out.marks -= gone;
    memmove(c->out.mark, c->out.mark + gone, (size_t)c->out.marks * sizeof *c->out.mark);
    return gone > 0;
}

/* WANT_WRITE where too much is unread. */
static int wait_for_room(file_conn *c)
{
    c->out.starved = !has_room(c);
    if (c->out.starved && c->stream.conn.out.shown) {
        /* A loop may wait for the descriptor without asking further.  One that is always writable must not make it turn
         * for nothing. */
        if (c->bell) (void)c->stream.conn.transport->settle(&c->stream.conn, IPCIO_WANT_WRITE);
        else (void)os_poll(NULL, 0, os_now() + MILLISECOND);
        c->out.starved = !has_room(c);
    }
    if (c->out.starved) return IPCIO_WANT_WRITE;
    c->out.pause = 0;
    return 0;
}

/* Makes a file of the first bytes of the pieces: 0, MISSING. */
static int put_file(file_conn *c, const os_piece *pieces, int n, size_t *sent)
{
    char name[FILE_NUMBER + 2];
    buffer *b = &c->out.file;
    file_head h = {.magic = FILE_MAGIC_BYTES, .number = c->out.number};
    size_t size = 0;
    for (int i = 0; i < n; i++) size += pieces[i].size;
    if (size > FILE_MOST) size = FILE_MOST;
    b->head = b->tail = 0;
    int st = buffer_reserve(b, sizeof h + size);
    if (st != 0) return st;
    b->tail = sizeof h;
    for (int i = 0; b->tail < sizeof h + size; i++) {
        size_t left = sizeof h + size - b->tail, some = pieces[i].size < left ? pieces[i].size : left;
        if (some) memcpy(b->bytes + b->tail, pieces[i].bytes, some);
        b->tail += some;
    }
    h.size = size;
    h.mark = c->out.files + 1 >= MARK_FILES || c->out.bytes + size >= MARK_BYTES;
    h.sum = file_sum(&h, b->bytes + sizeof h);
    memcpy(b->bytes, &h, sizeof h);
    number_name(name, c->me, h.number);
    bool durable = c->stream.conn.options.durable;
    if ((st = os_folder_put(c->fd[FOLDER], draft_name[c->me], name, b->bytes, b->tail, durable)) != 0) return st;
    if (durable) st = os_folder_sync(c->fd[FOLDER]);
    if (st == 0 && (st = ring(c)) == IPCIO_CLOSED) st = 0; /* it lived before, and may have answered this and gone */
    /* The file is not taken back, for the peer may be reading it.  So the connection is over, and its end is heard. */
    if (st != 0) {
        file_wake(&c->stream.conn);
        return st;
    }
    c->out.number++;
    c->out.files++;
    c->out.bytes += size;
    if (h.mark) {
        c->out.mark[c->out.marks++] = h.number;
        c->out.files = c->out.bytes = 0;
    }
    *sent = size;
    return 0;
}

static int file_send(stream *s, const os_piece *pieces, int n, size_t *sent)
{
    file_conn *c = conn_of(&s->conn);
    if (c->bell && os_ended(c->stream.fd)) lose(c);
    bool gone = peer_gone(c, &c->out.peer);
    int st = gone ? os_folder_look(c->fd[FOLDER]) : wait_for_room(c);
    if (gone && st != IPCIO_MISSING) return IPCIO_CLOSED;
    if (st == 0) st = put_file(c, pieces, n, sent);
    if (st != IPCIO_MISSING) return st;
    file_wake(&s->conn);
    return IPCIO_ORPHANED;
}

/* ------------------------------------------------------------------------------------------ waiting */

static bool file_arrived(ipcio_conn *base, int want)
{
    file_conn *c = conn_of(base);
    if (want == IPCIO_WANT_WRITE || !c->bell) return false;
    if (!c->in.maybe) drain(c);
    return c->in.maybe || buffer_size(&c->in.bytes) || stream_ready(base);
}

/* Whether there is room, which a stuffed socket will tell, or the end. */
static bool settle_writing(file_conn *c)
{
    if (has_room(c)) return true;
    int st = os_stuff(c->stream.fd);
    if (st == IPCIO_CLOSED) lose(c);
    return st != 0 || has_room(c);
}

static bool file_settle(ipcio_conn *base, int want)
{
    file_conn *c = conn_of(base);
    if (want == IPCIO_WANT_WRITE && !c->out.starved) return false;
    if (c->bell) return want == IPCIO_WANT_WRITE ? settle_writing(c) : file_ready(base);
    int64_t *pause = want == IPCIO_WANT_READ ? &c->in.pause : &c->out.pause;
    *pause = *pause == 0 ? PAUSE_LEAST : *pause * 2 < PAUSE_MOST ? *pause * 2 : PAUSE_MOST;
    os_timer_set(c->fd[want == IPCIO_WANT_READ ? READ_TIMER : WRITE_TIMER], *pause);
    return atomic_load(&c->woken);
}

/* ------------------------------------------------------------------------------------------ both */

static void begin(file_conn *c, int me)
{
    stream_open(&c->stream.conn, OS_NONE);
    c->stream.send = file_send;
    c->stream.receive = file_receive;
    c->me = me;
    c->open = true;
    for (int i = 0; i < FDS; i++) c->fd[i] = OS_NONE;
    c->in.maybe = true;
    c->in.peer.looked = c->out.peer.looked = os_now();
    atomic_store(&c->accepted, me == SERVER);
}

static void add_bell(file_conn *c, os_fd fd)
{
    stream_open(&c->stream.conn, fd);
    c->bell = true;
}

static void begin_with_bell(ipcio_conn *c, os_fd fd)
{
    begin(conn_of(c), CLIENT);
    add_bell(conn_of(c), fd);
}

/* With the folder open: takes the connection's place in it, and makes what the sides wait on. */
static int take_side(file_conn *c)
{
    handle *h = &c->stream.conn.base;
    char name[FILE_NUMBER + 2];
    if (c->bell) c->own.lease = 0; /* who has a bell touches nothing */
    c->in.number = c->out.number = 1;
    number_name(name, c->me, 0);
    int st = take_life(c->fd[FOLDER], c->me, &c->fd[LIFE]);
    if (st == 0) st = os_folder_put(c->fd[FOLDER], draft_name[c->me], name, &c->own, sizeof c->own, false);
    h->look = c->bell ? LOOK : 0;
    if (st != 0 || c->bell) return st;
    for (int i = READ_TIMER; i <= WRITE_TIMER && st == 0; i++) st = os_timer_new(&c->fd[i]);
    if (st == 0) st = os_bell_new(&c->fd[ALWAYS]);
    h->side[IPCIO_WANT_READ].fd = c->fd[READ_TIMER];
    h->side[IPCIO_WANT_WRITE].fd = c->fd[WRITE_TIMER];
    h->side[IPCIO_WANT_WRITE].want = IPCIO_WANT_READ;
    os_timer_set(c->fd[READ_TIMER], 0);
    return st;
}

static void close_folder(file_conn *c)
{
    for (int i = 0; i < FDS; i++) {
        os_close(c->fd[i]);
        c->fd[i] = OS_NONE;
    }
}

static void file_abandon(ipcio_conn *base)
{
    file_conn *c = conn_of(base);
    rendezvous_close(&c->rendezvous);
    if (c->open) close_folder(c);
    c->open = c->bell = false;
    stream_close(base);
}

/* Removes the connection's folder, and that of a name which nobody serves any more. */
static void remove_all(file_conn *c)
{
    os_fd top;
    if (os_folder_open(OS_NONE, c->path, &top) == 0) {
        remove_connection(top, c->fd[FOLDER], &c->fd[LIFE], 1, c->name);
        os_close(top);
    }
    if (c->named) (void)os_folder_remove(OS_NONE, c->path);
}

/* Whoever ends last takes all away.  A client that nobody has accepted yet leaves what it wrote to the server. */
static void file_close(ipcio_conn *base)
{
    file_conn *c = conn_of(base);
    bool locked = false;
    if (c->open && c->path && c->fd[FOLDER] != OS_NONE) { /* without a path it was never in the folder */
        (void)os_folder_unlink(c->fd[FOLDER], life_name[c->me]);
        if (atomic_load(&c->gone) || !peer_lives(c, &locked, 0)) remove_all(c);
    }
    file_abandon(base);
}

static void file_forget(ipcio_conn *base)
{
    file_conn *c = conn_of(base);
    stream_forget(base);
    if (handle_torn(&base->base)) return;
    free(c->path);
    c->path = NULL;
    buffer_free(&c->in.bytes);
    buffer_free(&c->out.file);
}

static int file_peer(ipcio_conn *base, ipcio_peer *peer)
{
    file_conn *c = conn_of(base);
    int64_t time;
    if (c->bell) return os_local_peer(c->stream.fd, peer);
    *peer = (ipcio_peer){-1, -1, -1};
    /* The folder is one user's, or it would not have come to this; on another host that may be another one. */
    return c->here ? os_folder_about(c->fd[FOLDER], ".", &peer->uid, &time) : IPCIO_UNSUPPORTED;
}

static uint32_t lease_of(const options *o)
{
    return 2 * o->keepalive;
}

/* Makes of the path of the address's folder that of the socket in it. */
static int bell_path(char path[RENDEZVOUS_PATH], const char *text)
{
    size_t n = strlen(path);
    if (n + sizeof "/" FILE_LOCK > RENDEZVOUS_PATH) return ipcio__fail(IPCIO_INVALID, "%s: the path is too long", text);
    memcpy(path + n, "/" FILE_BELL, sizeof "/" FILE_BELL);
    return 0;
}

/* Keeps where the address's folder is. */
static int keep_path(file_conn *c, const char *path, bool named)
{
    size_t size = strlen(path) + 1;
    c->named = named;
    if (!c->path && !(c->path = malloc(size))) return IPCIO_NOMEMORY;
    memcpy(c->path, path, size);
    return 0;
}

/* -------------------------------------------------------------------------------------- connecting */

/* Finds a live server that looks for its clients. */
static int find_server(file_conn *c, os_fd top, int64_t now)
{
    file_record r;
    bool locked = false;
    int64_t owner, touched;
    int st = get_record(top, FILE_SERVER, &r);
    if (st != 0) return st == IPCIO_PROTOCOL ? IPCIO_MISSING : st;
    c->here = memcmp(r.place, c->own.place, OS_PLACE) == 0;
    if (c->here && r.bell) return IPCIO_MISSING; /* it is not there yet, or not any more */
    if ((st = os_folder_about(top, FILE_LOCK, &owner, &touched)) != 0) return st;
    bool lives = holder_lives(top, FILE_LOCK, &r, c->own.place, now, &locked);
    if (!lives || (!locked && touched == c->dead)) {
        c->dead = touched;
        return IPCIO_MISSING;
    }
    atomic_store_explicit(&c->stream.conn.peer_limit, r.limit, memory_order_relaxed);
    return 0;
}

/* Makes the connection's folder.  EXISTS: a sweep took it for a dead one's. */
static int make_connection(file_conn *c, os_fd top)
{
    uint64_t random = 0;
    (void)os_random(&random, sizeof random);
    (void)snprintf(c->name, FILE_NAME_SIZE, FILE_PREFIX "c%016llx%016llx", (unsigned long long)os_now(),
                   (unsigned long long)random);
    int st = os_folder_make(top, c->name);
    if (st != 0) return st; /* MISSING: the address's folder was removed */
    st = os_folder_open(top, c->name, &c->fd[FOLDER]);
    if (st == 0) st = take_side(c);
    if (st == 0) st = os_file_at(c->fd[LIFE], c->fd[FOLDER], life_name[CLIENT]);
    return st == IPCIO_MISSING ? IPCIO_EXISTS : st;
}

/* Shows it to the server, greeting and all: before that nothing rings, behind it nothing fails. */
static int show_connection(file_conn *c, os_fd top)
{
    char waiting[FILE_NAME_SIZE];
    bool bell = c->bell;
    size_t sent;
    os_fd file;
    c->bell = false;
    int st = stream_hello(&c->stream.conn);
    c->bell = bell;
    if (st != 0) return st;
    if (bell) {
        st = os_send(c->stream.fd, &(os_piece){c->name, FILE_NAME_SIZE}, 1, &sent);
        return st == IPCIO_CLOSED ? 0 : st; /* who has gone already: reading tells */
    }
    name_as(waiting, c->name, WAITING);
    if ((st = os_folder_file(c->fd[FOLDER], draft_name[CLIENT], OS_FOLDER_ANY, &file)) != 0) return st;
    os_close(file);
    /* Making it there could fail though it was seen there: it is gone as soon as the server has found it. */
    return os_folder_rename(c->fd[FOLDER], draft_name[CLIENT], top, waiting);
}

static int enter(file_conn *c, os_fd top)
{
    int64_t owner, now;
    int st = make_connection(c, top);
    if (st == 0 && !c->bell) st = os_folder_about(c->fd[FOLDER], life_name[CLIENT], &owner, &now);
    if (st == 0 && !c->bell) st = find_server(c, top, now);
    if (st == 0) st = show_connection(c, top);
    if (st == 0) return 0;
    if (c->fd[FOLDER] != OS_NONE) remove_connection(top, c->fd[FOLDER], &c->fd[LIFE], 1, c->name);
    else (void)os_folder_remove(top, c->name);
    close_folder(c);
    return st;
}

/* In the folder of the address, whose server's socket may have been reached. */
static int enter_folder(file_conn *c, bool bell)
{
    enum { ATTEMPTS = 10 };
    os_fd top;
    int st = os_folder_open(OS_NONE, c->path, &top);
    if (st != 0) return st;
    c->own = (file_record){.magic = FILE_MAGIC_RECORD, .lease = lease_of(&c->stream.conn.options)};
    st = os_folder_place(top, c->own.place);
    if (st == 0 && !bell && (st = find_server(c, top, 0)) == 0) begin(c, CLIENT);
    for (int i = 0; st == (i ? IPCIO_EXISTS : 0) && i < ATTEMPTS; i++) st = enter(c, top);
    os_close(top);
    return st;
}

static int file_connect(ipcio_conn *base)
{
    file_conn *c = conn_of(base);
    char path[RENDEZVOUS_PATH], folder[RENDEZVOUS_PATH];
    int st = rendezvous_path(base->transport, &base->address, path, folder);
    if (st == 0) st = keep_path(c, path, folder[0]);
    if (st == 0) st = bell_path(path, base->address.text);
    if (st == 0) st = rendezvous_connect_at(base, &c->rendezvous, path, os_local_connect, begin_with_bell);
    if (st != 0 && st != IPCIO_MISSING) return st;
    bool bell = st == 0;
    st = enter_folder(c, bell);
    if (st != 0 && c->open) file_abandon(base);
    int64_t *pause = &base->base.side[IPCIO_WANT_READ].pause;
    if (st == 0) {
        rendezvous_close(&c->rendezvous);
        *pause = 0;
    } else if (st == IPCIO_MISSING && *pause == 0) { /* a server that has gone in the middle */
        base->base.side[IPCIO_WANT_READ].fd = OS_NONE;
        *pause = MILLISECOND;
    }
    if (st == IPCIO_MISSING) return rendezvous_nobody(base, path);
    return st == 0 ? 0 : ipcio__fail_os(st, "%s: cannot connect", base->address.text);
}

/* ------------------------------------------------------------------------------------------ serving */

static int open_folder(file_server *s)
{
    const char *text = s->base.base.address.text;
    int st = s->named ? os_folder_make(OS_NONE, s->path) : 0;
    if (st == IPCIO_EXISTS) st = 0;
    if (st == 0) st = os_folder_open(OS_NONE, s->path, &s->folder);
    if (st == IPCIO_MISSING && !s->named)
        return ipcio__fail_os(st, "%s: the folder must be there: it is what both sides reach", text);
    return st == 0 ? 0 : ipcio__fail_os(st, "%s: cannot open %s", text, s->path);
}

/* Takes the lock in the folder.  MISSING: that is not there, or was removed in the middle. */
static int take_name(file_server *s)
{
    int st = open_folder(s);
    if (st != 0) return st;
    if ((st = rendezvous_take(&s->base, s->named)) == 0) {
        if (!s->named || os_file_at(s->folder, OS_NONE, s->path) == 0) return 0;
        namelock_abandon(&s->base.lock);
        st = ipcio__fail(IPCIO_MISSING, "%s: %s", s->base.base.address.text, no_folder);
    }
    os_close(s->folder);
    s->folder = OS_NONE;
    return st;
}

/* EXISTS: what has this name of the server's is neither a server's record nor empty, as the death of the folder's host
 * may leave one. */
static int find_foreign(const file_server *s, const char *name)
{
    file_record r = {0};
    size_t got = 0;
    int st = os_folder_get(s->folder, name, &r, sizeof r, &got);
    if (st == IPCIO_MISSING || (st == 0 && (got == 0 || r.magic == FILE_MAGIC_RECORD))) return 0;
    const char *text = s->base.base.address.text;
    if (st != 0 && st != IPCIO_PROTOCOL) return ipcio__fail_os(st, "%s: cannot read %s/%s", text, s->path, name);
    return ipcio__fail(IPCIO_EXISTS, "%s: %s/%s is a file that ipcio did not create", text, s->path, name);
}

/* Whose this side's files there are, which on a network folder may be another user's, and the time by the clock that stamps
 * them. */
static int make_draft(os_fd folder, int64_t *owner, int64_t *now)
{
    os_fd file;
    (void)os_folder_unlink(folder, FILE_DRAFT);
    int st = os_folder_file(folder, FILE_DRAFT, OS_FOLDER_NEW, &file);
    if (st != 0) return st;
    os_close(file);
    st = os_folder_about(folder, FILE_DRAFT, owner, now);
    (void)os_folder_unlink(folder, FILE_DRAFT);
    return st;
}

/* With the lock taken: whether a server has the name that cannot see it. */
static bool served_elsewhere(const file_server *s, int64_t now, int64_t touched)
{
    file_record r;
    return get_record(s->folder, FILE_SERVER, &r) == 0 && memcmp(r.place, s->record.place, OS_PLACE) != 0 &&
           (r.lease == 0 || now - touched < r.lease * SECOND);
}

/* Makes what clients come by.  Where there can be no socket it is enough to look for them. */
static int open_listener(file_server *s)
{
    os_fd *listener = &s->base.base.listener;
    s->record.bell = rendezvous_bind(&s->base, s->named) == 0;
    if (s->record.bell) s->bell = *listener;
    if (s->named && s->record.bell) return 0;
    int st = os_timer_new(&s->timer);
    if (st == 0) st = os_set_new(&s->set);
    if (st == 0) st = os_set_put(s->set, s->timer, IPCIO_WANT_READ, NULL);
    if (st == 0 && s->record.bell) st = os_set_put(s->set, s->bell, IPCIO_WANT_READ, NULL);
    if (st == 0) st = os_folder_put(s->folder, FILE_DRAFT, FILE_SERVER, &s->record, sizeof s->record, false);
    if (st != 0) return st;
    os_timer_set(s->timer, 0);
    *listener = s->set;
    return 0;
}

static void close_looking(file_server *s)
{
    os_close(s->timer);
    os_close(s->set);
    s->base.base.listener = s->bell;
}

static void file_unlisten(ipcio_server *base)
{
    file_server *s = server_of(base);
    close_looking(s);
    if (namelock_ours(&s->base.lock)) (void)os_folder_unlink(s->folder, FILE_SERVER);
    rendezvous_unlisten(base);
    sweep(s->folder, 0);
    os_close(s->folder);
    if (s->named) (void)os_folder_remove(OS_NONE, s->path);
}

static void file_abandon_server(ipcio_server *base)
{
    close_looking(server_of(base));
    rendezvous_abandon_server(base);
    os_close(server_of(base)->folder);
}

/* Before it is known that nobody serves here who cannot be seen.  Where somebody may, even the lock's file is his. */
static void back_out(file_server *s)
{
    file_record r;
    if (get_record(s->folder, FILE_SERVER, &r) != 0) namelock_drop(&s->base.lock);
    file_abandon_server(&s->base.base);
    if (s->named) (void)os_folder_remove(OS_NONE, s->path);
}

static int file_listen(ipcio_server *base)
{
    enum { ATTEMPTS = 100 };
    file_server *s = server_of(base);
    char folder[RENDEZVOUS_PATH];
    int64_t now = 0, touched = 0, holder = 0;
    int st = rendezvous_path(base->transport, &base->address, s->path, folder);
    if (st == 0) st = bell_path(memcpy(s->base.path, s->path, sizeof s->path), base->address.text);
    if (st != 0) return st;
    s->named = folder[0];
    s->folder = s->bell = s->timer = s->set = OS_NONE;
    if (s->named) (void)os_list(folder, sweep_name, folder);
    int left = s->named ? ATTEMPTS : 1; /* the last who leaves removes a folder of ipcio's own */
    do st = take_name(s);
    while (st == IPCIO_MISSING && --left);
    if (st != 0 && s->named) (void)os_folder_remove(OS_NONE, s->path);
    if (st != 0) return st;
    if (!s->named && ((st = find_foreign(s, FILE_SERVER)) != 0 || (st = find_foreign(s, FILE_DRAFT)) != 0)) {
        back_out(s);
        return st;
    }
    s->record = (file_record){.magic = FILE_MAGIC_RECORD, .lease = lease_of(&base->options), .limit = base->options.limit};
    st = os_folder_place(s->folder, s->record.place);
    if (st == 0) st = os_folder_about(s->folder, FILE_LOCK, &holder, &touched);
    if (st == 0) st = make_draft(s->folder, &s->owner, &now);
    if (st != 0) {
        st = ipcio__fail_os(st, "%s: cannot listen at %s", base->address.text, s->path);
        back_out(s);
        return st;
    }
    if (holder != s->owner) {
        file_abandon_server(base);
        return ipcio__fail(IPCIO_EXISTS, "%s: %s/" FILE_LOCK " is another user's, and stays", base->address.text, s->path);
    }
    if (served_elsewhere(s, now, touched)) {
        file_abandon_server(base);
        return ipcio__fail(IPCIO_EXISTS, "%s: a server on another host has the name; see %s/" FILE_SERVER,
                           base->address.text, s->path);
    }
    sweep(s->folder, now);
    st = os_folder_touch(s->folder, FILE_LOCK); /* which a dead server may have left */
    if (st == 0) st = open_listener(s);
    s->touched = os_now();
    if (st == 0) return 0;
    st = ipcio__fail_os(st, "%s: cannot listen at %s", base->address.text, s->path);
    file_unlisten(base);
    base->listener = OS_NONE;
    return st;
}

/* Descriptors are kept for a client before it is taken from the queue. */
static int reserve(const file_server *s, file_conn *c)
{
    int st = 0;
    for (int i = 0; i < FDS && st == 0; i++) st = os_folder_open(s->folder, ".", &c->fd[i]);
    return st;
}

/* Takes a client into its connection, whose folder it has shown.  MISSING: that is none; EXISTS: it was taken in before. */
static int join(const file_server *s, file_conn *c)
{
    close_folder(c); /* what was reserved */
    char record[FILE_NUMBER + 2];
    int64_t owner, time;
    file_record client;
    number_name(record, SERVER, 0);
    int st = os_folder_open(s->folder, c->name, &c->fd[FOLDER]);
    if (st == 0 && has(c->fd[FOLDER], record) == 0) st = IPCIO_EXISTS;
    number_name(record, CLIENT, 0);
    if (st == 0) st = os_folder_about(c->fd[FOLDER], ".", &owner, &time);
    if (st == 0) st = owner >= 0 && owner == s->owner ? get_record(c->fd[FOLDER], record, &client) : IPCIO_MISSING;
    if (st == 0) {
        c->here = memcmp(client.place, s->record.place, OS_PLACE) == 0;
        c->own = s->record;
        st = keep_path(c, s->path, s->named);
    }
    if (st == 0) st = take_side(c);
    if (st != 0) close_folder(c);
    return st == IPCIO_PROTOCOL ? IPCIO_MISSING : st;
}

/* Another user's names, of which there may be thousands, are not even tried. */
static void keep_next(const char *name, void *context)
{
    file_server *s = context;
    int64_t owner, time;
    if (!is_name(name, WAITING) || strcmp(name, s->passed) <= 0 || (s->found[0] && strcmp(name, s->found) > 0)) return;
    if (os_folder_about(s->folder, name, &owner, &time) == 0 && owner == s->owner) memcpy(s->found, name, FILE_NAME_SIZE);
}

/* Finds the next client that waits: they are named by the time at which they came.  MISSING: there is none; next time it begins
 * with the first again. */
static int find_client(file_server *s)
{
    int st = os_folder_look(s->folder);
    if (st == IPCIO_MISSING) return ipcio__fail(IPCIO_ORPHANED, "%s: %s", s->base.base.address.text, no_folder);
    s->found[0] = 0;
    if (st == 0) st = os_folder_list(s->folder, keep_next, s);
    if (st != 0) return ipcio__fail_os(st, "%s: cannot accept", s->base.base.address.text);
    if (s->found[0]) return 0;
    s->passed[0] = 0;
    return IPCIO_MISSING;
}

static int accept_waiting(file_server *s, file_conn *c)
{
    int st = find_client(s);
    if (st == IPCIO_MISSING) {
        s->pause = s->pause == 0 ? MILLISECOND : s->pause * 2 < PAUSE_MOST ? s->pause * 2 : PAUSE_MOST;
        os_timer_set(s->timer, s->pause);
        return IPCIO_WANT_READ;
    }
    if (st != 0) return st;
    name_as(c->name, s->found, CONNECTION);
    st = join(s, c);
    if (st == IPCIO_NOMEMORY || st == IPCIO_SYSTEM) return ipcio__fail_os(st, "%s: cannot accept", s->base.base.address.text);
    memcpy(s->passed, s->found, FILE_NAME_SIZE);
    if (st == 0 || st == IPCIO_EXISTS || has(s->folder, c->name) == IPCIO_MISSING) (void)os_folder_unlink(s->folder, s->found);
    if (st != 0) return IPCIO_WANT_READ; /* it has gone, or is somebody else's */
    s->pause = 0; /* where one is there are more */
    return 0;
}

static int file_accept(ipcio_server *base, ipcio_conn *conn)
{
    file_server *s = server_of(base);
    file_conn *c = conn_of(conn);
    os_fd fd;
    bool looks = s->timer != OS_NONE;
    int64_t now = os_now();
    if (looks && s->record.lease && now - s->touched >= s->record.lease * SECOND / LEASE_PARTS) {
        s->touched = now;
        (void)os_folder_touch(s->folder, FILE_LOCK);
    }
    begin(c, SERVER);
    int st = reserve(s, c);
    if (st == 0) st = s->record.bell ? os_accept(s->bell, &fd) : IPCIO_WANT_READ;
    if (st < 0) (void)ipcio__fail_os(st, "%s: cannot accept", base->address.text);
    if (st == 0) {
        add_bell(c, fd);
        c->server = s;
    } else if (st > 0 && looks) {
        st = accept_waiting(s, c);
    }
    if (st != 0) close_folder(c);
    return st;
}

/* The client cannot be used; reading says why. */
static int not_greeted(file_conn *c, int status, const char *why)
{
    c->server = NULL;
    atomic_store(&c->gone, true);
    return stream_over(&c->stream, status, why);
}

/* The name of its connection comes by the socket, all else by files. */
static int file_greeted(ipcio_conn *base)
{
    static const char strange[] = "the peer is no ipcio of this version";
    file_conn *c = conn_of(base);
    while (c->server && c->introduced < FILE_NAME_SIZE) {
        size_t got;
        int st = os_receive(c->stream.fd, &(os_piece){c->name + c->introduced, FILE_NAME_SIZE - c->introduced}, 1, &got);
        if (st > 0) return st;
        if (st == IPCIO_CLOSED) return not_greeted(c, st, "the peer has closed the connection");
        if (st < 0) return ipcio__fail_os(IPCIO_FULL, "%s: cannot hear a client", base->base.text);
        c->introduced += got;
    }
    if (c->server) {
        if (c->name[FILE_NAME_SIZE - 1] || !is_name(c->name, CONNECTION)) return not_greeted(c, IPCIO_PROTOCOL, strange);
        int st = join(c->server, c);
        if (st == IPCIO_MISSING || st == IPCIO_EXISTS) return not_greeted(c, IPCIO_PROTOCOL, strange);
        if (st == IPCIO_NOMEMORY) return ipcio__fail(st, "%s: no memory for a client", base->base.text);
        if (st != 0) return not_greeted(c, st, "the connection's folder cannot be used");
        c->server = NULL;
    }
    return stream_greeted(base);
}

/* Where room is waited for by a timer, which is never writable, loops of others get what always is. */
static os_fd file_write_fd(ipcio_conn *base)
{
    const file_conn *c = conn_of(base);
    return c->bell ? base->base.side[IPCIO_WANT_WRITE].fd : c->fd[ALWAYS];
}

const transport transport_file = {
    .scheme = "file",
    .options = OWN_KEEPALIVE | OWN_DURABLE,
    .only_messages = true,
    .blocks = true,
    .server_size = sizeof(file_server),
    .conn_size = sizeof(file_conn),
    .listen = file_listen,
    .accept = file_accept,
    .unlisten = file_unlisten,
    .abandon_server = file_abandon_server,
    .connect = file_connect,
    .greeted = file_greeted,
    .start = stream_start,
    .view = stream_view,
    .take = stream_take,
    .end = stream_end,
    .write = stream_write,
    .abort = stream_abort,
    .arrived = file_arrived,
    .ready = file_ready,
    .settle = file_settle,
    .write_fd = file_write_fd,
    .peer = file_peer,
    .wake = file_wake,
    .close = file_close,
    .abandon = file_abandon,
    .forget = file_forget,
};
