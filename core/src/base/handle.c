/* handle.c - see handle.h. */
#include "base/handle.h"

enum { MOMENT = 10000 }; /* looks */
static os_mutex lock; /* guards all that the process has one of; held around a fork, */
static os_mutex door; /* as this one, which who forbids a fork goes through: a fork that waits keeps others from coming */
static _Atomic unsigned forbidding;      /* threads that went through, */
static _Thread_local unsigned forbidden; /* and how often this one did */
static handle *all;
static bool hooked; /* the fork handler is there */
bool handle_barrier;

void process_lock(void)
{
    os_lock(&lock);
}

void process_unlock(void)
{
    os_unlock(&lock);
}

void fork_forbid(void)
{
    if (forbidden++) return;
    os_lock(&door);
    atomic_fetch_add_explicit(&forbidding, 1, memory_order_relaxed);
    os_unlock(&door);
}

void fork_allow(void)
{
    if (--forbidden == 0) atomic_fetch_sub_explicit(&forbidding, 1, memory_order_release);
}

/* The lock comes last: those who are waited for may need it. */
static void before_fork(void)
{
    unsigned own = forbidden > 0; /* a signal handler forks */
    os_lock(&door);
    while (atomic_load_explicit(&forbidding, memory_order_acquire) > own) (void)os_poll(NULL, 0, os_now() + MILLISECOND / 10);
    process_lock();
}

static void after_fork(void)
{
    process_unlock();
    os_unlock(&door);
}

/* The child has copies of all descriptors.  They would keep the parent's names and connections alive beyond its
 * death, so they go at once; what the parent sees is not touched. */
static void in_child(void)
{
    for (handle *h = all; h; h = h->next) {
        unsigned gate = atomic_load_explicit(&h->gate, memory_order_relaxed);
        atomic_store_explicit(&h->gate, GATE_CLOSED | GATE_FORKED | GATE_RELEASING | GATE_RELEASED, memory_order_relaxed);
        if (!(gate & GATE_RELEASED)) h->kind->abandon(h);
    }
    after_fork();
}

bool handle_torn(const handle *h)
{
    return atomic_load_explicit(&h->gate, memory_order_relaxed) & GATE_FORKED &&
           (atomic_load_explicit(&h->inside[IPCIO_WANT_READ], memory_order_relaxed) ||
            atomic_load_explicit(&h->inside[IPCIO_WANT_WRITE], memory_order_relaxed));
}

static int enlist(handle *h, const handle_kind *kind, const char *text)
{
    h->kind = kind;
    h->text = text;
    atomic_init(&h->gate, 0);
    if (!hooked && os_at_fork(before_fork, after_fork, in_child) != 0)
        return ipcio__fail(IPCIO_NOMEMORY, "%s: the fork handler cannot be installed", text);
    if (!hooked) handle_barrier = os_barrier() == 0;
    hooked = true;
    h->before = NULL;
    h->next = all;
    if (all) all->before = h;
    all = h;
    return 0;
}

int handle_open(handle *h, const handle_kind *kind, const char *text)
{
    process_lock();
    int st = enlist(h, kind, text);
    process_unlock();
    return st;
}

void handle_forget(handle *h)
{
    process_lock();
    if (h->before) h->before->next = h->next;
    else if (all == h) all = h->next;
    if (h->next) h->next->before = h->before;
    process_unlock();
}

int handle_not_open(const handle *h)
{
    if (atomic_load_explicit(&h->gate, memory_order_relaxed) & GATE_FORKED)
        return ipcio__fail(IPCIO_FORKED, "%s: this %s belongs to the parent process; open one of your own after fork",
                           h->text, h->kind->noun);
    return ipcio__fail(IPCIO_INVALID, "%s: this %s is closed", h->text, h->kind->noun);
}

/* Gives the descriptors back when nobody is inside any more.  Only one caller finds it so. */
void handle_left(handle *h)
{
    atomic_thread_fence(memory_order_seq_cst); /* of two who leave at once, one sees that the other has left */
    for (int side = IPCIO_WANT_READ; side <= IPCIO_WANT_WRITE; side++)
        if (atomic_load_explicit(&h->inside[side], memory_order_acquire)) return;
    if (atomic_load_explicit(&h->sleepers, memory_order_acquire)) return;
    unsigned gate = atomic_load_explicit(&h->gate, memory_order_acquire);
    if (!(gate & GATE_CLOSED) || gate & (GATE_CLOSING | GATE_SET)) return;
    fork_forbid(); /* a child forked in the middle would keep what is not closed yet */
    if (!(atomic_fetch_or_explicit(&h->gate, GATE_RELEASING, memory_order_acq_rel) & GATE_RELEASING)) {
        h->kind->release(h);
        atomic_fetch_or_explicit(&h->gate, GATE_RELEASED, memory_order_release);
    }
    fork_allow();
}

/* Somebody is inside, and not only for a moment. */
static bool stays(handle *h, int side)
{
    bool lent = true;
    for (int i = 0; i < MOMENT && lent; i++) {
        lent = atomic_load_explicit(&h->side[side].lent, memory_order_acquire);
        if (!atomic_exchange_explicit(&h->inside[side], true, memory_order_seq_cst)) return false;
        os_relax();
    }
    return true;
}

int handle_enter_slowly(handle *h, int side, bool taken)
{
    bool closed = atomic_load_explicit(&h->gate, memory_order_relaxed) & GATE_CLOSED;
    if (taken && !closed) {
        if (stays(h, side))
            return ipcio__fail(IPCIO_INVALID, "%s: another thread is %s this %s", h->text,
                               side == IPCIO_WANT_READ ? "reading from" : "writing to", h->kind->noun);
        if (!(atomic_load_explicit(&h->gate, memory_order_seq_cst) & GATE_CLOSED)) return 0; /* as handle_enter */
        taken = false;
    }
    if (!taken) handle_leave(h, side);
    return handle_not_open(h);
}

void handle_sleep(handle *h, int side)
{
    atomic_fetch_add_explicit(&h->sleepers, 1, memory_order_seq_cst);
    handle_leave(h, side);
}

void handle_woke(handle *h)
{
    atomic_fetch_sub_explicit(&h->sleepers, 1, memory_order_seq_cst);
    if (atomic_load_explicit(&h->gate, memory_order_seq_cst) & GATE_CLOSED) handle_left(h); /* as handle_enter */
}

void handle_hold(handle *h)
{
    atomic_fetch_or_explicit(&h->gate, GATE_SET, memory_order_acq_rel);
}

void handle_let_go(handle *h)
{
    atomic_fetch_and_explicit(&h->gate, ~(unsigned)GATE_SET, memory_order_acq_rel);
    handle_left(h);
}

void handle_close(handle *h)
{
    unsigned gate = atomic_load_explicit(&h->gate, memory_order_relaxed);
    do
        if (gate & GATE_CLOSED) return;
    while (!atomic_compare_exchange_weak(&h->gate, &gate, gate | GATE_CLOSED | GATE_CLOSING));
    h->kind->wake(h);
    atomic_fetch_and_explicit(&h->gate, ~(unsigned)GATE_CLOSING, memory_order_acq_rel);
    if (handle_barrier) os_barrier();
    handle_left(h);
}
