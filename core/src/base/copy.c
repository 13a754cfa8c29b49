/* copy.c - see copy.h. */
#include "base/copy.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#include <stdint.h>

/* In order, which memcpy does not promise and which the processors' prefetching wants, and no store across two lines. */
__attribute__((target("avx2"))) static void copy_wide(uint8_t *to, const uint8_t *from, size_t n)
{
    enum { WIDE = sizeof(__m256i) };
    size_t first = WIDE - (uintptr_t)to % WIDE;
    memcpy(to, from, WIDE);
    to += first, from += first, n -= first;
    for (; n >= 4 * WIDE; to += 4 * WIDE, from += 4 * WIDE, n -= 4 * WIDE) {
        const __m256i *f = (const void *)from;
        __m256i *t = (void *)to, a = _mm256_loadu_si256(f), b = _mm256_loadu_si256(f + 1), c = _mm256_loadu_si256(f + 2),
                d = _mm256_loadu_si256(f + 3);
        _mm256_store_si256(t, a);
        _mm256_store_si256(t + 1, b);
        _mm256_store_si256(t + 2, c);
        _mm256_store_si256(t + 3, d);
    }
    memcpy(to, from, n);
}

void copy_long(void *to, const void *from, size_t n)
{
    if (__builtin_cpu_supports("avx2")) copy_wide(to, from, n);
    else memcpy(to, from, n);
}

#else

void copy_long(void *to, const void *from, size_t n)
{
    memcpy(to, from, n);
}

#endif
