/* ipcio.h - scripts on one machine exchange data and take turns.
 *
 * This header is the whole public C API and its reference manual.  The Lua and the Python module have
 * the same calls; docs/guide.md shows them.
 *
 * A server listens at an address and accepts connections; a client connects to the address.  Either
 * side then reads and writes messages.
 *
 *     ipcio_server *server;                              ipcio_conn *conn;
 *     ipcio_conn *conn;                                  const void *answer;
 *     const void *request;                               size_t size;
 *     size_t size;
 *     ipcio_listen("pipe://greeter", NULL, &server);     ipcio_connect("pipe://greeter", NULL, 5000, &conn);
 *     ipcio_accept(server, -1, &conn);                   ipcio_call(conn, "world", 5, 1000, &answer, &size);
 *     ipcio_read(conn, -1, &request, &size);
 *     ipcio_write(conn, "hello", 5, -1);
 *
 * CAVEATS
 *  - An address is trusted, a peer is not: whatever it sends is checked.  Who may connect is decided by the file
 *    system, or over tcp and udp by asking the kernel; that is this user and root.
 *  - The pointer that ipcio_read gives lies in the connection's own memory.  It is valid until the next
 *    reading call, ipcio_conn_forget or ipcio_conn_free.
 *  - After fork() the child's handles answer IPCIO_FORKED.  A child made by a bare clone system call,
 *    past libc, keeps the parent's descriptors, and peers learn of the parent's death when it ends too.
 *
 * ADDRESSES
 *  scheme://name?option=value&option=value.  A name is any UTF-8 of 1 to 255 bytes without NUL; '?', '&',
 *  '%' and a leading '/' are percent-encoded.  scheme:///absolute/path is a path, used as given.
 *  \\.\pipe\NAME is pipe://NAME and \\.\mailslot\NAME is mailslot://NAME.  In a name '\' and '/' are the
 *  same.  "Local\" before a name means this user, which is the default.
 *
 *  shm://name and pipe://name are different names.
 *
 *  tcp://HOST:PORT, tcp://[IPv6]:PORT, or tcp://PORT for this machine alone (127.0.0.1).  Port 0 lets the system choose:
 *  see ipcio_server_address.  A HOST that is a name is looked up by the system, which may take longer than a timeout.
 *  udp://HOST:PORT and its like: see DATAGRAMS.
 *  fd://N takes over descriptor N, a stream socket that is connected (ipcio_connect) or listening (ipcio_listen): it is
 *  closed with the handle.  After INVALID it still belongs to the caller.  A pair of connected ones speaks ipcio when
 *  both ends are adopted.
 *
 *  file:///path is a folder that is there, file://name one in ipcio's own: see FILES.
 *
 *  fifo:///path is a FIFO, to meet programs that know nothing of ipcio: a stream of one direction.  See FIFO.
 *
 *  Options are refused (INVALID) by a transport that would not heed them; those that name no transport here all have.
 *
 *  option      value                    default    meaning
 *  limit       1 to 4294967295 bytes    67108864   longest message this side takes and sends
 *  buffer      1024 to 1073741824                  bytes read ahead, else 65536; over shm those of each ring, which the
 *                                                  client makes, else 28 KiB that grow to up to 4 MiB under a stream; of
 *                                                  udp what the system keeps unread, else 4 MiB if it gives as much.
 *                                                  Never limits a message
 *  framing     message, line, raw       message    how messages are cut: see FRAMING.  fifo: line (its default), raw;
 *                                                  shm, file: message
 *  text        utf-8, utf-16le          utf-8      utf-16le: the peer has that, this side UTF-8
 *  nul         0, 1                     0          1: the peer ends each message with a NUL
 *  keepalive   0 to 32767 seconds       60         tcp, file: a peer that is silent for so long is asked whether it
 *                                                  lives, and given up after twice that; 0: never
 *  access      user, all                user       tcp, udp, listening: which users of this machine may connect (root
 *                                                  always may).  Who listens beyond 127.0.0.1 admits all other
 *                                                  machines
 *  durable     0, 1                     0          file: 1: a message is on the disk before its write returns
 *  direction   read, write              write      fifo, connecting: what this side does
 *  interface   a name                              udp: the network interface where a group is meant, such as lo
 *  ttl         1 to 255                 1          udp: how many networks a datagram to a group may see
 *  files       0, 1                     0          pipe, fd: 1: this side takes files that the peer passes: see ipcio_send_file
 *
 * FRAMING
 *  Both sides choose the same.  `line` and `raw` are for peers that know nothing of ipcio.
 *
 *  message   Whole messages of any bytes.  Both sides tell each other their limit, and what is over it is refused before
 *            anything is sent: see TOOBIG.  Over tcp, where the server cannot be asked before it has accepted, a longer
 *            message than 4096 bytes waits for that; a shorter one is dropped by the server if it is over its limit.
 *  line      A message is a line, without its line feed and a carriage return before that.  A message that holds a line
 *            feed, or ends in a carriage return, is INVALID and not sent.
 *  raw       Writing sends bytes, and reading gives the bytes that have come, at most `limit`.  An empty message sends
 *            nothing.  With nul=1 a message is the bytes before a NUL.
 *
 *  In `line` and `raw` nothing that was sent can be taken back, and no late answer be told from the next: a call that
 *  fails after its message was sent, and a write given up half way, close the connection.  Over tcp a client that wrote
 *  and left before accept is turned away: the system no longer tells whose it was, and access=all admits it.
 *
 * FILES
 *  Over file messages are files in a folder that both sides reach, maybe from two hosts or containers.  Where both see it
 *  by one kernel they wake each other; elsewhere they look, from every 0.2 ms to every 100 ms.  A peer elsewhere counts as
 *  dead after twice keepalive without a sign.  At most some 4 MiB are unread, then writing waits.  Only clients of the
 *  user who made the server's files are let in.  The names ipcio.* and ipcio-c* in the folder are ipcio's, other files
 *  stay.  ORPHANED: the folder was removed; who waits learns that within a quarter of a second, and the other side then.
 *
 * FIFO
 *  Who listens reads: ipcio_listen makes the FIFO, for this user alone, or uses the one that is there.  What ipcio did
 *  not make stays.
 *  Its client is whoever writes: a connection lasts from the first byte until nobody has the FIFO open for writing,
 *  when reading answers CLOSED, and then the next can be accepted.  Several writers at a time are one connection.
 *  ipcio_connect opens it for writing when somebody reads, or with direction=read for reading; then it is CLOSED when
 *  the writers have gone.  The other direction, a call and the peer are UNSUPPORTED.  A line, with its end, of up to
 *  4096 bytes is not mixed with those of other writers, a longer one may be.  Half a line at the end of a connection is
 *  dropped, and the message of CLOSED says so; but when another writer comes before the reader has seen that the last one
 *  has gone, it becomes the beginning of his first line: the system does not tell them apart.  What is not read yet is
 *  lost when nobody has the FIFO open any more.  When it was removed, who waits in ipcio_accept is told (ORPHANED), unless
 *  another FIFO took its place, which is then heard.
 *
 * DATAGRAMS
 *  Over udp a message is one datagram, of at most 65483 bytes (65507 in `raw`); a longer one is TOOBIG.  It arrives
 *  whole, twice, out of order or not at all, and what nobody reads is dropped when the system's buffer is full.  In
 *  the framing `message` who closes tells it, by a datagram too; of a death a client learns only when what it writes
 *  finds nobody at the port any more: CLOSED.  On this machine ipcio_connect waits for a server, as ever; of others
 *  it cannot be known.
 *
 *  A server has one connection for all who write to it.  ipcio_accept gives it when the first of them comes, and
 *  again after it was closed.  Writing answers who sent what was read last, see ipcio_conn_sender; so another thread
 *  that writes does not know to whom.  The first one's close ends it, the others' do not; closing it tells who was
 *  read last.  What came from others by then is for the next.
 *
 *  A multicast group (udp://239.1.2.3:5000) may have any number of servers; each joins it, and a client writes to
 *  all of them and reads what each answers.  So it is with a broadcast address, at which several cannot listen.  To
 *  a call the first answer counts.
 *
 *  With access=user a server drops what other users of this machine send, and in `line` and `raw` also what was sent
 *  by who has closed since, on this machine: the system does not tell any more whose that was.  At a group
 *  everybody is heard.
 *
 * TIMEOUTS
 *  Milliseconds.  0 tries once, -1 (IPCIO_FOREVER) waits for ever, and IPCIO_TRY and IPCIO_SPIN never wait: see
 *  WAITING ELSEWHERE.  One monotonic deadline holds for a whole call.
 *
 * ERRORS
 *  Every call that can fail returns a status: 0 for success, below 0 an error of the table below.
 *  ipcio_message() then says, for the calling thread, what was tried, on which name and why it failed.
 *
 * THREADS
 *  Handles of different connections are independent.  Of one connection, one thread may read while
 *  another writes; a second reader or writer at the same time is IPCIO_INVALID and disturbs nothing.
 *  ipcio_*_close may be called from any thread at any time and wakes those who wait.  ipcio_*_free must
 *  be the last call.  The library starts no thread and installs no signal handler; a signal does not end
 *  a wait (but see ipcio_wait).
 *
 * FORK, EXEC
 *  Every descriptor is close-on-exec.  A fork handler closes the library's descriptors in the child.
 */
