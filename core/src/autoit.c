/* autoit.c - the calls of AutoIt's IPC_IO over servers and connections.
 *
 * A connection is a number.  Numbers only count up, so one that was closed never means another.  Each stands
 * for an entry, whose state says which calls are in order. */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/address.h"
#include "base/handle.h"

enum state { OPENING, SERVING, CONNECTED };

typedef struct {
    int fd;
    enum state state;
    bool block;
    ipcio_sleep *sleep;
    void *context;
    int64_t due; /* when it is called next; 0: no call waits */
    char *address, options[32]; /* of one that is still to be opened */
    ipcio_server *server;    /* NULL: a client */
    ipcio_conn *conn;
    /* the four steps */
    bool reading;
    enum { NOT_WRITING, SIZING, WRITING } writing; /* WriteStart was called; WriteSize too */
    size_t size;
} entry;

static entry **table; /* sorted by fd, as they come; under the process's lock */
static size_t count, room;
static int last_fd;
static _Atomic int interval = 10;

static entry *find(int fd)
{
    process_lock();
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (table[middle]->fd < fd) low = middle + 1;
        else high = middle;
    }
    entry *e = low < count && table[low]->fd == fd ? table[low] : NULL;
    process_unlock();
    return e;
}

/* What was not ended by the end of the process is closed, so that no name stays.  Another thread may be in a call: nothing
 * is freed. */
static void at_exit(void)
{
    for (;;) {
        process_lock();
        entry *e = count > 0 ? table[--count] : NULL;
        process_unlock();
        if (!e) return;
        if (e->conn) ipcio_conn_close(e->conn);
        if (e->server) ipcio_server_close(e->server);
    }
}

static int enter(entry *e)
{
    static bool hooked;
    process_lock();
    hooked = hooked || atexit(at_exit) == 0;
    int fd = IPCIO_NOMEMORY;
    if (count == room) {
        size_t more = room ? room * 2 : 16;
        entry **grown = realloc(table, more * sizeof *grown);
        if (grown) table = grown, room = more;
    }
    if (count < room) {
        fd = e->fd = ++last_fd;
        table[count++] = e;
    }
    process_unlock();
    return fd > 0 ? fd : ipcio__fail(fd, "no memory for a connection");
}

static void destroy(entry *e)
{
    ipcio_conn_free(e->conn);
    ipcio_server_free(e->server);
    free(e->address);
    free(e);
}

static void leave(entry *e)
{
    process_lock();
    size_t i = 0;
    while (i < count && table[i] != e) i++;
    bool found = i < count;
    if (found) memmove(table + i, table + i + 1, (--count - i) * sizeof *table);
    process_unlock();
    if (found) destroy(e);
}

/* ------------------------------------------------------------------------------------ order of calls */

enum { CLIENT = 1, SERVER = 2, BOTH = 3 };

static int wrong(int fd, const char *call, const char *why)
{
    return ipcio__fail(IPCIO_INVALID, "%s(%d): %s", call, fd, why);
}

/* The entry, if `call` is in order for it: made by Init or Open as `kind` says, in `state`. */
static int entry_for(int fd, const char *call, int kind, enum state state, entry **to)
{
    entry *e = *to = find(fd);
    if (!e) return wrong(fd, call, "there is no such connection");
    if (!(kind & (e->server ? SERVER : CLIENT)))
        return wrong(fd, call, e->server ? "it is a server's connection" : "it is a client's connection");
    if (e->state == state) return 0;
    if (e->state == OPENING) return wrong(fd, call, "the connection is not open yet");
    return wrong(fd, call, e->state == SERVING ? "no client is connected; call StartConnection first"
                                               : "a client is connected; call StopConnection first");
}

/* ------------------------------------------------------------------------------------------ waiting */

static bool suspends(const entry *e)
{
    return e->sleep == IPCIO_SUSPEND;
}

static void *handle_of(entry *e)
{
    return e->conn ? (void *)e->conn : (void *)e->server;
}

/* As ipcio_wait, but TIMEOUT as soon as the sleep function is due, however short the single waits are. */
static int wait_till_due(entry *e, void *on, int want)
{
    if (e->due == 0) e->due = os_now() + atomic_load(&interval) * MILLISECOND;
    int st = ipcio_wait(on, want, e->due);
    if (st == 0 && os_now() >= e->due) st = IPCIO_TIMEOUT;
    if (st == IPCIO_TIMEOUT) e->due = 0;
    return st;
}

/* What a call does that answered `want`: below 0 end with it, 0 repeat the call, above 0 answer that. */
static int pause_for(entry *e, void *on, int want)
{
    if (!e->block) return ipcio_give_up(on, want, IPCIO_TIMEOUT, 0);
    if (suspends(e)) return want;
    int fd = e->fd;
    int st = e->sleep ? wait_till_due(e, on, want) : ipcio_wait(on, want, DEADLINE_NEVER);
    if (st == IPCIO_TIMEOUT) {
        st = e->sleep(e->context) == 0 ? 0 : IPCIO_TIMEOUT;
        if (fd && (find(fd) != e || on != handle_of(e)))
            return ipcio__fail(IPCIO_INVALID, "connection %d was closed by the sleep function", fd);
    }
    if (st == 0 || st == IPCIO_INTERRUPTED) return 0;
    return ipcio_give_up(on, want, st == IPCIO_TIMEOUT ? IPCIO_INTERRUPTED : st, -1);
}

