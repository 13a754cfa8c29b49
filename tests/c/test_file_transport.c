/* test_file_transport.c - what `file` alone has: what lies in the folder, and who puts what there.
 *
 * A folder with something in the place of the server's socket is one where nothing tells of news, as between hosts. */
#include "helper.h"

#include <sys/syscall.h>

#include "channel/file.h"

static unsigned char big[32 << 20];
static _Atomic int synced; /* files and folders */

int fsync(int fd)
{
    atomic_fetch_add(&synced, 1);
    return (int)syscall(SYS_fsync, fd);
}

static int remove_tree(const char *path) { return nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS); }

static int vanishing;      /* so many folders are removed by somebody else just after they were made */
static const char *doomed; /* this one just before another is made in it */

int mkdirat(int parent, const char *path, mode_t mode)
{
    if (parent != AT_FDCWD && doomed) {
        CHECK(remove_tree(doomed) == 0);
        doomed = NULL;
    }
    int r = (int)syscall(SYS_mkdirat, parent, path, mode);
    if (parent == AT_FDCWD && vanishing > 0) {
        vanishing--;
        CHECK(rmdir(path) == 0);
    }
    return r;
}

/* ----------------------------------------------------------------------------------------- folders */

static const char *loud_folder(void)
{
    const char *path = fresh_path();
    CHECK(mkdir(path, 0700) == 0);
    return path;
}

static const char *quiet_folder(void)
{
    const char *path = loud_folder();
    CHECK(mkdir(text_of("%s/" FILE_BELL, path), 0700) == 0);
    return path;
}

static const char *(*const folders[])(void) = {loud_folder, quiet_folder};

static const char *address_of(const char *path) { return text_of("file://%s", path); }

/* The folder of its only connection. */
static const char *connection_in(const char *path)
{
    const char *found = NULL;
    DIR *dir = opendir(path);
    CHECK(dir != NULL);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        if (strlen(entry->d_name) == FILE_NAME_SIZE - 1 && entry->d_name[sizeof FILE_PREFIX - 1] == 'c')
            found = text_of("%s/%s", path, entry->d_name);
    closedir(dir);
    CHECK(found != NULL);
    return found;
}

static int count_connections(const char *path)
{
    return count_entries(path) - (access(text_of("%s/" FILE_BELL, path), F_OK) == 0) -
           (access(text_of("%s/" FILE_LOCK, path), F_OK) == 0) - (access(text_of("%s/" FILE_SERVER, path), F_OK) == 0);
}

static void open_pair_in(struct pair *pair, const char *path, const char *options)
{
    open_pair_at(pair, address_of(path), options, options);
}

/* Number 0 is a record, and the client's 1 greets. */
static const char *number_path(const char *connection, char side, unsigned number)
{
    return text_of("%s/%c%016x", connection, side, number);
}

