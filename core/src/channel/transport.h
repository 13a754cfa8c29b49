/* transport.h - the contract between a connection and the way its bytes take.
 *
 * A transport is one file that fills in this table, and a row in transports.c.  Every function is a try: it
 * never blocks, and answers IPCIO_WANT_READ or IPCIO_WANT_WRITE when it must be called again, with the same
 * arguments, after the handle's side of that name was waited for.  It says what to wait on in
 * h->side[...]: for connect and accept before it answers, else once, when the connection is made.
 *
 * Who may call: connect, start, view, take, end, whole, take_file, sender and ready are called inside the reading side, write,
 * abort, reserve and commit inside the writing side, arrived and settle inside the side they are asked for; the two sides
 * run at the same time in different threads, so each has its own state.
 * listen and unlisten are called by one thread alone.
 * No fork comes between what listen, accept, greeted, connect, unlisten and close do; others that make or give back
 * descriptors forbid it (fork_forbid).
 *
 * What arrives is not trusted: a transport checks it, answers PROTOCOL, and is not called again.
 *
 * Errors come with their message made (ipcio__fail), CLOSED included. */
#ifndef IPCIO_TRANSPORT_H
#define IPCIO_TRANSPORT_H

#include "base/address.h"
#include "base/buffer.h"
#include "base/options.h"
#include "base/handle.h"

/* What travels with a message besides its bytes. */
typedef struct {
    uint64_t length;
    uint32_t call; /* the number of a call, or of the call this answers; 0 for neither */
    bool answer;
    bool file; /* an open file travels with it: where it is written, `out.file` of the connection */
} message;

typedef struct transport {
    const char *scheme;
    uint32_t framing; /* FRAMING_...: what the option is when nobody said it */
    uint32_t options; /* OWN_...: those it has that not all have */
    bool only_messages; /* no lines and no raw bytes */
    bool blocks;        /* as ipcio_blocks says */
    size_t server_size, conn_size; /* of its structs, which begin with ipcio_server and ipcio_conn */

    /* Takes s->address and listens.  Owns nothing after an error.
     * EXISTS DENIED INVALID NOMEMORY SYSTEM */
    int (*listen)(ipcio_server *s);
    /* The next client into `c`, which is zeroed but for its base.  WANT_READ; SYSTEM: the client stays queued */
    int (*accept)(ipcio_server *s, ipcio_conn *c);
    /* Gives the name and the descriptors back; or, in a forked child, the descriptors only. */
    void (*unlisten)(ipcio_server *s);
    void (*abandon_server)(ipcio_server *s);

    /* MISSING: nobody has the name now; side[WANT_READ] then tells when to look again.  DENIED INVALID ... */
    int (*connect)(ipcio_conn *c);

    /* Whether the client that accept took in has introduced itself: 0, WANT_READ, DENIED: it may not come in, MISSING:
     * nor may it, since nobody can tell whose it is, NOMEMORY or FULL (no descriptor is left): it is asked again, or an
     * error, after which reading tells it again. */
    int (*greeted)(ipcio_conn *c);

    /* Reading a message: start; then view, or take until all of it came; then end.
     * start  what the next message is, skipping the rest of one that was not read to its end.
     * view   all of it in place, where it lies so; *data stays valid until end.  *data = NULL: use take.
     * take   the next piece into to[0, n): *got is 1 to n; 0 at the end of the message.  ABORTED its writer
     *        gave it up.
     * end    the message is done with.
     * CLOSED only after all that arrived whole was given out. */
    int (*start)(ipcio_conn *c, message *m);
    int (*view)(ipcio_conn *c, const void **data);
    int (*take)(ipcio_conn *c, void *to, size_t n, size_t *got);
    void (*end)(ipcio_conn *c);
    /* end, start and view in one, for what short messages mostly are: true: all of the next lies in one place, and is given.
     * False: no other was started, the others tell.  With `timeout`, that of the call, it will be waited for, so where
     * spinning pays this may begin with it; not with 0 and IPCIO_TRY.  NULL: never. */
    bool (*whole)(ipcio_conn *c, message *m, const void **data, int timeout);
    /* Gives the file that came with the message, which ends with it otherwise, to the caller.  MISSING none came; SYSTEM
     * there was no descriptor free for it.  NULL: the transport passes none. */
    int (*take_file)(ipcio_conn *c, os_fd *file);

    /* Who wrote the message that was started last, as an address; it stays valid until the next start.  MISSING.  NULL:
     * it is always the same peer. */
    int (*sender)(ipcio_conn *c, const char **who);

    /* Writing: the next bytes of message out.m, of which out.m.length will come in all, are out.data[0, out.size), not
     * NULL.  out.taken counts up; it may fall short of out.size only with WANT_WRITE.  `last` shows the message to the
     * peer once they are taken.
     * abort, also after an error of write: the message begun is not to be seen by the peer; cannot fail, sends what it
     * must later. */
    int (*write)(ipcio_conn *c, bool last);
    void (*abort)(ipcio_conn *c);
    /* write for a whole message, where that takes no time: short, and there is room.  WANT_WRITE: nothing was done, write
     * does or tells.  NULL: never. */
    int (*put)(ipcio_conn *c, const message *m, const void *data);
    /* Writing in place; NULL: the transport has no such memory.
     * reserve  room in one piece for a whole message of this length, which the peer reads there.  *to is NULL, and stays
     *          it where there can be none.  The next reserve or write ends it.  Errors as write's.
     * commit   sends message m, which is in the room that was reserved last; never to be called again. */
    int (*reserve)(ipcio_conn *c, uint64_t length, void **to);
    int (*commit)(ipcio_conn *c, const message *m);

    /* Something came since a function of the side `want` answered so: bytes, room, the end.  For spinning. */
    bool (*arrived)(ipcio_conn *c, int want);
    /* There is a message that the system does not show in the descriptor. */
    bool (*ready)(ipcio_conn *c);
    /* Before sleeping on the side's descriptor: from now on it shows what comes.  True: something has come.  NULL: it
     * always does. */
    bool (*settle)(ipcio_conn *c, int want);
    /* As handle_kind's. */
    int (*doze)(ipcio_conn *c, int want, int64_t deadline);
    /* A descriptor that is writable while there is room; OS_NONE: it never is.  NULL: that of side[WANT_WRITE]. */
    os_fd (*write_fd)(ipcio_conn *c);

    /* Asked once, when the connection is made.  UNSUPPORTED where the system cannot tell; no message. */
    int (*peer)(ipcio_conn *c, ipcio_peer *peer);

    /* Wakes waiting threads of this process; then gives the descriptors back (what was sent stays readable for
     * the peer); or, in a forked child, the descriptors only, unnoticed by the peer. */
    void (*wake)(ipcio_conn *c);
    void (*close)(ipcio_conn *c);
    void (*abandon)(ipcio_conn *c);
    /* Frees its memory, in which messages were viewed.  Last of all; may be repeated. */
    void (*forget)(ipcio_conn *c);
} transport;

