/* ipcio.i - what both languages see of ipcio.h, declared once.
 *
 * swig/lua.i and swig/python.i include this file.  Before that each defines, for its language:
 *
 *   ipcio_caller               what check_signals needs to know of the calling interpreter
 *   IPCIO_BLOCKING(statement)  runs the statement, which may sleep; other threads of the interpreter go on
 *   check_signals(caller)      runs the interpreter's signal handlers; not 0 when one raised an error
 *
 * and the typemaps of these types and argument names:
 *
 *   ipcio_st        result: below 0 the error, above 0 what to wait for (IPCIO_WANT_...), 0 success, where
 *                   the values come from the output arguments
 *   ipcio_ok        result: the same, but success itself is the value: true, None
 *   ipcio_int       result: below 0 the error, else the value
 *   ipcio_seconds   a timeout; nil and None are -1, for ever; below 0 and NaN are IPCIO_INVALID
 *   ipcio_file      an open file: an object of the language or a descriptor
 *   ipcio_caller *caller, void *handle (a Connection or a Server), int and size_t, const char *address,
 *   const char *options and const char *ResourceName (text without NUL, else IPCIO_INVALID; the last two
 *   may be nil or None: NULL), (const void *data, size_t size) (bytes), (const void *note, size_t note_size) (bytes, or
 *   nothing), (void *to, size_t n, size_t *got) (n is given, a piece of `got` bytes is answered), ipcio_file *taken (a
 *   file is answered), int64_t and uint64_t, (void *whole, size_t n, size_t *got) (n is given, that many bytes are
 *   answered); only output: (const void **data, size_t *size) (a message), size_t *length, size_t *written,
 *   ipcio_conn **conn, ipcio_server **server, ipcio_set **set, ipcio_peer *peer, const char **text,
 *   void **which and the result void * (the key of a handle), const char *const * (a list)
 *
 * Methods without a body are functions of ipcio.h, whose comments say what they do.
 */

%runtime %{
/* The status of a call that the interpreter's own error ended: the error is set already. */
#define IPCIO_RAISED (-1000)
%}

%{
#include "ipcio.h"

typedef int ipcio_st;
typedef int ipcio_ok;
typedef int ipcio_int;
typedef double ipcio_seconds;
typedef intptr_t ipcio_file;

/* A piece may be shorter than asked for: no more memory than this is taken for what may not come. */
enum { PIECE_MOST = 1 << 20 };

/* Done without the interpreter's lock, where it may take long in the system. */
#define UNLOCKED(statement, handle)                                                                            \
    do {                                                                                                       \
        if (ipcio_blocks(handle)) IPCIO_BLOCKING(statement);                                                   \
        else statement;                                                                                        \
    } while (0)

/* A signal may also come just before the sleep, and does not end it then: so signals are looked for after
 * every wait, and no sleep is longer than this. */
#define LONGEST_SLEEP_MS 1000

static int64_t sleep_until(int64_t deadline)
{
    int64_t look = ipcio_deadline(LONGEST_SLEEP_MS / 1e3);
    return look < deadline ? look : deadline;
}

/* Waits until a call that wants `want` is worth repeating: 0.  Otherwise the call is given up. */
static int wait_for(ipcio_caller *caller, void *handle, int want, int64_t deadline, double seconds)
{
    int64_t until = sleep_until(deadline);
    int st;

    IPCIO_BLOCKING(st = ipcio_wait(handle, want, until));
    int raised = check_signals(caller);
    if (!raised && (st == 0 || st == IPCIO_INTERRUPTED || (st == IPCIO_TIMEOUT && until < deadline)))
        return 0;
    UNLOCKED(st = ipcio_give_up(handle, want, raised ? IPCIO_INTERRUPTED : st, raised ? -1 : seconds), handle);
    return raised ? IPCIO_RAISED : st;
}

/* The loop that ipcio.h shows under WAITING ELSEWHERE.  `call` is tried once in any case; with a timeout of
 * 0 the core does all of it. */
#define FIRST (timeout == 0 ? 0 : IPCIO_TRY)
#define LOOK (timeout == 0 ? 0 : IPCIO_SPIN) /* in a conversation the answer comes sooner than waiting for it has begun */
#define REPEAT(st, call, handle)                                                                               \
    do {                                                                                                       \
        TRY(st, call, handle);                                                                                 \
        if (st > 0) {                                                                                          \
            int64_t deadline = ipcio_deadline(timeout);                                                        \
            while (st > 0 && (st = wait_for(caller, handle, st, deadline, timeout)) == 0)                      \
                TRY(st, call, handle);                                                                         \
        }                                                                                                      \
    } while (0)
#define TRY(st, call, handle) UNLOCKED(st = (call), handle)
#define ONE_TRY(call, handle)                                                                                  \
    do {                                                                                                       \
        int st;                                                                                                \
        TRY(st, call, handle);                                                                                 \
        return st;                                                                                             \
    } while (0)
%}