static void put_file(const char *path, const void *data, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    CHECK(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    close(fd);
}

static size_t get_file(const char *path, void *data, size_t size)
{
    int fd = open(path, O_RDONLY);
    ssize_t n = read(fd, data, size);
    CHECK(n >= 0);
    close(fd);
    return (size_t)n;
}

/* ------------------------------------------------------------------------------ what stays, and goes */

static void test_nothing_is_left(void **state)
{
    (void)state;
    for (size_t f = 0; f < COUNT(folders); f++)
        for (int order = 0; order < 3; order++) {
            const char *path = folders[f]();
            int before = count_entries(path);
            struct pair pair;
            open_pair_in(&pair, path, NULL);
            WRITES(pair.client, "unread");
            WRITES(pair.peer, "unread too");
            if (order == 0)
                ipcio_server_close(pair.server);
            ipcio_conn_close(order == 1 ? pair.client : pair.peer);
            if (order == 1)
                READS(pair.peer, "unread"); /* what was sent before closing */
            else
                READS(pair.client, "unread too");
            free_pair(&pair);
            assert_int_equal(count_entries(path), before);
        }
}

static void test_a_name_leaves_nothing(void **state)
{
    struct pair pair;
    (void)state;
    for (int order = 0; order < 2; order++) {
        open_pair_at(&pair, text_of("file://%s", fresh_name()), NULL, NULL);
        WRITES(pair.client, "unread");
        if (order == 0)
            ipcio_server_close(pair.server);
        assert_int_equal(count_entries(getenv("IPCIO_DIR")), 1);
        free_pair(&pair);
        assert_int_equal(count_entries(getenv("IPCIO_DIR")), 0);
    }
}

/* The last client of the server before removes the folder that the next one has found or made. */
static void test_a_name_removed_while_it_is_taken(void **state)
{
    struct pair pair;
    (void)state;
    vanishing = 3;
    open_pair_at(&pair, text_of("file://%s", fresh_name()), NULL, NULL);
    assert_int_equal(vanishing, 0);
    free_pair(&pair);
    vanishing = 10000; /* for ever */
    FAILS(MISSING, ipcio_listen(text_of("file://%s", fresh_name()), NULL, &pair.server));
    vanishing = 0;
    assert_int_equal(count_entries(getenv("IPCIO_DIR")), 0);
}

static void test_foreign_files_stay(void **state)
{
    const char *path = loud_folder(), *own = "ipcio-c0123456789abcdef0123456789abcdeg";
    struct pair pair;
    (void)state;
    put_file(text_of("%s/c0000000000000001", path), "mine", 4);
    CHECK(mkdir(text_of("%s/%s", path, own), 0700) == 0);
    open_pair_in(&pair, path, NULL);
    const char *connection = connection_in(path);
    if (strstr(connection, own) != NULL) { /* it has the length of a connection's name */
        CHECK(rename(connection, text_of("%s/other", path)) == 0);
        connection = connection_in(path);
        CHECK(rename(text_of("%s/other", path), text_of("%s/%s", path, own)) == 0);
    }
    put_file(text_of("%s/notes.txt", connection), "mine", 4);
    free_pair(&pair);
    assert_int_equal(access(text_of("%s/notes.txt", connection), F_OK), 0);
    assert_int_equal(count_entries(connection), 1);
    assert_int_equal(count_entries(path), 3);
    ipcio_server *server; /* a sweep leaves them alone, too */
    OK(ipcio_listen(address_of(path), NULL, &server));
    ipcio_server_free(server);
    assert_int_equal(count_entries(path), 3);
}

static void test_a_foreign_lock_stays(void **state)
{
    const char *path = loud_folder();
    ipcio_server *server;
    (void)state;
    put_file(text_of("%s/" FILE_LOCK, path), "mine", 4);
    FAILS(EXISTS, ipcio_listen(address_of(path), NULL, &server));
    assert_int_equal(get_file(text_of("%s/" FILE_LOCK, path), big, 10), 4);
}

/* In a folder where all may make files: it would be the planter's clients who are let in. */
static void test_a_planted_lock(void **state)
{
    enum { PLANTER = 12345 };
    const char *path = loud_folder(), *planted = text_of("%s/" FILE_LOCK, path);
    ipcio_server *server;
    (void)state;
    need_root();
    put_file(planted, "", 0);
    CHECK(chown(planted, PLANTER, PLANTER) == 0);
    FAILS(EXISTS, ipcio_listen(address_of(path), NULL, &server));
    assert_non_null(strstr(ipcio_message(), "another user's"));
    CHECK(access(planted, F_OK) == 0);
}

/* Nor is another file that has a name of the server's replaced, but one that its host's death left empty is. */
static void test_a_foreign_file_in_the_way(void **state)
{
    static const char *const names[] = {FILE_SERVER, FILE_DRAFT};
    ipcio_server *server;
    (void)state;
    for (size_t f = 0; f < COUNT(folders); f++)
        for (size_t i = 0; i < COUNT(names); i++) {
            const char *path = folders[f](), *file = text_of("%s/%s", path, names[i]);
            int before = count_entries(path);
            put_file(file, "mine", 4);
            FAILS(EXISTS, ipcio_listen(address_of(path), NULL, &server));
            assert_non_null(strstr(ipcio_message(), file));
            assert_int_equal(get_file(file, big, 10), 4);
            CHECK(unlink(file) == 0 && mkdir(file, 0700) == 0);
            FAILS(EXISTS, ipcio_listen(address_of(path), NULL, &server));
            assert_int_equal(count_entries(path), before + 1);
            CHECK(rmdir(file) == 0);
            put_file(file, "", 0);
            OK(ipcio_listen(address_of(path), NULL, &server));
            ipcio_server_free(server);
            assert_int_equal(count_entries(path), before);
        }
}

/* A server that somebody took its files from removes nothing of the next one. */
static void test_removed_while_serving(void **state)
{
    (void)state;
    for (size_t f = 0; f < COUNT(folders); f++) {
        const char *path = folders[f](), *files[] = {FILE_LOCK, FILE_SERVER, FILE_BELL};
        ipcio_server *server;
        ipcio_conn *conn;
        OK(ipcio_listen(address_of(path), NULL, &server));
        for (size_t i = 0; i < 2 + (f == 0); i++)
            CHECK(unlink(text_of("%s/%s", path, files[i])) == 0);
        struct child *other = start_echo(address_of(path));
        int before = count_entries(path);
        ipcio_server_free(server);
        assert_int_equal(count_entries(path), before);
        OK(ipcio_connect(address_of(path), NULL, LONG_MS, &conn));
        WRITES(conn, "hello");
        READS(conn, "hello");
        ipcio_conn_free(conn);
        stop(other);
    }
}

static void test_the_folder_must_be_there(void **state)
{
    ipcio_server *server;
    ipcio_conn *conn;
    (void)state;
    FAILS(MISSING, ipcio_listen(address_of(fresh_path()), NULL, &server));
    FAILS(MISSING, ipcio_connect(address_of(fresh_path()), NULL, 0, &conn));
    assert_non_null(strstr(ipcio_message(), ": there is no such folder"));
    FAILS(TIMEOUT, ipcio_connect(address_of(fresh_path()), NULL, 20, &conn));
    assert_non_null(strstr(ipcio_message(), ": there was no such folder within 0.02 s"));
    FAILS(MISSING, ipcio_connect(address_of(loud_folder()), NULL, 0, &conn));
    assert_non_null(strstr(ipcio_message(), ": nobody serves the name"));
    FAILS(UNSUPPORTED, ipcio_listen(address_of(loud_folder()), "framing=line", &server));
    FAILS(UNSUPPORTED, ipcio_connect(address_of(loud_folder()), "framing=raw", 0, &conn));
}

/* "victim" ADDRESS: serves one client, has written, and waits to be killed. */
static int victim_role(char **arguments)
{
    ipcio_server *server;
    ipcio_conn *conn;
    OK(ipcio_listen(arguments[0], NULL, &server));
    tell("listening");
    OK(ipcio_accept(server, LONG_MS, &conn));
    for (int i = 0; i < 10; i++)
        WRITES(conn, "message");
    tell("written");
    wait_for_end();
    return 0;
}

/* "client" ADDRESS: connects, writes and waits to be killed. */
static int client_role(char **arguments)
{
    ipcio_conn *conn;
    OK(ipcio_connect(arguments[0], NULL, LONG_MS, &conn));
    WRITES(conn, "from the dead");
    tell("written");
    wait_for_end();
    return 0;
}

static void test_killed(void **state)
{
    (void)state;
    for (size_t f = 0; f < COUNT(folders); f++) {
        const char *path = folders[f]();
        int before = count_entries(path);
        struct child *victim = start("victim", address_of(path), NULL);
        ipcio_server *server;
        ipcio_conn *conn;
        const void *data;
        size_t size;
        hear(victim, "listening");
        OK(ipcio_connect(address_of(path), NULL, LONG_MS, &conn));
        hear(victim, "written");
        kill9(victim);
        for (int i = 0; i < 10; i++)
            READS(conn, "message");
        FAILS(CLOSED, ipcio_read(conn, LONG_MS, &data, &size));
        FAILS(CLOSED, ipcio_write(conn, "x", 1, LONG_MS));
        OK(ipcio_listen(address_of(path), NULL, &server)); /* the name is free at once */
        ipcio_server_free(server);
        ipcio_conn_free(conn);
        assert_int_equal(count_entries(path), before);
    }
}

/* A client that died before it was accepted is handed out, and what it wrote. */
static void test_client_killed_in_the_queue(void **state)
{
    (void)state;
    for (size_t f = 0; f < COUNT(folders); f++) {
        const char *path = folders[f]();
        ipcio_server *server;
        ipcio_conn *conn;
        const void *data;
        size_t size;
        OK(ipcio_listen(address_of(path), NULL, &server));
        struct child *client = start("client", address_of(path), NULL);
        hear(client, "written");
        kill9(client);
        OK(ipcio_accept(server, LONG_MS, &conn));
        READS(conn, "from the dead");
        FAILS(CLOSED, ipcio_read(conn, LONG_MS, &data, &size));
        ipcio_conn_free(conn);
        assert_int_equal(count_connections(path), 0);
        ipcio_server_free(server);
    }
}

static void test_both_killed(void **state)
{
    (void)state;
    for (size_t f = 0; f < COUNT(folders); f++) {
        const char *path = folders[f]();
        int before = count_entries(path);
        ipcio_server *server;
        struct child *victim = start("victim", address_of(path), NULL), *client;
        hear(victim, "listening");
        client = start("client", address_of(path), NULL);
        hear(client, "written");
        hear(victim, "written");
        kill(client->pid, SIGSTOP); /* so that neither cleans up after the other */
        kill9(victim);
        kill9(client);
        assert_int_equal(count_connections(path), 1);
        OK(ipcio_listen(address_of(path), NULL, &server)); /* sweeps */
        assert_int_equal(count_connections(path), 0);
        ipcio_server_free(server);
        assert_int_equal(count_entries(path), before);
    }
}

/* ------------------------------------------------------------------------------- a hostile, broken peer */

enum { FIRST = 2 }; /* the number of the client's first message */

static file_head head_of(const void *bytes, size_t size, unsigned number)
{
    file_head h = {.magic = FILE_MAGIC_BYTES, .number = number, .size = size};
    h.sum = file_sum(&h, bytes);
    return h;
}

static void put_with_head(const char *path, file_head h, const void *bytes, size_t size)
{
    unsigned char all[sizeof h + 200];
    CHECK(size <= 200);
    memcpy(all, &h, sizeof h);
    memcpy(all + sizeof h, bytes, size);
    put_file(path, all, sizeof h + size);
}

/* Puts at `path` what is not the file that was taken from there. */
static void rubbish(int what, const char *path, const unsigned char *taken, size_t n)
{
    unsigned char bytes[200];
    file_head h;
    memcpy(&h, taken, sizeof h);
    size_t size = n - sizeof h;
    memcpy(bytes, taken + sizeof h, size);
    switch (what) {
    case 0: put_file(path, "", 0); return;
    case 1: put_file(path, "rubbish", 7); return;
    case 2: CHECK(mkdir(path, 0700) == 0); return;
    case 3: CHECK(mkfifo(path, 0600) == 0); return;
    case 4: CHECK(symlink(text_of("%s.target", path), path) == 0); path = text_of("%s.target", path); break;
    case 5: put_file(path, "", 0); CHECK(truncate(path, 1 << 20) == 0); return; /* zeros */
    case 6: size--; break;                            /* torn */
    case 7: bytes[size - 1] ^= 0x80; break;           /* one bit */
    case 8: h = head_of(bytes, size, FIRST + 1); break;
    case 9: h = head_of(bytes, 0, FIRST); size = 0; break;
    case 10: h.size = UINT64_MAX; break;
    case 11: h.magic ^= 1; break;
    case 12: h.mark ^= 1; break;                      /* which the sum is over, too */
    case 13: bytes[12] = 9; h = head_of(bytes, size, FIRST); break; /* no frame of the stream */
    default: put_file(path, taken, n); CHECK(truncate(path, 1 << 20) == 0); return; /* zeros behind it */
    }
    put_with_head(path, h, bytes, size);
}

static void test_rubbish(void **state)
{
    (void)state;
    for (size_t f = 0; f < COUNT(folders); f++)
        for (int what = 0; what < 15; what++) {
            const char *path = folders[f]();
            unsigned char taken[200];
            struct pair pair;
            const void *data;
            size_t size;
            open_pair_in(&pair, path, NULL);
            const char *file = number_path(connection_in(path), 'c', FIRST);
            WRITES(pair.client, "hello");
            size_t n = get_file(file, taken, sizeof taken);
            CHECK(unlink(file) == 0 && n > sizeof(file_head) + 5);
            rubbish(what, file, taken, n);
            FAILS(PROTOCOL, ipcio_read(pair.peer, LONG_MS, &data, &size));
            FAILS(PROTOCOL, ipcio_read(pair.peer, LONG_MS, &data, &size));
            FAILS(CLOSED, ipcio_write(pair.peer, "x", 1, LONG_MS));
            FAILS(CLOSED, ipcio_read(pair.client, LONG_MS, &data, &size)); /* the other side is told */
            free_pair(&pair);
        }
}

/* What a writer finds in the way of its next file does not stop it, and what a link leads to is not touched. */
static void test_draft_in_the_way(void **state)
{
    const char *path = loud_folder(), *target = text_of("%s/target", path);
    struct pair pair;
    (void)state;
    open_pair_in(&pair, path, NULL);
    put_file(target, "precious", 8);
    CHECK(symlink(target, text_of("%s/c.new", connection_in(path))) == 0);
    WRITES(pair.client, "hello");
    READS(pair.peer, "hello");
    assert_int_equal(get_file(target, big, 100), 8);
    free_pair(&pair);
}

/* Frames come in the order of their numbers, whatever the order in which they appear. */
static void test_a_late_file(void **state)
{
    (void)state;
    for (size_t f = 0; f < COUNT(folders); f++) {
        const char *path = folders[f]();
        struct pair pair;
        const void *data;
        size_t size;
        open_pair_in(&pair, path, NULL);
        const char *first = number_path(connection_in(path), 'c', FIRST), *aside = text_of("%s/aside", path);
        WRITES(pair.client, "first");
        CHECK(rename(first, aside) == 0); /* the reader's host does not see it yet */
        WRITES(pair.client, "second");
        FAILS(TIMEOUT, ipcio_read(pair.peer, 20, &data, &size));
        CHECK(rename(aside, first) == 0);
        WRITES(pair.client, "third");
        READS(pair.peer, "first");
        READS(pair.peer, "second");
        READS(pair.peer, "third");
        free_pair(&pair);
    }
}

/* --------------------------------------------------------------------------- room, loops, removed folders */

static void test_unread_is_bounded(void **state)
{
    (void)state;
    for (size_t f = 0; f < COUNT(folders); f++) {
        const char *path = folders[f]();
        struct pair pair;
        const void *data;
        size_t size;
        int written = 0, st;
        open_pair_in(&pair, path, NULL);
        while ((st = ipcio_write(pair.client, "small", 5, IPCIO_TRY)) == 0)
            CHECK(++written < 10000);
        assert_int_equal(st, IPCIO_WANT_WRITE);
        assert_true(count_entries(connection_in(path)) == written + 4);
        FAILS(TIMEOUT, ipcio_give_up(pair.client, st, IPCIO_TIMEOUT, 0));
        FAILS(TIMEOUT, ipcio_write(pair.client, big, sizeof big, 10));
        for (int i = 0; i < written; i++)
            READS(pair.peer, "small");
        FAILS(TIMEOUT, ipcio_write(pair.client, big, sizeof big, 10)); /* a part of it is out, and taken back */
        int64_t bytes = 0;
        const char *connection = connection_in(path);
        DIR *dir = opendir(connection);
        for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
            struct stat s;
            CHECK(stat(text_of("%s/%s", connection, entry->d_name), &s) == 0);
            bytes += S_ISREG(s.st_mode) ? s.st_size : 0;
        }
        closedir(dir);
        assert_true(bytes < 6 << 20);
        FAILS(TIMEOUT, ipcio_read(pair.peer, 20, &data, &size));
        WRITES(pair.client, "after");
        READS(pair.peer, "after");
        free_pair(&pair);
    }
}

