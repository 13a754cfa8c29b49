/* memory.c - memory that two processes share: memfd. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os/posix/common.h"

enum { SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL };

/* A limit of the process on files (ulimit -f) is one on such memory too.  It is told as an error, not by the signal that ends the
 * process. */
static int resize(int fd, off_t size)
{
    os__muted sigxfsz;
    os__mute(&sigxfsz, SIGXFSZ);
    int r = ftruncate(fd, size);
    os__unmute(&sigxfsz, r != 0 && errno == EFBIG);
    return r;
}

int os_memory_new(size_t size, os_fd *memory)
{
    int fd = os__above(memfd_create("ipcio", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (fd < 0) return os__status();
    if (resize(fd, (off_t)size) == 0 && fcntl(fd, F_ADD_SEALS, SEALS) == 0) {
        *memory = fd;
        return 0;
    }
    int st = os__status();
    os_close(fd);
    return st;
}

int os_memory_reserve(os_fd memory, size_t from, size_t size)
{
    int r;
    do r = fallocate((int)memory, 0, (off_t)from, (off_t)size);
    while (r != 0 && errno == EINTR);
    if (r == 0) return 0;
    return errno == ENOSPC ? IPCIO_NOMEMORY : os__status();
}

void os_memory_release(os_fd memory, size_t from, size_t size)
{
    (void)fallocate((int)memory, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)size);
}

int os_memory_size(os_fd memory, uint64_t *size)
{
    struct stat s;
    int seals = fcntl((int)memory, F_GET_SEALS);
    if (seals < 0 && (errno == EINVAL || errno == EBADF)) return IPCIO_INVALID; /* a file of another sort */
    if (seals < 0 || fstat((int)memory, &s) != 0) return os__status();
    if ((seals & (F_SEAL_SHRINK | F_SEAL_GROW)) != (F_SEAL_SHRINK | F_SEAL_GROW)) return IPCIO_INVALID;
    *size = (uint64_t)s.st_size;
    return 0;
}

int os_memory_map(os_fd memory, size_t from, size_t size, void **at)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, (int)memory, (off_t)from);
    if (p == MAP_FAILED) return os__status();
    if (madvise(p, size, MADV_DONTFORK) == 0) {
        *at = p;
        return 0;
    }
    int st = os__status();
    os_memory_unmap(p, size);
    return st;
}

void os_memory_unmap(void *at, size_t size)
{
    (void)munmap(at, size);
}

void os_memory_inherit(void *at, size_t size)
{
    (void)madvise(at, size, MADV_DOFORK);
}

void os_memory_blank(void *at, size_t size)
{
    (void)mmap(at, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
}