struct ipcio_server {
    handle base;
    const transport *transport;
    address address;
    options options;
    os_fd listener;      /* what accept takes clients from; OS_NONE until listen has made it */
    os_fd watch;         /* shows when the listener may be out of reach; OS_NONE: nothing does */
    os_fd epoll;         /* the listener, the watch and the bell: what accept waits for */
    os_fd bell;          /* rung by closing and by stopping */
    _Atomic unsigned stop; /* ipcio_server_stop was called */
    /* inside the reading side: */
    ipcio_conn *spare;   /* made for the next client */
    ipcio_conn *strangers; /* clients that have not introduced themselves yet, by `next` */
    bool faulty;           /* one of them could not, by a fault of this system that may have passed */
    _Atomic bool doubted;  /* one was turned away of whom nobody could tell whose it was */
};

enum { CALL_IDLE, CALL_WRITING, CALL_READING };

struct ipcio_conn {
    handle base;
    const transport *transport;
    address address; /* of a server's connections only the text */
    options options;
    _Atomic bool connected;
    const char *missing; /* why connect found nobody, in the past tense, where more can be said than that; else NULL */
    ipcio_peer peer; /* does not change */
    int peer_known;  /* 0, or why not */
    ipcio_conn *next; /* among the strangers of a server */
    _Atomic uint32_t peer_limit; /* the longest message the peer takes; 0: not told yet, */
    uint32_t carries;            /* the longest message that the way takes; 0: any */
    bool limit_comes;            /* but it will be, when the peer introduces itself */
    _Atomic bool peer_files;     /* the peer takes files; told with its limit */
    const char *_Atomic spoiled; /* why nothing more can be read or written, or NULL */

    struct { /* inside the reading side */
        message m;
        enum { READ_IDLE, READ_WHOLE, READ_PIECES } state;
        bool given;   /* a message was given out in place, and its end is still to be said */
        struct {
            uint32_t given_up, answering;
        } before;       /* the message that is read in pieces, */
        size_t rest;    /* of which so many bytes were not given out; */
        bool end_asked; /* and who reads has asked for more than that */
        bool (*whole)(ipcio_conn *c, message *m, const void **data, int timeout); /* the transport's, where nothing is converted */
        buffer collected; /* a message that lies in no one place */
        buffer text;  /* a message converted to UTF-8 */
        os_fd epoll, bell, timer; /* of fileno; OS_NONE until asked for */
    } in;

    struct { /* inside the writing side */
        message m;
        enum { WRITE_IDLE, WRITE_WHOLE, WRITE_PIECES } state;
        const void *data; /* of a whole message, or of the piece */
        size_t size, taken;
        uint64_t done;    /* bytes of earlier pieces */
        uint64_t too_long; /* a message of fewer bytes needs no further look; 0 until that is known, and where it is converted */
        os_fd file;       /* that goes with message m, where m.file says so */
        uint32_t calls;   /* how many calls were made */
        buffer wire;      /* a message converted for the peer, */
        bool shown;       /* ipcio_write_fileno was called */
        buffer pieces;    /* collected from pieces of what is to be converted, */
        const void *given; /* and what it was made of */
        size_t given_size;
        void *room;       /* where the caller fills in the message, until it is sent; NULL: nowhere */
        size_t room_size;
    } out;

    _Atomic int calling; /* CALL_...; changed inside both sides */
    _Atomic uint32_t given_up;  /* answers to calls up to this one come too late */
    _Atomic uint32_t answering; /* the call that was the last message read, and is not answered yet; 0: none */
};

/* What listen and connect are told: the address, which the caller frees also after an error, the options, in the call's
 * own string and then in the address's, and the transport of the scheme.  INVALID UNSUPPORTED NOMEMORY */
int transport_find(const char *text, const char *opts, address *a, options *o, const transport **t);

#endif