#ifndef IPCIO_H
#define IPCIO_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define IPCIO_API __declspec(dllexport)
#else
#define IPCIO_API __attribute__((visibility("default")))
#endif

#define IPCIO_VERSION "0.1.0"

/* ---------------------------------------------------------------------------------------- statuses */

/* X(NAME, number, code, Python class, Python base, meaning).  The one table of what can go wrong: the
 * enum below, the codes that Lua answers and the classes that Python raises all come from it. */
#define IPCIO_STATUS_MAP(X)                                                                                    \
    X(TIMEOUT, -1, "timeout", "TimedOut", "TimeoutError", "the deadline passed")                               \
    X(MISSING, -2, "missing", "Missing", "FileNotFoundError", "nobody has the name")                           \
    X(EXISTS, -3, "exists", "Exists", "FileExistsError", "a live server has the name")                         \
    X(CLOSED, -4, "closed", "Closed", "ConnectionError", "the peer is gone")                                   \
    X(DENIED, -5, "denied", "Denied", "PermissionError", "this user may not")                                  \
    X(TOOBIG, -6, "toobig", "TooBig", "ValueError", "over the limit, or the buffer is too short")              \
    X(FULL, -7, "full", "Full", "BlockingIOError", "a queue, a count or a table is at its maximum")            \
    X(INVALID, -8, "invalid", "Invalid", "ValueError", "misuse: bad address, option or order of calls")        \
    X(PROTOCOL, -9, "protocol", "ProtocolError", "ConnectionError", "the peer broke the rules")                \
    X(NOTOWNER, -10, "notowner", "NotOwner", "PermissionError", "released by another than the holder")         \
    X(DEADLOCK, -11, "deadlock", "Deadlock", "RuntimeError", "the wait could never end")                       \
    X(ABORTED, -12, "aborted", "Aborted", "ConnectionError", "the writer gave the message up half way")        \
    X(ORPHANED, -13, "orphaned", "Orphaned", "RuntimeError", "the object's file was removed from outside")     \
    X(FORKED, -14, "forked", "Forked", "RuntimeError", "the handle belongs to the process before fork")        \
    X(INTERRUPTED, -15, "interrupted", "Interrupted", "InterruptedError", "a signal or sleep function ended it") \
    X(UNSUPPORTED, -16, "unsupported", "Unsupported", "NotImplementedError", "not on this system or transport") \
    X(NOMEMORY, -17, "nomemory", "NoMemory", "MemoryError", "memory is used up")                               \
    X(SYSTEM, -18, "system", "System", "OSError", "the operating system refused")

