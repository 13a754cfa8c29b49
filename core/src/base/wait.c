/* wait.c - the one place that waits, for everything: spin for as long as that pays, then sleep.
 *
 * Waking a sleeping process costs tens of microseconds, whatever it slept on; a spinning one sees news in a
 * fraction of one.  But spinning takes a processor from others, possibly from the very peer that is waited for.
 * So each side of a handle learns from its own waits:
 *
 *  - it begins to spin, for SPIN_MOST at a time, when it slept no longer than a wake-up takes;
 *  - a spin that saw nothing halves the next, and a second one in a row ends it;
 *  - each such failure in a row also doubles the number of sleeps before it is tried again.
 *
 * On a busy machine, and where both sides are bound to one processor, spinning so soon ends and costs next to
 * nothing; a silent peer is not spun for at all.  What this thread alone is bound to tells nothing: the peer may be
 * bound elsewhere.  There is none where the machine has only one processor. */
#include "base/wait.h"

enum { SPIN_MOST = 50000, SLEEP_SHORT = 100000 }; /* ns */
enum { LOOKS = 16 };                              /* between two of the clock */
enum { REST_MOST = 256 };                         /* sleeps */
enum { BESIDE = 10000000, DOZE_MOST = 40000000 }; /* ns */

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
    int64_t *spin = &h->side[want].spin;
    if (*spin == 0 || from >= deadline) return false;
    int64_t until = deadline_earlier(from + *spin, deadline), now = from;
    bool news = false;
    for (int i = 0; now < until; i++) {
        if ((news = h->kind->arrived(h, want))) break;
        os_relax();
        if (i % LOOKS == LOOKS - 1) now = os_now();
    }
    if (news && now > from) now = os_now(); /* what came at once came in time: the clock costs as much as some looks */

    if (news && now <= until) {
        *spin = SPIN_MOST;
        h->side[want].rest_most = 0;
    } else { /* too late is no better than never: this thread lost its processor meanwhile */
        *spin = h->side[want].rest_most ? 0 : *spin / 2;
        int rest = h->side[want].rest_most * 2 + 1;
        h->side[want].rest_most = rest < REST_MOST ? rest : REST_MOST;
        h->side[want].rest = h->side[want].rest_most;
    }
    return news;
}

void wait_slept(handle *h, int want, int64_t slept)
{
    h->side[want].dozes = h->kind->doze && slept <= DOZE_MOST;
    if (h->side[want].spin || !h->kind->arrived || h->side[want].pause) return;
    if (h->side[want].rest > 0) {
        h->side[want].rest--;
        return;
    }
    if (slept <= SLEEP_SHORT && processors() > 1) h->side[want].spin = SPIN_MOST;
}

/* `beside`: outside of the side, where another thread may take just what this one is to see, so that looks again. */
static int sleep_until(handle *h, int want, int64_t from, int64_t deadline, bool beside)
{
    int64_t pause = h->side[want].pause ? h->side[want].pause : h->look;
    if (beside && pause == 0) pause = BESIDE;
    int64_t again = pause ? from + pause : DEADLINE_NEVER;
    os_wait item = {.fd = h->side[want].fd, .want = h->side[want].want};
    if (beside) {
        handle_sleep(h, want);
        atomic_store_explicit(&h->side[want].lent, false, memory_order_release);
    }
    int st = os_poll(&item, item.fd == OS_NONE ? 0 : 1, deadline_earlier(deadline, again));
    if (beside) handle_woke(h);
    else if (st == 0) wait_slept(h, want, os_now() - from);
    if (st == IPCIO_TIMEOUT && again < deadline) return 0;
    if (st < 0 && st != IPCIO_TIMEOUT && st != IPCIO_INTERRUPTED) return ipcio__fail_os(st, "%s: cannot wait", h->text);
    return st;
}

int wait_inside(handle *h, int want, int64_t deadline)
{
    int64_t from = os_now();
    if (wait_spin(h, want, from, deadline)) return 0;
    if (h->side[want].dozes) {
        int st = h->kind->doze(h, want, deadline_earlier(from + DOZE_MOST, deadline));
        if (st == 0) wait_slept(h, want, os_now() - from);
        if (st == IPCIO_INTERRUPTED) h->side[want].dozes = false; /* or signals could keep it from hearing of a death */
        if (st == 0 || st == IPCIO_INTERRUPTED) return st;
    }
    if (h->kind->settle && h->kind->settle(h, want)) return 0;
    return sleep_until(h, want, from, deadline, false);
}

int ipcio_wait(void *opaque, int want, int64_t deadline)
{
    handle *h = opaque;
    if (want != IPCIO_WANT_READ && want != IPCIO_WANT_WRITE)
        return ipcio__fail(IPCIO_INVALID, "%s: %d is not a direction to wait for", h->text, want);
    int st = handle_enter(h, want);
    /* The call itself tells of another thread; unless it wanted the other's side, and that does for both what was due. */
    if (st != 0) return atomic_load_explicit(&h->gate, memory_order_relaxed) & GATE_CLOSED ? st : 0;
    if (atomic_load_explicit(&h->side[want].lent, memory_order_relaxed)) return sleep_until(h, want, os_now(), deadline, true);
    st = wait_inside(h, want, deadline);
    handle_leave(h, want);
    return st;
}

int ipcio_blocks(const void *opaque)
{
    const handle *h = opaque;
    return !h || h->blocks;
}

int ipcio_fileno(void *opaque)
{
    handle *h = opaque;
    int st = handle_enter(h, IPCIO_WANT_READ);
    if (st != 0) return st;
    os_fd fd = h->side[IPCIO_WANT_READ].fd;
    if (h->kind->fileno) st = h->kind->fileno(h, &fd);
    return handle_leave_with(h, IPCIO_WANT_READ, st == 0 ? (int)fd : st);
}

int ipcio_give_up(void *opaque, int want, int status, double seconds)
{
    handle *h = opaque;
    if (atomic_load_explicit(&h->gate, memory_order_relaxed) & GATE_CLOSED) return handle_not_open(h);
    const char *what = h->kind->give_up(h, want);
    if (status == IPCIO_TIMEOUT && seconds > 0)
        return ipcio__fail(status, "%s: %s within %g s", h->text, what, seconds);
    if (status == IPCIO_TIMEOUT) return ipcio__fail(status, "%s: %s yet", h->text, what);
    if (status == IPCIO_INTERRUPTED) return ipcio__fail(status, "%s: the wait was interrupted: %s yet", h->text, what);
    return status;
}
