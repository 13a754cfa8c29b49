/* buffer.h - bytes that grow at the end and are taken from the front. */
#ifndef IPCIO_BUFFER_H
#define IPCIO_BUFFER_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint8_t *bytes;
    size_t capacity;
    size_t head, tail; /* what is in it: bytes[head, tail) */
} buffer;

/* Room for `n` bytes behind what is in it, moving that to the front or growing.  NOMEMORY, or 0. */
int buffer_reserve(buffer *b, size_t n);

void buffer_free(buffer *b);

static inline size_t buffer_size(const buffer *b)
{
    return b->tail - b->head;
}

/* Forgets the first `n` bytes.  An empty buffer starts again at its front, in lines that are still cached. */
static inline void buffer_take(buffer *b, size_t n)
{
    b->head += n;
    if (b->head == b->tail) b->head = b->tail = 0;
}

#endif