enum ipcio_status {
    IPCIO_OK = 0,
#define X(name, number, code, class_, base, meaning) IPCIO_##name = number,
    IPCIO_STATUS_MAP(X)
#undef X
    /* Above 0: only where the timeout was IPCIO_TRY or IPCIO_SPIN.  Give them to ipcio_wait. */
    IPCIO_WANT_READ = 1, /* repeat the call when the handle can be read */
    IPCIO_WANT_WRITE = 2 /* repeat the call when the handle can be written */
};

#define IPCIO_FOREVER (-1)
#define IPCIO_TRY (-2)
#define IPCIO_SPIN (-3)

/* The code of a status, such as "timeout"; "ok" for 0, "unknown" for a number that is none. */
IPCIO_API const char *ipcio_code(int status);

/* The calling thread's last error as a sentence; "" before the first.  Valid until its next error. */
IPCIO_API const char *ipcio_message(void);

/* The operating system's own number (errno, GetLastError) behind the last error of the calling thread, or
 * 0 where the system had no part in it. */
IPCIO_API int ipcio_system_error(void);

/* The schemes this build can listen at and connect to: an array ended by NULL, never freed. */
IPCIO_API const char *const *ipcio_transports(void);

/* ----------------------------------------------------------------------------------------- servers */

typedef struct ipcio_server ipcio_server;
typedef struct ipcio_conn ipcio_conn;

