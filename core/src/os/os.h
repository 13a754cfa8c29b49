/* os.h - what a system must supply.  One folder beside this file implements it for a system; nothing above
 * it includes a system's header or asks which system it is.
 *
 * Unless said otherwise a function never blocks, retries by itself when a signal interrupts it, may be called
 * from any thread, and returns 0 or a status below 0 whose system number os_error() gives.  IPCIO_WANT_READ
 * and IPCIO_WANT_WRITE mean "not now". */
#ifndef IPCIO_OS_H
#define IPCIO_OS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipcio.h"

typedef intptr_t os_fd; /* a descriptor or a handle; never inherited over exec */
#define OS_NONE ((os_fd)-1)

/* The calling thread's last system error, and its text (valid until the thread's next error). */
int os_error(void);
const char *os_error_text(int error);

/* Nanoseconds of a clock that only goes forward. */
int64_t os_now(void);
int64_t os_now_coarse(void); /* some milliseconds behind, and cheaper */

/* A pause of some tens of cycles inside a spinning loop. */
void os_relax(void);

/* The user this process acts as, and its number. */
int64_t os_user(void);
int64_t os_process(void);

/* Whether this number, which the system shows for a user, may stand for one that has none here: someone outside of this
 * process's user namespace.  Then nothing is known of him. */
bool os_user_hidden(int64_t user);

/* n bytes that nobody can guess. */
int os_random(void *to, size_t n);

/* How many processors are in use, at least 1. */
int os_processors(void);

/* A mutex; all zero bytes is an unlocked one. */
typedef union {
    void *align;
    char room[64];
} os_mutex;
void os_lock(os_mutex *m);
void os_unlock(os_mutex *m);

/* Every other thread of the process has finished what it had begun to store, and loads anew.  UNSUPPORTED. */
int os_barrier(void);

/* The same with the threads of all processes that have joined.  Costs the others an interrupt each.  UNSUPPORTED */
int os_fence_join(void);
int os_fence(void);

/* Runs `before` and `parent` around a fork in the parent, `child` after it in the child. */
int os_at_fork(void (*before)(void), void (*parent)(void), void (*child)(void));

void os_close(os_fd fd);

/* ---- waiting: the only functions here that block, until `deadline` (see base/deadline.h) */

typedef struct {
    os_fd fd;
    int want; /* IPCIO_WANT_READ or IPCIO_WANT_WRITE */
} os_wait;

/* Until one of `n` is ready: 0, TIMEOUT, INTERRUPTED after a signal, SYSTEM.  n may be 0. */
int os_poll(const os_wait *items, size_t n, int64_t deadline);

/* A set of descriptors, level-triggered, itself a descriptor that is readable while one of them is ready.
 * Wait fills at most n tags and returns how many, or as os_poll. */
int os_set_new(os_fd *set);
int os_set_put(os_fd set, os_fd fd, int want, void *tag);
void os_set_drop(os_fd set, os_fd fd);
void os_set_mute(os_fd set, os_fd fd); /* until it is put again, which cannot fail then */
int os_set_wait(os_fd set, void **tags, int n, int64_t deadline);

/* Sleeps while a word, which processes may share, has this value, until somebody wakes who sleeps on it, or for no reason: 0,
 * TIMEOUT, INTERRUPTED after a signal.  UNSUPPORTED */
int os_word_wait(const _Atomic uint32_t *word, uint32_t value, int64_t deadline);
void os_word_wake(const _Atomic uint32_t *word);

/* A descriptor that is readable from ring to clear.  Ring may be called in a signal handler. */
int os_bell_new(os_fd *bell);
void os_bell_ring(os_fd bell);
void os_bell_clear(os_fd bell);

/* A descriptor that is readable from so many nanoseconds after it was set, until it is set again. */
int os_timer_new(os_fd *timer);
void os_timer_set(os_fd timer, int64_t after);

/* Readable when something in a directory may have changed, or a file lost its name.  SYSTEM where the system cannot
 * tell. */
int os_watch(const char *path, os_fd *watch);
bool os_watch_clear(os_fd watch); /* true: it was readable */

/* ---- byte streams between two processes of this machine, at a path (of any length)
 *
 * listen creates the file, for this user only; EXISTS when one lies there.  connect: MISSING when nobody
 * listens, WANT_WRITE when the queue is full. */
int os_local_listen(const char *path, os_fd *fd);
int os_local_connect(const char *path, os_fd *fd);
int os_local_peer(os_fd fd, ipcio_peer *peer);

/* ---- ports, of this machine and of others */

typedef struct {
    uint8_t bytes[28];
    uint32_t size;
} os_endpoint;

/* At most *n endpoints of a host and a decimal port; the host NULL: of this machine, every one.  May block where a name
 * server is asked.  MISSING: there is no answer now.  INVALID: no such host or port. */
int os_resolve(const char *host, const char *port, os_endpoint *to, size_t *n);
int os_endpoint_text(const os_endpoint *e, char *text, size_t size); /* "127.0.0.1:80"; INVALID when it does not fit */

