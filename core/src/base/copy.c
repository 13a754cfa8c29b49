/* copy.c - see copy.h. */
#include "base/copy.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <stdint.h>

typedef uint8_t wide __attribute__((vector_size(32), may_alias));
typedef uint8_t wide_anywhere __attribute__((vector_size(32), may_alias, aligned(1)));

/* In order, which memcpy does not promise and which the processors' prefetching wants, and no store across two lines. */
__attribute__((target("avx2,prfchw"))) static void copy_wide(uint8_t *to, const uint8_t *from, size_t n, copy_lines lines)
{
    enum { STEP = 4 * sizeof(wide), CLAIM = 1024 };
    size_t first = sizeof(wide) - (uintptr_t)to % sizeof(wide);
    memcpy(to, from, sizeof(wide));
    to += first, from += first, n -= first;
    for (; n >= STEP; to += STEP, from += STEP, n -= STEP) {
        const wide_anywhere *f = (const void *)from;
        wide *t = (void *)to, a = f[0], b = f[1], c = f[2], d = f[3];
        if (lines == COPY_WRITE && n > CLAIM) copy_fetch(to + CLAIM, STEP, COPY_WRITE);
        if (lines == COPY_READ_LATER) copy_fetch(from + COPY_AHEAD, STEP, COPY_READ_LATER);
        t[0] = a, t[1] = b, t[2] = c, t[3] = d;
    }
    memcpy(to, from, n);
}

void copy_long(void *to, const void *from, size_t n, copy_lines lines)
{
    if (__builtin_cpu_supports("avx2")) copy_wide(to, from, n, lines);
    else memcpy(to, from, n);
}

#else

void copy_long(void *to, const void *from, size_t n, copy_lines lines)
{
    (void)lines;
    memcpy(to, from, n);
}

#endif