/* Takes the name and begins to listen.
 *   address   see ADDRESSES
 *   options   more options in the address's own form, "limit=1000&buffer=4096", or NULL.  They go before
 *             those of the address.
 *   server    receives the handle; free it with ipcio_server_free.  NULL after an error.
 * The name is free again when the server is closed and when its process ends, in whatever way.  A socket
 * file that a dead ipcio server left is replaced; a file that ipcio did not create never is.
 * Errors: EXISTS a live server has the name, a foreign file lies there, or the port is in use; INVALID bad address or option;
 * DENIED the directory is not this user's, or may not be written; MISSING a path's folder; UNSUPPORTED a \\HOST or
 * Global\ name; NOMEMORY; SYSTEM (out of descriptors, ...). */
IPCIO_API int ipcio_listen(const char *address, const char *options, ipcio_server **server);

/* Waits for the next client.  Clients that connected before are kept in order; one that has gone again is
 * handed out all the same, and reading tells.
 *   timeout   see TIMEOUTS
 *   conn      receives the handle; free it with ipcio_conn_free.  It outlives the server.
 * Errors: TIMEOUT; INTERRUPTED ipcio_server_stop was called; INVALID the server is closed; FORKED; ORPHANED its FIFO
 * was removed; SYSTEM (out of descriptors: the client stays in the queue and the call can be repeated). */
IPCIO_API int ipcio_accept(ipcio_server *server, int timeout, ipcio_conn **conn);

/* What a handler does with a request: it may write any number of answers, or none.  What it returns below
 * 0 (other than CLOSED and INVALID of the connection itself) ends ipcio_serve with that status. */
typedef int ipcio_handler(void *context, ipcio_conn *conn, const void *request, size_t size);

/* Answers all clients, one request at a time, in the calling thread, until the server is closed or
 * stopped (returns 0).  A connection whose client has gone, or broke the rules, is freed.
 *   handler   called with a connection that it must neither free nor read from
 * Errors: as accept, and what the handler returned. */
IPCIO_API int ipcio_serve(ipcio_server *server, ipcio_handler *handler, void *context);

/* Ends a running ipcio_serve, or the next one; the name and the queue of clients stay.  A waiting ipcio_accept,
 * or the next one, answers INTERRUPTED.  May be called from any thread, from a handler and from a signal
 * handler. */
IPCIO_API void ipcio_server_stop(ipcio_server *server);

/* The address with what the system chose filled in, without options.  Valid while the handle is. */
IPCIO_API const char *ipcio_server_address(const ipcio_server *server);

/* Gives the name back and wakes whoever waits in accept or serve.  Connections go on.  Idempotent. */
IPCIO_API void ipcio_server_close(ipcio_server *server);

/* Closes and frees.  NULL is allowed. */
IPCIO_API void ipcio_server_free(ipcio_server *server);

/* ------------------------------------------------------------------------------------- connections */

/* Connects, waiting for the server to appear if need be.
 *   conn   receives the handle; free it with ipcio_conn_free.  NULL after an error.  With IPCIO_TRY set it
 *          to NULL before the first call and leave it as it is for the repeated ones; after an error of one of
 *          these the handle is closed, and still to be freed.
 * Errors: TIMEOUT nobody served the name in time; MISSING the same, with timeout 0; INVALID bad address or
 * option; DENIED; UNSUPPORTED; NOMEMORY; SYSTEM. */
IPCIO_API int ipcio_connect(const char *address, const char *options, int timeout, ipcio_conn **conn);

