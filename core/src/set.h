/* set.h - what handles and the server need of sets. */
#ifndef IPCIO_SET_H
#define IPCIO_SET_H

#include "base/handle.h"

/* Takes a handle that is about to be freed out of its set. */
void set_forget(handle *h);

/* Any member of the set but this one; NULL: there is none. */
void *set_first(ipcio_set *s, const void *except);

#endif