#ifndef SWIGLUA /* where modules share the classes of one name */
%rename(Connection) ipcio_conn;
%rename(Server) ipcio_server;
%rename(Set) ipcio_set;
#endif
%nodefaultctor;

typedef struct {} ipcio_conn;
typedef struct {} ipcio_server;
typedef struct {} ipcio_set;

%extend ipcio_conn {
    ~ipcio_conn() { IPCIO_BLOCKING(ipcio_conn_free($self)); }

    ipcio_st read(ipcio_caller *caller, const void **data, size_t *size, ipcio_seconds timeout = -1) {
        int st;
        REPEAT(st, ipcio_read($self, LOOK, data, size), $self);
        return st;
    }
    ipcio_ok write(ipcio_caller *caller, const void *data, size_t size, ipcio_seconds timeout = -1) {
        int st;
        REPEAT(st, ipcio_write($self, data, size, FIRST), $self);
        return st;
    }
    /* The request is named like the written message, the answer like a read one: so are their typemaps. */
    ipcio_st call(ipcio_caller *caller, const void *data, size_t size, const void **answer, size_t *answer_size,
                  ipcio_seconds timeout = -1) {
        int st;
        REPEAT(st, ipcio_call($self, data, size, LOOK, answer, answer_size), $self);
        return st;
    }

    ipcio_ok send_file(ipcio_caller *caller, ipcio_file file, const void *note, size_t note_size,
                       ipcio_seconds timeout = -1) {
        int st;
        REPEAT(st, ipcio_send_file($self, file, note, note_size, FIRST), $self);
        return st;
    }
    ipcio_st take_file(ipcio_file *taken) { return ipcio_take_file($self, taken); }

    ipcio_st read_start(ipcio_caller *caller, size_t *length, ipcio_seconds timeout = -1) {
        int st;
        REPEAT(st, ipcio_read_start($self, FIRST, length), $self);
        return st;
    }
    /* At most n bytes; no bytes when the message is through. */
    ipcio_st read_buffer(ipcio_caller *caller, void *to, size_t n, size_t *got, ipcio_seconds timeout = -1) {
        int st;
        REPEAT(st, ipcio_read_buffer($self, to, n, FIRST, got), $self);
        return st;
    }
    ipcio_ok read_end(ipcio_caller *caller, ipcio_seconds timeout = -1) {
        int st;
        REPEAT(st, ipcio_read_end($self, FIRST), $self);
        return st;
    }
    ipcio_ok write_start(ipcio_caller *caller, size_t announced, ipcio_seconds timeout = -1) {
        int st;
        REPEAT(st, ipcio_write_start($self, announced, FIRST), $self);
        return st;
    }
    ipcio_ok write_buffer(ipcio_caller *caller, const void *data, size_t size, ipcio_seconds timeout = -1) {
        int st;
        REPEAT(st, ipcio_write_buffer($self, data, size, FIRST), $self);
        return st;
    }
    ipcio_ok write_end(ipcio_caller *caller, ipcio_seconds timeout = -1) {
        int st;
        REPEAT(st, ipcio_write_end($self, FIRST), $self);
        return st;
    }

    ipcio_int fileno() { ONE_TRY(ipcio_fileno($self), $self); }
    ipcio_int write_fileno() { ONE_TRY(ipcio_write_fileno($self), $self); }
    ipcio_st peer(ipcio_peer *peer);
    ipcio_st sender(const char **text);
    const char *address();
    %rename(close) shut; /* the functions' own names are taken */
    ipcio_ok shut() {
        IPCIO_BLOCKING(ipcio_conn_close($self));
#ifdef SWIGLUA /* whose strings are copies, and which collects garbage late */
        ipcio_conn_forget($self);
#endif
        return 0;
    }
}

%extend ipcio_server {
    ~ipcio_server() { IPCIO_BLOCKING(ipcio_server_free($self)); }

    ipcio_st accept(ipcio_caller *caller, ipcio_conn **conn, ipcio_seconds timeout = -1) {
        int st;
        REPEAT(st, ipcio_accept($self, FIRST, conn), $self);
        return st;
    }
    ipcio_int fileno() { return ipcio_fileno($self); }
    const char *address();
    %rename(stop) halt;
    ipcio_ok halt() { ipcio_server_stop($self); return 0; }
    %rename(close) shut;
    ipcio_ok shut() { IPCIO_BLOCKING(ipcio_server_close($self)); return 0; }
}

