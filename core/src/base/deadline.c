/* deadline.c - the public side of deadline.h. */
#include "base/deadline.h"

#include "os/os.h"

int64_t ipcio_now(void)
{
    return os_now();
}

int64_t ipcio_deadline(double seconds)
{
    int64_t now = os_now();
    double ns = seconds * 1e9;
    if (!(seconds >= 0) || ns >= (double)(DEADLINE_NEVER - now) - 1024) return DEADLINE_NEVER;
    return now + (int64_t)ns;
}
