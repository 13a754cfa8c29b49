/* stream.c - what byte streams of every sort have in common: they are sockets, or FIFOs. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "os/posix/common.h"

int os_accept(os_fd listener, os_fd *fd)
{
    for (;;) {
        int s = os__above(accept4((int)listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
        if (s >= 0) {
            *fd = s;
            return 0;
        }
        if (errno == EAGAIN) return IPCIO_WANT_READ;
        if (errno != EINTR && errno != ECONNABORTED) return os__status();
    }
}

int os_adopt(os_fd fd, bool listening)
{
    int s = (int)fd, type, accepts;
    socklen_t size = sizeof type;
    struct sockaddr_storage a;
    socklen_t a_size = sizeof a;
    if (getsockopt(s, SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_STREAM ||
        getsockopt(s, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &size) != 0 || (accepts != 0) != listening)
        return IPCIO_INVALID;
    if (!listening && getpeername(s, (struct sockaddr *)&a, &a_size) != 0) return IPCIO_INVALID;
    if (listening) return os__prepare(s);
    /* Sending and receiving never block anyway, and whoever else has the socket may want it to. */
    return fcntl(s, F_SETFD, FD_CLOEXEC) == 0 ? 0 : os__status();
}

static struct msghdr message(struct iovec *v, const os_piece *pieces, int n)
{
    for (int i = 0; i < n; i++) v[i] = (struct iovec){.iov_base = pieces[i].bytes, .iov_len = pieces[i].size};
    return (struct msghdr){.msg_iov = v, .msg_iovlen = (size_t)n};
}

/* Up to so many bytes it is cheaper to copy them to one place than to let the system look at several. */
enum { FLAT = 1024 };

/* How many bytes there are, all copied to `flat`; 0: more than fit. */
static size_t flatten(uint8_t *flat, const os_piece *pieces, int n)
{
    size_t size = 0;
    for (int i = 0; i < n; i++) {
        if (pieces[i].size > FLAT - size) return 0;
        if (pieces[i].size) memcpy(flat + size, pieces[i].bytes, pieces[i].size);
        size += pieces[i].size;
    }
    return size;
}

/* What a system call for bytes tells: `again` is what to wait for, INTERRUPTED to repeat it. */
static int outcome(ssize_t r, int again, size_t *moved)
{
    if (r < 0) return errno == EAGAIN ? again : os__status();
    *moved = (size_t)r;
    return 0;
}

int os_send(os_fd fd, const os_piece *pieces, int n, size_t *sent)
{
    struct iovec v[OS_PIECES_MAX];
    struct msghdr m = {0};
    uint8_t flat[FLAT];
    size_t size = flatten(flat, pieces, n);
    int st;
    if (size == 0) m = message(v, pieces, n);
    do {
        ssize_t r = size ? send((int)fd, flat, size, MSG_NOSIGNAL | MSG_DONTWAIT)
                         : sendmsg((int)fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (r < 0 && errno == ENOTSOCK)
            r = size ? os__fifo_write((int)fd, &(struct iovec){flat, size}, 1) : os__fifo_write((int)fd, v, n);
        st = outcome(r, IPCIO_WANT_WRITE, sent);
    } while (st == IPCIO_INTERRUPTED);
    return st;
}

int os_send_file(os_fd fd, const os_piece *pieces, int n, os_fd file, size_t *sent)
{
    struct iovec v[OS_PIECES_MAX];
    struct msghdr m = message(v, pieces, n);
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
    const int passed = (int)file;
    memcpy(CMSG_DATA(&control.header), &passed, sizeof passed);
    m.msg_control = &control;
    m.msg_controllen = sizeof control;
    int st;
    do st = outcome(sendmsg((int)fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT), IPCIO_WANT_WRITE, sent);
    while (st == IPCIO_INTERRUPTED);
    return st >= 0 ? st : errno == EBADF ? IPCIO_INVALID : errno == ETOOMANYREFS ? IPCIO_FULL : st;
}

/* What a receive tells: no bytes are the end. */
static int received(ssize_t r, size_t *got)
{
    if (r != 0) return outcome(r, IPCIO_WANT_READ, got);
    errno = 0;
    return IPCIO_CLOSED;
}

int os_receive(os_fd fd, const os_piece *pieces, int n, size_t *got)
{
    struct iovec v[OS_PIECES_MAX];
    struct msghdr m = message(v, pieces, n);
    int st;
    do {
        /* one place needs no message header, which costs a tenth of the call */
        ssize_t r = n == 1 ? recv((int)fd, pieces[0].bytes, pieces[0].size, MSG_DONTWAIT)
                           : recvmsg((int)fd, &m, MSG_DONTWAIT);
        if (r < 0 && errno == ENOTSOCK) r = os__fifo_read((int)fd, v, n);
        st = received(r, got);
    } while (st == IPCIO_INTERRUPTED);
    return st;
}

/* How many descriptors came.  *first stays open, the others do not. */
static int take_descriptors(struct msghdr *m, int *first)
{
    int n = 0, fd;
    for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h; h = CMSG_NXTHDR(m, h)) {
        if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS) continue;
        for (size_t at = CMSG_LEN(0); at + sizeof fd <= h->cmsg_len; at += sizeof fd) {
            memcpy(&fd, (const char *)h + at, sizeof fd);
            if (n++ == 0) *first = fd;
            else os_close(fd);
        }
    }
    return n;
}

static int receive_file(os_fd fd, const os_piece *pieces, int n, int flags, size_t *got, os_fd *file)
{
    struct iovec v[OS_PIECES_MAX];
    struct msghdr m = message(v, pieces, n);
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(struct ucred)) + CMSG_LEN(sizeof(int))]; /* whoever made the socket may want the former */
    } control;
    m.msg_control = &control;
    m.msg_controllen = sizeof control;
    *file = OS_NONE;
    int first = -1, st;
    do st = received(recvmsg((int)fd, &m, flags | MSG_DONTWAIT | MSG_CMSG_CLOEXEC), got);
    while (st == IPCIO_INTERRUPTED);
    if (st != 0) return st;
    int came = take_descriptors(&m, &first) + (m.msg_flags & MSG_CTRUNC ? 1 : 0);
    first = os__above(first);
    *file = first >= 0 ? first : came ? OS_LOST : OS_NONE;
    if (came <= 1) return 0;
    os_close(*file);
    *file = OS_NONE;
    return IPCIO_PROTOCOL;
}

int os_receive_file(os_fd fd, const os_piece *pieces, int n, size_t *got, os_fd *file)
{
    return receive_file(fd, pieces, n, 0, got, file);
}

int os_peek_file(os_fd fd, const os_piece *piece, size_t *got, os_fd *file)
{
    int st = receive_file(fd, piece, 1, MSG_PEEK, got, file);
    if (st != 0 || *file != OS_LOST) return st;
    *file = OS_NONE;
    errno = EMFILE;
    return IPCIO_SYSTEM;
}

int os_stuff(os_fd fd)
{
    static const char nothing[4096];
    (void)setsockopt((int)fd, SOL_SOCKET, SO_SNDBUF, &(int){sizeof nothing}, sizeof(int));
    for (;;) {
        if (send((int)fd, nothing, sizeof nothing, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0 || errno == EINTR) continue;
        return errno == EAGAIN ? 0 : os__status();
    }
}

bool os_ended(os_fd fd)
{
    struct pollfd p = {.fd = (int)fd, .events = POLLRDHUP};
    return poll(&p, 1, 0) > 0;
}

void os_shutdown(os_fd fd)
{
    (void)shutdown((int)fd, SHUT_RDWR);
}
