/* buffer.c - see buffer.h. */
#include "base/buffer.h"

#include <stdlib.h>
#include <string.h>

#include "base/status.h"

int buffer_reserve(buffer *b, size_t n)
{
    size_t used = buffer_size(b);
    if (b->capacity - b->tail >= n) return 0;
    if (b->head) {
        memmove(b->bytes, b->bytes + b->head, used);
        b->head = 0;
        b->tail = used;
        if (b->capacity - used >= n) return 0;
    }
    uint8_t *bytes = n <= SIZE_MAX - used ? realloc(b->bytes, used + n) : NULL;
    if (!bytes) return ipcio__fail(IPCIO_NOMEMORY, "no memory for %zu bytes", n);
    b->bytes = bytes;
    b->capacity = used + n;
    return 0;
}

void buffer_free(buffer *b)
{
    free(b->bytes);
    *b = (buffer){0};
}
