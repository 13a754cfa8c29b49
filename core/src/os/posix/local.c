/* local.c - byte streams at a path: Unix-domain sockets. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "os/posix/common.h"

/* Socket addresses end at 107 bytes.  A longer path is reached through an open descriptor of its folder,
 * which *folder receives (-1 where none was needed). */
static int make_address(const char *path, struct sockaddr_un *a, int *folder)
{
    *folder = -1;
    memset(a, 0, sizeof *a);
    a->sun_family = AF_UNIX;
    size_t n = strlen(path);
    if (n < sizeof a->sun_path) {
        memcpy(a->sun_path, path, n + 1);
        return 0;
    }
    char parent[4096];
    const char *slash = strrchr(path, '/');
    errno = ENAMETOOLONG;
    size_t length = slash ? (size_t)(slash - path) + 1 : 0; /* with the slash: the root folder's is all there is */
    if (length == 0 || length >= sizeof parent) return -1;
    memcpy(parent, path, length);
    parent[length] = 0;
    *folder = open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (*folder < 0) return -1;
    int used = snprintf(a->sun_path, sizeof a->sun_path, "/proc/self/fd/%d/%s", *folder, slash + 1);
    errno = ENAMETOOLONG;
    return used > 0 && (size_t)used < sizeof a->sun_path ? 0 : -1;
}

/* Connects or binds `fd`; closes it on failure. */
static int at_path(int fd, const char *path, int (*act)(int, const struct sockaddr *, socklen_t))
{
    struct sockaddr_un a;
    int folder;
    int st = make_address(path, &a, &folder) == 0 && act(fd, (const struct sockaddr *)&a, sizeof a) == 0
                 ? 0
             : errno == EAGAIN ? IPCIO_WANT_WRITE /* the listener's queue is full */
                               : os__status();
    os_close(folder);
    if (st != 0) os_close(fd);
    return st;
}

static int new_socket(void)
{
    return os__above(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

int os_local_listen(const char *path, os_fd *fd)
{
    int s = new_socket();
    if (s < 0) return os__status();
    (void)fchmod(s, S_IRUSR | S_IWUSR); /* before bind: the file never has another mode */
    int st = at_path(s, path, bind);
    if (st != 0) return st;
    if (listen(s, SOMAXCONN) != 0) {
        st = os__status();
        (void)os_file_remove(path);
        os_close(s);
        return st;
    }
    *fd = s;
    return 0;
}

int os_local_connect(const char *path, os_fd *fd)
{
    int s = new_socket();
    if (s < 0) return os__status();
    int st = at_path(s, path, connect);
    if (st == 0) *fd = s;
    return st;
}

int os_local_peer(os_fd fd, ipcio_peer *peer)
{
    struct ucred c;
    socklen_t size = sizeof c;
    if (getsockopt((int)fd, SOL_SOCKET, SO_PEERCRED, &c, &size) != 0) return os__status();
    if (c.uid == (uid_t)-1) return IPCIO_UNSUPPORTED; /* a socket of another sort */
    /* pid 0: a process of another PID namespace, which has no number here */
    *peer = (ipcio_peer){.pid = c.pid ? c.pid : -1, .uid = os_user_hidden(c.uid) ? -1 : (int64_t)c.uid, .gid = c.gid};
    return 0;
}
