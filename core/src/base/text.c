/* text.c - see text.h. */
#include "base/text.h"

#include <string.h>

#include "base/status.h"

int32_t text_utf8(const uint8_t *p, size_t n, size_t *size)
{
    static const int32_t lead[] = {0x7f, 0x1f, 0x0f, 0x07}, least[] = {0, 0x80, 0x800, 0x10000};
    int32_t c = p[0];
    size_t more = c < 0x80 ? 0 : (c & 0xe0) == 0xc0 ? 1 : (c & 0xf0) == 0xe0 ? 2 : (c & 0xf8) == 0xf0 ? 3 : SIZE_MAX;
    if (more >= n) return -1;
    c &= lead[more];
    for (size_t i = 1; i <= more; i++) {
        if ((p[i] & 0xc0) != 0x80) return -1;
        c = c << 6 | (p[i] & 0x3f);
    }
    *size = more + 1;
    return c < least[more] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff) ? -1 : c;
}

static void put_unit(buffer *b, uint32_t unit)
{
    b->bytes[b->tail++] = (uint8_t)unit;
    b->bytes[b->tail++] = (uint8_t)(unit >> 8);
}

static void put_utf8(buffer *b, uint32_t c)
{
    uint8_t *p = b->bytes + b->tail;
    if (c < 0x80) {
        p[0] = (uint8_t)c;
        b->tail += 1;
    } else if (c < 0x800) {
        p[0] = (uint8_t)(0xc0 | c >> 6);
        p[1] = (uint8_t)(0x80 | (c & 0x3f));
        b->tail += 2;
    } else if (c < 0x10000) {
        p[0] = (uint8_t)(0xe0 | c >> 12);
        p[1] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
        p[2] = (uint8_t)(0x80 | (c & 0x3f));
        b->tail += 3;
    } else {
        p[0] = (uint8_t)(0xf0 | c >> 18);
        p[1] = (uint8_t)(0x80 | (c >> 12 & 0x3f));
        p[2] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
        p[3] = (uint8_t)(0x80 | (c & 0x3f));
        b->tail += 4;
    }
}

/* An empty buffer with room for n bytes and the NUL of either text. */
static int empty(buffer *b, size_t n)
{
    b->head = b->tail = 0;
    return buffer_reserve(b, n + 2);
}

static int to_utf16(const uint8_t *data, size_t n, buffer *wire)
{
    int st = n > SIZE_MAX / 2 - 2 ? IPCIO_NOMEMORY : empty(wire, 2 * n);
    for (size_t at = 0, size = 0; st == 0 && at < n; at += size) {
        int32_t c = text_utf8(data + at, n - at, &size);
        if (c < 0) return IPCIO_INVALID;
        if (c >= 0x10000) {
            put_unit(wire, 0xd800u + (uint32_t)((c - 0x10000) >> 10));
            put_unit(wire, 0xdc00u + (uint32_t)((c - 0x10000) & 0x3ff));
        } else {
            put_unit(wire, (uint32_t)c);
        }
    }
    return st;
}

int text_to_wire(const options *o, const uint8_t *data, size_t n, buffer *wire)
{
    bool nul = o->nul && o->framing != FRAMING_RAW;
    if (nul && n && memchr(data, 0, n)) return IPCIO_INVALID;
    int st = o->text == TEXT_UTF16LE ? to_utf16(data, n, wire) : empty(wire, n);
    if (st != 0) return st;
    if (o->text == TEXT_UTF8 && n) {
        memcpy(wire->bytes, data, n);
        wire->tail = n;
    }
    for (int i = 0; nul && i < (o->text == TEXT_UTF16LE ? 2 : 1); i++) wire->bytes[wire->tail++] = 0;
    return 0;
}

static uint32_t unit_at(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static int from_utf16(const uint8_t *wire, size_t n, bool nul, buffer *data)
{
    int st = n % 2 ? IPCIO_PROTOCOL : empty(data, n / 2 * 3);
    for (size_t at = 0; st == 0 && at < n; at += 2) {
        uint32_t c = unit_at(wire + at);
        if (c == 0 && nul) break;
        if (c >= 0xd800 && c <= 0xdfff) {
            uint32_t low = c <= 0xdbff && n - at >= 4 ? unit_at(wire + at + 2) : 0;
            if (low < 0xdc00 || low > 0xdfff) return IPCIO_PROTOCOL;
            c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
            at += 2;
        }
        put_utf8(data, c);
    }
    return st;
}

int text_from_wire(const options *o, const uint8_t *wire, size_t n, buffer *data)
{
    bool nul = o->nul && o->framing != FRAMING_RAW;
    if (o->text == TEXT_UTF16LE) return from_utf16(wire, n, nul, data);
    int st = empty(data, n);
    const uint8_t *end = nul && n ? memchr(wire, 0, n) : NULL;
    if (end) n = (size_t)(end - wire);
    if (st == 0 && n) memcpy(data->bytes, wire, n);
    if (st == 0) data->tail = n;
    return st;
}
