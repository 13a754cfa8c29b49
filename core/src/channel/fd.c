/* fd.c - the transport `fd`: a stream socket that is open already, such as one of socketpair, one that a parent left, or
 * a listening one of a service manager.
 *
 * fd://N takes descriptor N over: it is closed with the handle.  After an error it still belongs to the caller.  Who may
 * connect to a listening one was decided by whoever made it. */
#include <stdlib.h>
#include <string.h>

#include "channel/stream.h"

typedef struct {
    stream stream;
    bool introduced; /* this side has sent its HELLO */
} fd_conn;

static fd_conn *conn_of(ipcio_conn *c)
{
    return (fd_conn *)c;
}

static void open_stream(ipcio_conn *c, os_fd fd)
{
    ipcio_peer peer;
    stream_open(c, fd);
    if (os_local_peer(fd, &peer) != 0) conn_of(c)->stream.takes_files = false; /* it can bring none */
}

static int adopt(const address *a, bool listening, os_fd *fd)
{
    size_t digits = strspn(a->name, "0123456789");
    if (a->path || digits == 0 || digits > 9 || a->name[digits])
        return ipcio__fail(IPCIO_INVALID, "%s: it must be fd://N, the number of a descriptor", a->text);
    os_fd given = (os_fd)strtol(a->name, NULL, 10);
    int st = os_adopt(given, listening);
    if (st == IPCIO_INVALID)
        return ipcio__fail(st, "%s: it is not %s", a->text, listening ? "a listening stream socket" : "a connected stream socket");
    if (st != 0) return ipcio__fail_os(st, "%s: cannot be used", a->text);
    *fd = given;
    return 0;
}

static int fd_listen(ipcio_server *s)
{
    return adopt(&s->address, true, &s->listener);
}

static void fd_unlisten(ipcio_server *s)
{
    os_close(s->listener);
}

static int fd_accept(ipcio_server *s, ipcio_conn *c)
{
    os_fd fd = OS_NONE;
    int st = os_accept(s->listener, &fd);
    if (st < 0) return ipcio__fail_os(st, "%s: cannot accept", s->address.text);
    if (st == 0) open_stream(c, fd);
    return st;
}

static int introduce(ipcio_conn *c)
{
    if (conn_of(c)->introduced) return 0;
    conn_of(c)->introduced = true;
    return stream_hello(c);
}

static int fd_greeted(ipcio_conn *c)
{
    int st = stream_greeted(c);
    return st == 0 ? introduce(c) : st;
}

static int fd_connect(ipcio_conn *c)
{
    os_fd fd = OS_NONE;
    int st = adopt(&c->address, false, &fd);
    if (st != 0) return st;
    open_stream(c, fd);
    c->limit_comes = c->options.framing == FRAMING_MESSAGE;
    return introduce(c);
}

static int fd_peer(ipcio_conn *c, ipcio_peer *peer)
{
    return os_local_peer(conn_of(c)->stream.fd, peer);
}

const transport transport_fd = {
    .scheme = "fd",
    .options = OWN_FILES,
    .server_size = sizeof(ipcio_server),
    .conn_size = sizeof(fd_conn),
    .listen = fd_listen,
    .accept = fd_accept,
    .unlisten = fd_unlisten,
    .abandon_server = fd_unlisten,
    .connect = fd_connect,
    .greeted = fd_greeted,
    .start = stream_start,
    .view = stream_view,
    .take = stream_take,
    .end = stream_end,
    .take_file = stream_take_file,
    .write = stream_write,
    .abort = stream_abort,
    .arrived = stream_arrived,
    .ready = stream_ready,
    .peer = fd_peer,
    .wake = stream_wake,
    .close = stream_close,
    .abandon = stream_close,
    .forget = stream_forget,
};