/* A socket's own end. */
int os_endpoint_own(os_fd fd, os_endpoint *e);

/* A number of the network that a socket belongs to, which no other of this machine has; 0: not told. */
uint64_t os_endpoint_network(os_fd fd);

/* ---- byte streams between machines: TCP */

/* listen fills in the port that the system chose; EXISTS.  connect begins; connected: 0, WANT_WRITE, or MISSING when
 * nobody listens. */
int os_tcp_listen(os_endpoint *at, os_fd *fd);
int os_tcp_connect(const os_endpoint *to, os_fd *fd);
int os_tcp_connected(os_fd fd);

/* Sends what is written at once.  A peer that is not heard of is given up after twice `keepalive` seconds; 0: never. */
int os_tcp_tune(os_fd fd, unsigned keepalive);

/* Before closing: what was received and not read would take back what was sent. */
void os_tcp_finish(os_fd fd);

/* The user at the other end, or who listens there.  MISSING: gone or not told, and of this machine as far as is known;
 * UNSUPPORTED: of another. */
int os_tcp_user(os_fd fd, bool listener, int64_t *user);

/* ---- byte streams of one direction, from any number of writers to a reader, at a path: FIFOs */

/* For this user only.  EXISTS. */
int os_fifo_make(const char *path);
/* Opens one end.  MISSING: there is none, or nobody has it open for reading who is to be written to.  EXISTS: something
 * else is there. */
int os_fifo_open(const char *path, bool reads, os_fd *fd);
/* What a reader would find: 0 bytes; CLOSED there was a writer since it was opened, and is none; WANT_READ. */
int os_fifo_look(os_fd fd);

/* ---- byte streams of every sort */

int os_accept(os_fd listener, os_fd *fd); /* WANT_READ */

/* Prepares one that is open already.  INVALID when it is none, or not connected or listening as is asked. */
int os_adopt(os_fd fd, bool listening);

/* Moves bytes from, or into, several places at once.  CLOSED when the peer is gone and, for receive, all it
 * sent was delivered; a peer's death raises no signal. */
typedef struct {
    void *bytes;
    size_t size;
} os_piece;
enum { OS_PIECES_MAX = 33 };
int os_send(os_fd fd, const os_piece *pieces, int n, size_t *sent);
int os_receive(os_fd fd, const os_piece *pieces, int n, size_t *got);

/* The same with an open file, which goes with the first byte.  send: INVALID it is none; FULL too many are on their way.
 * receive: *file is the one that came, OS_NONE, or OS_LOST: this process had no room for it.  PROTOCOL: several came. */
#define OS_LOST ((os_fd)-2)
int os_send_file(os_fd fd, const os_piece *pieces, int n, os_fd file, size_t *sent);
int os_receive_file(os_fd fd, const os_piece *pieces, int n, size_t *got, os_fd *file);
/* The same, but leaves both for the next receive; SYSTEM: there is no room. */
int os_peek_file(os_fd fd, const os_piece *piece, size_t *got, os_fd *file);

/* Ends both directions for both sides and wakes whoever waits; the descriptor stays. */
void os_shutdown(os_fd fd);

/* Whether the peer has gone, though what it sent may still be here. */
bool os_ended(os_fd fd);

/* Fills up what the peer has not received, until it takes no more: then the descriptor can be written again when the peer
 * has received it.  0, CLOSED. */
int os_stuff(os_fd fd);

/* ---- datagrams: UDP */

enum { OS_DATAGRAM_MAX = 65507 };

/* listen fills in the port; EXISTS.  A multicast group is joined, and may have other listeners: *shared.  connect:
 * *shared when `to` is such a group, or a broadcast address; then it must be named in each send, and whoever answers is
 * heard.  `network` says which network a group is meant in, "" leaves that to the system: INVALID when there is none of
 * the name.  `hops`: how many networks a datagram to a group may see. */
int os_udp_listen(os_endpoint *at, const char *network, bool *shared, os_fd *fd);
int os_udp_connect(os_endpoint *to, const char *network, unsigned hops, bool *shared, os_fd *fd);

/* Asks for room for so many bytes that nobody has read. */
void os_udp_room(os_fd fd, unsigned bytes);

/* Sends one datagram; `to` NULL: where it is connected to.  TOOBIG; CLOSED nobody takes them there. */
int os_udp_send(os_fd fd, const os_endpoint *to, const os_piece *pieces, int n);
/* CLOSED: nobody took one that was sent before. */
int os_udp_receive(os_fd fd, void *to, size_t size, size_t *got, os_endpoint *from);

/* The user whose socket at `at` takes datagrams from `from`.  MISSING: of this machine, but there is none; UNSUPPORTED:
 * of another machine; SYSTEM: the system does not tell. */
int os_udp_user(const os_endpoint *at, const os_endpoint *from, int64_t *user);

/* ---- memory that two processes share, and no name leads to */

