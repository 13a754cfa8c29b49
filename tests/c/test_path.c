/* test_path.c - what lies in the file system: sockets at a path, long paths, files of others, stale files,
 * who may come in. */
#include "helper.h"

static void call_echo(const char *address)
{
    ipcio_conn *conn;
    const void *answer;
    size_t size;
    OK(ipcio_connect(address, NULL, LONG_MS, &conn));
    OK(ipcio_call(conn, "hello", 5, LONG_MS, &answer, &size));
    CHECK(size == 5 && memcmp(answer, "hello", 5) == 0);
    ipcio_conn_free(conn);
}

/* "call" ADDRESS */
static int call_role(char **arguments)
{
    call_echo(arguments[0]);
    return 0;
}

/* A new folder of more than `length` bytes. */
static const char *long_folder(size_t length)
{
    char *path = text_of("%s", fresh_path());
    CHECK(mkdir(path, 0700) == 0);
    while (strlen(path) <= length) {
        strcat(path, "/a-folder-with-quite-a-long-name-0123456789");
        CHECK(mkdir(path, 0700) == 0);
    }
    return path;
}

static ino_t inode(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 ? st.st_ino : 0;
}

static void test_socket_at_a_path(void **state)
{
    const char *path = fresh_path();
    struct child *server = start_echo(at_path(path));
    struct stat st;
    (void)state;
    assert_int_equal(lstat(path, &st), 0);
    assert_true(S_ISSOCK(st.st_mode));
    assert_int_equal(st.st_mode & 077, 0);
    call_echo(at_path(path));
    stop(server);
    assert_int_equal(count_entries(directory), 1); /* nothing is left but $IPCIO_DIR */
}

/* Two ways that meet at one path: neither side waits for the other in vain. */
static void test_another_way_at_a_path(void **state)
{
    static const char *const ways[] = {"pipe", "shm"};
    (void)state;
    for (size_t i = 0; i < COUNT(ways); i++) {
        const char *path = fresh_path();
        ipcio_server *server;
        ipcio_conn *client, *peer;
        const void *data;
        size_t size;
        OK(ipcio_listen(text_of("%s://%s", ways[i], path), NULL, &server));
        OK(ipcio_connect(text_of("%s://%s", ways[1 - i], path), NULL, LONG_MS, &client));
        OK(ipcio_accept(server, LONG_MS, &peer));
        FAILS(PROTOCOL, ipcio_read(peer, LONG_MS, &data, &size));
        FAILS(CLOSED, ipcio_call(client, "hello", 5, LONG_MS, &data, &size));
        ipcio_conn_free(client);
        ipcio_conn_free(peer);
        ipcio_server_free(server);
    }
}

static void test_the_folder_is_missing(void **state)
{
    const char *folder = fresh_path(), *address = at_path(text_of("%s/socket", folder));
    ipcio_conn *conn;
    (void)state;
    FAILS(MISSING, ipcio_connect(address, NULL, 0, &conn));
    assert_non_null(strstr(ipcio_message(), ": there is no such folder"));
    FAILS(TIMEOUT, ipcio_connect(address, NULL, 20, &conn));
    assert_non_null(strstr(ipcio_message(), ": there was no such folder within 0.02 s"));
    CHECK(mkdir(folder, 0700) == 0);
    FAILS(TIMEOUT, ipcio_connect(address, NULL, 20, &conn));
    assert_non_null(strstr(ipcio_message(), ": nobody served the name within 0.02 s"));
}

/* docs/design/lessons.md 12 (libuv#244). */
static void test_long_path(void **state)
{
    const char *path = text_of("%s/socket", long_folder(300)), *address = at_path(path);
    struct child *server = start_echo(address);
    (void)state;
    assert_int_not_equal(inode(path), 0);
    call_echo(address);
    finish(start("call", address, NULL));
    stop(server);
    assert_int_equal(inode(path), 0);
}