static bool poll_one(int fd, short events, int timeout)
{
    struct pollfd item = {fd, events, 0};
    return poll(&item, 1, timeout) == 1;
}

/* In a quiet folder the descriptor is readable when it is time to look. */
static void test_descriptors(void **state)
{
    (void)state;
    for (size_t f = 0; f < COUNT(folders); f++) {
        const char *path = folders[f]();
        struct pair pair;
        const void *data;
        size_t size;
        int st;
        open_pair_in(&pair, path, NULL);
        int fd = ipcio_fileno(pair.peer), room = ipcio_write_fileno(pair.client);
        if (f == 0)
            assert_false(poll_one(fd, POLLIN, 0));
        WRITES(pair.client, "one");
        WRITES(pair.client, "two");
        assert_true(poll_one(fd, POLLIN, LONG_MS));
        READS(pair.peer, "one");
        assert_true(poll_one(fd, POLLIN, LONG_MS)); /* level-triggered */
        READS(pair.peer, "two");
        if (f == 0)
            assert_false(poll_one(fd, POLLIN, 0));
        assert_true(poll_one(room, POLLOUT, 0));
        while ((st = ipcio_write(pair.client, "small", 5, IPCIO_TRY)) == 0)
            continue;
        assert_int_equal(st, IPCIO_WANT_WRITE);
        if (f == 0)
            assert_false(poll_one(room, POLLOUT, 0));
        while ((st = ipcio_write(pair.client, "small", 5, IPCIO_TRY)) > 0)
            if (!poll_one(room, POLLOUT, 0))
                READS(pair.peer, "small");
            else if (f == 1)
                READS(pair.peer, "small");
        OK(st);
        ipcio_conn_close(pair.client);
        while ((st = ipcio_read(pair.peer, LONG_MS, &data, &size)) == 0)
            continue;
        FAILS(CLOSED, st);
        assert_true(poll_one(fd, POLLIN, LONG_MS));
        free_pair(&pair);
    }
}

