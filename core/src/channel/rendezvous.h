/* rendezvous.h - where two processes of this machine meet: a socket or a FIFO at a path.
 *
 * scheme://name lies in ipcio's folder as name.scheme, scheme:///path at the path.  Beside it a file that ends in
 * ".lock" is the name's lock (object/namelock.h): who holds it serves, and a socket whose lock nobody holds is
 * a dead server's.  That file's contents tell clients how long a message the server takes, before it accepts
 * them, and whether it takes files, and the next server whether what lies at the path was made by ipcio at all. */
#ifndef IPCIO_RENDEZVOUS_H
#define IPCIO_RENDEZVOUS_H

#include "channel/transport.h"
#include "object/namelock.h"

enum { RENDEZVOUS_PATH = ADDRESS_PATH_MAX + 1 };

typedef struct {
    char magic[8];
    uint32_t limit;       /* longest message the server takes */
    uint32_t made;        /* 0: not ipcio's; 1: nothing was at the path, and ours may be by now; 2: `place` is ours */
    uint64_t files;       /* 1: the server takes files */
    os_identity place;
    char name[ADDRESS_NAME_MAX + 1]; /* the whole name, which the file's name may only be a hash of */
} rendezvous_record;

typedef struct {
    ipcio_server base;
    namelock lock;
    rendezvous_record record;
    char path[ADDRESS_PATH_MAX + 1];
} rendezvous_server;

/* What a server puts at the path.
 * make  puts it there, where nothing is, and opens it.
 * use   opens what lies there already; MISSING, EXISTS it is something else.  It is not removed in the end unless ipcio
 *       made it.  NULL: what a dead server left is replaced. */
typedef struct {
    int (*make)(const char *path, os_fd *fd);
    int (*use)(const char *path, os_fd *fd);
} rendezvous_place;
int rendezvous_listen_at(ipcio_server *s, const rendezvous_place *place);

/* Members for the table of a transport whose server is a rendezvous_server, and listens on a socket. */
int rendezvous_listen(ipcio_server *s);
void rendezvous_unlisten(ipcio_server *s);
void rendezvous_abandon_server(ipcio_server *s);

/* The next client's socket; as `accept` of a transport. */
int rendezvous_accept(ipcio_server *s, os_fd *fd);

/* What a client has that waits for its server. */
typedef struct {
    os_fd watch; /* the folder of a name that nobody serves yet, */
    bool watched; /* if there is one */
} rendezvous;

/* As `connect` of a transport.  `made` gets what `reach` has opened.  MISSING of `reach`, or
 * above 0: it is tried again. */
int rendezvous_connect(ipcio_conn *c, rendezvous *r, int (*reach)(const char *path, os_fd *fd),
                       void (*made)(ipcio_conn *c, os_fd fd));
void rendezvous_close(rendezvous *r);

/* ---- the parts of it, for a transport that puts more than the socket at the path */

/* Where a name lies.  `folder` receives ipcio's folder, or "" where the address is a path.  DENIED INVALID SYSTEM */
int rendezvous_path(const transport *t, const address *a, char path[RENDEZVOUS_PATH], char folder[RENDEZVOUS_PATH]);

/* Removes what dead servers left in a folder whose locks end in `suffix`. */
void rendezvous_sweep(const char *folder, const char *suffix);

/* Takes the lock of s->path; then listens there.  The latter makes no message.  `own_folder`: what lies at the path is
 * ipcio's whatever it is. */
int rendezvous_take(rendezvous_server *s, bool own_folder);
int rendezvous_bind(rendezvous_server *s, bool own_folder);

/* As rendezvous_connect, at a path, which is changed. */
int rendezvous_connect_at(ipcio_conn *c, rendezvous *r, char path[RENDEZVOUS_PATH],
                          int (*reach)(const char *path, os_fd *fd), void (*made)(ipcio_conn *c, os_fd fd));

/* Rings a connection's socket, which is a bell to the peer: 0, also where it rings already, since the peer has not heard it yet; CLOSED;
 * or why it cannot be rung. */
static inline int rendezvous_ring(os_fd fd)
{
    enum { ATTEMPTS = 100 };
    static const char byte[1];
    size_t sent;
    int st = IPCIO_SYSTEM;
    for (int i = 0; i < ATTEMPTS && st < 0 && st != IPCIO_CLOSED; i++)
        st = os_send(fd, &(os_piece){(void *)(uintptr_t)byte, 1}, 1, &sent);
    return st < 0 ? st : 0;
}

/* MISSING: nobody serves the name, or there is not even the folder of the socket's path, where the address is one. */
int rendezvous_nobody(ipcio_conn *c, const char *path);

#endif