/* The system's limit for a socket's file name is a little below 108 bytes, whatever its folder. */
static void test_long_file_name(void **state)
{
    const char *address = at_path(text_of("%s/%080d", long_folder(100), 1));
    struct child *server = start_echo(address);
    ipcio_server *other;
    (void)state;
    call_echo(address);
    stop(server);
    FAILS(INVALID, ipcio_listen(at_path(text_of("%s/%0200d", directory, 1)), NULL, &other));
    assert_int_equal(ipcio_system_error(), ENAMETOOLONG);
}

static void test_long_ipcio_dir(void **state)
{
    const char *address = fresh(), *usual = strdup(getenv("IPCIO_DIR")), *folder = long_folder(200);
    struct child *server;
    (void)state;
    setenv("IPCIO_DIR", folder, 1);
    server = start_echo(address);
    finish(start("call", address, NULL));
    stop(server);
    assert_int_equal(count_entries(folder), 0);
    setenv("IPCIO_DIR", usual, 1);
    free((void *)(uintptr_t)usual);
}

/* "refused" ADDRESS CODE WHY: $IPCIO_DIR cannot be used. */
static int refused_role(char **arguments)
{
    ipcio_server *server;
    ipcio_conn *conn = NULL;
    int st = ipcio_listen(arguments[0], NULL, &server);
    CHECK(strcmp(ipcio_code(st), arguments[1]) == 0);
    CHECK(strstr(ipcio_message(), text_of("%s %s", getenv("IPCIO_DIR"), arguments[2])) != NULL);
    CHECK(ipcio_connect(arguments[0], NULL, 0, &conn) == st);
    CHECK(ipcio_connect(arguments[0], NULL, 1000, &conn) == st);
    return 0;
}

static void refuses_folder(const char *folder, const char *code, const char *why)
{
    setenv("IPCIO_DIR", folder, 1);
    finish(start("refused", fresh(), code, why, NULL));
    if (*folder != '/') finish(start("refused", "tcp://127.0.0.1:0", code, why, NULL));
}

static void test_untrusted_ipcio_dir(void **state)
{
    const char *usual = strdup(getenv("IPCIO_DIR"));
    const char *link = fresh_path(), *open_to_all = fresh_path(), *foreign = fresh_path(), *file = fresh_path();
    (void)state;
    assert_int_equal(symlink(usual, link), 0);
    assert_int_equal(mkdir(open_to_all, 0700), 0);
    assert_int_equal(chmod(open_to_all, 0777), 0);
    assert_int_equal(mknod(file, S_IFREG | 0600, 0), 0);
    refuses_folder(link, "denied", "is a symbolic link");
    refuses_folder(open_to_all, "denied", "can be written to by others");
    refuses_folder(file, "denied", "is no folder");
    refuses_folder(text_of("%s/names", file), "invalid", "cannot be made: Not a directory");
    refuses_folder("/proc/names", "invalid", "cannot be made: No such file");
    refuses_folder("names", "invalid", "is no absolute path (IPCIO_DIR)");
    if (geteuid() == 0) {
        assert_int_equal(mkdir(foreign, 0700), 0);
        assert_int_equal(chown(foreign, 12345, 12345), 0);
        refuses_folder(foreign, "denied", "is not this user's own");
    }
    setenv("IPCIO_DIR", usual, 1);
    free((void *)(uintptr_t)usual);
}

/* Nobody but us may use what a test put at `path`: it is refused and stays as it is. */
static void stays(const char *path)
{
    ipcio_server *server;
    struct stat before, after;
    assert_int_equal(lstat(path, &before), 0);
    FAILS(EXISTS, ipcio_listen(at_path(path), NULL, &server));
    assert_non_null(strstr(ipcio_message(), path));
    assert_int_equal(lstat(path, &after), 0);
    assert_true(before.st_ino == after.st_ino && before.st_mode == after.st_mode);
    assert_true(before.st_mtim.tv_nsec == after.st_mtim.tv_nsec);
}

static int raw_listen(const char *path)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    memcpy(name.sun_path, path, strlen(path) + 1);
    CHECK(bind(fd, (struct sockaddr *)&name, sizeof name) == 0 && listen(fd, 5) == 0);
    return fd;
}