/* Closing in another thread ends a wait, also one that only a timer would end. */
static int reading(void *conn)
{
    const void *data;
    size_t size;
    return ipcio_read(conn, -1, &data, &size);
}

static void test_close_wakes(void **state)
{
    (void)state;
    for (size_t f = 0; f < COUNT(folders); f++) {
        struct pair pair;
        struct thread thread;
        open_pair_in(&pair, folders[f](), NULL);
        begin(&thread, reading, pair.peer);
        until_waiting(&thread);
        ipcio_conn_close(pair.peer);
        assert_int_equal(end(&thread), IPCIO_INVALID);
        free_pair(&pair);
    }
}

static void test_folder_disappears(void **state)
{
    (void)state;
    for (size_t f = 0; f < COUNT(folders); f++) {
        const char *path = folders[f]();
        struct pair pair;
        ipcio_conn *conn;
        const void *data;
        size_t size;
        open_pair_in(&pair, path, NULL);
        CHECK(remove_tree(path) == 0);
        FAILS(ORPHANED, ipcio_write(pair.client, "x", 1, LONG_MS));
        FAILS(ORPHANED, ipcio_read(pair.peer, LONG_MS, &data, &size));
        FAILS(ORPHANED, ipcio_accept(pair.server, LONG_MS, &conn));
        free_pair(&pair);
    }
}