/* So many bytes, all zero, of which none has a place yet. */
int os_memory_new(size_t size, os_fd *memory);
/* Makes sure of a part, a whole number of pages: using it does not fail later.  NOMEMORY */
int os_memory_reserve(os_fd memory, size_t from, size_t size);
/* Gives its place back; it is zero again. */
void os_memory_release(os_fd memory, size_t from, size_t size);
/* How large it is, for ever.  INVALID: another process could still take it away. */
int os_memory_size(os_fd memory, uint64_t *size);
/* A forked child does not have it. */
int os_memory_map(os_fd memory, size_t from, size_t size, void **at);
void os_memory_unmap(void *at, size_t size);
/* A child that is forked from now on does. */
void os_memory_inherit(void *at, size_t size);
/* In a forked child: zero bytes where the memory was, if nothing else is there by now. */
void os_memory_blank(void *at, size_t size);

/* ---- the memory of another process */

/* Where the system by itself only lets a parent read, from now on it lets every process that may trace this one. */
void os_process_open(void);
/* *got counts up, also before an error: DENIED; MISSING no such process; INVALID nothing is at the next address. */
int os_process_read(int64_t process, uint64_t address, void *to, size_t n, size_t *got);

/* ---- files */

/* The folder for ipcio's names, made for this user alone if need be.  DENIED when what is there is not this user's own,
 * INVALID when it is not absolute: then *wrong says so, else it is NULL; INVALID also when it does not fit. */
int os_directory(char *path, size_t size, const char **wrong);

/* Opens for reading and writing.  `create`: makes it, for this user only, when it is not there.  Else MISSING.
 * Follows no link.  PROTOCOL: it is no plain file, or has another name too.  DENIED, SYSTEM. */
int os_file_open(const char *path, bool create, os_fd *fd);
int os_file_read(os_fd fd, void *to, size_t n);          /* from the start; PROTOCOL when it is shorter */
int os_file_write(os_fd fd, const void *from, size_t n); /* at the start */
int os_file_remove(const char *path);                    /* success when it is not there */

/* Locks one byte for as long as the open file lives, which no death outlasts.  EXISTS: another has it. */
int os_file_lock(os_fd fd, unsigned byte);
int os_file_locked(os_fd fd, unsigned byte); /* EXISTS by another, 0 by none */

/* What a path leads to: device and number are those of no other file while it exists, and with `stamp` of none
 * that takes its place later either, as far as the file system can tell.  MISSING. */
typedef struct {
    uint64_t device, number, stamp;
} os_identity;
int os_identify(const char *path, os_identity *identity);

/* Whether what is there is a socket or a FIFO: nothing is lost with it. */
bool os_is_endpoint(const char *path);

/* 0 when the open file is the one that the path leads to now, from an open folder or OS_NONE; MISSING when it is not. */
int os_file_at(os_fd fd, os_fd folder, const char *path);

/* Calls `each` with every file name in the directory. */
int os_list(const char *directory, void (*each)(const char *name, void *context), void *context);

/* ---- folders that are open, and files in them: nobody can put another in their place, and no link is followed
 *
 * They may lie on another machine, so calls can take as long as that takes to answer.  MISSING also when the folder was
 * removed.  A `parent` of OS_NONE, or `folder` of os_folder_file and os_folder_about: the name is a path, and links in it count. */
int os_folder_make(os_fd parent, const char *name); /* for this user alone.  EXISTS */
int os_folder_open(os_fd parent, const char *name, os_fd *folder);
int os_folder_remove(os_fd parent, const char *name); /* an empty one; success when it is not there */
int os_folder_rename(os_fd folder, const char *from, os_fd to_folder, const char *to);
int os_folder_list(os_fd folder, void (*each)(const char *name, void *context), void *context);
/* Asks where the folder lies what is in it now: no later answer is older.  MISSING: it was removed. */
int os_folder_look(os_fd folder);
/* Bytes that are the same for all who see a folder by the same kernel and mount, and so share locks and sockets. */
enum { OS_PLACE = 48 };
int os_folder_place(os_fd folder, uint8_t place[OS_PLACE]);

/* As os_file_open; NEW: EXISTS when it is there. */
typedef enum { OS_FOLDER_OLD, OS_FOLDER_ANY, OS_FOLDER_NEW } os_folder_how;
int os_folder_file(os_fd folder, const char *name, os_folder_how how, os_fd *file);
int os_folder_unlink(os_fd folder, const char *name); /* success when it is not there */
/* A file's user, -1: not told, and when it was last written or touched, by the clock of where the folder lies. */
int os_folder_about(os_fd folder, const char *name, int64_t *owner, int64_t *time);
int os_folder_touch(os_fd folder, const char *name);
/* Reads at most `room` bytes of a file, from its front.  PROTOCOL: it is no file. */
int os_folder_get(os_fd folder, const char *name, void *to, size_t room, size_t *got);
/* Makes a file, which is seen whole or not at all: it is written as `draft` and renamed.  `durable`: what is in it outlasts the
 * machine's death; its name does so after os_folder_sync. */
int os_folder_put(os_fd folder, const char *draft, const char *name, const void *from, size_t n, bool durable);
int os_folder_sync(os_fd folder);

#endif
