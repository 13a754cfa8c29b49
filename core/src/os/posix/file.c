/* file.c - the folder of names, files, and the locks that die with their holder. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os/posix/common.h"

/* This user's own folder at `path`: 0; DENIED and what is wrong, when what is there is not; MISSING when it cannot be there. */
static int own_folder(const char *path, const char **wrong)
{
    struct stat s;
    if (mkdir(path, S_IRWXU) != 0 && errno != EEXIST) return os__status();
    if (lstat(path, &s) != 0) return os__status();
    *wrong = S_ISLNK(s.st_mode)                           ? "is a symbolic link"
             : !S_ISDIR(s.st_mode)                        ? "is no folder"
             : os__owner(AT_FDCWD, path, &s) != os_user() ? "is not this user's own"
             : s.st_mode & (S_IWGRP | S_IWOTH)            ? "can be written to by others: it needs mode 700"
                                                          : NULL;
    if (*wrong) return IPCIO_DENIED;
    /* The process that made it may have masked that, and would have shut out all others for good. */
    if ((s.st_mode & S_IRWXU) == S_IRWXU || chmod(path, S_IRWXU) == 0) return 0;
    return os__status();
}

int os_directory(char *path, size_t size, const char **wrong)
{
    const char *chosen = getenv("IPCIO_DIR");
    unsigned uid = (unsigned)geteuid();
    /* The first whose parent exists on this system: all scripts of a user must choose the same one. */
    char run[32];
    (void)snprintf(run, sizeof run, "/run/user/%u", uid);
    const char *const parents[] = {"/dev/shm", run, "/tmp"};
    errno = ENAMETOOLONG;
    *wrong = NULL;
    if (chosen && *chosen) {
        if ((size_t)snprintf(path, size, "%s", chosen) >= size) return IPCIO_INVALID;
        if (*chosen == '/') return own_folder(path, wrong);
        *wrong = "is no absolute path (IPCIO_DIR)"; /* scripts in other directories would not find its names */
        return IPCIO_INVALID;
    }
    for (size_t i = 0; i < sizeof parents / sizeof *parents; i++) {
        struct stat s;
        if (stat(parents[i], &s) != 0 || !S_ISDIR(s.st_mode)) continue;
        if ((size_t)snprintf(path, size, "%s/ipcio-%u", parents[i], uid) >= size) return IPCIO_INVALID;
        return own_folder(path, wrong);
    }
    errno = ENOENT;
    return IPCIO_MISSING;
}

/* Keeps a plain file that has no other name: one that was linked here is somebody's. */
static int plain(int f, os_fd *fd)
{
    struct stat s;
    int st = fstat(f, &s) != 0 ? os__status() : S_ISREG(s.st_mode) && s.st_nlink <= 1 ? 0 : IPCIO_PROTOCOL;
    if (st == IPCIO_PROTOCOL) errno = 0;
    if (st == 0) *fd = f;
    else os_close(f);
    return st;
}

int os_file_open(const char *path, bool create, os_fd *fd)
{
    const int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
    for (;;) {
        /* First without creating: a sticky directory may forbid O_CREAT on a file of another user. */
        int f = open(path, flags);
        bool made = f < 0 && errno == ENOENT && create;
        if (made) f = open(path, flags | O_CREAT | O_EXCL, S_IRUSR | S_IWUSR);
        if (f >= 0 && made) (void)fchmod(f, S_IRUSR | S_IWUSR); /* whatever the process masks */
        if ((f = os__above(f)) >= 0) return plain(f, fd);
        if (errno != EINTR && !(errno == EEXIST && create)) return os__status();
    }
}

int os_file_read(os_fd fd, void *to, size_t n)
{
    ssize_t r = pread((int)fd, to, n, 0);
    if (r == (ssize_t)n) return 0;
    if (r < 0) return os__status();
    errno = 0;
    return IPCIO_PROTOCOL;
}

int os_file_write(os_fd fd, const void *from, size_t n)
{
    ssize_t r = pwrite((int)fd, from, n, 0);
    if (r == (ssize_t)n) return 0;
    if (r >= 0) errno = ENOSPC;
    return os__status();
}

int os_file_remove(const char *path)
{
    int kept = errno;
    int st = unlink(path) == 0 || errno == ENOENT ? 0 : os__status();
    if (st == 0) errno = kept;
    return st;
}

static struct flock one_byte(unsigned byte)
{
    return (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
}

int os_file_lock(os_fd fd, unsigned byte)
{
    struct flock l = one_byte(byte);
    if (fcntl((int)fd, F_OFD_SETLK, &l) == 0) return 0;
    return errno == EAGAIN || errno == EACCES ? IPCIO_EXISTS : os__status();
}

int os_file_locked(os_fd fd, unsigned byte)
{
    struct flock l = one_byte(byte);
    if (fcntl((int)fd, F_OFD_GETLK, &l) != 0) return os__status();
    return l.l_type == F_UNLCK ? 0 : IPCIO_EXISTS;
}

int os_identify(const char *path, os_identity *identity)
{
    struct stat s;
    if (lstat(path, &s) != 0) return os__status();
    uint64_t time = (uint64_t)s.st_mtim.tv_sec * 1000000000u + (uint64_t)s.st_mtim.tv_nsec;
    *identity = (os_identity){.device = s.st_dev, .number = s.st_ino};
    return os__stamp(path, time, &identity->stamp);
}

bool os_is_endpoint(const char *path)
{
    struct stat s;
    return lstat(path, &s) == 0 && (S_ISSOCK(s.st_mode) || S_ISFIFO(s.st_mode));
}

int os_file_at(os_fd fd, os_fd folder, const char *path)
{
    struct stat a, b;
    int from = folder == OS_NONE ? AT_FDCWD : (int)folder;
    if (fstat((int)fd, &a) != 0 || fstatat(from, path, &b, AT_SYMLINK_NOFOLLOW) != 0) return os__status();
    return a.st_dev == b.st_dev && a.st_ino == b.st_ino ? 0 : IPCIO_MISSING;
}

int os_list(const char *directory, void (*each)(const char *name, void *context), void *context)
{
    DIR *d = opendir(directory);
    if (!d) return os__status();
    for (struct dirent *e; (e = readdir(d));)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) each(e->d_name, context);
    closedir(d);
    return 0;
}