/* Who looks by itself may find the peer's file missing when all else is still to be removed. */
static bool told_of_removal(int st, const char *how)
{
    return (st == IPCIO_ORPHANED && strstr(ipcio_message(), "removed")) || (st == IPCIO_CLOSED && strcmp(how, "quiet") == 0);
}

/* "waiter" ADDRESS quiet|loud HOW: says how its connection ended. */
static int waiter_role(char **arguments)
{
    const char *how = arguments[2];
    ipcio_conn *conn;
    ipcio_set *set;
    const void *data;
    void *which;
    size_t size;
    int st = IPCIO_TIMEOUT;
    OK(ipcio_connect(arguments[0], NULL, LONG_MS, &conn));
    OK(ipcio_set_new(&set));
    if (strcmp(how, "set") == 0)
        OK(ipcio_set_add(set, conn, IPCIO_WANT_READ));
    if (strcmp(how, "room") == 0)
        while ((st = ipcio_write(conn, "x", 1, IPCIO_TRY)) == 0)
            continue;
    tell("waiting");
    if (strcmp(how, "nothing") == 0)
        wait_for_end();
    else if (strcmp(how, "set") == 0)
        OK(ipcio_set_wait(set, ipcio_deadline(LONG_MS / 1000), &which));
    else if (strcmp(how, "room") == 0)
        while ((st = ipcio_write(conn, "x", 1, LONG_MS)) == 0) /* what is removed makes room at first */
            continue;
    else if (strcmp(how, "descriptor") == 0)
        while ((st = ipcio_read(conn, IPCIO_TRY, &data, &size)) > 0)
            CHECK(poll_one(ipcio_fileno(conn), POLLIN, LONG_MS));
    if (strcmp(how, "room") != 0)
        st = ipcio_read(conn, LONG_MS, &data, &size);
    if (strcmp(how, "nothing") != 0)
        tell(told_of_removal(st, arguments[1]) ? "told" : ipcio_message());
    ipcio_set_free(set);
    ipcio_conn_free(conn);
    return 0;
}

