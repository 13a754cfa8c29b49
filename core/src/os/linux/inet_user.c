/* inet_user.c - whose the other end of a port of this machine is, by the kernel's table of sockets. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "os/posix/common.h"

typedef struct {
    uint16_t port;
    uint32_t address[4];
} half;

static half half_of(const struct sockaddr_storage *a)
{
    half h = {0};
    if (a->ss_family == AF_INET6) {
        const struct sockaddr_in6 *six = (const void *)a;
        h.port = six->sin6_port;
        memcpy(h.address, &six->sin6_addr, sizeof six->sin6_addr);
    } else {
        const struct sockaddr_in *four = (const void *)a;
        h.port = four->sin_port;
        h.address[0] = four->sin_addr.s_addr;
    }
    return h;
}

/* What is IPv4 in IPv6's dress becomes that; answers the family. */
static unsigned char undress(struct sockaddr_storage *a)
{
    const struct sockaddr_in6 six = *(const struct sockaddr_in6 *)a;
    if (a->ss_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&six.sin6_addr)) return (unsigned char)a->ss_family;
    struct sockaddr_in *four = (struct sockaddr_in *)a;
    *four = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = six.sin6_port};
    memcpy(&four->sin_addr, six.sin6_addr.s6_addr + 12, 4);
    return AF_INET;
}

static bool is_loopback(const struct sockaddr_storage *a)
{
    const struct sockaddr_in *four = (const void *)a;
    const struct sockaddr_in6 *six = (const void *)a;
    return a->ss_family == AF_INET6 ? IN6_IS_ADDR_LOOPBACK(&six->sin6_addr) : ntohl(four->sin_addr.s_addr) >> 24 == 127;
}

/* Whether the other end is on this machine: 0, or UNSUPPORTED: on another; SYSTEM: it is not told.  What comes to the
 * loopback has not left the machine, whatever it says of where it comes from.  Else the address must be one that nobody
 * here can have. */
static int within(const struct sockaddr_storage *mine, const struct sockaddr_storage *its)
{
    struct sockaddr_storage a = *its;
    if (is_loopback(mine)) return 0;
    if (a.ss_family == AF_INET6) ((struct sockaddr_in6 *)&a)->sin6_port = 0;
    else ((struct sockaddr_in *)&a)->sin_port = 0;
    const socklen_t size = a.ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    int s = socket(a.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0), st = IPCIO_SYSTEM;
    if (s >= 0 && bind(s, (const struct sockaddr *)&a, size) == 0) st = 0;
    else if (s >= 0 && errno == EADDRNOTAVAIL) st = IPCIO_UNSUPPORTED;
    os_close(s);
    return st;
}

static int open_table(void)
{
    return socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_SOCK_DIAG);
}

/* Asks for the socket whose own end is `source`; for one of UDP it is `destination`, for the kernel's own reasons. */
static int ask(int netlink, unsigned char family, unsigned char protocol, half source, half destination,
               struct inet_diag_msg *found)
{
    struct {
        struct nlmsghdr head;
        struct inet_diag_req_v2 body;
    } request = {
        .head = {.nlmsg_len = sizeof request, .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST},
        .body = {.sdiag_family = family, .sdiag_protocol = protocol, .idiag_states = ~0u},
    };
    union {
        struct nlmsghdr head;
        char room[1024];
    } answer;
    request.body.id.idiag_sport = source.port;
    request.body.id.idiag_dport = destination.port;
    memcpy(request.body.id.idiag_src, source.address, sizeof source.address);
    memcpy(request.body.id.idiag_dst, destination.address, sizeof destination.address);
    request.body.id.idiag_cookie[0] = request.body.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
    if (send(netlink, &request, sizeof request, 0) != sizeof request) return IPCIO_SYSTEM;
    ssize_t n = recv(netlink, &answer, sizeof answer, 0); /* the kernel has answered inside send */
    if (n < (ssize_t)NLMSG_LENGTH(sizeof *found) || answer.head.nlmsg_type != SOCK_DIAG_BY_FAMILY)
        return IPCIO_SYSTEM;
    memcpy(found, NLMSG_DATA(&answer.head), sizeof *found);
    return 0;
}

int os_tcp_user(os_fd fd, bool listener, int64_t *user)
{
    struct sockaddr_storage mine = {0}, its = {0};
    socklen_t my_size = sizeof mine, its_size = sizeof its;
    struct inet_diag_msg found;
    if (getsockname((int)fd, (struct sockaddr *)&mine, &my_size) != 0 ||
        getpeername((int)fd, (struct sockaddr *)&its, &its_size) != 0)
        return os__status();
    unsigned char family = undress(&its);
    (void)undress(&mine);
    half own = half_of(&mine), other = half_of(&its);
    int netlink = open_table();
    /* A socket that its process has closed, or not accepted yet, is nobody's, which is told as user 0.  For one that is
     * quite gone the table shows who listens at its port. */
    bool told = netlink >= 0 && ask(netlink, family, IPPROTO_TCP, other, own, &found) == 0 && found.idiag_inode &&
                found.id.idiag_dport == own.port;
    if (!told && listener && netlink >= 0)
        told = ask(netlink, family, IPPROTO_TCP, other, (half){0}, &found) == 0 && found.idiag_inode;
    os_close(netlink);
    if (!told) return within(&mine, &its) == IPCIO_UNSUPPORTED ? IPCIO_UNSUPPORTED : IPCIO_MISSING;
    *user = found.idiag_uid;
    return os_user_hidden(*user) ? IPCIO_MISSING : 0;
}

int os_udp_user(const os_endpoint *at, const os_endpoint *from, int64_t *user)
{
    static const uint32_t any[4];
    struct sockaddr_storage its = {0}, mine = {0};
    struct inet_diag_msg found;
    memcpy(&its, at->bytes, at->size);
    memcpy(&mine, from->bytes, from->size);
    unsigned char family = undress(&its);
    (void)undress(&mine);
    int st = within(&mine, &its);
    if (st != 0) return st;
    half own = half_of(&mine), other = half_of(&its);
    /* On one machine one comes from the address that one goes to. */
    if (memcmp(own.address, any, sizeof any) == 0) memcpy(own.address, other.address, sizeof any);
    int netlink = open_table();
    if (netlink < 0) return IPCIO_SYSTEM;
    st = ask(netlink, family, IPPROTO_UDP, own, other, &found);
    if (st == 0 && found.idiag_inode) *user = found.idiag_uid;
    else if (st == 0) st = IPCIO_MISSING;
    else if (ask(netlink, family, IPPROTO_UDP, other, own, &found) == 0) st = IPCIO_MISSING; /* it tells of our own */
    os_close(netlink);
    return st == 0 && os_user_hidden(*user) ? IPCIO_SYSTEM : st;
}
