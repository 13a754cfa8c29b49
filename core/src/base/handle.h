/* handle.h - what connections, servers and sets have in common: who is inside, closing, forking, waiting.
 *
 * A call enters the side it works on and leaves it when it is done; a second call on the same side is refused.  Closing
 * only marks and wakes: whoever is the last inside gives the descriptors back, so that none is closed under a call that
 * uses it.
 *
 * Entering and leaving cost one locked instruction together.  Leaving stores that nobody is inside and then loads whether
 * the handle was closed, and a processor may do that in the other order; so closing, which is rare, makes all of them
 * finish what they began (os_barrier), between marking and looking who is inside. */
#ifndef IPCIO_HANDLE_H
#define IPCIO_HANDLE_H

#include <stdatomic.h>

#include "base/deadline.h"
#include "base/status.h"
#include "os/os.h"

enum { /* bits of the gate */
    GATE_CLOSING = 1,
    GATE_CLOSED = 2,
    GATE_FORKED = 4,
    GATE_RELEASING = 8,
    GATE_RELEASED = 16,
    GATE_SET = 32 /* in a set, which still knows its descriptors */
};

typedef struct handle handle;

typedef struct {
    const char *noun; /* "connection" */
    /* Wakes all who wait, leaves the descriptors open.  From any thread. */
    void (*wake)(handle *h);
    /* Gives descriptors and names back.  Once, when nobody is inside. */
    void (*release)(handle *h);
    /* In a forked child: closes the descriptors, touches nothing that the parent sees. */
    void (*abandon)(handle *h);
    /* Looks, without blocking, whether repeating a call that wants `want` may get further.  Inside that side.  NULL: only
     * the system can tell. */
    bool (*arrived)(handle *h, int want);
    /* A message is here that the system does not tell of.  Inside the reading side.  NULL: never. */
    bool (*ready)(handle *h);
    /* Before sleeping: from now on the system tells.  True: no need to sleep, something came already.  Inside the side
     * of `want`.  NULL: it always tells. */
    bool (*settle)(handle *h, int want);
    /* Sleeps, until `deadline` at most, in a way that ends sooner than sleeping on a descriptor, but is not told of all: 0 look
     * again, INTERRUPTED, anything else: the descriptor is to be slept on.  Inside the side.  NULL: there is none. */
    int (*doze)(handle *h, int want, int64_t deadline);
    /* A descriptor that is readable exactly when reading would not wait.  Inside the reading side.  NULL: what the side
     * sleeps on is one. */
    int (*fileno)(handle *h, os_fd *fd);
    /* Gives up what wants `want`, and says in a few words what did not happen: "no message". */
    const char *(*give_up)(handle *h, int want);
} handle_kind;

struct handle {
    const handle_kind *kind;
    _Atomic unsigned gate;
    _Atomic unsigned inside[3]; /* a call is; by side.  A word, as RISC-V exchanges no byte without libatomic */
    _Atomic unsigned sleepers; /* threads in ipcio_wait that sleep on a descriptor, outside of the sides */
    const char *text;     /* the address, for messages */
    handle *next, *before; /* all handles of the process, for the fork handler */

    /* Written by whoever is inside the side, read by ipcio_wait: what to sleep on. */
    struct {
        os_fd fd;
        int want;      /* how fd is waited for; may differ from the side */
        _Atomic bool lent; /* to a call of the other side, which enters it for a moment and does not sleep inside */
        int64_t pause; /* of what is not connected yet: try again at least this often, nanoseconds; 0: the system notifies */
        int64_t spin;  /* how long to spin before sleeping, nanoseconds: see wait.c, */
        int rest, rest_most; /* which owns these */
        bool dozes;        /* it slept so briefly that dozing does for the next time */
    } side[3];         /* indexed by IPCIO_WANT_... */

    bool blocks;  /* any call may take long in the system, as ipcio_blocks says */
    int64_t look; /* ask again at least this often, nanoseconds, for what the system does not tell of; 0: it tells all */

    struct ipcio_set *set; /* the set it is in, */
    size_t set_index;      /* where, */
    int set_want;          /* for what, */
    handle *set_next, **set_link; /* and among those that the system may not tell of; NULL: it does */
};

/* The process's one lock, for what it has one of.  Only for a moment: other threads may wait for it with an interpreter's
 * lock.  A fork waits for it, so the child finds it free. */
void process_lock(void);
void process_unlock(void);

/* No fork comes between: descriptors are made and kept where `abandon` finds them, or given back.  Any number of threads may
 * be at that, for as long as a folder on another host takes; they may take the lock meanwhile, and forbid it again, but not
 * first the lock and then this. */
void fork_forbid(void);
void fork_allow(void);

