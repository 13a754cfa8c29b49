/* rendezvous.c - see rendezvous.h. */
#include "channel/rendezvous.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOCK ".lock"
enum { PATH_SIZE = RENDEZVOUS_PATH };
static const char magic[8] = {'i', 'p', 'c', 'i', 'o', ' ', 'p', '2'};

static rendezvous_server *server_of(ipcio_server *s)
{
    return (rendezvous_server *)s;
}

int rendezvous_path(const transport *t, const address *a, char path[PATH_SIZE], char folder[PATH_SIZE])
{
    folder[0] = 0;
    int n = 0;
    if (a->path) {
        n = snprintf(path, PATH_SIZE, "%s", a->name);
    } else {
        const char *wrong;
        int st = os_directory(folder, PATH_SIZE, &wrong);
        if (wrong) return ipcio__fail(st, "%s: the folder of names %s %s", a->text, folder, wrong);
        if (st == IPCIO_MISSING) st = IPCIO_INVALID; /* it cannot be there */
        if (st != 0) return ipcio__fail_os(st, "%s: the folder of names %s cannot be made", a->text, folder);
        char file[ADDRESS_FILE_MAX];
        address_file_name(a->name, file);
        n = snprintf(path, PATH_SIZE, "%s/%s.%s", folder, file, t->scheme);
    }
    if (n >= PATH_SIZE - (int)sizeof LOCK) return ipcio__fail(IPCIO_INVALID, "%s: the path is too long", a->text);
    return 0;
}

/* The lock's path, in place. */
static void add_lock(char path[PATH_SIZE])
{
    memcpy(path + strlen(path), LOCK, sizeof LOCK);
}

static bool read_record(os_fd file, rendezvous_record *r)
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

/* Whether ipcio put there what is at the path. */
static bool is_ours(rendezvous_server *s, bool own_folder, os_identity now)
{
    rendezvous_record before;
    if (own_folder) return true;
    if (!read_record(s->lock.file, &before)) return false;
    return before.made == 1 ? os_is_endpoint(s->path) : before.made == 2 && same(before.place, now);
}

/* With the lock held: makes sure that nothing is at the path, unless ipcio did not put it there. */
static int clear_path(rendezvous_server *s, bool own_folder)
{
    os_identity now;
    int st = os_identify(s->path, &now);
    if (st == IPCIO_MISSING) return 0;
    if (st != 0) return st;
    return is_ours(s, own_folder, now) ? os_file_remove(s->path) : IPCIO_EXISTS;
}

static int write_record(rendezvous_server *s)
{
    return os_file_write(s->lock.file, &s->record, sizeof s->record);
}

/* Listens with what lies at the path. */
static int use_place(rendezvous_server *s, const rendezvous_place *place, bool own_folder)
{
    os_identity now;
    int st = place->use(s->path, &s->base.listener);
    if (st == 0) st = os_identify(s->path, &now);
    if (st != 0) return st;
    if (is_ours(s, own_folder, now)) {
        s->record.made = 2;
        s->record.place = now;
    }
    return write_record(s);
}

static int make_place(rendezvous_server *s, const rendezvous_place *place, bool own_folder)
{
    int st = clear_path(s, own_folder);
    if (st != 0) return st;
    s->record.made = 1;
    if ((st = write_record(s)) != 0) return st;
    if ((st = place->make(s->path, &s->base.listener)) != 0) return st;
    s->record.made = 2;
    if ((st = os_identify(s->path, &s->record.place)) == 0) st = write_record(s);
    if (st != 0) (void)os_file_remove(s->path);
    return st;
}

static int take_place(rendezvous_server *s, const rendezvous_place *place, bool own_folder)
{
    int st = place->use ? use_place(s, place, own_folder) : IPCIO_MISSING;
    if (st == IPCIO_MISSING || st == IPCIO_EXISTS) {
        os_close(s->base.listener); /* it was removed just after it was opened */
        s->base.listener = OS_NONE;
        st = make_place(s, place, own_folder);
    }
    if (st == 0) return 0;
    os_close(s->base.listener);
    s->base.listener = OS_NONE;
    return st;
}

static const rendezvous_place socket_place = {.make = os_local_listen};