/* Waits for the next message and takes it.
 *   data, size   receive the message.  An empty message is a message.  *data lies in the connection's own
 *                memory, is never NULL, and is valid until the next reading call.
 * What the peer sent before it closed, or died, is delivered first.
 * Errors: TIMEOUT; CLOSED the peer is gone; TOOBIG a message over this side's limit came and was dropped,
 * the connection goes on; PROTOCOL the peer broke the rules, the connection is closed; INVALID closed on
 * this side, or another thread is reading, or a message is being read in pieces; FORKED; NOMEMORY and SYSTEM: the message
 * is not lost, the call can be repeated. */
IPCIO_API int ipcio_read(ipcio_conn *conn, int timeout, const void **data, size_t *size);

/* Sends one message.  If the connection's last message read was a call, this is its answer.
 *   data, size   the message; with IPCIO_TRY the same in every repeated call
 * Returns when the system has taken all of it, not when the peer has read it.
 * Errors: TIMEOUT (the peer will not see any part of it, the connection is usable); CLOSED (what the peer had
 * written can still be read); TOOBIG over either side's limit: nothing was sent, the connection is usable;
 * INVALID closed on this side, or another thread is writing, or a message is being written in pieces; FORKED;
 * NOMEMORY; SYSTEM. */
IPCIO_API int ipcio_write(ipcio_conn *conn, const void *data, size_t size, int timeout);

/* Writes a message and reads the next one, under one deadline.  When a call fails after its message was
 * sent, the answer that may still come is dropped, so that it never answers a later call.
 * Parameters and errors as ipcio_write and ipcio_read. */
IPCIO_API int ipcio_call(ipcio_conn *conn, const void *data, size_t size, int timeout, const void **answer,
                         size_t *answer_size);

/* Passes an open file to the peer with a message: as ipcio_write, and the peer can take the file when it has read the
 * message.  Both then have the same open file, with one offset.  Over pipe, and fd where that is a Unix socket, in the
 * framing `message`, to a peer whose option `files` is 1; over fd it first waits until the peer has told that.
 *   file         a descriptor of any sort; stays open here, and must until the call is through
 *   data, size   the message, which may be empty
 * Errors: as ipcio_write; INVALID also `file` is not open, or over fd another thread reads when the peer has told nothing
 * yet; UNSUPPORTED another transport or framing, or the peer takes no files: nothing was sent; FULL the system holds too
 * many files for this user that nobody has received yet: nothing was sent.  After TIMEOUT the peer may have received the
 * file with a part of the message; it closes both unseen. */
IPCIO_API int ipcio_send_file(ipcio_conn *conn, intptr_t file, const void *data, size_t size, int timeout);

/* Takes the file that came with the message that was read last, by whatever call, or is being read in pieces.  It can be
 * taken once, until the next reading call, ipcio_read_end too; if nobody takes it, it is closed.
 *   file   receives the descriptor, which is close-on-exec and the caller's to close
 * A server's handler may call it for its request.
 * Errors: MISSING none came; SYSTEM one came when this process had no descriptor left for it, and is lost; INVALID closed
 * on this side, or another thread is reading; FORKED. */
IPCIO_API int ipcio_take_file(ipcio_conn *conn, intptr_t *file);

/* Reading in pieces: start, buffer until the message is through, end.
 *   size    the length of the next message
 *   to, n   where the next piece goes and how long it may be
 *   got     how long it was: 1 to n, or 0 when the message is through
 * End drops what was not read and gives the room back.  Until then no other message can be read.  A message that a
 * timed out ipcio_read has begun to take can only be read whole.
 * Errors: as ipcio_read; ABORTED the writer gave the message up half way (call end, and go on; what was read of it may
 * be zeros); INVALID buffer or end without start. */
IPCIO_API int ipcio_read_start(ipcio_conn *conn, int timeout, size_t *size);
IPCIO_API int ipcio_read_buffer(ipcio_conn *conn, void *to, size_t n, int timeout, size_t *got);
IPCIO_API int ipcio_read_end(ipcio_conn *conn, int timeout);

/* Writing in pieces: start with the length of the message, buffer until all of it is given, end.
 * The peer sees the message only after end; an end that comes too early gives the message up (INVALID).
 * Each call has its own timeout; one that timed out may be repeated, and end gives the message up.
 * Errors: as ipcio_write; INVALID buffer or end without start, or more bytes than start announced. */