/* After a try that gave *st: whether to try again.  If not, *st is the call's answer. */
static bool again(entry *e, void *on, int *st)
{
    if (*st <= 0) {
        e->due = 0;
        return false;
    }
    *st = pause_for(e, on, *st);
    return *st == 0;
}

int ipcio_SleepInterval(int ms)
{
    if (ms == 0) return atomic_load(&interval);
    if (ms < 1 || ms > 1000) return ipcio__fail(IPCIO_INVALID, "a sleep interval is 1 to 1000 ms, not %d", ms);
    return atomic_exchange(&interval, ms);
}

int ipcio_SleepConnection(int fd, int want, int timeout)
{
    entry *e = find(fd);
    if (!e) return wrong(fd, "SleepConnection", "there is no such connection");
    return timeout ? ipcio_wait(handle_of(e), want, deadline_in(timeout)) : wait_till_due(e, handle_of(e), want);
}

int ipcio_GiveUpConnection(int fd, int want, int status)
{
    entry *e = find(fd);
    if (!e) return wrong(fd, "GiveUpConnection", "there is no such connection");
    int st = ipcio_give_up(handle_of(e), want, status, -1);
    e->due = 0;
    if (e->state == OPENING) leave(e);
    return st;
}

/* ----------------------------------------------------------------------------------------- resources */

/* Where a server and a client of this user meet that name no resource. */
static void default_resource(int type, char name[16])
{
    enum { FIRST = 61000, PORTS = 65536 - FIRST }; /* beyond those that Linux gives to clients */
    if (type == ipcio_cTCP) (void)snprintf(name, 16, "%u", (unsigned)(FIRST + os_user() % PORTS));
    else (void)snprintf(name, 16, "ipcio");
}

/* The address for a type and a resource, allocated. */
static int make_address(int type, const char *resource, char **to)
{
    static const char *const schemes[] = {"pipe", "file", "tcp", "shm", "mailslot"};
    if (type < 0 || type >= (int)(sizeof schemes / sizeof *schemes))
        return ipcio__fail(IPCIO_INVALID, "%d is not a type of connection", type);
    char usual[16];
    default_resource(type, usual);
    const char *name = resource && *resource ? resource : usual;
    bool whole = strstr(name, "://") || strncmp(name, "\\\\", 2) == 0;
    const char *const *there = ipcio_transports();
    while (*there && strcmp(*there, schemes[type]) != 0) there++;
    if (!whole && !*there)
        return ipcio__fail(IPCIO_UNSUPPORTED, "connections of type %d, %s, are not in this build", type, schemes[type]);
    size_t size = 3 * strlen(name) + 32;
    char *text = *to = malloc(size);
    if (!text) return ipcio__fail(IPCIO_NOMEMORY, "no memory for a connection");
    int n = whole ? snprintf(text, size, "%s", name) : snprintf(text, size, "%s://", schemes[type]);
    if (!whole) (void)address_encode(name, text + n, size - (size_t)n);
    return 0;
}

static int create(int type, const char *resource, int block, ipcio_sleep *sleep, void *context, int bufsize, entry **to)
{
    entry *e = *to = calloc(1, sizeof *e);
    if (!e) return ipcio__fail(IPCIO_NOMEMORY, "no memory for a connection");
    *e = (entry){.block = block != 0, .sleep = sleep, .context = context};
    /* The usual size asks for nothing special: shared memory then grows as it needs. */
    if (bufsize != IPCIO_DEFAULT_BUFSIZE) (void)snprintf(e->options, sizeof e->options, "buffer=%d", bufsize);
    int st = make_address(type, resource, &e->address);
    if (st != 0) destroy(e);
    return st;
}

int ipcio_InitConnection(int type, const char *resource, int block, ipcio_sleep *sleep, void *context, int bufsize)
{
    entry *e;
    int st = create(type, resource, block, sleep, context, bufsize, &e);
    if (st != 0) return st;
    e->state = SERVING;
    if ((st = ipcio_listen(e->address, e->options, &e->server)) == 0) st = enter(e);
    if (st < 0) destroy(e);
    return st;
}

static int connect_step(entry *e)
{
    int st = ipcio_connect(e->address, e->options, e->block ? IPCIO_TRY : 0, &e->conn);
    if (st == 0) {
        e->state = CONNECTED;
        e->due = 0;
    }
    return st;
}

int ipcio_OpenConnection(int type, const char *resource, int block, ipcio_sleep *sleep, void *context, int bufsize)
{
    entry *e;
    int st = create(type, resource, block, sleep, context, bufsize, &e);
    if (st != 0) return st;
    e->state = OPENING;
    do st = connect_step(e);
    while (again(e, e->conn, &st));
    if (st >= 0) st = enter(e);
    if (st < 0) destroy(e);
    return st;
}

