/* namelock.c - see namelock.h. */
#include "object/namelock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/handle.h"

/* Holder is the lock.  A sweep takes both for a moment: one who finds the holder's byte taken and the
 * sweeper's too knows that he is not looking at a holder. */
enum { BYTE_HOLDER, BYTE_SWEEPER };

/* A sweeper needs some microseconds, if it is not stopped in the middle. */
#define SWEEP (1000 * MILLISECOND)

/* Why the holder's byte could not be locked: EXISTS, WANT_READ to try again, or what failed. */
static int not_taken(os_fd file)
{
    int swept = os_file_locked(file, BYTE_SWEEPER), held = os_file_locked(file, BYTE_HOLDER);
    return swept == IPCIO_EXISTS || held == 0 ? IPCIO_WANT_READ : held;
}

static int try_take(const char *path, os_fd *file)
{
    int st = os_file_open(path, true, file);
    if (st != 0) return st;
    st = os_file_lock(*file, BYTE_HOLDER);
    if (st == 0 || st == IPCIO_EXISTS) {
        int at = os_file_at(*file, OS_NONE, path);
        if (st == 0 && at == 0) return 0;
        if (at == 0) st = not_taken(*file);
        else st = at == IPCIO_MISSING ? IPCIO_WANT_READ : at; /* it was removed meanwhile */
    }
    os_close(*file);
    *file = OS_NONE;
    return st;
}

bool namelock_look_again(int *looks)
{
    static const int64_t pauses[] = {1, 4, 16, 64}; /* ms */
    if (*looks == sizeof pauses / sizeof *pauses) return false;
    int64_t until = os_now() + pauses[(*looks)++] * MILLISECOND;
    while (os_poll(NULL, 0, until) == IPCIO_INTERRUPTED) {}
    return true;
}

int namelock_take(namelock *l, const char *path)
{
    size_t size = strlen(path) + 1;
    int64_t patience = os_now() + SWEEP;
    int looks = 0;
    *l = (namelock){.file = OS_NONE, .path = malloc(size)};
    if (!l->path) return IPCIO_NOMEMORY;
    memcpy(l->path, path, size);
    for (;;) {
        int st = try_take(path, &l->file);
        if (st == 0) return 0;
        if (st > 0 && os_now() >= patience) st = IPCIO_TIMEOUT;
        if (st > 0) {
            (void)os_poll(NULL, 0, os_now() + MILLISECOND / 10);
        } else if (st != IPCIO_EXISTS || !namelock_look_again(&looks)) {
            free(l->path);
            *l = (namelock){.file = OS_NONE};
            return st;
        }
    }
}

bool namelock_held(os_fd file)
{
    return os_file_locked(file, BYTE_HOLDER) == IPCIO_EXISTS;
}

void namelock_abandon(namelock *l)
{
    if (l->path) os_close(l->file);
    free(l->path);
    *l = (namelock){.file = OS_NONE};
}

bool namelock_ours(const namelock *l)
{
    return l->path && l->file != OS_NONE && os_file_at(l->file, OS_NONE, l->path) == 0;
}

void namelock_drop(namelock *l)
{
    if (namelock_ours(l)) (void)os_file_remove(l->path); /* before the lock ends: it is ours until then */
    namelock_abandon(l);
}

struct sweep {
    const char *folder, *suffix;
    void (*leftover)(const char *path);
};

static void sweep_one(const char *name, void *context)
{
    const struct sweep *s = context;
    size_t n = strlen(name), suffix = strlen(s->suffix);
    char path[4096];
    os_fd file;
    if (n <= suffix || strcmp(name + n - suffix, s->suffix) != 0) return;
    if ((size_t)snprintf(path, sizeof path, "%s/%s", s->folder, name) >= sizeof path) return;
    if (os_file_open(path, false, &file) != 0) return;
    if (os_file_lock(file, BYTE_SWEEPER) == 0 && os_file_lock(file, BYTE_HOLDER) == 0 && os_file_at(file, OS_NONE, path) == 0) {
        if (s->leftover) s->leftover(path);
        (void)os_file_remove(path);
    }
    os_close(file);
}

void namelock_sweep(const char *folder, const char *suffix, void (*leftover)(const char *path))
{
    (void)os_list(folder, sweep_one, &(struct sweep){folder, suffix, leftover});
}
