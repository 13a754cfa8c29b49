/* fifo.c - byte streams of one direction at a path: FIFOs. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "os/posix/common.h"

int os_fifo_make(const char *path)
{
    return mkfifo(path, S_IRUSR | S_IWUSR) == 0 ? 0 : os__status();
}

int os_fifo_open(const char *path, bool reads, os_fd *fd)
{
    struct stat s;
    int f, st = 0;
    do f = os__above(open(path, (reads ? O_RDONLY : O_WRONLY) | O_NONBLOCK | O_CLOEXEC | O_NOCTTY));
    while (f < 0 && errno == EINTR);
    if (f < 0 && errno != ENXIO && errno != EISDIR) return os__status();
    if ((f < 0 ? stat(path, &s) : fstat(f, &s)) != 0) {
        st = os__status();
    } else if (!S_ISFIFO(s.st_mode)) {
        st = IPCIO_EXISTS;
    } else if (f < 0) {
        errno = ENXIO;
        st = IPCIO_MISSING;
    }
    if (st == 0) *fd = f;
    else os_close(f);
    return st;
}

int os_fifo_look(os_fd fd)
{
    struct pollfd p = {.fd = (int)fd, .events = POLLIN};
    (void)poll(&p, 1, 0);
    return p.revents & POLLIN ? 0 : p.revents & POLLHUP ? IPCIO_CLOSED : IPCIO_WANT_READ;
}

ssize_t os__fifo_read(int fd, const struct iovec *v, int n)
{
    ssize_t r = readv(fd, v, n);
    if (r != 0) return r;
    /* Nobody has it open for writing.  It is the end only if somebody had, since this end was opened. */
    if (os_fifo_look(fd) != IPCIO_WANT_READ) return readv(fd, v, n);
    errno = EAGAIN;
    return -1;
}

/* Without the signal that says that nobody reads any more: no flag keeps it off here, as one does for sockets. */
ssize_t os__fifo_write(int fd, const struct iovec *v, int n)
{
    os__muted sigpipe;
    os__mute(&sigpipe, SIGPIPE);
    ssize_t r = writev(fd, v, n);
    os__unmute(&sigpipe, r < 0 && errno == EPIPE);
    return r;
}
