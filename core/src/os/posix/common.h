/* common.h - shared by the files that implement os.h on POSIX systems. */
#ifndef IPCIO_OS_POSIX_COMMON_H
#define IPCIO_OS_POSIX_COMMON_H

#include <signal.h>
#include <sys/types.h>

#include "os/os.h"

/* The status that says what errno says. */
int os__status(void);

/* A new descriptor, or -1 with errno.  It is none of the standard ones: where those are closed, what the process prints would
 * go to it. */
int os__above(int fd);
/* Gives that out, or the status that errno says. */
int os__keep(int fd, os_fd *to);

/* Between the two a signal that a system call raises in its thread does not arrive.  `raised`: the call has. */
typedef struct {
    int signal;
    bool waits; /* there is one already */
    sigset_t before;
} os__muted;
void os__mute(os__muted *m, int signal);
void os__unmute(const os__muted *m, bool raised);

/* Makes it non-blocking and close-on-exec where it was not created so.  SYSTEM. */
int os__prepare(int fd);

/* A file's owner, of whom `s` shows the number; -1: that stands for another, who has none here. */
struct stat;
int64_t os__owner(int folder, const char *name, const struct stat *s);

/* A number that tells the file at `path` from later ones with the same inode; `otherwise` where there is none. */
int os__stamp(const char *path, uint64_t otherwise, uint64_t *stamp);

/* readv and writev of a FIFO.  The former tells the end only when somebody had it open for writing, and before that
 * EAGAIN; the latter raises no signal. */
struct iovec;
ssize_t os__fifo_read(int fd, const struct iovec *v, int n);
ssize_t os__fifo_write(int fd, const struct iovec *v, int n);
/* Why a socket could not be connected: no route and no answer are, like a refusal, nobody there. */
int os__connect_status(void);

struct sockaddr;
static inline const struct sockaddr *os__sockaddr(const os_endpoint *e)
{
    return (const struct sockaddr *)(const void *)e->bytes;
}

/* What remains until the deadline, for ppoll and its like; NULL when that is for ever. */
struct timespec;
struct timespec *os__remaining(int64_t deadline, struct timespec *t);

#endif
