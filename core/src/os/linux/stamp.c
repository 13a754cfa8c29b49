/* stamp.c - telling a file from a later one that got its inode number. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>

#include "os/posix/common.h"

/* A file handle names a file for as long as the file system lives, so it has the inode's generation in it. */
int os__stamp(const char *path, uint64_t otherwise, uint64_t *stamp)
{
    union {
        struct file_handle handle;
        unsigned char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
    } h;
    int mount;
    h.handle.handle_bytes = MAX_HANDLE_SZ;
    if (name_to_handle_at(AT_FDCWD, path, &h.handle, &mount, 0) != 0) {
        /* The file system, or a filter of system calls, has none. */
        if (errno != EOPNOTSUPP && errno != ENOSYS && errno != EPERM && errno != EOVERFLOW) return os__status();
        *stamp = otherwise;
        return 0;
    }
    uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    for (unsigned i = 0; i < h.handle.handle_bytes; i++)
        hash = (hash ^ h.room[sizeof(struct file_handle) + i]) * UINT64_C(0x100000001b3);
    *stamp = hash;
    return 0;
}
