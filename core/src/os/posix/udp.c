/* udp.c - datagrams: UDP. */
#define _GNU_SOURCE
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "os/posix/common.h"

static int family(const os_endpoint *e)
{
    return os__sockaddr(e)->sa_family;
}

static int level(const os_endpoint *e)
{
    return family(e) == AF_INET6 ? IPPROTO_IPV6 : IPPROTO_IP;
}

static int new_socket(const os_endpoint *e)
{
    return os__above(socket(family(e), SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

static bool is_group(const os_endpoint *e)
{
    const struct sockaddr_in *four = (const void *)e->bytes;
    const struct sockaddr_in6 *six = (const void *)e->bytes;
    return family(e) == AF_INET6 ? IN6_IS_ADDR_MULTICAST(&six->sin6_addr) : IN_MULTICAST(ntohl(four->sin_addr.s_addr));
}

/* The number of the network that a group is meant in, 0: the system's choice; a group of IPv6 has it with it. */
static int find_network(os_endpoint *group, const char *name, unsigned *number)
{
    struct sockaddr_in6 *six = family(group) == AF_INET6 ? (void *)group->bytes : NULL;
    *number = *name ? if_nametoindex(name) : six ? six->sin6_scope_id : 0;
    if (six) six->sin6_scope_id = *number;
    return *name && *number == 0 ? IPCIO_INVALID : 0;
}

static int join(int s, const os_endpoint *group, unsigned network)
{
    struct group_req r = {.gr_interface = network};
    memcpy(&r.gr_group, group->bytes, group->size);
    return setsockopt(s, level(group), MCAST_JOIN_GROUP, &r, sizeof r) == 0 ? 0 : os__status();
}

int os_udp_listen(os_endpoint *at, const char *network, bool *shared, os_fd *fd)
{
    const int on = 1;
    unsigned number = 0;
    *shared = is_group(at);
    int st = *shared ? find_network(at, network, &number) : 0;
    if (st != 0) return st;
    int s = new_socket(at);
    if (s < 0) return os__status();
    if (*shared && setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0) st = os__status();
    if (st == 0 && bind(s, os__sockaddr(at), at->size) != 0) st = os__status();
    if (st == 0) st = os_endpoint_own(s, at);
    if (st == 0 && *shared) st = join(s, at, number);
    if (st == 0) *fd = s;
    else os_close(s);
    return st;
}

/* What is sent goes to a group, in this network. */
static int aim(int s, os_endpoint *group, const char *network, unsigned hops)
{
    unsigned number;
    int st = find_network(group, network, &number);
    if (st != 0) return st;
    const int most = (int)hops, l = level(group);
    const struct ip_mreqn by = {.imr_ifindex = (int)number};
    bool six = family(group) == AF_INET6;
    if (number && six && setsockopt(s, l, IPV6_MULTICAST_IF, &number, sizeof number) != 0) return os__status();
    if (number && !six && setsockopt(s, l, IP_MULTICAST_IF, &by, sizeof by) != 0) return os__status();
    const int option = six ? IPV6_MULTICAST_HOPS : IP_MULTICAST_TTL;
    return setsockopt(s, l, option, &most, sizeof most) == 0 ? 0 : os__status();
}

int os_udp_connect(os_endpoint *to, const char *network, unsigned hops, bool *shared, os_fd *fd)
{
    const int on = 1;
    int s = new_socket(to), st = 0;
    if (s < 0) return os__connect_status();
    *shared = is_group(to);
    if (*shared) {
        st = aim(s, to, network, hops);
    } else if (connect(s, os__sockaddr(to), to->size) != 0) {
        *shared = errno == EACCES; /* a broadcast address */
        st = *shared && setsockopt(s, SOL_SOCKET, SO_BROADCAST, &on, sizeof on) == 0 ? 0 : os__connect_status();
    }
    if (st == 0) *fd = s;
    else os_close(s);
    return st;
}

void os_udp_room(os_fd fd, unsigned bytes)
{
    const int size = (int)bytes;
    if (setsockopt((int)fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) != 0)
        (void)setsockopt((int)fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
}

/* What the network has told of a datagram sent before stands in the way of the next call, once. */
static int outcome(int again)
{
    switch (errno) {
    case EAGAIN: return again;
    case ECONNREFUSED: return IPCIO_CLOSED;
    case EMSGSIZE: return IPCIO_TOOBIG;
    default: return os__status();
    }
}

int os_udp_send(os_fd fd, const os_endpoint *to, const os_piece *pieces, int n)
{
    struct iovec v[OS_PIECES_MAX];
    for (int i = 0; i < n; i++) v[i] = (struct iovec){.iov_base = pieces[i].bytes, .iov_len = pieces[i].size};
    struct msghdr m = {.msg_iov = v, .msg_iovlen = (size_t)n};
    os_endpoint aim_at;
    if (to) {
        aim_at = *to;
        m.msg_name = aim_at.bytes;
        m.msg_namelen = to->size;
    }
    int st;
    do st = sendmsg((int)fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0 ? 0 : outcome(IPCIO_WANT_WRITE);
    while (st == IPCIO_INTERRUPTED);
    return st;
}

int os_udp_receive(os_fd fd, void *to, size_t size, size_t *got, os_endpoint *from)
{
    int st;
    do {
        socklen_t length = sizeof from->bytes;
        ssize_t r = recvfrom((int)fd, to, size, MSG_DONTWAIT, (struct sockaddr *)(void *)from->bytes, &length);
        st = r >= 0 ? 0 : outcome(IPCIO_WANT_READ);
        if (st == 0) {
            *got = (size_t)r;
            from->size = length;
        }
    } while (st == IPCIO_INTERRUPTED);
    return st;
}