int rendezvous_bind(rendezvous_server *s, bool own_folder)
{
    return take_place(s, &socket_place, own_folder);
}

void rendezvous_sweep(const char *folder, const char *suffix)
{
    namelock_sweep(folder, suffix, sweep_leftover);
}

int rendezvous_take(rendezvous_server *s, bool own_folder)
{
    const char *text = s->base.address.text;
    char lock[PATH_SIZE];
    memcpy(lock, s->path, sizeof lock);
    add_lock(lock);
    int st = namelock_take(&s->lock, lock);
    if (st == IPCIO_EXISTS) return ipcio__fail(st, "%s: a live server has the name", text);
    if (st == IPCIO_TIMEOUT)
        return ipcio__fail(IPCIO_EXISTS, "%s: a process that was clearing the name up does not go on; is it stopped?", text);
    if (st != 0 && st != IPCIO_PROTOCOL) return ipcio__fail_os(st, "%s: cannot lock %s", text, lock);

    rendezvous_record before;
    char byte;
    bool foreign = !own_folder && st == 0 && !read_record(s->lock.file, &before) && os_file_read(s->lock.file, &byte, 1) == 0;
    if (foreign) namelock_abandon(&s->lock);
    if (st != 0 || foreign) return ipcio__fail(IPCIO_EXISTS, "%s: %s is a file that ipcio did not create", text, lock);
    memcpy(s->record.magic, magic, sizeof magic);
    s->record.limit = s->base.options.limit;
    s->record.files = s->base.options.files;
    (void)snprintf(s->record.name, sizeof s->record.name, "%s", s->base.address.path ? "" : s->base.address.name);
    return 0;
}

/* Whether a file is this user's.  On some mounts all files are another's: then one that is made beside it tells. */
static bool is_mine(const char *path)
{
    char probe[PATH_SIZE + 4];
    int64_t owner, own, time;
    os_fd file;
    if (os_folder_about(OS_NONE, path, &owner, &time) != 0) return false;
    if (owner == os_user()) return true;
    (void)snprintf(probe, sizeof probe, "%s.new", path);
    if (os_folder_file(OS_NONE, probe, OS_FOLDER_NEW, &file) != 0) return false;
    bool mine = owner >= 0 && os_folder_about(OS_NONE, probe, &own, &time) == 0 && own == owner;
    os_close(file);
    (void)os_file_remove(probe);
    return mine;
}

int rendezvous_listen_at(ipcio_server *base, const rendezvous_place *place)
{
    rendezvous_server *s = server_of(base);
    const char *text = base->address.text;
    char folder[PATH_SIZE], suffix[32];
    int st = rendezvous_path(base->transport, &base->address, s->path, folder);
    if (st != 0) return st;
    bool own_folder = folder[0] != 0;
    (void)snprintf(suffix, sizeof suffix, ".%s" LOCK, base->transport->scheme);
    if (own_folder) rendezvous_sweep(folder, suffix);
    if ((st = rendezvous_take(s, own_folder)) != 0) return st;
    if (!is_mine(s->lock.path)) { /* what is in it decides what is removed */
        namelock_abandon(&s->lock);
        return ipcio__fail(IPCIO_EXISTS, "%s: %s" LOCK " is another user's, and stays", text, s->path);
    }
    if ((st = take_place(s, place, own_folder)) == 0) return 0;
    st = st == IPCIO_EXISTS ? ipcio__fail(st, "%s: something that ipcio did not create is there, and stays", text)
                            : ipcio__fail_os(st, "%s: cannot listen at %s", text, s->path);
    namelock_drop(&s->lock);
    return st;
}

int rendezvous_listen(ipcio_server *base)
{
    return rendezvous_listen_at(base, &socket_place);
}

void rendezvous_unlisten(ipcio_server *base)
{
    rendezvous_server *s = server_of(base);
    os_identity now;
    int st = os_identify(s->path, &now);
    if (st == 0 && same(now, s->record.place)) st = os_file_remove(s->path);
    os_close(s->base.listener);
    /* What may still be ours is for the next server to remove, who knows it by the lock's file. */
    if (st == 0 || st == IPCIO_MISSING) namelock_drop(&s->lock);
    else namelock_abandon(&s->lock);
}