/* Enters `h` in the list, open.  NOMEMORY when the fork handler cannot be installed. */
int handle_open(handle *h, const handle_kind *kind, const char *text);

/* In a forked child: a thread was inside when it was forked off, so what that thread owns may be half changed.  Its memory
 * is left alone. */
bool handle_torn(const handle *h);

/* 0 with the side entered; INVALID closed, or the side is in use; FORKED.  `taken`: somebody was inside. */
int handle_enter_slowly(handle *h, int side, bool taken) IPCIO_RARE;
static inline int handle_enter(handle *h, int side)
{
    /* Sequentially consistent both, as is closing: else the one could miss the other's. */
    bool taken = atomic_exchange_explicit(&h->inside[side], true, memory_order_seq_cst);
    if (!taken && !(atomic_load_explicit(&h->gate, memory_order_seq_cst) & GATE_CLOSED)) return 0;
    return handle_enter_slowly(h, side, taken);
}

/* Closing makes a barrier in all threads, so leaving needs none; set where the system can do that. */
extern bool handle_barrier;
void handle_left(handle *h) IPCIO_RARE;
static inline void handle_leave(handle *h, int side)
{
    atomic_store_explicit(&h->inside[side], false, memory_order_release);
    if (!handle_barrier) atomic_thread_fence(memory_order_seq_cst);
    else atomic_signal_fence(memory_order_seq_cst); /* the compiler keeps the order */
    if (atomic_load_explicit(&h->gate, memory_order_acquire) & GATE_CLOSED) handle_left(h);
}

/* INVALID or FORKED, with a message, for a handle that is not open any more. */
int handle_not_open(const handle *h) IPCIO_RARE;

/* Leaves with the status that the call made of it.  An error that comes of closing meanwhile is told as that. */
static inline int handle_leave_with(handle *h, int side, int status)
{
    if (status < 0 && atomic_load_explicit(&h->gate, memory_order_relaxed) & GATE_CLOSED) status = handle_not_open(h);
    handle_leave(h, side);
    return status;
}

/* Leaves the side for others, but keeps the descriptors, on which it sleeps, until handle_woke. */
void handle_sleep(handle *h, int side);
void handle_woke(handle *h);

/* While a set holds it, a closed handle keeps its descriptors: the set still waits on them. */
void handle_hold(handle *h);
void handle_let_go(handle *h);

/* Closes, once. */
void handle_close(handle *h);

/* After handle_close: out of the list; the memory may be freed. */
void handle_forget(handle *h);

/* Repeats `call`, made with IPCIO_TRY, until it is through or the public `timeout` is over. */
#define HANDLE_BLOCK(h, timeout, call)                                                                         \
    do {                                                                                                       \
        int64_t deadline_ = 0;                                                                                 \
        if ((timeout) < IPCIO_TRY) return ipcio__fail(IPCIO_INVALID, "%d is not a timeout", (timeout));        \
        for (;;) {                                                                                             \
            int want_ = (call);                                                                                \
            if (want_ <= 0 || (timeout) == IPCIO_TRY) return want_;                                            \
            if (deadline_ == 0 && (timeout) != 0) deadline_ = deadline_in(timeout);                            \
            int st_ = (timeout) == 0 ? IPCIO_TIMEOUT : ipcio_wait((h), want_, deadline_);                      \
            if (st_ < 0 && st_ != IPCIO_INTERRUPTED)                                                           \
                return ipcio_give_up((h), want_, st_, (timeout) / 1000.0);                                     \
        }                                                                                                      \
    } while (0)

/* The same for a `step` that is made inside `side` and stays there, so that a round trip is that much shorter: goes on after
 * the first one, which wants `want`. */
#define HANDLE_BLOCK_INSIDE(h, side, timeout, want, step)                                                      \
    do {                                                                                                       \
        int64_t deadline_ = (timeout) == 0 ? 0 : deadline_in(timeout);                                         \
        int want_ = (want);                                                                                    \
        do {                                                                                                   \
            int st_ = (timeout) == 0     ? IPCIO_TIMEOUT                                                       \
                      : want_ == (side) ? wait_inside((h), want_, deadline_)                                   \
                                        : ipcio_wait((h), want_, deadline_);                                   \
            if (st_ < 0 && st_ != IPCIO_INTERRUPTED) {                                                         \
                handle_leave((h), (side));                                                                     \
                return ipcio_give_up((h), want_, st_, (timeout) / 1000.0);                                     \
            }                                                                                                  \
        } while ((want_ = (step)) > 0);                                                                        \
        return handle_leave_with((h), (side), want_);                                                          \
    } while (0)

/* ipcio_wait for who is inside the side. */
int wait_inside(handle *h, int want, int64_t deadline);

#endif
