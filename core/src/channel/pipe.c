/* pipe.c - the transport `pipe`: a byte stream of the system between two processes of this machine. */
#include "channel/rendezvous.h"
#include "channel/stream.h"

typedef struct {
    stream stream;
    rendezvous rendezvous;
} pipe_conn;

static pipe_conn *conn_of(ipcio_conn *c)
{
    return (pipe_conn *)c;
}

static int pipe_accept(ipcio_server *s, ipcio_conn *c)
{
    os_fd fd;
    int st = rendezvous_accept(s, &fd);
    if (st == 0) stream_open(c, fd);
    return st;
}

static int pipe_connect(ipcio_conn *c)
{
    int st = rendezvous_connect(c, &conn_of(c)->rendezvous, os_local_connect, stream_open);
    return st == 0 ? stream_hello(c) : st;
}

static int pipe_peer(ipcio_conn *c, ipcio_peer *peer)
{
    return os_local_peer(conn_of(c)->stream.fd, peer);
}

static void pipe_close(ipcio_conn *c)
{
    stream_close(c);
    rendezvous_close(&conn_of(c)->rendezvous);
}

const transport transport_pipe = {
    .scheme = "pipe",
    .options = OWN_FILES,
    .server_size = sizeof(rendezvous_server),
    .conn_size = sizeof(pipe_conn),
    .listen = rendezvous_listen,
    .accept = pipe_accept,
    .unlisten = rendezvous_unlisten,
    .abandon_server = rendezvous_abandon_server,
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
    .forget = stream_forget,
};
