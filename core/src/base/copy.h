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
    COPY_AHEAD = 4096 /* so far on lines are asked for by COPY_READ_LATER */
};

/* What lines are asked for before they are needed. */
typedef enum {
    COPY_NO_LINES,
    COPY_READ,       /* that will be read now */
    COPY_READ_LATER, /* that will be read later: into the second-level cache */
    COPY_WRITE       /* that will be written */
} copy_lines;

/* As memcpy, for at least COPY_LONG bytes.  The C library may choose `rep movsb`, which is good within one processor's
 * caches, and on AMD's takes up to three times as long when the lines come from another's or lie in its: a stream of
 * 64 KiB fell from 40 to 12 GB/s.  COPY_WRITE asks for the lines of `to` a kilobyte ahead, which is a quarter faster where the other
 * side waits for these bytes, and slower in a stream.  COPY_READ_LATER asks for those of `from`, COPY_AHEAD on and so beyond its
 * end: in a stream the next message lies there.  See docs/design/shm.md. */
void copy_long(void *to, const void *from, size_t n, copy_lines lines);

/* Asks for a line.  Not by __builtin_prefetch, which for any x86 asks for lines to be read only, and which gcc takes for nothing: it
 * leaves out calls of a function that does no more.  "memory": else gcc puts loads in another order around it, and streams of 64 KiB
 * are a tenth slower. */
static inline void copy_fetch_line(const uint8_t *at, copy_lines lines)
{
#if defined(__x86_64__) && defined(__GNUC__)
    if (lines == COPY_READ) __asm__ volatile("prefetcht0 %0" : : "m"(*at) : "memory");
    if (lines == COPY_READ_LATER) __asm__ volatile("prefetcht1 %0" : : "m"(*at) : "memory");
    if (lines == COPY_WRITE) __asm__ volatile("prefetchw %0" : : "m"(*at) : "memory");
#else
    if (lines == COPY_READ) __builtin_prefetch(at);
    if (lines == COPY_READ_LATER) __builtin_prefetch(at, 0, 2);
    if (lines == COPY_WRITE) __builtin_prefetch(at, 1);
#endif
}

/* Asks for the lines of so many bytes. */
static inline void copy_fetch(const uint8_t *at, size_t n, copy_lines lines)
{
    for (size_t i = 0; i < n; i += COPY_LINE) copy_fetch_line(at + i, lines);
}

static inline void copy_bytes(void *to, const void *from, size_t n, copy_lines lines)
{
    if (n >= COPY_LONG) copy_long(to, from, n, lines);
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