IPCIO_API int ipcio_write_start(ipcio_conn *conn, size_t length, int timeout);
IPCIO_API int ipcio_write_buffer(ipcio_conn *conn, const void *data, size_t n, int timeout);
IPCIO_API int ipcio_write_end(ipcio_conn *conn, int timeout);

/* Writing in place: room for a message, which the caller fills; ipcio_write_end sends it.  Where the transport has such
 * memory (shm, for a message of less than half a ring) the room lies where the peer reads it, and nothing is copied.
 *   to   receives the room, length bytes of any content.  The caller's until ipcio_write_end or ipcio_conn_free.
 * Nothing is sent before ipcio_write_end, and until then no other message can be written; after an error of that,
 * none was sent.  Who asks for room again has given up the message before.  (ipcio_read gives messages in place already.)
 * Errors: as ipcio_write; TIMEOUT there was no room; INVALID also a message is being written in pieces. */
IPCIO_API int ipcio_write_view(ipcio_conn *conn, size_t length, int timeout, void **to);

/* Who is at the other end, as the system vouches for it; a field it cannot tell is -1.  On a connection
 * made by ipcio_connect it is the process that called listen.
 * Errors: INVALID closed on this side; FORKED; UNSUPPORTED the transport cannot tell. */
typedef struct {
    int64_t pid, uid, gid;
} ipcio_peer;
IPCIO_API int ipcio_conn_peer(ipcio_conn *conn, ipcio_peer *peer);

/* Who wrote the message that was read last, as an address, where a connection may have many peers: over udp.
 *   address   receives it, such as "udp://127.0.0.1:40000"; valid until the next reading call
 * Errors: MISSING nothing was read yet; UNSUPPORTED the peer is always the same; INVALID closed on this side, or
 * another thread is reading; FORKED. */
IPCIO_API int ipcio_conn_sender(ipcio_conn *conn, const char **address);

/* The address it was connected to, or the server's.  Valid while the handle is. */
IPCIO_API const char *ipcio_conn_address(const ipcio_conn *conn);

/* Ends the connection; the peer still reads what was sent (over tcp not what the system has still to send when the peer,
 * instead of reading, sends more).  Wakes whoever waits on it in another thread;
 * those get INVALID.  Idempotent. */
IPCIO_API void ipcio_conn_close(ipcio_conn *conn);

/* Frees the memory that a closed connection keeps for who still looks at the message that was read last, or at room that was given
 * out: shared memory, and what long messages were collected in.  For owners that copy messages and free handles late,
 * as a language's garbage collector does.  Nothing happens while the connection is open, used by another thread, or in a set. */
IPCIO_API void ipcio_conn_forget(ipcio_conn *conn);

/* Closes and frees.  NULL is allowed. */
IPCIO_API void ipcio_conn_free(ipcio_conn *conn);

/* --------------------------------------------------------------------------------- waiting elsewhere
 *
 * For event loops, coroutines and bindings.  With the timeout IPCIO_TRY a call never waits: where it would
 * have to it keeps what it has done and returns IPCIO_WANT_READ or IPCIO_WANT_WRITE.  Wait for that in
 * whatever way, then repeat the call with the same arguments.  Who does not repeat it calls ipcio_give_up.
 *
 *     while ((want = ipcio_write(conn, data, size, IPCIO_TRY)) > 0)
 *         if ((st = ipcio_wait(conn, want, deadline)) < 0 && st != IPCIO_INTERRUPTED)
 *             return ipcio_give_up(conn, want, st, seconds);
 *
 * IPCIO_SPIN, for ipcio_read and ipcio_call, is IPCIO_TRY for who is going to wait: where waiting by spinning has paid lately (shm), it
 * first looks for some 2 us, so that an answer that comes at once is read before any wait has begun.
 *
 * A `handle` below is an ipcio_conn or an ipcio_server. */

/* Nanoseconds of the monotonic clock. */
IPCIO_API int64_t ipcio_now(void);

/* The deadline `seconds` from now, below 0 for ever; what is beyond 292 years is for ever too. */
IPCIO_API int64_t ipcio_deadline(double seconds);

