/* deadline.h - one moment on the monotonic clock, in nanoseconds, that a whole call has to keep. */
#ifndef IPCIO_DEADLINE_H
#define IPCIO_DEADLINE_H

#include "ipcio.h"

#define DEADLINE_NEVER INT64_MAX
#define MILLISECOND INT64_C(1000000)

/* The deadline of a public call's timeout in milliseconds; IPCIO_TRY needs none. */
static inline int64_t deadline_in(int timeout)
{
    return timeout < 0 ? DEADLINE_NEVER : ipcio_now() + timeout * MILLISECOND;
}

static inline int64_t deadline_earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

#endif