/* serve stands on a set, in the language itself: its handlers cannot be called through the core. */
%extend ipcio_set {
    ~ipcio_set() { UNLOCKED(ipcio_set_free($self), $self); }

    %rename(add) put;
    ipcio_ok put(void *handle, int want) { ONE_TRY(ipcio_set_add($self, handle, want), $self); }
    %rename(remove) drop;
    void drop(void *handle) { UNLOCKED(ipcio_set_remove($self, handle), $self); }
    %rename(wait) next;
    ipcio_st next(ipcio_caller *caller, void **which, ipcio_seconds timeout = -1) {
        int64_t deadline = ipcio_deadline(timeout), until;
        int st;
        for (;;) {
            until = sleep_until(deadline);
            IPCIO_BLOCKING(st = ipcio_set_wait($self, until, which));
            if (check_signals(caller))
                return IPCIO_RAISED;
            if (st != IPCIO_INTERRUPTED && (st != IPCIO_TIMEOUT || until == deadline))
                return st;
        }
    }
    ipcio_int fileno() { return ipcio_fileno($self); }
    ipcio_st try_wait(void **which) {
        int st;
        TRY(st, ipcio_set_wait($self, 0, which), $self);
        return st == IPCIO_TIMEOUT || st == IPCIO_INTERRUPTED ? IPCIO_WANT_READ : st;
    }
}

%rename(listen) open_server;
%rename(connect) open_conn;
%rename(new_set) open_set;
%inline %{
ipcio_st open_server(const char *address, const char *options, ipcio_server **server)
{
    int st;
    TRY(st, ipcio_listen(address, options, server), NULL);
    return st;
}

ipcio_st open_conn(ipcio_caller *caller, const char *address, const char *options, ipcio_conn **conn,
                          ipcio_seconds timeout)
{
    int st;

    *conn = NULL;
    REPEAT(st, ipcio_connect(address, options, FIRST, conn), *conn);
    if (st < 0) {
        ipcio_conn_free(*conn);
        *conn = NULL;
    }
    return st;
}

ipcio_st open_set(ipcio_set **set)
{
    return ipcio_set_new(set);
}

/* One try, for serve and event loops: the value, the error, or what to wait for. */
ipcio_st try_accept(ipcio_server *server, ipcio_conn **conn)
{
    ONE_TRY(ipcio_accept(server, IPCIO_TRY, conn), server);
}

ipcio_st try_read(ipcio_conn *conn, const void **data, size_t *size)
{
    ONE_TRY(ipcio_read(conn, IPCIO_TRY, data, size), conn);
}

ipcio_ok try_write(ipcio_conn *conn, const void *data, size_t size)
{
    ONE_TRY(ipcio_write(conn, data, size, IPCIO_TRY), conn);
}

ipcio_ok try_send_file(ipcio_conn *conn, ipcio_file file, const void *note, size_t note_size)
{
    ONE_TRY(ipcio_send_file(conn, file, note, note_size, IPCIO_TRY), conn);
}

ipcio_st try_call(ipcio_conn *conn, const void *data, size_t size, const void **answer, size_t *answer_size)
{
    ONE_TRY(ipcio_call(conn, data, size, IPCIO_TRY, answer, answer_size), conn);
}

ipcio_st try_read_start(ipcio_conn *conn, size_t *length)
{
    ONE_TRY(ipcio_read_start(conn, IPCIO_TRY, length), conn);
}

ipcio_st try_read_buffer(ipcio_conn *conn, void *to, size_t n, size_t *got)
{
    ONE_TRY(ipcio_read_buffer(conn, to, n, IPCIO_TRY, got), conn);
}

ipcio_ok try_read_end(ipcio_conn *conn)
{
    ONE_TRY(ipcio_read_end(conn, IPCIO_TRY), conn);
}

ipcio_ok try_write_start(ipcio_conn *conn, size_t announced)
{
    ONE_TRY(ipcio_write_start(conn, announced, IPCIO_TRY), conn);
}

ipcio_ok try_write_buffer(ipcio_conn *conn, const void *data, size_t size)
{
    ONE_TRY(ipcio_write_buffer(conn, data, size, IPCIO_TRY), conn);
}

ipcio_ok try_write_end(ipcio_conn *conn)
{
    ONE_TRY(ipcio_write_end(conn, IPCIO_TRY), conn);
}

/* Gives up a call that wanted `want`: it has waited for so long, or was interrupted (nil, None). */
ipcio_ok give_up(void *handle, int want, ipcio_seconds timeout)
{
    ONE_TRY(ipcio_give_up(handle, want, timeout < 0 ? IPCIO_INTERRUPTED : IPCIO_TIMEOUT, timeout), handle);
}

/* What Set.wait answers for this handle. */
void *key(void *handle)
{
    return handle;
}

const char *const *transports(void)
{
    return ipcio_transports();
}
%}

