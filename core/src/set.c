/* set.c - waiting for one of many handles. */
#include "set.h"

#include <stdlib.h>

#include "base/wait.h"

enum { READY_MOST = 64, FAIR = 16 };

struct ipcio_set {
    handle base;
    os_fd epoll;
    handle **members;
    size_t count, room;
    handle *lately; /* members that were given out or added since the last sleep: the system may not tell of them */
    handle *ready[READY_MOST]; /* to be given out; NULL: removed meanwhile */
    int given, told;
    handle *recent; /* given out last */
    unsigned turns; /* in a row that did not ask the system */
    int64_t look, due; /* the least `look` of a member, or 0; when they are to be asked next */
};

static void wake(handle *h)
{
    (void)h;
}

static void release(handle *h)
{
    ipcio_set *s = (ipcio_set *)h;
    os_close(s->epoll);
    s->epoll = s->base.side[IPCIO_WANT_READ].fd = OS_NONE;
}

static const char *give_up(handle *h, int want)
{
    (void)h, (void)want;
    return "nothing";
}

static const handle_kind set_kind = {.noun = "set", .wake = wake, .release = release, .abandon = release, .give_up = give_up};

int ipcio_set_new(ipcio_set **set)
{
    *set = NULL;
    ipcio_set *s = calloc(1, sizeof *s);
    if (!s) return ipcio__fail(IPCIO_NOMEMORY, "no memory for a set");
    s->epoll = OS_NONE;
    fork_forbid();
    int st = handle_open(&s->base, &set_kind, "set");
    if (st == 0 && (st = os_set_new(&s->epoll)) != 0) {
        st = ipcio__fail_os(st, "cannot make a set");
        handle_forget(&s->base);
    }
    fork_allow();
    s->base.side[IPCIO_WANT_READ].fd = s->epoll;
    if (st == 0) *set = s;
    else free(s);
    return st;
}

static void link_lately(ipcio_set *s, handle *h)
{
    if (h->set_link) return;
    h->set_next = s->lately;
    if (h->set_next) h->set_next->set_link = &h->set_next;
    h->set_link = &s->lately;
    s->lately = h;
}

static void unlink_lately(handle *h)
{
    if (!h->set_link) return;
    *h->set_link = h->set_next;
    if (h->set_next) h->set_next->set_link = h->set_link;
    h->set_link = NULL;
}

static int enter_member(ipcio_set *s, handle *h)
{
    if (s->count == s->room) {
        size_t room = s->room ? s->room * 2 : 16;
        handle **members = realloc(s->members, room * sizeof *members);
        if (!members) return ipcio__fail(IPCIO_NOMEMORY, "no memory for a set of %zu", room);
        s->members = members;
        s->room = room;
    }
    h->set = s;
    h->set_index = s->count;
    h->set_want = 0;
    h->set_link = NULL;
    s->members[s->count++] = h;
    handle_hold(h);
    if (!(atomic_load(&h->gate) & GATE_CLOSED)) return 0;
    ipcio_set_remove(s, h); /* closed by another thread just before */
    return handle_not_open(h);
}

static int watch_member(ipcio_set *s, handle *h, int want)
{
    if (h->side[want].fd == OS_NONE || h->side[want].pause) /* the latter: not connected yet */
        return ipcio__fail(IPCIO_INVALID, "%s: it cannot be waited for in this way", h->text);
    int st = os_set_put(s->epoll, h->side[want].fd, h->side[want].want, h);
    if (st != 0) return ipcio__fail_os(st, "%s: cannot be waited for", h->text);
    h->set_want = want;
    if (h->look && (s->look == 0 || h->look < s->look)) s->look = h->look;
    if (h->blocks) s->base.blocks = true;
    return 0;
}

int ipcio_set_add(ipcio_set *s, void *opaque, int want)
{
    handle *h = opaque;
    int st = handle_enter(&s->base, IPCIO_WANT_READ);
    if (st != 0) return st;
    handle_leave(&s->base, IPCIO_WANT_READ);
    if (want != IPCIO_WANT_READ && want != IPCIO_WANT_WRITE)
        return ipcio__fail(IPCIO_INVALID, "%s: %d is not a direction to wait for", h->text, want);
    if (h->set && h->set != s) return ipcio__fail(IPCIO_INVALID, "%s: it is in another set", h->text);
    if (atomic_load_explicit(&h->gate, memory_order_relaxed) & GATE_CLOSED) return handle_not_open(h);
    if (!h->set && (st = enter_member(s, h)) != 0) return st;
    if (h->set_want != want && (st = watch_member(s, h, want)) != 0) {
        if (h->set_want == 0) ipcio_set_remove(s, h);
        return st;
    }
    link_lately(s, h);
    return 0;
}

void ipcio_set_remove(ipcio_set *s, void *opaque)
{
    handle *h = opaque;
    if (h->set != s) return;
    if (s->epoll != OS_NONE && h->set_want) os_set_drop(s->epoll, h->side[h->set_want].fd);
    s->members[h->set_index] = s->members[--s->count];
    s->members[h->set_index]->set_index = h->set_index;
    for (int i = s->given; i < s->told; i++)
        if (s->ready[i] == h) s->ready[i] = NULL;
    if (s->recent == h) s->recent = NULL;
    unlink_lately(h);
    h->set = NULL;
    handle_let_go(h);
}

