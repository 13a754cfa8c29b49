/* process_memory.c - the memory of another process. */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "os/posix/common.h"

void os_process_open(void)
{
    (void)prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY); /* EINVAL where the system has no such rule */
}

int os_process_read(int64_t process, uint64_t address, void *to, size_t n, size_t *got)
{
    enum { MOST = 1 << 30 }; /* one call takes less than 2 GiB */
    errno = ESRCH;
    if (process != (pid_t)process) return IPCIO_MISSING;
    errno = EFAULT;
    if (address != (uintptr_t)address) return IPCIO_INVALID; /* of a process with longer addresses */
    while (*got < n) {
        size_t step = n - *got < MOST ? n - *got : MOST;
        struct iovec here = {(char *)to + *got, step}, there = {(void *)((uintptr_t)address + *got), step};
        ssize_t r = process_vm_readv((pid_t)process, &here, 1, &there, 1, 0);
        if (r < 0 && errno == EINTR) continue;
        if (r < 0 && errno == ESRCH) return IPCIO_MISSING;
        if (r < 0 && errno == ENOSYS) return IPCIO_UNSUPPORTED;
        if (r < 0 && errno != EFAULT) return os__status();
        if (r <= 0) return IPCIO_INVALID;
        *got += (size_t)r;
    }
    return 0;
}