void rendezvous_abandon_server(ipcio_server *base)
{
    rendezvous_server *s = server_of(base);
    os_close(s->base.listener);
    namelock_abandon(&s->lock);
}

int rendezvous_accept(ipcio_server *base, os_fd *fd)
{
    int st = os_accept(base->listener, fd);
    return st < 0 ? ipcio__fail_os(st, "%s: cannot accept", base->address.text) : st;
}

/* -------------------------------------------------------------------------------------- connecting */

/* What the server tells before it accepts.  A dead one's FIFO may have another reader by now. */
static void read_limit(ipcio_conn *c, const char *lock)
{
    os_fd file;
    rendezvous_record r;
    if (os_file_open(lock, false, &file) != 0) return;
    if (namelock_held(file) && read_record(file, &r)) {
        atomic_store_explicit(&c->peer_limit, r.limit, memory_order_relaxed);
        atomic_store_explicit(&c->peer_files, r.files == 1, memory_order_relaxed);
    }
    os_close(file);
}

/* Arranges when to try again.  The watch tells of a server that appears; the pause covers the moment between
 * its bind and its listen, folders that do not exist yet, and systems that cannot watch. */
static void wait_for_server(ipcio_conn *c, rendezvous *r, char path[PATH_SIZE])
{
    int64_t *pause = &c->base.side[IPCIO_WANT_READ].pause;
    bool news = false;
    if (*pause == 0) {
        news = true; /* at first only a moment, since a watch is dear */
    } else if (!r->watched) {
        char *slash = strrchr(path, '/');
        char kept = slash[1];
        slash[1] = 0;
        r->watched = os_watch(path, &r->watch) == 0;
        slash[1] = kept;
        news = true; /* it may have come before the watch */
    } else {
        news = os_watch_clear(r->watch);
    }
    int64_t most = (r->watched ? 100 : 10) * MILLISECOND;
    *pause = news || *pause == 0 ? MILLISECOND / 10 : *pause * 2 < most ? *pause * 2 : most;
    c->base.side[IPCIO_WANT_READ].fd = r->watched ? r->watch : OS_NONE;
    c->base.side[IPCIO_WANT_READ].want = IPCIO_WANT_READ;
}

int rendezvous_nobody(ipcio_conn *c, const char *path)
{
    char folder[PATH_SIZE];
    os_identity there;
    bool gone = false;
    if (c->address.path) {
        size_t n = (size_t)(strrchr(path, '/') - path) + 1;
        memcpy(folder, path, n);
        folder[n] = 0;
        gone = os_identify(folder, &there) == IPCIO_MISSING;
    }
    c->missing = gone ? "there was no such folder" : NULL;
    if (gone) return ipcio__fail(IPCIO_MISSING, "%s: there is no such folder", c->address.text);
    return ipcio__fail(IPCIO_MISSING, "%s: nobody serves the name", c->address.text);
}

int rendezvous_connect_at(ipcio_conn *c, rendezvous *r, char path[PATH_SIZE], int (*reach)(const char *path, os_fd *fd),
                          void (*made)(ipcio_conn *c, os_fd fd))
{
    os_fd fd = OS_NONE;
    int st = reach(path, &fd);
    if (st == 0) made(c, fd);
    if (st == IPCIO_MISSING || st > 0) wait_for_server(c, r, path);
    if (st == IPCIO_MISSING) return rendezvous_nobody(c, path);
    if (st > 0) return IPCIO_WANT_READ;
    if (st < 0) return ipcio__fail_os(st, "%s: cannot connect", c->address.text);
    rendezvous_close(r);
    c->base.side[IPCIO_WANT_READ].pause = 0;
    add_lock(path);
    read_limit(c, path);
    return 0;
}

int rendezvous_connect(ipcio_conn *c, rendezvous *r, int (*reach)(const char *path, os_fd *fd),
                       void (*made)(ipcio_conn *c, os_fd fd))
{
    char path[PATH_SIZE], folder[PATH_SIZE];
    int st = rendezvous_path(c->transport, &c->address, path, folder);
    return st == 0 ? rendezvous_connect_at(c, r, path, reach, made) : st;
}

void rendezvous_close(rendezvous *r)
{
    if (r->watched) os_close(r->watch);
    r->watched = false;
}
