/* wait.c - what Linux alone has for waiting and for threads: epoll, futex, eventfd, inotify, membarrier. */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "os/posix/common.h"

#ifdef SYS_futex_time64 /* the same on 32 bits */
#undef SYS_futex
#define SYS_futex SYS_futex_time64
#endif

/* How the system itself writes down a time, whatever `struct timespec` is. */
typedef struct {
    int64_t seconds, nanoseconds;
} system_time;

int os_barrier(void)
{
    if (syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0) return 0;
    return errno == EPERM && syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0 &&
                   syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0
               ? 0
               : IPCIO_UNSUPPORTED;
}

int os_fence_join(void)
{
    return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) == 0 ? os_fence() : IPCIO_UNSUPPORTED;
}

int os_fence(void)
{
    return syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0) == 0 ? 0 : IPCIO_UNSUPPORTED;
}

int os_set_new(os_fd *set)
{
    return os__keep(epoll_create1(EPOLL_CLOEXEC), set);
}

int os_set_put(os_fd set, os_fd fd, int want, void *tag)
{
    struct epoll_event e = {.events = want == IPCIO_WANT_READ ? EPOLLIN : EPOLLOUT, .data.ptr = tag};
    if (epoll_ctl((int)set, EPOLL_CTL_MOD, (int)fd, &e) == 0) return 0;
    if (errno == ENOENT && epoll_ctl((int)set, EPOLL_CTL_ADD, (int)fd, &e) == 0) return 0;
    return os__status();
}

void os_set_mute(os_fd set, os_fd fd)
{
    (void)epoll_ctl((int)set, EPOLL_CTL_MOD, (int)fd, &(struct epoll_event){0});
}

void os_set_drop(os_fd set, os_fd fd)
{
    (void)epoll_ctl((int)set, EPOLL_CTL_DEL, (int)fd, NULL);
}

/* As epoll_wait; to the nanosecond where the system can. */
static int wait_for_set(int set, struct epoll_event *events, int n, int64_t deadline)
{
#ifdef SYS_epoll_pwait2
    struct timespec t;
    const struct timespec *left = os__remaining(deadline, &t);
    system_time within = {left ? left->tv_sec : 0, left ? left->tv_nsec : 0};
    long done = syscall(SYS_epoll_pwait2, set, events, n, left ? &within : NULL, NULL, 0);
    if (done >= 0 || (errno != ENOSYS && errno != EPERM)) return (int)done; /* the latter: a filter of system calls */
#endif
    for (;;) {
        int ready = epoll_wait(set, events, n, 0);
        if (ready != 0 || deadline == 0) return ready;
        int st = os_poll(&(os_wait){.fd = set, .want = IPCIO_WANT_READ}, 1, deadline);
        if (st != 0) return st == IPCIO_TIMEOUT ? 0 : -1;
    }
}

int os_set_wait(os_fd set, void **tags, int n, int64_t deadline)
{
    struct epoll_event events[64];
    int ready = wait_for_set((int)set, events, n < 64 ? n : 64, deadline);
    for (int i = 0; i < ready; i++) tags[i] = events[i].data.ptr;
    return ready > 0 ? ready : ready == 0 ? IPCIO_TIMEOUT : os__status();
}

/* The deadline is absolute, so that the clock need not be asked. */
int os_word_wait(const _Atomic uint32_t *word, uint32_t value, int64_t deadline)
{
    const system_time until = {deadline / 1000000000, deadline % 1000000000};
    if (syscall(SYS_futex, word, FUTEX_WAIT_BITSET, value, deadline == INT64_MAX ? NULL : &until, NULL, FUTEX_BITSET_MATCH_ANY) == 0 ||
        errno == EAGAIN)
        return 0;
    return errno == ETIMEDOUT ? IPCIO_TIMEOUT : errno == EINTR ? IPCIO_INTERRUPTED : IPCIO_UNSUPPORTED;
}

void os_word_wake(const _Atomic uint32_t *word)
{
    int kept = errno;
    if (syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0) < 0) errno = kept; /* nobody can wait there */
}

int os_bell_new(os_fd *bell)
{
    return os__keep(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), bell);
}

void os_bell_ring(os_fd bell)
{
    int kept = errno;
    if (write((int)bell, &(uint64_t){1}, 8) < 0) errno = kept; /* full is rung */
    errno = kept;
}

void os_bell_clear(os_fd bell)
{
    uint64_t count;
    if (read((int)bell, &count, sizeof count) < 0) errno = 0; /* empty is cleared */
}

int os_watch(const char *path, os_fd *watch)
{
    int st = os__keep(inotify_init1(IN_CLOEXEC | IN_NONBLOCK), watch);
    if (st != 0) return st;
    if (inotify_add_watch((int)*watch, path, IN_CREATE | IN_MOVED_TO | IN_ATTRIB | IN_MOVE_SELF) >= 0) return 0;
    st = os__status();
    os_close(*watch);
    *watch = OS_NONE;
    return st;
}

bool os_watch_clear(os_fd watch)
{
    char events[4096];
    bool any = false;
    while (read((int)watch, events, sizeof events) > 0) any = true;
    return any;
}
