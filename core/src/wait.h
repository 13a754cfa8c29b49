/* wait.h - spinning, for who waits for several handles (set.c). */
#ifndef IPCIO_WAIT_H
#define IPCIO_WAIT_H

#include "handle.h"

/* Spins until something arrived for reading, at most for as long as it paid lately.  Inside the side. */
bool wait_spin(handle *h, int want, int64_t from, int64_t deadline);

/* Tells how long a wait for this side was, so that the next one spins accordingly. */
void wait_learn(handle *h, int want, int64_t waited);

#endif