/* Whoever waits is told, and by him the other side. */
static void test_folder_disappears_while_waiting(void **state)
{
    static const char *const ways[] = {"call", "set", "descriptor", "room", "nothing"};
    (void)state;
    for (size_t f = 0; f < COUNT(folders); f++)
        for (size_t way = 0; way < COUNT(ways); way++) {
            const char *kind = folders[f] == quiet_folder ? "quiet" : "loud";
            bool idle = strcmp(ways[way], "nothing") == 0;
            const char *path = folders[f]();
            struct pair pair = {0};
            struct thread thread;
            OK(ipcio_listen(address_of(path), NULL, &pair.server));
            struct child *waiter = start("waiter", address_of(path), kind, ways[way], NULL);
            OK(ipcio_accept(pair.server, LONG_MS, &pair.peer));
            hear(waiter, "waiting");
            if (idle) {
                begin(&thread, reading, pair.peer);
                until_waiting(&thread);
            } else {
                until_asleep(waiter->pid);
            }
            int64_t removed = now_ms();
            do
                (void)remove_tree(path); /* the waiter may still put a file there */
            while (access(path, F_OK) == 0);
            if (idle)
                (void)end(&thread);
            else
                hear(waiter, "told");
            assert_true(now_ms() - removed < AT_ONCE_MS);
            assert_true(told_of_removal(reading(pair.peer), kind));
            assert_true(told_of_removal(ipcio_write(pair.peer, "x", 1, LONG_MS), kind));
            finish(waiter);
            free_pair(&pair);
        }
}

static void test_folder_disappears_while_connecting(void **state)
{
    (void)state;
    for (size_t f = 0; f < COUNT(folders); f++) {
        const char *path = folders[f]();
        ipcio_server *server;
        ipcio_conn *conn;
        OK(ipcio_listen(address_of(path), NULL, &server));
        doomed = path;
        FAILS(MISSING, ipcio_connect(address_of(path), NULL, 0, &conn));
        assert_null(doomed);
        ipcio_server_free(server);
    }
}

