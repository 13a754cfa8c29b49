/* wait.h - spinning, for who waits for several handles (set.c). */
#ifndef IPCIO_WAIT_H
#define IPCIO_WAIT_H

#include "base/handle.h"

/* Spins until something arrived, at most for as long as that is expected to pay; `from` is now.  Inside the side. */
bool wait_spin(handle *h, int want, int64_t from, int64_t deadline);

/* Tells for how long the side slept until something came. */
void wait_slept(handle *h, int want, int64_t slept);

#endif