void set_forget(handle *h)
{
    if (h->set) ipcio_set_remove(h->set, h);
}

void *set_first(ipcio_set *s, const void *except)
{
    for (size_t i = 0; i < s->count; i++)
        if (s->members[i] != except) return s->members[i];
    return NULL;
}

/* Asks a member, inside the side that is waited for.  One whose side another thread uses, or that was closed, is to be
 * tried. */
static bool ask(handle *h, bool (*question)(handle *h, int want))
{
    int want = h->set_want;
    if (!question) return false;
    if (handle_enter(h, want) != 0) return true;
    bool yes = question(h, want);
    handle_leave(h, want);
    return yes;
}

static bool is_ready(handle *h, int want)
{
    return want == IPCIO_WANT_READ && h->kind->ready && h->kind->ready(h);
}

/* The system does not tell all of some of them. */
static void look(ipcio_set *s, int64_t now)
{
    s->due = now + s->look;
    for (size_t i = 0; i < s->count; i++)
        if (s->members[i]->look) link_lately(s, s->members[i]);
}

/* Finds those that are ready without the system telling. */
static void find_ready(ipcio_set *s)
{
    for (handle *h = s->lately; h && s->told < READY_MOST; h = h->set_next)
        if (ask(h, is_ready)) s->ready[s->told++] = h;
}

/* Spins for as long as the handle that was ready last would. */
static bool spin(ipcio_set *s, int64_t from, int64_t deadline)
{
    handle *h = s->recent;
    if (!h || h->set_want != IPCIO_WANT_READ || !h->side[IPCIO_WANT_READ].spin) return false;
    bool news = handle_enter(h, IPCIO_WANT_READ) != 0;
    if (!news) {
        news = wait_spin(h, IPCIO_WANT_READ, from, deadline);
        handle_leave(h, IPCIO_WANT_READ);
    }
    if (news) s->ready[s->told++] = h;
    return news;
}

/* From now on the system tells of all members; or one is ready. */
static bool settle(ipcio_set *s)
{
    bool came = false;
    for (handle *h = s->lately, *next; h; h = next) {
        next = h->set_next;
        if (!ask(h, h->kind->settle)) unlink_lately(h);
        else if (s->told < READY_MOST) s->ready[s->told++] = h, came = true;
    }
    return came;
}

/* Gives out a handle of `ready`. */
static bool give(ipcio_set *s, void **which)
{
    while (s->given < s->told) {
        handle *h = s->ready[s->given++];
        if (!h) continue;
        link_lately(s, h);
        *which = s->recent = h;
        return true;
    }
    return false;
}

/* Fills `ready`; inside the reading side.  Above 0: to be repeated. */
static int find(ipcio_set *s, int64_t deadline)
{
    int64_t from = os_now();
    s->given = s->told = 0;
    if (s->look && from >= s->due) look(s, from);
    find_ready(s);
    bool ask_system = ++s->turns % FAIR == 0; /* others must not starve */
    if (!ask_system && (s->told || spin(s, from, deadline) || settle(s))) return 0;
    bool sleeps = s->told == 0 && !ask_system;
    int64_t until = s->look ? deadline_earlier(deadline, s->due) : deadline;
    int n = READY_MOST - s->told;
    if (n > 0) n = os_set_wait(s->epoll, (void **)s->ready + s->told, n, sleeps ? until : 0);
    if (n < 0 && n != IPCIO_TIMEOUT && n != IPCIO_INTERRUPTED) return ipcio__fail_os(n, "cannot wait for a set");
    if (n > 0) s->told += n;
    if (s->told == 0) return sleeps && (n != IPCIO_TIMEOUT || until == deadline) ? n : IPCIO_WANT_READ;
    if (sleeps && s->ready[0] == s->recent) wait_slept(s->recent, IPCIO_WANT_READ, os_now() - from);
    return 0;
}

static int wait_in(ipcio_set *s, int64_t deadline, void **which)
{
    if (give(s, which)) return 0;
    int st;
    do st = find(s, deadline);
    while (st > 0);
    if (st != 0) return st;
    return give(s, which) ? 0 : IPCIO_INTERRUPTED; /* what was ready is not any more */
}

int ipcio_set_wait(ipcio_set *s, int64_t deadline, void **which)
{
    *which = NULL;
    int st = handle_enter(&s->base, IPCIO_WANT_READ);
    if (st != 0) return st;
    if (s->count == 0 && deadline == DEADLINE_NEVER)
        st = ipcio__fail(IPCIO_INVALID, "an empty set would be waited for in vain");
    else
        st = wait_in(s, deadline, which);
    handle_leave(&s->base, IPCIO_WANT_READ);
    return st;
}

void ipcio_set_free(ipcio_set *s)
{
    if (!s) return;
    while (s->count) ipcio_set_remove(s, s->members[s->count - 1]);
    handle_close(&s->base);
    handle_forget(&s->base);
    free(s->members);
    free(s);
}
