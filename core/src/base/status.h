/* status.h - how an error is made: one call that keeps its sentence for the thread and returns its status. */
#ifndef IPCIO_STATUS_H
#define IPCIO_STATUS_H

#include "ipcio.h"

#if defined(__GNUC__)
#define IPCIO_PRINTF __attribute__((format(printf, 2, 3)))
#define IPCIO_RARE __attribute__((cold, noinline)) /* what leads to a call is kept out of the way */
#define IPCIO_SLOW __attribute__((noinline)) /* apart from what is fast, which needs fewer registers so */
#else
#define IPCIO_PRINTF
#define IPCIO_RARE
#define IPCIO_SLOW
#endif

/* Keeps the sentence for ipcio_message and returns `status`.  The arguments may include ipcio_message's. */
int ipcio__fail(int status, const char *format, ...) IPCIO_PRINTF IPCIO_RARE;

/* The same for an error of the operating system, whose own words are appended and whose number is kept. */
int ipcio__fail_os(int status, const char *format, ...) IPCIO_PRINTF IPCIO_RARE;

#endif
