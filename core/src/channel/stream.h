/* stream.h - messages over a byte stream, for every transport that has one.
 *
 * On the wire a message is one frame or several, all numbers little-endian:
 *
 *     0   4  length    of this frame's payload
 *     4   4  total     length of the whole message; the same in each of its frames
 *     8   4  call      the number of a call, 0 for none
 *     12  1  kind      FRAME_HELLO, FRAME_FIRST, FRAME_NEXT
 *     13  1  flags     1: `call` is the number of the call that this answers
 *     14  2  magic     "ip"
 *     16     payload
 *     then 1 verdict   VERDICT_ABORT, VERDICT_MORE, VERDICT_END
 *
 * The verdict stands behind the payload so that a writer who gives up in the middle of a frame can still take
 * the message back: it owes the rest of the frame, sends zeros, and a zero verdict is ABORT.
 *
 * Each side begins with a HELLO, whose payload tells the protocol's version and the longest message it takes.
 * A client sends it at once.  A server sends it with its first frame where clients know what it tells from
 * elsewhere, so that their descriptor is readable only when there is a message. */
#ifndef IPCIO_STREAM_H
#define IPCIO_STREAM_H

#include "channel/transport.h"

enum {
    STREAM_HEADER = 16,
    STREAM_FRAME_MAX = 65536, /* payload of one frame; what a writer may owe after giving up */
    STREAM_VERSION = 1,
    STREAM_HELLO = STREAM_HEADER + 16 + 1
};

/* A transport's own connection begins with this. */
typedef struct {
    ipcio_conn conn;
    os_fd fd;
    bool open; /* there is fd to close */

    struct { /* inside the reading side */
        buffer ahead;     /* what was received and not yet asked for */
        size_t room;      /* how far to read ahead */
        bool greeted;     /* HELLO came */
        bool inside;      /* a message was started, and its last verdict not yet passed by end */
        message m;        /* that message */
        uint64_t got;     /* bytes of it that were taken */
        uint32_t left;    /* payload of its current frame still to come; then, */
        bool verdict_due; /* its verdict */
        bool empty;       /* that frame has no payload */
        bool over;        /* the message's last verdict came, */
        bool aborted;     /* and was ABORT */
        int ended;        /* below 0: nothing comes any more, and */
        const char *why;
    } in;

    struct { /* inside the writing side */
        bool greeted; /* HELLO is out, or begun */
        message m;    /* what the frame under way, or the last one, is of */
        uint8_t head[STREAM_HELLO + STREAM_HEADER];
        size_t head_size;
        size_t size; /* payload of the frame under way */
        size_t sent; /* bytes of the frame, head and verdict included, that are out */
        uint8_t verdict;
        bool frame; /* a frame is under way */
        bool zeros; /* its message was given up: zeros take the place of its payload */
        bool begun; /* a frame of the message is out, and its end is not */
    } out;
} stream;

/* Makes the connection one over `fd`, fills in its side[] and, if `greet`, sends HELLO.  stream_close gives all
 * back, also after an error.  NOMEMORY SYSTEM. */
int stream_open(ipcio_conn *c, os_fd fd, bool greet);

/* Members for the table of a transport. */
int stream_greeted(ipcio_conn *c);
int stream_start(ipcio_conn *c, message *m);
int stream_view(ipcio_conn *c, const void **data);
int stream_take(ipcio_conn *c, void *to, size_t n, size_t *got);
void stream_end(ipcio_conn *c);
int stream_write(ipcio_conn *c, const message *m, const void *data, size_t n, bool last, size_t *taken);
void stream_abort(ipcio_conn *c);
bool stream_arrived(ipcio_conn *c);
bool stream_ready(ipcio_conn *c);
void stream_wake(ipcio_conn *c);
void stream_close(ipcio_conn *c);

#endif