int ipcio_FinishOpenConnection(int fd)
{
    entry *e = find(fd);
    if (!e || e->server) return wrong(fd, "FinishOpenConnection", "there is no such connection");
    if (e->state == CONNECTED) return 0;
    int st = connect_step(e);
    if (st < 0) leave(e);
    return st;
}

/* ---------------------------------------------------------------------------------------- the calls */

/* Declares `e` and `st`: the entry of fd, if a call of that name is in order for it. */
#define ENTRY(name, kind, in_state)                                                                            \
    entry *e;                                                                                                  \
    int st = entry_for(fd, name, kind, in_state, &e);                                                          \
    if (st != 0) return st

/* Tries until that is through, pausing as the entry wants it. */
#define TRY(on, call)                                                                                          \
    do st = (call);                                                                                            \
    while (again(e, on, &st))

int ipcio_StartConnection(int fd)
{
    ENTRY("StartConnection", SERVER, SERVING);
    TRY(e->server, ipcio_accept(e->server, IPCIO_TRY, &e->conn));
    if (st == 0) e->state = CONNECTED;
    return st;
}

int ipcio_StopConnection(int fd)
{
    ENTRY("StopConnection", SERVER, CONNECTED);
    ipcio_conn_free(e->conn);
    e->conn = NULL;
    e->reading = false;
    e->writing = NOT_WRITING;
    e->state = SERVING;
    return 0;
}

/* Ends an entry of `kind` in whatever state it is. */
static int end(int fd, const char *call, int kind)
{
    entry *e = find(fd);
    enum state any = e ? e->state : CONNECTED;
    int st = entry_for(fd, call, kind, any, &e);
    if (st == 0) leave(e);
    return st;
}

int ipcio_EndConnection(int fd)
{
    return end(fd, "EndConnection", SERVER);
}

int ipcio_CloseConnection(int fd)
{
    return end(fd, "CloseConnection", CLIENT);
}

int ipcio_ReadData(int fd, const void **data, size_t *size)
{
    ENTRY("ReadData", BOTH, CONNECTED);
    TRY(e->conn, ipcio_read(e->conn, IPCIO_TRY, data, size));
    return st;
}

int ipcio_WriteData(int fd, const void *data, size_t size)
{
    ENTRY("WriteData", BOTH, CONNECTED);
    if (e->writing) return wrong(fd, "WriteData", "a message is being written in steps; call WriteEnd first");
    TRY(e->conn, ipcio_write(e->conn, data, size, IPCIO_TRY));
    return st;
}

int ipcio_ReadStart(int fd)
{
    ENTRY("ReadStart", BOTH, CONNECTED);
    TRY(e->conn, ipcio_read_start(e->conn, IPCIO_TRY, &e->size));
    if (st == 0) e->reading = true;
    return st;
}

int ipcio_ReadSize(int fd, size_t *size)
{
    ENTRY("ReadSize", BOTH, CONNECTED);
    if (!e->reading) return wrong(fd, "ReadSize", "no message is being read; call ReadStart first");
    *size = e->size;
    return 0;
}

int ipcio_ReadBuffer(int fd, void *to, size_t n, size_t *got)
{
    ENTRY("ReadBuffer", BOTH, CONNECTED);
    if (!e->reading) return wrong(fd, "ReadBuffer", "call ReadStart first");
    TRY(e->conn, ipcio_read_buffer(e->conn, to, n, IPCIO_TRY, got));
    return st;
}

int ipcio_ReadEnd(int fd)
{
    ENTRY("ReadEnd", BOTH, CONNECTED);
    if (!e->reading) return wrong(fd, "ReadEnd", "call ReadStart first");
    e->reading = false;
    return ipcio_read_end(e->conn, IPCIO_TRY);
}

int ipcio_WriteStart(int fd)
{
    ENTRY("WriteStart", BOTH, CONNECTED);
    if (e->writing) return wrong(fd, "WriteStart", "a message is being written already");
    e->writing = SIZING;
    return 0;
}

int ipcio_WriteSize(int fd, size_t size)
{
    ENTRY("WriteSize", BOTH, CONNECTED);
    if (e->writing != SIZING)
        return wrong(fd, "WriteSize", e->writing ? "the size was said already" : "call WriteStart first");
    TRY(e->conn, ipcio_write_start(e->conn, size, IPCIO_TRY));
    if (st <= 0) e->writing = st == 0 ? WRITING : NOT_WRITING;
    return st;
}

int ipcio_WriteBuffer(int fd, const void *data, size_t n)
{
    ENTRY("WriteBuffer", BOTH, CONNECTED);
    if (e->writing != WRITING) return wrong(fd, "WriteBuffer", "call WriteStart and WriteSize first");
    TRY(e->conn, ipcio_write_buffer(e->conn, data, n, IPCIO_TRY));
    return st;
}

int ipcio_WriteEnd(int fd)
{
    ENTRY("WriteEnd", BOTH, CONNECTED);
    if (e->writing != WRITING) return wrong(fd, "WriteEnd", "call WriteStart and WriteSize first");
    TRY(e->conn, ipcio_write_end(e->conn, IPCIO_TRY));
    if (st <= 0) e->writing = NOT_WRITING;
    return st;
}
