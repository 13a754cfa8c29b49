/* text.h - text as the other side of a connection has it: the options `text` and `nul`. */
#ifndef IPCIO_TEXT_H
#define IPCIO_TEXT_H

#include <stdbool.h>

#include "base/buffer.h"
#include "base/options.h"

/* Whether messages are converted at all. */
static inline bool text_converts(const options *o)
{
    return o->text != TEXT_UTF8 || (o->nul && o->framing != FRAMING_RAW); /* raw: NUL is what cuts messages, see plain.c */
}

/* Puts what stands for data[0, n), UTF-8, on the wire into `wire`, or back, in the place of what was in there.
 * No message.  INVALID: it is not UTF-8, or holds a NUL that would end it; PROTOCOL: it is not UTF-16; NOMEMORY. */
int text_to_wire(const options *o, const uint8_t *data, size_t n, buffer *wire);
int text_from_wire(const options *o, const uint8_t *wire, size_t n, buffer *data);

/* The code point at p[0, n), whose *size bytes it takes; or -1. */
int32_t text_utf8(const uint8_t *p, size_t n, size_t *size);

#endif
