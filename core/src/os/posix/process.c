/* process.c - errors, time, locks, fork and waiting on POSIX systems. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "os/posix/common.h"

int os_error(void)
{
    return errno;
}

const char *os_error_text(int error)
{
    static _Thread_local char text[128];
    /* GNU's answers the text, which may be a constant instead; that of POSIX a number. */
    return _Generic(strerror_r(error, text, sizeof text),
                    char *: strerror_r(error, text, sizeof text),
                    int: (strerror_r(error, text, sizeof text), text));
}

int os__status(void)
{
    switch (errno) {
    case ENOENT: case ECONNREFUSED: case ENOTDIR: return IPCIO_MISSING;
    case EEXIST: case EADDRINUSE: return IPCIO_EXISTS;
    case EPIPE: case ECONNRESET: case ENOTCONN: return IPCIO_CLOSED;
    case EACCES: case EPERM: case EROFS: case ELOOP: return IPCIO_DENIED;
    case ENOMEM: case ENOBUFS: return IPCIO_NOMEMORY;
    case ENAMETOOLONG: return IPCIO_INVALID;
    case EINTR: return IPCIO_INTERRUPTED;
    default: return IPCIO_SYSTEM;
    }
}

int os__above(int fd)
{
    if (fd < 0 || fd > STDERR_FILENO) return fd;
    int above = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    os_close(fd);
    return above;
}

int os__keep(int fd, os_fd *to)
{
    int above = os__above(fd);
    if (above < 0) return os__status();
    *to = above;
    return 0;
}

void os__mute(os__muted *m, int signal)
{
    sigset_t one, pending;
    sigemptyset(&one);
    sigaddset(&one, signal);
    sigemptyset(&pending);
    pthread_sigmask(SIG_BLOCK, &one, &m->before);
    if (sigismember(&m->before, signal)) sigpending(&pending); /* else it could not wait */
    m->signal = signal;
    m->waits = sigismember(&pending, signal);
}

void os__unmute(const os__muted *m, bool raised)
{
    int kept = errno;
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, m->signal);
    if (raised && !m->waits) (void)sigtimedwait(&one, NULL, &(struct timespec){0});
    pthread_sigmask(SIG_SETMASK, &m->before, NULL);
    errno = kept;
}

static int64_t now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

int64_t os_now(void)
{
    return now(CLOCK_MONOTONIC);
}

int64_t os_now_coarse(void)
{
#ifdef CLOCK_MONOTONIC_COARSE
    return now(CLOCK_MONOTONIC_COARSE);
#else
    return now(CLOCK_MONOTONIC);
#endif
}

void os_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

int64_t os_user(void)
{
    return geteuid();
}

int64_t os_process(void)
{
    return getpid();
}

int os_random(void *to, size_t n)
{
    return getentropy(to, n) == 0 ? 0 : IPCIO_SYSTEM;
}

int os_processors(void)
{
    return (int)sysconf(_SC_NPROCESSORS_ONLN);
}

_Static_assert(sizeof(pthread_mutex_t) <= sizeof(os_mutex), "os_mutex has no room for a mutex");

void os_lock(os_mutex *m)
{
    pthread_mutex_lock((pthread_mutex_t *)(void *)m);
}

void os_unlock(os_mutex *m)
{
    pthread_mutex_unlock((pthread_mutex_t *)(void *)m);
}

int os_at_fork(void (*before)(void), void (*parent)(void), void (*child)(void))
{
    return pthread_atfork(before, parent, child) == 0 ? 0 : IPCIO_NOMEMORY;
}

void os_close(os_fd fd)
{
    int kept = errno; /* closing is part of cleaning up after an error that is still to be told */
    if (fd != OS_NONE) close((int)fd);
    errno = kept;
}

int os__prepare(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0 && fcntl(fd, F_SETFD, FD_CLOEXEC) == 0
               ? 0
               : IPCIO_SYSTEM;
}

struct timespec *os__remaining(int64_t deadline, struct timespec *t)
{
    if (deadline == INT64_MAX) return NULL;
    int64_t left = deadline - os_now();
    if (left < 0) left = 0;
    t->tv_sec = (time_t)(left / 1000000000);
    t->tv_nsec = (long)(left % 1000000000);
    return t;
}

int os_poll(const os_wait *items, size_t n, int64_t deadline)
{
    struct pollfd fds[8];
    struct timespec t;
    if (n > sizeof fds / sizeof *fds) {
        errno = EINVAL;
        return IPCIO_SYSTEM;
    }
    for (size_t i = 0; i < n; i++)
        fds[i] = (struct pollfd){.fd = (int)items[i].fd, .events = items[i].want == IPCIO_WANT_READ ? POLLIN : POLLOUT};
    int ready = ppoll(fds, (nfds_t)n, os__remaining(deadline, &t), NULL);
    return ready > 0 ? 0 : ready == 0 ? IPCIO_TIMEOUT : os__status();
}