static void test_durable(void **state)
{
    struct pair pair;
    (void)state;
    open_pair_in(&pair, loud_folder(), NULL);
    int before = atomic_load(&synced);
    WRITES(pair.client, "hello");
    assert_int_equal(atomic_load(&synced), before);
    free_pair(&pair);
    open_pair_in(&pair, loud_folder(), "durable=1");
    before = atomic_load(&synced);
    WRITES(pair.client, "hello");
    assert_int_equal(atomic_load(&synced), before + 2); /* the file, then the folder */
    READS(pair.peer, "hello");
    free_pair(&pair);
}

/* ------------------------------------------------------------------ another host, where locks are not shared
 *
 * A record that says that it was written in another place, by one who holds no lock that can be seen here. */

static file_record elsewhere(const char *path, uint32_t lease)
{
    file_record r;
    CHECK(get_file(path, &r, sizeof r) == sizeof r);
    r.place[0] ^= 1;
    r.lease = lease;
    return r;
}

static void set_age(const char *path, time_t seconds)
{
    const struct timespec past[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = time(NULL) - seconds}};
    CHECK(utimensat(AT_FDCWD, path, past, 0) == 0);
}

static void test_a_server_elsewhere(void **state)
{
    const char *path = loud_folder(), *lock = text_of("%s/" FILE_LOCK, path), *server_path = text_of("%s/" FILE_SERVER, path);
    ipcio_server *server;
    ipcio_conn *conn;
    (void)state;
    OK(ipcio_listen(address_of(path), NULL, &server));
    file_record r = elsewhere(server_path, 1000);
    ipcio_server_free(server);
    put_file(server_path, &r, sizeof r);
    put_file(lock, "", 0);
    FAILS(EXISTS, ipcio_listen(address_of(path), NULL, &server)); /* it was written just now */
    assert_int_equal(access(lock, F_OK), 0);
    const char *draft = text_of("%s/" FILE_DRAFT, path);
    CHECK(mkdir(draft, 0700) == 0);
    FAILS(EXISTS, ipcio_listen(address_of(path), NULL, &server)); /* before it has seen whether that lives */
    assert_int_equal(access(lock, F_OK), 0);
    assert_int_equal(access(server_path, F_OK), 0);
    CHECK(rmdir(draft) == 0);
    OK(ipcio_connect(address_of(path), NULL, LONG_MS, &conn)); /* and may take clients in */
    WRITES(conn, "hello");
    set_age(lock, 2000); /* its lease is over */
    ipcio_conn *late;
    FAILS(TIMEOUT, ipcio_connect(address_of(path), NULL, 20, &late));
    OK(ipcio_listen(address_of(path), NULL, &server));
    OK(ipcio_accept(server, LONG_MS, &late));
    READS(late, "hello");
    ipcio_conn_free(late);
    ipcio_conn_free(conn);
    ipcio_server_free(server);
    assert_int_equal(count_entries(path), 0);
}

/* Its lock's file says that it lives, from the first moment, though it is a dead one's. */
static void test_a_new_server_is_no_dead_one(void **state)
{
    (void)state;
    for (size_t f = 0; f < COUNT(folders); f++) {
        const char *path = folders[f](), *lock = text_of("%s/" FILE_LOCK, path);
        struct child *victim = start("victim", address_of(path), NULL);
        struct stat s;
        ipcio_server *server;
        ipcio_conn *conn = NULL;
        hear(victim, "listening");
        kill9(victim);
        set_age(lock, 2000);
        assert_true(ipcio_connect(address_of(path), NULL, IPCIO_TRY, &conn) > 0); /* finds it dead */
        OK(ipcio_listen(address_of(path), NULL, &server));
        assert_true(stat(lock, &s) == 0 && time(NULL) - s.st_mtime < 1000);
        int st, tries = 0;
        while ((st = ipcio_connect(address_of(path), NULL, IPCIO_TRY, &conn)) > 0 && ++tries < 10)
            continue;
        OK(st);
        ipcio_conn_free(conn);
        ipcio_server_free(server);
    }
}

enum { LEASE_MS = 2000 }; /* of keepalive=1 */