/* Waits until a call is worth repeating: spins for as long as that paid lately, then sleeps.
 *   want       IPCIO_WANT_READ or IPCIO_WANT_WRITE
 *   deadline   of ipcio_deadline
 * Returns 0 to say "try again" (which may turn out to be too early), TIMEOUT, INTERRUPTED after a signal,
 * INVALID or FORKED for the handle, NOMEMORY, SYSTEM.  Sets ipcio_message for all but the first three. */
IPCIO_API int ipcio_wait(void *handle, int want, int64_t deadline);

/* Whether any call on the handle may take long in the system, whatever its timeout: over `file` a folder is asked, which may
 * be slow or on another host.  An interpreter's lock is given up first for such a call.  True for NULL, listening and
 * connecting, and for a set that such a handle was in. */
IPCIO_API int ipcio_blocks(const void *handle);

/* Gives up a call that answered IPCIO_WANT_...: an unfinished write is aborted, an unfinished call
 * forgotten, an unfinished connect freed by its owner.
 *   want      what the call answered last
 *   status    TIMEOUT, INTERRUPTED or what ended the wait; it is returned, with its message made
 *   seconds   how long the wait was, for the message of TIMEOUT; below 0 where it does not matter */
IPCIO_API int ipcio_give_up(void *handle, int want, int status, double seconds);

/* A descriptor that is readable when there is something to read (to accept, for a server) or the end, and one
 * that is writable when there is room.  Level-triggered, for select, poll and event loops; owned by the handle.
 * While only a part of a message has come it is readable until a reading call has taken that in: use timeout 0.
 * Below 0: a status. */
IPCIO_API int ipcio_fileno(void *handle);
IPCIO_API int ipcio_write_fileno(ipcio_conn *conn);

/* Waiting for one of many connections and servers, each in one set at most.  A set is used by one thread.
 *   want    what to wait for, IPCIO_WANT_READ or IPCIO_WANT_WRITE.  Add a handle again to change it.
 *   which   receives the handle for which a call is worth repeating; ask again for the others.  A handle that
 *           was closed counts as ready, and keeps its descriptors until it is removed or freed.
 * Adding a connection sees whether a message was read ahead.  Who reads only some of what there is adds it again
 * before the next wait.
 * Errors: TIMEOUT; INTERRUPTED after a signal; INVALID; FORKED; NOMEMORY; SYSTEM. */
typedef struct ipcio_set ipcio_set;
IPCIO_API int ipcio_set_new(ipcio_set **set);
IPCIO_API int ipcio_set_add(ipcio_set *set, void *handle, int want);
IPCIO_API void ipcio_set_remove(ipcio_set *set, void *handle);
IPCIO_API int ipcio_set_wait(ipcio_set *set, int64_t deadline, void **which);
IPCIO_API void ipcio_set_free(ipcio_set *set);

/* --------------------------------------------------------------------------- memory of another process
 *
 * A process tells another where a buffer lies, and that one reads it when it likes, without the first taking part.
 * Nothing keeps it from reading while the buffer changes.
 *
 * The system decides who may read: a process of the same user, unless the other has changed its user since it began,
 * or one with the capability SYS_PTRACE.  Where kernel.yama.ptrace_scope is 1, which many systems have, only an
 * ancestor may, and once ipcio_memory_export was called every process of the user: all memory, not the buffer alone.
 * With 2 it needs the capability, with 3 nobody may.  Both are in one PID namespace. */

/* Lets the processes of this user read this one's memory, for as long as it lives.
 *   data           a buffer, which must stay where it is
 *   pid, address   receive what the reader needs, besides the size
 * Errors: none so far. */
IPCIO_API int ipcio_memory_export(const void *data, int64_t *pid, uint64_t *address);

/* Copies memory of another process.
 *   to, n   where it goes, and how much; NULL: the caller had no memory for it, NOMEMORY
 *   got     receives how many bytes were copied, after an error too
 * Errors: MISSING no such process; DENIED; INVALID nothing can be read at the address; TOOBIG only the first *got bytes
 * can be; UNSUPPORTED; NOMEMORY; SYSTEM. */
IPCIO_API int ipcio_memory_read(int64_t pid, uint64_t address, void *to, size_t n, size_t *got);

