/* stream.h - messages over a byte stream, for every transport that has one.
 *
 * stream.c moves the bytes.  How they are cut into messages is a framing's affair, which the option `framing` chooses:
 * message.c between two ipcio, plain.c to meet programs that know nothing of it. */
#ifndef IPCIO_STREAM_H
#define IPCIO_STREAM_H

#include "channel/transport.h"

enum {
    STREAM_HEADER = 16,
    STREAM_FRAME_MAX = 65536, /* payload of one frame; what a writer may owe after giving up */
    STREAM_VERSION = 1,
    STREAM_KEY = 16,
    STREAM_HELLO = STREAM_HEADER + 16 + STREAM_KEY + 1
};

typedef struct framing framing;
typedef struct stream stream;

/* A transport's own connection begins with this. */
struct stream {
    ipcio_conn conn;
    const framing *framing;
    os_fd fd;
    bool open; /* there is fd to close */
    /* As os_send and os_receive, where the bytes do not go through fd; NULL: they do.  Receive may end the stream itself, by
     * stream_over. */
    int (*send)(stream *s, const os_piece *pieces, int n, size_t *sent);
    int (*receive)(stream *s, const os_piece *pieces, int n, size_t *got);
    bool takes_files; /* the option says so, and the transport passes them */
    _Atomic bool peer_gone; /* it takes nothing any more either */

    struct { /* inside the reading side */
        buffer ahead;     /* what was received and not yet asked for */
        size_t room;      /* how far to read ahead */
        size_t needed;    /* bytes of `ahead` for which a reading call waits that had to; 0: none */
        bool greeted;     /* HELLO came */
        bool inside;      /* a message was started, and its last verdict not yet passed by end */
        message m;        /* that message */
        uint64_t got;     /* bytes of it that were taken */
        size_t left;      /* payload of its current frame, or line, still to come; then, */
        bool verdict_due; /* its verdict */
        bool empty;       /* that frame has no payload */
        bool over;        /* the message's last verdict came, */
        bool aborted;     /* and was ABORT */
        size_t looked;    /* bytes of `ahead` that hold no end of a line */
        uint64_t dropped; /* bytes of a line that is too long */
        size_t behind;    /* bytes that end the line */
        int ended;        /* below 0: nothing comes any more, and */
        const char *why;
        uint8_t key[STREAM_KEY]; /* of its HELLO */
        bool files;       /* they may come: HELLO, which has none, came */
        os_fd coming;     /* a file that came with bytes in `ahead`, till the message that announces it is started; */
        os_fd file;       /* that of the message started last.  OS_NONE: none */
    } in;

    struct { /* inside the writing side */
        uint8_t key[STREAM_KEY]; /* for HELLO */
        bool greeted; /* HELLO is out, or begun */
        message m;    /* what the frame under way, or the last one, is of */
        uint8_t head[STREAM_HELLO + STREAM_HEADER];
        size_t head_size;
        size_t size; /* payload of the frame under way */
        size_t sent; /* bytes of the frame, head and verdict included, or of the line's end, that are out */
        uint8_t verdict;
        bool frame; /* a frame is under way */
        bool file;  /* and the message's file is to go with the header */
        bool zeros; /* its message was given up: zeros take the place of its payload */
        bool begun; /* a part of the message is out, and its end is not */
        bool ended; /* a message that cannot be taken back was left half sent */
    } out;
};

/* How messages are cut from bytes; the functions without a comment are those of transport.h. */
struct framing {
    int (*hello)(stream *s); /* introduces this side at once */
    int (*greeted)(stream *s);
    int (*start)(stream *s, message *m);
    int (*view)(stream *s, const void **data);
    int (*take)(stream *s, void *to, size_t n, size_t *got);
    bool (*ready)(const stream *s);
    size_t (*most)(const stream *s, size_t need); /* how many bytes may be received so that `ahead` holds `need` */
    int (*write)(stream *s, const message *m, const void *data, size_t n, bool last, size_t *taken);
    void (*abort)(stream *s);
};
extern const framing framing_message, framing_line, framing_raw;

/* Makes the connection one over `fd` and fills in its side[].  stream_close gives all back. */
void stream_open(ipcio_conn *c, os_fd fd);

/* Introduces this side at once, where the framing does.  SYSTEM; stream_close is still to be called then. */
int stream_hello(ipcio_conn *c);

/* Members for the table of a transport. */
int stream_greeted(ipcio_conn *c);
int stream_start(ipcio_conn *c, message *m);
int stream_view(ipcio_conn *c, const void **data);
int stream_take(ipcio_conn *c, void *to, size_t n, size_t *got);
void stream_end(ipcio_conn *c);
int stream_take_file(ipcio_conn *c, os_fd *file);
int stream_write(ipcio_conn *c, bool last);
void stream_abort(ipcio_conn *c);
bool stream_arrived(ipcio_conn *c, int want);
bool stream_ready(ipcio_conn *c);
void stream_wake(ipcio_conn *c);
void stream_close(ipcio_conn *c);
void stream_forget(ipcio_conn *c);

/* ---- for framings */

static inline const uint8_t *stream_front(const stream *s)
{
    return s->in.ahead.bytes + s->in.ahead.head;
}

/* Receives until `ahead` holds `need` bytes. */
int stream_fill(stream *s, size_t need);

/* Receives once, and a file that comes with the bytes. */
int stream_receive_file(stream *s, const os_piece *pieces, int n, size_t *got);
static inline int stream_receive(stream *s, const os_piece *pieces, int n, size_t *got)
{
    if (s->receive) return s->receive(s, pieces, n, got);
    return s->in.files ? stream_receive_file(s, pieces, n, got) : os_receive(s->fd, pieces, n, got);
}

/* What a receive that failed, or would wait, answers. */
int stream_not_received(stream *s, int st);

/* The message that is started announces a file: it has come, or that is PROTOCOL. */
int stream_expect_file(stream *s);

/* No more can be read: from now on reading answers `status`, because `why`.  PROTOCOL also closes. */
int stream_over(stream *s, int status, const char *why);
int stream_broken(stream *s, const char *why); /* PROTOCOL */

static inline int stream_pass(stream *s, const os_piece *pieces, int n, size_t *sent)
{
    return s->send ? s->send(s, pieces, n, sent) : os_send(s->fd, pieces, n, sent);
}

/* Sends once; CLOSED ... with the message made. */
int stream_send(stream *s, const os_piece *pieces, int n, size_t *sent);
int stream_send_file(stream *s, const os_piece *pieces, int n, os_fd file, size_t *sent);

#endif
