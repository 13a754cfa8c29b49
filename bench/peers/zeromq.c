/* zeromq.c - ZeroMQ's PAIR sockets over ipc. */
#include "peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <zmq.h>

static void *context;

static void must(int result)
{
    if (result >= 0) return;
    fprintf(stderr, "zeromq: %s\n", zmq_strerror(zmq_errno()));
    exit(2);
}

static void *zeromq_open(const char *name, bool server, size_t size)
{
    (void)size;
    char where[256];
    snprintf(where, sizeof where, "ipc://@%s", name);
    context = zmq_ctx_new();
    void *socket = zmq_socket(context, ZMQ_PAIR);
    must(server ? zmq_bind(socket, where) : zmq_connect(socket, where));
    return socket;
}

static void zeromq_send(void *socket, const void *data, size_t n)
{
    must(zmq_send(socket, data, n, 0));
}

static void zeromq_receive(void *socket, void *data, size_t n)
{
    must(zmq_recv(socket, data, n, 0));
}

static void zeromq_close(void *socket)
{
    must(zmq_close(socket));
    must(zmq_ctx_term(context));
}

const peer_library bench_peer = {zeromq_open, zeromq_send, zeromq_receive, zeromq_close};
