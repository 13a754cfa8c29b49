/* user.c - users that have no number in this process's user namespace. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "os/posix/common.h"

static bool read_text(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, size - 1);
    os_close(fd);
    text[n > 0 ? n : 0] = 0;
    return n > 0;
}

bool os_user_hidden(int64_t user)
{
    static const char whole[] = " 4294967295\n"; /* all users there are, in one line */
    char text[256];
    int64_t stands_in = read_text("/proc/sys/kernel/overflowuid", text, sizeof text) ? atol(text) : 65534;
    if (user != stands_in) return false;
    return !read_text("/proc/self/uid_map", text, sizeof text) || !strstr(text, whole);
}
