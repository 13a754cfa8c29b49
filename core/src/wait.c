/* wait.c - the one place that waits, for everything: spin for as long as that pays, then sleep.
 *
 * Waking a sleeping process costs tens of microseconds, whatever it slept on; a spinning one sees news in a
 * fraction of one.  But spinning takes a processor from others, possibly from the peer.  So each side of a
 * handle learns from its last waits: news within SPIN_MOST doubles what the next wait may spin, none halves it
 * down to nothing; and there is no spinning where the thread has only one processor. */
#include "wait.h"


enum { SPIN_MOST = 50000, SPIN_LEAST = 1000 }; /* ns */

static int processors(void)
{
    static _Atomic int known;
    int n = atomic_load_explicit(&known, memory_order_relaxed);
    if (n == 0) {
        n = os_processors();
        atomic_store_explicit(&known, n, memory_order_relaxed);
    }
    return n;
}

bool wait_spin(handle *h, int want, int64_t from, int64_t deadline)
{
    int64_t budget = h->side[want].spin;
    if (budget == 0 || want != IPCIO_WANT_READ || !h->kind->arrived || h->side[want].pause || processors() < 2)
        return false;
    int64_t until = deadline_earlier(from + budget, deadline);
    do {
        if (h->kind->arrived(h)) return true;
        os_relax();
    } while (os_now() < until);
    return false;
}

void wait_learn(handle *h, int want, int64_t waited)
{
    int64_t *spin = &h->side[want].spin;
    if (waited <= SPIN_MOST * 2) /* a sleep of that length is mostly the waking up */
        *spin = *spin < SPIN_LEAST ? SPIN_MOST : *spin * 2 < SPIN_MOST ? *spin * 2 : SPIN_MOST;
    else
        *spin = *spin / 2 < SPIN_LEAST ? 0 : *spin / 2;
}

int handle_wait(handle *h, int want, int64_t deadline)
{
    int64_t from = os_now();
    if (wait_spin(h, want, from, deadline)) {
        wait_learn(h, want, os_now() - from);
        return 0;
    }
    int64_t pause = h->side[want].pause, again = pause ? from + pause : DEADLINE_NEVER;
    os_wait item = {.fd = h->side[want].fd, .want = h->side[want].want};
    int st = os_poll(&item, item.fd == OS_NONE ? 0 : 1, deadline_earlier(deadline, again));
    if (st == 0) wait_learn(h, want, os_now() - from);
    if (st == IPCIO_TIMEOUT && again < deadline) return 0;
    if (st == IPCIO_SYSTEM) return ipcio__fail_os(st, "%s: cannot wait", h->text);
    return st;
}

int ipcio_wait(void *opaque, int want, int64_t deadline)
{
    handle *h = opaque;
    if (want != IPCIO_WANT_READ && want != IPCIO_WANT_WRITE)
        return ipcio__fail(IPCIO_INVALID, "%s: %d is not a direction to wait for", h->text, want);
    int st = handle_enter(h, want);
    if (st != 0) return st;
    st = handle_wait(h, want, deadline);
    handle_leave(h, want);
    return st;
}

int ipcio_give_up(void *opaque, int want, int status, double seconds)
{
    handle *h = opaque;
    if (atomic_load_explicit(&h->gate, memory_order_relaxed) & GATE_CLOSED) return handle_not_open(h);
    const char *what = h->kind->give_up(h, want);
    if (status == IPCIO_TIMEOUT && seconds >= 0)
        return ipcio__fail(status, "%s: %s within %g s", h->text, what, seconds);
    if (status == IPCIO_TIMEOUT) return ipcio__fail(status, "%s: %s now", h->text, what);
    if (status == IPCIO_INTERRUPTED) return ipcio__fail(status, "%s: the wait was interrupted; %s", h->text, what);
    return status;
}
