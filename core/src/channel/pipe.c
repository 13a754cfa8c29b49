/* pipe.c - the transport `pipe`: a byte stream of the system between two processes of this machine.
 *
 * pipe://name lies in ipcio's folder as name.pipe, pipe:///path at the path.  Beside it a file that ends in
 * ".lock" is the name's lock (object/namelock.h): who holds it serves, and a socket whose lock nobody holds is
 * a dead server's.  That file's contents tell clients how long a message the server takes, before it accepts
 * them and whether it takes files, and the next server whether what lies at the path was made by ipcio at all. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "channel/stream.h"
#include "object/namelock.h"

#define SUFFIX ".pipe"
#define LOCK ".lock"
enum { PATH_SIZE = ADDRESS_PATH_MAX + 1 };

typedef struct {
    char magic[8];
    uint32_t limit;       /* longest message the server takes */
    uint32_t made;        /* 1: nothing was at the path, and a socket may be by now; 2: it is `socket` */
    uint64_t files;       /* 1: the server takes files */
    os_identity socket;
    char name[ADDRESS_NAME_MAX + 1]; /* the whole name, which the file's name may only be a hash of */
} record;
static const char magic[8] = "ipcio p2";

typedef struct {
    ipcio_server base;
    namelock lock;
    record record;
    char path[PATH_SIZE];
} pipe_server;

typedef struct {
    stream stream;
    os_fd watch; /* the folder of a name that nobody serves yet, */
    bool watched; /* if there is one */
} pipe_conn;

static pipe_server *server_of(ipcio_server *s)
{
    return (pipe_server *)s;
}

static pipe_conn *conn_of(ipcio_conn *c)
{
    return (pipe_conn *)c;
}

/* The socket's path.  `folder` receives ipcio's folder, or "" where the address is a path. */
static int find_path(const address *a, char path[PATH_SIZE], char folder[PATH_SIZE])
{
    folder[0] = 0;
    int n = 0;
    if (a->path) {
        n = snprintf(path, PATH_SIZE, "%s", a->name);
    } else {
        int st = os_directory(folder, PATH_SIZE);
        if (st == IPCIO_DENIED)
            return ipcio__fail(st, "%s: the folder of names %s must be this user's own, and no other may write to it (mode 700)",
                               a->text, folder);
        if (st == IPCIO_MISSING) st = IPCIO_INVALID; /* it cannot be there */
        if (st != 0) return ipcio__fail_os(st, "%s: the folder of names %s cannot be made", a->text, folder);
        char file[ADDRESS_FILE_MAX];
        address_file_name(a->name, file);
        n = snprintf(path, PATH_SIZE, "%s/%s" SUFFIX, folder, file);
    }
    if (n >= PATH_SIZE - (int)sizeof LOCK) return ipcio__fail(IPCIO_INVALID, "%s: the path is too long", a->text);
    return 0;
}

/* The lock's path, in place. */
static void add_lock(char path[PATH_SIZE])
{
    memcpy(path + strlen(path), LOCK, sizeof LOCK);
}

static bool read_record(os_fd file, record *r)
{
    return os_file_read(file, r, sizeof *r) == 0 && memcmp(r->magic, magic, sizeof magic) == 0;
}

static bool same(os_identity a, os_identity b)
{
    return a.device == b.device && a.number == b.number && a.stamp == b.stamp;
}

/* ------------------------------------------------------------------------------------------ serving */

static void sweep_leftover(const char *lock)
{
    char path[PATH_SIZE];
    size_t n = strlen(lock) - strlen(LOCK);
    if (n >= sizeof path) return;
    memcpy(path, lock, n);
    path[n] = 0;
    (void)os_file_remove(path);
}

/* With the lock held: makes sure that nothing is at the path, unless ipcio did not put it there. */
static int clear_path(pipe_server *s, bool own_folder)
{
    os_identity now;
    record before;
    int st = os_identify(s->path, &now);
    if (st == IPCIO_MISSING) return 0;
    if (st != 0) return st;
    bool known = read_record(s->lock.file, &before);
    if (!own_folder && !(known && (before.made == 1 || (before.made == 2 && same(before.socket, now)))))
        return IPCIO_EXISTS;
    return os_file_remove(s->path);
}

static int bind_path(pipe_server *s, bool own_folder)
{
    int st = clear_path(s, own_folder);
    if (st != 0) return st;
    s->record.made = 1;
    if ((st = os_file_write(s->lock.file, &s->record, sizeof s->record)) != 0) return st;
    process_lock();
    st = os_local_listen(s->path, &s->base.listener);
    process_unlock();
    if (st != 0) return st;
    s->record.made = 2;
    if ((st = os_identify(s->path, &s->record.socket)) == 0)
        st = os_file_write(s->lock.file, &s->record, sizeof s->record);
    if (st == 0) return 0;
    (void)os_file_remove(s->path);
    os_close(s->base.listener);
    s->base.listener = OS_NONE;
    return st;
}

