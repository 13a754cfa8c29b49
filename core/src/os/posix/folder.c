/* folder.c - files that are named by the open folder they lie in, so that no link can lead elsewhere. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef STATX_NLINK /* musl before 1.2.5 */
#include <linux/stat.h>
#include <sys/syscall.h>
#define statx(folder, name, flags, mask, to) syscall(SYS_statx, folder, name, flags, mask, to)
#endif

#include "os/posix/common.h"

static int at(os_fd folder)
{
    return folder == OS_NONE ? AT_FDCWD : (int)folder;
}

int os_folder_make(os_fd parent, const char *name)
{
    if (mkdirat(at(parent), name, S_IRWXU) != 0) return os__status();
    if (fchmodat(at(parent), name, S_IRWXU, 0) != 0) errno = 0; /* whatever the process masks; not every file system can */
    return 0;
}

int os_folder_open(os_fd parent, const char *name, os_fd *folder)
{
    return os__keep(openat(at(parent), name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | (parent == OS_NONE ? 0 : O_NOFOLLOW)), folder);
}

int os_folder_remove(os_fd parent, const char *name)
{
    int kept = errno;
    int st = unlinkat(at(parent), name, AT_REMOVEDIR) == 0 || errno == ENOENT ? 0 : os__status();
    errno = kept;
    return st;
}

int os_folder_rename(os_fd folder, const char *from, os_fd to_folder, const char *to)
{
    return renameat((int)folder, from, (int)to_folder, to) == 0 ? 0 : os__status();
}

int os_folder_list(os_fd folder, void (*each)(const char *name, void *context), void *context)
{
    int fd = openat((int)folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* with a place of its own in the list */
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        int st = os__status();
        os_close(fd);
        return st;
    }
    for (struct dirent *e; (e = readdir(d));)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) each(e->d_name, context);
    closedir(d);
    return 0;
}

int os_folder_look(os_fd folder)
{
    struct statx s;
    if (statx((int)folder, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_NLINK, &s) != 0)
        return errno == ESTALE ? IPCIO_MISSING : os__status();
    errno = ENOENT;
    return s.stx_nlink ? 0 : IPCIO_MISSING;
}

int os_folder_place(os_fd folder, uint8_t place[OS_PLACE])
{
    struct stat s;
    if (fstat((int)folder, &s) != 0) return os__status();
    memset(place, 0, OS_PLACE);
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, place, OS_PLACE - sizeof s.st_dev);
    os_close(fd);
    if (n < 0 && errno != ENOENT && errno != EACCES) return os__status();
    if (n <= 0) return os_random(place, OS_PLACE); /* no other place is the same as one that is not known */
    memcpy(place + OS_PLACE - sizeof s.st_dev, &s.st_dev, sizeof s.st_dev);
    return 0;
}

/* ------------------------------------------------------------------------------------- files in one */

int os_folder_unlink(os_fd folder, const char *name)
{
    int kept = errno;
    int st = unlinkat((int)folder, name, 0) == 0 || errno == ENOENT ? 0 : os__status();
    if (st == 0) errno = kept;
    return st;
}

int os_folder_file(os_fd folder, const char *name, os_folder_how how, os_fd *file)
{
    static const int create[] = {[OS_FOLDER_OLD] = 0, [OS_FOLDER_ANY] = O_CREAT, [OS_FOLDER_NEW] = O_CREAT | O_EXCL};
    const int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | create[how];
    return os__keep(openat(at(folder), name, flags, S_IRUSR | S_IWUSR), file);
}

int64_t os__owner(int folder, const char *name, const struct stat *s)
{
    if (!os_user_hidden(s->st_uid)) return s->st_uid;
    int f = openat(folder, name, O_RDONLY | O_NOATIME | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    os_close(f);
    return f >= 0 ? (int64_t)s->st_uid : -1; /* only the true owner may open without a trace */
}

int os_folder_about(os_fd folder, const char *name, int64_t *owner, int64_t *time)
{
    struct stat s;
    if (fstatat(at(folder), name, &s, AT_SYMLINK_NOFOLLOW) != 0) return os__status();
    *owner = os__owner(at(folder), name, &s);
    *time = s.st_mtim.tv_sec * INT64_C(1000000000) + s.st_mtim.tv_nsec;
    return 0;
}

int os_folder_touch(os_fd folder, const char *name)
{
    return utimensat((int)folder, name, NULL, AT_SYMLINK_NOFOLLOW) == 0 ? 0 : os__status();
}

int os_folder_get(os_fd folder, const char *name, void *to, size_t room, size_t *got)
{
    int f = openat((int)folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (f < 0) return errno == ELOOP || errno == ENXIO ? IPCIO_PROTOCOL : os__status();
    ssize_t r = 0;
    *got = 0;
    do {
        r = read(f, (char *)to + *got, room - *got);
        if (r > 0) *got += (size_t)r;
    } while ((r > 0 && *got < room) || (r < 0 && errno == EINTR));
    int st = r >= 0 ? 0 : errno == EISDIR || errno == EAGAIN ? IPCIO_PROTOCOL : os__status();
    os_close(f);
    return st;
}

static int write_all(int f, const char *from, size_t n)
{
    while (n > 0) {
        ssize_t r = write(f, from, n);
        if (r < 0 && errno != EINTR) return os__status();
        if (r < 0) continue;
        from += r;
        n -= (size_t)r;
    }
    return 0;
}

static int sync_file(int f)
{
    int r;
    do r = fsync(f);
    while (r != 0 && errno == EINTR);
    return r == 0 ? 0 : os__status();
}

int os_folder_sync(os_fd folder)
{
    return sync_file((int)folder);
}

int os_folder_put(os_fd folder, const char *draft, const char *name, const void *from, size_t n, bool durable)
{
    const int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW;
    int f = os__above(openat((int)folder, draft, flags, S_IRUSR | S_IWUSR));
    if (f < 0 && errno == EEXIST && os_folder_unlink(folder, draft) == 0) /* left by a write that failed */
        f = os__above(openat((int)folder, draft, flags, S_IRUSR | S_IWUSR));
    if (f < 0) return os__status();
    int st = write_all(f, from, n);
    if (st == 0 && durable) st = sync_file(f);
    /* A network folder may tell only now that there was no room. */
    if (st != 0) os_close(f);
    else if (close(f) != 0 && errno != EINTR) st = os__status();
    if (st == 0) st = os_folder_rename(folder, draft, folder, name);
    if (st == 0) return 0;
    int kept = errno;
    (void)os_folder_unlink(folder, draft);
    errno = kept;
    return st;
}
