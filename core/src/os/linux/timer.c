/* timer.c - a descriptor that becomes readable at a time: timerfd. */
#define _GNU_SOURCE
#include <sys/timerfd.h>

#include "os/posix/common.h"

int os_timer_new(os_fd *timer)
{
    return os__keep(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), timer);
}

void os_timer_set(os_fd timer, int64_t after)
{
    struct itimerspec t = {.it_value = {.tv_sec = (time_t)(after / 1000000000), .tv_nsec = (long)(after % 1000000000)}};
    if (after <= 0) t.it_value.tv_nsec = 1; /* all zero would stop it */
    (void)timerfd_settime((int)timer, 0, &t, NULL);
}