static int pipe_listen(ipcio_server *base)
{
    pipe_server *s = server_of(base);
    const char *text = base->address.text;
    char folder[PATH_SIZE], lock[PATH_SIZE];
    int st = find_path(&base->address, s->path, folder);
    if (st != 0) return st;
    memcpy(lock, s->path, sizeof lock);
    add_lock(lock);
    if (folder[0]) namelock_sweep(folder, SUFFIX LOCK, sweep_leftover);

    st = namelock_take(&s->lock, lock);
    if (st == IPCIO_EXISTS) return ipcio__fail(st, "%s: a live server has the name", text);
    if (st != 0) return ipcio__fail_os(st, "%s: cannot lock %s", text, lock);

    record before;
    char byte;
    if (!folder[0] && !read_record(s->lock.file, &before) && os_file_read(s->lock.file, &byte, 1) == 0) {
        namelock_abandon(&s->lock);
        return ipcio__fail(IPCIO_EXISTS, "%s: %s is a file that ipcio did not create", text, lock);
    }
    memcpy(s->record.magic, magic, sizeof magic);
    s->record.limit = base->options.limit;
    s->record.files = base->options.files;
    (void)snprintf(s->record.name, sizeof s->record.name, "%s", base->address.path ? "" : base->address.name);
    st = bind_path(s, folder[0] != 0);
    if (st != 0) {
        st = st == IPCIO_EXISTS
                 ? ipcio__fail(st, "%s: something that ipcio did not create is there, and stays", text)
                 : ipcio__fail_os(st, "%s: cannot listen at %s", text, s->path);
        namelock_drop(&s->lock);
        return st;
    }
    return 0;
}

static void pipe_unlisten(ipcio_server *base)
{
    pipe_server *s = server_of(base);
    os_identity now;
    int st = os_identify(s->path, &now);
    if (st == 0 && same(now, s->record.socket)) st = os_file_remove(s->path);
    os_close(s->base.listener);
    /* A socket that may still be ours is for the next server to remove, who knows it by the lock's file. */
    if (st == 0 || st == IPCIO_MISSING) namelock_drop(&s->lock);
    else namelock_abandon(&s->lock);
}

static void pipe_abandon_server(ipcio_server *base)
{
    pipe_server *s = server_of(base);
    os_close(s->base.listener);
    namelock_abandon(&s->lock);
}

static int pipe_accept(ipcio_server *base, ipcio_conn *c)
{
    os_fd fd;
    int st = os_accept(base->listener, &fd);
    if (st < 0) return ipcio__fail_os(st, "%s: cannot accept", base->address.text);
    if (st == 0) stream_open(c, fd);
    return st;
}

/* -------------------------------------------------------------------------------------- connecting */

/* What the server tells before it accepts. */
static void read_limit(ipcio_conn *c, const char *lock)
{
    os_fd file;
    record r;
    if (os_file_open(lock, false, &file) != 0) return;
    if (read_record(file, &r)) {
        atomic_store_explicit(&c->peer_limit, r.limit, memory_order_relaxed);
        atomic_store_explicit(&c->peer_files, r.files == 1, memory_order_relaxed);
    }
    os_close(file);
}

/* Arranges when to try again.  The watch tells of a server that appears; the pause covers the moment between
 * its bind and its listen, folders that do not exist yet, and systems that cannot watch. */
static void wait_for_server(pipe_conn *c, char path[PATH_SIZE])
{
    int64_t *pause = &c->stream.conn.base.side[IPCIO_WANT_READ].pause;
    bool news = false;
    if (*pause == 0) {
        news = true; /* at first only a moment, since a watch is dear */
    } else if (!c->watched) {
        char *slash = strrchr(path, '/');
        char kept = slash[1];
        slash[1] = 0;
        process_lock();
        c->watched = os_watch(path, &c->watch) == 0;
        process_unlock();
        slash[1] = kept;
        news = true; /* it may have come before the watch */
    } else {
        news = os_watch_clear(c->watch);
    }
    int64_t most = (c->watched ? 100 : 10) * MILLISECOND;
    *pause = news || *pause == 0 ? MILLISECOND / 10 : *pause * 2 < most ? *pause * 2 : most;
    c->stream.conn.base.side[IPCIO_WANT_READ].fd = c->watched ? c->watch : OS_NONE;
    c->stream.conn.base.side[IPCIO_WANT_READ].want = IPCIO_WANT_READ;
}

static int pipe_connect(ipcio_conn *base)
{
    pipe_conn *c = conn_of(base);
    char path[PATH_SIZE], folder[PATH_SIZE];
    os_fd fd = OS_NONE;
    int st = find_path(&base->address, path, folder);
    if (st != 0) return st;
    process_lock();
    st = os_local_connect(path, &fd);
    if (st == 0) stream_open(base, fd);
    process_unlock();
    if (st == 0) st = stream_hello(base);
    if (st == IPCIO_MISSING || st > 0) wait_for_server(c, path);
    if (st == IPCIO_MISSING) return ipcio__fail(st, "%s: nobody serves the name", base->address.text);
    if (st > 0) return IPCIO_WANT_READ;
    if (st < 0) return ipcio__fail_os(st, "%s: cannot connect", base->address.text);
    if (c->watched) os_close(c->watch);
    c->watched = false;
    base->base.side[IPCIO_WANT_READ].pause = 0;
    add_lock(path);
    read_limit(base, path);
    return 0;
}

static int pipe_peer(ipcio_conn *c, ipcio_peer *peer)
{
    return os_local_peer(conn_of(c)->stream.fd, peer);
}

static void pipe_close(ipcio_conn *c)
{
    stream_close(c);
    if (conn_of(c)->watched) os_close(conn_of(c)->watch);
}

const transport transport_pipe = {
    .scheme = "pipe",
    .server_size = sizeof(pipe_server),
    .conn_size = sizeof(pipe_conn),
    .listen = pipe_listen,
    .accept = pipe_accept,
    .unlisten = pipe_unlisten,
    .abandon_server = pipe_abandon_server,
    .connect = pipe_connect,
    .greeted = stream_greeted,
    .start = stream_start,
    .view = stream_view,
    .take = stream_take,
    .end = stream_end,
    .take_file = stream_take_file,
    .write = stream_write,
    .abort = stream_abort,
    .arrived = stream_arrived,
    .ready = stream_ready,
    .peer = pipe_peer,
    .wake = stream_wake,
    .close = pipe_close,
    .abandon = pipe_close,
};
