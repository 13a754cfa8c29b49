/* tcp.c - byte streams between machines: TCP. */
#define _GNU_SOURCE
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "os/posix/common.h"

#ifndef SO_NETNS_COOKIE /* the C library's headers are musl's, or older than Linux 5.14 */
#if defined(__hppa__)
#define SO_NETNS_COOKIE 0x4045
#elif defined(__sparc__)
#define SO_NETNS_COOKIE 0x50
#else
#define SO_NETNS_COOKIE 71
#endif
#endif

_Static_assert(sizeof(struct sockaddr_in6) <= sizeof((os_endpoint *)0)->bytes, "os_endpoint has no room");

int os_resolve(const char *host, const char *port, os_endpoint *to, size_t *n)
{
    struct addrinfo *all, hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | AI_PASSIVE};
    size_t most = *n;
    *n = 0;
    errno = 0;
    int failed = getaddrinfo(host, port, &hints, &all);
    if (failed == EAI_MEMORY) return IPCIO_NOMEMORY;
    if (failed == EAI_AGAIN) return IPCIO_MISSING;
    if (failed == EAI_SYSTEM) return os__status();
    if (failed) return IPCIO_INVALID;
    for (struct addrinfo *a = all; a && *n < most; a = a->ai_next) {
        if (a->ai_addrlen > sizeof to->bytes) continue;
        memcpy(to[*n].bytes, a->ai_addr, a->ai_addrlen);
        to[(*n)++].size = a->ai_addrlen;
    }
    freeaddrinfo(all);
    return *n ? 0 : IPCIO_INVALID;
}

int os_endpoint_text(const os_endpoint *e, char *text, size_t size)
{
    char host[64], port[8];
    const int numbers = NI_NUMERICHOST | NI_NUMERICSERV;
    if (getnameinfo(os__sockaddr(e), e->size, host, sizeof host, port, sizeof port, numbers) != 0) return IPCIO_INVALID;
    const char *form = strchr(host, ':') ? "[%s]:%s" : "%s:%s";
    return (size_t)snprintf(text, size, form, host, port) < size ? 0 : IPCIO_INVALID;
}

static int new_socket(const os_endpoint *e)
{
    return os__above(socket(os__sockaddr(e)->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

int os_endpoint_own(os_fd fd, os_endpoint *e)
{
    struct sockaddr_storage a;
    socklen_t size = sizeof a;
    if (getsockname((int)fd, (struct sockaddr *)&a, &size) != 0) return os__status();
    if (size > sizeof e->bytes) size = sizeof e->bytes;
    memcpy(e->bytes, &a, size);
    e->size = size;
    return 0;
}

uint64_t os_endpoint_network(os_fd fd)
{
    uint64_t cookie = 0;
    socklen_t size = sizeof cookie;
    return getsockopt((int)fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size) == 0 ? cookie : 0;
}

int os_tcp_listen(os_endpoint *at, os_fd *fd)
{
    const int on = 1;
    int s = new_socket(at);
    if (s < 0) return os__status();
    /* Connections of the server before, which linger for a minute, do not keep the port; a live server does. */
    if (setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 && bind(s, os__sockaddr(at), at->size) == 0 &&
        listen(s, SOMAXCONN) == 0 && os_endpoint_own(s, at) == 0) {
        *fd = s;
        return 0;
    }
    int st = os__status();
    os_close(s);
    return st;
}

int os__connect_status(void)
{
    switch (errno) {
    case ETIMEDOUT: case EHOSTUNREACH: case ENETUNREACH: case EADDRNOTAVAIL: case ECONNRESET: case EAFNOSUPPORT: case ENOTCONN:
        return IPCIO_MISSING;
    default:
        return os__status();
    }
}

int os_tcp_connect(const os_endpoint *to, os_fd *fd)
{
    int s = new_socket(to);
    if (s < 0) return os__connect_status();
    /* An interrupted connect goes on by itself. */
    if (connect(s, os__sockaddr(to), to->size) == 0 || errno == EINPROGRESS || errno == EINTR) {
        *fd = s;
        return 0;
    }
    int st = os__connect_status();
    os_close(s);
    return st;
}

int os_tcp_connected(os_fd fd)
{
    struct pollfd p = {.fd = (int)fd, .events = POLLOUT};
    int error = 0;
    socklen_t size = sizeof error;
    if (poll(&p, 1, 0) <= 0) return IPCIO_WANT_WRITE;
    if (getsockopt((int)fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) return os__status();
    if (error) {
        errno = error;
        return os__connect_status();
    }
    /* Where nobody listens on a port of the range that clients get theirs from, a client may reach itself. */
    struct sockaddr_storage mine, peers;
    socklen_t my_size = sizeof mine, peers_size = sizeof peers;
    if (getsockname((int)fd, (struct sockaddr *)&mine, &my_size) != 0 ||
        getpeername((int)fd, (struct sockaddr *)&peers, &peers_size) != 0)
        return os__connect_status();
    errno = ECONNREFUSED;
    return my_size == peers_size && memcmp(&mine, &peers, my_size) == 0 ? IPCIO_MISSING : 0;
}

int os_tcp_tune(os_fd fd, unsigned keepalive)
{
    const int on = 1, off = 0, idle = (int)keepalive, probes = 4, pause = idle > probes ? idle / probes : 1;
    const unsigned given_up = 2 * keepalive * 1000;
    int s = (int)fd;
    if (setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) return os__status();
    if (keepalive == 0) return setsockopt(s, SOL_SOCKET, SO_KEEPALIVE, &off, sizeof off) == 0 ? 0 : os__status();
    bool set = setsockopt(s, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on) == 0 &&
               setsockopt(s, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle) == 0 &&
               setsockopt(s, IPPROTO_TCP, TCP_KEEPINTVL, &pause, sizeof pause) == 0 &&
               setsockopt(s, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes) == 0 &&
               setsockopt(s, IPPROTO_TCP, TCP_USER_TIMEOUT, &given_up, sizeof given_up) == 0;
    return set ? 0 : os__status();
}

void os_tcp_finish(os_fd fd)
{
    enum { MOST = 64, LITTLE = 16384 }; /* MOST: then it is a peer who does not stop sending */
    char rest[65536];
    int kept = errno;
    ssize_t got = 0, all = 0;
    (void)shutdown((int)fd, SHUT_WR);
    for (int i = 0; i < MOST && (got = recv((int)fd, rest, sizeof rest, MSG_DONTWAIT)) > 0; i++) all += got;
    /* A peer whose window is full is not told of the end for minutes, as nothing opens it any more; a reset tells. */
    const struct linger none = {.l_onoff = 1, .l_linger = 0};
    if (all > LITTLE) (void)setsockopt((int)fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    errno = kept;
}
