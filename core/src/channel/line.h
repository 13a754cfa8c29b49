/* line.h - the ends of messages that are lines, or with framing=raw and nul=1 what a NUL ends. */
#ifndef IPCIO_LINE_H
#define IPCIO_LINE_H

#include <string.h>

#include "channel/transport.h"

/* Bytes of a code unit of the text on the wire. */
static inline size_t line_unit(const ipcio_conn *c)
{
    return c->options.text == TEXT_UTF16LE ? 2 : 1;
}

static inline char line_terminator(const ipcio_conn *c)
{
    return c->options.framing == FRAMING_RAW ? 0 : '\n';
}

static inline bool line_is_unit(const uint8_t *at, size_t unit, char c)
{
    return at[0] == (uint8_t)c && (unit == 1 || at[1] == 0);
}

/* The place of the first terminator in bytes[from, n), or n. */
static inline size_t line_find_end(const ipcio_conn *c, const uint8_t *bytes, size_t from, size_t n)
{
    const size_t u = line_unit(c);
    const char end = line_terminator(c);
    if (u == 1) {
        const uint8_t *at = n > from ? memchr(bytes + from, end, n - from) : NULL;
        return at ? (size_t)(at - bytes) : n;
    }
    while (from + u <= n && !line_is_unit(bytes + from, u, end)) from += u;
    return from + u <= n ? from : n;
}

/* A carriage return before a line feed belongs to it. */
static inline bool line_ends_in_return(const ipcio_conn *c, const uint8_t *bytes, size_t n)
{
    const size_t u = line_unit(c);
    return line_terminator(c) == '\n' && n >= u && line_is_unit(bytes + n - u, u, '\r');
}

/* Whether bytes[0, n), to their end if `last`, can be in one message.  INVALID */
static inline int line_check(const ipcio_conn *c, const uint8_t *bytes, size_t n, bool last)
{
    if (line_find_end(c, bytes, 0, n) == n && !(last && line_ends_in_return(c, bytes, n))) return 0;
    return ipcio__fail(IPCIO_INVALID, "%s: a message cannot hold %s", c->base.text,
                       line_terminator(c) ? "a line feed nor end in a carriage return" : "the NUL that ends messages here");
}

#endif