static void test_foreign_files_stay(void **state)
{
    const char *file = fresh_path(), *link = fresh_path(), *dangling = fresh_path(), *fifo = fresh_path();
    const char *folder = fresh_path(), *live = fresh_path(), *dead = fresh_path();
    int fd = open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
    (void)state;
    assert_int_equal(write(fd, "precious", 8), 8);
    close(fd);
    assert_int_equal(symlink(file, link), 0);
    assert_int_equal(symlink("/nowhere", dangling), 0);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_int_equal(mkdir(folder, 0700), 0);
    fd = raw_listen(live);
    close(raw_listen(dead));
    stays(file);
    stays(link);
    stays(dangling);
    stays(fifo);
    stays(folder);
    stays(live);
    stays(dead);
    close(fd);
}

/* Nor is a file that only has the name that ipcio's lock would have. */
static void test_foreign_lock_file_stays(void **state)
{
    const char *path = fresh_path(), *lock = text_of("%s.lock", path);
    char text[16] = "";
    ipcio_server *server;
    int fd = open(lock, O_CREAT | O_RDWR | O_CLOEXEC, 0644);
    (void)state;
    assert_int_equal(write(fd, "precious", 8), 8);
    FAILS(EXISTS, ipcio_listen(at_path(path), NULL, &server));
    assert_non_null(strstr(ipcio_message(), lock));
    assert_int_equal(pread(fd, text, sizeof text, 0), 8);
    assert_string_equal(text, "precious");
    assert_int_not_equal(inode(lock), 0);
    close(fd);
}

/* Leaves the lock file of one who was killed just before it made what was to be at the path. */
static void leave_lock(const char *address, const char *lock)
{
    enum { MADE = 12 }; /* where the record says so, see core/src/channel/rendezvous.h */
    char record[4096];
    ipcio_server *server;
    OK(ipcio_listen(address, NULL, &server));
    int fd = open(lock, O_RDONLY | O_CLOEXEC);
    ssize_t n = read(fd, record, sizeof record);
    close(fd);
    ipcio_server_free(server);
    memcpy(record + MADE, &(uint32_t){1}, sizeof(uint32_t));
    fd = open(lock, O_CREAT | O_RDWR | O_CLOEXEC, 0666);
    CHECK(n > MADE && write(fd, record, (size_t)n) == n);
    close(fd);
}

/* A record that says that something was being made removes nothing but what ipcio makes, and one that another user has put there
 * nothing at all. */
static void test_planted_lock_files(void **state)
{
    static const char *const schemes[] = {"pipe", "shm", "fifo"};
    ipcio_server *server;
    (void)state;
    for (size_t i = 0; i < COUNT(schemes); i++) {
        const char *path = fresh_path(), *lock = text_of("%s.lock", path), *address = text_of("%s://%s", schemes[i], path);
        leave_lock(address, lock);
        int fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
        FAILS(EXISTS, ipcio_listen(address, NULL, &server));
        assert_int_not_equal(inode(path), 0);
        unlink(path);
        close(fd);
        if (geteuid() == 0) {
            leave_lock(address, lock);
            CHECK(chown(lock, (uid_t)atol(SOMEBODY), (gid_t)atol(SOMEBODY)) == 0);
            close(raw_listen(path));
            FAILS(EXISTS, ipcio_listen(address, NULL, &server));
            assert_non_null(strstr(ipcio_message(), "another user's"));
            assert_int_not_equal(inode(path), 0);
            assert_int_not_equal(inode(lock), 0);
        }
        unlink(lock);
        CHECK(mkfifo(lock, 0600) == 0);
        FAILS(EXISTS, ipcio_listen(address, NULL, &server));
        assert_non_null(strstr(ipcio_message(), lock));
        assert_int_not_equal(inode(lock), 0);
        unlink(path);
    }
}

/* Who stops in the middle of clearing a name up, by a debugger or Ctrl-Z, keeps nobody waiting for ever. */
static void test_stopped_sweeper(void **state)
{
    const char *path = fresh_path(), *lock = text_of("%s.lock", path);
    ipcio_server *server;
    int fd = open(lock, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    struct flock both = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 2};
    (void)state;
    CHECK(fd >= 0 && fcntl(fd, F_OFD_SETLK, &both) == 0);
    FAILS(EXISTS, ipcio_listen(at_path(path), NULL, &server));
    assert_non_null(strstr(ipcio_message(), "is it stopped?"));
    close(fd);
    OK(ipcio_listen(at_path(path), NULL, &server));
    ipcio_server_free(server);
}

