/* namelock.h - the lock that makes a name mortal.
 *
 * A name that one process has is a file in which that process holds the lock of one byte.  The lock belongs
 * to the open file, so it ends with the process however that ends; no pid, count or heartbeat is kept.  What
 * remains then is a file that nobody holds, which the next taker takes over and a sweep removes.
 *
 * Taking is: open, lock, and compare the file with the path's, else again.  Without the comparison one name
 * soon has two files: the taker may have opened the one that its holder was about to remove. */
#ifndef IPCIO_NAMELOCK_H
#define IPCIO_NAMELOCK_H

#include "os/os.h"

typedef struct {
    os_fd file; /* its contents belong to the holder */
    char *path; /* NULL: not held, nor being taken */
} namelock;

/* Takes the name whose file is `path`.  EXISTS another holds it; TIMEOUT one who was sweeping it does not go on; PROTOCOL what
 * is there is no plain file; DENIED NOMEMORY SYSTEM.  No message. */
int namelock_take(namelock *l, const char *path);

/* After EXISTS: whether to try again; begin with *looks = 0.  A dying process gives back its connections before its
 * locks and listeners, so that who was told of its end may be here already. */
bool namelock_look_again(int *looks);

/* Whether the file is still at its path.  Who removed it from outside has let another take the name. */
bool namelock_ours(const namelock *l);

/* Removes the file, where it is still ours, and gives the name back. */
void namelock_drop(namelock *l);

/* Whether somebody holds the name whose file this is: a dead holder's contents mean nothing. */
bool namelock_held(os_fd file);

/* In a forked child: closes the file, which the parent holds on to. */
void namelock_abandon(namelock *l);

/* Removes each file of the folder that ends in `suffix` and that nobody holds, after leftover(path) has removed
 * what its dead holder left beside it; NULL: nothing. */
void namelock_sweep(const char *folder, const char *suffix, void (*leftover)(const char *path));

#endif
