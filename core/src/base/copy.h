/* copy.h - long messages, which one processor writes and another reads. */
#ifndef IPCIO_COPY_H
#define IPCIO_COPY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    COPY_LONG = 512, /* bytes.  What is shorter is memcpy's */
    COPY_LINE = 64,  /* that processors exchange at once */
};

/* As memcpy, for at least COPY_LONG bytes.  The C library may choose `rep movsb`, which is good within one processor's
 * caches, and on AMD's takes up to three times as long when the lines come from another's or lie in its: a stream of
 * 64 KiB fell from 40 to 12 GB/s.  `claim` asks for the lines of `to` ahead, which is a quarter faster where the other side
 * waits for these bytes, and slower in a stream.  See docs/design/shm.md. */
void copy_long(void *to, const void *from, size_t n, bool claim);

/* Asks for the lines of so many bytes, which will be read soon, or written: `claim`.  Not by __builtin_prefetch, which for any x86
 * asks for lines to be read only, and which gcc takes for nothing: it leaves out calls of a function that does no more. */
static inline void copy_fetch(const uint8_t *at, size_t n, bool claim)
{
    for (size_t i = 0; i < n; i += COPY_LINE) {
#if defined(__x86_64__) && defined(__GNUC__)
        if (claim) __asm__ volatile("prefetchw %0" : : "m"(at[i]));
        else __asm__ volatile("prefetcht0 %0" : : "m"(at[i]));
#else
        if (claim) __builtin_prefetch(at + i, 1);
        else __builtin_prefetch(at + i);
#endif
    }
}

static inline void copy_bytes(void *to, const void *from, size_t n, bool claim)
{
    if (n >= COPY_LONG) copy_long(to, from, n, claim);
    else if (n) memcpy(to, from, n);
}

/* The same for a few bytes, in order and without a call: the other side waits for just these. */
static inline void copy_brief(void *to, const void *from, size_t n)
{
    enum { STEP = 16 };
    uint8_t *t = to;
    const uint8_t *f = from;
    if (n < STEP) {
        if (n) memcpy(t, f, n);
        return;
    }
    for (; n > STEP; t += STEP, f += STEP, n -= STEP) memcpy(t, f, STEP);
    memcpy(t - (STEP - n), f - (STEP - n), STEP);
}

#endif