/* "masks" FOLDER SCHEME: another user, who masks a permission of his own. */
static int masks_role(char **arguments)
{
    const char *address = text_of("%s://name", arguments[1]);
    become(SOMEBODY, arguments[0]);
    for (int masked = 1; masked >= 0; masked--) {
        ipcio_server *server;
        ipcio_conn *conn, *peer;
        umask(masked ? 0177 : 022);
        OK(ipcio_listen(address, NULL, &server));
        OK(ipcio_connect(address, NULL, LONG_MS, &conn));
        WRITES(conn, "there");
        OK(ipcio_accept(server, LONG_MS, &peer));
        READS(peer, "there");
        ipcio_conn_free(conn);
        ipcio_conn_free(peer);
        ipcio_server_free(server);
    }
    return 0;
}

/* It shuts nobody out, of those who come later neither. */
static void test_umask(void **state)
{
    static const char *const schemes[] = {"pipe", "shm", "file"};
    (void)state;
    need_root();
    assert_int_equal(chmod(directory, 0777), 0);
    for (size_t i = 0; i < COUNT(schemes); i++) finish(start("masks", fresh_path(), schemes[i], NULL));
    assert_int_equal(chmod(directory, 0700), 0);
}

/* A dead ipcio server's socket is taken over, but not when somebody has put something else there.
 * Lesson 7 (luasocket#204). */
static void test_stale_socket_at_a_path(void **state)
{
    const char *path = fresh_path();
    struct child *server = start_echo(at_path(path));
    ipcio_server *second;
    int fd;
    (void)state;
    FAILS(EXISTS, ipcio_listen(at_path(path), NULL, &second));
    kill9(server);
    assert_int_not_equal(inode(path), 0); /* it is stale */
    OK(ipcio_listen(at_path(path), NULL, &second));
    ipcio_server_free(second);
    assert_int_equal(inode(path), 0);

    server = start_echo(at_path(path));
    kill9(server);
    unlink(path);
    fd = raw_listen(path);
    stays(path);
    close(fd);
    stays(path);
}

/* A server removes its own file only. */
static void test_replaced_while_serving(void **state)
{
    const char *path = fresh_path();
    ipcio_server *server;
    ino_t foreign;
    int fd;
    (void)state;
    OK(ipcio_listen(at_path(path), NULL, &server));
    unlink(path);
    fd = raw_listen(path);
    foreign = inode(path);
    ipcio_server_free(server);
    assert_true(inode(path) == foreign);
    close(fd);
    unlink(path);
}

/* Nor does it remove the lock of one that took the name after somebody else had removed all of it. */
static void test_removed_while_serving(void **state)
{
    const char *path = fresh_path(), *lock = text_of("%s.lock", path);
    ipcio_server *server;
    ino_t second;
    (void)state;
    OK(ipcio_listen(at_path(path), NULL, &server));
    CHECK(unlink(path) == 0 && unlink(lock) == 0);
    struct child *other = start_echo(at_path(path));
    second = inode(lock);
    ipcio_server_free(server);
    assert_true(second != 0 && inode(lock) == second);
    FAILS(EXISTS, ipcio_listen(at_path(path), NULL, &server));
    stop(other);
    assert_int_equal(inode(lock), 0);
}

/* "stranger" ADDRESS OTHER NAMED: another user, for whom the socket is not, nor the folder of names. */
static int stranger_role(char **arguments)
{
    ipcio_conn *conn = NULL;
    ipcio_server *server;
    become(SOMEBODY, "");
    FAILS(DENIED, ipcio_connect(arguments[2], NULL, 0, &conn));
    CHECK(strstr(ipcio_message(), getenv("IPCIO_DIR")) != NULL);
    FAILS(DENIED, ipcio_connect(arguments[0], NULL, 0, &conn));
    FAILS(DENIED, ipcio_connect(arguments[0], NULL, 5000, &conn)); /* at once: waiting would not help */
    FAILS(DENIED, ipcio_listen(arguments[1], NULL, &server));
    return 0;
}