/* --------------------------------------------------------------------------------- the AutoIt names
 *
 * The calls of AutoIt's IPC_IO, a thin layer over the above.  A connection is a small integer that is never
 * given twice; one thread uses it at a time.  What is open when the process ends by exit, or main returns, is closed.  A server: Init, Start (waits for a client), Read and Write, Stop (this client), Start again,
 * or End.  A client: Open, Write and Read, Close.  A call in another order is INVALID. */

enum ipcio_type { ipcio_cNamedPipe, ipcio_cFile, ipcio_cTCP, ipcio_cSharedMem, ipcio_cMailSlot };
#define ipcio_cDefaultType ipcio_cNamedPipe
#define ipcio_cDefaultBlocking 1
#define IPCIO_DEFAULT_BUFSIZE 65536

/* Called every 10 ms (ipcio_SleepInterval) while a call waits.  Returns 0 to go on waiting; anything else
 * ends the wait, and the call returns INTERRUPTED. */
typedef int ipcio_sleep(void *context);

/* For bindings: a connection with this sleep function never waits.  Its calls return IPCIO_WANT_... as
 * under WAITING ELSEWHERE, ipcio_SleepConnection waits and ipcio_GiveUpConnection gives up. */
#define IPCIO_SUSPEND ((ipcio_sleep *)1)

/* Init begins to serve, Open connects.
 *   type       an ipcio_type
 *   resource   a name ("greeter"), an address, for cTCP a port ("8080" or "host:8080"); NULL or "": the type's
 *              default, where a server and a client without arguments meet
 *   block      0: a call that would have to wait returns TIMEOUT at once, Open MISSING
 *   sleep      see above, or NULL
 *   bufsize    1024 to 1073741824 bytes to read ahead; never limits a message
 * Return the connection, above 0, or an error as ipcio_listen and ipcio_connect; UNSUPPORTED also a type that this build
 * does not have (cMailSlot). */
IPCIO_API int ipcio_InitConnection(int type, const char *resource, int block, ipcio_sleep *sleep, void *context,
                                   int bufsize);
IPCIO_API int ipcio_OpenConnection(int type, const char *resource, int block, ipcio_sleep *sleep, void *context,
                                   int bufsize);

/* Errors: as ipcio_accept, ipcio_read, ipcio_write; INVALID no such connection, or not in this order;
 * INTERRUPTED the sleep function ended the wait. */
IPCIO_API int ipcio_StartConnection(int fd);
IPCIO_API int ipcio_ReadData(int fd, const void **data, size_t *size);
IPCIO_API int ipcio_WriteData(int fd, const void *data, size_t size);
IPCIO_API int ipcio_StopConnection(int fd);
IPCIO_API int ipcio_EndConnection(int fd);
IPCIO_API int ipcio_CloseConnection(int fd);

/* The four steps of ReadData and of WriteData: start waits for a message (room for one), size tells (says)
 * its length, buffer moves the next piece, end finishes.  ReadBuffer gives at most n bytes, 0 at the end. */
IPCIO_API int ipcio_ReadStart(int fd);
IPCIO_API int ipcio_ReadSize(int fd, size_t *size);
IPCIO_API int ipcio_ReadBuffer(int fd, void *to, size_t n, size_t *got);
IPCIO_API int ipcio_ReadEnd(int fd);
IPCIO_API int ipcio_WriteStart(int fd);
IPCIO_API int ipcio_WriteSize(int fd, size_t size);
IPCIO_API int ipcio_WriteBuffer(int fd, const void *data, size_t n);
IPCIO_API int ipcio_WriteEnd(int fd);

/* Sets how often sleep functions are called, 1 to 1000 ms, for this process; 0 only asks.  Returns what
 * held before, or INVALID. */
IPCIO_API int ipcio_SleepInterval(int ms);

/* For bindings, with IPCIO_SUSPEND: completes an Open that is still waiting (repeat it while it is above
 * 0); waits up to `timeout` ms, 0 for the sleep interval (0: look again; TIMEOUT: it passed; INTERRUPTED: a signal);
 * gives up. */
IPCIO_API int ipcio_FinishOpenConnection(int fd);
IPCIO_API int ipcio_SleepConnection(int fd, int want, int timeout);
IPCIO_API int ipcio_GiveUpConnection(int fd, int want, int status);

#ifdef __cplusplus
}
#endif
#endif
