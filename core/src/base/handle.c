/* handle.c - see handle.h. */
#include "base/handle.h"

static os_mutex lock; /* guards all that the process has one of; held around a fork */
static handle *all;
static bool hooked;

void process_lock(void)
{
    os_lock(&lock);
}

void process_unlock(void)
{
    os_unlock(&lock);
}

/* The child has copies of all descriptors.  They would keep the parent's names and connections alive beyond its
 * death, so they go at once; what the parent sees is not touched. */
static void in_child(void)
{
    for (handle *h = all; h; h = h->next) {
        unsigned gate = atomic_load_explicit(&h->gate, memory_order_relaxed);
        unsigned inside = gate & (GATE_READ | GATE_WRITE); /* stays: see handle_torn */
        atomic_store_explicit(&h->gate, GATE_CLOSED | GATE_FORKED | GATE_RELEASED | inside, memory_order_relaxed);
        if (!(gate & GATE_RELEASED)) h->kind->abandon(h);
    }
    process_unlock();
}

bool handle_torn(const handle *h)
{
    unsigned gate = atomic_load_explicit(&h->gate, memory_order_relaxed);
    return gate & GATE_FORKED && gate & (GATE_READ | GATE_WRITE);
}

int handle_enlist(handle *h, const handle_kind *kind, const char *text)
{
    h->kind = kind;
    h->text = text;
    atomic_init(&h->gate, 0);
    if (!hooked && os_at_fork(process_lock, process_unlock, in_child) != 0)
        return ipcio__fail(IPCIO_NOMEMORY, "%s: the fork handler cannot be installed", text);
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
    int st = handle_enlist(h, kind, text);
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
static void release_if_last(handle *h, unsigned gate)
{
    if (!(gate & GATE_CLOSED) || (gate & (GATE_READ | GATE_WRITE | GATE_CLOSING | GATE_SET))) return;
    process_lock(); /* a child forked in the middle would keep what is not closed yet */
    if (!(atomic_fetch_or_explicit(&h->gate, GATE_RELEASED, memory_order_acq_rel) & GATE_RELEASED))
        h->kind->release(h);
    process_unlock();
}

static void clear(handle *h, unsigned bit)
{
    release_if_last(h, atomic_fetch_and_explicit(&h->gate, ~bit, memory_order_acq_rel) & ~bit);
}

int handle_enter(handle *h, int side)
{
    unsigned bit = (unsigned)side;
    if (atomic_load_explicit(&h->gate, memory_order_relaxed) & GATE_CLOSED) return handle_not_open(h);
    unsigned gate = atomic_fetch_or_explicit(&h->gate, bit, memory_order_acq_rel);
    if (gate & bit)
        return ipcio__fail(IPCIO_INVALID, "%s: another thread is %s this %s", h->text,
                           side == IPCIO_WANT_READ ? "reading from" : "writing to", h->kind->noun);
    if (!(gate & GATE_CLOSED)) return 0;
    clear(h, bit);
    return handle_not_open(h);
}

void handle_leave(handle *h, int side)
{
    clear(h, (unsigned)side);
}

int handle_leave_with(handle *h, int side, int status)
{
    if (status < 0 && atomic_load_explicit(&h->gate, memory_order_relaxed) & GATE_CLOSED) status = handle_not_open(h);
    handle_leave(h, side);
    return status;
}

void handle_hold(handle *h)
{
    atomic_fetch_or_explicit(&h->gate, GATE_SET, memory_order_acq_rel);
}

void handle_let_go(handle *h)
{
    clear(h, GATE_SET);
}

void handle_close(handle *h)
{
    unsigned gate = atomic_fetch_or_explicit(&h->gate, GATE_CLOSED | GATE_CLOSING, memory_order_acq_rel);
    if (gate & GATE_CLOSED) {
        if (!(gate & GATE_CLOSING)) clear(h, GATE_CLOSING);
        return;
    }
    h->kind->wake(h);
    clear(h, GATE_CLOSING);
}