/* Lesson 15 (iceoryx2#862). */
static void test_other_users_are_kept_out(void **state)
{
    static const char *const schemes[] = {"pipe", "shm"};
    (void)state;
    need_root();
    assert_int_equal(chmod(directory, 0755), 0);
    for (size_t i = 0; i < COUNT(schemes); i++) {
        const char *address = text_of("%s://%s", schemes[i], fresh_path());
        const char *named = text_of("%s://%s", schemes[i], fresh_name());
        struct child *server = start_echo(address), *other = start_echo(named);
        int64_t began = now_ms();
        finish(start("stranger", address, at_path(fresh_path()), named, NULL));
        assert_true(now_ms() - began < 5000);
        stop(server);
        stop(other);
    }
    assert_int_equal(chmod(directory, 0700), 0);
}

/* "guest" ADDRESS: another user, whom the socket's mode lets in. */
static int guest_role(char **arguments)
{
    ipcio_conn *conn;
    become(SOMEBODY, "");
    OK(ipcio_connect(arguments[0], NULL, LONG_MS, &conn));
    WRITES(conn, "let me in");
    READS(conn, "let me in");
    ipcio_conn_free(conn);
    return 0;
}

/* Who opens a socket at a path to others has let them in, and is told who they are. */
static void test_opened_to_others(void **state)
{
    static const char *const schemes[] = {"pipe", "shm"};
    (void)state;
    need_root();
    assert_int_equal(chmod(directory, 0755), 0);
    for (size_t i = 0; i < COUNT(schemes); i++) {
        const char *path = fresh_path(), *address = text_of("%s://%s", schemes[i], path);
        ipcio_server *server;
        ipcio_conn *conn;
        ipcio_peer peer;
        struct child *guest;
        OK(ipcio_listen(address, NULL, &server));
        assert_int_equal(chmod(path, 0666), 0);
        guest = start("guest", address, NULL);
        OK(ipcio_accept(server, LONG_MS, &conn));
        OK(ipcio_conn_peer(conn, &peer));
        assert_int_equal(peer.uid, atol(SOMEBODY));
        READS(conn, "let me in");
        WRITES(conn, "let me in");
        finish(guest);
        ipcio_conn_free(conn);
        ipcio_server_free(server);
    }
    assert_int_equal(chmod(directory, 0700), 0);
}

static void test_files_are_this_users(void **state)
{
    struct dirent *entry;
    struct stat st;
    struct pair pair;
    DIR *dir = opendir(getenv("IPCIO_DIR"));
    (void)state;
    open_pair(&pair);
    while ((entry = readdir(dir)) != NULL) {
        const char *path = text_of("%s/%s", getenv("IPCIO_DIR"), entry->d_name);
        if (entry->d_name[0] != '.' && lstat(path, &st) == 0)
            assert_int_equal(st.st_mode & 077, 0);
    }
    closedir(dir);
    free_pair(&pair);
}

int main(int argc, char **argv)
{
    static const struct role roles[] = {{"echo", echo_role},         {"call", call_role},
                                        {"refused", refused_role},   {"stranger", stranger_role},
                                        {"guest", guest_role},       {"masks", masks_role},
                                        {NULL, NULL}};
    const struct CMUnitTest tests[] = {
        TEST(test_socket_at_a_path),       TEST(test_another_way_at_a_path),
        TEST(test_long_path),
        TEST(test_the_folder_is_missing),  TEST(test_long_file_name),
        TEST(test_long_ipcio_dir),         TEST(test_untrusted_ipcio_dir),
        TEST(test_foreign_files_stay),     TEST(test_foreign_lock_file_stays),
        TEST(test_planted_lock_files),     TEST(test_stopped_sweeper),
        TEST(test_umask),
        TEST(test_stale_socket_at_a_path), TEST(test_replaced_while_serving),
        TEST(test_removed_while_serving),  TEST(test_other_users_are_kept_out),
        TEST(test_opened_to_others),       TEST(test_files_are_this_users),
    };
    RUN(argc, argv, roles, tests);
}