%rename(read_memory) copy_memory;
%inline %{
ipcio_st copy_memory(int64_t pid, uint64_t address, void *whole, size_t n, size_t *got)
{
    int st;

    IPCIO_BLOCKING(st = ipcio_memory_read(pid, address, whole, n, got));
    return st;
}
%}

%constant int WANT_READ = IPCIO_WANT_READ;
%constant int WANT_WRITE = IPCIO_WANT_WRITE;
%constant char *VERSION = IPCIO_VERSION;

/* --------------------------------------------------------------------------------- the AutoIt names
 *
 * One try each, as ipcio_st: sleep functions are called by the language, which also repeats the call. */

%constant int cNamedPipe = ipcio_cNamedPipe;
%constant int cFile = ipcio_cFile;
%constant int cTCP = ipcio_cTCP;
%constant int cSharedMem = ipcio_cSharedMem;
%constant int cMailSlot = ipcio_cMailSlot;
%constant int cDefaultType = ipcio_cDefaultType;
%constant int DEFAULT_BUFSIZE = IPCIO_DEFAULT_BUFSIZE;

%inline %{
ipcio_int InitConnection(int cType, const char *ResourceName, int bBlock, int iBufSize)
{
    return ipcio_InitConnection(cType, ResourceName, bBlock, IPCIO_SUSPEND, NULL, iBufSize);
}

ipcio_int OpenConnection(int cType, const char *ResourceName, int bBlock, int iBufSize)
{
    return ipcio_OpenConnection(cType, ResourceName, bBlock, IPCIO_SUSPEND, NULL, iBufSize);
}

ipcio_st WriteData(int iFD, const void *data, size_t size, size_t *written)
{
    *written = size;
    return ipcio_WriteData(iFD, data, size);
}

/* Waits, where there is a sleep function (`sleeps`) up to the sleep interval.  1 when that passed: call the function;
 * 0: only try again. */
ipcio_int SleepConnection(ipcio_caller *caller, int iFD, int want, int sleeps)
{
    int st;

    IPCIO_BLOCKING(st = ipcio_SleepConnection(iFD, want, sleeps ? 0 : LONGEST_SLEEP_MS));
    if (check_signals(caller)) {
        ipcio_GiveUpConnection(iFD, want, IPCIO_INTERRUPTED);
        return IPCIO_RAISED;
    }
    if (st < 0 && st != IPCIO_INTERRUPTED && st != IPCIO_TIMEOUT)
        return st;
    return st == IPCIO_TIMEOUT;
}

/* Gives up a call whose sleep function ended it, and answers as that call: interrupted. */
ipcio_ok GiveUpConnection(int iFD, int want)
{
    return ipcio_GiveUpConnection(iFD, want, IPCIO_INTERRUPTED);
}
%}

%rename("%(strip:[ipcio_])s", regextarget=1) "^ipcio_[A-Z]";
ipcio_ok ipcio_FinishOpenConnection(int iFD);
ipcio_ok ipcio_StartConnection(int iFD);
ipcio_st ipcio_ReadData(int iFD, const void **data, size_t *size);
ipcio_ok ipcio_StopConnection(int iFD);
ipcio_ok ipcio_EndConnection(int iFD);
ipcio_ok ipcio_CloseConnection(int iFD);
ipcio_ok ipcio_ReadStart(int iFD);
ipcio_st ipcio_ReadSize(int iFD, size_t *length);
ipcio_st ipcio_ReadBuffer(int iFD, void *to, size_t n, size_t *got);
ipcio_ok ipcio_ReadEnd(int iFD);
ipcio_ok ipcio_WriteStart(int iFD);
ipcio_ok ipcio_WriteSize(int iFD, size_t announced);
ipcio_ok ipcio_WriteBuffer(int iFD, const void *data, size_t size);
ipcio_ok ipcio_WriteEnd(int iFD);
ipcio_int ipcio_SleepInterval(int ms);