/* A client whose folder was put there by another host: it lives as long as its file is touched. */
static void test_a_client_elsewhere(void **state)
{
    const char *path = quiet_folder(), *other = quiet_folder();
    struct pair pair;
    ipcio_server *server;
    ipcio_conn *conn;
    const void *data;
    size_t size;
    (void)state;
    OK(ipcio_listen(address_of(other), NULL, &server)); /* whose client it is first */
    OK(ipcio_connect(address_of(other), NULL, LONG_MS, &conn));
    WRITES(conn, "hello");
    const char *from = connection_in(other), *connection = text_of("%s/%s", path, strrchr(from, '/') + 1);
    char *waiting = strdup(connection);
    file_record r = elsewhere(number_path(from, 'c', 0), 2);
    CHECK(mkdir(connection, 0700) == 0);
    put_file(text_of("%s/client", connection), "", 0);
    put_file(number_path(connection, 'c', 0), &r, sizeof r);
    for (unsigned i = 1; i <= FIRST; i++)
        CHECK(rename(number_path(from, 'c', i), number_path(connection, 'c', i)) == 0);
    strrchr(waiting, '/')[sizeof FILE_PREFIX] = 'w';
    put_file(waiting, "", 0);
    ipcio_conn_free(conn);
    ipcio_server_free(server);

    pair = (struct pair){0};
    OK(ipcio_listen(address_of(path), "keepalive=1", &pair.server)); /* what is not there is no dead one's */
    OK(ipcio_accept(pair.server, LONG_MS, &pair.peer));
    READS(pair.peer, "hello");
    CHECK(access(waiting, F_OK) != 0);
    ipcio_peer peer;
    FAILS(UNSUPPORTED, ipcio_conn_peer(pair.peer, &peer));
    int st = IPCIO_TIMEOUT;
    int64_t begun = now_ms(), touched = begun;
    while (st == IPCIO_TIMEOUT && now_ms() - begun < 3 * LEASE_MS / 2) {
        st = ipcio_read(pair.peer, 400, &data, &size);
        if (st == IPCIO_CLOSED && now_ms() - touched >= LEASE_MS) break; /* this test itself was kept from touching it */
        FAILS(TIMEOUT, st);
        touched = now_ms();
        CHECK(utimensat(AT_FDCWD, text_of("%s/client", connection), NULL, 0) == 0);
    }
    FAILS(CLOSED, ipcio_read(pair.peer, LONG_MS, &data, &size)); /* it is not heard of any more */
    free_pair(&pair);
    assert_int_equal(count_connections(path), 0);
    free(waiting);
}

/* Names that say that a client waits where none does, or not any more, keep no other out, and end no timeout. */
static void test_nobody_waits(void **state)
{
    const char *path = quiet_folder();
    const char *nobody = text_of("%s/" FILE_PREFIX "w%032x", path, 1), *strange = text_of("%s/" FILE_PREFIX "w%032x", path, 2);
    const char *folder = text_of("%s/" FILE_PREFIX "c%032x", path, 2);
    ipcio_server *server;
    ipcio_conn *conn;
    struct pair pair;
    (void)state;
    OK(ipcio_listen(address_of(path), NULL, &server));
    put_file(nobody, "", 0);
    put_file(strange, "", 0);
    CHECK(mkdir(folder, 0700) == 0);
    FAILS(TIMEOUT, ipcio_accept(server, 50, &conn));
    CHECK(access(nobody, F_OK) != 0 && access(strange, F_OK) == 0);
    pair = (struct pair){.server = server};
    OK(ipcio_connect(address_of(path), NULL, LONG_MS, &pair.client));
    OK(ipcio_accept(server, LONG_MS, &pair.peer));
    CHECK(unlink(strange) == 0 && rmdir(folder) == 0);
    put_file(text_of("%s/" FILE_PREFIX "w%s", path, strrchr(connection_in(path), '/') + 1 + sizeof FILE_PREFIX), "", 0);
    FAILS(TIMEOUT, ipcio_accept(server, 50, &conn)); /* it was taken in before */
    WRITES(pair.client, "hello");
    READS(pair.peer, "hello");
    free_pair(&pair);
    assert_int_equal(count_connections(path), 0);
}

int main(int argc, char **argv)
{
    static const struct role roles[] = {{"echo", echo_role}, {"victim", victim_role}, {"waiter", waiter_role}, {"client", client_role}, {NULL, NULL}};
    static const struct CMUnitTest tests[] = {
        TEST(test_nothing_is_left),      TEST(test_a_name_leaves_nothing), TEST(test_a_name_removed_while_it_is_taken),
        TEST(test_foreign_files_stay),
        TEST(test_a_foreign_lock_stays), TEST(test_a_planted_lock), TEST(test_a_foreign_file_in_the_way), TEST(test_removed_while_serving),
        TEST(test_the_folder_must_be_there), TEST(test_killed),
        TEST(test_client_killed_in_the_queue), TEST(test_both_killed),     TEST(test_rubbish),
        TEST(test_draft_in_the_way),      TEST(test_a_late_file),
        TEST(test_unread_is_bounded),    TEST(test_descriptors),           TEST(test_close_wakes),
        TEST(test_folder_disappears), TEST(test_folder_disappears_while_waiting),
        TEST(test_folder_disappears_while_connecting),
        TEST(test_durable),               TEST(test_a_server_elsewhere),
        TEST(test_a_new_server_is_no_dead_one), TEST(test_a_client_elsewhere), TEST(test_nobody_waits),
    };
    RUN(argc, argv, roles, tests);
}
